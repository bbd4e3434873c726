"""After the enrichment: every match can be checked, corrected, retried and taken away. All over HTTP."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import re
import signal
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import httpx
import pytest

import main
from tests.conftest import FEW, ROOT, SAMPLE_FILE, SHARED, Api, Ask, Serve, files, process, until
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port, hang, made_up, status, words

INCEPTION = "2024-01-02,Inception,2010,https://boxd.it/1skk"
PARASITE = "2024-01-02,Parasite,2019,https://boxd.it/hTha"
CHERNOBYL = "2024-01-02,Chernobyl,2019,https://boxd.it/lSnq"
NOWHERE = "2024-01-02,Our Summer on Super 8,2019,"
INCEPTION_URL = "https://www.themoviedb.org/movie/27205"
PARASITE_ID = 496243


async def done(api: Api, *given: tuple[str, bytes]) -> str:
    """The session of an upload whose films have been looked up."""
    session_id: str = (await api.upload(*given))["session_id"]
    await api.ended(session_id)
    return f"/api/session/{session_id}"


async def get(api: Api, url: str) -> Any:
    response = await api.get(url)
    assert response.status_code == 200, response.text
    return response.json()


async def titles(api: Api, url: str) -> list[str]:
    return [movie["title"] for movie in await get(api, url)]


async def movie_id(api: Api, session: str, title: str) -> int:
    return next(
        int(m["movie_id"]) for m in await get(api, f"{session}/movies?limit=1000") if m["title"] == title
    )


async def match_url(api: Api, session: str, title: str) -> str:
    return f"{session}/movies/{await movie_id(api, session, title)}/match"


# --- Finding films


FILTERS: dict[str, Callable[[Any], bool]] = {
    "match=not_found": lambda m: m["match"]["status"] == "not_found",
    "match=guessed&match=not_found": lambda m: m["match"]["status"] in ("guessed", "not_found"),
    "list=watched": lambda m: m["watched"],
    "list=rated": lambda m: m["rating"],
    "list=liked": lambda m: m["liked"],
    "list=watchlist": lambda m: m["watchlist"],
    "q=AMELIE": lambda m: m["title"] == "Amélie",
    "q=fabuleux destin": lambda m: m["title"] == "Amélie",
    "list=watched&q=kill bill": lambda m: "Kill Bill" in m["title"] and m["watched"],
}


async def test_filters_select_films(api: Api) -> None:
    session = await done(api, FEW)
    every = await get(api, f"{session}/movies?limit=1000")

    for query, wanted in FILTERS.items():
        response = await api.get(f"{session}/movies?limit=1000&{query}")

        chosen = [movie for movie in every if wanted(movie)]
        assert 0 < len(chosen) < len(every), query
        assert response.json() == chosen, query
        assert response.headers["X-Total-Count"] == str(len(chosen)), query


async def test_sorting_puts_films_without_a_value_last(api: Api) -> None:
    session = await done(api, FEW)

    for field in ("rating", "year", "watched_date", "runtime"):
        up, down = [
            [movie[field] for movie in await get(api, f"{session}/movies?limit=1000&sort={sign}{field}")]
            for sign in ("", "-")
        ]

        values = [value for value in up if value is not None]
        none = [None] * (19 - len(values))
        assert len(set(values)) > 5, field
        assert (up, down) == (sorted(values) + none, sorted(values, reverse=True) + none), field


async def test_ids_select_films_in_their_order(api: Api) -> None:
    session = await done(api, FEW)

    given = await get(api, f"{session}/movies?ids=7,3,9999,3,12")
    by_year = await get(api, f"{session}/movies?ids=7,3,12&sort=year")
    wrong = await api.get(f"{session}/movies?ids=7,x")

    assert [movie["movie_id"] for movie in given] == [7, 3, 12]
    assert [movie["year"] for movie in by_year] == sorted(movie["year"] for movie in given)
    assert wrong.status_code == 422


async def test_all_ids_come_in_the_order_of_the_films(api: Api) -> None:
    session = await done(api, FEW)

    for query in ("", "sort=-rating", "list=watched&q=the&sort=year"):
        movies = await get(api, f"{session}/movies?limit=1000&{query}")
        assert await get(api, f"{session}/movies/ids?{query}") == [movie["movie_id"] for movie in movies]


async def test_pages_keep_filter_and_order(api: Api) -> None:
    session = await done(api, FEW)
    whole = await titles(api, f"{session}/movies?list=watched&sort=-rating&limit=1000")

    paged, url = [], f"{session}/movies?list=watched&sort=-rating&limit=3"
    while url:
        response = await api.get(url)
        paged += [movie["title"] for movie in response.json()]
        url = response.links.get("next", {}).get("url", "")

    assert paged == whole


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ("match=good", "'pending', 'exact', 'guessed', 'corrected', 'not_found' or 'failed'"),
        ("list=seen", "'watched', 'rated', 'liked' or 'watchlist'"),
        ("sort=votes", "'rating', 'year', 'watched_date', 'runtime', '-rating'"),
    ],
)
async def test_unknown_value_is_a_422_that_lists_valid_ones(query: str, known: str, api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))

    response = await api.get(f"{session}/movies?{query}")

    assert response.status_code == 422
    assert response.json()["detail"].startswith(query.partition("=")[0])
    assert known in response.json()["detail"]


# --- One film


async def test_movie_ids_are_stable(api: Api) -> None:
    session_id = (await api.upload(FEW))["session_id"]
    early = {movie["movie_id"]: movie["title"] for movie in await api.movies(session_id)}
    await api.ended(session_id)

    late = await get(api, f"/api/session/{session_id}/movies?limit=1000&sort=-year")
    one = await get(api, f"/api/session/{session_id}/movies/{late[0]['movie_id']}")

    assert len(early) == 19
    assert {movie["movie_id"]: movie["title"] for movie in late} == early
    assert {key: one[key] for key in late[0]} == late[0]


async def test_film_has_all_its_viewings(api: Api) -> None:
    session = await done(api, FEW)

    persona = await get(api, f"{session}/movies/{await movie_id(api, session, 'Persona')}")

    assert [(v["watched_date"], v["rating"], v["tags"]) for v in persona["viewings"]] == [
        ("2023-01-17", 4.0, ["rewatch", "🎃"]),
        (None, 4.5, []),
    ]
    assert persona["viewings"][1]["review"].startswith("No diary date")


async def test_film_has_the_ten_best_candidates(serve: Serve) -> None:
    same = {"title": "Dune", "original_title": "Wüste", "release_date": "2021-05-05"}
    bodies = [body | same | {"vote_count": 10 * n} for n, body in enumerate(made_up(15))]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        session = await done(api, *files(watched="2024-01-02,Dune,2021,"))

    film = await get(api, f"{session}/movies/1")

    candidates = film["candidates"]
    assert [candidate["votes"] for candidate in candidates] == list(range(140, 40, -10))
    assert candidates[0].pop("score") > candidates[1]["score"]
    assert candidates[0] == {
        "tmdb_id": film["tmdb_id"],
        "tmdb_type": "movie",
        "title": "Dune",
        "original_title": "Wüste",
        "year": 2021,
        "votes": 140,
        "popularity": 1.0,
        "poster_url": "https://image.tmdb.org/t/p/w500/reel14.jpg",
    }


async def test_known_film_is_searched_for_when_it_is_opened(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, *files(watched=INCEPTION))
    assert [asked.path for asked in tmdb.requests] == ["movie/27205"]

    film, again = [await get(api, f"{session}/movies/1") for _ in range(2)]

    assert [asked.path for asked in tmdb.requests] == ["movie/27205", "search/movie"]
    assert film["candidates"][0]["tmdb_id"] == 27205
    assert film["candidates"][0]["score"] > 0
    assert again == film


async def test_known_film_opens_without_candidates_while_tmdb_is_silent(
    api: Api, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "CANDIDATES_SECONDS", 0.1)
    session = await done(api, *files(watched=INCEPTION))
    tmdb.faults.append(hang)

    silent = await get(api, f"{session}/movies/1")

    assert (silent["tmdb_id"], silent["candidates"]) == (27205, [])


@pytest.mark.parametrize("path", ["movies/0", "movies/2", "movies/99999999999999999999"])
async def test_unknown_film_is_a_404_that_gives_the_valid_range(path: str, api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))

    response = await api.get(f"{session}/{path}")

    assert response.status_code == 404
    assert "its films are numbered 1 to 1" in response.json()["detail"]


# --- Correcting


@pytest.mark.parametrize(
    "choice",
    [
        {"tmdb_id": PARASITE_ID, "tmdb_type": "movie"},
        {"tmdb_url": f"https://www.themoviedb.org/movie/{PARASITE_ID}"},
        {"tmdb_url": f" TheMovieDB.org/movie/{PARASITE_ID}-gisaengchung?language=ko#x"},
    ],
)
async def test_correction_replaces_the_match_and_updates_the_counts(choice: Any, api: Api) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{NOWHERE}"))
    url = await match_url(api, session, "Our Summer on Super 8")
    before = await get(api, session)

    response = await api.put(url, json=choice)

    film, after = response.json(), await get(api, session)
    assert response.status_code == 200
    assert (film["title"], film["tmdb_title"], film["tmdb_id"]) == (
        "Our Summer on Super 8",
        "Parasite",
        PARASITE_ID,
    )
    assert film["match"] == {"status": "corrected", "reason": "Chosen by hand."}
    assert (await get(api, f"{session}/movies?match=corrected"))[0]["directors"] == ["Bong Joon Ho"]
    assert (before["enriched_count"], before["not_found_count"]) == (1, 1)
    assert (after["enriched_count"], after["not_found_count"]) == (2, 0)
    assert after["revision"] > before["revision"]


async def test_series_is_not_confused_with_the_film_of_the_same_id(serve: Serve) -> None:
    (film,) = made_up(1)
    series = {"media": "tv", "id": 7, "name": "Series", "first_air_date": "2000-01-01"}
    bodies = [film | {"id": 7}, series]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        session = await done(api, *files(watched="2024-01-02,A,2000,\n2024-01-02,B,2000,"))

        a, b = [
            (await api.put(f"{session}/movies/{n}/match", json={"tmdb_id": 7, "tmdb_type": tmdb_type})).json()
            for n, tmdb_type in ((1, "movie"), (2, "tv"))
        ]

    assert (a["tmdb_type"], a["tmdb_title"]) == ("movie", film["title"])
    assert (b["tmdb_type"], b["tmdb_title"]) == ("tv", "Series")
    assert b["tmdb_url"] == "https://www.themoviedb.org/tv/7"


async def test_unknown_tmdb_id_is_a_404_and_changes_nothing(api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))
    before = await get(api, f"{session}/movies/1"), await get(api, session)

    response = await api.put(f"{session}/movies/1/match", json={"tmdb_id": PARASITE_ID, "tmdb_type": "tv"})

    assert response.status_code == 404
    assert response.json()["detail"].startswith("TMDB has no record with that id and type")
    assert (await get(api, f"{session}/movies/1"), await get(api, session)) == before


HALF_CHOICES: list[Any] = [
    {},
    {"tmdb_id": 27205},
    {"tmdb_type": "movie"},
    {"tmdb_id": 27205, "tmdb_type": "movie", "tmdb_url": INCEPTION_URL},
    {"tmdb_id": 0, "tmdb_type": "movie"},
    {"tmdb_id": True, "tmdb_type": "movie"},
    {"tmdb_id": 27205, "tmdb_type": "film"},
    {"tmdb_url": "https://letterboxd.com/film/inception/"},
    {"tmdb_url": f"https://evil.example/?{INCEPTION_URL}"},
    {"tmdb_url": "https://www.themoviedb.org/person/525"},
    [],
]


async def test_incomplete_choice_is_a_422_and_makes_no_call(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, *files(watched=NOWHERE))
    calls = tmdb.calls()

    for choice in HALF_CHOICES:
        response = await api.put(f"{session}/movies/1/match", json=choice)

        assert response.status_code == 422, choice
        assert set(response.json()) == {"detail"}, choice
    assert tmdb.calls() == calls


async def test_failed_correction_is_a_502_and_changes_nothing(serve: Serve, tmdb: FakeTMDB) -> None:
    api, keyless = await serve(), await serve(tmdb_api_key="")
    choice = {"tmdb_id": PARASITE_ID, "tmdb_type": "movie"}
    for client, said in ((api, "status 400"), (keyless, "TMDB_API_KEY")):
        session = await done(client, *files(watched=INCEPTION))
        before = await get(client, f"{session}/movies/1")
        tmdb.faults.extend([status(400)] * 3)

        response = await client.put(f"{session}/movies/1/match", json=choice)

        assert response.status_code == 502
        assert said in response.json()["detail"]
        assert await get(client, f"{session}/movies/1") == before


async def test_correction_of_a_pending_film_survives_its_lookup(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    api = await serve(tmdb_connections=1)
    given = files(watched=f"{CHERNOBYL}\n{INCEPTION}\n{PARASITE}\n{NOWHERE}")
    session_id = (await api.upload(*given))["session_id"]
    session = f"/api/session/{session_id}"
    first, last = (await get(api, f"{session}/movies"))[0], f"{session}/movies/4"
    assert (first["title"], first["match"]["status"]) == ("Chernobyl", "pending")

    # The first film takes several calls and is being looked up at this moment, the last one waits.
    for url in (f"{session}/movies/1", last):
        response = await api.put(f"{url}/match", json={"tmdb_url": f"{INCEPTION_URL[:-5]}{PARASITE_ID}"})
        assert response.status_code == 200
    status = await api.ended(session_id)

    waiting = await get(api, last)
    assert [(await get(api, f"{session}/movies/1"))["tmdb_title"], waiting["tmdb_title"]] == ["Parasite"] * 2
    assert status["processed_count"] == 4
    assert waiting["title"] not in {asked.query.get("query") for asked in tmdb.requests}
    assert len(await get(api, f"{session}/movies?match=corrected")) == 2


@pytest.mark.in_memory
async def test_correction_applies_to_the_next_upload(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, FEW)
    corrected = await match_url(api, session, "Glass Onion")
    await api.put(corrected, json={"tmdb_id": 27205, "tmdb_type": "movie"})
    await api.delete(await match_url(api, session, "Three Colours: Blue"))
    await api.delete(session)
    calls = tmdb.calls()

    again = await done(api, FEW)

    films = {movie["title"]: movie for movie in await get(api, f"{again}/movies?limit=1000")}
    assert films["Glass Onion"]["match"]["status"] == "corrected"
    assert films["Glass Onion"]["tmdb_id"] == 27205
    assert films["Three Colours: Blue"]["match"]["status"] == "not_found"
    assert tmdb.calls() == calls


async def test_cleared_match_stays_cleared(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}"))
    url = await match_url(api, session, "Inception")

    response = await api.delete(url)

    assert response.status_code == 204
    after = await get(api, session)
    assert (after["enriched_count"], after["not_found_count"]) == (1, 1)
    calls = tmdb.calls()
    assert (await api.post(f"{session}/retry")).status_code == 202
    await api.ended(session.rpartition("/")[2])
    assert tmdb.calls() == calls
    film = await get(api, url.removesuffix("/match"))
    assert (film["tmdb_id"], film["tmdb_enriched"], film["genres"]) == (None, False, [])
    assert film["match"] == {"status": "not_found", "reason": "The match was cleared by hand."}
    assert film["candidates"][0]["tmdb_id"] == 27205


async def test_cleared_match_stays_cleared_after_corrections_are_dropped(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "MAX_CORRECTIONS", 0)
    session = await done(api, *files(watched=INCEPTION))
    await api.delete(f"{session}/movies/1/match")

    await api.post(f"{session}/retry")
    await api.ended(session.rpartition("/")[2])

    assert (await get(api, f"{session}/movies/1"))["match"]["status"] == "not_found"


@pytest.mark.in_memory
async def test_latest_corrections_are_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_CORRECTIONS", 2)
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}\n{CHERNOBYL}"))
    for number in (1, 2, 1, 3):
        await api.delete(f"{session}/movies/{number}/match")

    again = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}\n{CHERNOBYL}"))

    statuses = [movie["match"]["status"] for movie in await get(api, f"{again}/movies")]
    assert statuses == ["not_found", "exact", "not_found"]


async def test_correction_can_be_undone_once(api: Api) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}"))
    before = await get(api, f"{session}/movies/1")
    await api.put(f"{session}/movies/1/match", json={"tmdb_id": 496243, "tmdb_type": "movie"})

    undone = await api.post(f"{session}/movies/1/match/undo")
    again = await api.post(f"{session}/movies/1/match/undo")

    assert undone.json() == before == await get(api, f"{session}/movies/1")
    assert (again.status_code, again.json()["detail"][:25]) == (409, "There is nothing to undo:")


@pytest.mark.in_memory
async def test_undone_correction_does_not_apply_to_the_next_upload(api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))
    await api.put(f"{session}/movies/1/match", json={"tmdb_id": 496243, "tmdb_type": "movie"})
    await api.post(f"{session}/movies/1/match/undo")

    later = await done(api, *files(watched=INCEPTION))
    assert [movie["match"]["status"] for movie in await get(api, f"{later}/movies")] == ["exact"]


@pytest.mark.parametrize("is_over", [True, False])
async def test_film_whose_early_choice_is_undone_is_looked_up(
    is_over: bool, api: Api, tmdb: FakeTMDB
) -> None:
    tmdb.latency_seconds = 0.1
    session_id = (await api.upload(*files(watched=f"{INCEPTION}\n{PARASITE}")))["session_id"]
    session = f"/api/session/{session_id}"
    await api.delete(f"{session}/movies/1/match")
    if is_over:
        await api.ended(session_id)

    undone = await api.post(f"{session}/movies/1/match/undo")
    ended = await api.ended(session_id)

    assert undone.json()["match"]["status"] in ("pending", "exact")
    assert (ended["status"], ended["processed_count"], ended["enriched_count"]) == ("completed", 2, 2)


async def test_undo_brings_an_earlier_choice_back(api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))
    await api.put(f"{session}/movies/1/match", json={"tmdb_id": 496243, "tmdb_type": "movie"})
    await api.delete(f"{session}/movies/1/match")

    undone = await api.post(f"{session}/movies/1/match/undo")

    assert (undone.json()["tmdb_id"], undone.json()["match"]["status"]) == (496243, "corrected")
    assert [movie["tmdb_id"] for movie in await get(api, f"{session}/movies")] == [496243]


async def test_candidates_can_be_searched_by_another_title(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, *files(watched=NOWHERE))
    asked = len(tmdb.requests)

    found = await get(api, f"{session}/movies/1/candidates?q=Parasite")

    assert [candidate["tmdb_id"] for candidate in found][:1] == [496243]
    assert [request.query["query"] for request in tmdb.requests[asked:]] == ["Parasite"]
    assert (await get(api, f"{session}/movies/1"))["match"]["status"] == "not_found"


async def test_search_by_another_title_without_a_key_is_a_502(serve: Serve) -> None:
    api = await serve(tmdb_api_key="")
    session = await done(api, *files(watched=NOWHERE))

    assert (await api.get(f"{session}/movies/1/candidates?q=Parasite")).status_code == 502


# --- Retrying


async def test_retry_looks_up_failed_and_not_found_films_only(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.plays = lambda request: status(422) if request.path.startswith("/3/movie/") else None
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}\n{CHERNOBYL}\n{NOWHERE}"))
    tmdb.plays = lambda _: None
    before = await get(api, session)
    assert (before["enriched_count"], before["not_found_count"], before["failed_count"]) == (1, 1, 2)
    kept = (await get(api, f"{session}/movies?match=exact"))[0]["title"]
    asked = len(tmdb.requests)

    response = await api.post(f"{session}/retry")

    assert response.status_code == 202
    assert response.json()["processed_count"] == 1
    after = await api.ended(response.json()["session_id"])
    assert (after["enriched_count"], after["not_found_count"], after["failed_count"]) == (3, 1, 0)
    queries = {request.query.get("query") for request in tmdb.requests[asked:]} - {None}
    assert "Our Summer on Super 8" in queries
    assert kept not in queries


async def test_retry_finds_films_added_to_tmdb_since(serve: Serve) -> None:
    async with FakeTMDB(made_up(1)) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        session = await done(api, *files(watched="2024-01-02,Reel1,1931,"))
        assert (await get(api, session))["not_found_count"] == 1
        tmdb.knows(made_up(2))

        await api.post(f"{session}/retry")
        await api.ended(session.rpartition("/")[2])

        assert (await get(api, session))["enriched_count"] == 1


async def test_retry_is_a_409_while_films_are_looked_up(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.02
    session_id = (await api.upload(*files(watched=NOWHERE)))["session_id"]
    session = f"/api/session/{session_id}"

    early = await api.post(f"{session}/retry")
    await api.ended(session_id)
    twice = [await api.post(f"{session}/retry") for _ in range(2)]

    assert early.status_code == 409
    assert "still being looked up" in early.json()["detail"]
    assert [response.status_code for response in twice] == [202, 409]


async def test_retry_finishes_after_a_rejected_key(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.key = "another"
    session = await done(api, FEW)
    assert (await get(api, session))["status"] == "failed"
    tmdb.key = V3_KEY

    await api.post(f"{session}/retry")
    after = await api.ended(session.rpartition("/")[2])

    assert (after["status"], after["error_message"], after["enriched_count"]) == ("completed", None, 18)


# --- Following


Event = tuple[str, dict[str, Any]]


@asynccontextmanager
async def following(api: Api, session: str) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a session, as a browser gets them."""

    async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
        name = ""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    async with api.stream("GET", f"{session}/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield events(response.aiter_lines())


async def followed(api: Api, session: str) -> list[Event]:
    async with following(api, session) as events:
        return [event async for event in events]


async def test_followers_see_another_clients_correction(
    serve: Serve, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "FOLLOW_SECONDS", 0.01)
    tmdb.latency_seconds = 0.02
    api = await serve(tmdb_connections=2)
    session_id = (await api.upload(FEW))["session_id"]
    session = f"/api/session/{session_id}"

    browsers = [asyncio.create_task(followed(api, session)) for _ in range(2)]
    corrected = await api.put(f"{session}/movies/19/match", json={"tmdb_url": INCEPTION_URL})
    heard = await asyncio.gather(*browsers)

    assert corrected.status_code == 200
    final = await get(api, session)
    for events in heard:
        names, states = zip(*events, strict=True)
        assert names == ("progress",) * (len(names) - 1) + ("end",)
        assert len(names) > 3
        assert states[0]["status"] in ("processing", "enriching")
        revisions = [state["revision"] for state in states[:-1]]
        assert revisions == sorted(set(revisions))
        assert states[-1] == states[-2]
        assert states[-1] | {"warnings": [], "profile": final["profile"]} == final
        assert all(
            state["processed_count"]
            == state["enriched_count"] + state["not_found_count"] + state["failed_count"]
            for state in states
        )
    # 19 films, one of them corrected before its turn, and a few collections: each is one change.
    assert final["revision"] - heard[0][0][1]["revision"] <= 25


async def test_first_event_is_immediate_and_reconnecting_continues(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    session = f"/api/session/{(await api.upload(FEW))['session_id']}"

    for _ in range(2):
        async with following(api, session) as events:
            name, state = await anext(events)
            assert (name, state["processed_count"]) == ("progress", 0)


async def test_ended_session_sends_one_progress_and_end(api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))

    events = await followed(api, session)

    assert [name for name, _ in events] == ["progress", "end"]
    assert events[1][1]["status"] == "completed"


async def test_retry_can_be_followed(api: Api, tmdb: FakeTMDB) -> None:
    session = await done(api, *files(watched=NOWHERE))
    tmdb.latency_seconds = 0.05
    await api.post(f"{session}/retry")

    events = await followed(api, session)

    assert [state["status"] for _, state in events][-2:] == ["completed", "completed"]
    assert events[0][1]["processed_count"] == 0


async def test_deleted_session_ends_its_streams(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    session = f"/api/session/{(await api.upload(FEW))['session_id']}"

    async with following(api, session) as events:
        await anext(events)
        assert (await api.delete(session)).status_code == 204
        rest = [event async for event in events]

    assert rest[-1][0] == "end"
    assert rest[-1][1]["error_message"] == "The lookup was stopped."


@pytest.mark.in_memory
async def test_disconnected_follower_is_dropped(
    api: Api, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[main.Session] = []
    monkeypatch.setattr(main.Session, "__post_init__", _seen(sessions))
    tmdb.latency_seconds = 30
    session = f"/api/session/{(await api.upload(FEW))['session_id']}"

    async with following(api, session) as events:
        await anext(events)
        assert sessions[0].followers == 1

    await until(lambda: sessions[0].followers == 0)


def _seen(sessions: list[main.Session]) -> Callable[[main.Session], None]:
    post_init = main.Session.__post_init__

    def seen(session: main.Session) -> None:
        post_init(session)
        sessions.append(session)

    return seen


async def test_events_of_an_unknown_session_are_a_404(api: Api) -> None:
    response = await api.get("/api/session/Wm9XbK3vS4mZ0uH2aQ7c1w/events")

    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_streams_and_the_service(number: signal.Signals, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds, port = 30, free_port()
    service = await process(port, tmdb)

    async with asyncio.timeout(20), Api(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
        session = f"/api/session/{(await api.upload(FEW))['session_id']}"
        async with following(api, session) as events:
            await anext(events)
            service.send_signal(number)
            rest = [name async for name, _ in events]
    _, said = await asyncio.wait_for(service.communicate(), 10)

    assert rest[-1] == "end"
    assert b"Traceback" not in said
    assert b"Finished server process" in said


# --- Taking it away


def table(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline="")))


def logged(film: main.Film) -> Any:
    """What a member logged about a film, and which movie the upload says that it is."""
    entries = [(v.watched_date, v.rating, v.rewatch, v.tags, v.review) for v in film.viewings]
    reviews = [(v.rating, v.tags, v.review) for v in film.undated_reviews]
    return film.title, film.year, film.film_uri, film.rating, film.liked, entries, reviews


async def test_movies_csv_has_the_fields_of_the_json(api: Api) -> None:
    session = await done(api, FEW)
    movies = await get(api, f"{session}/movies?limit=1000")

    response = await api.get(f"{session}/movies.csv")

    rows = table(response)
    assert response.headers["Content-Disposition"] == 'attachment; filename="movies.csv"'
    assert response.content.startswith("\ufeffmovie_id,title,year,".encode())
    assert [row["title"] for row in rows] == [movie["title"] for movie in movies]
    assert set(movies[0]) - {"match"} == set(rows[0]) - {"match_status", "match_reason"}
    for movie, row in zip(movies, rows, strict=True):
        assert row["year"] == ("" if movie["year"] is None else str(movie["year"]))
        assert row["rating"] == ("" if movie["rating"] is None else f"{movie['rating']:g}")
        assert row["watched_date"] == (movie["watched_date"] or "")
        assert row["watched"] == ("true" if movie["watched"] else "false")
        assert row["directors"] == ", ".join(movie["directors"])
        assert (row["tmdb_id"], row["tmdb_type"]) == (
            str(movie["tmdb_id"] or ""),
            movie["tmdb_type"] or "",
        )
        assert row["match_status"] == movie["match"]["status"]


async def test_match_report_lists_status_choice_and_candidates(api: Api) -> None:
    session = await done(api, FEW)
    await api.put(await match_url(api, session, "Glass Onion"), json={"tmdb_url": INCEPTION_URL})

    report = table(await api.get(f"{session}/matches.csv"))

    assert [int(row["movie_id"]) for row in report] == list(range(1, 20))
    rows = {row["title"]: row for row in report}
    onion, missing = rows["Glass Onion"], rows["Our Summer on Super 8"]
    assert (onion["match_status"], onion["tmdb_url"], onion["tmdb_title"]) == (
        "corrected",
        INCEPTION_URL,
        "Inception",
    )
    assert (
        "Glass Onion: A Knives Out Mystery (2022) https://www.themoviedb.org/movie/661374"
        in (onion["candidates"])
    )
    assert (missing["match_status"], missing["tmdb_id"]) == ("not_found", "")
    assert missing["match_reason"].startswith("TMDB")


async def test_csvs_call_the_same_thing_by_the_same_name(api: Api) -> None:
    added = INCEPTION.replace("2024-01-02", "2024-02-03")
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}", watchlist=added))

    names = ("movies.csv", "matches.csv", "letterboxd.csv", "letterboxd.csv?list=watchlist")
    downloads = [await api.get(f"{session}/{name}") for name in names]
    tables = list(map(table, downloads))
    back = [main.parse_export([("watchlist.csv", download.content)]).films[0] for download in downloads]

    same = [{name.casefold().replace("_", ""): value for name, value in rows[0].items()} for rows in tables]
    assert {(row["matchstatus"], row["watchlistdate"]) for row in same} == {("exact", "2024-02-03")}
    assert "status" not in tables[1][0]
    assert "matchreason" in same[0].keys() & same[1].keys()
    assert [film.watchlist_date for film in back] == [date(2024, 2, 3)] * 4


async def test_day_of_the_watchlist_is_not_that_of_watching(api: Api) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}", watchlist=CHERNOBYL))

    movies = await get(api, f"{session}/movies")

    assert {movie["title"]: movie["watchlist_date"] for movie in movies} == {
        "Inception": None,
        "Parasite": None,
        "Chernobyl": "2024-01-02",
    }


async def test_round_trip_gives_the_same_films_with_one_call_each(serve: Serve, tmdb: FakeTMDB) -> None:
    first = await serve()
    session = await done(first, FEW)
    downloads = [
        (name, (await first.get(f"{session}/letterboxd.csv?list={name}")).content)
        for name in ("watched", "watchlist")
    ]
    again, calls = await serve(database_url=""), tmdb.calls()  # it knows no film yet

    session_again = await done(again, *((f"letterboxd-{name}.csv", data) for name, data in downloads))

    films = main.parse_export([FEW]).films
    back = main.parse_export([(f"letterboxd-{name}.csv", data) for name, data in downloads])
    assert back.warnings == []
    kept = [film for film in films if film.watched or film.watchlist]
    assert [logged(film) for film in back.films] == [logged(film) for film in kept]
    assert [film.watchlist for film in back.films] == [film.watchlist for film in kept]
    before, after = [
        [(m["title"], m["tmdb_type"], m["tmdb_id"]) for m in await get(client, f"{url}/movies?limit=1000")]
        for client, url in ((first, session), (again, session_again))
    ]
    assert after == [before[film.movie_id - 1] for film in kept]
    assert ("Chernobyl", "tv", 87108) in after
    searched = [asked for asked in tmdb.requests[calls:] if asked.path.startswith("search")]
    missing = {word for title, _, tmdb_id in after if tmdb_id is None for word in words(title)}
    assert {word for asked in searched for word in words(asked.query["query"])} <= missing
    detailed = [asked for asked in tmdb.requests[calls:] if re.match("movie/|tv/", asked.path)]
    assert len(detailed) == sum(tmdb_id is not None for _, _, tmdb_id in after)


async def test_letterboxd_csv_contains_watched_films_only(api: Api) -> None:
    session = await done(
        api, *files(watched=INCEPTION, likes=CHERNOBYL, watchlist=f"{PARASITE}\n{INCEPTION}")
    )

    films = table(await api.get(f"{session}/letterboxd.csv"))
    watchlist = table(await api.get(f"{session}/letterboxd.csv?list=watchlist"))

    assert [row["Title"] for row in films] == ["Inception"]
    assert [row["Title"] for row in watchlist] == ["Inception", "Parasite"]


async def test_one_line_per_viewing_plus_own_rating(api: Api) -> None:
    diary = "\n".join(
        f"{INCEPTION},{rating},,,{day}" for rating, day in ((3, "2024-01-05"), ("", "2024-02-06"))
    )
    session = await done(api, *files(ratings=f"{INCEPTION},4.5\n{PARASITE},2", diary=diary))

    rows = table(await api.get(f"{session}/letterboxd.csv"))

    assert [(row["Title"], row["WatchedDate"], row["Rating"]) for row in rows] == [
        ("Inception", "2024-02-06", ""),
        ("Inception", "2024-01-05", "3"),
        ("Inception", "", "4.5"),
        ("Parasite", "", "2"),
    ]
    assert {row["tmdbID"] for row in rows} == {"27205", "496243"}


async def test_removed_rating_stays_removed(api: Api) -> None:
    session = await done(api, *files(ratings=f"{PARASITE},2", diary=f"{INCEPTION},3,,,2024-01-05"))
    csv_file = (await api.get(f"{session}/letterboxd.csv")).content

    films = {film.title: film for film in main.parse_export([("letterboxd.csv", csv_file)]).films}

    assert films["Inception"].rating is None
    assert films["Inception"].viewings[0].rating == 3


async def test_guesses_and_corrections_survive_a_round_trip(serve: Serve) -> None:
    first = await serve()
    session = await done(first, FEW)
    await first.put(await match_url(first, session, "Inception"), json={"tmdb_url": INCEPTION_URL})
    guessed = await titles(first, f"{session}/movies?match=guessed")

    for name in ("letterboxd", "movies", "matches"):
        again = await serve()
        back = await done(again, (f"{name}.csv", (await first.get(f"{session}/{name}.csv")).content))

        assert set(guessed) == set(await titles(again, f"{back}/movies?match=guessed")), name
        assert await titles(again, f"{back}/movies?match=corrected") == ["Inception"], name


@pytest.mark.parametrize(
    "given", [("letterboxd.csv",), ("letterboxd.csv", "movies.csv"), ("movies.csv", "the export")]
)
async def test_our_downloads_together_count_as_one(given: tuple[str, ...], api: Api) -> None:
    session = await done(api, FEW)
    files = {"the export": FEW}
    for name in ("letterboxd.csv", "matches.csv", "movies.csv"):
        files[name] = name, (await api.get(f"{session}/{name}")).content

    again = await done(api, *(files[name] for name in (*given, "matches.csv")))

    expected, totals = [(await api.get(f"{each}/stats")).json()["totals"] for each in (session, again)]
    assert totals == expected | {"watchlist": totals["watchlist"]}


async def test_cleared_film_is_exported_without_an_id(api: Api) -> None:
    given = b"Title,Year,tmdbID,imdbID\nInception,2010,27205,tt1375666\nParasite,2019,496243,\n"
    session = await done(api, ("import.csv", given))
    await api.delete(f"{session}/movies/1/match")

    rows = table(await api.get(f"{session}/letterboxd.csv"))

    assert [(row["Title"], row["tmdbID"], row["imdbID"], row["tmdbURL"]) for row in rows] == [
        ("Inception", "", "", ""),
        ("Parasite", "496243", "tt6751668", "https://www.themoviedb.org/movie/496243"),
    ]


async def test_cleared_film_with_only_an_id_is_not_lost(api: Api) -> None:
    session = await done(api, ("import.csv", b"tmdbID,Rating\n27205,2\n"))
    await api.delete(f"{session}/movies/1/match")

    back = main.parse_export([("letterboxd.csv", (await api.get(f"{session}/letterboxd.csv")).content)])

    assert [(film.tmdb_ref, film.rating) for film in back.films] == [(("movie", 27205), 2)]


async def test_rating_of_an_empty_review_is_not_the_films(api: Api) -> None:
    session = await done(api, *files(ratings=f"{INCEPTION},4", reviews=f"{INCEPTION},3,,,,"))

    back = main.parse_export([("letterboxd.csv", (await api.get(f"{session}/letterboxd.csv")).content)])

    assert [film.rating for film in back.films] == [4]


@pytest.mark.in_memory
async def test_correction_in_a_download_applies_to_the_export(api: Api) -> None:
    session = await done(api, *files(watched=INCEPTION))
    await api.delete(f"{session}/movies/1/match")
    download = (await api.get(f"{session}/letterboxd.csv")).content
    again = await done(api, ("letterboxd.csv", download))
    assert (await get(api, f"{again}/movies/1"))["match"]["reason"] == "The match was cleared by hand."
    await api.put(f"{again}/movies/1/match", json={"tmdb_id": PARASITE_ID, "tmdb_type": "movie"})

    last = await done(api, *files(watched=INCEPTION))

    assert (await get(api, f"{last}/movies/1"))["tmdb_title"] == "Parasite"


@pytest.mark.parametrize("header", ["tmdbID", "Title,tmdbID"])
async def test_films_that_differ_only_by_id_stay_separate(header: str, api: Api) -> None:
    title = "Dune," if "Title" in header else ""
    session = await done(api, ("import.csv", f"{header}\n{title}438631\n{title}841\n".encode()))

    for name in ("letterboxd", "movies"):
        back = main.parse_export([(f"{name}.csv", (await api.get(f"{session}/{name}.csv")).content)])

        assert [film.tmdb_ref for film in back.films] == [("movie", 438631), ("movie", 841)], name


async def test_series_is_exported_without_a_tmdb_id(api: Api) -> None:
    session = await done(api, *files(watched=CHERNOBYL))

    (row,) = table(await api.get(f"{session}/letterboxd.csv"))

    assert (row["tmdbID"], row["tmdbURL"]) == ("", "https://www.themoviedb.org/tv/87108")


async def test_two_films_with_one_match_stay_separate(api: Api) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}\n2024-01-02,Other,2001,\n{NOWHERE}"))
    for number in range(1, 5):
        await api.put(f"{session}/movies/{number}/match", json={"tmdb_url": INCEPTION_URL})

    csv_file = (await api.get(f"{session}/letterboxd.csv")).content

    assert len(main.parse_export([("letterboxd.csv", csv_file)]).films) == 4


# To a spreadsheet, a cell that begins with one of the first four is a formula.
HARMFUL = [
    "=1+1",
    "+1",
    "-ism",
    "@ in the mood for love",
    "'=quoted",
    "''@twice",
    '=HYPERLINK("http://x","y")',
]


async def test_formulas_are_escaped_and_survive_a_round_trip(api: Api) -> None:
    def quoted(*cells: str) -> str:
        out = io.StringIO()
        csv.writer(out).writerow(cells)
        return out.getvalue().strip()

    reviews = [
        quoted("2024-01-02", title, "2010", "", "4", "", f"{title} indeed\r\n{title}", title, "2024-01-02")
        for title in HARMFUL
    ]
    session = await done(api, *files(reviews="\n".join(reviews)))

    downloads = [await api.get(f"{session}/{name}.csv") for name in ("movies", "matches", "letterboxd")]

    cells = [cell for response in downloads for row in table(response) for cell in row.values()]
    assert not [cell for cell in cells if re.match(r"[=+\-@\t\r]", cell)]
    for index, name in ((0, "movies.csv"), (2, "letterboxd.csv")):
        back = main.parse_export([(name, downloads[index].content)]).films
        assert [film.title for film in back] == HARMFUL
        assert [film.viewings[0].review for film in back] == [
            f"{title} indeed\r\n{title}" for title in HARMFUL
        ]


@pytest.mark.parametrize("name", ["movies", "matches"])
async def test_other_downloads_can_be_uploaded(name: str, api: Api) -> None:
    session = await done(api, FEW)

    back = main.parse_export([(f"{name}.csv", (await api.get(f"{session}/{name}.csv")).content)])

    films = main.parse_export([FEW]).films
    assert back.warnings == []
    assert [(f.title, f.year, f.watched, f.liked, f.watchlist) for f in back.films if f.watched] == [
        (f.title, f.year, f.watched, f.liked, f.watchlist) for f in films if f.watched
    ]
    assert len(back.films) == len(films)
    assert next(film.tmdb_ref for film in back.films if film.title == "Chernobyl") == ("tv", 87108)


async def test_large_import_is_split_into_parts(api: Api) -> None:
    review = "x" * 9_000
    rows = [
        f"2024-01-02,Film {n},2010,,4,,{review} {day},,2024-01-0{day}"
        for n in range(1, 50)
        for day in (1, 1, 2)
    ]
    given = files(reviews="\n".join(rows))
    session = await done(api, *given)

    response = await api.get(f"{session}/letterboxd.csv")

    assert response.headers["Content-Type"] == "application/zip"
    assert response.headers["Content-Disposition"] == 'attachment; filename="letterboxd.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    assert len(parts) == 2
    assert all(len(part) <= 1_000_000 and part.startswith(b"LetterboxdURI,") for part in parts)
    back = main.parse_export([("letterboxd.zip", response.content)])
    assert [logged(film) for film in back.films] == [logged(film) for film in main.parse_export(given).films]


@pytest.mark.parametrize("name", ["movies", "matches", "letterboxd"])
async def test_csvs_are_available_before_tmdb_answers(name: str, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    session = f"/api/session/{(await api.upload(*files(watched=INCEPTION)))['session_id']}"

    (row,) = table(await api.get(f"{session}/{name}.csv"))

    assert "Inception" in row.values()
    assert "27205" not in row.values()


@pytest.mark.long
@pytest.mark.skipif(not SHARED.exists(), reason="the real export is not here")
async def test_csvs_of_the_real_export_open_in_pandas(serve: Serve) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    sample = next(SHARED.glob("letterboxd-sample-*.zip"))
    with gzip.open(SHARED / "details.jsonl.gz", "rt", encoding="utf-8") as lines:
        bodies = [json.loads(line) | {"media": "movie"} for line in lines]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        session = await done(api, (sample.name, sample.read_bytes()))
        enriched = (await get(api, session))["enriched_count"]

        movies, matches, letterboxd = [
            pandas.read_csv(io.BytesIO((await api.get(f"{session}/{name}.csv")).content))
            for name in ("movies", "matches", "letterboxd")
        ]

    assert enriched > 700
    assert len(movies) == len(matches) == 2186
    assert movies["movie_id"].tolist() == list(range(1, 2187))
    assert movies["watched"].dtype == movies["liked"].dtype == bool
    assert (movies["watched"].sum(), movies["watchlist"].sum(), movies["liked"].sum()) == (1656, 531, 320)
    assert movies["rating"].count() == 1073
    assert set(movies["rating"].dropna() * 2) <= set(range(1, 11))
    assert (
        movies["tmdb_id"].count()
        == movies["runtime"].count() + movies.query("tmdb_enriched and runtime.isna()").shape[0]
        == enriched
    )
    assert pandas.to_datetime(movies["watched_date"]).count() == movies["watched_date"].count() == 615
    assert matches["match_status"].isin(["exact", "guessed"]).sum() == enriched
    assert letterboxd["WatchedDate"].count() == 651
    assert letterboxd["LetterboxdURI"].nunique() == 1656
    assert letterboxd["Rating"].dtype == float


async def test_readme_example_lists_corrects_and_downloads(serve: Serve) -> None:
    readme = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    example = readme.partition("### Correct matches and download")[2].partition("\n## ")[0]
    calls = re.findall(r"^curl (.*?)'?localhost:8000(/[^\s']+)'?$", example, re.MULTILINE)
    assert len(calls) == 5
    api = await serve()
    session = await done(api, SAMPLE_FILE)

    answers = []
    for options, path in calls:
        url = re.sub(r"/api/session/[\w-]{22}", session, path)
        if "-X PUT" in options:
            (body,) = re.findall(r"-d '(.*)'", options)
            answers.append(await api.put(url, content=body, headers={"Content-Type": "application/json"}))
        else:
            answers.append(await api.get(url))

    assert [answer.status_code for answer in answers] == [200] * 5
    found, one, fixed, movies, letterboxd = answers
    assert one.json()["movie_id"] in [movie["movie_id"] for movie in found.json()]
    assert fixed.json()["match"]["status"] == "corrected"
    assert fixed.json()["tmdb_id"] in [candidate["tmdb_id"] for candidate in one.json()["candidates"]]
    assert len(table(movies)) == 159
    assert table(letterboxd)[0]["Title"] == "Inception"


async def test_result_without_a_record_gives_way_to_the_next(ask: Ask, tmdb: FakeTMDB) -> None:
    """TMDB's search still finds what TMDB's records no longer have."""
    rows = {"media": "movie", "title": "Dune", "release_date": "2021-09-15", "vote_count": 50}
    tmdb.knows([rows | {"id": 1, "popularity": 9}, rows | {"id": 2, "popularity": 1}])
    gone = {"1"}
    tmdb.plays = lambda asked: status(404) if asked.match_info.get("id") in gone else None

    second = await (await ask()).find(main.Film("Dune", 2021))
    gone.add("2")
    none = await (await ask()).find(main.Film("Dune", 2021))

    assert (second.status, second.movie and second.movie.tmdb_id) == ("exact", 2)
    assert (none.status, none.movie) == ("not_found", None)


async def test_imdb_id_without_a_record_gives_way_to_a_search(ask: Ask, tmdb: FakeTMDB) -> None:
    rows = {"media": "movie", "title": "Dune", "release_date": "2021-09-15", "vote_count": 50}
    tmdb.knows([rows | {"id": 1, "imdb_id": "tt1160419"}, rows | {"id": 2}])
    tmdb.plays = lambda asked: status(404) if asked.match_info.get("id") == "1" else None

    match = await (await ask()).find(main.Film("Dune", 2021, imdb_id="tt1160419"))

    assert match.movie and match.movie.tmdb_id == 2
