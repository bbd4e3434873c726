"""Sessions: memory is a cache of the tables.

Whoever is asked for a session compares its revision with the table's, and reads the films that changed
since. Changes are written by one task, for all sessions of the process together. The process that looks a
session's films up holds its lease and renews it by writing; when it does not, another takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self
from weakref import WeakValueDictionary

from sqlalchemy import DateTime, Row, TextClause, bindparam, text
from sqlalchemy.exc import ArgumentError, DBAPIError

import main
from main import PENDING, Export, Film, Match, Matcher, Session, SessionNotFound, Settings, StoreFull, log
from postgres.database import RETRY_SECONDS, Database, DatabaseUnavailable, retry_until_back
from postgres.encoding import Body, StoredFilm, dumps, film_body, film_of, match_body
from postgres.sharing import (
    DECODED_AT_ONCE,
    RECORD_DAYS,
    TRIM_CORRECTIONS,
    SharedCache,
    SharedCorrections,
    SharedPace,
    status_of,
)

WRITE_SECONDS = 0.3  # between two writes, or sooner if
MANY_FILMS = 50  # have changed
WATCH_SECONDS = 0.3  # between two looks at what other processes did
LEASE_SECONDS = 5
RENEW_SECONDS = 1
CLAIM_SECONDS = 1
MAX_CLAIMED = 5  # sessions at once, so that the processes share the work
FULL_SECONDS = 30  # after which somebody may try again to upload
DELETED_AT_ONCE = 20  # sessions
RECORDS_DELETED_AT_ONCE = 1_000
CLOSING_SECONDS = 2  # for the last write
REFUSED = Match("failed", "The database refused its record.")
SESSION_ID = re.compile(r"[\w-]{1,50}", re.ASCII)

CREATE = text(
    """
    WITH created AS (
        INSERT INTO sessions (
            id, created_at, begun_at, status, to_look_up, rows, warnings, memory_bytes,
            lease_owner, lease_until
        )
        SELECT id, created_at, created_at, status, to_look_up, rows, warnings, memory_bytes,
            :owner, clock_timestamp() + make_interval(secs => :lease)
        FROM json_to_record(CAST(:session AS json)) AS given (
            id text, created_at timestamptz, status text, to_look_up int, rows json, warnings json,
            memory_bytes bigint
        )
        ON CONFLICT DO NOTHING RETURNING id
    )
    INSERT INTO films (session_id, movie_id, logged)
    SELECT created.id, given.movie_id, given.film FROM created, json_array_elements(CAST(:films AS json))
        WITH ORDINALITY AS given (film, movie_id)
    """
)
# All that one process has to write, in one round trip. A change increases the revision, whoever made it, so
# whoever gets another revision than expected knows that there were other changes. While films are looked up,
# only who holds the lease writes outcomes, and none of them replaces a choice by hand.
WRITE = text(
    """
    WITH given AS (
        SELECT * FROM json_to_recordset(CAST(:sessions AS json)) AS given (
            id text, changes int, synced bigint, at_work boolean, status text, error_message text,
            begun_at timestamptz, end_status text, end_message text, ended_at timestamptz, to_look_up int,
            waiting_for text, collections int[]
        )
    ), written AS (
        UPDATE sessions AS s SET
            revision = s.revision + given.changes,
            collections = ARRAY(SELECT DISTINCT unnest(s.collections || given.collections)),
            (status, error_message, begun_at, ended_at, to_look_up, waiting_for, lease_owner, lease_until) = (
                WITH now AS (
                    SELECT given.at_work AND (s.ended_at IS NULL OR s.ended_at <= given.begun_at)
                        AND (s.lease_owner = :owner OR s.lease_until IS NULL
                        OR s.lease_until < clock_timestamp()) AS is_ours,
                        given.ended_at IS NOT NULL AND given.synced = s.revision AS is_over
                )
                SELECT s.status, s.error_message, s.begun_at, s.ended_at, s.to_look_up, s.waiting_for,
                    s.lease_owner, s.lease_until
                FROM now WHERE NOT is_ours
                UNION ALL
                SELECT given.status, given.error_message, given.begun_at, NULL, given.to_look_up,
                    given.waiting_for, :owner, clock_timestamp() + make_interval(secs => :lease)
                FROM now WHERE is_ours AND NOT is_over
                UNION ALL
                SELECT given.end_status, given.end_message, given.begun_at, given.ended_at, given.to_look_up,
                    NULL, NULL, NULL
                FROM now WHERE is_ours AND is_over
            )
        FROM given WHERE s.id = given.id
        RETURNING s.id, s.revision, s.ended_at,
            NOT given.at_work OR s.lease_owner = :owner OR s.ended_at = given.ended_at AS may_write
    ), recorded AS (
        INSERT INTO records (key, body, fetched_at, usable_until)
        SELECT * FROM json_to_recordset(CAST(:records AS json)) AS record (
            key text, body json, fetched_at timestamptz, usable_until timestamptz
        )
        ON CONFLICT (key) DO UPDATE SET body = excluded.body, fetched_at = excluded.fetched_at,
            usable_until = excluded.usable_until
    ), decided AS (
        SELECT * FROM json_to_recordset(CAST(:corrections AS json)) AS decision (key text, match jsonb)
    ), corrected AS (
        INSERT INTO corrections (key, match) SELECT key, match FROM decided WHERE match IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET match = excluded.match, decided_at = clock_timestamp()
    ), uncorrected AS (
        DELETE FROM corrections USING decided
        WHERE corrections.key = decided.key AND decided.match IS NULL
    ), matched AS (
        UPDATE films AS f SET status = film.status, record = film.record, match = film.match,
            movie = film.movie, by_hand = film.by_hand, replaced = film.replaced,
            revision = written.revision
        FROM written JOIN json_to_recordset(CAST(:films AS json)) AS film (
            session_id text, movie_id int, status text, record text, match jsonb, movie text,
            by_hand boolean, replaced jsonb, is_choice boolean
        ) ON film.session_id = written.id
        WHERE f.session_id = film.session_id AND f.movie_id = film.movie_id
            AND (film.is_choice OR (written.may_write AND NOT f.by_hand))
    )
    SELECT id, revision, ended_at, may_write FROM written
    """
)
READ = text(
    """
    SELECT id, revision, status, error_message, begun_at, ended_at, to_look_up, waiting_for, collections
    FROM sessions WHERE id = ANY(:ids)
    """
)
# What a poll answers, in one query: counting a few hundred films is faster than reading those that changed.
READ_PROGRESS = text(
    """
    SELECT *, (
        SELECT json_object_agg(status, films)
        FROM (SELECT status, count(*) AS films FROM films WHERE session_id = s.id GROUP BY 1) AS counted
    ) AS counts
    FROM sessions AS s WHERE id = ANY(:ids)
    """
)
# Subqueries, because a join might scan the records of all sessions for the sake of a few films.
READ_FILMS = text(
    """
    SELECT f.movie_id, f.status, f.record, f.match, f.movie, f.by_hand, f.replaced,
        CASE WHEN :since < 0 THEN f.logged END AS logged,
        (SELECT body FROM records WHERE key = f.record) AS record_body,
        (SELECT body FROM records WHERE key = f.movie) AS movie_body,
        (SELECT body FROM records WHERE key = f.replaced ->> 'movie') AS replaced_movie_body
    FROM films AS f WHERE f.session_id = :id AND f.revision > :since
    ORDER BY f.movie_id
    """
)
CLAIM = text(
    """
    UPDATE sessions SET lease_owner = :owner, lease_until = clock_timestamp() + make_interval(secs => :lease)
    WHERE id IN (
        SELECT id FROM sessions
        WHERE ended_at IS NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())
        ORDER BY created_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING id
    """
)
RELEASE = text("UPDATE sessions SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = :owner")
EXPIRED = bindparam("expired", type_=DateTime(timezone=True))
DELETE = text(
    "DELETE FROM sessions WHERE id = :id AND coalesce(ended_at, 'infinity') > :expired RETURNING id"
).bindparams(EXPIRED)
DELETE_EXPIRED = text(
    """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE ended_at <= :expired LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING id
    """
).bindparams(EXPIRED)
DELETE_RECORDS = text(
    """
    DELETE FROM records WHERE key IN (
        SELECT key FROM records WHERE fetched_at <= :expired LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING key
    """
).bindparams(EXPIRED)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(eq=False, repr=False)
class StoredSession(Session):
    """A session of the tables. Its changes are collected here until the store writes them."""

    store: PostgresStore = field(kw_only=True)
    synced: int = 0  # the revision in the tables up to which all changes of films are known here
    base: int = 0  # the revision in the tables that `revision` counts from
    written: asyncio.Event = field(default_factory=asyncio.Event)  # unset while its changes are being written
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # or an older answer might replace a newer
    changed: dict[int, bool] = field(default_factory=dict)  # by movie_id; True if by hand, which wins
    ending: tuple[main.SessionStatus, str | None] | None = None  # to be written before it is seen
    waiting_elsewhere: str | None = None  # why the process that looks its films up waits
    written_at: float = -math.inf  # by `clock`

    def __post_init__(self) -> None:
        super().__post_init__()
        self.written.set()

    def record(self, film: Film, match: Match) -> None:
        by_hand = match.by_hand or film.match.by_hand  # undoing a choice is one, too
        self.changed[film.movie_id] = by_hand or self.changed.get(film.movie_id, False)
        super().record(film, match)
        if len(self.changed) >= MANY_FILMS:
            self.store.is_much.set()

    async def finish(self, status: main.SessionStatus, error_message: str | None) -> None:
        """Stores the end before anyone sees it. If the work is stopped, another process goes on with it."""
        if error_message == main.STOPPED:
            if self.task:  # otherwise another process has it
                self.end(status, error_message)
            return
        self.ending = status, error_message
        while self.ending:
            await retry_until_back(self.save)
            if self.ending and status == "completed" and self.counts["pending"]:  # undone in another process
                self.ending = None
                main.start_enrichment(self, self.store.matcher)

    async def save(self) -> None:
        await self.store.write()

    @property
    def is_idle(self) -> bool:
        """Whether memory holds nothing of it that the tables do not, and nobody listens."""
        return not (self.task or self.followers or self.changed or self.revision > self.base)

    @property
    def waiting_for(self) -> str | None:
        return super().waiting_for if self.task or self.ended_at is not None else self.waiting_elsewhere

    # --- To and from the tables

    def row(self) -> Body:
        """What is to be written."""
        end_status, end_message = self.ending or (None, None)
        return {
            "id": self.session_id,
            "changes": self.revision - self.base + bool(self.ending),
            "synced": self.synced,
            "at_work": self.task is not None,
            "status": self.status,
            "error_message": self.error_message,
            "end_status": end_status,
            "end_message": end_message,
            "begun_at": self.store.utc_of(self._begun_at),
            "ended_at": self.store.utc_now() if self.ending else None,
            "to_look_up": self._films_to_look_up,
            "waiting_for": self.waiting_for,
            "collections": list(self.collections),
        }

    def film_rows(self, changed: dict[int, bool]) -> Iterable[Body]:
        cache = self.store.cache
        for movie_id, is_choice in changed.items():
            film, replaced = self.film(movie_id), self.replaced.get(movie_id)
            record = cache.match_key(film, film.match)
            yield {
                "session_id": self.session_id,
                "movie_id": movie_id,
                "status": film.match.status,
                "record": record,
                "match": None if record or film.match is PENDING else self.store.match_body(film.match),
                "movie": cache.movie_key(film.match.movie),
                "by_hand": film.match.by_hand,
                "replaced": replaced and self.store.match_body(replaced),
                "is_choice": is_choice,
            }

    def apply_row(self, row: Row[Any]) -> None:
        """What the tables say about the session; its own state, if it is not looked up here."""
        if row.revision < self.synced:  # another reader was faster
            return
        self.synced = row.revision
        if row.revision > self.base:
            self.base, self.revision = row.revision, row.revision + self.revision - self.base
        if self.task:
            return
        self.status, self.error_message = row.status, row.error_message
        self._begun_at, self._films_to_look_up = self.store.moment_of(row.begun_at), row.to_look_up
        self.waiting_elsewhere = row.waiting_for
        if row.ended_at is None:
            self.ended_at = None
            self.ended_event.clear()
        else:
            self.ended_at, self._ended_utc = self.store.moment_of(row.ended_at), row.ended_at
            self.ended_event.set()

    def confirm_write(self, given: Body, written: Row[Any] | None) -> None:
        """The tables have these changes now; if others changed it as well, they are to be read."""
        if written is not None:
            self.base += given["changes"]
            self.revision += bool(given["end_status"])
            if written.revision == given["synced"] + given["changes"]:
                self.synced = written.revision
        self.written.set()

    def apply_film_row(self, row: Row[Any]) -> None:
        """Of two outcomes, the one that is not written yet is newer; a choice by hand beats both."""
        film, cache = self.film(row.movie_id), self.store.cache
        is_choice = self.changed.get(film.movie_id)
        if is_choice or (is_choice is False and not row.by_hand):
            return
        self.changed.pop(film.movie_id, None)
        self.counts[film.match.status] -= 1
        self.counts[status_of(row)] += 1
        later = cache.lazy_match(row)
        if isinstance(film, StoredFilm):
            film.match = later
        else:
            film.match = later()
        self.replaced.pop(film.movie_id, None)
        if before := cache.replaced(row):
            self.replaced[film.movie_id] = before


@dataclass(eq=False, repr=False)
class PostgresStore(main.SessionStore):
    """The sessions of all processes. `max_sessions` and `max_memory_bytes` bound what this one holds.

    `clock` is monotonic; `utc_now` decides when sessions and records expire.
    """

    # The least recently used first.
    _sessions: dict[str, StoredSession] = field(default_factory=dict)  # type: ignore[assignment]
    _: KW_ONLY
    database: Database
    matcher: Matcher
    cache: SharedCache
    corrections: SharedCorrections
    utc_now: Callable[[], datetime]

    def __post_init__(self) -> None:
        # Also those that memory let go of while a request still holds them, so that none is there twice.
        self._alive: WeakValueDictionary[str, StoredSession] = WeakValueDictionary()
        self.is_much = asyncio.Event()
        self._owner = secrets.token_hex(8)
        self._rows: main.Batch[str, Row[Any]] = main.Batch(partial(self._read_rows, READ))
        self._progress: main.Batch[str, Row[Any]] = main.Batch(partial(self._read_rows, READ_PROGRESS))
        self._writing: main.Batch[None, None] = main.Batch(self._write)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        jobs = (self._write_forever, self._watch_forever, self._claim_forever)
        self._jobs = [asyncio.create_task(_whatever_the_database_does(job)) for job in jobs]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops the work here, so that it goes on elsewhere or after a restart."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        for session in list(self._alive.values()):
            await session.stop()
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.write()
                await self.database.run(RELEASE, owner=self._owner)
        await super().__aexit__()

    # --- The face of SessionStore

    def check_room(self, memory_bytes: int = 0) -> None:
        """Makes room by forgetting what is only read. Raises StoreFull if all the rest is at work."""
        try:
            self._make_room(memory_bytes, 1)
            super().check_room(memory_bytes)
        except StoreFull:
            raise StoreFull(FULL_SECONDS) from None

    def _make_room(self, memory_bytes: int = 0, sessions: int = 0) -> None:
        for session in list(self._sessions.values()):
            is_full = len(self._sessions) + sessions > self._max_sessions
            if not is_full and self.memory_bytes + memory_bytes <= self._max_memory_bytes:
                return
            if session.is_idle:
                del self._sessions[session.session_id]

    async def create(self, export: Export) -> Session:
        self.check_room(export.memory_bytes)
        session = StoredSession(export, self._ttl_seconds, self._clock, store=self)
        given = {
            "id": session.session_id,
            "created_at": session.created_at,
            "status": session.status,
            "to_look_up": session.total_movies,
            "rows": export.rows,
            "warnings": export.warnings,
            "memory_bytes": export.memory_bytes,
        }
        films = await asyncio.to_thread(lambda: dumps([film_body(film) for film in export.films]))
        await self.database.run(
            CREATE, session=dumps(given), films=films, owner=self._owner, lease=LEASE_SECONDS
        )
        self._sessions[session.session_id] = self._alive[session.session_id] = session
        return session

    async def get(self, session_id: str) -> Session:
        return await self._with_films(await self._row(self._rows, session_id))

    async def progress(self, session_id: str) -> Session:
        """In one query, without films, unless memory is likely to have them as they are."""
        held = self._alive.get(session_id)
        if held and (held.ended_at is not None or not held.is_idle):
            return await self.get(session_id)
        row = await self._row(self._progress, session_id)
        session = self._new(row, [])
        session.counts.update(json.loads(row.counts))
        session.apply_row(row)
        return session

    async def delete(self, session_id: str) -> None:
        is_id = SESSION_ID.fullmatch(session_id)
        if not is_id or not await self.database.run(DELETE, id=session_id, expired=self._expired()):
            raise SessionNotFound
        await self._drop(session_id)

    async def _drop(self, session_id: str) -> None:
        """Forgets a session that is no more."""
        self._sessions.pop(session_id, None)
        if session := self._alive.pop(session_id, None):
            session.changed.clear()
            await session.stop()
            session.ended_event.set()

    # --- Reading

    async def _read_rows(self, statement: TextClause, ids: list[str]) -> dict[str, Row[Any]]:
        return {row.id: row for row in await self.database.run(statement, ids=ids)}

    async def _row(self, rows: main.Batch[str, Row[Any]], session_id: str) -> Row[Any]:
        """Raises SessionNotFound."""
        row = (await rows.get(session_id)).get(session_id) if SESSION_ID.fullmatch(session_id) else None
        if row is None or (row.ended_at and row.ended_at <= self._expired()):
            await self._drop(session_id)
            raise SessionNotFound
        return row

    def _new(self, row: Row[Any], films: list[Film]) -> StoredSession:
        """Of a row with everything, as it was uploaded."""
        export = Export(films, json.loads(row.rows), json.loads(row.warnings), row.memory_bytes)
        session = StoredSession(export, self._ttl_seconds, self._clock, row.id, store=self)
        session.created_at = row.created_at
        return session

    async def _with_films(self, row: Row[Any]) -> StoredSession:
        """The session, with all changes up to this row. Raises SessionNotFound."""
        session = self._alive.get(row.id)
        if session is None or session.synced < row.revision:
            seen = f"session/{row.id}/{row.revision}"
            session = await self.cache.sharing.run(seen, partial(self._read, row))
        if row.id not in self._alive:  # it was deleted meanwhile
            raise SessionNotFound
        self._sessions.pop(row.id, None)
        self._sessions[row.id] = session
        self._make_room()
        return session

    async def _read(self, row: Row[Any]) -> StoredSession:
        session = self._alive.get(row.id)
        if session is None:
            session = self._alive.setdefault(row.id, await self._read_all(row.id))
        await self._catch_up(session, row)
        return session

    async def _read_all(self, session_id: str) -> StoredSession:
        """A session that memory does not hold."""
        row = await self._row(self._progress, session_id)
        self.check_room(row.memory_bytes)
        films: list[Film] = []
        later: list[tuple[StoredFilm, Callable[[], Match]]] = []
        counts: Counter[main.MatchStatus] = Counter()
        replaced: dict[int, Match] = {}
        tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        async for stored in self._film_rows(session_id, since=-1):
            films.append(film := film_of(json.loads(stored.logged), stored.movie_id, tags))
            later.append((film, self.cache.lazy_match(stored)))
            if before := self.cache.replaced(stored):
                replaced[film.movie_id] = before
            counts[status_of(stored)] += 1
        if not films:
            raise SessionNotFound
        session = self._new(row, films)
        session.counts, session.replaced = counts, replaced
        for film, match in later:
            film.match = match
        await self._take(session, row)
        return session

    async def _catch_up(self, session: StoredSession, row: Row[Any]) -> None:
        """Reads what changed up to this row, unless that was what is being written here."""
        if session.synced < row.revision:
            await session.written.wait()
        async with session.reading:
            if session.synced < row.revision:
                await self._read_changes(session, row, session.synced)

    async def _read_changes(self, session: StoredSession, row: Row[Any], since: int) -> None:
        async for stored in self._film_rows(row.id, since):
            session.apply_film_row(stored)
        await self._take(session, row)

    async def _film_rows(self, session_id: str, since: int) -> AsyncIterator[Row[Any]]:
        """Those that changed, with a turn for others now and then."""
        for number, stored in enumerate(await self.database.run(READ_FILMS, id=session_id, since=since), 1):
            yield stored
            if number % DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _take(self, session: StoredSession, row: Row[Any]) -> None:
        keys = {tmdb_id: f"collection/{tmdb_id}" for tmdb_id in row.collections}
        records = await self.cache.read(keys[i] for i in keys.keys() - session.collections.keys())
        for tmdb_id, key in keys.items():
            if key in records:
                session.collections[tmdb_id] = records[key]
        session.apply_row(row)

    # --- Writing

    async def write(self) -> None:
        """Waits until all changes up to now are written. Raises DatabaseUnavailable."""
        await self._writing.get(None)

    async def _write_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self.is_much.wait()
            self.is_much.clear()
            await self.write()

    async def _write(self, _: object) -> dict[None, None]:
        """All that changed in this process. Raises DatabaseUnavailable."""
        # All is sorted, since two processes that lock the same rows in different orders wait for each other.
        due = [session for _, session in sorted(self._alive.items()) if self._is_due(session)]
        changed = {session: session.changed for session in due}
        records, corrections = (
            dict(sorted(each.unwritten.items())) for each in (self.cache, self.corrections)
        )
        if changed or records or corrections:
            try:
                await self._write_these(changed, records, corrections)
            except DBAPIError as error:
                log.error("the database refuses some of what it was given: %s", error.orig)
                await self._write_apart(due, records, corrections)
        if corrections:
            with contextlib.suppress(DatabaseUnavailable):
                await self.database.run(TRIM_CORRECTIONS, most=main.MAX_CORRECTIONS)
        return {}

    async def _write_apart(
        self, due: list[StoredSession], records: dict[str, Body], corrections: dict[str, Body]
    ) -> None:
        """Each film, record and correction for itself, so that what the database refuses harms no other."""
        for session in due:
            for movie_id, is_choice in list(session.changed.items()):
                film = session.film(movie_id)
                keys = (self.cache.match_key(film, film.match), self.cache.movie_key(film.match.movie))
                own = {key: records.pop(key) for key in keys if key in records}
                try:
                    await self._write_these({session: {movie_id: is_choice}}, own, {})
                except DBAPIError:
                    self.cache.drop(own)
                    session.record(film, REFUSED)
            with contextlib.suppress(DBAPIError):  # its end, for example
                await self._write_these({session: {}}, {}, {})
        rest: list[tuple[dict[str, Body], dict[str, Body]]] = [
            ({key: body}, {}) for key, body in records.items()
        ]
        rest += [({}, {key: body}) for key, body in corrections.items()]
        for record, correction in rest:
            try:
                await self._write_these({}, record, correction)
            except DBAPIError:
                self.cache.drop(record)
                self.corrections.drop(correction)

    async def _write_these(
        self,
        changed: dict[StoredSession, dict[int, bool]],
        records: dict[str, Body],
        corrections: dict[str, Body],
    ) -> None:
        """In one statement. Raises DatabaseUnavailable, and DBAPIError if the database refuses any of it."""
        rows = {session.session_id: session.row() for session in changed}
        film_rows = [row for session, films in changed.items() for row in session.film_rows(films)]
        for session, films in changed.items():
            session.changed = {key: value for key, value in session.changed.items() if key not in films}
            session.written.clear()
        try:
            written = await self.database.run(
                WRITE,
                sessions=dumps(list(rows.values())),
                films=dumps(film_rows),
                records=dumps(list(records.values())),
                corrections=dumps(list(corrections.values())),
                owner=self._owner,
                lease=LEASE_SECONDS,
            )
        except BaseException:
            for session, films in changed.items():
                for movie_id, is_choice in films.items():
                    session.changed[movie_id] = is_choice or session.changed.get(movie_id, False)
                session.written.set()
            raise
        _remove(records, self.cache.unwritten)
        _remove(corrections, self.corrections.unwritten)
        found = {row.id: row for row in written}
        for session in changed:
            session.confirm_write(rows[session.session_id], found.get(session.session_id))
        for session in changed:
            with contextlib.suppress(DatabaseUnavailable):  # it is read when it is next asked for
                await self._after_write(session, rows[session.session_id], found.get(session.session_id))

    def _is_due(self, session: StoredSession) -> bool:
        """Whether it changed, or its lease is to be renewed."""
        is_changed = session.changed or session.ending or session.revision > session.base
        return bool(is_changed or (session.task and self._clock() >= session.written_at + RENEW_SECONDS))

    async def _after_write(self, session: StoredSession, given: Body, written: Row[Any] | None) -> None:
        session.written_at = self._clock()
        if written is None:
            await self._drop(session.session_id)
            return
        if session.ending and written.ended_at and given["ended_at"]:
            status, error_message = session.ending
            session.ending = None
            session.end(status, error_message)
            session.revision -= 1  # which the tables have counted
            session._ended_utc = written.ended_at
        elif session.task and given["at_work"] and not written.may_write:
            log.warning("[%s] another process goes on with it", session.short_id)
            await self._give_up(session)
            return
        if session.synced < written.revision:
            await self._refresh(session, given["synced"])
        if session.status == "completed" and session.task is None and session.counts["pending"]:
            main.start_enrichment(session, self.matcher)  # a choice was undone while the end was written

    async def _give_up(self, session: StoredSession) -> None:
        """This process was not heard of for too long."""
        session.changed = {movie_id: True for movie_id, is_choice in session.changed.items() if is_choice}
        task, session.task, session.ending = session.task, None, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._refresh(session, since=-1)

    async def _refresh(self, session: StoredSession, since: int) -> None:
        if row := (await self._rows.get(session.session_id)).get(session.session_id):
            async with session.reading:
                await self._read_changes(session, row, since)
        else:
            await self._drop(session.session_id)

    # --- Other processes

    async def _watch_forever(self) -> None:
        """Keeps what followers see up to date, and forgets what was deleted elsewhere."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            held = list(self._alive.values())
            found = await self._rows.get(*(session.session_id for session in held)) if held else {}
            for session in held:
                row = found.get(session.session_id)
                if row is None:
                    await self._drop(session.session_id)
                else:
                    session.waiting_elsewhere = row.waiting_for
                    if session.followers:
                        await self._catch_up(session, row)

    async def _claim_forever(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS)
            await self.claim()

    async def claim(self) -> None:
        """Goes on with the work of processes that are not heard of any more."""
        at_work = sum(session.task is not None for session in self._sessions.values())
        most = min(max(self._max_sessions - at_work, 0), MAX_CLAIMED)
        claimed = await self.database.run(CLAIM, owner=self._owner, lease=LEASE_SECONDS, most=most)
        for row in claimed:
            with contextlib.suppress(SessionNotFound, StoreFull, main.UploadTooLarge):
                await self._go_on_with(row.id)

    async def _go_on_with(self, session_id: str) -> None:
        session = await self.get(session_id)
        if session.task is None and session.ended_at is None:
            main.start_enrichment(session, self.matcher)

    async def _sweep_forever(self) -> None:
        await _whatever_the_database_does(self._delete_forever)

    async def _delete_forever(self) -> None:
        while True:
            await asyncio.sleep(min(self._ttl_seconds / 4, 30))
            self.sweep()
            await self.delete_expired()

    async def delete_expired(self) -> None:
        """In small batches, so that nobody waits for them."""
        for statement, expired, most in (
            (DELETE_EXPIRED, self._expired(), DELETED_AT_ONCE),
            (DELETE_RECORDS, self.utc_now() - timedelta(days=RECORD_DAYS), RECORDS_DELETED_AT_ONCE),
        ):
            deleted = most
            while deleted == most:
                deleted = len(await self.database.run(statement, expired=expired, most=most))
                await asyncio.sleep(0)

    # --- Times

    def _expired(self) -> datetime:
        """Sessions that ended before have expired."""
        return self.utc_now() - timedelta(seconds=self._ttl_seconds)

    def utc_of(self, moment: float) -> datetime:
        return self.utc_now() + timedelta(seconds=moment - self._clock())

    def moment_of(self, at: datetime) -> float:
        return self._clock() + (at - self.utc_now()).total_seconds()

    def match_body(self, match: Match) -> Body:
        return match_body(match, self.cache.movie_key(match.movie))


def _remove(written: dict[str, Body], unwritten: dict[str, Body]) -> None:
    """Leaves what is newer by now."""
    for key, body in written.items():
        if unwritten.get(key) is body:
            del unwritten[key]


async def _whatever_the_database_does(job: Callable[[], Any]) -> None:
    while True:
        try:
            await job()
        except DatabaseUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - the root of a task
            log.exception("a bug ended a job; it starts again")
            await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def open_store(
    settings: Settings,
    matcher: Matcher,
    clock: Callable[[], float] = time.monotonic,
    utc_now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[PostgresStore]:
    """The store, once the tables are there. The matcher then uses what all processes share."""
    try:
        database = Database(settings.database_url.get_secret_value())
        await database.migrate()
    except DatabaseUnavailable:
        main.refuse_to_start("The database cannot be reached; start it, or check DATABASE_URL.")
    except (ArgumentError, DBAPIError, OverflowError, TypeError, ValueError):
        main.refuse_to_start(
            "The database cannot be used; check DATABASE_URL, and that its user may create tables there."
        )
    tmdb = matcher.tmdb
    cache = SharedCache(database, tmdb.names, settings.session_ttl_seconds, utc_now)
    corrections = SharedCorrections(database, cache, tmdb)
    pace = SharedPace(settings.tmdb_requests_per_second, database)
    tmdb.cache, matcher.corrections = cache, corrections
    tmdb.keep_pace(pace)
    try:
        async with PostgresStore(
            *(settings.session_ttl_seconds, settings.max_sessions, settings.max_memory_bytes, clock),
            database=database, matcher=matcher, cache=cache, corrections=corrections, utc_now=utc_now,
        ) as store:  # fmt: skip
            yield store
    finally:
        await pace.close()
        await database.close()
