"""Sessions: what they count and tell, and the store that keeps them no longer than it should."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import main
from tests.conftest import Clock, export
from tests.fake_tmdb import V3_KEY

FILMS = """2024-01-02,Inception,2010,https://boxd.it/1skk
2024-01-02,Parasite,2019,https://boxd.it/hTha
2024-01-02,Our Summer on Super 8,2019,"""
HOUR = 3600.0
T = TypeVar("T")


def store(clock: Clock, max_sessions: int = 2) -> main.SessionStore:
    return main.SessionStore(HOUR, max_sessions, 10**9, clock)


# --- A session


def test_ids_are_distinct_and_long(clock: Clock) -> None:
    ids = {main.Session(export(watched=FILMS), HOUR, clock).session_id for _ in range(200)}

    assert len(ids) == 200
    assert min(map(len, ids)) >= 22


def test_progress_always_adds_up(clock: Clock) -> None:
    session = main.Session(export(watched=FILMS), HOUR, clock)
    assert session.eta_seconds is None

    statuses: list[main.MatchStatus] = ["exact", "not_found", "failed"]
    for done, (film, outcome) in enumerate(zip(session.export.films, statuses, strict=True), 1):
        clock.now += 2
        session.record(film, main.Match(outcome, ""))

        assert session.processed_count == done
        assert (
            session.processed_count == session.enriched_count + session.not_found_count + session.failed_count
        )
        assert session.eta_seconds == 2 * (3 - done)

    assert session.progress_percent == 99.9  # collections may still be read
    session.end("completed", None)
    assert session.progress_percent == 100


def test_eta_after_a_retry_uses_the_pace_of_the_retry(clock: Clock) -> None:
    session = main.Session(export(watched=FILMS), HOUR, clock)
    session.begin()
    for film in session.export.films:
        session.record(film, main.Match("failed", ""))
    session.end("completed", None)
    clock.now += 1000
    for film in session.export.films[1:]:
        session.record(film, main.PENDING)
    session.begin()
    assert session.eta_seconds is None

    clock.now += 5
    session.record(session.export.films[1], main.Match("exact", ""))

    assert session.eta_seconds == 5
    assert session.processed_count == 2


class Gated(main.Matcher):
    """Finds no film, as soon as its gate is open."""

    def __init__(self) -> None:
        settings = main.Settings.model_validate({"tmdb_api_key": V3_KEY, "tmdb_connections": 2})
        super().__init__(main.TMDBClient(settings))
        self.open: dict[str, asyncio.Event] = {}

    async def find(self, film: main.Film) -> main.Match:
        await self.open.setdefault(film.title, asyncio.Event()).wait()
        return main.Match("not_found", "")


async def test_session_stopped_before_its_first_step_ends(clock: Clock) -> None:
    session = main.Session(export(watched=FILMS), HOUR, clock)
    task = session.task = asyncio.create_task(main.enrich_session_async(session, Gated()))

    await session.stop()

    assert task.cancelled()
    assert session.processed_count == 0
    assert (session.status, session.error_message) == ("failed", "The lookup was stopped.")
    assert [each async for each in session.changes()] == [session]


# --- What followers hear of


def test_every_change_increases_the_revision(clock: Clock) -> None:
    session = main.Session(export(watched=FILMS), HOUR, clock)
    seen = [session.revision]

    for change in (
        session.begin,
        lambda: session.record(session.export.films[0], main.Match("exact", "")),
        lambda: session.end("completed", None),
    ):
        change()
        seen.append(session.revision)

    assert seen == sorted(set(seen))


# --- The store


async def test_session_expires_an_hour_after_it_ends(clock: Clock) -> None:
    sessions = store(clock)
    session = await sessions.create(export(watched=FILMS))
    clock.now += 10 * HOUR
    assert await sessions.get(session.session_id) is session

    session.ended_at = clock.now
    clock.now += HOUR - 0.5
    assert await sessions.get(session.session_id) is session
    clock.now += 0.5

    with pytest.raises(main.SessionNotFound):
        await sessions.get(session.session_id)


async def test_retried_session_expires_an_hour_after_the_retry(clock: Clock) -> None:
    sessions = store(clock)
    session = await sessions.create(export(watched=FILMS))
    session.end("completed", None)
    clock.now += HOUR - 1
    session.begin()
    clock.now += 10 * HOUR
    assert await sessions.get(session.session_id) is session

    session.end("completed", None)
    clock.now += HOUR - 1
    assert await sessions.get(session.session_id) is session
    clock.now += 1

    with pytest.raises(main.SessionNotFound):
        await sessions.get(session.session_id)


async def test_full_store_says_when_to_try_again(clock: Clock) -> None:
    sessions = store(clock, max_sessions=1)
    (await sessions.create(export(watched=FILMS))).ended_at = clock.now
    clock.now += 1000

    with pytest.raises(main.StoreFull) as full:
        await sessions.create(export(watched=FILMS))

    assert full.value.headers == {"Retry-After": "2600"}


async def test_deleted_session_is_stopped_and_freed(clock: Clock) -> None:
    sessions = store(clock)
    session = await sessions.create(export(watched=FILMS))
    task = session.task = asyncio.create_task(asyncio.sleep(60))
    freed = weakref.ref(session)

    await sessions.delete(session.session_id)
    del session
    gc.collect()

    assert task.cancelled()
    assert freed() is None
    assert len(sessions) == 0


async def test_closing_stops_every_session_even_if_one_expired(clock: Clock) -> None:
    async with store(clock) as sessions:
        (await sessions.create(export(watched=FILMS))).end("completed", None)
        running = await sessions.create(export(watched=FILMS))
        running.begin()
        task = running.task = asyncio.create_task(asyncio.sleep(60))
        clock.now += 2 * HOUR

    assert task.cancelled()


@dataclass
class Known:
    """What a session should be; the session itself only while it is running."""

    session_id: str
    title: str
    memory_bytes: int
    freed: weakref.ref[main.Session]
    task: asyncio.Task[None]
    ended_at: float | None = None


class StoreMachine(RuleBasedStateMachine):
    """Sessions come, end, are read, retried and deleted, and time passes, to the very tick of the TTL."""

    def __init__(self) -> None:
        super().__init__()
        gc.freeze()  # what is there before is not looked through each time
        self.clock, self.tmdb, self.made = Clock(), Gated(), 0
        self.loop = asyncio.new_event_loop()
        self.store = main.SessionStore(HOUR, 3, 40_000, self.clock)
        self.alive: dict[str, Known] = {}
        self.gone: dict[str, weakref.ref[main.Session]] = {}

    def teardown(self) -> None:
        tasks = [known.task for known in self.alive.values()]
        self.wait(self.close())
        assert all(task.done() for task in tasks)
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        gc.unfreeze()

    def wait(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(call)

    async def close(self) -> None:
        async with self.store:
            pass

    def pick(self, number: int) -> Known | None:
        return list(self.alive.values())[number % len(self.alive)] if self.alive else None

    @rule(films=st.integers(1, 4))
    def create(self, films: int) -> None:
        self.made += 1
        made = main.Export([main.Film(f"{self.made}", 2000 + n) for n in range(films)], {}, [])
        memory = sum(known.memory_bytes for known in self.alive.values()) + made.memory_bytes
        if len(self.alive) == 3 or memory > 40_000:
            with pytest.raises(main.StoreFull) as full:
                self.wait(self.store.create(made))
            assert 0 <= int((full.value.headers or {})["Retry-After"]) <= HOUR
        else:
            self.wait(self.start(self.wait(self.store.create(made))))

    async def start(self, session: main.Session) -> None:
        session.task = asyncio.create_task(main.enrich_session_async(session, self.tmdb))
        await asyncio.sleep(0)
        self.alive[session.session_id] = Known(
            session.session_id,
            session.export.films[0].title,
            session.export.memory_bytes,
            weakref.ref(session),
            session.task,
        )

    @rule(number=st.integers(0, 2))
    def finish(self, number: int) -> None:
        known = self.pick(number)
        if known and known.ended_at is None:
            self.tmdb.open.setdefault(known.title, asyncio.Event()).set()
            self.wait(asyncio.wait_for(known.task, 1))
            known.ended_at = self.clock.now

    @rule(number=st.integers(0, 2))
    def retry(self, number: int) -> None:
        if known := self.pick(number):
            session = self.wait(self.store.get(known.session_id))
            if known.ended_at is None:
                with pytest.raises(main.SessionBusy):
                    self.wait(main.retry_films(session, self.tmdb))
            else:
                self.tmdb.open[known.title].clear()
                self.wait(self.again(session))
                known.task, known.ended_at = session.task or known.task, None

    async def again(self, session: main.Session) -> None:
        await main.retry_films(session, self.tmdb)

    @rule(number=st.integers(0, 2))
    def delete(self, number: int) -> None:
        if known := self.pick(number):
            self.wait(asyncio.wait_for(self.store.delete(known.session_id), 1))
            self.is_gone(known)

    @rule(seconds=st.sampled_from([0.5, 1, HOUR / 2, HOUR - 1, HOUR - 0.5, HOUR, 10 * HOUR]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        for known in list(self.alive.values()):
            if known.ended_at is not None and known.ended_at + HOUR <= self.clock.now:
                self.is_gone(known)

    def is_gone(self, known: Known) -> None:
        assert known.task.done()
        del self.alive[known.session_id]
        self.gone[known.session_id] = known.freed

    @rule()
    def what_is_gone_is_freed(self) -> None:
        self.store.sweep()
        gc.collect()
        assert not any(freed() for freed in self.gone.values())

    @invariant()
    def store_holds_what_it_should(self) -> None:
        assert len(self.store) == len(self.alive) <= 3
        assert self.store.memory_bytes == sum(known.memory_bytes for known in self.alive.values()) <= 40_000
        for known in self.alive.values():
            session = self.wait(self.store.get(known.session_id))
            assert (session.ended_at is None) == (known.ended_at is None) == (not known.task.done())
            assert session.processed_count + session.counts["pending"] == session.total_movies
        for session_id in self.gone:
            with pytest.raises(main.SessionNotFound):
                self.wait(self.store.get(session_id))


class LongStoreMachine(StoreMachine):
    pass


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestStoreForLong = pytest.mark.long(LongStoreMachine.TestCase)
TestStoreForLong.settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
