"""What all processes share: TMDB's answers, members' corrections, and the pace of asking."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, cast

from sqlalchemy import Row, text

import main
from main import PENDING, Answer, Collection, Film, Match, Movie, TMDBRef
from postgres.database import RETRY_SECONDS, Database, DatabaseUnavailable, retry_until_back
from postgres.encoding import (
    Body,
    collection_body,
    collection_of,
    match_body,
    match_of,
    movie_body,
    movie_of,
)

RECORD_DAYS = 182  # TMDB's terms: nothing may be kept for more than six months
RECORD_DELETED = Match(
    "failed", "The record of its movie was deleted after six months; retry to look it up again."
)
REASON_REPLACED = "It was found earlier; the reason is no longer kept."
NOT_FOUND_DAYS = 1  # what TMDB does not have today it may have tomorrow
DECODED_AT_ONCE = 100  # records decoded in one go, which takes about five milliseconds

READ_RECORDS = text("SELECT key, body, usable_until FROM records WHERE key = ANY(:keys)")
READ_CORRECTIONS = text("SELECT key, match FROM corrections WHERE key = ANY(:keys)")
TRIM_CORRECTIONS = text(
    """
    DELETE FROM corrections WHERE key IN (
        SELECT key FROM corrections ORDER BY decided_at DESC OFFSET :most
    )
    """
)
LOCK_LIMITER = text("SELECT state, extract(epoch FROM clock_timestamp())::float FROM limiter FOR UPDATE")
WRITE_LIMITER = text("UPDATE limiter SET state = :state")


def status_of(film: Row[Any]) -> main.MatchStatus:
    """Of a film's row, with the record of its movie."""
    is_deleted = film.movie and not film.movie_body
    return RECORD_DELETED.status if is_deleted else cast(main.MatchStatus, film.status)


def digest(key: Hashable) -> str:
    """The same for equal keys, in every process."""
    return blake2b(repr(key).encode("utf-8", "replace"), digest_size=16).hexdigest()


def movie_key(ref: TMDBRef, with_titles: bool = False) -> str:
    return f"{ref[0]}/{ref[1]}{'/titles' if with_titles else ''}"


def record_key(key: Hashable) -> str:
    """The key of `records` for one of `Cache`."""
    match key:
        case ("movie" | "tv" as tmdb_type, int(tmdb_id), bool(with_titles)):
            return movie_key((tmdb_type, tmdb_id), with_titles)
        case ("collection", int(tmdb_id)):
            return f"collection/{tmdb_id}"
        case ("search", searched):
            return f"search/{digest(searched)}"
        case _:
            return f"match/{digest(key)}"


class SharedCache(main.Cache):
    """A cache of `records`. What is new in it is written with the films, by `PostgresStore`."""

    def __init__(
        self,
        database: Database,
        names: main.NameFactory,
        ttl_seconds: float,
        utc_now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self._names, self._utc_now = names, utc_now
        self._usable_days = RECORD_DAYS - ttl_seconds / 86_400  # since a session may refer to it that long
        self._forgotten: set[str] = set()
        self.unwritten: dict[str, Body] = {}

        async def read(keys: list[str]) -> dict[str, Row[Any]]:
            return {row.key: row for row in await database.run(READ_RECORDS, keys=keys)}

        self._rows = main.Batch(read)

    def drop(self, keys: Iterable[str]) -> None:
        """Forgets what cannot be written."""
        for key in keys:
            self.unwritten.pop(key, None)
            self._answers.pop(key, None)

    async def get_or_fetch(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        return await super().get_or_fetch(record_key(key), ask)

    def forget(self, key: Hashable) -> None:
        self._forgotten.add(record_key(key))
        super().forget(record_key(key))

    async def _fetch(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        return await super()._fetch(key, partial(self._stored_or_asked, str(key), ask))

    async def _stored_or_asked(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        if key not in self._forgotten:
            found = await retry_until_back(partial(self.read, [key], for_lookup=True))
            if key in found:
                return cast(Answer, found[key])
        answer = await ask()
        self._forgotten.discard(key)
        self._write(key, answer)
        return answer

    def _write(self, key: str, answer: Match | Movie | Collection) -> None:
        days = self._usable_days
        if isinstance(answer, Match):
            body = match_body(answer, self.movie_key(answer.movie))
            days = days if answer.movie else NOT_FOUND_DAYS
        else:
            body = movie_body(answer) if isinstance(answer, Movie) else collection_body(answer)
        now = self._utc_now()
        usable_until = now + timedelta(days=days)
        self.unwritten[key] = {"key": key, "body": body, "fetched_at": now, "usable_until": usable_until}

    def movie_key(self, movie: Movie | None) -> str | None:
        """The key of the movie's record, which is written if it was not, or is another by now."""
        if movie is None:
            return None
        key = movie_key((movie.tmdb_type, movie.tmdb_id))
        if self._answers.get(key) is not movie:
            self._write(key, movie)
            self._answers[key] = movie
        return key

    def match_key(self, film: Film, match: Match) -> str | None:
        """The key of the record, if the match is one. One without a movie is soon replaced."""
        key = record_key(main.cache_key(film))
        return key if match.movie and self._answers.get(key) is match else None

    # --- Reading

    def lazy_match(self, film: Row[Any]) -> Callable[[], Match]:
        """The match of a film's row, with the records it refers to, for whenever it is looked at."""
        if film.status == "pending":
            return lambda: PENDING
        body = film.record_body or film.match
        return partial(self._match_of, film.record, body, film.movie, film.movie_body, film.status)

    def _match_of(
        self, key: str | None, body: str | None, movie: str | None, movie_body: str | None, status: str
    ) -> Match:
        """`key` and `movie` are those of the records. RECORD_DELETED if that of the movie was."""
        held = cast(Match | None, self._answers.get(key)) if key else None
        if held and held.movie and movie == movie_key((held.movie.tmdb_type, held.movie.tmdb_id)):
            return held
        movies = {}
        if movie and movie_body:
            movies[movie] = self._answers.get(movie) or movie_of(json.loads(movie_body), self._names)
            self._answers[movie] = movies[movie]
        stored = json.loads(body) if body else {}
        if key and stored.get("movie") != movie:  # the film was looked up again for another session
            stored, key = {"status": status, "reason": REASON_REPLACED, "movie": movie}, None
        match = match_of(stored, movies) if stored else None
        if match and key:
            self._answers[key] = match
        return match or RECORD_DELETED

    def replaced(self, film: Row[Any]) -> Match | None:
        """The match before the last choice by hand."""
        if film.replaced is None:
            return None
        key = json.loads(film.replaced).get("movie")
        return self._match_of(None, film.replaced, key, film.replaced_movie_body, "")

    async def read(self, keys: Iterable[str], for_lookup: bool = False) -> dict[str, Any]:
        """These records, as far as they are in memory or stored. Raises DatabaseUnavailable."""
        wanted = set(keys)
        found = {key: answer for key in wanted if (answer := self._answers.get(key)) is not None}
        if missing := wanted - found.keys():
            rows = await self._rows.get(*missing)
            now = self._utc_now()
            given = [rows[key] for key in missing if key in rows]
            stored = {row.key: row.body for row in given if not for_lookup or row.usable_until > now}
            found |= await self._decoded(stored)
        return found

    async def _decoded(self, stored: Mapping[str, str]) -> dict[str, Any]:
        bodies = {}
        for number, (key, body) in enumerate(stored.items()):
            if number % DECODED_AT_ONCE == DECODED_AT_ONCE - 1:
                await asyncio.sleep(0)
            bodies[key] = json.loads(body)
        matched = (body["movie"] for body in bodies.values() if "status" in body and "movie" in body)
        movies = await self.read(matched) if bodies else {}
        found = {}
        for number, (key, body) in enumerate(bodies.items()):
            if number % DECODED_AT_ONCE == DECODED_AT_ONCE - 1:
                await asyncio.sleep(0)
            # Another reader may have decoded it meanwhile.
            answer = self._answers.get(key) or self._record_of(key, body, movies)
            if answer is not None:
                found[key] = self._answers[key] = answer
        return found

    def _record_of(
        self, key: str, body: Body, movies: Mapping[str, Movie]
    ) -> Match | Movie | Collection | None:
        if key.startswith(("match/", "search/")):
            return match_of(body, movies)
        return collection_of(body) if key.startswith("collection/") else movie_of(body, self._names)


class SharedCorrections(main.Corrections):
    """Not cached: another process may have changed a correction a moment ago."""

    def __init__(self, database: Database, cache: SharedCache, tmdb: main.TMDBClient) -> None:
        super().__init__()
        self._cache, self._tmdb = cache, tmdb
        self.unwritten: dict[str, Body] = {}

        async def read(keys: list[str]) -> dict[str, str]:
            return {row.key: row.match for row in await database.run(READ_CORRECTIONS, keys=keys)}

        self._stored = main.Batch(read)

    async def get(self, film: Film) -> Match | None:
        key = digest(main.identity_key(film))
        if key in self.unwritten:
            body: Body | None = self.unwritten[key]["match"]
        else:
            stored = (await retry_until_back(partial(self._stored.get, key))).get(key)
            body = json.loads(stored) if stored else None
        return await self._match_of(body) if body else None

    async def _match_of(self, body: Body) -> Match | None:
        movies: dict[str, Movie] = {}
        if key := body.get("movie"):
            movies = await retry_until_back(partial(self._cache.read, [key]))
            if key not in movies:  # deleted after six months
                tmdb_type, tmdb_id, *_ = key.split("/")
                movies[key] = await self._tmdb.movie(cast(main.MediaType, tmdb_type), int(tmdb_id))
        return match_of(body, movies)

    def set(self, film: Film, match: Match) -> None:
        self._decide(film, match_body(match, self._cache.movie_key(match.movie)))

    def forget(self, film: Film) -> None:
        self._decide(film, None)

    def drop(self, keys: Iterable[str]) -> None:
        """Forgets what cannot be written."""
        for key in keys:
            self.unwritten.pop(key, None)

    def _decide(self, film: Film, body: Body | None) -> None:
        key = digest(main.identity_key(film))
        self.unwritten[key] = {"key": key, "match": body}


AHEAD_SECONDS = 0.125  # for so long, a process takes slots at once
MOST_AHEAD_SECONDS = 0.5  # and one slot if the next is that near
LATE_SECONDS = 0.2  # after which a slot is not used any more
STATE = vars(main.Pace(1)).keys() - {"_clock", "_full_rate"}


class SharedPace(main.Pace):
    """One pace for all processes. Its state is a row; each process takes slots from it, several at a time.

    With each take, a process replays on that state what happened to its requests since the one before. So
    all judge by the outcomes of all, by the database's clock.
    """

    def __init__(self, per_second: float, database: Database) -> None:
        self._database = database
        self._offset = 0.0  # from this process's clock to the database's
        self._moment: float | None = None  # what time it is while slots are taken
        super().__init__(per_second, self.now)
        self._slots: deque[float] = deque()
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._taking: asyncio.Task[None] | None = None
        self._take_at, self._took_urgently = -math.inf, False

    def now(self) -> float:
        return time.monotonic() + self._offset if self._moment is None else self._moment

    def next_at(self, urgent: bool) -> float:
        now = self.now()
        while self._slots and self._slots[0] < now - LATE_SECONDS:
            self._slots.popleft()
        is_running_out = not self._slots or self._slots[-1] < now + AHEAD_SECONDS / 2
        if is_running_out and (now >= self._take_at or urgent > self._took_urgently):
            self._take(urgent)
        return self._slots[0] if self._slots else max(min(self._take_at, now + RETRY_SECONDS), now + 0.005)

    def sent(self) -> float:
        return self._slots.popleft() if self._slots else self.now()

    # --- Outcomes: judged at once, and again on the state that others have changed

    def answered(self, sent_at: float) -> None:
        self._note("answered", sent_at)

    def failed(self, sent_at: float, problem: str) -> None:
        self._note("failed", sent_at, problem)

    def refused(self, sent_at: float, retry_after_seconds: float | None = None) -> None:
        self._note("refused", sent_at, retry_after_seconds)

    def found_answering(self) -> None:
        self._note("found_answering")

    def take_new_outage(self) -> bool:
        self._events.append(("take_new_outage", ()))
        return super().take_new_outage()

    def _note(self, event: str, *details: Any) -> None:
        was_out = self.is_out
        self._events.append((event, details))
        getattr(main.Pace, event)(self, *details)
        if self._paused_until > self.now() or self.is_out > was_out:
            self._slots.clear()
            self._take(urgent=False)  # tells the others

    # --- Slots

    def _take(self, urgent: bool) -> None:
        if self._taking is None:
            self._took_urgently = urgent
            self._taking = asyncio.create_task(self._take_slots(urgent))

    async def _take_slots(self, urgent: bool) -> None:
        try:
            replayed = 0
            async with self._database.transaction() as connection:
                asked_at = time.monotonic()
                state, database_now = (await connection.execute(LOCK_LIMITER)).one()
                self._offset = database_now - (asked_at + time.monotonic()) / 2
                self._restore(state)
                replayed = len(self._events)
                for event, details in self._events:
                    getattr(main.Pace, event)(self, *details)
                slots = self._next_slots(urgent)
                await connection.execute(WRITE_LIMITER, {"state": self._dumped()})
            del self._events[:replayed]
            self._slots.extend(slots)
        except DatabaseUnavailable:
            self._take_at = self.now() + RETRY_SECONDS
        finally:
            self._taking = None

    def _next_slots(self, urgent: bool) -> list[float]:
        slots: list[float] = []
        now = self.now()
        try:
            while (at := max(super().next_at(urgent), now)) <= now + (
                AHEAD_SECONDS if slots else MOST_AHEAD_SECONDS
            ):
                self._moment = at
                super().sent()
                slots.append(at)
        finally:
            self._moment = None
        self._take_at = -math.inf if slots else min(at - AHEAD_SECONDS, now + MOST_AHEAD_SECONDS)
        return slots

    def _restore(self, state: str) -> None:
        """Ignores a state from the future, which is left when a database's clock was set back."""
        given = json.loads(state) if state else {}
        if given.get("_slot_at", 0) > self.now() + 2 * main.MAX_RETRY_AFTER_SECONDS:
            given = {}
        for name in STATE & given.keys():
            own = getattr(self, name)
            setattr(self, name, deque(given[name], own.maxlen) if isinstance(own, deque) else given[name])

    def _dumped(self) -> str:
        state = {name: getattr(self, name) for name in sorted(STATE)}
        return json.dumps(state, default=list)

    async def close(self) -> None:
        if self._taking:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
