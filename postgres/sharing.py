"""What all processes share: TMDB's answers, and the pace of asking."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

import main
from postgres.database import RETRY_SECONDS, Batch, Database, DatabaseUnavailable, retry_until_back
from postgres.encoding import Body, dumps
from postgres.tables import PUT_ANSWERS, READ_ANSWERS, TAKE


class StoredAnswers:
    """main.KeptAnswers in PostgreSQL. The store writes them, before the films that refer to them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading: Batch[str, Row[Any]] = Batch(self._read)
        self._unwritten: dict[str, Body] = {}

    async def get(self, key: str, version: str) -> str | None:
        rows = await retry_until_back(partial(self._reading.get, key))
        return rows[key].body if key in rows and rows[key].version == version else None

    async def _read(self, keys: list[str]) -> dict[str, Row[Any]]:
        return {row.key: row for row in await self._database.run(READ_ANSWERS, keys=keys)}

    def put(self, key: str, version: str, body: str, days: int) -> None:
        self._unwritten[key] = {"key": key, "version": version, "body": body, "days": days}

    async def write(self) -> None:
        """All that were put up to now. Raises DatabaseUnavailable."""
        answers = [self._unwritten[key] for key in sorted(self._unwritten)]  # or processes might deadlock
        if not answers:
            return
        try:
            await self._put(answers)
        except DBAPIError:
            for answer in answers:
                await self._put_or_drop(answer)

    async def _put_or_drop(self, answer: Body) -> None:
        try:
            await self._put([answer])
        except DBAPIError as error:
            main.log.error("the database refuses an answer of TMDB: %s", error.orig)
            self._unwritten.pop(answer["key"], None)

    async def _put(self, answers: list[Body]) -> None:
        bodies = ",".join(
            f'{dumps(answer | {"body": None})[:-1]},"body":{answer["body"]}}}' for answer in answers
        )
        await self._database.run(PUT_ANSWERS, answers=f"[{bodies}]")
        for answer in answers:
            if self._unwritten.get(answer["key"]) is answer:
                del self._unwritten[answer["key"]]


AHEAD_SECONDS = 0.125  # for so long, a process takes slots at once
LATE_SECONDS = 0.08  # after which a slot is not used any more
UNSHARED_SECONDS = 1  # after which a person goes without a slot of the database


class SharedPace(main.Pace):
    """One rate and one pause for all processes, in a row from which each takes several slots at a time.

    With each take it tells how its requests fared. Outages are each process's own to find out.
    """

    def __init__(
        self, per_second: float, database: Database, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(per_second, clock)
        self._database = database
        self._slots: deque[float] = deque()
        self._outcomes: list[tuple[float, bool]] = []  # when it was sent, and whether it was refused
        self._rate, self._shared_cut_at = self.full_rate, -math.inf
        self._taking: asyncio.Task[None] | None = None
        self._take_at, self._took_at = -math.inf, clock()

    def next_at(self, urgent: bool) -> float:
        now, own = self.clock(), super().next_at(urgent)
        while self._slots and self._slots[0] < now - LATE_SECONDS:
            self._slots.popleft()
        ends = self._slots[-1] if self._slots else now
        if ends < now + AHEAD_SECONDS / 2 and own < now + AHEAD_SECONDS and now >= self._take_at:
            self.take()
        if self._slots:
            return max(own, self._slots[0])
        is_unshared = urgent and now - self._took_at > UNSHARED_SECONDS
        return own if is_unshared else max(own, self._take_at, now + 0.005)

    def sent(self) -> float:
        if self._slots:
            self._slots.popleft()
        return super().sent()

    def rate(self, at: float) -> float:
        return min(super().rate(at), self._rate)

    # --- Outcomes

    def answered(self, sent_at: float) -> None:
        super().answered(sent_at)
        self._outcomes.append((sent_at, False))

    def failed(self, sent_at: float, problem: str) -> None:
        super().failed(sent_at, problem)
        self._outcomes.append((sent_at, False))

    def refused(self, sent_at: float, retry_after_seconds: float | None = None) -> None:
        """Told at once, since the others might be refused as well."""
        super().refused(sent_at, retry_after_seconds)
        self._outcomes.append((sent_at, True))
        self._slots.clear()
        self.take()

    # --- Slots

    def take(self) -> None:
        if self._taking is None:
            self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        asked_at, told = self.clock(), len(self._outcomes)
        pause = self.paused_until - asked_at
        slots = max(round(self._rate * AHEAD_SECONDS), 1) if pause < AHEAD_SECONDS else 0
        outcomes = "".join(
            "01"[is_refused] for at, is_refused in self._outcomes[:told] if at > self._shared_cut_at
        )
        try:
            [row] = await self._database.run(
                TAKE,
                full=self.full_rate,
                slots=slots,
                outcomes=outcomes,
                pause=max(pause, -1e9),
                late=main.SLACK_SECONDS,
            )
        except (DatabaseUnavailable, DBAPIError):
            self._take_at = self.clock() + RETRY_SECONDS
        else:
            del self._outcomes[:told]
            self._took_at = self.clock()
            self._adopt(row, slots, row.now - (asked_at + self._took_at) / 2)
        finally:
            self._taking = None

    def _adopt(self, row: Row[Any], slots: int, offset: float) -> None:
        """`offset` is from this process's clock to the database's."""
        is_new_pause = row.paused_until - offset > max(self.paused_until, self.clock()) + 0.1
        if is_new_pause and not self.problem:
            self.problem = "refused requests (status 429)"
        if is_new_pause:
            self._slots.clear()
        self._rate, self.rate_after_cut = row.rate, row.rate_after_cut
        self.cut_at = self._shared_cut_at = row.cut_at - offset
        self.paused_until = row.paused_until - offset
        self._slots.extend(row.next_slot - offset - (slots - n) / row.rate for n in range(slots))

    async def close(self) -> None:
        if self._taking:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
