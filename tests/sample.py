"""The report that the page shows to those without an export of their own: python -m tests.sample

Writes page/sample.json, which holds what the service returns of the demo's export: the session, the
statistics of all time and the films, each without what the page does not show. The films are rows under a row
of names.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.conftest import ROOT, SAMPLE, Api, Services, settings_for
from tests.fake_tmdb import FakeTMDB

PATH = ROOT / "page" / "sample.json"
IMAGES = "https://image.tmdb.org/t/p/w"  # shortened to a ~
SESSION = ("status", "total_movies", "processed_count", "enriched_count", "error_message", "warnings")
MOVIE = (
    *("movie_id", "title", "year", "rating", "liked", "watched", "watched_date", "watched_dates", "review"),
    *("poster_url", "tmdb_url", "letterboxd_uri", "directors", "cast", "genres", "runtime"),
)
UNUSED = {
    "through_time": ("years", "weeks", "release_years"),
    "what": ("countries", "languages", "collections"),
}
MAX_CAST = 6


def plain(value: Any) -> Any:
    """Without what bars have only for people, and without backdrops."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: plain(each) for name, each in value.items()}
    for name in ("tmdb_id", "portrait_url", "poster_urls", "backdrop_url"):
        if name in kept and not kept[name]:
            del kept[name]
    return kept


def shown(stats: dict[str, Any]) -> dict[str, Any]:
    """Rankings end where the sample does, so that the page offers no more; there are no years to choose."""
    for group, names in UNUSED.items():
        for name in names:
            del stats[group][name]
    for counted in stats["through_time"]["months"] + stats["ratings"]["histogram"]:
        counted["movie_ids"] = []
    for listed in [
        each for group in ("totals", "lists", "ratings", "watchlist") for each in _listed(stats[group])
    ]:
        if listed is not stats["lists"]["favourites"][0]:
            listed["backdrop_url"] = None
    stats["years"] = []
    for ranking in [*stats["who"].values(), *stats["what"].values()]:
        if isinstance(ranking, dict):
            ranking["total"] = len(ranking["most_watched"])
            ranking["total_rated"] = len(ranking["highest_rated"])
    return plain(stats)  # type: ignore[no-any-return]


def _listed(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Every film in the lists of a group of statistics."""
    values = [each for value in group.values() for each in (value if isinstance(value, list) else [value])]
    return [each for each in values if isinstance(each, dict) and "backdrop_url" in each]


async def sample(api: Api) -> str:
    upload = await api.upload((SAMPLE.name, SAMPLE.read_bytes()))
    session = await api.ended(upload["session_id"])
    stats = (await api.get(f"/api/session/{upload['session_id']}/stats")).json()
    movies = await api.movies(upload["session_id"])
    for movie in movies:
        del movie["cast"][MAX_CAST:]
    whole = {
        "session": {name: session[name] for name in SESSION},
        "stats": shown(stats),
        "movies": [MOVIE, *([movie[name] for name in MOVIE] for movie in movies)],
    }
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"{IMAGES}', '"~') + "\n"


async def write() -> None:
    async with FakeTMDB() as tmdb, Services() as services, services.serving(settings_for(tmdb)) as api:
        PATH.write_text(await sample(api), "utf-8")


if __name__ == "__main__":
    asyncio.run(write())
