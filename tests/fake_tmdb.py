"""TMDB for tests, demo and benchmark: a real HTTP server on loopback that behaves like TMDB's API v3.

It knows the films of catalogue.jsonl, one TMDB body a line, or whatever bodies it is given. What a test
can set: `latency_seconds`, `limit_per_second` (a bare 429 beyond it), `faults`, played one a request, and
`plays`, which decides for each request.
Every request is kept in `requests`.

    python -m tests.fake_tmdb --port 8901 --films 10000     # on its own, for the benchmark
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import re
import socket
import time
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from aiohttp import web

import main

V3_KEY = "0123456789abcdef0123456789abcdef"
V4_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJmYWtlIn0.c2lnbmF0dXJl"
CATALOGUE = Path(__file__).with_name("catalogue.jsonl")
PAGE = 20
MADE_UP = 320_000
OPTIONAL = {"credits", "aggregate_credits", "keywords", "external_ids", "alternative_titles", "translations"}

Body = dict[str, Any]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request: what for, when (monotonic seconds), and the status it was answered with."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    status: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def words(text: str) -> tuple[str, ...]:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return tuple(re.findall(r"\w+", "".join(c for c in folded if not unicodedata.combining(c))))


# --- Faults: what a broken or busy TMDB does with one request


def status(code: int, body: str = "", **headers: str) -> Fault:
    async def answer(_: web.Request) -> web.StreamResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=body or json.dumps({"status_code": 25}), headers=sent)

    return answer


def body(content: bytes, content_type: str = "application/json") -> Fault:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type=content_type)

    return answer


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def drip(request: web.Request) -> web.StreamResponse:
    """A byte now and then, and never the last."""
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    for _ in range(5000):
        await response.write(b" ")
        await asyncio.sleep(0.05)
    return response


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(request.rel_url)


async def drop(request: web.Request) -> web.StreamResponse:
    """Half a body, then nothing more."""
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b'{"id": 1, "title": "Half a bo')
    assert request.transport is not None
    request.transport.abort()
    return response


HTML = "<html><h1>Sorry, we are busy</h1></html>"

# All that asking again may mend.
FAULTS: dict[str, Fault] = {
    "429": status(429),
    "429, in a second": status(429, Retry_After="1"),
    "429, at a date": status(429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
    "429, at once": status(429, Retry_After="0"),
    "429, at junk": status(429, Retry_After="soon"),
    "429, in three years": status(429, Retry_After="99999999"),
    "500": status(500),
    "502 in HTML": status(502, HTML),
    "503": status(503),
    "504 in HTML": status(504, HTML),
    "reset": reset,
    "half a body": drop,
    "hang": hang,
    "drip": drip,
    "redirect to itself": redirect,
    "HTML": body(HTML.encode(), "text/html"),
    "nothing": body(b""),
    "truncated": body(b'{"results": [{"id": 1'),
    "not UTF-8": body(b'{"results": [], "id": 1, "title": "\xff"}'),
    "20 MB": body(b" " * 20_000_000),
    "another shape": body(b'{"results": "none", "success": false}'),
    "a list": body(b"[]"),
    "deep": body(b'{"results": ' + b"[" * 100_000),
}


Play = Callable[[web.Request], Fault | None]


def some(share: float, fault: Fault, path: str = "") -> Play:
    """Plays the fault to that share of the requests with that in their path."""
    chance = random.Random(3)
    return lambda request: fault if path in request.path and chance.random() < share else None


def both(*plays: Play) -> Play:
    return lambda request: next((fault for play in plays if (fault := play(request))), None)


# What TMDB may do to some requests for good, without losing a film.
TROUBLES: dict[str, Play] = {
    "refuses 1 request in 100": some(0.01, status(429)),
    "refuses 1 in 30": some(1 / 30, status(429)),
    "refuses 1 in 10": some(0.1, status(429)),
    "answers half with 500": some(0.5, status(500)),
    "answers 7 in 10 with 500": some(0.7, status(500)),
    "answers 3 in 10 with 500, /authentication with 503": both(
        some(0.3, status(500)), some(1, status(503), "authentication")
    ),
    "answers 3 in 10 with 500, /authentication hangs": both(
        some(0.3, status(500)), some(1, hang, "authentication")
    ),
    "answers 1 in 30 with 403": some(1 / 30, status(403)),
    "answers 1 in 30 with 401": some(1 / 30, status(401), "movie"),
}


@dataclass
class Bucket:
    """A token bucket, as limits are often made of."""

    per_second: float
    size: float = 1
    tokens: float = 1
    at: float = 0

    def takes(self, now: float) -> bool:
        tokens = min(self.size, self.tokens + (now - self.at) * self.per_second)
        taken = tokens >= 1 - 1e-9
        self.tokens, self.at = tokens - taken, now
        return taken


class FakeTMDB:
    def __init__(self, bodies: Iterable[Body] | None = None, key: str = V3_KEY) -> None:
        self.latency_seconds = 0.0
        self.limit_per_second: int | None = None
        self.faults: deque[Fault] = deque()
        self.plays: Play = lambda _: None
        self.requests: list[Asked] = []
        self.key = key
        self._accepted_at: deque[float] = deque()
        self._bucket: Bucket | None = None
        self._index = catalogue() if bodies is None else Index(bodies)

    def knows(self, bodies: Iterable[Body]) -> None:
        self._index = Index(bodies)

    async def __aenter__(self) -> Self:
        return await self.start(0)

    async def start(self, port: int) -> Self:
        app = web.Application()
        app.router.add_get("/3/authentication", self._authentication)
        app.router.add_get("/3/search/{media:movie|tv}", self._search)
        app.router.add_get("/3/discover/movie", self._discover)
        app.router.add_get("/3/find/{imdb_id}", self._find)
        app.router.add_get(r"/3/{media:movie|tv}/{id:\d+}", self._detail)
        app.router.add_get(r"/3/collection/{id:\d+}", self._collection)
        app.middlewares.append(self._gate)
        app.router.add_get("/fake", self._control)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/3"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def calls(self, start: str = "") -> int:
        """How many requests there were, of those whose path starts so."""
        return sum(asked.path.startswith(start) for asked in self.requests)

    def most_in_a_second(self) -> int:
        times = sorted(asked.at for asked in self.requests)
        first, most = 0, 0
        for last, at in enumerate(times):
            while times[first] < at - 1:
                first += 1
            most = max(most, last - first + 1)
        return most

    @web.middleware
    async def _gate(self, request: web.Request, handler: Fault) -> web.StreamResponse:
        """Key, limit, faults and latency, before any answer."""
        if request.path == "/fake":
            return await handler(request)
        arrived = time.monotonic()
        answer = self._refusal(request, arrived)
        if answer is None and self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if answer is None:
            play = self.faults.popleft() if self.faults else self.plays(request) or handler
            response = await play(request)
        else:
            response = answer
        path, query = request.path.removeprefix("/3/"), dict(request.query)
        self.requests.append(Asked(path, query, dict(request.headers), arrived, response.status))
        return response

    def _refusal(self, request: web.Request, now: float) -> web.Response | None:
        while self._accepted_at and self._accepted_at[0] <= now - 1:
            self._accepted_at.popleft()
        if self._bucket and not self._bucket.takes(now):
            return _error(429, 25, "Your request count is over the allowed limit.")
        if self.limit_per_second is not None and len(self._accepted_at) >= self.limit_per_second:
            return _error(429, 25, "Your request count is over the allowed limit.")
        self._accepted_at.append(now)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key not in (request.query.get("api_key"), token):
            return _error(401, 7, "Invalid API key: You must be granted a valid key.")
        return None

    async def _authentication(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True, "status_code": 1, "status_message": "Success."})

    async def _search(self, request: web.Request) -> web.Response:
        media, query = request.match_info["media"], request.query
        year = query.get("primary_release_year") or query.get("first_air_date_year") or ""
        found = self._index.search(media, query.get("query", ""), year)
        if query.get("include_adult") != "true":
            found = [body for body in found if not body.get("adult")]
        return _gzipped(_page(found, 1))

    async def _discover(self, request: web.Request) -> web.Response:
        query, page = request.query, int(request.query.get("page", "1"))
        if page > 500:
            return _error(400, 22, "Invalid page: Pages start at 1 and max at 500.")
        found = self._index.discover(
            query.get("primary_release_year", ""),
            int(query.get("vote_count.gte", "0")),
            "vote_count" if query.get("sort_by") == "vote_count.desc" else "popularity",
        )
        return _gzipped(_page(found, page))

    async def _find(self, request: web.Request) -> web.Response:
        found = [b for b in self._index.bodies if _imdb_id(b) == request.match_info["imdb_id"]]
        both = {
            f"{media}_results": [_result(b) for b in found if b["media"] == media]
            for media in ("movie", "tv")
        }
        return _gzipped(both)

    async def _detail(self, request: web.Request) -> web.Response:
        body = self._index.by_id.get((request.match_info["media"], int(request.match_info["id"])))
        if body is None:
            return _error(404, 34, "The resource you requested could not be found.")
        appended = request.query.get("append_to_response", "").split(",")
        left_out = OPTIONAL - set(appended) | {"media"}
        return _gzipped({key: value for key, value in body.items() if key not in left_out})

    async def _collection(self, request: web.Request) -> web.Response:
        tmdb_id = int(request.match_info["id"])
        parts = [b for b in self._index.bodies if (b.get("belongs_to_collection") or {}).get("id") == tmdb_id]
        if not parts or tmdb_id == 404:
            return _error(404, 34, "The resource you requested could not be found.")
        name = parts[0]["belongs_to_collection"]["name"]
        return _gzipped({"id": tmdb_id, "name": name, "parts": list(map(_result, parts))})

    async def _control(self, request: web.Request) -> web.Response:
        """For the benchmark: sets what the query names, tells what was asked, and forgets it."""
        query = request.query
        if "latency_seconds" in query:
            self.latency_seconds = float(query["latency_seconds"])
        if "limit_per_second" in query:
            self.limit_per_second = int(query["limit_per_second"]) or None
        if "trouble" in query:
            self.plays = TROUBLES[query["trouble"]]
        if "broken_search_seconds" in query:
            end = time.monotonic() + float(query["broken_search_seconds"])
            broken = some(1, status(500), "search")
            self.plays = lambda asked: broken(asked) if time.monotonic() < end else None
        if "bucket_per_second" in query:
            self._bucket = Bucket(float(query["bucket_per_second"]))
        told = {
            "statuses": Counter(str(asked.status) for asked in self.requests),
            "most_in_a_second": self.most_in_a_second(),
        }
        self.requests.clear()
        return web.json_response(told)


@dataclass
class Index:
    """Bodies to search among: every word of the query must be in one of its titles."""

    given: Iterable[Body]
    bodies: list[Body] = field(init=False)

    def __post_init__(self) -> None:
        self.bodies = list(self.given)
        self.by_id = {(body["media"], body["id"]): body for body in self.bodies}

    @cached_property
    def _by_word(self) -> dict[str, set[int]]:
        index: dict[str, set[int]] = defaultdict(set)
        for number, body in enumerate(self.bodies):
            for title in _titles(body):
                for word in words(title):
                    index[word].add(number)
        return index

    def search(self, media: str, query: str, year: str) -> list[Body]:
        """Exact titles first, then by popularity."""
        wanted = words(query)
        if not wanted:
            return []
        numbers = set.intersection(*(self._by_word.get(word, set()) for word in wanted))
        found = [self.bodies[n] for n in numbers if self._hit(self.bodies[n], media, wanted, year)]
        return sorted(
            found, key=lambda b: (wanted not in map(words, _titles(b)), -b.get("popularity", 0), b["id"])
        )

    def discover(self, year: str, least_votes: int, order: str) -> list[Body]:
        """Films of that year of release, those with the most votes or the highest popularity first."""
        of_year = (body for body in self.bodies if body["media"] == "movie" and _date(body).startswith(year))
        found = [body for body in of_year if body.get("vote_count", 0) >= least_votes]
        return sorted(found, key=lambda body: (-body.get(order, 0), body["id"]))

    def _hit(self, body: Body, media: str, wanted: tuple[str, ...], year: str) -> bool:
        titled = any(set(wanted) <= set(words(title)) for title in _titles(body))
        return body["media"] == media and titled and _date(body).startswith(year)


@cache
def catalogue() -> Index:
    """Read once, so nobody may change it."""
    return Index(json.loads(line) for line in CATALOGUE.read_text("utf-8").splitlines())


def _titles(body: Body) -> list[str]:
    """All that TMDB searches: its own, the original, alternative and translated ones."""
    names = [body.get(name) or "" for name in ("title", "name", "original_title", "original_name")]
    names += [other["title"] for others in body.get("alternative_titles", {}).values() for other in others]
    translated = (each["data"] for each in body.get("translations", {}).get("translations", []))
    return names + [data.get("title") or data.get("name") or "" for data in translated]


def _date(body: Body) -> str:
    return str(body.get("release_date") or body.get("first_air_date") or "")


def _imdb_id(body: Body) -> str:
    return str(body.get("imdb_id") or body.get("external_ids", {}).get("imdb_id"))


def _result(body: Body) -> Body:
    shown = {"id", "title", "original_title", "release_date", "name", "original_name", "first_air_date"}
    shown |= {"popularity", "vote_count", "vote_average", "poster_path"}
    return {key: value for key, value in body.items() if key in shown} | {"adult": False, "genre_ids": []}


def _page(found: list[Body], page: int) -> Body:
    shown = list(map(_result, found[PAGE * (page - 1) : PAGE * page]))
    total = {"total_results": len(found), "total_pages": -(-len(found) // PAGE)}
    return {"page": page, "results": shown} | total


def _gzipped(content: Body) -> web.Response:
    response = web.json_response(content)
    response.enable_compression(web.ContentCoding.gzip)
    return response


def _error(code: int, status_code: int, message: str) -> web.Response:
    return web.json_response(
        {"success": False, "status_code": status_code, "status_message": message}, status=code
    )


def made_up(count: int) -> list[Body]:
    """As many films with a title of their own, and bodies of the size that real ones have (15 KB).

    Letterboxd's numbers for them are MADE_UP and those that follow.
    """
    people = [{"id": n, "name": f"Person Number {n}", "order": n, "character": "x" * 60} for n in range(60)]
    crew = [{"id": n, "name": f"Crew Member {n}", "job": "Grip", "department": "Crew"} for n in range(50)]
    return [
        {
            "media": "movie",
            "id": round(main.expected_tmdb_id(MADE_UP + number)),
            "title": f"Reel{number}",
            "original_title": f"Reel{number}",
            "release_date": f"{1930 + number % 90}-05-05",
            "popularity": 1.0,
            "vote_count": 300,
            "vote_average": 6.5,
            "runtime": 90 + number % 60,
            "imdb_id": f"tt{1000000 + number}",
            "poster_path": f"/reel{number}.jpg",
            "overview": "o" * 300,
            "genres": [{"id": 18, "name": "Drama"}, {"id": 35, "name": "Comedy"}],
            "production_countries": [{"name": "France"}],
            "spoken_languages": [{"english_name": "French", "name": "Français"}],
            "keywords": {"keywords": [{"id": n, "name": f"keyword {n + number % 500}"} for n in range(12)]},
            "credits": {
                "cast": [
                    p | {"id": number % 997 * 100 + n, "name": f"Actor {number % 997} {p['id']}"}
                    for n, p in enumerate(people)
                ],
                "crew": [
                    *crew,
                    {"id": 10**6 + number % 400, "name": f"Director {number % 400}", "job": "Director"},
                ],
            },
        }
        for number in range(count)
    ]


def known(count: int) -> list[tuple[int, Body]]:
    """Up to that many films of the list of known films, each with the Letterboxd number that predicts its id.

    All are from the second half of the longest segment between TMDB_ID_KNOTS, where no made-up film is.
    """
    (x0, y0), (x1, y1) = max(pairwise(main.TMDB_ID_KNOTS), key=lambda ends: ends[1][0] - ends[0][0])
    lines = gzip.decompress(main.KNOWN_FILMS.read_bytes()).decode().splitlines()
    listed = ((title, year, int(tmdb_id)) for title, year, tmdb_id in (line.split("\t") for line in lines))
    films = [film for film in listed if (y0 + y1) / 2 < film[2] < y1]
    return [
        (
            round(x0 + (tmdb_id - y0) * (x1 - x0) / (y1 - y0)),
            body | {"id": tmdb_id, "title": title, "original_title": title, "release_date": f"{year}-05-05"},
        )
        for body, (title, year, tmdb_id) in zip(made_up(count), films, strict=False)
    ]


KNOWN = 1_000


async def serve(port: int, films: int) -> None:
    bodies = made_up(films) + [body for _, body in known(KNOWN)] if films else None
    await FakeTMDB(bodies).start(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for TMDB on loopback.")
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument(
        "--films", type=int, default=0, help="how many to make up, besides known ones; 0 is the catalogue"
    )
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.films))
