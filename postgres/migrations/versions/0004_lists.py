"""Lists and the profile."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE sessions ADD COLUMN lists json NOT NULL DEFAULT '[]', ADD COLUMN profile json")


def downgrade() -> None:
    op.execute("ALTER TABLE sessions DROP COLUMN lists, DROP COLUMN profile")
