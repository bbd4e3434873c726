"""Sessions in PostgreSQL: what outlives a process, what processes share, and what happens without any."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import main
from postgres.database import Database, DatabaseUnavailable
from postgres.sharing import SharedPace
from postgres.store import PostgresStore, open_store
from postgres.tables import CREATE, DELETE, PROGRESS, WRITE, metadata
from postgres.tables import FILMS as READ_FILMS
from tests import kills
from tests.bench import ratings
from tests.cluster import PASSWORD, Cluster
from tests.conftest import ROOT, SAMPLE_FILE, Api, Clock, Serve, export, files, process, settings_for, until
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port, made_up
from tests.test_matches import INCEPTION, INCEPTION_URL, PARASITE, followed, following, get

pytestmark = pytest.mark.long
MONTH = 30 * 86_400
T = TypeVar("T")
FILMS = f"{INCEPTION}\n{PARASITE}"
BEFORE = Path(__file__).with_name("stored_before_0003.sql")
SESSION_BEFORE = "z5J4Tc9-gSThNTPuqXjPYw"


@pytest.fixture
def stored_in(database_url: str) -> dict[str, str]:
    """Every service of these tests is another process of one service, as far as it can tell."""
    return {"database_url": database_url}


async def everything(api: Api, session_id: str) -> tuple[Any, Any]:
    """What a session says about its films."""
    return await api.movies(session_id), await get(api, f"/api/session/{session_id}/stats")


# --- Without a database


def test_nothing_of_it_is_imported_without_a_database() -> None:
    code = "import main, sys; print({'postgres', 'sqlalchemy', 'asyncpg', 'alembic'} & sys.modules.keys())"

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout == "set()\n"


async def started(tmdb: FakeTMDB, **environment: str) -> tuple[int | None, str]:
    """The status with which the service ends by itself, and what it prints."""
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "main:app", "--port", str(free_port())),
        cwd=ROOT, env={**os.environ, "TMDB_BASE_URL": tmdb.url, **environment}, stdout=-1, stderr=-2,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(service.communicate(), 30)
    return service.returncode, printed.decode()


async def test_start_with_a_database_that_is_not_there_is_one_sentence(
    tmdb: FakeTMDB, cluster: Cluster
) -> None:
    status, printed = await started(tmdb, DATABASE_URL=f"{cluster.url}_of_somebody_else")

    assert status == 3
    assert "There is no such database; create it, or check DATABASE_URL." in printed
    assert "Traceback" not in printed
    assert PASSWORD not in printed


def test_wrong_url_is_not_shown() -> None:
    with pytest.raises(SystemExit) as stopped:
        main.Settings.load({"DATABASE_URL": f"mysql://letterboxd:{PASSWORD}@localhost/letterboxd"})

    assert str(stopped.value).startswith("DATABASE_URL: must be a URL such as postgresql+asyncpg://")
    assert PASSWORD not in str(stopped.value)


def test_stored_sessions_are_kept_for_thirty_days(database_url: str) -> None:
    assert main.Settings.load({"DATABASE_URL": database_url}).session_ttl_seconds == MONTH
    given: dict[str, str | None] = {"DATABASE_URL": database_url, "SESSION_TTL_SECONDS": "60"}
    assert main.Settings.load(given).session_ttl_seconds == 60


# --- After a restart


async def test_ended_session_is_the_same_after_a_restart(serve: Serve) -> None:
    before = await serve()
    session_id = (await before.upload(SAMPLE_FILE))["session_id"]
    session, told = await before.ended(session_id), await everything(before, session_id)

    after = await serve()

    assert await after.ended(session_id) == session
    assert await everything(after, session_id) == told


async def test_second_upload_after_a_restart_makes_no_calls(serve: Serve, tmdb: FakeTMDB) -> None:
    before = await serve()
    await before.ended((await before.upload(SAMPLE_FILE))["session_id"])
    tmdb.requests.clear()

    after = await serve()
    session = await after.ended((await after.upload(SAMPLE_FILE))["session_id"])

    assert session["enriched_count"] == 156
    assert tmdb.calls() == 0


async def test_correction_is_its_sessions_alone(serve: Serve) -> None:
    api = await serve()
    ids = [(await api.upload(*files(watched=PARASITE)))["session_id"] for _ in range(2)]
    for session_id in ids:
        await api.ended(session_id)
    await api.put(f"/api/session/{ids[0]}/movies/1/match", json={"tmdb_url": INCEPTION_URL})

    later = (await api.upload(*files(watched=PARASITE)))["session_id"]
    await api.ended(later)

    titles = [(await api.movies(session_id))[0]["tmdb_title"] for session_id in (*ids, later)]
    assert titles == ["Inception", "Parasite", "Parasite"]


async def test_newer_export_keeps_choices_and_asks_for_new_films_alone(serve: Serve, tmdb: FakeTMDB) -> None:
    one, other = await serve(), await serve()
    session_id = (await one.upload(*files(watched=FILMS)))["session_id"]
    await one.ended(session_id)
    numbers = {movie["title"]: movie["movie_id"] for movie in await one.movies(session_id)}
    await one.put(
        f"/api/session/{session_id}/movies/{numbers['Parasite']}/match", json={"tmdb_url": INCEPTION_URL}
    )
    tmdb.requests.clear()

    newer = files(watched=f"2024-01-02,Dune,2021,\n{PARASITE}")
    answer = await other.post(f"/api/session/{session_id}/export", files=[("files", each) for each in newer])
    counts = {name: answer.json()[f"{name}_count"] for name in ("new", "changed", "gone")}

    assert counts == {"new": 1, "changed": 0, "gone": 1}
    for api in (one, other):
        assert (await api.ended(session_id))["processed_count"] == 2
        films = {movie["title"]: movie for movie in await api.movies(session_id)}
        assert films.keys() == {"Dune", "Parasite"}
        assert films["Parasite"]["tmdb_title"] == "Inception"
    assert all("Parasite" not in str(asked.query) for asked in tmdb.requests)
    film = f"/api/session/{session_id}/movies/{films['Parasite']['movie_id']}"
    assert (await one.post(f"{film}/match/undo")).json()["tmdb_title"] == "Parasite"


async def test_correction_can_be_undone_after_a_restart(serve: Serve) -> None:
    before = await serve()
    session_id = (await before.upload(*files(watched=PARASITE)))["session_id"]
    await before.ended(session_id)
    film = f"/api/session/{session_id}/movies/1"
    told = await get(before, film)
    await before.put(f"{film}/match", json={"tmdb_url": INCEPTION_URL})

    after = await serve()
    undone = await after.post(f"{film}/match/undo")

    assert undone.json() == told
    assert (await after.post(f"{film}/match/undo")).status_code == 409


# --- Several processes


async def test_followers_hear_of_what_another_process_does(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    working, other = await serve(), await serve()
    session_id = (await working.upload(SAMPLE_FILE))["session_id"]

    events = await followed(other, f"/api/session/{session_id}")

    assert len(events) > 3
    assert {name for name, _ in events[:-1]} == {"progress"}
    counts = [state["processed_count"] for _, state in events]
    assert counts == sorted(counts)
    assert events[-1][1]["status"] == "completed"
    assert await other.ended(session_id) == await working.ended(session_id)


async def test_correction_in_another_process_beats_a_later_outcome(serve: Serve, tmdb: FakeTMDB) -> None:
    working, other = await serve(tmdb_connections=1), await serve()
    await other.ended((await other.upload(*files(watched=INCEPTION)))["session_id"])
    tmdb.latency_seconds = 0.4  # so much longer than the correction takes
    session_id = (await working.upload(*files(watched=PARASITE)))["session_id"]
    film = f"/api/session/{session_id}/movies/1"

    corrected = await other.put(f"{film}/match", json={"tmdb_url": INCEPTION_URL})
    pending = (await get(working, f"/api/session/{session_id}"))["status"]
    await working.ended(session_id)

    assert (corrected.status_code, pending) == (200, "enriching")
    for api in (working, other):
        assert (await get(api, film))["match"]["status"] == "corrected"


async def test_choice_is_seen_at_once_in_every_process(serve: Serve) -> None:
    services = [await serve() for _ in range(3)]
    session_id = (await services[0].upload(*files(watched=FILMS)))["session_id"]
    await services[0].ended(session_id)
    film = f"/api/session/{session_id}/movies/1"

    for number in range(9):
        chosen = INCEPTION_URL if number % 2 else INCEPTION_URL.replace("27205", "496243")
        await services[number % 3].put(f"{film}/match", json={"tmdb_url": chosen})
        seen = [(await get(api, film))["tmdb_id"] for api in services]
        assert seen == [27205 if number % 2 else 496243] * 3


async def test_undone_choice_in_another_process_is_looked_up(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.2
    working, other = await serve(tmdb_connections=1), await serve()
    session_id = (await working.upload(*files(watched=FILMS)))["session_id"]
    film = f"/api/session/{session_id}/movies/2"
    await other.delete(f"{film}/match")

    await other.post(f"{film}/match/undo")
    session = await working.ended(session_id)

    assert session["enriched_count"] == 2
    assert await other.ended(session_id) == session


async def test_deleted_session_is_gone_in_every_process(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.2
    working, other = await serve(), await serve()
    session_id = (await working.upload(SAMPLE_FILE))["session_id"]
    session = f"/api/session/{session_id}"
    await get(other, session)

    async with following(working, session) as events:
        await anext(events)
        assert (await other.delete(session)).status_code == 204
        rest = [event async for event in events]

    assert rest[-1][0] == "end"
    for api in (working, other):
        assert (await api.get(session)).status_code == 404
        assert (await api.delete(session)).status_code == 404
    asked = tmdb.calls()
    await asyncio.sleep(0.5)
    assert tmdb.calls() <= asked + 20  # those on their way
    assert (await get(working, "/health"))["sessions"] == 0


async def test_two_retries_at_once_are_one(serve: Serve, tmdb: FakeTMDB) -> None:
    services = [await serve(), await serve()]
    tmdb.knows([])
    session_id = (await services[0].upload(*files(watched=FILMS)))["session_id"]
    await services[0].ended(session_id)
    tmdb.requests.clear()

    answers = await asyncio.gather(*(api.post(f"/api/session/{session_id}/retry") for api in services))
    ended = [await api.ended(session_id) for api in services]

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert [session["status"] for session in ended] == ["completed"] * 2
    assert [session["not_found_count"] for session in ended] == [2, 2]


async def test_memory_holds_what_was_used_last(serve: Serve) -> None:
    api = await serve(max_sessions=2)
    ids = []
    for _ in range(4):
        ids.append((await api.upload(*files(watched=FILMS)))["session_id"])
        await api.ended(ids[-1])

    told = [await everything(api, session_id) for session_id in ids]

    assert all(movies == told[0][0] for movies, _ in told)
    assert (await get(api, "/health"))["sessions"] == 2


async def test_requests_are_as_many_as_one_process_may_send(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.knows(made_up(120))
    services = [await serve(tmdb_requests_per_second=100) for _ in range(3)]
    uploads = [
        await api.upload(("ratings.csv", ratings(40, 40 * number))) for number, api in enumerate(services)
    ]

    for api, upload in zip(services, uploads, strict=True):
        assert (await api.ended(upload["session_id"]))["enriched_count"] == 40

    assert tmdb.calls() == 240
    assert tmdb.most_in_a_second() <= 100 * 1.1


async def test_refusal_slows_every_process(serve: Serve, tmdb: FakeTMDB, database_url: str) -> None:
    await serve()
    database = Database(database_url)
    one, other = (SharedPace(40, database) for _ in range(2))
    for pace in (one, other):
        await slot(pace)

    one.refused(one.sent(), 30)
    await until(lambda: one._taking is None)
    other.take()
    await until(lambda: other._taking is None)

    assert other.waiting_for() == "TMDB refused requests (status 429); trying again in 30 s"
    await database.close()


async def test_cut_rate_is_that_of_every_process(serve: Serve, database_url: str) -> None:
    await serve()
    database = Database(database_url)
    one, other = (SharedPace(40, database) for _ in range(2))
    await slot(one)

    for _ in range(main.REFUSED_OF_SAMPLE):
        one.refused(one.clock())
    for pace in (one, other):
        await taken(pace)
        pace.take()
        await taken(pace)

    assert other.rate(other.clock()) < 0.9 * 40
    await database.close()


async def taken(pace: SharedPace) -> None:
    await until(lambda: pace._taking is None)


async def slot(pace: SharedPace) -> None:
    pace.next_at(urgent=False)
    await until(lambda: pace._slots)


# --- Clocks


@asynccontextmanager
async def opened(tmdb: FakeTMDB, clock: Clock, **settings: Any) -> AsyncIterator[PostgresStore]:
    """The store, at the clock's time."""
    given = settings_for(tmdb, tmdb_requests_per_second=10_000, **settings)
    async with main.TMDBClient(given) as client:
        matcher = main.Matcher(client, keeps_corrections=False)
        async with open_store(given, matcher, clock) as store:
            yield store


@asynccontextmanager
async def two(
    tmdb: FakeTMDB, clock: Clock, database_url: str
) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """The stores of two processes."""
    async with (
        opened(tmdb, clock, database_url=database_url) as one,
        opened(tmdb, clock, database_url=database_url) as other,
    ):
        yield one, other


def meanwhile(
    store: PostgresStore, statement: Any, act: Callable[[], Awaitable[object]], is_before: bool = False
) -> None:
    """Something happens while the answer of this statement is on its way, or just before it is sent."""
    run = store.database.run

    async def run_meanwhile(sent: Any, *seconds: float, **values: Any) -> Any:
        if sent is statement and is_before:
            await act()
        answer = await run(sent, *seconds, **values)
        if sent is statement and not is_before:
            await act()
        return answer

    store.database.run = run_meanwhile  # type: ignore[assignment, method-assign]


# --- Both stores, side by side

TITLES = st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=3, unique=True)
NUMBERS, PROCESSES, FILM = st.integers(0, 9), st.integers(0, 1), st.integers(1, 4)
DAY = 86_400


def a_movie(tmdb_id: int, tmdb: main.TMDBClient) -> main.Movie:
    """As if TMDB had been asked for it."""
    body = main.MovieBody.model_validate(made_up(1)[0] | {"id": tmdb_id, "title": f"Movie {tmdb_id}"})
    kept = body.model_dump_json(exclude_defaults=True)
    if tmdb.answers:
        tmdb.answers.put(f"movie/{tmdb_id}?", tmdb.version(main.MovieBody), kept, 150)
    return main.movie_of("movie", body, tmdb.names)


class Gated(main.Matcher):
    """Finds every film but E. The last film of each upload waits at its gate."""

    def __init__(self, settings: main.Settings, gates: dict[str, asyncio.Event]) -> None:
        super().__init__(main.TMDBClient(settings), keeps_corrections=False)
        self.gates = gates

    async def _find(self, film: main.Film) -> main.Match:
        if film.title in self.gates:
            await self.gates[film.title].wait()
        if film.title == "E":
            return main.Match("not_found", "Nothing.", None, ())
        return main.Match("exact", "It is the only one.", a_movie(ord(film.title[0]), self.tmdb), None)


class Stores(RuleBasedStateMachine):
    """What happens to sessions in memory, and to the same ones in two processes that share a database."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        cluster.empty()
        self.cluster = cluster
        self.settings = main.Settings.model_validate({"tmdb_api_key": V3_KEY, "database_url": cluster.url})
        self.loop, self.clock, self.made = asyncio.new_event_loop(), Clock(), 0
        self.gates: dict[str, asyncio.Event] = {}
        self.pairs: list[tuple[str, str, str]] = []  # the ids in both stores, and the title that waits
        self.memory = main.SessionStore(MONTH, 50, 10**9, self.clock)
        self.matcher = Gated(self.settings, self.gates)
        self.opened = [self.wait(self.open()) for _ in range(2)]
        self.third = self.wait(self.open())  # which is only asked for progress

    def wait(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(call)

    async def open(self) -> tuple[AbstractAsyncContextManager[PostgresStore], PostgresStore]:
        matcher = Gated(self.settings, self.gates)
        context = open_store(self.settings, matcher, self.clock)
        return context, await context.__aenter__()

    def teardown(self) -> None:
        for context, _ in (*self.opened, self.third):
            self.wait(context.__aexit__(None, None, None))
        self.wait(self.close())
        self.loop.close()

    async def close(self) -> None:
        async with self.memory:
            pass

    async def both(self, number: int, process: int) -> list[tuple[main.Session, main.Matcher]]:
        in_memory, stored, _ = self.pairs[number % len(self.pairs)]
        store = self.opened[process][1]
        return [
            (await self.memory.get(in_memory), self.matcher),
            (await store.get(stored), store.matcher),
        ]

    async def changed(
        self, number: int, process: int, change: Callable[[main.Session, main.Matcher], Awaitable[None]]
    ) -> None:
        """Both refuse the change, or none does."""
        refused = []
        for session, matcher in await self.both(number, process):
            try:
                await change(session, matcher)
            except main.ServiceError as error:
                refused.append(str(error))
        assert len(set(refused)) <= 1
        assert len(refused) in (0, 2)

    @rule(titles=TITLES, process=PROCESSES)
    def create(self, titles: list[str], process: int) -> None:
        self.made += 1
        gate = f"Z{self.made}"
        self.gates[gate] = asyncio.Event()
        self.wait(self.start([*titles, gate], process))

    async def start(self, titles: list[str], process: int) -> None:
        ids = []
        stored = self.opened[process][1]
        for store, matcher in ((self.memory, self.matcher), (stored, stored.matcher)):
            films = [main.Film(title, 2000, movie_id=n) for n, title in enumerate(titles, 1)]
            session = await store.create(main.Export(films, {"watched.csv": len(films)}, ["Odd."]))
            main.start_enrichment(session, matcher)
            ids.append(session.session_id)
        self.pairs.append((ids[0], ids[1], titles[-1]))

    @precondition(lambda self: self.pairs)
    @rule(number=NUMBERS, process=PROCESSES, film=FILM, tmdb_id=st.one_of(st.none(), st.integers(1, 3)))
    def correct(self, number: int, process: int, film: int, tmdb_id: int | None) -> None:
        """But not the film at the gate, whose lookup would go on in memory and end with a restart."""
        if self.both_gated(number, film):
            return

        async def change(session: main.Session, matcher: main.Matcher) -> None:
            movie = tmdb_id and a_movie(tmdb_id, matcher.tmdb)
            await main.apply_correction(session, session.film(film), movie or None, matcher)

        self.wait(self.changed(number, process, change))

    def both_gated(self, number: int, film: int) -> bool:
        (session, _), _ = self.wait(self.both(number, 0))
        return session.total_movies == film and not self.gates[session.film(film).title].is_set()

    @precondition(lambda self: self.pairs)
    @rule(number=NUMBERS, process=PROCESSES, film=FILM)
    def undo(self, number: int, process: int, film: int) -> None:
        async def change(session: main.Session, matcher: main.Matcher) -> None:
            await main.undo_correction(session, session.film(film), matcher)

        self.wait(self.changed(number, process, change))

    @precondition(lambda self: self.pairs)
    @rule(number=NUMBERS)
    def finish(self, number: int) -> None:
        self.gates[self.pairs[number % len(self.pairs)][2]].set()

    @precondition(lambda self: self.pairs)
    @rule(number=NUMBERS, process=PROCESSES)
    def retry(self, number: int, process: int) -> None:
        self.wait(self.changed(number, process, main.retry_films))

    @precondition(lambda self: self.pairs)
    @rule(number=NUMBERS, process=PROCESSES)
    def delete(self, number: int, process: int) -> None:
        in_memory, stored, _ = self.pairs.pop(number % len(self.pairs))
        self.wait(self.memory.delete(in_memory))
        self.wait(self.opened[process][1].delete(stored))

    @rule(seconds=st.sampled_from([1, DAY, 29 * DAY, 31 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds
        self.cluster.ask(f"UPDATE sessions SET ended_at = ended_at - interval '{seconds} s'")
        self.wait(self.forget_expired())

    async def forget_expired(self) -> None:
        for pair in list(self.pairs):
            try:
                await self.memory.get(pair[0])
            except main.SessionNotFound:
                for _, store in self.opened:
                    with pytest.raises(main.SessionNotFound):
                        await store.get(pair[1])
                self.pairs.remove(pair)

    @rule(process=PROCESSES)
    def restart(self, process: int) -> None:
        self.wait(self.opened[process][0].__aexit__(None, None, None))
        self.opened[process] = self.wait(self.open())
        self.wait(self.opened[process][1].claim())

    @invariant()
    def all_say_the_same(self) -> None:
        for number in range(len(self.pairs)):
            for each in range(2):
                self.wait(self.settled(number, each))
                (one, _), (other, _) = self.wait(self.both(number, each))
                assert told(one) == told(other)
                assert main.movies_json(one.export.films, ALL) == main.movies_json(other.export.films, ALL)

            # One of the two does not look the films up, so what it knows is in the tables.
            assert told(one) == told(self.wait(self.third[1].progress(self.pairs[number][1])))

    async def settled(self, number: int, process: int) -> None:
        """Once only the film at the gate is pending, or the work has ended."""
        is_open = self.gates[self.pairs[number][2]].is_set()
        async with asyncio.timeout(10):
            while not all(is_settled(session, is_open) for session, _ in await self.both(number, process)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


ALL = main.MovieQuery.model_validate({"limit": 1_000})
UNLIKE = {"session_id", "created_at", "expires_at", "revision", "eta_seconds"}


def told(session: main.Session) -> dict[str, Any]:
    return main.SessionDetail.model_validate(session).model_dump(exclude=UNLIKE)


def is_settled(session: main.Session, is_open: bool) -> bool:
    waiting = session.counts["pending"] == 1 and session.export.films[-1].match is main.PENDING
    return session.ended_at is not None or (waiting and not is_open)


def test_both_stores_give_the_same_answers(cluster: Cluster) -> None:
    run_state_machine_as_test(
        partial(Stores, cluster),  # type: ignore[arg-type]  # any factory will do
        settings=settings(max_examples=25, stateful_step_count=20, deadline=None),
    )


async def ended(store: PostgresStore, session: main.Session) -> main.Session:
    main.start_enrichment(session, store.matcher)
    await until(lambda: session.ended_at is not None)
    return session


async def test_changes_through_two_processes_count_once_each(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        session_id = (await one.create(export(watched=FILMS))).session_id

        async def change(store: PostgresStore, movie_id: int) -> None:
            for number in range(1, 26):
                session = await store.get(session_id)
                await session.choose(session.film(movie_id), main.Match("not_found", f"Try {number}."))

        await asyncio.gather(change(one, 1), change(other, 2))

        assert cluster.ask("SELECT revision FROM sessions").strip() == "50"
        for store in (one, other):
            session = await store.get(session_id)
            assert [film.match.reason for film in session.export.films] == ["Try 25."] * 2
            assert (await store.progress(session_id)).revision == 50


async def test_poll_elsewhere_is_one_query(
    tmdb: FakeTMDB, clock: Clock, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        session = await ended(one, await one.create(export(watched=FILMS)))
        await one.write()
        asked: list[str] = []
        run = other.database.run

        async def noted(statement: Any, **values: Any) -> Any:
            asked.append(str(statement))
            return await run(statement, **values)

        monkeypatch.setattr(other.database, "run", noted)
        progress = await other.progress(session.session_id)

        assert asked == [str(PROGRESS)]
        assert len(other) == 0  # nothing is kept
        unlike = {"expires_at", "eta_seconds", "revision"}
        views = (
            main.SessionDetail.model_validate(each).model_dump(exclude=unlike) for each in (session, progress)
        )
        assert next(views) == next(views)


# --- What happens meanwhile


async def without_jobs(store: PostgresStore) -> PostgresStore:
    """It writes and claims only when told to."""
    for job in store._jobs:
        job.cancel()
    await asyncio.gather(*store._jobs, return_exceptions=True)
    return store


async def chosen(store: PostgresStore, session: main.Session, movie_id: int, tmdb_id: int) -> None:
    movie = a_movie(tmdb_id, store.matcher.tmdb)
    await main.apply_correction(session, session.film(movie_id), movie, store.matcher)


async def test_undo_while_the_end_is_written_is_looked_up(
    tmdb: FakeTMDB, clock: Clock, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        session = await one.create(export(watched=FILMS))
        await chosen(one, session, 2, 5)

        async def undo() -> None:
            elsewhere = await other.get(session.session_id)
            if elsewhere.film(2).match.by_hand and not elsewhere.counts["pending"]:
                await main.undo_correction(elsewhere, elsewhere.film(2), other.matcher)

        meanwhile(one, WRITE, undo)
        main.start_enrichment(session, one.matcher)
        await until(lambda: session.film(2).match.status == "exact")
        await until(lambda: session.ended_at is not None)

        assert session.counts["exact"] == 2


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_choice_survives_the_loss_of_a_lease(
    is_elsewhere: bool, tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    tmdb.latency_seconds = 10
    async with two(tmdb, clock, database_url) as (one, other):
        session = await (await without_jobs(one)).create(export(watched=FILMS))
        main.start_enrichment(session, one.matcher)
        cluster.ask("UPDATE sessions SET lease_owner = 'other', lease_until = now() + '1 hour'")
        store = other if is_elsewhere else one
        await chosen(store, await store.get(session.session_id), 1, 5)

        clock.now += 2
        await one.write()

        assert session.task is None
        assert session.film(1).match.status == "corrected"
        assert cluster.ask("SELECT status FROM films WHERE movie_id = 1").strip() == "corrected"


async def test_process_that_stood_still_does_not_reopen_a_session(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        tmdb.latency_seconds = 10
        session = await (await without_jobs(one)).create(export(watched=FILMS))
        main.start_enrichment(session, one.matcher)
        await asyncio.sleep(0.1)  # its requests hang now
        cluster.ask("UPDATE sessions SET lease_until = now() - interval '1 second'")
        tmdb.latency_seconds = 0
        clock.now += 10
        await ended(other, await other.get(session.session_id))

        await one.write()

        assert cluster.ask("SELECT status FROM sessions").strip() == "completed"
        assert session.task is None
        assert (await one.get(session.session_id)).status == "completed"


async def test_overtaken_read_does_not_replace_a_newer_match(
    tmdb: FakeTMDB, clock: Clock, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        session = await one.create(export(watched=FILMS))
        held = await other.get(session.session_id)
        waits = [0.2, 0.0]

        async def wait() -> None:
            await asyncio.sleep(waits.pop(0))

        meanwhile(other, READ_FILMS, wait)
        await chosen(one, session, 1, 5)
        overtaken = asyncio.create_task(other.get(session.session_id))
        await asyncio.sleep(0.05)
        await chosen(one, session, 1, 6)
        await asyncio.gather(other.get(session.session_id), overtaken)

        movie = held.film(1).match.movie
        assert movie is not None
        assert movie.tmdb_id == 6


async def test_session_deleted_while_it_is_read_is_not_found(
    tmdb: FakeTMDB, clock: Clock, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        session = await one.create(export(watched=FILMS))
        meanwhile(other, READ_FILMS, lambda: one.delete(session.session_id), is_before=True)

        with pytest.raises(main.SessionNotFound):
            await other.get(session.session_id)


async def test_processes_write_records_in_one_order(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with two(tmdb, clock, database_url) as (one, other):
        for _ in range(5):
            for store, numbers in ((one, range(1, 300)), (other, range(299, 0, -1))):
                for number in numbers:
                    a_movie(number, store.matcher.tmdb)
            await asyncio.gather(one.write(), other.write())

    assert cluster.ask("SELECT sum(deadlocks) FROM pg_stat_database").strip() == "0"


async def test_what_the_database_refuses_harms_no_other_session(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        cluster.ask("ALTER TABLE films ADD CHECK (movie <> 'movie/27205')")
        session = await store.create(export(watched=FILMS))
        other = await store.create(export(watched=PARASITE))
        for each in (session, other):
            main.start_enrichment(each, store.matcher)
        async with asyncio.timeout(10):
            while (await store.progress(session.session_id)).status != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await until(lambda: other.ended_at is not None)

        refused = await store.progress(session.session_id)
        assert refused.error_message == "The database refused what was found."
        assert (refused.processed_count, other.counts["exact"]) == (2, 1)


async def test_record_that_the_database_refuses_costs_its_film_alone(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        cluster.ask("ALTER TABLE records ADD CHECK (body::text NOT LIKE '%Inception%')")
        session = await ended(store, await store.create(export(watched=FILMS)))

        assert session.counts["exact"] == 2
        assert cluster.ask("SELECT count(*) FROM records WHERE path = 'movie/496243'").strip() == "1"


async def test_odd_body_from_tmdb_is_stored(serve: Serve, tmdb: FakeTMDB) -> None:
    saga = {"belongs_to_collection": {"id": 3_000_000_000, "name": "Saga"}, "original_language": "\0en\ud800"}
    tmdb.knows([body | saga for body in made_up(2)])
    api = await serve()
    session_id = (await api.upload(("ratings.csv", ratings(2))))["session_id"]

    assert (await api.ended(session_id))["enriched_count"] == 2
    assert await everything(await serve(), session_id) == await everything(api, session_id)


async def test_process_holds_no_more_sessions_than_it_may(
    tmdb: FakeTMDB, clock: Clock, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        ids = [
            (await ended(store, await store.create(export(watched=PARASITE)))).session_id for _ in range(6)
        ]

    async with opened(tmdb, clock, database_url=database_url, max_sessions=2) as store:
        await asyncio.gather(*(store.get(session_id) for session_id in ids))

        assert len(store) == 2


async def test_database_of_another_encoding_is_refused(tmdb: FakeTMDB, cluster: Cluster) -> None:
    cluster.ask("DROP DATABASE IF EXISTS latin")
    cluster.ask("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")

    status, printed = await started(tmdb, DATABASE_URL=cluster.url.replace("/postgres", "/latin"))

    assert status == 3
    assert "The database must have the encoding UTF8." in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("option", ["?sslmode=require", "?ssl=bogus"])
async def test_wrong_option_is_a_sentence(option: str, tmdb: FakeTMDB, cluster: Cluster) -> None:
    status, printed = await started(tmdb, DATABASE_URL=f"{cluster.url}{option}")

    assert status == 3
    assert "The database cannot be" in printed
    assert "Traceback" not in printed
    assert PASSWORD not in printed


async def test_session_is_gone_after_thirty_days_and_a_second(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        session = await ended(store, await store.create(export(watched=FILMS)))
        cluster.ask("UPDATE sessions SET ended_at = ended_at - interval '30 days' + interval '1 minute'")
        assert await store.get(session.session_id) is session

        cluster.ask("UPDATE sessions SET ended_at = ended_at - interval '1 minute'")

        with pytest.raises(main.SessionNotFound):
            await store.get(session.session_id)
        assert len(store) == 0
        await store.clean_up()
    assert cluster.ask("SELECT count(*) FROM sessions, films").strip() == "0"


async def test_records_are_deleted_after_six_months(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        await ended(store, await store.create(export(watched=FILMS)))
        assert int(cluster.ask("SELECT count(*) FROM records")) > 0
        cluster.ask("UPDATE records SET fetched_at = fetched_at - interval '183 days'")
        await store.clean_up()
    assert int(cluster.ask("SELECT count(*) FROM records")) == 0


# --- Upgrades


async def test_migrations_make_the_tables_of_the_metadata(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url):
        pass
    engine = create_async_engine(cluster.url)

    async with engine.connect() as connection:
        unlike = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await engine.dispose()

    assert unlike == []


async def test_sessions_of_the_version_before_are_there(
    serve: Serve, tmdb: FakeTMDB, cluster: Cluster
) -> None:
    """Its database was dumped, with six films, one of them corrected; two records are renewed at a time."""
    cluster.ask(BEFORE.read_text("utf-8"))
    cluster.ask("UPDATE sessions SET ended_at = now()")
    tmdb.latency_seconds = 0.5
    api = await serve()

    films = {movie["title"]: movie for movie in await api.movies(SESSION_BEFORE)}
    stats = await get(api, f"/api/session/{SESSION_BEFORE}/stats")

    assert {title: movie["match"]["status"] for title, movie in films.items()} == {
        "Inception": "exact",
        "Parasite": "corrected",
        "Chernobyl": "exact",
        "Three Colours: Blue": "guessed",
        "Three Colours: Red": "guessed",
        "Nowhere at all": "not_found",
    }
    assert films["Parasite"]["tmdb_title"] == "Inception"
    assert films["Inception"]["directors"] == ["Christopher Nolan"]
    assert films["Inception"]["runtime"] == 148
    assert films["Chernobyl"]["tmdb_type"] == "tv"
    assert films["Chernobyl"]["match"]["reason"]
    assert stats["totals"]["films"] == 5  # two of them have one record
    undo = f"/api/session/{SESSION_BEFORE}/movies/{films['Parasite']['movie_id']}/match/undo"
    assert (await api.post(undo)).json()["tmdb_title"] == "Parasite"


async def test_field_that_a_record_lacks_comes_when_it_is_read(serve: Serve, cluster: Cluster) -> None:
    before = await serve()
    session_id = (await before.upload(*files(watched=FILMS)))["session_id"]
    await before.ended(session_id)
    whole = await before.movies(session_id)
    cluster.ask(
        "UPDATE records SET version = 'earlier', body = (body::jsonb - 'genres')::json"
        " WHERE path LIKE 'movie/%'"
    )

    after = await serve()
    first = await after.movies(session_id)
    async with asyncio.timeout(10):
        while (now := await after.movies(session_id)) != whole:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    assert [movie["genres"] for movie in first] == [[], []]
    assert [movie["tmdb_title"] for movie in first] == [movie["tmdb_title"] for movie in whole]
    assert now == whole
    assert "earlier" not in cluster.ask("SELECT version FROM records WHERE path LIKE 'movie/%'")


async def test_record_that_is_gone_comes_back(serve: Serve, cluster: Cluster) -> None:
    before = await serve()
    session_id = (await before.upload(*files(watched=FILMS)))["session_id"]
    await before.ended(session_id)
    whole = await before.movies(session_id)
    cluster.ask("DELETE FROM records")

    after = await serve()
    first = await after.movies(session_id)
    async with asyncio.timeout(10):
        while await after.movies(session_id) != whole:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    assert [movie["tmdb_enriched"] for movie in first] == [False, False]


async def test_database_of_a_newer_version_is_a_sentence(
    tmdb: FakeTMDB, cluster: Cluster, serve: Serve
) -> None:
    running = await serve()
    session_id = (await running.upload(*files(watched=FILMS)))["session_id"]
    cluster.ask(
        "UPDATE alembic_version SET version_num = '9999'; ALTER TABLE sessions RENAME revision TO new"
    )

    status, printed = await started(tmdb, DATABASE_URL=cluster.url)
    answer = await running.get(f"/api/session/{session_id}")

    assert status == 3
    assert "A newer version of this service has migrated the database; update this one." in printed
    assert "Traceback" not in printed
    assert answer.status_code == 503
    assert "migrated by another version" in answer.json()["detail"]


# --- What goes wrong


async def test_start_without_the_database_serves_503_until_it_is_there(
    serve: Serve, cluster: Cluster, database_url: str
) -> None:
    cluster.stop()
    try:
        api = await serve()
        away = await api.get("/api/session/any")
        health = await api.get("/health")
    finally:
        cluster.start()

    assert (away.status_code, health.status_code) == (503, 200)
    assert away.json()["detail"] == "The database cannot be reached; try again in 5 s."
    async with asyncio.timeout(10):
        while (await api.get("/api/session/any")).status_code != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    session_id = (await api.upload(*files(watched=FILMS)))["session_id"]
    assert (await api.ended(session_id))["enriched_count"] == 2


async def test_wrong_password_is_its_own_sentence(tmdb: FakeTMDB, cluster: Cluster) -> None:
    url = cluster.url.replace("letterboxd:", "nobody:")

    status, printed = await started(tmdb, DATABASE_URL=url)

    assert status == 3
    assert "The database refuses the user or the password; check DATABASE_URL." in printed
    assert PASSWORD not in printed


async def test_refused_correction_is_never_written(
    serve: Serve, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await serve(), await serve()
    session_id = (await one.upload(*files(watched=FILMS)))["session_id"]
    await one.ended(session_id)
    film = f"/api/session/{session_id}/movies/1"
    cluster.ask("ALTER DATABASE postgres SET default_transaction_read_only = on")
    cluster.stop()
    cluster.start()
    refused = await one.put(f"{film}/match", json={"tmdb_url": INCEPTION_URL.replace("27205", "496243")})
    cluster.ask("BEGIN READ WRITE; ALTER DATABASE postgres RESET ALL; COMMIT")
    cluster.stop()
    cluster.start()

    accepted = await other.delete(f"{film}/match")
    await asyncio.sleep(1)

    assert refused.status_code == 503
    assert refused.json()["detail"] == "The database is read-only; try again in 5 s."
    assert accepted.status_code == 204
    for api in (one, other):
        assert (await get(api, film))["match"]["reason"] == "The match was cleared by hand."


async def test_locked_limiter_does_not_stop_people(serve: Serve, cluster: Cluster) -> None:
    api = await serve()
    session_id = (await api.upload(*files(watched=FILMS)))["session_id"]
    await api.ended(session_id)
    database = Database(cluster.url)

    async with database.transaction(text("SELECT FROM limiter FOR UPDATE")):
        await asyncio.sleep(0.5)
        answer = await asyncio.wait_for(
            api.put(f"/api/session/{session_id}/movies/1/match", json={"tmdb_url": INCEPTION_URL}), 8
        )
    await database.close()

    assert answer.status_code == 200


async def test_stopped_backends_are_a_503_after_a_few_seconds(serve: Serve, cluster: Cluster) -> None:
    api = await serve()
    session_id = (await api.upload(*files(watched=FILMS)))["session_id"]
    await api.ended(session_id)
    others = "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    stopped = [int(pid) for pid in cluster.ask(f"SELECT pid FROM pg_stat_activity {others}").split()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        started_at = time.monotonic()
        answer = await api.get(f"/api/session/{session_id}")
        seconds = time.monotonic() - started_at
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    assert answer.status_code == 503 or answer.json()["status"] == "completed"
    assert seconds < 9


async def test_clocks_that_differ_lose_nothing(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry in a process that is 30 s ahead looks films up, and so does an undo."""
    tmdb.knows([])
    async with two(tmdb, clock, database_url) as (one, other):
        session = await ended(one, await one.create(export(watched=FILMS)))
        assert session.counts["not_found"] == 2
        tmdb.requests.clear()
        ahead = await other.get(session.session_id)
        ahead.clock = lambda: clock.now + 30

        await main.retry_films(ahead, other.matcher)
        await until(lambda: ahead.ended_at is not None)
        asked = tmdb.calls()
        await main.retry_films(await one.get(session.session_id), one.matcher)
        await until(lambda: session.ended_at is not None)

        assert 0 < asked < tmdb.calls()


async def test_stored_session_that_is_too_large_ends_as_failed(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:
        session_id = (await (await without_jobs(store)).create(export(watched=FILMS))).session_id

    async with opened(tmdb, clock, database_url=database_url, max_memory_bytes=10_000) as store:
        await store.claim()
        progress = await store.progress(session_id)

    assert progress.status == "failed"
    assert "MAX_MEMORY_BYTES" in (progress.error_message or "")
    assert progress.processed_count == 2


async def test_upload_that_got_a_503_is_not_kept(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    async with opened(tmdb, clock, database_url=database_url) as store:

        async def cut_off() -> None:
            raise DatabaseUnavailable

        meanwhile(store, CREATE, cut_off)
        with pytest.raises(DatabaseUnavailable):
            await store.create(export(watched=FILMS))
        assert cluster.ask("SELECT count(*) FROM sessions").strip() == "1"
        await store.clean_up()

        assert cluster.ask("SELECT count(*) FROM sessions").strip() == "0"


async def test_delete_that_is_sent_twice_is_one(
    tmdb: FakeTMDB, clock: Clock, cluster: Cluster, database_url: str
) -> None:
    """As it is if the connection ends before the answer."""
    async with opened(tmdb, clock, database_url=database_url) as store:
        session_id = (await store.create(export(watched=FILMS))).session_id

        async def first() -> None:
            cluster.ask("DELETE FROM sessions")

        meanwhile(store, DELETE, first, is_before=True)
        await store.delete(session_id)


async def test_revision_never_goes_back(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.05
    services = [await serve(), await serve()]
    session_id = (await services[0].upload(SAMPLE_FILE))["session_id"]
    seen: list[tuple[int, int]] = []

    for number in itertools.count():
        state = await get(services[number % 2], f"/api/session/{session_id}")
        seen.append((state["revision"], state["processed_count"]))
        if state["status"] == "completed":
            break

    assert seen == sorted(seen)


async def test_no_more_sessions_are_stored_than_may_be(serve: Serve) -> None:
    services = [await serve(max_stored_sessions=2), await serve(max_stored_sessions=2)]
    ids = []
    for number in range(4):
        ids.append((await services[number % 2].upload(*files(watched=FILMS)))["session_id"])
        await services[number % 2].ended(ids[-1])

    statuses = [(await services[0].get(f"/api/session/{session_id}")).status_code for session_id in ids]

    assert statuses == [404, 404, 200, 200]
    for api in services:
        assert (await get(api, "/health"))["stored_sessions"] == 2


async def test_upload_waits_for_room_if_nothing_has_ended(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    api = await serve(max_stored_sessions=1)
    await api.upload(*files(watched=FILMS))

    answer = await api.post("/api/upload", files={"files": SAMPLE_FILE})

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")


async def test_database_that_is_gone_is_a_503(serve: Serve, cluster: Cluster, caplog: Any) -> None:
    api = await serve()
    session_id = (await api.upload(*files(watched=FILMS)))["session_id"]
    session = await api.ended(session_id)
    cluster.stop()
    try:
        answers = [
            await api.get(f"/api/session/{session_id}"),
            await api.delete(f"/api/session/{session_id}"),
            await api.put(f"/api/session/{session_id}/movies/1/match", json={"tmdb_url": INCEPTION_URL}),
            await api.post("/api/upload", files={"files": SAMPLE_FILE}),
        ]
    finally:
        cluster.start()

    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["detail"] == "The database cannot be reached; try again in 5 s."
        assert answer.headers["Retry-After"] == "5"
    assert await api.ended(session_id) == session
    assert PASSWORD not in caplog.text


async def test_work_goes_on_after_a_restart_of_postgresql(
    serve: Serve, tmdb: FakeTMDB, cluster: Cluster
) -> None:
    tmdb.knows(made_up(500))
    api = await serve(tmdb_requests_per_second=200)
    session_id = (await api.upload(("ratings.csv", ratings(500))))["session_id"]
    await reached(api, session_id, 150)

    cluster.stop()
    await asyncio.sleep(1)
    cluster.start()
    session = await patiently(api, session_id)

    assert session["enriched_count"] == 500
    assert asked_twice(tmdb) <= 25
    assert {movie["match"]["status"] for movie in await api.movies(session_id)} == {"exact"}


async def reached(api: httpx.AsyncClient, session_id: str, films: int) -> None:
    while (await api.get(f"/api/session/{session_id}")).json()["processed_count"] < films:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def patiently(api: httpx.AsyncClient, session_id: str) -> Any:
    """The ended session, whatever answers come on the way."""
    async with asyncio.timeout(60):
        while True:
            answer = await api.get(f"/api/session/{session_id}")
            if answer.status_code == 200 and answer.json()["status"] in ("completed", "failed"):
                return answer.json()
            await asyncio.sleep(0.1)


def asked_twice(tmdb: FakeTMDB) -> int:
    asked = Counter((asked.path, asked.query.get("query")) for asked in tmdb.requests)
    return sum(count - 1 for count in asked.values())


@asynccontextmanager
async def processes(
    count: int, tmdb: FakeTMDB, *arguments: str, **environment: str
) -> AsyncIterator[list[tuple[asyncio.subprocess.Process, Api]]]:
    async with AsyncExitStack() as opened:
        running = []
        for port in [free_port() for _ in range(count)]:
            service = await process(port, tmdb, *arguments, LOG_LEVEL="WARNING", **environment)
            api = Api(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False)
            running.append((service, await opened.enter_async_context(api)))
        try:
            yield running
        finally:
            for service, _ in running:
                if service.returncode is None:
                    service.terminate()
                await service.communicate()


async def test_killed_process_costs_no_film(tmdb: FakeTMDB, database_url: str) -> None:
    tmdb.knows(made_up(500))
    tmdb.latency_seconds = 0.15
    environment = {"DATABASE_URL": database_url, "TMDB_REQUESTS_PER_SECOND": "40"}
    async with processes(3, tmdb, **environment) as running:
        (victim, first), (_, second), (_, third) = running
        session_id = (await first.upload(("ratings.csv", ratings(500))))["session_id"]
        await reached(second, session_id, 200)

        victim.kill()
        session = await patiently(second, session_id)
        movies = await third.movies(session_id)

    assert (session["status"], session["enriched_count"]) == ("completed", 500)
    assert {movie["match"]["status"] for movie in movies} == {"exact"}
    assert asked_twice(tmdb) <= 25


async def test_four_workers_serve_one_set_of_sessions(tmdb: FakeTMDB, database_url: str) -> None:
    async with processes(1, tmdb, "--workers", "4", DATABASE_URL=database_url) as [(_, api)]:
        async with asyncio.timeout(30):
            while not await answers(api):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        ids = [(await api.upload(SAMPLE_FILE))["session_id"] for _ in range(4)]

        for session_id in ids:
            for _ in range(8):  # each through a connection of its own, so through some worker
                async with Api(base_url=api.base_url, verify=False) as client:
                    assert (await client.ended(session_id))["enriched_count"] == 156


async def answers(api: Api) -> bool:
    try:
        return (await api.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


def workers_of(pid: int) -> set[int]:
    command = ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line}


async def test_worker_killed_while_postgresql_is_away_is_replaced(
    tmdb: FakeTMDB, cluster: Cluster, database_url: str
) -> None:
    async with processes(1, tmdb, "--workers", "4", DATABASE_URL=database_url) as [(service, api)]:
        async with asyncio.timeout(30):
            while not await answers(api):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        session_id = (await api.upload(SAMPLE_FILE))["session_id"]
        await api.ended(session_id)
        workers = workers_of(service.pid)
        victim = min(workers)
        cluster.stop()
        try:
            os.kill(victim, signal.SIGKILL)
            async with asyncio.timeout(30):
                while len(workers_of(service.pid) - {victim}) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await asyncio.sleep(5)  # in which uvicorn would stop all if the new one had ended
            away = [await once(api, session_id) for _ in range(8)]
        finally:
            cluster.start()
        async with asyncio.timeout(30):
            while [await once(api, session_id) for _ in range(8)] != [200] * 8:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        assert service.returncode is None
        assert set(away) == {503}
        assert workers - {victim} < workers_of(service.pid)


async def once(api: Api, session_id: str) -> int:
    """The status of one answer, through a connection of its own, so from some worker."""
    async with Api(base_url=api.base_url, verify=False) as client:
        return (await client.get(f"/api/session/{session_id}")).status_code


async def test_random_kills_lose_nothing(cluster: Cluster, database_url: str) -> None:
    """For a while; `python -m tests.kills 60` goes on for an hour."""
    done = await kills.run(cluster, 20, seed=1)

    assert done.members
