"""Sessions, films, TMDB's records, corrections and the limiter."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE sessions (
    id text PRIMARY KEY,
    created_at timestamptz NOT NULL,
    begun_at timestamptz NOT NULL,      -- when its films began to be looked up, for the last time
    ended_at timestamptz,               -- NULL while they are
    status text NOT NULL,
    error_message text,
    revision bigint NOT NULL DEFAULT 0, -- increases with every change, of its films, too
    to_look_up int NOT NULL,            -- how many films were pending at begun_at
    waiting_for text,                   -- why lookups are paused
    rows json NOT NULL,                 -- how many rows of each file were used; json keeps their order
    warnings json NOT NULL,
    memory_bytes bigint NOT NULL,
    collections int[] NOT NULL DEFAULT '{}',
    lease_owner text,                   -- the process that looks its films up,
    lease_until timestamptz             -- unless it has not been heard of since then
);
CREATE INDEX sessions_ended_at ON sessions (ended_at);
CREATE INDEX sessions_at_work ON sessions (lease_until) WHERE ended_at IS NULL;

-- The free space lets a match be set where its row is.
CREATE TABLE films (
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    movie_id int NOT NULL,
    revision bigint NOT NULL DEFAULT 0, -- the session's, when the match last changed
    logged jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    record text,                        -- the key of its match in `records`, or
    match jsonb,                        -- one of this film alone; neither while it is pending
    movie text,                         -- the key of the match's movie
    by_hand boolean NOT NULL DEFAULT false,
    replaced jsonb,                     -- the match before the last choice by hand
    PRIMARY KEY (session_id, movie_id)
) WITH (fillfactor = 70);

-- Matches, movies and collections, which all sessions share.
CREATE TABLE records (
    key text PRIMARY KEY,
    body json NOT NULL,
    fetched_at timestamptz NOT NULL,
    usable_until timestamptz NOT NULL   -- for further lookups
);
CREATE INDEX records_fetched_at ON records (fetched_at);

CREATE TABLE corrections (
    key text PRIMARY KEY,
    match jsonb NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE limiter (
    id int PRIMARY KEY CHECK (id = 1),
    state text NOT NULL                 -- of the pace that all processes keep; '' is the initial one
);
INSERT INTO limiter VALUES (1, '');
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE films, sessions, records, corrections, limiter")
