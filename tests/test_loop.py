"""Nothing holds the event loop up: no blocking call, and no step of the service that takes long."""

from __future__ import annotations

import asyncio
import logging

import pytest
from blockbuster import blockbuster_ctx

import main
from tests.conftest import SAMPLE, Api, Serve
from tests.fake_tmdb import FakeTMDB, made_up

SLOW_SECONDS = 0.05


async def journey(api: Api, content: bytes, name: str) -> None:
    """What a member does with an export, while two others follow it."""
    session = f"/api/session/{(await api.upload((name, content)))['session_id']}"
    following = [asyncio.create_task(api.get(f"{session}/events")) for _ in range(2)]
    await api.ended(session.rpartition("/")[2])
    paths = ["/", "/health", "/openapi.json"]
    paths += [session + rest for rest in ("", "/movies?limit=1000", "/movies/1", "/stats", "/movies.csv")]
    paths += [session + rest for rest in ("/matches.csv", "/letterboxd.csv", "/movies?q=a&sort=-rating")]
    answers = await asyncio.gather(*map(api.get, paths), *following)
    answers += [await api.put(f"{session}/movies/1/match", json={"tmdb_id": 1, "tmdb_type": "movie"})]
    answers += [await api.post(f"{session}/retry"), await api.delete(session)]
    assert {answer.status_code for answer in answers} <= {200, 202, 204, 404}


async def test_service_makes_no_blocking_calls(api: Api) -> None:
    with blockbuster_ctx(main):
        await journey(api, SAMPLE.read_bytes(), SAMPLE.name)


@pytest.mark.long
async def test_no_step_takes_over_50_ms(
    serve: Serve, tmdb: FakeTMDB, caplog: pytest.LogCaptureFixture
) -> None:
    """With 2,000 films; tried three times, for a machine may be busy with something else."""
    tmdb.knows(made_up(2_000))
    rows = "\r\n".join(f"2024-01-02,Reel{n},{1930 + n % 90}," for n in range(2_000))
    api, loop = await serve(), asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = SLOW_SECONDS
    logging.getLogger("asyncio").setLevel(logging.WARNING)

    for _ in range(3):
        caplog.clear()
        await journey(api, f"Date,Name,Year,Letterboxd URI\r\n{rows}".encode(), "watched.csv")
        slow = [record.getMessage() for record in caplog.records if "Executing" in record.getMessage()]
        if not slow:
            break

    assert slow == []
