"""The whole thing in a minute, without a TMDB key: python -m tests.demo

Starts the fake TMDB and the service, looks up the sample export, prints what is in it and how to go on with
curl, and keeps serving until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from pathlib import Path

import uvicorn

import main
from tests.fake_tmdb import V3_KEY, FakeTMDB

SAMPLE = Path(__file__).with_name("letterboxd-demo-2026-01-01-00-00-utc.zip")


async def show(service: main.Service, url: str, tmdb: FakeTMDB) -> None:
    """Starts a session with the sample, and prints what happens."""
    export = main.parse_export([(SAMPLE.name, SAMPLE.read_bytes())])
    session = await service.store.create(export)
    print(f"{SAMPLE.name}: {session.total_movies} films in {', '.join(session.files)}\n", flush=True)
    main.start_enrichment(session, service.matcher)
    await main.show_progress(session)
    print(f"\n{main.summary(session)}\n")
    print(f"{tmdb.calls()} calls to TMDB, {tmdb.calls('search/')} of them searches")
    path = f"{url}/api/session/{session.session_id}"
    print(f"\nGo on with\n\n    curl {path}\n    curl '{path}/movies?limit=3'")
    print(f"    curl -F files=@tests/{SAMPLE.name} {url}/api/upload\n")
    print(f"or look at it: {url}/#{session.session_id}\nCtrl-C ends it.", flush=True)


async def demo(port: int) -> None:
    async with FakeTMDB() as tmdb:
        tmdb.latency_seconds = 0.1
        given = {"tmdb_api_key": V3_KEY, "tmdb_base_url": tmdb.url, "log_level": "WARNING"}
        app = main.create_app(main.Settings.model_validate(given))
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.05)
        if server.started:
            await show(app.state.service, f"http://localhost:{port}", tmdb)
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
