"""A TMDB that throttles, stalls and breaks: nothing is lost but time, and nothing secret is told."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from aiohttp import web

import main
from tests.conftest import Ask, Clock, Serve, files, session_of
from tests.fake_tmdb import (
    FAULTS,
    HTML,
    TROUBLES,
    V3_KEY,
    FakeTMDB,
    Fault,
    Play,
    body,
    reset,
    some,
    status,
)

WAITED_FOR = ("hang", "drip")  # faults that are known by a time-out


@pytest.fixture
def ask(ask: Ask) -> Ask:
    """As everywhere, but a request is given up after a moment."""

    def start(**given: Any) -> Awaitable[main.Matcher]:
        return ask(**{"tmdb_timeout_seconds": 0.25} | given)

    return start


@pytest.fixture(autouse=True)
def no_key_in_any_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens in a test of this file, at DEBUG, of whoever logs."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("letterboxd").setLevel(logging.DEBUG)
    yield
    records = [record for record in caplog.get_records("call") if not record.name.startswith("http")]
    assert V3_KEY not in "\n".join(map(logging.Formatter("%(message)s").format, records))


def outcomes(session: main.Session) -> list[tuple[str, str, int | None]]:
    movies = ((film, film.match.movie) for film in session.export.films)
    return [(film.title, film.match.status, movie.tmdb_id if movie else None) for film, movie in movies]


def now_and_then(faults: list[Fault], share: float = 0.3) -> Play:
    """Each request meets one of the faults with that probability; the same ones in every run."""
    asked: Counter[str] = Counter()

    def play(request: web.Request) -> Fault | None:
        what = request.path + request.query.get("query", "")
        asked[what] += 1
        chance = random.Random(f"{what} {asked[what]}")
        return chance.choice(faults) if chance.random() < share else None

    return play


# --- What a retry fixes


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=name, marks=pytest.mark.long if name in WAITED_FOR else ())
        for name, fault in FAULTS.items()
    ],
)
async def test_transient_fault_only_costs_time(fault: Fault, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    expected, session = session_of(clock, last=6), session_of(clock, last=6)
    await main.enrich_session_async(expected, await ask())
    tmdb.plays = now_and_then([fault], share=0.5)

    await main.enrich_session_async(session, await ask())

    assert session.status == "completed"
    assert outcomes(session) == outcomes(expected)


async def test_all_faults_together_lose_no_film(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    expected, session = session_of(clock, last=40), session_of(clock, last=40)
    await main.enrich_session_async(expected, await ask())
    asked = tmdb.calls()
    tmdb.plays = now_and_then(list(FAULTS.values()))

    await main.enrich_session_async(session, await ask())

    assert session.status == "completed"
    assert session.failed_count == 0
    assert outcomes(session) == outcomes(expected)
    assert sum(request.status != 200 for request in tmdb.requests[asked:]) > 20


async def test_responses_never_contain_the_key(serve: Serve, tmdb: FakeTMDB) -> None:
    tmdb.plays = now_and_then([status(400), status(401), status(404, HTML), status(302, Location=tmdb.url)])
    api = await serve()
    films = b"Name,Year\nInception,2010\nParasite,2019\nHer,2013\nNobody Has This,1971"
    session = f"/api/session/{(await api.upload(('watched.csv', films)))['session_id']}"
    await api.ended(session.rpartition("/")[2])

    paths = ["", "/events", "/movies?limit=1000", "/movies/1", "/stats", "/movies.csv", "/matches.csv"]
    answers = [(await api.get(session + path)).text for path in paths]
    given = {"tmdb_id": 424242, "tmdb_type": "movie"}
    answers += [(await api.put(f"{session}/movies/1/match", json=given)).text for _ in range(8)]
    answers += [(await api.get(path)).text for path in ("/", "/health", "/openapi.json", "/docs")]

    assert not any(secret in "".join(answers) for secret in (V3_KEY, tmdb.url, "Sorry, we are busy"))


# --- What a retry does not fix


@pytest.mark.parametrize(
    "fault", ["500", pytest.param("hang", marks=pytest.mark.long), "another shape", "reset"]
)
async def test_film_that_always_fails_fails_alone(fault: str, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    """In its own session and in another one, even when there is nothing else left to ask."""
    bad = {"Inception", "Oldboy", "Ratatouille", "Coco"}
    asked: Counter[str] = Counter()

    def play(request: web.Request) -> Fault | None:
        query = request.query.get("query", "")
        asked[query] += 1
        return FAULTS[fault] if query in bad else None

    tmdb.plays, matcher = play, await ask()
    session = session_of(clock, last=24)
    other = session_of(clock, 11, 36)

    await asyncio.gather(*(main.enrich_session_async(each, matcher) for each in (session, other)))

    assert (session.status, other.status) == ("completed", "completed")
    assert other.failed_count == sum(film.title in bad for film in other.export.films)
    for film in session.export.films:
        assert (film.match.status == "failed") == (film.title in bad)
        if film.title in bad:
            assert film.match.reason.startswith("TMDB gave no answer in ")
    # The other session shares the question after the first one's.
    assert all(main.MIN_TRIES <= asked[query] <= 2 * main.MAX_TRIES for query in bad)


def dead(clock: Clock, start: float, end: float, fault: Fault = reset) -> Play:
    return lambda _: fault if start <= clock.now < end else None


@pytest.mark.parametrize("fault", [reset, status(503, HTML), status(429), body(HTML.encode(), "text/html")])
async def test_session_resumes_after_a_minute_without_tmdb(
    fault: Fault, ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    session = session_of(clock, last=40)
    tmdb.plays = dead(clock, clock.now + 1, clock.now + 61, fault)

    await main.enrich_session_async(session, await ask(tmdb_timeout_seconds=10))

    assert (session.status, session.failed_count) == ("completed", 0)
    assert clock.now > 1_061


async def test_dead_tmdb_is_asked_little(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, start = session_of(clock, last=40), clock.now
    tmdb.plays = dead(clock, start + 1, start + 61, status(503))

    await main.enrich_session_async(session, await ask())

    failed = [request for request in tmdb.requests if request.status == 503]
    probes = 9  # at ever longer intervals
    assert len(failed) <= 20 + main.OUTAGE_FAILURES + probes  # 20 were under way


async def test_retries_back_off(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, matcher = session_of(clock, last=1), await ask(tmdb_connections=1)
    tmdb.plays = lambda request: status(500) if "search" in request.path else None
    start = clock.now

    await main.enrich_session_async(session, matcher)

    assert session.failed_count == 1
    assert 15 < clock.now - start < 120


async def test_auth_check_without_success_is_not_an_answer(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session = session_of(clock, last=30)
    for_good = {"/3/authentication": body(b'{"success": false}')}
    tmdb.plays = lambda request: for_good.get(request.path, status(500))

    await main.enrich_session_async(session, await ask())

    assert session.status == "failed"
    assert "No film could be looked up for 10 minutes" in (session.error_message or "")


@pytest.mark.parametrize("code", [403, 404])
async def test_4xx_health_check_counts_as_up(code: int, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, asked = session_of(clock, last=30), 0

    def play(request: web.Request) -> Fault | None:
        nonlocal asked
        asked += 1
        return status(code) if "authentication" in request.path else reset if asked < 60 else None

    tmdb.plays = play
    await main.enrich_session_async(session, await ask())

    assert (session.status, session.failed_count) == ("completed", 0)


async def test_flapping_tmdb_cannot_block_a_film_forever(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, probes = session_of(clock, last=3), 0

    def play(request: web.Request) -> Fault | None:
        nonlocal probes
        probes += "authentication" in request.path
        return status(503) if "authentication" not in request.path or probes % 2 else None

    tmdb.plays = play
    await main.enrich_session_async(session, await ask())

    assert (session.status, session.failed_count) == ("completed", 3)


# --- What TMDB does to some requests for good, or to all for a while


@pytest.mark.parametrize("play", TROUBLES.values(), ids=TROUBLES.keys())
async def test_no_film_is_lost_to(play: Play, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session = session_of(clock, last=40)
    tmdb.plays = play

    await main.enrich_session_async(session, await ask())

    assert (session.status, session.failed_count) == ("completed", 0)


async def test_minute_of_broken_searches_loses_no_film(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, broken = session_of(clock, last=40), dead(clock, clock.now + 1, clock.now + 61, status(500))
    tmdb.plays = lambda request: broken(request) if "search" in request.path else None

    await main.enrich_session_async(session, await ask(tmdb_timeout_seconds=10))

    assert (session.status, session.failed_count) == ("completed", 0)


@pytest.mark.parametrize(
    "fault", ["429", "500", *(pytest.param(slow, marks=pytest.mark.long) for slow in WAITED_FOR)]
)
async def test_session_ends_though_no_search_is_ever_answered(
    fault: str, ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    """And every film of it, though everything else is answered; a retry finishes the work."""
    session, start = session_of(clock, last=30), clock.now
    tmdb.plays = some(1, FAULTS[fault], "search")
    matcher = await ask()

    await main.enrich_session_async(session, matcher)

    assert session.status == "failed"
    assert (session.error_message or "").startswith("No film could be looked up for 10 minutes. TMDB gave no")
    assert session.processed_count == session.total_movies
    assert 600 <= clock.now - start <= 1_000

    tmdb.plays = lambda _: None
    await main.retry_films(session, matcher)
    assert session.task
    await session.task

    assert (session.status, session.failed_count) == ("completed", 0)


async def test_session_says_what_it_waits_for(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, said = session_of(clock, last=30), []
    tmdb.plays = dead(clock, clock.now + 0.2, clock.now + 60, status(503))
    work = asyncio.create_task(main.enrich_session_async(session, await ask()))

    while not work.done():
        said.append(json.loads(main.progress_json(session))["waiting_for"])
        await asyncio.sleep(0)

    assert said[0] is None
    assert any(
        re.fullmatch(r"TMDB answered with status 503; trying again in \d+ s", each or "") for each in said
    )
    assert session.waiting_for is None


async def test_outage_is_one_line_of_the_log(
    ask: Ask, tmdb: FakeTMDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tmdb.plays = dead(clock, clock.now + 1, clock.now + 100)

    await main.enrich_session_async(session_of(clock, last=40), await ask(tmdb_timeout_seconds=10))

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].endswith("all sessions wait for it")


async def test_every_request_passes_the_turnstile(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    """aiohttp would ask again by itself after a reset on a kept connection."""
    session = session_of(clock, last=40)
    tmdb.plays = some(0.3, reset)
    matcher = await ask()
    sent = 0
    pace_sent = matcher.tmdb.pace.sent

    def counting() -> float:
        nonlocal sent
        sent += 1
        return pace_sent()

    matcher.tmdb.pace.sent = counting  # type: ignore[method-assign]
    await main.enrich_session_async(session, matcher)

    assert 40 < tmdb.calls() <= sent  # a request on a connection that was just reset reaches nobody


async def test_redirect_is_not_followed_and_a_long_answer_not_read_to_its_end(
    ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 50_000_000:
            await response.write(b" " * 100_000)
            sent += 100_000
        return response

    tmdb.faults.extend([status(302, Location=f"{tmdb.url}/movie/550"), endless])
    session = session_of(clock, last=1)

    await main.enrich_session_async(session, await ask(tmdb_connections=1))

    assert session.enriched_count == 1
    assert "movie/550" not in [request.path for request in tmdb.requests]
    assert sent < 20_000_000


async def test_failing_collections_do_not_fail_the_session(
    ask: Ask, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(main, "COLLECTIONS_SECONDS", 0.1)
    tmdb.plays = lambda request: FAULTS["hang"] if "collection" in request.path else None
    session = session_of(clock, last=20)

    await asyncio.wait_for(main.enrich_session_async(session, await ask(tmdb_timeout_seconds=30)), 20)

    assert (session.status, session.failed_count, session.collections) == ("completed", 0, {})


async def test_small_session_waits_for_tmdb_too(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session = session_of(clock, last=1)
    tmdb.plays = dead(clock, 0, clock.now + 60)

    await main.enrich_session_async(session, await ask(tmdb_timeout_seconds=10))

    assert (session.status, session.enriched_count) == ("completed", 1)


@pytest.mark.parametrize("fault", [reset, status(500), status(429), status(429, Retry_After="86400")])
async def test_lasting_outage_fails_the_session_and_retry_finishes_it(
    fault: Fault, ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    session, matcher = session_of(clock, last=40), await ask(tmdb_timeout_seconds=10)
    tmdb.plays = dead(clock, clock.now + 1, 1e9, fault)

    await main.enrich_session_async(session, matcher)

    done = session.enriched_count
    assert session.status == "failed"
    assert "No film could be looked up for 10 minutes" in (session.error_message or "")
    assert 5 < done < 35
    assert done + session.not_found_count + session.failed_count == session.total_movies
    assert 600 < clock.now - 1_000 < 1_000
    assert sum(request.status != 200 for request in tmdb.requests) < 200

    tmdb.plays, tmdb.requests[:] = lambda _: None, []
    await main.retry_films(session, matcher)
    assert session.task
    await session.task

    assert (session.status, session.error_message, session.failed_count) == ("completed", None, 0)
    asked = [request.query.get("query") for request in tmdb.requests]
    assert len(session.export.films) - done <= len(set(asked)) < len(session.export.films)


async def test_session_after_an_outage_waits_just_as_long(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    matcher = await ask(tmdb_timeout_seconds=10)
    tmdb.plays = dead(clock, 0, 1e9)
    await main.enrich_session_async(session_of(clock, last=30), matcher)
    tmdb.plays = lambda _: None
    tmdb.faults.extend([status(500)] * 3)

    session = session_of(clock, last=30)
    await main.enrich_session_async(session, matcher)

    assert (session.status, session.failed_count) == ("completed", 0)


@pytest.mark.parametrize("address", ["http://tmdb.invalid/3", "http://127.0.0.1:1/3"])
async def test_unreachable_tmdb_is_reported_without_a_traceback(
    address: str, ask: Ask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_of(clock, last=20)

    await main.enrich_session_async(session, await ask(tmdb_base_url=address, tmdb_connections=5))

    assert session.status == "failed"
    assert "the connection failed" in (session.error_message or "")
    assert "Traceback" not in caplog.text


async def test_key_revoked_midway_keeps_what_was_found(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session, matcher = session_of(clock, last=40), await ask(tmdb_timeout_seconds=10)
    tmdb.plays = dead(clock, clock.now + 1, 1e9, status(401))

    await main.enrich_session_async(session, matcher)

    assert session.status == "failed"
    assert 5 < session.enriched_count < 35
    assert session.processed_count == session.total_movies
    assert matcher.tmdb.key_state == "rejected"
    assert sum(request.status == 401 for request in tmdb.requests) <= matcher.tmdb.workers + 1

    tmdb.plays = lambda _: None
    await main.retry_films(session, matcher)
    assert session.task
    await session.task

    assert (session.status, session.failed_count, matcher.tmdb.key_state) == ("completed", 0, "accepted")


async def test_correction_times_out(serve: Serve, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "CORRECTION_SECONDS", 0.1)
    monkeypatch.setattr(main, "CANDIDATES_SECONDS", 0.1)
    api = await serve()
    given = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")
    session = f"/api/session/{(await api.upload(*given))['session_id']}"
    await api.ended(session.rpartition("/")[2])
    tmdb.latency_seconds = 5

    answer = await api.put(f"{session}/movies/1/match", json={"tmdb_id": 496243, "tmdb_type": "movie"})

    assert (answer.status_code, answer.json()["detail"][:4]) == (502, "TMDB")
    assert (await api.get(f"{session}/movies/1")).json()["tmdb_id"] == 27205


async def test_timed_out_second_correction_is_not_a_success(
    serve: Serve, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await serve()
    given = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")
    session = f"/api/session/{(await api.upload(*given))['session_id']}"
    await api.ended(session.rpartition("/")[2])
    chosen = {"tmdb_id": 496243, "tmdb_type": "movie"}
    assert (await api.put(f"{session}/movies/1/match", json=chosen)).status_code == 200
    monkeypatch.setattr(main, "CORRECTION_SECONDS", 0.1)
    monkeypatch.setattr(main, "CANDIDATES_SECONDS", 0.1)
    tmdb.latency_seconds = 5

    answer = await api.put(f"{session}/movies/1/match", json=chosen | {"tmdb_id": 12})

    assert answer.status_code == 502
    assert (await api.get(f"{session}/movies/1")).json()["tmdb_id"] == 496243


async def test_health_does_not_wait_for_a_hanging_tmdb(
    serve: Serve, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "CHECK_SECONDS", 0.1)
    tmdb.latency_seconds = 5
    api = await serve()

    answers = await asyncio.gather(*(api.get("/health") for _ in range(5)))

    assert {answer.json()["tmdb_key"] for answer in answers} == {"unchecked"}


# --- What TMDB says that cannot be


async def test_lone_surrogates_become_question_marks(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    films = [film | {"overview": "\ud800"} for film in json.loads(json.dumps(list(tmdb._index.bodies)))]
    for film in films:
        film["genres"] = [{"id": 1, "name": "Dra\ud83dma"}]
        film["tagline"] = "\ud83d\ude00"
    tmdb.knows(films)
    session = session_of(clock, last=3)

    await main.enrich_session_async(session, await ask())

    assert session.enriched_count == 3
    for film in session.export.films:
        assert main.movie_view(film).genres == ["Dra?ma"]
        assert main.movie_view(film).model_dump_json()


async def test_out_of_range_numbers_count_as_missing(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    odd = {"runtime": 10**30, "vote_count": -7, "vote_average": 1e300, "popularity": float("inf")}
    tmdb.knows([body | odd for body in tmdb._index.bodies])
    session = session_of(clock, last=40)

    await main.enrich_session_async(session, await ask())

    assert session.failed_count == 0
    films = [main.movie_view(film) for film in session.export.films if film.match.movie]
    assert {
        (film.runtime, film.tmdb_votes, film.tmdb_rating) for film in films if film.tmdb_type == "movie"
    } == {(None, 0, None)}
    main.STATISTICS_ADAPTER.dump_json(
        main.compute_statistics(session.export.films, session.collections, None, 10)
    )


async def test_search_result_without_an_id_is_skipped(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    rows = [None, 3, {}, {"id": None}, {"id": "x"}, {"id": -1}, {"id": 10**30}]
    good = {"id": 27205, "title": "Inception", "release_date": "2010-07-15", "vote_count": 30_000}
    tmdb.faults.append(body(json.dumps({"results": [*rows, good]}).encode()))
    session = session_of(clock, last=1)

    await main.enrich_session_async(session, await ask())

    assert outcomes(session) == [("Inception", "exact", 27205)]
    assert tmdb.calls("search/") == 1
