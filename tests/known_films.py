"""Renews known_films.tsv.gz, the list of known films, from TMDB: python -m tests.known_films

Asks TMDB for the films of each year with at least ten votes, 20 per call: about 4,000 calls, in two minutes
at the default rate. If it is stopped by Ctrl-C or an error, the next start continues from there: until the
list is written, the answers are kept in known_films.part beside it. The same answers give the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import main

FIRST_YEAR = 1874
LAST_PAGE = 500  # TMDB serves no more
DISCOVER = {"sort_by": "vote_count.desc", "vote_count.gte": "10", "include_adult": "false"}

Listed = tuple[str, int, int]  # title, year, TMDB id


class DiscoverBody(main.SearchBody):
    total_pages: int


class Discoverer(main.TMDBClient):
    async def discover(self, year: int, page: int) -> DiscoverBody:
        """The films first released in that year, those with the most votes first."""
        params = DISCOVER | {"primary_release_year": str(year), "page": str(page)}
        return await self._get("discover/movie", DiscoverBody, params)


class Answers:
    """What TMDB has answered so far, by year and page: in memory, and in a file with one line per page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pages: dict[tuple[int, int], tuple[int, list[tuple[str, int]]]] = {}
        kept = path.read_text("utf-8") if path.exists() else ""
        whole = kept[: kept.rfind("\n") + 1]  # without a line that was cut off when it was stopped
        path.write_text(whole, "utf-8")
        for year, page, total, found in map(json.loads, whole.split("\n")[:-1]):
            self.pages[year, page] = total, found

    def add(self, year: int, page: int, body: DiscoverBody) -> None:
        found = [(result.title, result.id) for result in body.results if result.title]
        total = min(body.total_pages, LAST_PAGE)
        self.pages[year, page] = total, found
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([year, page, total, found]) + "\n")

    def films(self) -> Iterator[Listed]:
        for (year, _), (_, found) in self.pages.items():
            yield from ((title, year, tmdb_id) for title, tmdb_id in found)


def renew(settings: main.Settings, path: Path, years: Iterable[int]) -> None:
    """Writes the list. If it raises main.TMDBError, the answers so far are kept."""
    answers = Answers(path.with_name("known_films.part"))
    asyncio.run(_read(settings, answers, iter(years)))
    path.write_bytes(packed(answers.films()))
    answers.path.unlink()


async def _read(settings: main.Settings, answers: Answers, years: Iterator[int]) -> None:
    async def work() -> None:
        for year in years:
            await _read_year(year, tmdb, answers)
            sys.stdout.write(f"\r{year}, {len(answers.pages):,} pages ")
            sys.stdout.flush()

    try:
        async with Discoverer(settings) as tmdb, asyncio.TaskGroup() as group:
            for _ in range(tmdb.workers):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _read_year(year: int, tmdb: Discoverer, answers: Answers) -> None:
    page = total = 1
    while page <= total:
        if (year, page) not in answers.pages:
            answers.add(year, page, await tmdb.discover(year, page))
        total, _ = answers.pages[year, page]
        page += 1


def packed(films: Iterable[Listed]) -> bytes:
    """The list as a file: the same bytes for the same films, in whatever order, however often."""
    lines = sorted(
        {f"{main.normalize_title(title)}\t{year}\t{tmdb_id}\n".encode() for title, year, tmdb_id in films}
    )
    return gzip.compress(b"".join(lines), mtime=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=main.KNOWN_FILMS, help="the file to write")
    to = parser.parse_args().to
    try:
        renew(main.Settings.load(), to, range(datetime.now(UTC).year, FIRST_YEAR - 1, -1))
    except main.TMDBError as error:
        raise SystemExit(f"\n{error}\nStart it again to continue.") from None
    except KeyboardInterrupt:
        raise SystemExit("\nStart it again to continue.") from None
    print(f"\n{len(main.KnownFilms.read(to)):,} films, {to.stat().st_size:,} bytes: {to}")
