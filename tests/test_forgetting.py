"""What a member uploaded is freed with its session at once, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

import main
from tests.conftest import Api, Clock, Serve, files
from tests.fake_tmdb import FakeTMDB
from tests.test_hostile import packed

KINDS = (main.Session, main.Export, main.Film, main.Viewing, main.Table, main.Joiner)
SECRET = "nobody-else-may-"  # followed by a word that is only in the upload


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.freeze()  # what exists already is not searched
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def kept() -> Counter[str]:
    """What is left of sessions, and what refers to the member's texts."""
    secret = SECRET + "read"
    left: Counter[str] = Counter()
    for each in gc.get_objects():
        left[type(each).__name__] += isinstance(each, KINDS)
        for word in gc.get_referents(each):
            if (type(word) is str and secret in word) or (type(word) is bytes and secret.encode() in word):
                left[f"{type(word).__name__} in {type(each).__name__}"] += 1
    return +left


async def uploaded(api: Api) -> str:
    """A session from every kind of file, with dates of both kinds and a wrong rating, row and charset.

    Packed, so that the client holds no copy of the texts.
    """
    line, secret = "2024-01-02,Inception,2010,https://boxd.it/1skk", SECRET + "read"
    given = files(
        watched=line,
        ratings=f"{line},6",
        diary=f'{line}x,4.5,,"{secret},tag",12/31/2023\n2024-01-02,,,,,,{"x" * 40}{secret},',
        reviews=f'{line}x,4.5,,"{secret}",{secret},12/31/2023',
    )
    given.append(("import.csv", f"Title,Review\nAlien\xe9,{secret}".encode("cp1252")))
    session_id: str = (await api.upload(("export.zip", packed(*given))))["session_id"]
    return session_id


async def read_everything(api: Api, session_id: str) -> None:
    for path in (
        "",
        "/movies",
        "/movies/1",
        "/movies/9",
        "/stats",
        "/movies.csv",
        "/letterboxd.csv",
        "/events",
    ):
        reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
        request = (
            f"GET /api/session/{session_id}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        assert await reader.read()
        writer.close()
        await writer.wait_closed()


async def forgotten() -> Counter[str]:
    for _ in range(100):
        if not (left := kept()):
            break
        await asyncio.sleep(0.02)
    return left


@pytest.mark.usefixtures("_no_collector")
async def test_delete_leaves_nothing_of_an_upload(api: Api) -> None:
    session_id = await uploaded(api)
    await api.ended(session_id)
    await read_everything(api, session_id)
    assert kept()

    await api.delete(f"/api/session/{session_id}")

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_delete_leaves_nothing_of_downloads_that_were_broken_off(method: str, api: Api) -> None:
    session_id = await uploaded(api)
    await api.ended(session_id)
    for name in ("movies", "movies.csv", "matches.csv", "letterboxd.csv", "events"):
        _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
        writer.write(
            f"{method} /api/session/{session_id}/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        await asyncio.sleep(0.05)
        writer.transport.abort()

    await api.delete(f"/api/session/{session_id}")

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
async def test_delete_while_films_are_looked_up_leaves_nothing(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.2
    session_id = await uploaded(api)

    await api.delete(f"/api/session/{session_id}")

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("key", ["", "f" * 32])
async def test_delete_leaves_nothing_when_tmdb_was_not_asked_or_refused(key: str, serve: Serve) -> None:
    api = await serve(tmdb_api_key=key)
    session_id = await uploaded(api)
    await api.ended(session_id)

    await api.delete(f"/api/session/{session_id}")

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
async def test_delete_leaves_nothing_when_corrections_failed(api: Api, tmdb: FakeTMDB) -> None:
    session_id = await uploaded(api)
    await api.ended(session_id)
    choice = {"tmdb_id": 999_999_999, "tmdb_type": "movie"}
    answer = await api.put(f"/api/session/{session_id}/movies/1/match", json=choice)
    assert answer.status_code == 404

    await api.delete(f"/api/session/{session_id}")

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
async def test_expiry_leaves_nothing_of_an_upload(serve: Serve, clock: Clock) -> None:
    api = await serve(session_ttl_seconds=0.4)  # so that the store looks for expired ones every 0.1 s
    await api.ended(await uploaded(api))

    clock.now += 1

    assert await forgotten() == {}


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("limit", ["max_films", "max_memory_bytes"])
async def test_refused_upload_leaves_nothing(limit: str, serve: Serve) -> None:
    api = await serve(**{limit: 1})

    with pytest.raises(AssertionError, match=limit.upper()):
        await uploaded(api)

    assert await forgotten() == {}
