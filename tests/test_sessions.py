from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import main
from tests.conftest import Clock, export
from tests.fake_tmdb import V3_KEY, FakeTMDB, status

FILMS = """2024-01-02,Inception,2010,https://boxd.it/1skk
2024-01-02,Parasite,2019,https://boxd.it/hTha
2024-01-02,Our Summer on Super 8,2019,"""
HOUR = 3600.0


def store(clock: Clock, max_sessions: int = 2) -> main.SessionStore:
    return main.SessionStore(HOUR, max_sessions, 10**9, clock)


def client(tmdb: FakeTMDB, clock: Clock, key: str = V3_KEY) -> main.TMDBClient:
    given = {"tmdb_api_key": key, "tmdb_base_url": tmdb.url, "tmdb_connections": 4}
    return main.TMDBClient(main.Settings.model_validate(given), clock, clock.sleep)


# --- The store


def test_session_is_forgotten_an_hour_after_its_work_ended(clock: Clock) -> None:
    sessions = store(clock)
    session = sessions.create(export(watched=FILMS))
    clock.now += 10 * HOUR
    assert sessions.get(session.session_id) is session

    session.ended_at = clock.now
    clock.now += HOUR - 0.5
    assert sessions.get(session.session_id) is session
    clock.now += 0.5

    with pytest.raises(main.SessionNotFound):
        sessions.get(session.session_id)


def test_full_store_says_when_to_come_back(clock: Clock) -> None:
    sessions = store(clock, max_sessions=1)
    sessions.create(export(watched=FILMS)).ended_at = clock.now
    clock.now += 1000

    with pytest.raises(main.StoreFull) as full:
        sessions.create(export(watched=FILMS))

    assert full.value.headers == {"Retry-After": "2600"}


def test_ids_are_distinct_and_long(clock: Clock) -> None:
    ids = {main.Session(export(watched=FILMS), HOUR, clock).session_id for _ in range(200)}

    assert len(ids) == 200
    assert min(map(len, ids)) >= 22


async def test_deleted_session_is_stopped_and_freed(clock: Clock) -> None:
    sessions = store(clock)
    session = sessions.create(export(watched=FILMS))
    task = session.task = asyncio.create_task(asyncio.sleep(60))
    freed = weakref.ref(session)

    await sessions.delete(session.session_id)
    del session
    gc.collect()

    assert task.cancelled()
    assert freed() is None
    assert len(sessions) == 0


def test_progress_adds_up_at_every_moment(clock: Clock) -> None:
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

    assert session.progress_percent == 100


def test_time_left_after_a_retry_is_told_at_the_pace_of_the_retry(clock: Clock) -> None:
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


def test_retried_session_lives_an_hour_from_the_end_of_the_retry(clock: Clock) -> None:
    sessions = store(clock)
    session = sessions.create(export(watched=FILMS))
    session.end("completed", None)
    clock.now += HOUR - 1
    session.begin()
    clock.now += 10 * HOUR
    assert sessions.get(session.session_id) is session

    session.end("completed", None)
    clock.now += HOUR - 1
    assert sessions.get(session.session_id) is session
    clock.now += 1

    with pytest.raises(main.SessionNotFound):
        sessions.get(session.session_id)


def test_every_change_that_followers_hear_of_has_a_revision(clock: Clock) -> None:
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


def test_followers_are_told_four_times_a_second_at_most_and_all_at_once() -> None:
    moments = [random.Random(1).uniform(0, 1e6) for _ in range(1000)]

    for followers in (1, 2, 4, 10, 200):
        waits = [main.next_tick(now, followers) - now for now in moments]
        assert min(waits) >= 0.25
        assert max(waits) <= max(0.3, followers / 15) + 0.25
        ticks = {round(main.next_tick(now, followers), 6) for now in range(1_000_000, 1_000_600)}
        assert followers * len(ticks) <= max(15, followers / 0.3) * 600 * 1.01


async def test_closing_stops_every_session_though_one_has_expired(clock: Clock) -> None:
    async with store(clock) as sessions:
        sessions.create(export(watched=FILMS)).end("completed", None)
        running = sessions.create(export(watched=FILMS))
        running.begin()
        task = running.task = asyncio.create_task(asyncio.sleep(60))
        clock.now += 2 * HOUR

    assert task.cancelled()


async def test_session_stopped_before_its_first_step_has_ended_too(tmdb: FakeTMDB, clock: Clock) -> None:
    session = main.Session(export(watched=FILMS), HOUR, clock)
    session.task = asyncio.create_task(main.enrich_session_async(session, client(tmdb, clock)))

    await session.stop()

    assert (session.status, session.error_message) == ("failed", "The work was stopped.")
    assert [None async for _ in session.changes()] == [None]


class Gated(main.TMDBClient):
    """Finds no film, as soon as its gate is open."""

    def __init__(self) -> None:
        super().__init__(main.Settings.model_validate({"tmdb_api_key": V3_KEY, "tmdb_connections": 2}))
        self.open: dict[str, asyncio.Event] = {}

    async def find(self, film: main.Film) -> main.Match:
        await self.open.setdefault(film.title, asyncio.Event()).wait()
        return main.Match("not_found", "")


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
        self.loop.run_until_complete(self.close())
        assert all(task.done() for task in tasks)
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        gc.unfreeze()

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
                self.store.create(made)
            assert 0 <= int((full.value.headers or {})["Retry-After"]) <= HOUR
        else:
            self.loop.run_until_complete(self.start(self.store.create(made)))

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
            self.loop.run_until_complete(asyncio.wait_for(known.task, 1))
            known.ended_at = self.clock.now

    @rule(number=st.integers(0, 2))
    def retry(self, number: int) -> None:
        if known := self.pick(number):
            session = self.store.get(known.session_id)
            if known.ended_at is None:
                with pytest.raises(main.SessionBusy):
                    main.retry(session, self.tmdb)
            else:
                self.tmdb.open[known.title].clear()
                self.loop.run_until_complete(self.again(session))
                known.task, known.ended_at = session.task or known.task, None

    async def again(self, session: main.Session) -> None:
        main.retry(session, self.tmdb)

    @rule(number=st.integers(0, 2))
    def delete(self, number: int) -> None:
        if known := self.pick(number):
            self.loop.run_until_complete(asyncio.wait_for(self.store.delete(known.session_id), 1))
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
            session = self.store.get(known.session_id)
            assert (session.ended_at is None) == (known.ended_at is None) == (not known.task.done())
            assert session.processed_count + session.counts["pending"] == session.total_movies
        for session_id in self.gone:
            with pytest.raises(main.SessionNotFound):
                self.store.get(session_id)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# --- The task


async def enriched(tmdb: FakeTMDB, clock: Clock, key: str = V3_KEY, rows: str = FILMS) -> main.Session:
    session = main.Session(export(watched=rows), HOUR, clock)
    async with client(tmdb, clock, key) as asked:
        await main.enrich_session_async(session, asked)
    return session


async def test_every_film_ends_with_an_outcome(tmdb: FakeTMDB, clock: Clock) -> None:
    session = await enriched(tmdb, clock)

    assert session.status == "completed"
    assert (session.enriched_count, session.not_found_count, session.failed_count) == (2, 1, 0)
    assert session.ended_at is not None


async def test_one_films_failure_is_its_own(tmdb: FakeTMDB, clock: Clock) -> None:
    tmdb.faults.append(status(422))

    session = await enriched(tmdb, clock)

    assert session.status == "completed"
    assert (session.enriched_count, session.failed_count) == (1, 1)
    failed = next(film.match for film in session.export.films if film.match.status == "failed")
    assert "status 422" in failed.reason


async def test_rejected_key_ends_the_session_with_few_requests(tmdb: FakeTMDB, clock: Clock) -> None:
    rows = "\n".join(f"2024-01-02,Film {n},2010," for n in range(50))

    session = await enriched(tmdb, clock, "f" * 32, rows)

    assert session.status == "failed"
    assert "TMDB_API_KEY" in (session.error_message or "")
    assert tmdb.calls() <= 4


async def test_without_a_key_the_export_alone_is_completed(tmdb: FakeTMDB, clock: Clock) -> None:
    session = await enriched(tmdb, clock, "")

    assert session.status == "completed"
    assert session.failed_count == session.processed_count == 3
    assert session.error_message == "No TMDB_API_KEY is set, so no film was looked up."
    assert tmdb.calls() == 0


async def test_films_are_looked_up_in_their_order(tmdb: FakeTMDB, clock: Clock) -> None:
    rows = "\n".join(f"{2024 - n}-01-02,Film {n},2010," for n in range(20))

    session = await enriched(tmdb, clock, rows=rows)

    titles = [film.title for film in session.export.films]
    asked = dict.fromkeys(request.query["query"] for request in tmdb.requests)
    assert [query for query in asked if query in titles] == titles


@pytest.mark.long
async def test_busy_tmdb_loses_no_film_and_refuses_few(tmdb: FakeTMDB) -> None:
    # The limit is TMDB's and on TMDB's clock, so this one takes real seconds.
    tmdb.limit_per_second = 15
    films = "\n".join(f"2024-01-02,{b['title']},{b['release_date'][:4]}," for b in REAL_FILMS[:30])
    session = main.Session(export(watched=films.replace(", ", " ")), HOUR, Clock())
    given = {"tmdb_api_key": V3_KEY, "tmdb_base_url": tmdb.url}

    async with main.TMDBClient(main.Settings.model_validate(given)) as asked:
        await main.enrich_session_async(session, asked)

    assert session.failed_count == 0
    assert session.processed_count == session.total_movies
    assert sum(asked.status == 429 for asked in tmdb.requests) <= 0.1 * tmdb.calls()


async def test_log_tells_the_story_under_a_short_id(
    tmdb: FakeTMDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("letterboxd").setLevel(logging.DEBUG)
    tmdb.faults.append(status(500))

    session = await enriched(tmdb, clock)

    info = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    debug = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert info[0] == f"[{session.short_id}] looking up 3 films"
    assert info[-1].startswith(f"[{session.short_id}] completed after ")
    assert info[-1].endswith("2 exact, 1 not_found")
    assert any("status 500" in line and session.short_id in line for line in debug)
    assert session.session_id not in caplog.text
    assert "Inception" not in "".join(info)


REAL_FILMS = [
    {"title": title, "release_date": day}
    for title, day in [
        ("Inception", "2010"), ("Parasite", "2019"), ("Oldboy", "2003"), ("300", "2006"), ("1917", "2019"),
        ("Psycho", "1960"), ("Her", "2013"), ("Persona", "1966"), ("Amélie", "2001"), ("Nosferatu", "1922"),
        ("Finding Nemo", "2003"), ("Get Out", "2017"), ("Split", "2016"), ("Cars", "2006"),
        ("Toy Story", "1995"), ("Ratatouille", "2007"), ("Black Swan", "2010"), ("Iron Man 2", "2010"),
        ("Stalag 17", "1953"), ("Ex Machina", "2015"), ("Suspiria", "2018"), ("Burning", "2018"),
        ("The Thing", "1982"), ("The Shining", "1980"), ("Pulp Fiction", "1994"), ("Halloween", "1978"),
        ("V for Vendetta", "2005"), ("World War Z", "2013"), ("Reservoir Dogs", "1992"),
    ]
]  # fmt: skip
