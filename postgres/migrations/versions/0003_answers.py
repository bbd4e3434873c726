"""TMDB's answers instead of decoded movies and matches; choices belong to sessions; a limiter of columns."""

import json
from typing import Any

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

# The version of no model, so whoever reads such a record asks for it again.
CONVERTED = "0002"
ROLES = {
    "directors": "Director",
    "writers": "Writer",
    "composers": "Original Music Composer",
    "cinematographers": "Director of Photography",
    "editors": "Editor",
    "producers": "Producer",
}
BEFORE = """
UPDATE films AS f SET match = coalesce(f.match, (
    SELECT r.body::jsonb FROM records AS r
    WHERE r.key = f.record AND r.body ->> 'movie' IS NOT DISTINCT FROM f.movie
));
ALTER TABLE films ADD reason text NOT NULL DEFAULT '';
UPDATE films SET reason = coalesce(match ->> 'reason', 'It was found earlier; the reason is no longer kept.')
    WHERE status <> 'pending';
ALTER TABLE films DROP record, DROP match;
ALTER TABLE sessions ADD uploaded bigint NOT NULL DEFAULT 0;
DROP TABLE corrections, limiter;
CREATE TABLE limiter (
    id int PRIMARY KEY,
    next_slot double precision NOT NULL DEFAULT 0,
    rate_after_cut double precision NOT NULL DEFAULT 'Infinity',
    cut_at double precision NOT NULL DEFAULT 0,
    paused_until double precision NOT NULL DEFAULT 0,
    sample text NOT NULL DEFAULT ''
);
INSERT INTO limiter (id) VALUES (1);
DELETE FROM records WHERE key LIKE 'match/%' OR key LIKE 'search/%' OR key LIKE '%/titles';
ALTER TABLE records ADD version text NOT NULL DEFAULT '0002',
    ADD path text GENERATED ALWAYS AS (split_part(key, '?', 1)) STORED;
CREATE INDEX records_path ON records (path)
"""


def upgrade() -> None:
    for statement in BEFORE.split(";\n"):
        op.execute(statement)
    connection = op.get_bind()
    for key, body in connection.execute(text("SELECT key, body::text FROM records")).all():
        old = json.loads(body)
        new = _collection(old) if key.startswith("collection/") else _movie(old)
        connection.execute(
            text("UPDATE records SET key = key || '?', body = CAST(:body AS json) WHERE key = :key"),
            {"key": key, "body": json.dumps(new, ensure_ascii=False)},
        )
    op.execute("ALTER TABLE records ALTER version DROP DEFAULT")


def _collection(old: dict[str, Any]) -> dict[str, Any]:
    return {"name": old["name"], "parts": [{"id": i, "release_date": "1900-01-01"} for i in old["released"]]}


def _movie(old: dict[str, Any]) -> dict[str, Any]:
    """As TMDB sends it, as far as it was kept."""
    names = {
        key: [_named(*name) for name in old.get(key, ())]
        for key in (*ROLES, "cast", "studios", "collections")
    }
    texts = {
        key: [{"name": name} for name in old.get(key, ())]
        for key in ("genres", "countries", "languages", "keywords")
    }
    crew = [name | {"job": job} for role, job in ROLES.items() for name in names[role]]
    new = {
        "id": old["tmdb_id"],
        "title": old.get("title", ""),
        "original_title": old.get("original_title", ""),
        "release_date": old.get("release_date", ""),
        "imdb_id": old.get("imdb_id", ""),
        "runtime": old.get("runtime", 0),
        "vote_average": old.get("tmdb_rating", 0),
        "vote_count": old.get("tmdb_votes", 0),
        "original_language": old.get("original_language", ""),
        "poster_path": _path(old.get("poster_url")),
        "backdrop_path": _path(old.get("backdrop_url")),
        "genres": texts["genres"],
        "production_countries": texts["countries"],
        "spoken_languages": texts["languages"],
        "keywords": {"keywords": texts["keywords"]},
        "production_companies": names["studios"],
        "belongs_to_collection": next(iter(names["collections"]), None),
        "credits": {"cast": names["cast"], "crew": crew},
    }
    if old["tmdb_type"] == "tv":
        new |= {
            "episode_run_time": [new["runtime"]],
            "number_of_episodes": 1,
            "created_by": names["directors"],
        }
    return new


def _named(identity: object, name: str, portrait: str | None = None) -> dict[str, Any]:
    return {"id": identity if isinstance(identity, int) else None, "name": name, "profile_path": portrait}


def _path(url: str | None) -> str:
    """Of an image: the last part of its URL."""
    return f"/{url.rpartition('/')[2]}" if url else ""
