"""The list of known films is renewed from TMDB."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

import main
from tests.conftest import settings_for
from tests.fake_tmdb import FakeTMDB, status
from tests.known_films import renew

YEARS = range(2022, 2018, -1)


def films(count: int = 130) -> list[dict[str, Any]]:
    """Of 2021 and 2022, with 1 vote and more."""
    return [
        {
            "media": "movie",
            "id": n,
            "title": f"Reel\t {n}",
            "vote_count": n,
            "release_date": f"{2021 + n % 2}-01-01",
        }
        for n in range(1, count + 1)
    ]


async def renewed(path: Path, *bodies: dict[str, Any]) -> bytes:
    async with FakeTMDB(bodies) as tmdb:
        return await renewed_from(tmdb, path)


async def renewed_from(tmdb: FakeTMDB, path: Path) -> bytes:
    await asyncio.to_thread(renew, settings_for(tmdb, tmdb_requests_per_second=10_000), path, YEARS)
    return content(path)


def content(path: Path) -> bytes:
    return path.read_bytes()


def half_a_line(part: Path) -> None:
    with part.open("a", encoding="utf-8") as file:
        file.write('[2022, 3, 4, [["Half')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known_films.tsv.gz"


async def test_lists_the_films_of_every_year_from_ten_votes_up(path: Path) -> None:
    lines = gzip.decompress(await renewed(path, *films())).decode().splitlines()

    assert lines == sorted(f"reel {n}\t{2021 + n % 2}\t{n}" for n in range(10, 131))
    assert [file.name for file in path.parent.glob("*")] == [path.name]


async def test_same_answers_give_the_same_bytes(path: Path) -> None:
    first = await renewed(path, *films())
    moved = [film | {"vote_count": 1000} for film in films()[100:]]  # to another page while they were read

    assert await renewed(path, *reversed(films())) == first
    assert await renewed(path, *films(), *moved) == first


async def test_goes_on_where_it_was_stopped(path: Path, tmdb: FakeTMDB) -> None:
    tmdb.knows(films())
    tmdb.plays = lambda request: status(422) if request.query["page"] == "3" else None
    with pytest.raises(main.TMDBUnavailable, match="422"):
        await renewed_from(tmdb, path)
    half_a_line(path.with_name("known_films.part"))
    with pytest.raises(main.TMDBUnavailable):
        await renewed_from(tmdb, path)
    kept = path.with_name("known_films.part").read_text("utf-8").count("\n")
    tmdb.plays = lambda _: None
    tmdb.requests.clear()

    again = await renewed_from(tmdb, path)

    asked = {(each.query["primary_release_year"], each.query["page"]) for each in tmdb.requests}
    assert kept > 2
    assert len(asked) == 9 - kept
    assert again == await renewed(path, *films())


async def test_rejected_key_leaves_the_old_list(path: Path, tmdb: FakeTMDB) -> None:
    before = await renewed(path, *films())
    tmdb.key = "another"

    with pytest.raises(main.TMDBKeyRejected):
        await renewed_from(tmdb, path)

    assert content(path) == before
