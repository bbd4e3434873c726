"""The whole thing in a minute, without a TMDB key: python -m tests.demo

Starts the fake TMDB and the service, uploads the sample export, shows the progress, prints what came out
and the curl lines to go on with, and keeps serving until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import uvicorn

import main
from tests.fake_tmdb import V3_KEY, FakeTMDB

SAMPLE = Path(__file__).with_name("letterboxd-demo-2026-01-01-00-00-utc.zip")


async def show(url: str, tmdb: FakeTMDB) -> None:
    """Uploads the sample to the service at `url`, and prints what happens."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        print(f"Uploading {SAMPLE.name} …")
        with SAMPLE.open("rb") as sample:
            upload = (await client.post("/api/upload", files={"files": (SAMPLE.name, sample)})).json()
        print(f"{upload['total_movies']} films in {', '.join(upload['files'])}\n")
        session = f"/api/session/{upload['session_id']}"
        await _follow(client, session)
        _summarise((await client.get(f"{session}/movies?limit=1000")).json())
    print(f"{tmdb.calls()} calls to TMDB, {tmdb.calls('search/')} of them searches")
    print(f"\nGo on with\n\n    curl {url}{session}\n    curl '{url}{session}/movies?limit=3'")
    print(f"    curl -F files=@tests/{SAMPLE.name} {url}/api/upload\n")
    print(f"or look at it: {url}/#{upload['session_id']}\nCtrl-C ends it.")


async def _follow(client: httpx.AsyncClient, session: str) -> None:
    while True:
        status = (await client.get(session)).json()
        done, total = status["processed_count"], status["total_movies"]
        bar = "█" * (40 * done // total)
        eta = "" if status["eta_seconds"] is None else f", {status['eta_seconds']:.0f} s left"
        sys.stdout.write(f"\r{bar:░<40} {done} of {total}{eta}      ")
        sys.stdout.flush()
        if status["status"] in ("completed", "failed"):
            print("\n")
            return
        await asyncio.sleep(0.2)


def _summarise(movies: list[dict[str, Any]]) -> None:
    hours = sum(movie["runtime"] or 0 for movie in movies if movie["watched"]) / 60
    print(f"{sum(movie['watched'] for movie in movies)} films watched, {hours:.0f} hours of them")
    for name in ("directors", "genres", "countries"):
        most = Counter(value for movie in movies if movie["watched"] for value in movie[name]).most_common(5)
        print(f"    {name}: {', '.join(f'{value} ({count})' for value, count in most)}")
    matches = Counter(movie["match"]["status"] for movie in movies)
    print("matches:", ", ".join(f"{count} {status}" for status, count in matches.most_common()))
    for movie in movies:
        match = movie["match"]
        if match["status"] != "exact":
            year = f" ({movie['year']})" if movie["year"] else ""
            print(f"    {movie['title']}{year}, {match['status']}: {match['reason']}")


async def demo(port: int) -> None:
    async with FakeTMDB() as tmdb:
        tmdb.latency_seconds = 0.1
        given = {"tmdb_api_key": V3_KEY, "tmdb_base_url": tmdb.url, "log_level": "WARNING", "port": port}
        app = main.create_app(main.Settings.model_validate(given))
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.05)
        if server.started:
            await show(f"http://localhost:{port}", tmdb)
        await serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args().port
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", chosen)) == 0:
            raise SystemExit(f"Port {chosen} is taken; choose another with --port.")
    try:
        asyncio.run(demo(chosen))
    except KeyboardInterrupt:
        print("\nBye.")
