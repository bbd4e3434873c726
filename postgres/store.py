"""Sessions in PostgreSQL.

A choice, an undo, a retry and a newer export are written to the tables first, in whichever process, and then
read from there. Outcomes of lookups are found by the process that holds the session's lease: it works on the
session in its memory and writes what it found a few times a second. All other processes read: a session in
their memory stands as long as its revision does. If the holder is not heard of, another process takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from pydantic import ValidationError
from sqlalchemy import Row
from sqlalchemy.exc import ArgumentError, DBAPIError

import main
from main import (
    Export,
    Film,
    Match,
    Matcher,
    Movie,
    Session,
    SessionNotFound,
    Settings,
    StoreFull,
    TMDBRef,
    log,
)
from postgres import tables
from postgres.database import (
    LONG_SECONDS,
    RETRY_SECONDS,
    UNUSABLE,
    Batch,
    Database,
    DatabaseUnavailable,
    Rows,
    Run,
    retry_until_back,
)
from postgres.encoding import Body, Tags, dumps, export_of, film_body, film_of, match_of
from postgres.sharing import SharedPace, StoredAnswers

WRITE_SECONDS = 0.3  # between two writes, or sooner if
MANY_FILMS = 50  # have an outcome
LEASE_SECONDS = 5
RENEW_SECONDS = 1
CLAIM_SECONDS = 1
MAX_CLAIMED = 5  # sessions at once, so that the processes share the work
FULL_SECONDS = 30  # after which somebody may try again to upload
RECORD_DAYS = 182  # TMDB's terms: nothing may be kept for more than six months
DELETED_AT_ONCE = {tables.DELETE_EXPIRED: 20, tables.DELETE_RECORDS: 1_000}
READ_AT_ONCE = 100  # films decoded in one go, which takes about five milliseconds
CLOSING_SECONDS = 2  # for the last write
SESSION_ID = re.compile(r"[\w-]{1,50}", re.ASCII)
REFUSED = "The database refused what was found."


def winner(own: Match, stored: Match, is_unwritten: bool) -> Match:
    """Which outcome of a film stands: the tables', unless the film is pending there and was found here.

    Choices by hand are in the tables before they are anywhere else, so they win.
    """
    return own if is_unwritten and stored is main.PENDING else stored


def movie_path(match: Match) -> str | None:
    return f"{match.movie.tmdb_type}/{match.movie.tmdb_id}" if match.movie else None


def ref_of(path: str) -> TMDBRef:
    tmdb_type, tmdb_id = path.split("/")
    return ("tv" if tmdb_type == "tv" else "movie"), int(tmdb_id)


@dataclass(eq=False, repr=False)
class StoredSession(Session):
    """A session of the tables, as of a revision of theirs. While `task` runs, what it found comes on top."""

    store: PostgresStore = field(kw_only=True)
    synced: int = -1  # the tables' revision that is known here
    unwritten: set[int] = field(default_factory=set)  # movie_ids with an outcome that the tables do not have
    told: tuple[str | None, int] = (None, 0)  # what else the tables know: why it waits, how many collections
    written_at: float = -math.inf  # by `clock`

    def record(self, film: Film, match: Match) -> None:
        """An outcome that was found here."""
        super().record(film, match)
        self.unwritten.add(film.movie_id)
        if len(self.unwritten) >= MANY_FILMS:
            self.store.is_much.set()

    async def finish(self, status: main.SessionStatus, error_message: str | None) -> None:
        """If the work is stopped here, another process goes on with it."""
        if error_message == main.STOPPED:
            self.task = None
        else:
            await self.store.end(self, status, error_message)

    @property
    def waiting_for(self) -> str | None:
        return super().waiting_for if self.task or self.ended_at is not None else self.told[0]

    # --- What members change

    async def choose(self, film: Film, match: Match) -> None:
        await self.store.answers.write()  # the movie's record
        async with self._changing() as (row, run):
            values = {"new_status": match.status, "new_reason": match.reason, "new_movie": movie_path(match)}
            await run(
                tables.CHOOSE,
                sid=self.session_id,
                film=film.movie_id,
                new_revision=row.revision + 1,
                **values,
            )
            await run(tables.TOUCH, sid=self.session_id)

    async def undo(self, film: Film) -> None:
        async with self._changing() as (row, run):
            undone = await run(
                tables.UNDO, sid=self.session_id, film=film.movie_id, new_revision=row.revision + 1
            )
            if not undone:
                raise main.NothingToUndo
            await run(tables.TOUCH, sid=self.session_id)
            if undone[0].status == "pending" and row.ended_at:
                await run(tables.BEGIN_AGAIN, sid=self.session_id, **self.store.lease)

    async def retry(self) -> list[Film]:
        async with self._changing() as (row, run):
            self._check_ended(row)
            rows = await run(tables.RETRY, sid=self.session_id, new_revision=row.revision + 1)
            await run(tables.TOUCH, sid=self.session_id)
            await run(tables.BEGIN_AGAIN, sid=self.session_id, **self.store.lease)
        return [self.film(each.movie_id) for each in rows]

    async def take_over(self, export: Export) -> None:
        before = {new: old.movie_id for new, old in main.same_films(self.export, export).items()}
        bodies = [{"film": film_body(film), "before": before.get(film.movie_id)} for film in export.films]
        films = await asyncio.to_thread(dumps, bodies)
        async with self._changing() as (row, run):
            self._check_ended(row)
            if row.uploaded > self.synced:  # another export came first
                raise main.SessionBusy("Another export was uploaded into this session just now; try again.")
            revision = row.revision + 1
            await run(tables.MOVE_ASIDE, sid=self.session_id)
            await run(tables.TAKE_OVER, sid=self.session_id, new_revision=revision, films=films)
            await run(tables.FORGET_ASIDE, sid=self.session_id)
            await run(
                tables.UPLOADED,
                sid=self.session_id,
                new_revision=revision,
                new_rows=dumps(export.rows),
                new_warnings=dumps(export.warnings),
                new_lists=dumps(export.lists),
                new_profile=dumps(export.profile),
                new_memory_bytes=export.memory_bytes,
            )
            await run(tables.TOUCH, sid=self.session_id)
            await run(tables.BEGIN_AGAIN, sid=self.session_id, **self.store.lease)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[Row[Any], Run]]:
        """Nobody else changes the session meanwhile; then it is read. Raises DatabaseUnavailable."""
        database, ttl = self.store.database, self.store.ttl_seconds
        async with database.transaction(tables.LOCK, sid=self.session_id, ttl=ttl) as (rows, run):
            if not rows:
                raise SessionNotFound
            yield rows[0], run
        self.store.keep(self)
        await self.store.sync(self)

    def _check_ended(self, row: Row[Any]) -> None:
        if row.ended_at is None:
            self.ended_at = None
            main.check_ended(self)

    async def save_collections(self) -> None:
        if len(self.collections) > self.told[1]:
            await self.store.database.run(
                tables.COLLECTIONS, sid=self.session_id, new_collections=list(self.collections)
            )

    async def changes(self) -> AsyncIterator[Session]:
        """What `Session.changes` does, from the tables, whichever process works."""
        seen: object = None
        progress: Session = self
        while True:
            try:
                progress = await self.store.progress(self.session_id)
            except DatabaseUnavailable:
                pass
            except SessionNotFound:
                progress.end("failed", main.STOPPED)
            is_last = progress.ended_at is not None or main.server_is_stopping()
            if seen != (current := (progress.revision, progress.waiting_for)):
                seen = current
                yield progress
            if is_last:
                return
            await asyncio.sleep(main.FOLLOW_SECONDS)

    # --- From the tables

    def take(self, row: Row[Any]) -> None:
        """What the tables say about the session itself, if its films are not looked up here."""
        self.synced = row.revision
        if self.task:
            return
        self.status, self.error_message = row.status, row.error_message
        self.created_at, self.told = row.created_at, (row.waiting_for, len(row.collections))
        self.begun_at, self.films_to_look_up = self.clock() - float(row.seconds), row.to_look_up
        self.ended_at = None
        self.ended_event.clear()
        if row.ended_at:
            self.ended_at, self.ended_utc = self.clock(), row.ended_at
            self.ended_event.set()

    def take_films(self, stored: dict[int, Match]) -> None:
        """Those that changed."""
        for movie_id, match in stored.items():
            film = self.film(movie_id)
            match = winner(film.match, match, movie_id in self.unwritten)  # noqa: PLW2901
            if match is not film.match:
                self.unwritten.discard(movie_id)
                if match.candidates is None:  # whatever it is matched with, a search finds the same
                    object.__setattr__(match, "candidates", film.match.candidates)
                super().record(film, match)

    @property
    def is_due(self) -> bool:
        """Whether there is something to write, or its lease is to be renewed."""
        is_told = self.told == (self.waiting_for, len(self.collections))
        return bool(self.unwritten) or not is_told or self.clock() >= self.written_at + RENEW_SECONDS


class PostgresStore:
    """The sessions of all processes, and those of them that are in this one's memory, last used last."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        matcher: Matcher,
        answers: StoredAnswers,
        clock: Callable[[], float],
    ) -> None:
        self.ttl_seconds, self.database = settings.session_ttl_seconds, database
        self.lease: dict[str, Any] = {"owner": secrets.token_hex(8), "lease": LEASE_SECONDS}
        self.is_much, self.answers = asyncio.Event(), answers
        self._settings, self.matcher, self._clock = settings, matcher, clock
        self._held: dict[str, StoredSession] = {}
        self._stopping: set[asyncio.Task[Any]] = set()  # work that others go on with
        self._renewing: dict[str, asyncio.Task[Any]] = {}
        self._unwanted: set[str] = set()  # sessions whose upload got a 503, but which may be there
        self._sharing = main.Sharing()
        self._heads: Batch[str, Row[Any]] = Batch(partial(self._rows, tables.HEADS))
        self._progress: Batch[str, Row[Any]] = Batch(partial(self._rows, tables.PROGRESS))
        self._writing: Batch[None, None] = Batch(self._write)

    async def __aenter__(self) -> Self:
        jobs = (
            (self._write_due, 0.0),
            (self.claim, CLAIM_SECONDS),
            (self.clean_up, min(self.ttl_seconds / 4, 30)),
        )
        self._jobs = [asyncio.create_task(_forever(job, seconds)) for job, seconds in jobs]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops the work here, so that it goes on elsewhere or after a restart."""
        for task in (*self._jobs, *self._renewing.values()):
            task.cancel()
        await asyncio.gather(*self._jobs, *self._renewing.values(), *self._stopping, return_exceptions=True)
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.write()
        for session in self._held.values():
            await session.stop()
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.database.run(tables.RELEASE, owner=self.lease["owner"])

    # --- The face of main.Store

    def __len__(self) -> int:
        return len(self._held)

    @property
    def memory_bytes(self) -> int:
        return sum(session.memory_bytes for session in self._held.values())

    def check_room(self, memory_bytes: int = 0) -> None:
        """Makes room by forgetting what is only read. Raises StoreFull if all the rest is at work."""
        main.check_size(memory_bytes, self._settings.max_memory_bytes)
        if not self._makes_room(memory_bytes, 1):
            raise StoreFull(FULL_SECONDS)

    def _makes_room(self, memory_bytes: int = 0, sessions: int = 0) -> bool:
        for session in [None, *self._held.values()]:
            if session and session.task is None:
                del self._held[session.session_id]
            has_room = len(self._held) + sessions <= self._settings.max_sessions
            if has_room and self.memory_bytes + memory_bytes <= self._settings.max_memory_bytes:
                return True
        return False

    async def create(self, export: Export) -> Session:
        self.check_room(export.memory_bytes)
        await self._make_stored_room()
        session = StoredSession(export, self.ttl_seconds, self._clock, store=self, synced=0)
        given = {
            "id": session.session_id,
            "created_at": session.created_at.isoformat(),
            "status": "enriching",  # at once
            "to_look_up": session.total_movies,
            "rows": export.rows,
            "warnings": export.warnings,
            "lists": export.lists,
            "profile": export.profile,
            "memory_bytes": export.memory_bytes,
        }
        films = await asyncio.to_thread(lambda: dumps([film_body(film) for film in export.films]))
        try:
            await self.database.run(
                tables.CREATE, LONG_SECONDS, session=dumps(given), films=films, **self.lease
            )
        except BaseException:  # nobody will know its id
            self._unwanted.add(session.session_id)
            raise
        self.keep(session)
        return session

    async def _make_stored_room(self) -> None:
        most = self._settings.max_stored_sessions
        if (await self.database.run(tables.COUNT))[0][0] >= most:
            await self.database.run(tables.MAKE_ROOM, most=most)
            if (await self.database.run(tables.COUNT))[0][0] >= most:
                raise StoreFull(FULL_SECONDS)

    async def get(self, session_id: str) -> Session:
        """With all changes up to now."""
        head = await self._row(self._heads, session_id)
        session = self._held.get(session_id)
        if session is None:
            session = await self._sharing.run(session_id, partial(self._read, session_id))
        elif session.synced < head.revision:
            await self.sync(session)
        self.keep(session)
        return session

    async def progress(self, session_id: str) -> Session:
        """From the tables, in one query, so that it is the same in every process."""
        row = await self._row(self._progress, session_id)
        session = self._new(row)
        session.counts.update(json.loads(row.counts))
        session.take(row)
        session.revision = row.revision
        return session

    async def delete(self, session_id: str) -> None:
        await self._row(self._heads, session_id)
        await self.database.run(tables.DELETE, sid=session_id)
        self._drop(session_id)

    async def count_stored(self) -> int | None:
        with contextlib.suppress(DatabaseUnavailable):
            return int((await self.database.run(tables.COUNT))[0][0])
        return None

    # --- Memory

    def keep(self, session: StoredSession) -> None:
        self._held.pop(session.session_id, None)
        self._held[session.session_id] = session
        self._makes_room()

    def _drop(self, session_id: str) -> None:
        """Forgets a session that is no more."""
        if session := self._held.pop(session_id, None):
            self._let_go(session)

    def _let_go(self, session: StoredSession) -> None:
        """Another process has the lease, or there is no session any more."""
        task, session.task = session.task, None
        session.unwritten.clear()
        if task and task is not asyncio.current_task():
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            task.cancel()

    # --- Reading

    async def _rows(self, statement: Any, ids: list[str]) -> dict[str, Row[Any]]:
        return {row.id: row for row in await self.database.run(statement, ids=ids, ttl=self.ttl_seconds)}

    async def _row(self, rows: Batch[str, Row[Any]], session_id: str) -> Row[Any]:
        """Raises SessionNotFound."""
        row = (await rows.get(session_id)).get(session_id) if SESSION_ID.fullmatch(session_id) else None
        if row is None:
            self._drop(session_id)
            raise SessionNotFound
        return row

    def _new(self, row: Row[Any], films: list[Film] | None = None) -> StoredSession:
        return StoredSession(export_of(row, films or []), self.ttl_seconds, self._clock, row.id, store=self)

    async def _read(self, session_id: str) -> StoredSession:
        row = await self._row(self._progress, session_id)
        self.check_room(row.memory_bytes)
        session = self._held.get(session_id) or self._new(row)
        await self.sync(session)
        return session

    async def sync(self, session: StoredSession) -> Row[Any]:
        """Reads what the tables know and it does not. Raises SessionNotFound."""
        return await self._sharing.run(("sync", id(session)), partial(self._sync, session))

    async def _sync(self, session: StoredSession) -> Row[Any]:
        row = await self._row(self._progress, session.session_id)
        is_new_export = row.uploaded > session.synced or session.synced < 0
        since = -1 if is_new_export else session.synced
        stored: Rows = []
        if since < row.revision:
            stored = await self.database.run(tables.FILMS, LONG_SECONDS, sid=row.id, since=since)
        if is_new_export and not stored:  # it was deleted meanwhile
            self._drop(row.id)
            raise SessionNotFound
        collections = await self._read_collections(set(row.collections) - session.collections.keys())
        self._renew_old(row.id, stored)
        films, matches, tags = list[Film](), dict[int, Match](), Tags()
        for number, each in enumerate(stored, 1):
            matches[each.movie_id] = match_of(
                each, partial(self._movie_of, each.movie, each.body, each.version)
            )
            if is_new_export:
                films.append(film_of(json.loads(each.logged), each.movie_id, matches[each.movie_id], tags))
            if number % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        if session.task and row.lease_owner != self.lease["owner"]:
            log.warning("[%s] another process goes on with it", session.short_id)
            self._let_go(session)
        if is_new_export:
            fresh = self._new(row, films)
            session.export, session.counts = fresh.export, fresh.counts
            session.revision += 1
        else:
            session.take_films(matches)
        session.collections |= collections
        session.take(row)
        return row

    def _movie_of(self, path: str, body: str | None, version: str | None) -> Movie | None:
        """A record without a field is shown as far as it goes, but not to others."""
        (tmdb_type, tmdb_id), tmdb = ref_of(path), self.matcher.tmdb
        if body is None:
            return None

        def read() -> Movie:
            movie = main.movie_of(tmdb_type, main.validated(main.MovieBody, body), tmdb.names)
            return replace(movie, other_titles=()) if movie.other_titles else movie

        with contextlib.suppress(ValidationError):
            if version == tmdb.version(main.MovieBody):
                return tmdb.cache.hold((tmdb_type, tmdb_id, False), read)
            return read()
        return None

    async def _read_collections(self, ids: set[int]) -> dict[int, main.Collection]:
        if not ids:
            return {}
        rows = await self.database.run(tables.READ_BODIES, paths=[f"collection/{i}" for i in ids])
        bodies = {int(row.path.split("/")[1]): row.body for row in rows}
        read = partial(main.validated, main.CollectionBody)
        return {i: main.collection_of(read(body)) for i, body in bodies.items()}

    # --- Records of an earlier version

    def _renew_old(self, session_id: str, stored: Rows) -> None:
        """Asks for records without a field, or that are gone, so that the session has them soon."""
        version = self.matcher.tmdb.version(main.MovieBody)
        old = {row.movie for row in stored if row.movie and row.version != version}
        if old and session_id not in self._renewing and self.matcher.tmdb.key_state != "missing":
            task = self._renewing[session_id] = asyncio.create_task(self._renew(session_id, sorted(old)))
            task.add_done_callback(lambda _: self._renewing.pop(session_id, None))

    async def _renew(self, session_id: str, paths: list[str]) -> None:
        main.urgent.set(False)
        for first in range(0, len(paths), READ_AT_ONCE):
            some = paths[first : first + READ_AT_ONCE]
            refs = map(ref_of, some)
            await asyncio.gather(*(self.matcher.tmdb.movie(*ref) for ref in refs), return_exceptions=True)
            await retry_until_back(self.answers.write)
            renewed = partial(self.database.run, tables.RENEWED, sid=session_id, movies=some)
            await retry_until_back(renewed)

    # --- Writing

    async def write(self) -> None:
        """Waits until all that was found up to now is written. Raises DatabaseUnavailable."""
        await self._writing.get(None)

    async def _write_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_SECONDS):
                await self.is_much.wait()
        self.is_much.clear()
        await self.write()

    async def _write(self, _: object) -> dict[None, None]:
        await self.answers.write()
        due = [session for _, session in sorted(self._held.items()) if session.task and session.is_due]
        try:
            await self._write_these(due)
        except DBAPIError:
            for session in due:
                await self._write_or_fail(session)
        return {}

    async def _write_or_fail(self, session: StoredSession) -> None:
        """What the database refuses of one session harms no other."""
        try:
            await self._write_these([session])
        except DBAPIError as error:
            log.error("[%s] the database refuses what was found: %s", session.short_id, error.orig)
            await self._fail(session.session_id, REFUSED)
            self._drop(session.session_id)

    async def _fail(self, session_id: str, reason: str) -> None:
        await self.database.run(tables.FAIL, sid=session_id, new_reason=reason, owner=self.lease["owner"])

    async def _write_these(self, due: list[StoredSession]) -> None:
        """In one statement. Raises DatabaseUnavailable, and DBAPIError if the database refuses any of it."""
        if not due:
            return
        matches = {session: {i: session.film(i).match for i in session.unwritten} for session in due}
        told = {session: (session.waiting_for, len(session.collections)) for session in due}
        bodies = [_session_body(session, matches[session]) for session in due]
        films = [_outcome(session, i, match) for session in due for i, match in matches[session].items()]
        rows = await self.database.run(
            tables.WRITE, LONG_SECONDS, sessions=dumps(bodies), films=dumps(films), **self.lease
        )
        revisions = {row.id: row.revision for row in rows}
        for session, body in zip(due, bodies, strict=True):
            session.told, session.written_at = told[session], self._clock()
            for movie_id, match in matches[session].items():
                if session.film(movie_id).match is match:
                    session.unwritten.discard(movie_id)
            if revisions.get(session.session_id) == session.synced + body["changes"]:
                session.synced += body["changes"]
            else:  # a member has changed it, somebody has deleted it, or another process has taken over
                with contextlib.suppress(SessionNotFound, DatabaseUnavailable):
                    await self.sync(session)

    async def end(
        self, session: StoredSession, status: main.SessionStatus, error_message: str | None
    ) -> None:
        """Stores the end before anyone sees it. If a choice was undone meanwhile, that is looked up first."""
        values = {
            "sid": session.session_id,
            "owner": self.lease["owner"],
            "new_status": status,
            "new_reason": error_message,
        }
        while True:
            await retry_until_back(self.write)
            if session.task is None:
                return
            if session.counts["pending"]:
                main.start_enrichment(session, self.matcher)
                return
            end = partial(self.database.run, tables.END, **values, new_revision=session.synced)
            if rows := await retry_until_back(end):
                session.end(status, error_message)
                session.synced, session.ended_utc = rows[0].revision, rows[0].ended_at
                return
            try:
                await retry_until_back(partial(self.sync, session))
            except SessionNotFound:
                return

    # --- Jobs

    async def claim(self) -> None:
        """Goes on with the work of processes that are not heard of any more."""
        at_work = sum(session.task is not None for session in self._held.values())
        most = min(max(self._settings.max_sessions - at_work, 0), MAX_CLAIMED)
        for row in await self.database.run(tables.CLAIM, most=most, **self.lease):
            try:
                session = await self.get(row.id)
            except main.UploadTooLarge as error:
                await self._fail(row.id, str(error))
            except (SessionNotFound, StoreFull):
                continue
            else:
                if session.task is None and session.ended_at is None:
                    main.start_enrichment(session, self.matcher)

    async def clean_up(self) -> None:
        """Deletes what has expired, in small batches, so that nobody waits for them."""
        for session_id in list(self._unwanted):
            await self.database.run(tables.DELETE, sid=session_id)
            self._unwanted.discard(session_id)
        for statement, most in DELETED_AT_ONCE.items():
            deleted = most
            while deleted == most:
                values = (
                    {"ttl": self.ttl_seconds}
                    if statement is tables.DELETE_EXPIRED
                    else {"age": RECORD_DAYS * 86_400}
                )
                deleted = len(await self.database.run(statement, LONG_SECONDS, most=most, **values))
        if self._held:
            rows = await self._heads.get(*self._held)
            for session_id in self._held.keys() - rows.keys():
                self._drop(session_id)


def _session_body(session: StoredSession, found: dict[int, Match]) -> Body:
    is_changed = found or len(session.collections) != session.told[1]
    return {
        "id": session.session_id,
        "changes": int(bool(is_changed)),
        "waiting_for": session.waiting_for,
        "collections": list(session.collections),
    }


def _outcome(session: StoredSession, movie_id: int, match: Match) -> Body:
    return {
        "session_id": session.session_id,
        "movie_id": movie_id,
        "status": match.status,
        "reason": match.reason,
        "movie": movie_path(match),
    }


async def _forever(job: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Whatever the database does."""
    while True:
        try:
            await asyncio.sleep(seconds)
            await job()
        except DatabaseUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - the root of a task
            log.exception("a bug ended a job; it starts again")
            await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def open_store(
    settings: Settings, matcher: Matcher, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[PostgresStore]:
    """The store. The matcher then uses what all processes share."""
    try:
        database = Database(settings.database_url.get_secret_value())
    except (ArgumentError, TypeError, ValueError):
        main.refuse_to_start(UNUSABLE)
    await database.open()
    answers, pace = StoredAnswers(database), SharedPace(settings.tmdb_requests_per_second, database)
    matcher.tmdb.answers = answers
    matcher.tmdb.keep_pace(pace)
    try:
        async with PostgresStore(settings, database, matcher, answers, clock) as store:
            yield store
    finally:
        await pace.close()
        await database.close()
