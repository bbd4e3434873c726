"""What is remembered of TMDB's answers from one run to the next, and a newer export in an old session."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import main
from tests.conftest import Api, Clock, files, session_of, settings_for
from tests.fake_tmdb import V3_KEY, FakeTMDB

Run = Callable[..., Any]


@pytest.fixture
def run(tmdb: FakeTMDB, clock: Clock, tmp_path: Path) -> Run:
    """Looks the first films of the sample up with the answers of earlier runs; what each was matched with."""

    async def look_up(films: int = 40) -> main.Session:
        session = session_of(clock, last=films)
        async with (
            main.AnswerFile(tmp_path / "answers.sqlite") as answers,
            main.TMDBClient(settings_for(tmdb), clock, clock.sleep, answers) as client,
        ):
            await main.enrich_session_async(session, main.Matcher(client))
        return session

    return look_up


def outcomes(session: main.Session) -> list[Any]:
    movies = [(film.match, film.match.movie) for film in session.export.films]
    return [(match.status, match.reason, match.candidates, movie) for match, movie in movies]


async def test_second_run_asks_nothing_and_finds_the_same(run: Run, tmdb: FakeTMDB) -> None:
    first = await run()
    asked = tmdb.calls()

    second = await run()

    assert asked > 40
    assert tmdb.calls() == asked
    assert outcomes(second) == outcomes(first)
    assert second.collections == first.collections
    assert (first.kept_films, second.kept_films) == (0, 40)


async def test_run_with_new_films_asks_for_these_alone(run: Run, tmdb: FakeTMDB) -> None:
    await run(30)
    tmdb.requests.clear()

    session = await run(40)

    assert session.kept_films == 30
    titles = {film.title for film in session.export.films[30:]}
    searched = {asked.query["query"] for asked in tmdb.requests if asked.path.startswith("search")}
    assert searched
    assert all(any(words in title for title in titles) for words in searched)


@pytest.mark.parametrize(
    ("days", "released", "asked"),
    [
        (0.9, "", set()),
        (1.1, "", {"search/movie", "search/tv"}),  # nothing was found
        (29, "2001-04-25", set()),
        (31, "2001-04-25", {"search/movie"}),
        (151, "2001-04-25", {"search/movie", "movie/7"}),
        (13, "2126-11-01", set()),
        (15, "2126-11-01", {"movie/7"}),  # the record of a new film
    ],
)
async def test_answers_are_kept_for_as_long_as_they_are_likely_to_hold(
    days: float, released: str, asked: set[str], tmdb: FakeTMDB, clock: Clock, tmp_path: Path
) -> None:
    now, film = 1_800_000_000.0, main.Film("Amélie", int(released[:4] or 2001))
    known = {"media": "movie", "id": 7, "title": film.title, "release_date": released, "vote_count": 500}
    tmdb.knows([known] if released else [])
    for day in (0, days):
        tmdb.requests.clear()
        async with (
            main.AnswerFile(tmp_path / "answers.sqlite", lambda day=day: now + day * 86_400) as answers,  # type: ignore[misc]
            main.TMDBClient(settings_for(tmdb), clock, clock.sleep, answers) as client,
        ):
            await main.Matcher(client).find(film)

    assert {request.path for request in tmdb.requests} == asked


async def test_retry_asks_anew(tmdb: FakeTMDB, clock: Clock, tmp_path: Path) -> None:
    film = main.Film("Arrakis", 2021)
    async with (
        main.AnswerFile(tmp_path / "answers.sqlite") as answers,
        main.TMDBClient(settings_for(tmdb), clock, clock.sleep, answers) as client,
    ):
        matcher = main.Matcher(client)
        before = await matcher.find(film)
        tmdb.knows([{"media": "movie", "id": 7, "title": "Arrakis", "release_date": "2021-01-01"}])
        still = await matcher.find(film)
        matcher.forget(film)
        after = await matcher.find(film)

    assert [match.status for match in (before, still, after)] == ["not_found", "not_found", "exact"]


async def test_file_is_the_owners_alone_and_holds_no_key(run: Run, tmp_path: Path) -> None:
    await run()

    for path in [tmp_path / "answers.sqlite", *tmp_path.glob("answers.sqlite-*")]:  # noqa: ASYNC240 - a few names
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert V3_KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("harm", ["damaged", "foreign", "folder", "read-only folder", "other columns"])
async def test_file_that_cannot_be_used_costs_a_warning(
    harm: str, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.sqlite"
    if harm == "damaged":
        await run(5)
        path.write_bytes(path.read_bytes()[:5_000] + os.urandom(5_000))
    elif harm == "foreign":
        path.write_bytes(b"Name,Year\r\n" * 500)
    elif harm == "folder":
        path.mkdir()
    elif harm == "read-only folder":

        def refuse(*_: Any) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE answers (question TEXT)")

    with caplog.at_level(logging.WARNING):
        session = await run(5)

    assert session.enriched_count == 5
    assert caplog.text.count("TMDB's answers are not kept") == 1


async def test_two_runs_at_once_share_the_file(
    run: Run, clock: Clock, tmp_path: Path, tmdb: FakeTMDB
) -> None:
    async with main.AnswerFile(tmp_path / "answers.sqlite"):
        first = await run(20)
    tmdb.requests.clear()

    second = await run(20)

    assert (first.enriched_count, second.kept_films, tmdb.calls()) == (second.enriched_count, 20, 0)


async def test_body_of_an_earlier_version_is_asked_for_again(
    run: Run, tmp_path: Path, tmdb: FakeTMDB
) -> None:
    """It lacks a field that is used now."""
    first = await run(10)
    with sqlite3.connect(tmp_path / "answers.sqlite") as database:
        database.execute("UPDATE answers SET version = 'old', body = '{\"id\": 1}'")

    tmdb.requests.clear()
    second = await run(10)

    assert tmdb.calls() > 0
    assert outcomes(second) == outcomes(first)


async def test_answers_of_another_service_are_kept_apart(run: Run, tmp_path: Path) -> None:
    await run(5)

    with sqlite3.connect(tmp_path / "answers.sqlite") as database:
        versions = [version for (version,) in database.execute("SELECT version FROM answers")]

    assert all(" of http://127.0.0.1" in version for version in versions)
    assert main.TMDB.fullmatch(main.Settings().tmdb_base_url)


# --- A newer export


OLD = """2024-01-02,Inception,2010,https://boxd.it/1skk
2024-01-02,Parasite,2019,https://boxd.it/hTha
2024-01-02,Nothing Has This Title,2001,"""
NEW = """2024-02-02,Glass Onion,2022,
2024-01-02,Inception,2010,https://boxd.it/1skk
2024-01-02,Nothing Has This Title,2001,"""


async def test_newer_export_keeps_choices_and_looks_new_films_up(api: Api, tmdb: FakeTMDB) -> None:
    session_id = (await api.upload(*files(watched=OLD)))["session_id"]
    session = f"/api/session/{session_id}"
    await api.ended(session_id)
    names = {film["title"]: film["movie_id"] for film in await api.movies(session_id)}
    await api.put(
        f"{session}/movies/{names['Inception']}/match", json={"tmdb_id": 496243, "tmdb_type": "movie"}
    )
    tmdb.requests.clear()

    given = files(watched=NEW, ratings="2024-02-02,Inception,2010,https://boxd.it/1skk,4.5")
    answer = await api.post(f"{session}/export", files=[("files", file) for file in given])
    await api.ended(session_id)
    films = {film["title"]: film for film in await api.movies(session_id)}
    asked = {request.query.get("query", "Glass Onion") for request in tmdb.requests}
    inception = f"{session}/movies/{films['Inception']['movie_id']}"
    undone = (await api.post(f"{inception}/match/undo")).json()

    body = answer.json()
    assert answer.status_code == 200
    assert [body[f"{name}_count"] for name in ("new", "changed", "gone")] == [1, 1, 1]
    assert (body["session_id"], body["total_movies"], body["status"]) == (session_id, 3, "enriching")
    assert set(films) == {"Glass Onion", "Inception", "Nothing Has This Title"}
    assert films["Inception"]["match"]["status"] == "corrected"
    assert films["Inception"]["rating"] == 4.5
    assert films["Glass Onion"]["match"]["status"] in ("exact", "guessed")
    assert asked == {"Glass Onion"}
    assert undone["match"]["status"] == "exact"


async def test_newer_export_waits_for_the_end_of_the_work(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    session = f"/api/session/{(await api.upload(*files(watched=OLD)))['session_id']}"

    answer = await api.post(f"{session}/export", files={"files": files(watched=NEW)[0]})

    assert answer.status_code == 409
    assert "still being looked up" in answer.json()["detail"]
    await api.delete(session)


async def test_unusable_newer_export_changes_nothing(api: Api) -> None:
    session_id = (await api.upload(*files(watched=OLD)))["session_id"]
    await api.ended(session_id)
    before = await api.movies(session_id)

    answer = await api.post(f"/api/session/{session_id}/export", files={"files": ("notes.txt", b"hello")})

    assert answer.status_code == 400
    assert await api.movies(session_id) == before
