"""How fast, how frugal: python -m tests.bench prints a table, each row beside its floor (12 minutes).

The service runs under uvicorn and the fake TMDB in another process, as they would; made-up films have
bodies of the size of real ones (15 KB). Machines are noisy: compare the ratios, within one run.

    python -m tests.bench upload memory      # only the rows of these groups
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import random
import signal
import string
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx

import main
from tests.cluster import INSTALLED, Cluster
from tests.fake_tmdb import KNOWN, MADE_UP, TROUBLES, V3_KEY, free_port, known, made_up
from tests.test_hostile import ARCHIVES
from tests.test_page import CHROMIUM, FLAGS

FILMS = 10_000
ROOT = Path(__file__).parents[1]
SAMPLE = Path(__file__).with_name("letterboxd-demo-2026-01-01-00-00-utc.zip")
REAL = ROOT.parent / "shared" / "data" / "letterboxd-sample-2025-12-20-00-00-utc.zip"
DIGITS = string.digits + string.ascii_lowercase + string.ascii_uppercase


def row(name: str, figure: str, floor: str) -> None:
    print(f"| {name:<62} | {figure:>28} | {floor:>30} |", flush=True)


# --- What is uploaded


def _code(value: int) -> str:
    return (_code(value // 62) if value >= 62 else "") + DIGITS[value % 62]


def ratings(count: int, first: int = 0) -> bytes:
    """A ratings.csv of made-up films."""
    return ratings_of(enumerate(made_up(first + count)[first:], MADE_UP + first))


def ratings_of(films: Iterable[tuple[int, dict[str, Any]]]) -> bytes:
    """A ratings.csv of these films, each given with Letterboxd's number for it."""
    lines = ["Date,Name,Year,Letterboxd URI,Rating"]
    for number, body in films:
        title = body["title"].replace('"', '""')
        film = f'"{title}",{body["release_date"][:4]},https://boxd.it/{_code(number * 10)}'
        lines.append(f"2024-01-02,{film},{number % 10 / 2 + 0.5:g}")
    return "\r\n".join(lines).encode()


def diary(count: int) -> bytes:
    """A diary.csv of as many made-up films, one viewing each over ten years."""
    lines = ["Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date"]
    for number, body in enumerate(made_up(count)):
        day = date(2015, 1, 1) + timedelta(number * 37 % 3650)
        film = f"{body['title']},{body['release_date'][:4]},https://boxd.it/{_code(number * 10 + 1)}"
        lines.append(f"{day},{film},4,,,{day}")
    return "\r\n".join(lines).encode()


# --- The two processes


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, env=os.environ | environment, stdout=-3, stderr=-3
    )
    try:
        yield running
    finally:
        await stop(running)


async def stop(running: asyncio.subprocess.Process) -> None:
    if running.returncode is None:
        running.terminate()
    await running.wait()


async def answering(client: httpx.AsyncClient, url: str) -> None:
    while True:
        try:
            await client.get(url)
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
        else:
            return


class Bench:
    """A service and its TMDB, and what is measured of them; `pid` is that of the service."""

    def __init__(self, client: httpx.AsyncClient, tmdb: str, pid: int) -> None:
        self.client, self.tmdb, self.pid = client, tmdb, pid

    stop: Callable[[], Awaitable[None]]

    async def upload(self, data: bytes, name: str = "ratings.csv") -> tuple[str, float]:
        """The session's id, and the seconds to the answer."""
        started = time.perf_counter()
        response = await self.client.post("/api/upload", files={"files": (name, data)})
        assert response.status_code == 201, response.text
        return response.json()["session_id"], time.perf_counter() - started

    async def status(self, session_id: str) -> dict[str, Any]:
        body: dict[str, Any] = (await self.client.get(f"/api/session/{session_id}")).json()
        return body

    async def ended(self, session_id: str, every_seconds: float = 0.05) -> dict[str, Any]:
        while True:
            status = await self.status(session_id)
            if status["status"] in ("completed", "failed"):
                return status
            await asyncio.sleep(every_seconds)

    async def delete(self, session_id: str) -> None:
        await self.client.delete(f"/api/session/{session_id}")

    async def told(self, **settings: float | str) -> dict[str, Any]:
        """What TMDB was asked since it was last asked that."""
        body: dict[str, Any] = (await self.client.get(f"{self.tmdb}/fake", params=settings)).json()
        return body | {"calls": sum(body["statuses"].values())}

    def cpu_seconds(self) -> float:
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def bench(
    settings: dict[str, str] | None = None, films: int = FILMS, workers: int = 1
) -> AsyncIterator[Bench]:
    tmdb_port, port = free_port(), free_port()
    tmdb = f"http://127.0.0.1:{tmdb_port}"
    environment = {"TMDB_API_KEY": V3_KEY, "TMDB_BASE_URL": f"{tmdb}/3", "LOG_LEVEL": "WARNING"} | (
        settings or {}
    )
    served = ["-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning"]
    served += ["--workers", str(workers)] if workers > 1 else []
    async with (
        process("-m", "tests.fake_tmdb", "--port", str(tmdb_port), "--films", str(films)),
        process(*served, **environment) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        await answering(client, f"{tmdb}/fake")
        await answering(client, "/health")
        measured = Bench(client, tmdb, service.pid)
        measured.stop = partial(stop, service)
        await measured.told()
        yield measured


FAST = {"TMDB_REQUESTS_PER_SECOND": "10000"}


# --- The rows, by group


async def rate() -> None:
    """Films a second against the permitted rate."""
    async with bench() as b:
        first = 0
        for count, latency in ((100, 0.15), (500, 0.05), (500, 0.15), (500, 0.4)):
            await b.told(latency_seconds=latency)
            seconds = await _timed(b, ratings(count, first))
            told, first = await b.told(), first + count
            floor = told["calls"] / 40
            name = f"{count} films, 40 requests/s, {latency * 1000:.0f} ms latency"
            row(name, f"{seconds:.2f} s, {floor / seconds:.1%} of the rate", f"{floor:.2f} s")
            row("    the most requests in any second", str(told["most_in_a_second"]), "40, and a burst of 4")
    async with bench() as b:
        films = known(KNOWN)
        await b.told(latency_seconds=0.15)
        for count, bar in ((100, 3.1), (500, 13.5)):
            films, some = films[count:], films[:count]
            seconds = await _timed(b, ratings_of(some))
            calls = (await b.told())["calls"] / count
            name = f"{count} known films, 40 requests/s, 150 ms latency"
            row(name, f"{seconds:.2f} s, {calls:.3f} calls a film", f"{count / 40:.2f} s, bar {bar}")
    async with bench(FAST) as b:
        first = 0
        for latency in (0.05, 0.15, 0.4):
            await b.told(latency_seconds=latency)
            seconds = await _timed(b, ratings(1_000, first))
            first += 1_000
            name = f"1,000 films, no limit, {latency * 1000:.0f} ms latency, 20 connections"
            row(name, f"{seconds:.2f} s", f"{1_000 * 2 * latency / 20:.2f} s")


async def again() -> None:
    """The command line's first run, its second one, and a third with twenty more films."""
    async with bench() as b:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "answers.sqlite")
            for name, films in (("first", 2_186), ("second", 2_186), ("third, 20 more films", 2_206)):
                export = Path(folder, "ratings.csv")
                export.write_bytes(ratings(films))  # noqa: ASYNC240 - nobody waits for it
                await b.told(latency_seconds=0.15)
                started = time.perf_counter()
                async with process(
                    "main.py",
                    str(export),
                    TMDB_API_KEY=V3_KEY,
                    TMDB_BASE_URL=f"{b.tmdb}/3",
                    TMDB_CACHE=str(kept),
                ) as command:
                    await command.wait()
                seconds, calls = time.perf_counter() - started, (await b.told())["calls"]
                bar = {"first": "109 s", "second": "3 s, 0 calls"}.get(name, "4 s, 40 calls")
                row(f"python main.py, 2,186 films, {name} run", f"{seconds:.1f} s, {calls} calls", bar)
            size = os.stat(kept).st_size  # noqa: PTH116 - nobody waits for it
            row("    the file of answers", f"{size / 1e6:.1f} MB", "15 MB")


async def _timed(b: Bench, data: bytes) -> float:
    started = time.perf_counter()
    session_id, _ = await b.upload(data)
    status = await b.ended(session_id)
    assert status["enriched_count"] == status["total_movies"], status
    return time.perf_counter() - started


async def calls() -> None:
    """Requests a film."""
    for name, data, films in (
        ("the demo's export", SAMPLE.read_bytes(), 0),
        ("2,000 made-up films", ratings(2_000), FILMS),
    ):
        async with bench(FAST, films) as b:
            sessions = [(await b.upload(data, "export.zip" if films == 0 else "ratings.csv"))[0]]
            total = (await b.ended(sessions[0]))["total_movies"]
            row(f"requests a film, {name}, first upload", f"{(await b.told())['calls'] / total:.3f}", "2")
            sessions.append((await b.upload(data, "export.zip"))[0])
            await b.ended(sessions[-1])
            row(f"requests a film, {name}, second upload", f"{(await b.told())['calls'] / total:.3f}", "0")
    async with bench(FAST) as b:
        ids = [i for i, _ in await asyncio.gather(*(b.upload(ratings(500)) for _ in range(10)))]
        await asyncio.gather(*map(b.ended, ids))
        row(
            "requests, ten uploads of 500 films at once",
            str((await b.told())["calls"]),
            "1000, what one costs",
        )


async def upload() -> None:
    """Seconds from the first byte to the answer; with nothing else, and while another session goes on."""
    for busy in (False, True):
        async with bench(FAST) as b:
            if busy:
                await b.told(latency_seconds=0.15)
                await b.upload(ratings(FILMS))
            given = {f"ratings.csv, {count:,} films": ratings(count) for count in (100, 2_000, 6_800, FILMS)}
            if REAL.exists():
                given["the real sample export (2,186 films)"] = REAL.read_bytes()
            for name, data in given.items():
                times = []
                for _ in range(7):
                    session_id, seconds = await b.upload(data)
                    times.append(seconds)
                    await b.delete(session_id)
                times.sort()
                figure = f"{times[3] * 1000:.0f} ms, at worst {times[-1] * 1000:.0f}"
                bar = {"ratings.csv, 6,800 films": "150 ms", "the real sample export (2,186 films)": "100 ms"}
                row(
                    f"upload{', another being enriched' if busy else ''}: {name}",
                    figure,
                    f"at most {bar.get(name, '-')}",
                )


WORST_UPLOADS: dict[str, Callable[[], tuple[str, str]]] = {
    "90,000 viewings of 19,000 films": lambda: (
        "diary.csv",
        "\r\n".join(
            [
                "Name,Year,Watched Date,Rating,Tags",
                *(f"Dune {n % 19_000},2021,2024-01-02,4,a b" for n in range(90_000)),
            ]
        ),
    ),
    "90,000 rows with three wrong cells each": lambda: (
        "diary.csv",
        "\r\n".join(
            ["Name,Year,Watched Date,Rating", *(f"Dune {n % 19_000},x{n},y{n},z{n}" for n in range(90_000))]
        ),
    ),
    "19,000 titles of accents": lambda: (
        "watched.csv",
        "\r\n".join(["Name,Year", *("\u0301\u0323" * 245 + f"{n},2001" for n in range(19_000))]),
    ),
}


async def worst() -> None:
    """The uploads within the limits that take longest, and what a poll waits meanwhile."""
    async with bench(FAST) as b:
        polled = (await b.upload(ratings(1)))[0]
        for name, made in WORST_UPLOADS.items():
            file, text = made()
            polling = asyncio.create_task(_poll_for(b, polled, 6))
            started = time.perf_counter()
            await b.client.post("/api/upload", files={"files": (file, text.encode())})
            seconds = time.perf_counter() - started
            row(f"upload: {name}", f"{seconds:.2f} s", "3 s")
            row("    poll meanwhile: p50 / p99", _percentiles(await polling), "p99 250 ms")


async def stats() -> None:
    """Statistics of a large diary, over HTTP, and what a poll waits meanwhile."""
    async with bench(FAST) as b:
        files = [("files", ("ratings.csv", ratings(7_000))), ("files", ("diary.csv", diary(7_000)))]
        uploaded = await b.client.post("/api/upload", files=files)
        await b.ended(session_id := uploaded.json()["session_id"])
        for query in ("", "?limit=100"):
            times = []
            for _ in range(7):
                started = time.perf_counter()
                await b.client.get(f"/api/session/{session_id}/stats{query}")
                times.append(time.perf_counter() - started)
            figure = f"{sorted(times)[3] * 1000:.0f} ms, at worst {max(times) * 1000:.0f}"
            row(f"statistics of 7,000 films{query}", figure, "150 ms")
        polling = asyncio.create_task(_poll_for(b, session_id, 3))
        while not polling.done():
            await b.client.get(f"/api/session/{session_id}/stats")
        row("poll, statistics being computed all the time: p50 / p99", _percentiles(await polling), "-")
        polling = asyncio.create_task(_poll_for(b, session_id, 3))
        while not polling.done():
            years = range(2015, 2025)
            urls = [f"/api/session/{session_id}/stats?year={year}" for year in years] * 4
            await asyncio.gather(*map(b.client.get, urls))
        row("poll, 40 requests for statistics at once: p50 / p99", _percentiles(await polling), "p99 250 ms")
        for name in ("movies", "matches", "letterboxd"):
            started = time.perf_counter()
            await b.client.get(f"/api/session/{session_id}/{name}.csv")
            row(f"{name}.csv of 7,000 films", f"{(time.perf_counter() - started) * 1000:.0f} ms", "-")


async def polls() -> None:
    """Latency of a poll while ten uploads are enriched."""
    async with bench() as b:
        await b.told(latency_seconds=0.15)
        idle = await _poll_for(b, (await b.upload(ratings(1)))[0], 3)
        row("poll, idle: p50 / p99", _percentiles(idle), "-")
        ids = [i for i, _ in await asyncio.gather(*(b.upload(ratings(1_000, 1_000 * n)) for n in range(10)))]
        row(
            "poll, ten uploads being enriched at 40/s: p50 / p99",
            _percentiles(await _poll_for(b, ids[0], 10)),
            "p99 20 ms",
        )
    async with bench(FAST) as b:
        await b.told(latency_seconds=0.15)
        uploads = [b.upload(ratings(1_000, 1_000 * n)) for n in range(10)]
        polled = (await b.upload(ratings(1)))[0]
        polling = asyncio.create_task(_poll_for(b, polled, 10))
        await asyncio.gather(*uploads)
        row("poll, ten uploads coming in, then no limit: p50 / p99", _percentiles(await polling), "p99 20 ms")


async def listeners() -> None:
    """CPU of 200 event streams on one session, beside that of one."""
    async with bench() as b:
        await b.told(latency_seconds=0.15)
        session_id, _ = await b.upload(ratings(5_000))
        used = {1: 0.0, 200: 0.0}
        for count in (1, 200, 1, 200):
            used[count] += await _cpu_of_listeners(b, session_id, count, 40) / 80
        row("CPU with 1 listener, at 40 requests/s", f"{used[1]:.2%} of a core", "-")
        figure = f"{used[200]:.2%}, {used[200] / used[1] - 1:+.1%}"
        row("CPU with 200 listeners", figure, f"{used[1] * 1.05:.2%}, +5 %")


async def _cpu_of_listeners(b: Bench, session_id: str, count: int, seconds: float) -> float:
    """CPU seconds that the service uses in as many seconds while so many event streams are open."""
    opened = [await _listen(b, session_id) for _ in range(count)]
    await asyncio.sleep(1)
    before = b.cpu_seconds()
    await asyncio.sleep(seconds)
    cpu = b.cpu_seconds() - before
    for reading, writer in opened:
        writer.close()
        received = len((await reading).split(b"event: progress"))
        assert received > 1, received
    return cpu


async def _listen(b: Bench, session_id: str) -> tuple[asyncio.Task[bytes], asyncio.StreamWriter]:
    url = b.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET /api/session/{session_id}/events HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
    return asyncio.create_task(reader.read()), writer


async def load() -> None:
    """Many sessions, pollers and listeners, at ten times TMDB's rate; a small session behind a large one."""
    async with bench({"TMDB_REQUESTS_PER_SECOND": "400"}, 25_000) as b:
        await b.told(latency_seconds=0.03)
        uploads = [b.upload(ratings(500, 500 * n)) for n in range(50)]
        ids = [session_id for session_id, _ in await asyncio.gather(*uploads)]
        listening = [await _listen(b, ids[n % 50]) for n in range(300)]
        polling = [asyncio.create_task(_poll_raw(b, ids[n % 50], n / 300)) for n in range(300)]
        times = sorted(itertools.chain(*await asyncio.gather(*polling)))
        name = "poll, 50 sessions of 500, 300 pollers, 300 streams: p50 / p99"
        row(name, f"{_percentiles(times)}, at worst {times[-1] * 1000:.0f}", "p99 50 ms")
        streams = await asyncio.gather(*(reading for reading, _ in listening))
        ended = sum(stream.count(b"event: end") for stream in streams)
        right = [await b.status(session_id) for session_id in ids]
        enriched = sum(status["enriched_count"] for status in right)
        row("    films enriched, streams told of the end", f"{enriched:,}, {ended}", "25,000, 300")
    async with bench(films=25_000) as b:
        await b.told(latency_seconds=0.15)
        ids = [(await b.upload(ratings(500, 500 * n)))[0] for n in range(49)]
        await asyncio.sleep(2)
        times = []
        for n in range(10):
            chosen = round(main.expected_tmdb_id(MADE_UP + 24_990 + n))
            choice = {"tmdb_id": chosen, "tmdb_type": "movie"}
            started = time.perf_counter()
            url = f"/api/session/{ids[0]}/movies/400/match"
            assert (await b.client.put(url, json=choice)).status_code == 200
            times.append(time.perf_counter() - started)
        figure = f"{sorted(times)[5]:.2f} s, at worst {max(times):.2f}"
        row("a correction, 49 sessions at work at 40/s", figure, "0.5 s")
    async with bench() as b:
        await b.told(latency_seconds=0.15)
        alone = await _timed(b, ratings(100))
        await b.upload(ratings(9_000, 1_000))
        behind = await _timed(b, ratings(100, 200))
        row(
            "100 films, behind 9,000 of another",
            f"{behind:.1f} s, {behind / alone:.1f} times",
            f"{alone:.1f} s, 3 times",
        )


async def _poll_raw(b: Bench, session_id: str, wait: float, polls: float = math.inf) -> list[float]:
    """Latencies of a poll a second until the session has ended, or of so many polls."""
    url, times, body = b.client.base_url, list[float](), b""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    await asyncio.sleep(wait)
    while b'"status":"completed"' not in body and len(times) < polls:
        started = time.perf_counter()
        writer.write(f"GET /api/session/{session_id} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        times.append(time.perf_counter() - started)
        await asyncio.sleep(1)
    writer.close()
    return times


async def _poll_for(b: Bench, session_id: str, seconds: float) -> list[float]:
    times, end = [], time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        await b.status(session_id)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.01)
    return sorted(times)


def _percentiles(times: list[float]) -> str:
    return f"{times[len(times) // 2] * 1000:.1f} / {times[len(times) * 99 // 100] * 1000:.1f} ms"


async def postgres() -> None:
    """The same in memory, in PostgreSQL, and with four processes that share it."""
    if not INSTALLED:
        row("sessions in PostgreSQL", "it is not installed", "apt install postgresql")
        return
    with Cluster("synchronous_commit=on") as cluster:
        stored = {"DATABASE_URL": cluster.url}
        for name, settings, workers in (
            ("memory", {}, 1),
            ("PostgreSQL", stored, 1),
            ("4 processes", stored, 4),
        ):
            cluster.empty()
            await _rows_of_a_store(name, settings, workers)
        await _rows_of_the_tables(cluster)
        await _row_of_a_kill(cluster)


FIRST, LATER = slice(2), slice(2, None)


async def _rows_of_a_store(name: str, settings: dict[str, str], workers: int) -> None:
    async with bench(FAST | settings, workers=workers) as b:
        data = (REAL if REAL.exists() else SAMPLE).read_bytes()
        times = []
        for _ in range(7):
            session_id, seconds = await b.upload(data, "export.zip")
            times.append(seconds)
            await b.delete(session_id)
        times.sort()
        row(f"{name}: upload of the sample, median", f"{times[3] * 1000:.0f} ms", "400 ms")
    async with bench(settings, workers=workers) as b:
        await b.told(latency_seconds=0.15)
        started = time.perf_counter()
        await asyncio.gather(*(_timed_apart(b, ratings(250, 250 * n)) for n in range(4)))
        seconds, told = time.perf_counter() - started, await b.told()
        floor = told["calls"] / 40
        figure = f"{seconds:.2f} s, {floor / seconds:.1%} of the rate"
        row(f"{name}: 4 sessions of 250 films, 40 requests/s", figure, f"{floor:.2f} s, 96 %")
        row("    the most requests in any second", str(told["most_in_a_second"]), "40, and a burst of 4")
        ids = [(await b.upload(ratings(1_000, 1_000 * n)))[0] for n in range(10)]
        polling = (_poll_raw(b, ids[n % 10], n / 100, polls=15) for n in range(100))
        polls = await asyncio.gather(*polling)
        first, later = (sorted(itertools.chain(*(some[part] for some in polls))) for part in (FIRST, LATER))
        row(f"{name}: poll, 10 sessions, 100 pollers: p50 / p99", _percentiles(later), "p99 25 ms")
        row("    the first two of each, while all processes read them", _percentiles(first), "-")
    async with bench({"TMDB_REQUESTS_PER_SECOND": "400"} | settings, 25_000, workers) as b:
        await b.told(latency_seconds=0.03)
        started = time.perf_counter()
        sessions = await asyncio.gather(*(_timed_apart(b, ratings(500, 500 * n)) for n in range(50)))
        seconds, calls = time.perf_counter() - started, (await b.told())["calls"]
        enriched = sum(session["enriched_count"] for session in sessions)
        row(f"{name}: 50 sessions of 500, 400 requests/s", f"{seconds:.0f} s", f"{calls / 400:.0f} s")
        row("    films enriched", f"{enriched:,}", "25,000")


async def _timed_apart(b: Bench, data: bytes) -> dict[str, Any]:
    """The ended session of an upload through a connection of its own, so to any of the processes."""
    async with httpx.AsyncClient(base_url=b.client.base_url, timeout=60, verify=False) as client:
        other = Bench(client, b.tmdb, b.pid)
        session_id, _ = await other.upload(data)
        return await other.ended(session_id, 0.5)


async def _rows_of_the_tables(cluster: Cluster) -> None:
    """With the 50 sessions of 500 films in them."""
    sizes = "sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname"
    films, records = (
        int(cluster.ask(f"SELECT {sizes} = '{table}'")) / 25_000 for table in ("films", "records")
    )
    row("bytes a film, and of TMDB's records, which sessions share", f"{films:,.0f}, {records:,.0f}", "-")
    stored = FAST | {"DATABASE_URL": cluster.url}
    async with bench(stored) as b:
        session_id, _ = await b.upload(ratings(7_000))
        await b.ended(session_id)
    for path, what in (("", "progress"), ("/movies?limit=100", "first page"), ("/stats", "statistics")):
        async with bench(stored) as b:
            started = time.perf_counter()
            answer = await b.client.get(f"/api/session/{session_id}{path}")
            assert answer.status_code == 200
            figure = f"{(time.perf_counter() - started) * 1000:.0f} ms"
            row(f"7,000 films, read by a process that has not seen them: {what}", figure, "500 ms")


async def _row_of_a_kill(cluster: Cluster) -> None:
    """Of three processes, the one that works is killed in the middle."""
    clean = 0.0
    for is_killed in (False, True):
        cluster.empty()
        stored = {"DATABASE_URL": cluster.url}
        async with bench(stored) as working:
            same_tmdb = stored | {"TMDB_BASE_URL": f"{working.tmdb}/3"}
            async with bench(same_tmdb, 0) as other, bench(same_tmdb, 0):
                await working.told(latency_seconds=0.15)
                started = time.perf_counter()
                session_id, _ = await working.upload(ratings(500))
                while (await other.status(session_id))["processed_count"] < 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                if is_killed:
                    os.kill(working.pid, signal.SIGKILL)
                status = await other.ended(session_id)
                seconds = time.perf_counter() - started
                twice = (await working.told())["calls"] - 1_000
        clean = clean or seconds
    figure = f"{seconds - clean:+.1f} s, {status['enriched_count']} films, {twice} twice"
    row("kill -9 of the process that looks 500 films up, of three", figure, "+15 s, 500 films, 25 twice")


async def memory() -> None:
    """CPU and memory a film, and what is left when the sessions are gone."""
    for end in ("deleted", "expired"):
        async with bench(FAST | {"SESSION_TTL_SECONDS": "5" if end == "expired" else "3600"}) as b:
            await _come_and_go(b, ratings(200, 9_000), end)
            memory, cpu = b.megabytes(), b.cpu_seconds()
            held = await _come_and_go(b, ratings(2_000), end)
            row("CPU a film", f"{(b.cpu_seconds() - cpu) / 2:.2f} ms", "at most 3 ms")
            row("memory a film, 2,000 films", f"{(held - memory) / 2:.2f} KB", "at most 6 KB")
            row(f"memory left, 2,000 films {end}", f"{b.megabytes() - memory:+.1f} MB", "at most +10 MB")
            for count in (1, 2, 3, 4):
                held = await _come_and_go(b, ratings(8_000), end)
                name = f"memory held, then left, 8,000 films {end}, {count}. time"
                row(name, f"{held - memory:+.1f}, {b.megabytes() - memory:+.1f} MB", "at most +10 MB left")


def large_reviews(seed: int) -> tuple[str, bytes]:
    """18 MB of reviews that no other seed has."""
    text = "".join(random.Random(seed).choices(string.ascii_letters + " ", k=9_000))
    rows = (f"Film {n},2001,{seed} {n} {text}" for n in range(2_000))
    return "reviews.csv", "\r\n".join(["Name,Year,Review", *rows]).encode()


def large_tags(seed: int) -> tuple[str, bytes]:
    """As many tags as are allowed, all different."""
    tags = (",".join(f"{seed} {n} tag {k} {'x' * 60}" for k in range(100)) for n in range(1_999))
    rows = (f'Film {n},2001,2024-01-02,"{some}"' for n, some in enumerate(tags))
    return "diary.csv", "\r\n".join(["Name,Year,Watched Date,Tags", *rows]).encode()


async def forgetting() -> None:
    """Memory of the process while large uploads come and are deleted."""
    for made in (large_reviews, large_tags):
        async with bench(FAST | {"TMDB_API_KEY": ""}) as b:
            sizes = []
            for seed in range(40):
                name, data = made(seed)
                session_id, _ = await b.upload(data, name)
                await b.delete(session_id)
                sizes.append(b.megabytes())
            name = f"{len(data) / 1e6:.0f} MB ({made.__name__}) deleted 40 times: after 10 / 40"
            row(name, f"{sizes[9]:.0f} / {sizes[39]:.0f} MB", "equal")


async def _come_and_go(b: Bench, data: bytes, end: str) -> float:
    """The megabytes held when the session was done; it is gone then."""
    session_id, _ = await b.upload(data)
    await b.ended(session_id)
    held = b.megabytes()
    if end == "deleted":
        await b.delete(session_id)
    else:
        await asyncio.sleep(7)
    await asyncio.sleep(1)
    return held


async def faults() -> None:
    """A TMDB that allows less than it says, one that rejects the key; archives that mean harm."""
    for limit, latency, films, bar in ((15, 0.05, 300, 15), (15, 0.15, 300, 15), (25, 0.15, 1_000, 9)):
        async with bench() as b:
            await b.told(latency_seconds=latency, limit_per_second=limit)
            started = time.perf_counter()
            status = await b.ended((await b.upload(ratings(films)))[0])
            seconds, told = time.perf_counter() - started, await b.told()
            name = f"{films} films, TMDB allows {limit}/s with bare 429s, {latency * 1000:.0f} ms latency"
            figure = f"{seconds:.0f} s, {status['enriched_count']} films"
            row(name, figure, f"{2 * films / limit:.0f} s, {films} films")
            row("    refused", f"{told['statuses'].get('429', 0) / told['calls']:.1%}", f"at most {bar} %")
    clean = 0.0
    bars = {"refuses 1 in 30": 1.3, "refuses 1 in 10": 2}
    troubles: list[tuple[str, float | None, dict[str, Any]]] = [
        ("has no trouble", None, {}),
        ("has a bucket of one token at 40/s", 1.5, {"bucket_per_second": 40}),
        *((name, bars.get(name), {"trouble": name}) for name in TROUBLES),
        ("answers searches with 500 for a minute", None, {"broken_search_seconds": 60}),
    ]
    for trouble, most, given in troubles:
        async with bench() as b:
            await b.told(latency_seconds=0.05, **given)
            started = time.perf_counter()
            status = await b.ended((await b.upload(ratings(300)))[0])
            seconds, told = time.perf_counter() - started, await b.told()
            clean = clean or seconds
            figure = f"{seconds:.0f} s, {seconds / clean:.2f} times, {status['failed_count']} lost"
            row(f"300 films, TMDB {trouble}", figure, f"at most {most} times, 0 lost" if most else "0 lost")
            refused = told["statuses"].get("429", 0) / told["calls"]
            row("    refused, requests a film", f"{refused:.1%}, {told['calls'] / 300:.2f}", "-")
    async with bench({"TMDB_API_KEY": "f" * 32}) as b:
        await b.told(latency_seconds=0.15)
        started = time.perf_counter()
        status = await b.ended((await b.upload(ratings(500)))[0])
        figure = (
            f"{status['status']}, {time.perf_counter() - started:.2f} s, {(await b.told())['calls']} requests"
        )
        row("a rejected key", figure, "failed, 2 s, 20 requests")
    for name, (archive, _) in ARCHIVES.items():
        data = archive()
        started = time.perf_counter()
        with contextlib.suppress(main.UnusableUpload, main.UploadTooLarge):
            main.parse_export([("export.zip", data)])
        row(f"archive refused: {name}", f"{(time.perf_counter() - started) * 1000:.1f} ms", "at most 3 s")


# Milliseconds. The report has painted when the frame that has its first number is over.
WATCH_PAGE = """
    window.tasks = [0]; window.shift = 0;
    const watch = (type, see) =>
        new PerformanceObserver(list => list.getEntries().forEach(see)).observe({ type, buffered: true });
    watch("longtask", entry => tasks.push(entry.duration));
    watch("layout-shift", entry => { if (!entry.hadRecentInput) window.shift += entry.value; });
    new MutationObserver((_, observer) => {
        if (!document.querySelector("#totals:not([hidden]) h1")) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.paintedAt = performance.now(); }));
    }).observe(document, { childList: true, subtree: true, attributes: true });
"""
WATCHED_PAGE = """() => {
    const answers = performance.getEntriesByType("resource").filter(entry => entry.name.includes("/stats"));
    return [paintedAt - Math.max(...answers.map(entry => entry.responseEnd)), Math.max(...tasks), shift];
}"""


async def page() -> None:
    """The report in Chromium: its first paint after the answer, its longest task, how much it moves."""
    try:
        from playwright.async_api import async_playwright  # noqa: PLC0415 - only CI and this need it
    except ImportError:
        row("the report in Chromium", "Playwright is not installed", "pip install playwright")
        return
    async with bench(FAST) as b, async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        for films, slower, bars in (
            (2_186, 1, (300, 100)),
            (6_888, 1, (500, 100)),
            (6_888, 4, (2_500, None)),
        ):
            files = [("files", ("ratings.csv", ratings(films))), ("files", ("diary.csv", diary(films)))]
            session_id = (await b.client.post("/api/upload", files=files)).json()["session_id"]
            await b.ended(session_id)
            runs = [await _opened(chromium, f"{b.client.base_url}/#{session_id}", slower) for _ in range(10)]
            paints, tasks, shifts = map(sorted, zip(*runs, strict=True))
            name = f"report of {films:,} films" + (f", CPU {slower} times slower" if slower > 1 else "")
            for what, times, bar in (("first paint", paints, bars[0]), ("longest task", tasks, bars[1])):
                figure = f"{times[len(times) // 2]:.0f} ms, at worst {times[-1]:.0f}"
                row(f"{name}: {what}", figure, f"{bar} ms" if bar else "-")
            row("    layout shift", f"{shifts[-1]:.3f}", "0.02")


async def _opened(chromium: Any, url: str, slower: float) -> list[float]:
    context = await chromium.new_context()
    page = await context.new_page()
    await (await context.new_cdp_session(page)).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    await page.add_init_script(WATCH_PAGE)
    await page.goto(url)
    await page.wait_for_selector("#take")
    await page.wait_for_selector("main:not([aria-busy])")
    await page.wait_for_timeout(300)
    watched: list[float] = await page.evaluate(WATCHED_PAGE)
    await context.close()
    return watched


async def stopping() -> None:
    """Seconds from SIGTERM to the exit, with an event stream open."""
    async with bench() as b:
        await b.told(latency_seconds=0.15)
        session_id, _ = await b.upload(ratings(5_000))
        url = b.client.base_url
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET /api/session/{session_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(2)
        started = time.perf_counter()
        await b.stop()
        row("from SIGTERM to the exit, with an event stream", f"{time.perf_counter() - started:.2f} s", "2 s")
        writer.close()


GROUPS: dict[str, Callable[[], Awaitable[None]]] = {
    group.__name__: group
    for group in (
        rate,
        calls,
        again,
        upload,
        worst,
        stats,
        polls,
        listeners,
        load,
        memory,
        postgres,
        page,
        forgetting,
        faults,
        stopping,
    )
}


async def run(names: list[str]) -> None:
    row("what", "measured", "floor or bar")
    row("-" * 62, "-" * 28, "-" * 30)
    for name in names or GROUPS:
        await GROUPS[name]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help=", ".join(GROUPS))
    asyncio.run(run(parser.parse_args().groups))
