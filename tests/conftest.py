"""What all tests share: a fake TMDB, a service that asks it over real HTTP, and exports in a line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

import main
from tests.cluster import INSTALLED, Cluster
from tests.fake_tmdb import V3_KEY, FakeTMDB

ROOT = Path(__file__).parents[1]
SAMPLE = Path(__file__).with_name("letterboxd-demo-2026-01-01-00-00-utc.zip")
FEW_FILMS = SAMPLE.with_name("letterboxd-few-2026-01-01-00-00-utc.zip")  # 19 of the sample's 159
SAMPLE_FILE, FEW = [(path.name, path.read_bytes()) for path in (SAMPLE, FEW_FILMS)]
SHARED = ROOT.parent / "shared" / "data"

HEADERS = {
    "watched": "Date,Name,Year,Letterboxd URI",
    "watchlist": "Date,Name,Year,Letterboxd URI",
    "likes/films": "Date,Name,Year,Letterboxd URI",
    "ratings": "Date,Name,Year,Letterboxd URI,Rating",
    "diary": "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date",
    "reviews": "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Review,Tags,Watched Date",
}


def files(**rows: str) -> list[tuple[str, bytes]]:
    """`files(watched="2024-01-02,Dune,2021,…")`: CSVs as Letterboxd writes them; `likes` is likes/films."""
    names = {kind: "likes/films" if kind == "likes" else kind for kind in rows}
    return [
        (f"{names[kind]}.csv", "\r\n".join([HEADERS[names[kind]], *text.strip().splitlines(), ""]).encode())
        for kind, text in rows.items()
    ]


def export(**rows: str) -> main.Export:
    return main.parse_export(files(**rows))


class Clock:
    """Time that passes when told to; `sleep` lets it pass at once and gives others a turn."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session", autouse=True)
def known_films() -> Iterator[None]:
    """Reads the list of known films once, which takes as long as a whole test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main.KnownFilms, "read", cache(main.KnownFilms.read))
        yield


@pytest.fixture
async def tmdb() -> AsyncIterator[FakeTMDB]:
    async with FakeTMDB() as fake:
        yield fake


def settings_for(tmdb: FakeTMDB, **given: Any) -> main.Settings:
    return main.Settings.model_validate({"tmdb_api_key": V3_KEY, "tmdb_base_url": tmdb.url} | given)


Ask = Callable[..., Awaitable[main.Matcher]]


@pytest.fixture
async def ask(tmdb: FakeTMDB, clock: Clock) -> AsyncIterator[Ask]:
    """Starts a matcher that asks the fake TMDB, with the given settings. Its waiting takes no time."""
    async with AsyncExitStack() as opened:

        async def start(**given: Any) -> main.Matcher:
            client = main.TMDBClient(settings_for(tmdb, **given), clock, clock.sleep)
            return main.Matcher(await opened.enter_async_context(client))

        yield start


@cache
def sample() -> main.Export:
    return main.parse_export([SAMPLE_FILE])


def session_of(clock: Clock, first: int = 0, last: int | None = None) -> main.Session:
    """A session of the sample export, or of some of its films."""
    films = [replace(film) for film in sample().films[first:last]]
    return main.Session(main.Export(films, sample().rows, []), 3600, clock)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


class Api(httpx.AsyncClient):
    """A client of a running service, with the two things that every journey does."""

    server: uvicorn.Server

    async def upload(self, *given: tuple[str, bytes]) -> dict[str, Any]:
        response = await self.post("/api/upload", files=[("files", file) for file in given])
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body

    async def ended(self, session_id: str) -> dict[str, Any]:
        """Polls until the session's work has ended; every answer on the way must add up."""
        while True:
            body: dict[str, Any] = (await self.get(f"/api/session/{session_id}")).json()
            counts = body["enriched_count"] + body["not_found_count"] + body["failed_count"]
            assert body["processed_count"] == counts
            if body["status"] in ("completed", "failed"):
                return body
            await asyncio.sleep(0.01)

    async def movies(self, session_id: str) -> list[dict[str, Any]]:
        films: list[dict[str, Any]] = []
        url: str | None = f"/api/session/{session_id}/movies?limit=1000"
        while url:
            response = await self.get(url)
            films += response.json()
            url = response.links.get("next", {}).get("url")
        return films


class Services:
    """A uvicorn for all tests. Each of its ports serves one app, to one test after the other."""

    def __init__(self, ports: int = 4, **config: Any) -> None:
        self._server = uvicorn.Server(uvicorn.Config(self, log_config=None, lifespan="off", **config))
        # Without the protocol, asyncio would not set TCP_NODELAY, and every answer would take 40 ms.
        self._sockets = [socket.socket(proto=socket.IPPROTO_TCP) for _ in range(ports)]
        self._apps: dict[int, FastAPI] = {}  # kept, since FastAPI takes 0.1 s to build an app's routes
        self._free: list[int] = []

    async def __aenter__(self) -> Self:
        for each in self._sockets:
            each.bind(("127.0.0.1", 0))
            self._free.append(each.getsockname()[1])
        self._apps = {port: main.create_app(main.Settings()) for port in self._free}
        self._task = asyncio.create_task(self._server.serve(self._sockets))
        await until(lambda: self._server.started)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[scope["server"][1]](scope, receive, send)

    @asynccontextmanager
    async def serving(self, settings: main.Settings, *time: Any) -> AsyncIterator[Api]:
        """The service, from start to end. `time` is a clock and a sleep, if not the real ones."""
        port = self._free.pop()
        app, new = self._apps[port], main.create_app(settings, *time)
        app.state, app.middleware_stack = new.state, main.Guard(app.build_middleware_stack(), settings)
        address = f"http://127.0.0.1:{port}"
        async with app.router.lifespan_context(app):
            async with Api(base_url=address, timeout=30, verify=False) as api:  # TLS takes longer than a test
                api.server = self._server
                yield api
            await until(lambda: not self._server.server_state.tasks)
        self._free.append(port)


async def process(
    port: int, tmdb: FakeTMDB, *arguments: str, **environment: str
) -> asyncio.subprocess.Process:
    """The service as the README starts it, once it answers."""
    environment = {
        **os.environ,
        "TMDB_API_KEY": V3_KEY,
        "TMDB_BASE_URL": tmdb.url,
        "TMDB_REQUESTS_PER_SECOND": "10000",
    } | environment
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), *arguments),
        cwd=ROOT, env=environment, stdout=-1, stderr=-1,
    )  # fmt: skip
    assert started.stderr
    while b"Uvicorn running" not in await started.stderr.readline():
        pass
    return started


Serve = Callable[..., Awaitable[Api]]
JOURNEYS = (
    "tests.test_api",
    "tests.test_clients",
    "tests.test_lists",
    "tests.test_matches",
)  # run over both stores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "serve" in metafunc.fixturenames and metafunc.module.__name__ in JOURNEYS:
        stores = ["memory", pytest.param("postgres", marks=pytest.mark.long)]
        if metafunc.definition.get_closest_marker("in_memory"):
            stores = ["memory"]
        metafunc.parametrize("stored_in", stores, indirect=True)


@pytest.fixture
def stored_in(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings that say where sessions are kept."""
    if getattr(request, "param", "memory") == "memory":
        return {}
    return {"database_url": request.getfixturevalue("database_url")}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not INSTALLED:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    with Cluster() as running:
        yield running


@pytest.fixture
def database_url(cluster: Cluster) -> str:
    """Of a database with empty tables."""
    cluster.empty()
    return cluster.url


@pytest.fixture(scope="session")
async def services() -> AsyncIterator[Services]:
    async with Services() as opened:
        yield opened


@pytest.fixture
async def serve(
    services: Services, tmdb: FakeTMDB, clock: Clock, stored_in: dict[str, str]
) -> AsyncIterator[Serve]:
    """Starts a service that asks the fake TMDB, with the given settings. Its waiting takes no time."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as running:

        async def start(root_path: str = "", **given: Any) -> Api:
            on = await running.enter_async_context(Services(root_path=root_path)) if root_path else services
            settings = settings_for(tmdb, **{"tmdb_requests_per_second": 10_000} | stored_in | given)
            # PostgreSQL has a clock of its own.
            time = () if settings.database_url.get_secret_value() else (clock, clock.sleep)
            return await running.enter_async_context(on.serving(settings, *time))

        yield start
    # A question to PostgreSQL may outlive a service, but not the process.
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
async def api(serve: Serve) -> Api:
    return await serve()
