"""Enrichment: the task that fills a session in, against a fake TMDB and on a clock that does not wait."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import weakref
from collections import Counter
from contextlib import AsyncExitStack

import pytest

import main
from tests.conftest import Ask, Clock, session_of, settings_for, until
from tests.fake_tmdb import (
    MADE_UP,
    V3_KEY,
    V4_TOKEN,
    FakeTMDB,
    Fault,
    body,
    drop,
    hang,
    made_up,
    reset,
    status,
)


def session_of_made_up(clock: Clock, numbers: range) -> main.Session:
    films = [
        main.Film(f"Reel{n}", 1930 + n % 90, letterboxd_number=MADE_UP + n, watched=True) for n in numbers
    ]
    return main.Session(main.Export(films, {}, []), 3600, clock)


def outcomes(session: main.Session) -> list[main.MatchStatus]:
    return [film.match.status for film in session.export.films]


def adds_up(session: main.Session) -> bool:
    """Whether the counts are the sum of their parts and what the films say."""
    ended = Counter(outcome for outcome in outcomes(session) if outcome != "pending")
    counts = (session.enriched_count, session.not_found_count, session.failed_count)
    told = (ended["exact"] + ended["guessed"], ended["not_found"], ended["failed"])
    return counts == told and session.processed_count == sum(counts) == ended.total()


async def quiet(tmdb: FakeTMDB) -> None:
    """Until requests that outlive their session have been answered."""
    asked = -1
    while asked != tmdb.calls():
        asked = tmdb.calls()
        await asyncio.sleep(0.05)


# --- Outcomes and counts


async def test_every_film_gets_an_outcome_and_a_reason(ask: Ask, clock: Clock) -> None:
    session = session_of(clock)

    await main.enrich_session_async(session, await ask())

    matches = [film.match for film in session.export.films]
    assert Counter(match.status for match in matches) == {"exact": 152, "guessed": 4, "not_found": 3}
    assert all(match.reason.endswith(".") for match in matches)
    assert all((match.movie is None) == (match.status == "not_found") for match in matches)
    found = [match.movie for match in matches if match.movie and match.movie.tmdb_type == "movie"]
    assert [movie.title for movie in found if not movie.runtime] == []  # the demo adds them up
    assert (session.status, session.error_message, session.progress_percent) == ("completed", None, 100)
    assert session.ended_at == clock.now
    assert adds_up(session)


async def test_progress_adds_up_while_films_are_looked_up(ask: Ask, clock: Clock) -> None:
    session = session_of(clock, last=30)
    work = asyncio.create_task(main.enrich_session_async(session, await ask()))
    seen = set()

    while not work.done():
        seen.add(session.processed_count)
        assert adds_up(session)
        assert session.status in ("processing", "enriching", "completed")
        assert session.status != "completed" or session.processed_count == 30
        await asyncio.sleep(0)

    assert len(seen) > 10


@pytest.mark.parametrize("connections", [1, 4])
async def test_films_are_looked_up_in_order(connections: int, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session = session_of(clock, last=12)

    await main.enrich_session_async(session, await ask(tmdb_connections=connections))

    queries = [asked.query["query"] for asked in tmdb.requests if asked.path.startswith("search")]
    assert list(dict.fromkeys(queries)) == [film.title for film in session.export.films]


async def test_small_session_does_not_wait_for_a_large_one(clock: Clock) -> None:
    async with FakeTMDB(made_up(330)) as tmdb, AsyncExitStack() as opened:
        client = main.TMDBClient(settings_for(tmdb, tmdb_connections=5), clock, clock.sleep)
        matcher = main.Matcher(await opened.enter_async_context(client))
        large, small = (session_of_made_up(clock, numbers) for numbers in (range(300), range(300, 310)))
        large.task = asyncio.create_task(main.enrich_session_async(large, matcher))
        await until(lambda: large.processed_count >= 20)
        before = large.processed_count

        await main.enrich_session_async(small, matcher)

        assert small.enriched_count == 10
        assert large.processed_count - before < 60
        await large.stop()


# --- Failures


@pytest.mark.parametrize(
    ("refusal", "times"), [(400, "three times "), (403, "three times "), (405, "three times "), (422, "")]
)
async def test_refused_film_fails_alone(
    refusal: int, times: str, ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    tmdb.faults.extend([status(refusal)] * (3 if times else 1))
    session = session_of(clock, last=4)

    await main.enrich_session_async(session, await ask(tmdb_connections=1))

    assert outcomes(session) == ["failed", "exact", "exact", "exact"]
    assert (session.status, session.error_message) == ("completed", None)
    assert session.export.films[0].match.reason == f"TMDB refused the request {times}with status {refusal}."
    assert adds_up(session)


@pytest.mark.parametrize("stray", [400, 401, 403, 405])
async def test_stray_refusal_costs_nothing(stray: int, ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    tmdb.faults.append(status(stray))
    session = session_of(clock, last=30)

    await main.enrich_session_async(session, await ask())

    assert (session.status, session.failed_count) == ("completed", 0)


async def test_retry_only_repeats_failed_films(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    tmdb.faults.append(status(422))
    matcher = await ask(tmdb_connections=1)
    await main.enrich_session_async(session_of(clock, last=10), matcher)
    tmdb.requests.clear()

    again = session_of(clock, last=10)
    await main.enrich_session_async(again, matcher)

    assert again.enriched_count == 10
    assert [asked.path for asked in tmdb.requests] == ["search/movie", "movie/27205"]


@pytest.mark.parametrize("connections", [1, 7, 20])
@pytest.mark.parametrize("key", ["f" * 32, f"{V4_TOKEN}x"], ids=["v3", "v4"])
async def test_rejected_key_ends_the_session_at_once(
    key: str, connections: int, ask: Ask, tmdb: FakeTMDB, clock: Clock
) -> None:
    session = session_of(clock)

    await main.enrich_session_async(session, await ask(tmdb_api_key=key, tmdb_connections=connections))

    assert session.status == "failed"
    assert (session.enriched_count, session.failed_count) == (0, session.total_movies)
    assert {film.match.reason for film in session.export.films} == {session.error_message}
    assert "TMDB_API_KEY" in (session.error_message or "")
    assert key not in (session.error_message or "")
    await quiet(tmdb)
    assert 1 <= tmdb.calls() <= connections + 2


async def test_revoked_key_fails_the_next_session_only(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    matcher = await ask()
    before, after = session_of(clock, last=5), session_of(clock, first=5)
    await main.enrich_session_async(before, matcher)
    tmdb.key, tmdb.requests[:] = "another", []

    await main.enrich_session_async(after, matcher)

    assert (before.status, after.status) == ("completed", "failed")
    assert before.enriched_count == 5
    await quiet(tmdb)
    assert tmdb.calls() <= 21


async def test_session_without_a_key_completes_and_says_why(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    session = session_of(clock)
    logged = [(film.title, film.rating, film.viewings) for film in session.export.films]

    await main.enrich_session_async(session, await ask(tmdb_api_key=""))

    assert (session.status, session.processed_count, session.progress_percent) == ("completed", 159, 100)
    assert session.failed_count == 159
    assert session.error_message == "No TMDB_API_KEY is set, so no film was looked up."
    assert {film.match.reason for film in session.export.films} == {session.error_message}
    assert [(film.title, film.rating, film.viewings) for film in session.export.films] == logged
    assert adds_up(session)
    assert tmdb.calls() == 0


class Buggy(main.Matcher):
    async def find(self, film: main.Film) -> main.Match:
        raise ZeroDivisionError("a detail of the inside")


async def test_bug_fails_the_session_and_logs_a_traceback(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_of(clock, last=5)

    client = main.TMDBClient(main.Settings.model_validate({"tmdb_api_key": V3_KEY}))
    await main.enrich_session_async(session, Buggy(client))

    assert session.status == "failed"
    assert session.error_message
    assert "detail" not in session.error_message
    (bug,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bug.getMessage().startswith(f"[{session.short_id}] ")
    assert bug.exc_info


# --- The end of the task


async def test_cancelled_session_leaves_its_films_unchanged(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    matcher = await ask(tmdb_connections=2)
    session = session_of(clock)
    task = session.task = asyncio.create_task(main.enrich_session_async(session, matcher))
    await until(lambda: session.processed_count >= 10)

    await session.stop()

    assert task.cancelled()
    assert (session.status, session.error_message) == ("failed", "The lookup was stopped.")
    assert 10 <= session.processed_count < 159
    assert adds_up(session)
    await quiet(tmdb)
    assert tmdb.calls("search") < 100


async def test_cancelling_a_session_does_not_affect_its_twin(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    matcher = await ask(tmdb_connections=4)
    left, stays = session_of(clock, last=30), session_of(clock, last=30)
    left.task = asyncio.create_task(main.enrich_session_async(left, matcher))
    work = asyncio.create_task(main.enrich_session_async(stays, matcher))
    await until(lambda: stays.processed_count >= 5)

    await left.stop()
    await work

    assert stays.status == "completed"
    assert stays.enriched_count + stays.not_found_count == 30


async def test_cancellation_does_not_wait_for_a_hanging_tmdb(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    tmdb.faults.extend([hang] * 20)
    session = session_of(clock)
    task = session.task = asyncio.create_task(main.enrich_session_async(session, await ask()))
    await until(lambda: not tmdb.faults)

    await session.stop()

    assert task.cancelled()


async def test_finished_task_and_its_session_are_freed(ask: Ask, clock: Clock) -> None:
    matcher = await ask()
    session = session_of(clock, last=10)
    session.task = asyncio.create_task(main.enrich_session_async(session, matcher))
    freed = weakref.ref(session.task), weakref.ref(session)

    await session.task

    assert session.task is None
    del session
    await asyncio.sleep(0)
    gc.collect()
    assert [ref() for ref in freed] == [None, None]


# --- What it costs


async def test_two_sessions_of_one_export_share_calls(ask: Ask, tmdb: FakeTMDB, clock: Clock) -> None:
    await main.enrich_session_async(session_of(clock, last=20), await ask())
    alone = tmdb.calls()
    matcher, twins = await ask(), [session_of(clock, last=20), session_of(clock, last=20)]

    await asyncio.gather(*(main.enrich_session_async(session, matcher) for session in twins))

    assert outcomes(twins[0]) == outcomes(twins[1])
    assert tmdb.calls() == 2 * alone


async def test_sessions_share_one_record_of_a_film(ask: Ask, clock: Clock) -> None:
    matcher, twins = await ask(), [session_of(clock, last=5), session_of(clock, last=5)]

    await asyncio.gather(*(main.enrich_session_async(session, matcher) for session in twins))

    one, other = (session.export.films for session in twins)
    assert all(a.match is b.match for a, b in zip(one, other, strict=True))


@pytest.mark.long
async def test_rate_limited_tmdb_refuses_few_and_no_film_is_lost(tmdb: FakeTMDB) -> None:
    # The limit is TMDB's and on TMDB's clock, so this one takes real seconds.
    tmdb.limit_per_second = 15
    session = session_of(Clock())

    async with main.TMDBClient(settings_for(tmdb)) as client:
        await main.enrich_session_async(session, main.Matcher(client))

    assert session.failed_count == 0
    assert session.processed_count == session.total_movies
    assert sum(asked.status == 429 for asked in tmdb.requests) <= 0.2 * tmdb.calls()


# --- The log


def lines_of(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    records = [record for record in caplog.records if record.name == "letterboxd"]
    return [record.getMessage() for record in records if record.levelno == level]


@pytest.mark.parametrize("films", [20, 50])
async def test_log_reports_start_progress_and_end(
    films: int, ask: Ask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "letterboxd")
    session = session_of(clock, last=films)

    await main.enrich_session_async(session, await ask())

    start, *tenths, end = lines_of(caplog, logging.INFO)
    assert start == f"[{session.short_id}] looking up {films} films"
    assert [int(number) for line in tenths for number in re.findall(r"(\d+) of", line)] == [
        films * tenth // 10 for tenth in range(1, 11)
    ]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(outcomes(session)).items()))
    assert re.fullmatch(rf"\[{session.short_id}\] completed after \d+\.\d s: {counts}", end)


async def test_log_has_short_session_ids_and_no_titles(
    ask: Ask, tmdb: FakeTMDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tmdb.faults.extend([status(503), status(429), reset])
    session = session_of(clock, last=20)

    await main.enrich_session_async(session, await ask())

    info = lines_of(caplog, logging.INFO)
    assert all(line.startswith(f"[{session.short_id}] ") for line in info + lines_of(caplog, logging.DEBUG))
    assert not any(film.title in line for film in session.export.films for line in info)
    assert session.session_id not in caplog.text
    assert V3_KEY not in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(503), "status 503"),
        (status(429), "status 429"),
        (drop, "connection failed"),
        (hang, "took over 0.2 s"),
        (body(b"<html>"), "not the JSON expected"),
    ],
    ids=["ill", "busy", "half a body", "slow", "HTML"],
)
async def test_debug_log_says_why_a_request_is_repeated(
    fault: Fault, reason: str, tmdb: FakeTMDB, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "letterboxd")
    tmdb.faults.append(fault)
    session = session_of(Clock(), last=3)

    await main.enrich_session_async(session, await ask(tmdb_timeout_seconds=0.2))

    (line,) = lines_of(caplog, logging.DEBUG)
    assert line.startswith(f"[{session.short_id}] ")
    assert reason in line
    assert session.enriched_count == 3
