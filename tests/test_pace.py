"""The pace, in virtual time, against every limit that TMDB may have."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from main import (
    CUT_FACTOR,
    OUTAGE_FAILURES,
    RATE_KEPT,
    RECOVERY_SECONDS,
    REFUSED_OF_SAMPLE,
    SAMPLE,
    Pace,
    Turnstile,
)
from tests.conftest import Clock
from tests.fake_tmdb import Bucket

# --- Limits: whether a request that arrives at that time is let through

Limit = Callable[[float], bool]


def free(_: float) -> bool:
    return True


def window(count: int, counts_refused: bool = False) -> Limit:
    """So many in any second."""
    times: deque[float] = deque()

    def allows(now: float) -> bool:
        while times and times[0] <= now - 1:
            times.popleft()
        allowed = len(times) < count
        if allowed or counts_refused:
            times.append(now)
        return allowed

    return allows


def fixed(count: int, phase: float) -> Limit:
    """So many in each second of the clock."""
    seen = {-1: 0}

    def allows(now: float) -> bool:
        second = math.floor(now + phase)
        seen[second] = seen.get(second, 0) + 1
        return seen[second] <= count

    return allows


def bucket(per_second: float, size: int) -> Limit:
    return Bucket(per_second, size, tokens=size).takes


def at_random(share: float, chance: random.Random, limit: Limit = free) -> Limit:
    return lambda now: chance.random() >= share and limit(now)


def until(end: float, limit: Limit) -> Limit:
    """The limit, and none after that time."""
    return lambda now: now >= end or limit(now)


# --- The simulation


@dataclass
class Run:
    """Films of two requests each, 20 at a time, against a limit; an ill TMDB also fails a share of them."""

    limit: Limit
    films: int = 300
    latency: float = 0.15
    seed: int = 1
    failing: float = 0.0
    jitter: float = 0.005  # of arrival, in seconds
    neighbour: float = 0.0  # requests a second of others at the same address
    dead: tuple[float, float] = (math.inf, math.inf)
    per_second: float = 40
    seconds: float = 0
    outcomes: list[tuple[float, str]] = field(default_factory=list)  # by the time of sending
    refused_seconds: list[float] = field(default_factory=list)
    outages: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number, self._order = itertools.count(), itertools.count()
        self._queue: list[tuple[int, int, int]] = []  # place, requests left of the film, tries
        self.pace = Pace(self.per_second, lambda: self.seconds)
        self._films_left, self._done, self._connections, self._wake = self.films, 0, 20, math.inf
        if self.neighbour:
            self._at(0, self._neighbour)
        for _ in range(20):
            self._film()
        while self._done < self.films and self.seconds < 50_000:
            self._go()
            self.seconds, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)

    def _at(self, time: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._number), act, arguments))

    def _film(self) -> None:
        if self._films_left:
            self._films_left -= 1
            heapq.heappush(self._queue, (next(self._order), 2, 0))

    def _neighbour(self) -> None:
        self.limit(self.seconds)
        self._at(self.seconds + self._chance.expovariate(self.neighbour), self._neighbour)

    def _awake(self) -> None:
        self._wake = math.inf

    def _go(self) -> None:
        while self._queue and self._connections and self.pace.next_at(urgent=False) <= self.seconds:
            self._connections -= 1
            request, sent_at = heapq.heappop(self._queue), self.pace.sent()
            way = 0.01 + self._chance.random() * self.jitter
            self._at(self.seconds + way, self._arrive, request, sent_at)
        if self._queue and self._connections and (next_at := self.pace.next_at(urgent=False)) < self._wake:
            self._wake = next_at
            self._at(next_at, self._awake)

    def _arrive(self, request: tuple[int, int, int], sent_at: float) -> None:
        slow = 5 if self._chance.random() < 0.01 else self._chance.uniform(0.5, 1.5)
        is_dead = self.dead[0] <= self.seconds < self.dead[1]
        if not self.limit(self.seconds):
            self._at(self.seconds + 0.01, self._answer, request, sent_at, "refused")
        elif is_dead or self._chance.random() < self.failing:
            self._at(self.seconds + self.latency * slow, self._answer, request, sent_at, "failed")
        else:
            self._at(self.seconds + self.latency * slow, self._answer, request, sent_at, "answered")

    def _answer(self, request: tuple[int, int, int], sent_at: float, outcome: str) -> None:
        self._connections += 1
        self.outcomes.append((sent_at, outcome))
        place, left, tries = request
        if outcome == "answered":
            self.pace.answered(sent_at)
            if left > 1:
                heapq.heappush(self._queue, (next(self._order), left - 1, 0))
            else:
                self._done += 1
                self._film()
            return
        was_out = self.pace.is_out
        if outcome == "refused":
            self.refused_seconds.append(self.seconds)
            self.pace.refused(sent_at)
        else:
            self.pace.failed(sent_at, "answers with status 500")
        self.outages += self.pace.is_out and not was_out
        again = min(0.25 * 2 ** min(tries, 4), 4) * self._chance.uniform(0.5, 1.5)
        self._at(self.seconds + again, self._back, (place, left, tries + 1))

    def _back(self, request: tuple[int, int, int]) -> None:
        heapq.heappush(self._queue, request)

    @property
    def refused(self) -> float:
        return len(self.refused_seconds) / len(self.outcomes)

    @property
    def a_second(self) -> float:
        return self.films * 2 / self.seconds


SEEDS = range(4)
LATENCIES = (0.05, 0.15)


def clean(latency: float, films: int = 300) -> float:
    return Run(free, films, latency).seconds


def runs(limit: Callable[[random.Random], Limit], films: int = 300, **given: Any) -> Iterator[Run]:
    for latency in LATENCIES:
        for seed in SEEDS:
            yield Run(limit(random.Random(seed + 7)), films, latency, seed, **given)


def times_clean(limit: Callable[[random.Random], Limit], films: int = 300, **given: Any) -> list[float]:
    base = {latency: clean(latency, films) for latency in LATENCIES}
    return [run.seconds / base[run.latency] for run in runs(limit, films, **given)]


# --- The rate


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(40, clock)


def test_never_more_than_forty_requests_in_any_second(clock: Clock, pace: Pace) -> None:
    chance, sent = random.Random(1), []
    for _ in range(2_000):
        overslept = chance.choice((0.01, 0.05)) if chance.random() < 0.02 else 0
        clock.now = max(clock.now, pace.next_at(urgent=False) + overslept)
        sent.append(pace.sent())

    assert all(later - earlier > 1 for earlier, later in zip(sent, sent[40:], strict=False))


def send(clock: Clock, pace: Pace, count: int, is_refused: Callable[[int], bool]) -> None:
    """Requests in a row, each of which is answered or refused before the next one is sent."""
    for number in range(count):
        clock.now = max(clock.now, pace.next_at(urgent=False))
        (pace.refused if is_refused(number) else pace.answered)(pace.sent())


def test_few_refusals_change_nothing(clock: Clock, pace: Pace) -> None:
    send(clock, pace, 10 * SAMPLE, lambda number: number % SAMPLE < REFUSED_OF_SAMPLE - 1)

    assert pace.rate(clock.now) == 40 * RATE_KEPT


def test_many_refusals_cut_the_rate_which_grows_back_steadily(clock: Clock, pace: Pace) -> None:
    full = 40 * RATE_KEPT

    send(clock, pace, SAMPLE, lambda number: number >= SAMPLE - REFUSED_OF_SAMPLE)

    assert pace.rate(clock.now) == CUT_FACTOR * full
    assert pace.rate(clock.now + 4) == pytest.approx((CUT_FACTOR + 4 / RECOVERY_SECONDS) * full)
    assert pace.rate(clock.now + (1 - CUT_FACTOR) * RECOVERY_SECONDS) == pytest.approx(full)
    assert pace.rate(clock.now + RECOVERY_SECONDS) == full


def test_burst_of_refusals_cuts_the_rate_once(clock: Clock, pace: Pace) -> None:
    under_way = []
    for _ in range(3 * REFUSED_OF_SAMPLE):
        clock.now = max(clock.now, pace.next_at(urgent=False))
        under_way.append(pace.sent())

    for sent_at in under_way:
        clock.now += 0.001
        pace.refused(sent_at)

    assert pace.rate(clock.now) == pytest.approx(CUT_FACTOR * 40 * RATE_KEPT, rel=0.01)


def test_clock_that_was_set_back_stops_nobody(clock: Clock, pace: Pace) -> None:
    send(clock, pace, REFUSED_OF_SAMPLE, lambda _: True)

    assert pace.rate(clock.now - 100) == CUT_FACTOR * 40 * RATE_KEPT


# --- The bars


@pytest.mark.parametrize(("per_second", "bar"), [(15, 0.15), (25, 0.09), (38, 0.06)])
def test_strict_limit_is_used_and_nearly_held(per_second: int, bar: float) -> None:
    each = list(runs(lambda _: window(per_second), 400))

    assert mean(run.refused for run in each) <= bar
    assert mean(run.a_second for run in each) >= 0.9 * per_second


def test_window_of_the_clock_is_used_and_nearly_held() -> None:
    each = list(runs(lambda chance: fixed(25, chance.random())))

    assert mean(run.refused for run in each) <= 0.09
    assert min(run.a_second for run in each) >= 0.9 * 25


def test_bucket_of_one_token_takes_at_most_one_and_a_half_times_as_long() -> None:
    assert mean(times_clean(lambda _: bucket(40, 1), jitter=0.002)) <= 1.5


def test_bucket_of_forty_tokens_costs_nothing() -> None:
    assert max(times_clean(lambda _: bucket(40, 40))) <= 1.05


def test_three_in_a_hundred_refused_take_at_most_1_3_times_as_long() -> None:
    assert max(times_clean(lambda chance: at_random(0.03, chance))) <= 1.3


def test_one_in_ten_refused_takes_at_most_twice_as_long() -> None:
    assert max(times_clean(lambda chance: at_random(0.1, chance), 400)) <= 2


def test_half_of_the_requests_failing_is_no_outage() -> None:
    assert sum(run.outages for run in runs(lambda _: free, 150, failing=0.5)) == 0


def test_neighbours_leave_their_share_and_we_use_it() -> None:
    each = list(runs(lambda _: window(40), 200, neighbour=20))

    assert 0.9 * 20 <= mean(run.a_second for run in each) <= 1.2 * 20


@pytest.mark.parametrize("per_second", [3, 15, 38])
def test_full_rate_is_back_forty_seconds_after_a_strict_limit(per_second: int) -> None:
    """Though 3 in 100 are still refused."""
    run = Run(at_random(0.03, random.Random(1), until(10, window(per_second))), 1_000)
    full = [at for at, _ in run.outcomes if 50 <= at < 52]

    assert run.seconds >= 52
    assert len(full) >= 2 * 40 * RATE_KEPT - 3


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(["window", "fixed", "bucket"]),
    st.integers(2, 60),
    st.integers(1, 60),
    st.floats(0, 0.2),
    st.floats(0.02, 0.4),
    st.integers(0, 9),
)
def test_never_starves(
    kind: str, per_second: int, size: int, share: float, latency: float, seed: int
) -> None:
    """A quarter of what the limit allows is used, whatever it is, with up to a fifth refused besides."""
    limits = {"window": window(per_second), "fixed": fixed(per_second, 0.3)}
    limit = limits.get(kind, bucket(per_second, size))

    run = Run(at_random(share, random.Random(seed), limit), 200, latency, seed)

    assert run.a_second >= 0.25 * min(per_second * (1 - share), 40, 20 / latency / 1.2)


# --- Outages and Retry-After


def test_dead_tmdb_is_asked_ever_more_rarely(
    clock: Clock, pace: Pace, caplog: pytest.LogCaptureFixture
) -> None:
    waits = []
    for _ in range(OUTAGE_FAILURES + 9):
        waits.append(pace.next_at(urgent=False) - clock.now)
        clock.now = max(clock.now, pace.next_at(urgent=False))
        pace.failed(pace.sent(), "answers with status 503")

    assert waits[OUTAGE_FAILURES:] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
    assert pace.waiting_for() == "TMDB answers with status 503; trying again in 30 s"
    assert len(caplog.records) == 1


def test_answer_to_any_request_ends_an_outage(clock: Clock, pace: Pace) -> None:
    for _ in range(OUTAGE_FAILURES + 5):
        clock.now = max(clock.now, pace.next_at(urgent=False))
        sent_at = pace.sent()
        pace.failed(sent_at, "answers with status 503")

    pace.answered(sent_at)

    assert pace.next_at(urgent=False) <= clock.now + 1
    assert pace.waiting_for() is None


def test_failures_are_no_outage_while_something_else_is_answered(clock: Clock, pace: Pace) -> None:
    for _ in range(OUTAGE_FAILURES):
        pace.failed(pace.sent(), "answers with status 500")
    pace.found_answering()
    for _ in range(OUTAGE_FAILURES):
        pace.failed(pace.sent(), "answers with status 500")
    still_well = not pace.is_out
    pace.answered(pace.sent())
    for _ in range(OUTAGE_FAILURES):
        pace.failed(pace.sent(), "answers with status 500")

    assert still_well
    assert pace.is_out


def test_work_goes_on_after_a_minute_without_tmdb() -> None:
    run = Run(free, dead=(2, 62))

    assert run.outages == 1
    assert run.seconds < 62 + 30 + 20
    assert sum(outcome == "failed" for _, outcome in run.outcomes) < OUTAGE_FAILURES + 40


@pytest.mark.parametrize(("said", "waited"), [(7, 7), (0, 0.5), (-3, 0.5), (100_000, 60)])
def test_retry_after_is_honoured_within_reason(said: float, waited: float, clock: Clock, pace: Pace) -> None:
    pace.refused(pace.sent(), said)

    assert pace.next_at(urgent=False) - clock.now == pytest.approx(waited)


def test_single_refusal_pauses_nobody(clock: Clock, pace: Pace) -> None:
    pace.refused(pace.sent())

    assert pace.next_at(urgent=False) - clock.now <= 1 / 39


# --- The turnstile


class Line:
    """Requests at a turnstile; `let_through` has the names of those sent, in order."""

    def __init__(self, clock: Clock, connections: int = 20) -> None:
        self.clock = clock
        self.turnstile = Turnstile(Pace(40, clock), connections, clock.sleep)
        self.let_through: list[tuple[str, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def join(self, name: str, urgent: bool = False, place: int | None = None, hold: int = 0) -> None:
        place = next(self.turnstile.order) if place is None else place
        self.tasks.append(asyncio.create_task(self._pass(name, place, urgent, hold)))

    async def _pass(self, name: str, place: int, urgent: bool, hold: int) -> None:
        async with self.turnstile.slot(place, urgent) as sent_at:
            self.let_through.append((name, sent_at))
            for _ in range(hold):
                await asyncio.sleep(0)

    async def names(self) -> list[str]:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        return [name for name, _ in self.let_through]


async def test_first_come_first_served(clock: Clock) -> None:
    line = Line(clock)
    for number in range(50):
        line.join(str(number))

    assert await line.names() == [str(number) for number in range(50)]
    assert clock.now - 1_000 == pytest.approx(49 / 40 / RATE_KEPT)


async def test_request_sent_again_keeps_its_place(clock: Clock) -> None:
    line = Line(clock, connections=1)
    early = next(line.turnstile.order)
    for name in "abc":
        line.join(name)
    await asyncio.sleep(0)
    line.join("again", place=early)

    assert (await line.names()).index("again") <= 1


async def test_people_take_the_next_slot(clock: Clock) -> None:
    line = Line(clock)
    for number in range(400):
        line.join(str(number), hold=6)
    while len(line.let_through) < 100:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0)
    line.join("person", urgent=True)
    came_at = clock.now

    await line.names()

    assert dict(line.let_through)["person"] - came_at < 0.1


async def test_no_more_requests_than_connections(clock: Clock) -> None:
    line = Line(clock, connections=3)
    most = 0
    for number in range(30):
        line.join(str(number), hold=5)
    while not all(task.done() for task in line.tasks):
        most = max(most, 3 - line.turnstile._connections._value)
        await asyncio.sleep(0)

    assert most == 3
    assert line.turnstile._connections._value == 3


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_requests_leave_no_debt_and_strand_nobody(steps: int, clock: Clock) -> None:
    line = Line(clock, connections=2)
    for number in range(200):
        line.join(str(number))
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in line.tasks:
        task.cancel()
    await line.names()
    left_at = clock.now
    line.join("next")

    assert (await line.names())[-1] == "next"
    assert clock.now - left_at < 0.1
    assert line.turnstile._connections._value == 2
    await asyncio.sleep(0)
    assert line.turnstile._dispatcher is None


async def test_people_take_the_next_connection_when_all_are_taken(clock: Clock) -> None:
    line = Line(clock, connections=2)
    for name in "abcd":
        line.join(name, hold=50)
    while len(line.let_through) < 2:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0)
    line.join("person", urgent=True)

    assert await line.names() == ["a", "b", "person", "c", "d"]
