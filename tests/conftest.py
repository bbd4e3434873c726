"""What all tests share: a fake TMDB, a service that asks it over real HTTP, and exports in a line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

import main
from tests.cluster import INSTALLED, Cluster
from tests.fake_tmdb import V3_KEY, FakeTMDB

ROOT = Path(__file__).parents[1]
SAMPLE = Path(__file__).with_name("letterboxd-demo-2026-01-01-00-00-utc.zip")
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


def session_of(clock: Clock, first: int = 0, last: int | None = None) -> main.Session:
    """A session of the sample export, or of some of its films."""
    sample = main.parse_export([(SAMPLE.name, SAMPLE.read_bytes())])
    return main.Session(main.Export(sample.films[first:last], sample.rows, []), 3600, clock)


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


class Server(uvicorn.Server):
    """uvicorn's, which ends without sleeping for two tenths of a second; real ones run in `process`."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110 - as uvicorn does
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - as uvicorn does
            await asyncio.sleep(0.001)
        await self.lifespan.shutdown()


idle_apps: list[FastAPI] = []  # FastAPI builds an app's routes when first asked, which takes 0.1 s


@asynccontextmanager
async def serving(settings: main.Settings, root_path: str = "") -> AsyncIterator[Api]:
    """The service in a real uvicorn on loopback."""
    app = idle_apps.pop() if idle_apps else main.create_app(settings)
    app.state.settings = settings
    app.middleware_stack = main.Guard(app.build_middleware_stack(), settings)
    server = Server(uvicorn.Config(app, log_config=None, lifespan="on", root_path=root_path))
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with Api(base_url=address, timeout=30, verify=False) as api:  # TLS takes longer than the test
            api.server = server
            yield api
        server.should_exit = True
        await task
    idle_apps.append(app)


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
JOURNEYS = ("tests.test_api", "tests.test_clients", "tests.test_matches")  # run over both stores


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


@pytest.fixture
async def serve(tmdb: FakeTMDB, stored_in: dict[str, str]) -> AsyncIterator[Serve]:
    """Starts a service that asks the fake TMDB, as fast as it can, with the settings that are given."""
    running = []

    async def start(root_path: str = "", **settings: Any) -> Api:
        given = {"tmdb_requests_per_second": 10_000} | stored_in | settings
        running.append(serving(settings_for(tmdb, **given), root_path))
        return await running[-1].__aenter__()

    yield start
    for service in reversed(running):
        await service.__aexit__(None, None, None)


@pytest.fixture
async def api(serve: Serve) -> Api:
    return await serve()
