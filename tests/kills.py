"""Random kills, restarts and cut connections while members upload, correct, undo, retry and delete.

    python -m tests.kills 60    # minutes

Whatever a client was told must be so in the end: no film is lost or doubled, no acknowledged choice or
deletion is forgotten. `tests/test_postgres.py` runs it for some seconds. If Debian's faketime is installed,
one process has a clock that is 30 s ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from tests.bench import ratings
from tests.cluster import Cluster
from tests.conftest import ROOT
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port, made_up

PROCESSES = 3
FILMS = 60

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@dataclass
class Member:
    """One session, and what its member was told about it. `unsure` films have a change without an answer."""

    session_id: str
    chosen: dict[int, int | None] = field(default_factory=dict)  # by movie_id: a TMDB id, or None if cleared
    before: dict[int, int | str | None] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)


class Kills:
    def __init__(self, cluster: Cluster, tmdb: FakeTMDB, seed: int, log: IO[bytes]) -> None:
        self.cluster, self.tmdb, self.random, self.log = cluster, tmdb, random.Random(seed), log
        self.ports = [free_port() for _ in range(PROCESSES)]
        self.running: list[asyncio.subprocess.Process] = []
        self.members: list[Member] = []
        self.deleted: list[str] = []
        self.acts = 0

    async def start(self, number: int) -> asyncio.subprocess.Process:
        environment = {
            "TMDB_API_KEY": V3_KEY, "TMDB_BASE_URL": self.tmdb.url, "TMDB_REQUESTS_PER_SECOND": "300",
            "DATABASE_URL": self.cluster.url, "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        if FAKETIME and number == 0:
            environment |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+30s"}
        port = str(self.ports[number])
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "main:app", "--port", port, "--no-access-log"),
            cwd=ROOT, env=os.environ | environment, stdout=-3, stderr=self.log,
        )  # fmt: skip

    async def send(self, method: str, path: str, **given: Any) -> httpx.Response | None:
        """The answer of some process, or None if there was none or a 5xx."""
        port = self.random.choice(self.ports)
        self.acts += 1
        try:
            async with httpx.AsyncClient(timeout=15, verify=False) as client:
                answer = await client.request(method, f"http://127.0.0.1:{port}{path}", **given)
        except httpx.HTTPError:
            return None
        assert answer.status_code != 500, (method, path, answer.text)
        return answer if answer.status_code < 500 else None

    async def act(self) -> None:
        kind = self.random.choice(
            ["upload", "correct", "correct", "clear", "undo", "retry", "delete", "read"]
        )
        if kind == "upload" or not self.members:
            answer = await self.send(
                "POST", "/api/upload", files={"files": ratings(FILMS, len(self.members))}
            )
            if answer is not None:
                assert answer.status_code == 201, answer.text
                self.members.append(Member(answer.json()["session_id"]))
            return
        member = self.random.choice(self.members)
        session = f"/api/session/{member.session_id}"
        if kind == "delete" and len(self.members) > 3:
            self.members.remove(member)
            answer = await self.send("DELETE", session)
            if answer is not None:
                assert answer.status_code == 204, answer.text
                self.deleted.append(member.session_id)
        elif kind == "retry":
            await self.send("POST", f"{session}/retry")
        elif kind in ("correct", "clear", "undo"):
            await self.choose(member, kind, self.random.randint(1, FILMS))
        else:
            answer = await self.send("GET", f"{session}/movies?limit=1000")
            assert answer is None or (answer.status_code, len(answer.json())) == (200, FILMS)

    async def choose(self, member: Member, kind: str, film: int) -> None:
        path = f"/api/session/{member.session_id}/movies/{film}/match"
        if film in member.unsure or (kind == "undo" and film not in member.before):
            return
        if kind == "undo":
            answer = await self.send("POST", f"{path}/undo")
        elif kind == "clear":
            answer = await self.send("DELETE", path)
        else:
            choice = {"tmdb_id": self.tmdb_id, "tmdb_type": "movie"}
            answer = await self.send("PUT", path, json=choice)
        if answer is None:
            member.unsure.add(film)
            return
        assert answer.status_code in (200, 204), answer.text
        if kind == "undo":
            earlier = member.before.pop(film)
            member.chosen.pop(film)
            if not isinstance(earlier, str):
                member.chosen[film] = earlier
        else:
            member.before[film] = member.chosen.get(film, "looked up")
            member.chosen[film] = None if kind == "clear" else self.tmdb_id

    @property
    def tmdb_id(self) -> int:
        return int(made_up(1)[0]["id"])

    async def harm(self) -> None:
        kind = self.random.choice(["kill", "kill", "stand still", "restart", "cut"])
        number = self.random.randrange(PROCESSES)
        self.check_running()
        if kind == "kill":
            with contextlib.suppress(ProcessLookupError):
                self.running[number].kill()
            await self.running[number].wait()
            self.running[number] = await self.start(number)
        elif kind == "stand still":
            self.running[number].send_signal(signal.SIGSTOP)
            await asyncio.sleep(7)
            self.running[number].send_signal(signal.SIGCONT)
        elif kind == "restart":
            await asyncio.to_thread(self.cluster.stop)
            await asyncio.sleep(self.random.uniform(0, 3))
            await asyncio.to_thread(self.cluster.start)
        else:
            others = "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity {others}"
            await asyncio.to_thread(self.cluster.ask, terminate)

    def check_running(self) -> None:
        """No process ends by itself."""
        self.log.seek(0)
        ended = {process.returncode for process in self.running} - {None}
        assert not ended, (ended, self.log.read()[-3_000:].decode())
        self.log.seek(0, os.SEEK_END)

    async def rage(self, seconds: float) -> None:
        end = time.monotonic() + seconds

        async def members() -> None:
            while time.monotonic() < end:
                await self.act()
                await asyncio.sleep(0.02)

        async def harms() -> None:
            while time.monotonic() < end - 5:
                await asyncio.sleep(self.random.uniform(1, 6))
                await self.harm()

        await asyncio.gather(members(), harms())

    async def patiently(self, method: str, path: str) -> httpx.Response:
        async with asyncio.timeout(120):
            while (answer := await self.send(method, path)) is None:
                await asyncio.sleep(0.3)
        return answer

    async def check(self) -> None:
        """In the end, with everything running."""
        self.check_running()
        for member in self.members:
            session = f"/api/session/{member.session_id}"
            async with asyncio.timeout(180):
                while (await self.patiently("GET", session)).json()["status"] not in ("completed", "failed"):
                    await asyncio.sleep(0.3)
            movies = (await self.patiently("GET", f"{session}/movies?limit=1000")).json()
            assert [movie["movie_id"] for movie in movies] == list(range(1, FILMS + 1))
            for movie in movies:
                number = movie["movie_id"]
                if number in member.unsure:
                    continue
                if number in member.chosen:
                    told = (movie["tmdb_id"], member.chosen[number])
                    assert told[0] == told[1], (session, number, told, movie["match"])
                else:
                    assert movie["match"]["status"] == "exact", (session, number, movie["match"])
        for session_id in self.deleted:
            assert (await self.patiently("GET", f"/api/session/{session_id}")).status_code == 404

    @contextlib.asynccontextmanager
    async def processes(self) -> AsyncIterator[None]:
        self.running = [await self.start(number) for number in range(PROCESSES)]
        try:
            for _ in range(3 * PROCESSES):
                await self.patiently("GET", "/health")
            yield
        finally:
            for process in self.running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def run(cluster: Cluster, seconds: float, seed: int) -> Kills:
    with tempfile.TemporaryFile() as log:
        async with FakeTMDB() as tmdb:
            tmdb.knows(made_up(5_000))
            tmdb.latency_seconds = 0.05
            kills = Kills(cluster, tmdb, seed, log)
            async with kills.processes():
                await kills.rage(seconds)
                await kills.check()
            return kills


if __name__ == "__main__":
    minutes, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}")
    with Cluster() as running:
        done = asyncio.run(run(running, minutes * 60, seed))
    print(
        f"{done.acts} requests; {len(done.members)} sessions kept, {len(done.deleted)} deleted: all as told"
    )
