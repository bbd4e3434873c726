"""Lets PostgreSQL change rows where they are: leases are renewed every second, matches set once a film."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("DROP INDEX sessions_at_work")
    op.execute("CREATE INDEX sessions_at_work ON sessions (created_at) WHERE ended_at IS NULL")
    op.execute("ALTER TABLE films SET (fillfactor = 50)")


def downgrade() -> None:
    op.execute("DROP INDEX sessions_at_work")
    op.execute("CREATE INDEX sessions_at_work ON sessions (lease_until) WHERE ended_at IS NULL")
    op.execute("ALTER TABLE films SET (fillfactor = 70)")
