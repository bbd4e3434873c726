"""Whether anything grows: python -m tests.soak lets 1,000 sessions of 500 films come and go (5 minutes).

The service runs in this process, under uvicorn and asked over HTTP, so that its objects, tasks, descriptors
and memory can be read (on Linux, with glibc); the fake TMDB runs in another. Four sessions at a time are
looked up, polled, followed, read, deleted or left to expire. A tenth of each one's films is new, and never
comes back.

Every 50 sessions, when all are gone, is a reading. Before it the client has looked the same films up as
before all others, so what is left to differ is growth: the median slope between any two readings after the
first 300 sessions, each beside its bar. The exit status is 1 when one is not met.

"In use" is what malloc has given out, all of Python's objects among it. RSS is that and what malloc keeps
for later, which goes up by a step when more is needed at once than ever before; a median passes over one.

    python -m tests.soak --sessions 60 --films 50      # a small one (40 seconds)

A small run has eight readings, judges those after its first third, and its client remembers what can turn
over from one to the next. Libraries' caches are not full by then, and among six readings one step in the
middle is the median, so its bars are wider: it notices sessions that are kept, of 80 KB each or with one
object, and a task or descriptor left by one session in ten, but not a few KB a session.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import os
import sys
import threading
from array import array
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import anyio.to_thread
import httpx
from uvicorn.protocols.http.auto import AutoHTTPProtocol

import main
from tests.bench import Bench, answering, process, ratings
from tests.conftest import Services
from tests.fake_tmdb import V3_KEY, free_port

AT_ONCE = 4  # and twice as many while warming up: malloc keeps what was needed at once
# What may come to be in 50 sessions.
BARS = {"objects": 1, "tasks": 0, "descriptors": 0, "in use, MB": 0.02, "RSS, MB": 0.02}
SMALL_RUN_BARS = {"objects": 50, "tasks": 5, "descriptors": 5, "in use, MB": 1, "RSS, MB": 1}
READS = {2: "movies?limit=100", 3: "stats", 4: "movies.csv", 5: "matches.csv", 6: "letterboxd.csv"}
# One place for all memory: what malloc puts aside for each thread looks like growth for hundreds of sessions.
ALLOCATOR = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0",
}


class Plan:
    """How many sessions of how many films, how often they are read, and the files that they upload."""

    def __init__(self, sessions: int, films: int) -> None:
        self.films, self._new = films, max(films // 10, 1)
        self.every = max(min(50, sessions // 8), 1)
        self.readings = sessions // self.every
        self.warm = min(300, sessions // 3) // self.every
        self.remembered = min(main.MAX_CACHED, 2 * self.every * self._new)  # a film is two answers
        self.bars = BARS if sessions >= 1_000 else SMALL_RUN_BARS
        self.made_up = self.every * self.readings * self._new + films + self.remembered // 2
        with ProcessPoolExecutor(1) as apart:  # its garbage would be room for this process to grow in
            self._header, *self._lines = apart.submit(ratings, self.made_up).result().splitlines()

    def export(self, number: int) -> bytes:
        return self._csv(self._lines[number * self._new :][: self.films])

    def to_remember(self) -> bytes:
        """Films that no other upload has, just as many as push all others out of the client's memory."""
        return self._csv(self._lines[-self.remembered // 2 :])

    def _csv(self, lines: list[bytes]) -> bytes:
        return b"\r\n".join([self._header, *lines])


class Soak:
    """Sessions that come and go, and what is left of them; nothing is kept here but numbers."""

    def __init__(self, plan: Plan, bench: Bench) -> None:
        self._plan, self._bench, self._get = plan, bench, bench.client.get
        self._ids: set[str] = set()
        self._figures = {name: array("d", [0]) * plan.readings for name in BARS}

    async def run(self) -> bool:
        """Whether every bar is met."""
        row("sessions", *BARS)
        row(*["-" * 11] * (1 + len(BARS)))
        for number in range(200):  # httpx and urllib keep the last 128 addresses
            await self._get(f"/api/session/{number}")
        for reading in range(self._plan.readings):
            first = reading * self._plan.every
            await self._come_and_go(iter(range(first, first + self._plan.every)), reading < self._plan.warm)
            await even_out()
            self._read(reading, await objects())
        return self._judge()

    async def _come_and_go(self, numbers: Iterator[int], warming_up: bool) -> None:
        """Until no session is left, and the client remembers what it always does at a reading."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE * (1 + warming_up)):
                group.create_task(self._visit(numbers))
        session_id, _ = await self._bench.upload(self._plan.to_remember())
        await self._bench.ended(session_id)
        while (await self._get("/health")).json()["sessions"]:  # noqa: ASYNC110 - it comes over HTTP
            await asyncio.sleep(0.1)
        for gone in self._ids:
            assert (await self._get(f"/api/session/{gone}")).status_code == 404
        self._ids.clear()
        await self._bench.told()  # else the fake keeps every request

    async def _visit(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            session_id, _ = await self._bench.upload(self._plan.export(number))
            self._ids.add(session_id)
            if number % 10 == 1:
                await self._follow(session_id, to_the_end=False)
            else:
                await self._use(session_id, number % 10)
            if number % 10 in (1, 7):
                await self._bench.delete(session_id)

    async def _use(self, session_id: str, way: int) -> None:
        if way == 0:
            await self._follow(session_id, to_the_end=True)
        status = await self._bench.ended(session_id)
        assert status["enriched_count"] == status["total_movies"] == self._plan.films, status
        if way in READS:
            answer = await self._get(f"/api/session/{session_id}/{READS[way]}")
            assert answer.status_code == 200, answer.text

    async def _follow(self, session_id: str, to_the_end: bool) -> None:
        """Reads the events, all of them or one."""
        last, url = "", f"/api/session/{session_id}/events"
        async with self._bench.client.stream("GET", url) as events:
            async for line in events.aiter_lines():
                last = line if line.startswith("event:") else last
                if last and not to_the_end:
                    return
        assert last == "event: end", last

    def _read(self, reading: int, count: int) -> None:
        figures = self._figures
        figures["objects"][reading] = count
        figures["tasks"][reading] = len(asyncio.all_tasks())
        figures["descriptors"][reading] = sum(1 for _ in Path("/proc/self/fd").iterdir())
        figures["RSS, MB"][reading] = self._bench.megabytes()
        told = LIBC.mallinfo2()
        figures["in use, MB"][reading] = (told.uordblks + told.hblkhd) / 1e6
        shown = (f"{of[reading]:.{2 if 'MB' in name else 0}f}" for name, of in figures.items())
        row(str((reading + 1) * self._plan.every), *shown)

    def _judge(self) -> bool:
        met = True
        for name, of in self._figures.items():
            judged, bar = of[self._plan.warm :], self._plan.bars[name]
            pairs = itertools.combinations(enumerate(judged), 2)
            slope = median((b - a) / (later - earlier) for (earlier, a), (later, b) in pairs)
            slope *= 50 / self._plan.every
            met &= (good := slope < bar or slope == bar == 0)
            print(f"{name:>13} {slope:+.3f} in 50 sessions, bar {bar:g}: {'met' if good else 'NOT MET'}")
        return met


class Mallinfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


LIBC = ctypes.CDLL(None)
LIBC.mallinfo2.restype = Mallinfo


async def even_out() -> None:
    """What libraries keep for a while, now more of it and now less: as much at every reading."""
    # All threads that can ever be busy. anyio ends one that is idle for 10 s; asyncio has 5 on a single core.
    allowed = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    for in_thread, count in ((anyio.to_thread.run_sync, allowed), (asyncio.to_thread, 5)):
        all_there = threading.Barrier(count)
        await asyncio.gather(*(in_thread(all_there.wait) for _ in range(count)))
    for _ in range(100):  # uvicorn holds a connection that was left in mid-stream for 5 s more
        gc.collect()
        if not any(type(each) is AutoHTTPProtocol for each in gc.get_objects()):
            break
        await asyncio.sleep(0.1)
    for _ in range(1_000):  # asyncio forgets cancelled timers when most are
        asyncio.get_running_loop().call_later(60, int).cancel()
    await asyncio.sleep(0.1)


async def objects() -> int:
    """The fewest of ten moments: a timer that is due, or uvicorn's new date, is there at one only."""
    fewest = sys.maxsize
    for _ in range(10):
        gc.collect()
        fewest = min(fewest, len(gc.get_objects()))
        await asyncio.sleep(0.01)
    return fewest


def row(*cells: str) -> None:
    print("| " + " | ".join(f"{cell:>11}" for cell in cells) + " |", flush=True)


async def soak(plan: Plan) -> bool:
    main.MAX_CACHED = plan.remembered
    port = free_port()
    tmdb = f"http://127.0.0.1:{port}"
    settings = main.Settings.model_validate(
        {"tmdb_api_key": V3_KEY, "tmdb_base_url": f"{tmdb}/3", "tmdb_requests_per_second": 10_000}
        | {"session_ttl_seconds": 2, "max_sessions": 1_000, "log_level": "WARNING"}
    )
    no_connection_kept = httpx.Limits(max_keepalive_connections=0)
    fake = ("-m", "tests.fake_tmdb", "--port", str(port), "--films", str(plan.made_up))
    async with (
        process(*fake, PYTHONMALLOC="default"),
        Services() as services,
        services.serving(settings) as api,
        httpx.AsyncClient(base_url=api.base_url, timeout=60, limits=no_connection_kept) as client,
    ):
        await answering(client, f"{tmdb}/fake")
        return await Soak(plan, Bench(client, tmdb, os.getpid())).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--films", type=int, default=500)
    options = parser.parse_args()
    if not os.environ.items() >= ALLOCATOR.items():  # read when a process starts
        os.execve(sys.executable, sys.orig_argv, os.environ | ALLOCATOR)
    sys.exit(not asyncio.run(soak(Plan(options.sessions, options.films))))
