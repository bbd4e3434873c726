"""Nothing blocks the event loop; how long its steps take is for the benchmark (`polls`, `stats`, `worst`)."""

from __future__ import annotations

import asyncio

from blockbuster import blockbuster_ctx

import main
from tests.conftest import FEW, Api


async def journey(api: Api, given: tuple[str, bytes]) -> None:
    """What a member does with an export, while two others follow it."""
    session = f"/api/session/{(await api.upload(given))['session_id']}"
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
        await journey(api, FEW)
