"""Reads a Letterboxd export and looks every film of it up in TMDB.

    uvicorn main:app                       # or: python main.py; then open http://localhost:8000, or
    curl -F files=@letterboxd-me-2026-01-01-00-00-utc.zip localhost:8000/api/upload

The answer comes at once and carries a session id. The films are looked up in the background, in the
order of the diary, as fast as TMDB allows; progress, films and statistics are read from memory; an hour
after the work has ended everything is forgotten. index.html, beside this file, is the page. The sections,
in reading order:

    Settings     what can be set, with its default, unit and reason
    Errors       what can go wrong, and the HTTP status of each
    Films        the words of the domain: Film, Viewing, Movie, Match
    Export       bytes -> films: ZIP and CSV reading, joining, warnings
    TMDB         the rate limiter, choosing the right film, the client
    Statistics   films -> numbers, pure functions
    Sessions     Session, and SessionStore: a dict whose entries expire
    Enrichment   the task that fills a session in, retries and corrections
    Answers      what goes over the wire: JSON and CSVs
    Web          the routes, the guard before them, and the app

The app's lifespan owns the TMDB client and the store, the store owns the sessions, and a session owns
its enrichment task; nothing else outlives a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import difflib
import gc
import heapq
import io
import itertools
import json
import logging
import math
import os
import random
import re
import secrets
import signal
import string
import sys
import threading
import time
import unicodedata
import weakref
import zipfile
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from ipaddress import ip_address
from operator import attrgetter, itemgetter
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

import aiohttp
import uvicorn
from dotenv import dotenv_values
from fastapi import APIRouter, Depends, FastAPI, File, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    OnErrorOmit,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("letterboxd")

# The short id of the session on whose behalf a line is logged.
trace: ContextVar[str] = ContextVar("trace", default="-")


# === Settings =================================================================
# Read once at start from the environment, which wins, and from a .env file beside this one. A blank
# value counts as not set.


def _split(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("it should be an address such as https://api.themoviedb.org/3")
    return value.rstrip("/")


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    origins = tuple(origin.rstrip("/").lower() for origin in value)
    if not all(re.fullmatch(r"https?://[^\s/?#@*]+", origin) for origin in origins):
        raise ValueError("each should be like http://localhost:3000, without a path or *")
    return origins


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", host) for host in value):
        raise ValueError("each should be a name or an address, without http:// and without a port")
    return tuple(host.lower() for host in value)


def _one_word(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]*", value.get_secret_value()):
        raise ValueError("it should be a v3 key (32 hex characters) or a v4 token (starting with eyJ)")
    return value


class Settings(BaseModel):
    """Every setting; the environment variable is the name in capitals."""

    model_config = ConfigDict(frozen=True)

    # Without a key the service works from the export alone.
    tmdb_api_key: Annotated[SecretStr, AfterValidator(_one_word)] = SecretStr("")
    tmdb_base_url: Annotated[str, AfterValidator(_http_url)] = "https://api.themoviedb.org/3"
    # TMDB's staff name "somewhere in the 40 requests per second range" and 20 connections an address.
    tmdb_requests_per_second: float = Field(default=40, gt=0, le=10_000)
    tmdb_connections: int = Field(default=20, ge=1, le=1_000)
    # Whole request. TMDB answers in 0.3 s at most, but for a slow tail of a few seconds.
    tmdb_timeout_seconds: float = Field(default=10, gt=0, le=300)
    # Counted from the end of a session's work, never while it runs.
    session_ttl_seconds: float = Field(default=3600, gt=0, le=604_800)
    max_sessions: int = Field(default=50, ge=1)
    # Of all sessions together, as estimated; the process itself takes 70 MB.
    max_memory_bytes: int = Field(default=1_000_000_000, ge=1)
    # The largest export seen is a tenth of this.
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    max_films: int = Field(default=20_000, ge=1)
    # Pages of other addresses that may call this service, separated by commas.
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_origins)] = (
        "http://localhost:3000",
    )
    # Names under which it is reached but for localhost, separated by commas: a page whose name is made to
    # lead here could read everything otherwise.
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_hosts)] = ()
    # Used by `python main.py`; uvicorn has its own --host and --port.
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = "INFO"

    @classmethod
    def load(cls, environ: dict[str, str | None] | None = None) -> Settings:
        """From `environ`, or from the environment and .env; SystemExit says what is wrong."""
        if environ is None:
            environ = {**dotenv_values(Path(__file__).with_name(".env")), **os.environ}
        given = {name: (environ.get(name.upper()) or "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            raise SystemExit("\n".join(map(_setting_problem, error.errors()))) from None


def _setting_problem(error: Any) -> str:
    name = str(error["loc"][0]).upper()
    secret = name in ("TMDB_API_KEY", "TMDB_BASE_URL")  # an address may have been pasted with its key
    given = "" if secret else f" is {error['input']!r}"
    return f"{name}{given}: {error['msg'].removeprefix('Value error, ')}. See .env.example."


# === Errors ===================================================================
#
#   ServiceError
#    ├─ UnusableUpload    400   nothing in the upload could be read as films
#    ├─ SessionNotFound   404   unknown, expired or malformed session id
#    ├─ MovieNotFound     404   no film of the session has that movie id
#    ├─ SessionBusy       409   its films are still being looked up
#    ├─ UploadTooLarge    413   too many bytes or films
#    ├─ StoreFull         503   no room for one more session
#    └─ TMDBError         502   as a film's or a session's reason, or the answer to a correction
#        ├─ TMDBUnavailable     no usable answer, or one that asking again will not change
#        ├─ TMDBKeyRejected     it said 401, or there is no key
#        ├─ TMDBSilent          for minutes it has answered nothing at all
#        └─ TMDBNotFound  404   no record of that id


class ServiceError(Exception):
    """Its text is one sentence for a person: what was wrong, and what would be right."""

    status = 500
    headers: dict[str, str] | None = None


class UnusableUpload(ServiceError):
    status = 400


class SessionNotFound(ServiceError):
    status = 404


class MovieNotFound(ServiceError):
    status = 404


class SessionBusy(ServiceError):
    status = 409


class UploadTooLarge(ServiceError):
    status = 413


class StoreFull(ServiceError):
    status = 503

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"There is no room for one more session; some may be in {retry_after_seconds} s.")
        self.headers = {"Retry-After": str(retry_after_seconds)}


class TMDBError(ServiceError):
    status = 502


class TMDBUnavailable(TMDBError):
    pass


class TMDBKeyRejected(TMDBError):
    pass


class TMDBSilent(TMDBError):
    pass


class TMDBNotFound(TMDBError):
    status = 404


# === Films ====================================================================
# A film is what the member logged, a movie is TMDB's record of it, and the match is the decision that
# joins them. Movies and matches are shared by all sessions that hold the same film, so they are frozen.

MediaType = Literal["movie", "tv"]
TMDBId = tuple[MediaType, int]  # a film and a series may have the same number
MatchStatus = Literal["pending", "exact", "guessed", "corrected", "not_found", "failed"]


class Label(str):
    """The name of a person, a studio or a collection, told from namesakes by TMDB's id."""

    __slots__ = ("__weakref__", "identity")
    identity: int | str  # the id, or the name where TMDB gives none


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Movie:
    """TMDB's record of a film or a series; `runtime` in minutes, None where unknown."""

    tmdb_id: int
    tmdb_type: MediaType
    imdb_id: str | None
    title: str
    original_title: str
    release_date: str | None
    runtime: int | None
    genres: tuple[str, ...]
    directors: tuple[Label, ...]
    cast: tuple[Label, ...]
    writers: tuple[Label, ...]
    composers: tuple[Label, ...]
    cinematographers: tuple[Label, ...]
    editors: tuple[Label, ...]
    producers: tuple[Label, ...]
    studios: tuple[Label, ...]
    countries: tuple[str, ...]
    languages: tuple[str, ...]
    keywords: tuple[str, ...]
    poster_url: str | None
    tmdb_rating: float | None
    tmdb_votes: int
    collections: tuple[Label, ...]  # one at most

    @property
    def collection(self) -> Label | None:
        return next(iter(self.collections), None)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Collection:
    """Such as a film and its sequels; `released` are TMDB's ids of those that are out."""

    name: str
    released: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of TMDB's search results; `score` once it is weighed, 1 more is ten times as likely."""

    tmdb_id: int
    tmdb_type: MediaType
    title: str
    original_title: str
    year: int | None
    votes: int
    popularity: float
    poster_url: str | None
    score: float = 0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Match:
    """Which movie a film is, how sure that is, and why in words for the member."""

    status: MatchStatus
    reason: str
    movie: Movie | None = None
    considered: tuple[Candidate, ...] = ()  # best first
    by_hand: bool = False  # chosen or cleared by the member, so no search may undo it


PENDING = Match("pending", "Waiting to be looked up in TMDB.")


@dataclass(slots=True)
class Viewing:
    """One diary entry, or a review outside of the diary; its rating may differ from the film's."""

    watched_date: date | None = None
    rating: float | None = None
    rewatch: bool = False
    tags: tuple[str, ...] = ()
    review: str = ""
    entry_uri: str = ""


@dataclass(slots=True)
class Film:
    """What the member logged about one film, from all files; `rating` in stars from 0.5 to 5."""

    title: str
    year: int | None
    film_uri: str = ""
    letterboxd_number: int | None = None  # Letterboxd's own, told by a short film_uri
    rating: float | None = None
    watched: bool = False
    liked: bool = False
    watchlist: bool = False
    added_date: date | None = None  # marked as watched, liked or put on the watchlist: no viewing date
    viewings: list[Viewing] = field(default_factory=list)  # latest first, once the export is read
    undated_reviews: list[Viewing] = field(default_factory=list)  # reviews that are not in the diary
    tmdb: TMDBId | None = None  # as given by the upload, like the next two
    imdb_id: str = ""
    given_as: MatchStatus = "exact"  # what those ids are, where a download of this service tells
    movie_id: int = 0  # its place in the session, from 1
    match: Match = PENDING

    @property
    def name(self) -> str:
        """The title, or TMDB's where the upload gives none."""
        movie = self.match.movie
        return self.title or (movie.title if movie else "")

    @property
    def titles(self) -> set[str]:
        """The member's, and TMDB's two."""
        movie = self.match.movie
        return {self.title, movie.title, movie.original_title} if movie else {self.title}

    @property
    def watched_date(self) -> date | None:
        return next((viewing.watched_date for viewing in self.viewings if viewing.watched_date), None)

    @property
    def entries(self) -> list[Viewing]:
        return self.viewings + self.undated_reviews


BASE62 = {digit: i for i, digit in enumerate(string.digits + string.ascii_lowercase + string.ascii_uppercase)}
SHORT_URI = re.compile(r"(?:https?://)?boxd\.it/([0-9a-zA-Z]{1,8})/?")
IMDB_ID = re.compile(r"tt[0-9]{5,10}")
LONG_URI = re.compile(r"(?:https?://)?(?:www\.)?letterboxd\.com/([\w-]+/)?film/([\w-]+)(?:/.*)?")
TMDB_URL = re.compile(
    r"(?i)(?:https?://)?(?:www\.)?themoviedb\.org/(movie|tv)/([1-9][0-9]{0,8})(?:[-/?#].*)?"
)


def letterboxd_number(uri: str) -> tuple[int, bool] | None:
    """`(number, is_film)` of a short URI: 'https://boxd.it/2a1m' is film 51518. None for any other URI.

    The code is a number in base 62, whose last decimal digit is its type (0 is a film) and whose other
    digits are Letterboxd's id; that held for 24,960 film URIs and 68,600 diary URIs of 97 exports.
    """
    code = SHORT_URI.fullmatch(uri)
    if code is None:
        return None
    value = 0
    for digit in code[1]:
        value = value * 62 + BASE62[digit]
    return value // 10, value % 10 == 0


def tmdb_of(url: str) -> TMDBId | None:
    """'https://www.themoviedb.org/movie/27205-inception' is ('movie', 27205). None for any other address."""
    page = TMDB_URL.fullmatch(url.strip())
    return (cast(MediaType, page[1].lower()), int(page[2])) if page else None


def tmdb_url(tmdb_type: MediaType, tmdb_id: int) -> str:
    return f"https://www.themoviedb.org/{tmdb_type}/{tmdb_id}"


def plain(title: str) -> str:
    """For telling equal titles: case, spaces and the way an accent is encoded do not count."""
    return " ".join(unicodedata.normalize("NFC", title).casefold().split())


def fold(title: str) -> str:
    """For telling like titles: accents, punctuation and spaces do not count either."""
    spelled = unicodedata.normalize("NFKD", title.casefold().replace("×", "x").replace("&", "and"))
    return "".join(filter(str.isalnum, spelled)) or plain(title)


# === Export ===================================================================
# Uploaded files become tables, and each row of a table is a film and an entry, joined into films as they
# come. Watched, ratings, likes and the watchlist name films; the URI of a diary row or a review names
# the *entry*, so those are joined by name and year. What cannot be read is a warning with file, line and
# reason, and all the rest counts.

csv.field_size_limit(1_000_000)  # Python stops at 131,072; the longest review seen has 17,958

Kind = Literal["watched", "ratings", "likes", "watchlist", "import", "diary", "reviews"]
KINDS = get_args(Kind)  # in the order in which they are joined

FILM_FILES = {"watched.csv", "ratings.csv", "watchlist.csv", "likes/films.csv", "diary.csv", "reviews.csv"}
OTHER_FILES = {"profile.csv", "comments.csv", "likes/reviews.csv", "likes/lists.csv"}
OTHER_FOLDERS = {"deleted", "orphaned", "lists", "__macosx"}

# How headers are spelled, without case, spaces and punctuation, and what they mean.
COLUMNS = {
    **dict.fromkeys(("name", "title", "film", "movie", "filmname", "filmtitle"), "title"),
    **dict.fromkeys(("year", "releaseyear"), "year"),
    **dict.fromkeys(("letterboxduri", "uri", "url"), "uri"),
    **{name: name for name in ("date", "rating", "rating10", "rewatch", "tags", "review")},
    **{name: name for name in ("watched", "liked", "watchlist")},
    "watcheddate": "watched date",
    "tmdbid": "tmdbID",
    "tmdburl": "tmdbURL",
    "imdbid": "imdbID",
    **dict.fromkeys(("matchstatus", "status"), "match"),
}
NOT_GIVEN = {"", "na", "n/a", "nan", "null", "none", "-"}
ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?![0-9])")
SLASH_DATE = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})")
ACCENTED = "àâäáãåçèéêëìíîïñòóôöõùúûü’“”–"
WARNINGS_PER_FILE = 50
WARNINGS = 200
# Bounds that no export comes near: it has some dozens of members, unpacks to four times its size and to 8 MB
# at most, has 11 columns, titles of 151 characters and a row a film or viewing. What is not of one member,
# row or cell is of the whole upload.
MOST_MEMBERS = 2_000  # of one ZIP
MOST_UNPACKED_BYTES = 40_000_000
MOST_TIMES_PACKED = 50  # one member
MOST_COLUMNS = 1_000
MOST_ROWS = 200_000
MOST_CELLS = 1_500_000
MOST_NAMESAKES = 100  # that are looked at, films of one name or viewings of one day
LOCAL_HEADER_BYTES = 30  # of a member, and its name
MOST_TAGS = 500  # one cell
LONGEST_TITLE = 500
# What a session takes in memory.
FILM_BYTES = 6_000  # with TMDB's record, as measured by tests.bench
ROW_BYTES = 150
BYTES_PER_TEXT_BYTE = 4  # as in a string with one emoji in it

T = TypeVar("T")


class Unreadable(Exception):
    """Why one file of an upload is of no use."""


@dataclass(slots=True)
class Export:
    films: list[Film]
    rows: dict[str, int]  # the files that were understood, and how many rows of each counted
    warnings: list[str]
    text_bytes: int = 0  # of those files

    @property
    def memory_bytes(self) -> int:
        """What its session takes when TMDB's records are in it; an estimate, rather too high."""
        rows = ROW_BYTES * sum(self.rows.values())
        return FILM_BYTES * len(self.films) + rows + BYTES_PER_TEXT_BYTE * self.text_bytes


@dataclass(slots=True)
class Allowance:
    """What is left of that which one upload, all its files together, may bring."""

    unpacked_bytes: int = field(default_factory=lambda: MOST_UNPACKED_BYTES)
    rows: int = field(default_factory=lambda: MOST_ROWS)
    cells: int = field(default_factory=lambda: MOST_CELLS)

    def take_row(self, cells: int) -> None:
        self.rows -= 1
        self.cells -= cells
        if self.rows < 0 or self.cells < 0:
            raise UploadTooLarge(f"The upload has over {MOST_ROWS:,} rows or {MOST_CELLS:,} cells.")

    def take_unpacked(self, content: bytes) -> None:
        self.unpacked_bytes -= len(content)
        if self.unpacked_bytes < 0:
            raise UploadTooLarge(f"The upload unpacks to over {MOST_UNPACKED_BYTES:,} bytes.")


def parse_export(files: Iterable[tuple[str, bytes]], max_films: int = 20_000) -> Export:
    """The films of the uploaded `(name, bytes)`: ZIPs, CSVs or both.

    Watched films come first, latest viewing first, then liked ones, then those on the watchlist only.
    Raises UnusableUpload when no file holds films, and UploadTooLarge over `max_films` films or an Allowance.
    """
    tables, problems = _tables(files, Allowance())
    joined = Join(has_ratings=any(table.kind == "ratings" for table in tables))
    for table in sorted(tables, key=lambda table: KINDS.index(table.kind)):
        for line, film, entry in table.rows():
            joined.add(film, entry, table, line)
            if len(joined.films) > max_films:
                raise UploadTooLarge(f"The upload has more films than the {max_films:,} of MAX_FILMS.")
    rows: Counter[str] = Counter()
    for table in tables:
        rows[table.name] += table.used
        problems += table.warnings()
    if len(problems) > WARNINGS:
        problems[WARNINGS:] = [f"{len(problems) - WARNINGS:,} more warnings like these"]
    if not joined.films:
        empty = [f"{name}: it has no row that names a film" for name in rows]
        why = "; ".join(problems + empty) or "the upload is empty"
        raise UnusableUpload(f"Upload the ZIP that Letterboxd exports, or CSVs of it. No films here: {why}.")
    return Export(joined.in_order(), rows, problems, sum(table.text_bytes for table in tables))


def _tables(files: Iterable[tuple[str, bytes]], allowance: Allowance) -> tuple[list[Table], list[str]]:
    tables, problems = [], []
    for name, data in files:
        try:
            members = _members(name or "a file without a name", data, allowance)
        except Unreadable as reason:
            problems.append(f"{name}: {reason}")
            continue
        for path, content in members:
            try:
                tables.append(Table(path, content, allowance))
            except Unreadable as reason:
                problems.append(f"{path}: {reason}")
        if not members:
            problems.append(f"{name}: it has no CSV of the member's films in it")
    return tables, problems


def _members(name: str, data: bytes, allowance: Allowance) -> list[tuple[str, bytes]]:
    """The `(path, bytes)` that may hold films: the file itself, or those of a ZIP."""
    if not data.startswith(b"PK"):
        return [(name, data)]
    try:
        return list(_unzipped(data, allowance))
    except (Unreadable, UploadTooLarge):
        raise
    except Exception:  # on a damaged archive zipfile raises anything, IndexError included
        log.debug("[%s] damaged ZIP", trace.get(), exc_info=True)
        raise Unreadable("this ZIP is damaged; export it from Letterboxd again") from None


def _unzipped(data: bytes, allowance: Allowance) -> Iterator[tuple[str, bytes]]:
    """The members that may hold films. What a member says of its own size is not believed."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise Unreadable("this ZIP has no end, so it was not downloaded or sent whole")
    if data.count(b"PK\1\2") > MOST_MEMBERS:
        raise Unreadable(f"this ZIP has over {MOST_MEMBERS:,} members, which no export has")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        wanted = [(path, info) for info in archive.infolist() if (path := _path_in_export(info.filename))]
        _check_members([info for _, info in wanted])
        _check_places(archive)
        for path, info in wanted:
            content = _unpacked(archive, info, allowance.unpacked_bytes)
            allowance.take_unpacked(content)
            yield path, content


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    counts = Counter(info.filename for info in members)
    for info in members:
        name = info.filename[-100:]
        if info.flag_bits & 1:
            raise Unreadable(f"its member {name} is encrypted; pack it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(f"its member {name} is packed in an unusual way; pack it as a plain ZIP")
        if counts[info.filename] > 1:
            raise Unreadable(f"it has {counts[info.filename]} members that are called {name}; keep one")


def _check_places(archive: zipfile.ZipFile) -> None:
    members = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [info.header_offset for info in members[1:]] + [archive.start_dir]
    for info, end in zip(members, ends, strict=False):
        if info.header_offset + LOCAL_HEADER_BYTES + info.compress_size > end:
            raise Unreadable(f"its member {info.filename[-100:]} overlaps with what comes after it")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """A member's content, or a little over `most` bytes of it."""
    name, content = info.filename[-100:], bytearray()
    try:
        with archive.open(info) as member:
            while len(content) <= most and (chunk := member.read(65_536)):
                content += chunk
                if len(content) > MOST_TIMES_PACKED * max(info.compress_size, 20_000):
                    raise Unreadable(f"its member {name} unpacks to over {MOST_TIMES_PACKED} times its size")
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise Unreadable(f"its member {name} is damaged, or another than the ZIP says it is") from None
    return bytes(content)


def _path_in_export(path: str) -> str | None:
    """`path` without the wrapper folders of a re-zip; None for what holds none of the member's films."""
    parts = path.replace("\\", "/").split("/")
    for start, folder in enumerate(parts):
        inner = "/".join(parts[start:]).lower()
        if inner in FILM_FILES:
            return inner
        if inner in OTHER_FILES or (folder.lower() in OTHER_FOLDERS and start < len(parts) - 1):
            return None
    return None if parts[-1].startswith(".") else parts[-1][-100:] or None  # a folder ends with a slash


class Table:
    """One CSV: its kind and its rows. Raises Unreadable when it cannot hold films."""

    def __init__(self, name: str, data: bytes, allowance: Allowance) -> None:
        self.name = name
        self._allowance = allowance
        self.text_bytes = len(data)
        self.used = 0
        self._warnings: list[str] = []
        self._unlisted = 0
        header, *self._lines = self._read(self._decode(data))
        names = [COLUMNS.get("".join(filter(str.isalnum, cell.casefold()))) for cell in header[1]]
        self._width = len(names)
        self._columns = {name: names.index(name) for name in names if name}
        if not self._columns.keys() & {"title", "tmdbID", "tmdbURL", "imdbID"}:
            shown = ",".join(header[1])[:60]
            raise Unreadable(f"its first line '{shown}' has no column Name, so it lists no films")
        self.kind = _kind(name.lower(), set(self._columns))
        self.ours = "tmdbURL" in self._columns  # a download of this service
        self._day_first = self._decide_day_first()
        rating = partial(_rating, most=self._decide_most_stars())
        own: dict[str, Any] = {"date": self._date, "watched date": self._date, "rating": rating}
        self._parsers = {column: cache(parse) for column, parse in (PARSERS | own).items()}

    def _decode(self, data: bytes) -> str:
        if data.startswith(b"PK\3\4"):
            raise Unreadable("it is a ZIP within the ZIP; upload it by itself")
        if b"\0" in data and not data.strip(b"\0\r\n\t "):
            raise Unreadable("it holds nothing but NUL bytes")
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16", "replace")
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-8-sig")
        start = data[:1_000_000]
        guesses = {encoding: start.decode(encoding, "replace") for encoding in ("cp1252", "mac_roman")}
        best = max(guesses, key=lambda name: sum(map(guesses[name].lower().count, ACCENTED)))
        self._warnings.append(f"{self.name}: it is not UTF-8 and was read as {best}; check the accents")
        return data.decode(best, "replace")

    def _read(self, text: str) -> list[tuple[int, list[str]]]:
        """`(line, cells)` of every line that is not blank; the first is the header."""
        text = text.replace("\0", "")
        first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        lines: list[tuple[int, list[str]]] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
                self._allowance.take_row(len(cells))
                if any(map(str.strip, cells)):
                    self._check_width(len(cells), is_header=not lines)
                    lines.append((line, cells))
            except StopIteration:
                break
            except csv.Error as error:
                self.warn(line, f"{error}; it was skipped")
        if not lines:
            raise Unreadable("it is empty")
        return lines

    def _check_width(self, cells: int, is_header: bool) -> None:
        if cells > MOST_COLUMNS and is_header:
            raise Unreadable(f"its first line has {cells:,} columns, so it lists no films")
        if cells > MOST_COLUMNS:
            raise csv.Error(f"it has {cells:,} cells")

    def _column(self, name: str) -> Iterator[str]:
        i = self._columns.get(name, self._width)
        return (cells[i].strip() for _, cells in self._lines if i < len(cells))

    def _decide_day_first(self) -> bool | None:
        """Whether 03/04/2024 is the third of April: known once any date of the file has a part over 12."""
        for text in itertools.chain(self._column("date"), self._column("watched date")):
            if (parts := SLASH_DATE.fullmatch(text)) and max(int(parts[1]), int(parts[2])) > 12:
                return int(parts[1]) > 12
        return None

    def _decide_most_stars(self) -> int:
        """10 for an import file whose writer put 1 to 10 into Rating, else 5."""
        if self.kind != "import" or not any(re.match(r"[6-9]|10", text) for text in self._column("rating")):
            return 5
        self._warnings.append(f"{self.name}: it has ratings over 5, so all its ratings count as out of 10")
        return 10

    def rows(self) -> Iterator[tuple[int, Film, Viewing]]:
        for line, cells in self._lines:
            while len(cells) > self._width and not cells[-1].strip():
                cells.pop()
            if len(cells) > self._width:
                self.warn(line, f"it has {len(cells)} cells under a header of {self._width}; it was skipped")
                continue
            film, entry = self._row(line, cells)
            nameless = not (film.title or film.tmdb or film.imdb_id)
            if nameless or "\n" in film.title or len(film.title) > LONGEST_TITLE:
                self.warn(line, f"'{','.join(cells)[:40]}' does not name a film; it was skipped")
                continue
            self.used += 1
            yield line, film, entry

    def _row(self, line: int, cells: list[str]) -> tuple[Film, Viewing]:
        given: dict[str, Any] = {}
        for column, i in self._columns.items():
            text = cells[i].strip() if i < len(cells) else ""
            parse = self._parsers.get(column)
            if parse is None:
                given[column] = text
            elif text.casefold() not in NOT_GIVEN:
                try:
                    given[column] = parse(text)
                except ValueError as expected:
                    self.warn(line, f"{column} '{text[:40]}' is not {expected}")
        uri = given.get("uri", "")
        number, is_film = letterboxd_number(uri) or (None, not _is_long_entry(uri))
        film = Film(
            title=unicodedata.normalize("NFC", given.get("title", "")),
            year=given.get("year"),
            film_uri=uri if is_film else "",
            letterboxd_number=number if is_film else None,
            watched=given.get("watched", self.kind not in ("likes", "watchlist")),
            liked=given.get("liked", self.kind == "likes"),
            watchlist=given.get("watchlist", self.kind == "watchlist"),
            added_date=given.get("date"),
            tmdb=given.get("tmdbURL") or given.get("tmdbID"),
            imdb_id=given.get("imdbID", ""),
            given_as=given.get("match", "exact"),
        )
        entry = Viewing(
            watched_date=given.get("watched date"),
            rating=given.get("rating") or given.get("rating10"),
            rewatch=given.get("rewatch", False),
            tags=given.get("tags", ()),
            review=given.get("review", ""),
            entry_uri="" if is_film else uri,
        )
        return film, entry

    def _date(self, text: str) -> date:
        if parts := SLASH_DATE.fullmatch(text):
            first, second, year = map(int, parts.groups())
            if self._day_first is None and first != second:
                raise ValueError("clear: day/month or month/day? Write it like 2024-12-31")
            month, day = (second, first) if self._day_first else (first, second)
        elif parts := ISO_DATE.match(text):
            year, month, day = map(int, parts.groups())
        else:
            raise ValueError("a date like 2024-12-31")
        try:
            return date(year, month, day)
        except ValueError:
            raise ValueError("a day of the calendar") from None

    def warn(self, line: int, reason: str) -> None:
        if len(self._warnings) < WARNINGS_PER_FILE:
            self._warnings.append(f"{self.name}, line {line}: {reason}")
        else:
            self._unlisted += 1

    def warnings(self) -> list[str]:
        more = [f"{self.name}: {self._unlisted} more warnings like these"] if self._unlisted else []
        return self._warnings + more


def _kind(path: str, columns: set[str]) -> Kind:
    """By the header; `watched`, `watchlist` and `likes/films` share theirs, so there the name decides."""
    name = path.rpartition("/")[2]
    if "watchlist" in name:
        return "watchlist"
    if columns & {"tmdbID", "tmdbURL", "imdbID", "rating10"}:
        return "import"
    if "review" in columns:
        return "reviews"
    if columns & {"watched date", "rewatch"}:
        return "diary"
    if "rating" in columns:
        return "ratings"
    return "likes" if "like" in path or re.match(r"films\b", name) else "watched"


def _is_long_entry(uri: str) -> bool:
    return bool((long := LONG_URI.fullmatch(uri)) and long[1])


def _like(pattern: str, expected: str, convert: Callable[[str], T]) -> Callable[[str], T]:
    """A parser of cells that match `pattern`; `expected` ends the sentence about those that do not."""

    def parse(text: str) -> T:
        if not re.fullmatch(pattern, text):
            raise ValueError(expected)
        return convert(text)

    return parse


_year = _like(r"(18|19|20|21)[0-9]{2}(\.0)?", "between 1800 and 2199", lambda text: int(text[:4]))
_tmdb_id = _like(r"[1-9][0-9]{0,8}(\.0)?", "a number such as 27205", lambda text: ("movie", int(float(text))))
_tmdb_url = _like(TMDB_URL.pattern, "like https://www.themoviedb.org/movie/27205", tmdb_of)
_imdb_id = _like(IMDB_ID.pattern, "like tt1375666", str)


def _rating(text: str, most: int) -> float | None:
    """Stars, of a rating out of `most`; 0 is how other tools write "not rated"."""
    text, step = text.replace(",", "."), most / 10
    rating = float(text) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?", text) else -1
    if rating and not (step <= rating <= most and rating % step == 0):
        raise ValueError(f"between {step:g} and {most} in steps of {step:g}")
    return rating / most * 5 or None


def _yes(text: str) -> bool:
    return text.casefold() in {"yes", "true", "1", "y"}


def _tags(text: str) -> tuple[str, ...]:
    if text.count(",") >= MOST_TAGS:
        raise ValueError(f"a list of {MOST_TAGS} tags or fewer")
    return tuple(sys.intern(tag) for part in text.split(",") if (tag := part.strip()))


# Cells that are text as they stand have no parser; a table adds those that depend on its file.
PARSERS: dict[str, Callable[[str], Any]] = {
    "year": _year,
    "rating10": partial(_rating, most=10),
    "rewatch": _yes,
    **dict.fromkeys(("watched", "liked", "watchlist"), _like(r"(?i)yes|no|true|false", "yes or no", _yes)),
    "tags": _tags,
    "tmdbID": _tmdb_id,
    "tmdbURL": _tmdb_url,
    "imdbID": _imdb_id,
    "match": lambda text: text if text in ("guessed", "corrected") else "exact",
}


class Join:
    """Rows become films. What names a film is tried first (URI, TMDB's or IMDb's id), then name and year."""

    def __init__(self, has_ratings: bool) -> None:
        self.films: list[Film] = []
        self._by_identity: dict[Hashable, Film] = {}
        self._by_name: defaultdict[tuple[str, int | None], list[Film]] = defaultdict(list)
        self._by_entry: dict[str, Viewing] = {}
        self._by_day: defaultdict[tuple[int, date | None], list[Viewing]] = defaultdict(list)
        self._told: set[tuple[Table, int]] = set()  # which file told of which entry, by its id()
        self._rated: set[int] = set()  # films whose own rating was told, be it none, by their id()
        self._has_ratings = has_ratings

    def add(self, row: Film, entry: Viewing, table: Table, line: int) -> None:
        film = self._film(row, entry, table, line)
        film.watched |= row.watched
        film.liked |= row.liked
        film.watchlist |= row.watchlist
        imported = table.kind == "import"
        told = entry.watched_date or (imported and (entry.review or entry.tags))
        if told or table.kind in ("diary", "reviews"):
            self._add_entry(film, entry, table)
        elif film.rating is None:
            film.rating = entry.rating
        if imported and not told:
            self._rated.add(id(film))

    def _film(self, row: Film, entry: Viewing, table: Table, line: int) -> Film:
        identities = _identities(row, entry.entry_uri)
        # The ids in a download of ours tell what was found, which may be one movie for two films.
        schemes = {"number", "slug"} if table.ours and row.title else identities.keys()
        naming = [(scheme, name) for scheme, name in identities.items() if scheme in schemes]
        film = next((self._by_identity[key] for key in naming if key in self._by_identity), None)
        if film is None:
            namesakes = self._by_name[plain(row.title), row.year]
            some = namesakes[:MOST_NAMESAKES] if row.title else []
            alike = [film for film in some if _compatible(_identities(film), identities)]
            if len(alike) > 1:
                alike.sort(key=lambda film: film.rating != entry.rating)
                table.warn(line, f"{len(alike)} films are called '{row.title}' ({row.year}); one was taken")
            film = alike[0] if alike else row
            if not alike:
                self.films.append(film)
                namesakes.append(film)
        film.film_uri = film.film_uri or row.film_uri
        film.given_as = film.given_as if film.tmdb or film.imdb_id else row.given_as
        film.tmdb, film.imdb_id = film.tmdb or row.tmdb, film.imdb_id or row.imdb_id
        self._by_identity.update(dict.fromkeys(naming, film))
        return film

    def _add_entry(self, film: Film, told: Viewing, table: Table) -> None:
        entry = self._by_entry.get(told.entry_uri) or self._same_day(film, told, table)
        if entry is None:
            entry = told
            dated = told.watched_date or table.kind == "diary"
            (film.viewings if dated else film.undated_reviews).append(told)
            self._by_day[id(film), told.watched_date].append(told)
        if told.entry_uri:
            self._by_entry[told.entry_uri] = entry
        self._told.add((table, id(entry)))
        entry.rating = told.rating if entry.rating is None else entry.rating
        entry.rewatch |= told.rewatch
        entry.tags, entry.review = entry.tags or told.tags, entry.review or told.review

    def _same_day(self, film: Film, told: Viewing, table: Table) -> Viewing | None:
        """The viewing of that day that another file told of; within one file two rows are two viewings."""
        for entry in self._by_day[id(film), told.watched_date][:MOST_NAMESAKES]:
            if not (entry.entry_uri and told.entry_uri) and (table, id(entry)) not in self._told:
                return entry
        return None

    def in_order(self) -> list[Film]:
        """Watched (latest viewing first, then latest marked), liked, then what is on the watchlist only."""
        for film in self.films:
            film.viewings.sort(key=lambda viewing: viewing.watched_date or date.min, reverse=True)
            if film.rating is None and not self._has_ratings and id(film) not in self._rated:
                film.rating = next((e.rating for e in film.entries if e.rating is not None), None)
        ordered = sorted(self.films, key=_order)
        for place, film in enumerate(ordered, 1):
            film.movie_id = place
        return ordered


def _identities(film: Film, entry_uri: str = "") -> dict[str, Hashable]:
    """What names the film itself, by naming scheme; a long diary URI has the film's slug in it."""
    long = None if film.letterboxd_number else LONG_URI.fullmatch(film.film_uri or entry_uri)
    found: dict[str, Hashable] = {
        "number": film.letterboxd_number,
        "slug": long and long[2],
        "tmdb": film.tmdb,
        "imdb": film.imdb_id,
    }
    return {scheme: identity for scheme, identity in found.items() if identity}


def _compatible(own: dict[str, Hashable], other: dict[str, Hashable]) -> bool:
    return all(own.get(scheme, identity) == identity for scheme, identity in other.items())


def _order(film: Film) -> tuple[int, int, int]:
    group = 0 if film.watched else 1 if film.liked else 2
    viewed = film.viewings[0].watched_date if film.viewings else None
    return group, -(viewed or date.min).toordinal(), -(film.added_date or date.min).toordinal()


# === TMDB =====================================================================
# First the limiter, in which all waiting for TMDB happens; then the choice of the right film among
# TMDB's candidates, pure functions; then the client, whose methods each add one thing: `find` (which
# movie is this film), `search` and `movie` (the endpoints), `_get` (again?), `_fetch` (one request).

SLACK_SECONDS = 0.01  # a slot that was overslept by less is not lost
RATE_KEPT = 0.985  # of what is allowed, so that no jitter shows TMDB one request too many in a second


class RateLimiter:
    """Evenly spaced slots for the whole process; a refusal pauses everybody and slows what follows down.

    What TMDB let through in the second before a refusal is what it allows. The rate falls to just below
    that and grows again, by 1/s each second, but near the limit that was met by 1 % only.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.rate = self._full_rate = per_second * RATE_KEPT
        self._clock, self._sleep = clock, sleep
        self._lock = asyncio.Lock()  # held while sleeping: first come, first served, and cancelling is free
        self._next_at = self._grown_at = clock()
        self._paused_until = self._cut_at = -math.inf
        self._limit_met = math.inf
        self.pauses = 0  # in a row, since the last answer
        self._let_through_at: deque[float] = deque()

    async def slot(self) -> None:
        """Returns when one request may be sent."""
        async with self._lock:
            while (wait := max(self._next_at, self._paused_until) - self._clock()) > 0:
                await self._sleep(wait)
            now = self._clock()
            near = abs(self.rate / self._limit_met - 1) < 0.1
            step = self.rate / 100 if near else 1
            self.rate = min(self.rate + step * (now - self._grown_at), self._full_rate)
            self._grown_at = now
            self._next_at = max(self._next_at, now - SLACK_SECONDS) + 1 / self.rate

    def let_through(self) -> None:
        """TMDB did not say "too many", whatever else it said."""
        self._let_through_at.append(self._clock())
        self._forget()

    def answered(self) -> None:
        self.pauses = 0

    def slow_down(self) -> None:
        """To what was let through of late; once a second, whoever else was refused."""
        now = self._clock()
        if now - self._cut_at >= 1:
            self._forget()
            self._limit_met = max(len(self._let_through_at), self.rate / 2, 1)
            self.rate = min(self._limit_met, self.rate) * 0.95
            self._cut_at = now

    def pause(self, retry_after_seconds: float | None = None) -> None:
        """Nobody asks for a while, each time longer until TMDB answers again."""
        now = self._clock()
        if now >= self._paused_until:  # else the request was under way before the pause
            self.pauses += 1
            self._paused_until = now + min(0.25 * 2 ** min(self.pauses, 10), 30)
        if retry_after_seconds is not None:
            wait = min(max(retry_after_seconds, 0.5), 60)
            self._paused_until = max(self._paused_until, now + wait)

    def _forget(self) -> None:
        while self._let_through_at and self._let_through_at[0] < self._clock() - 1:
            self._let_through_at.popleft()


# --- Choosing the right film
#
# A candidate's score is the sum of the decimal logarithms of how much likelier each observation is with
# the right film than with a wrong one, from 19,270 films whose TMDB id is known: a year later in 4.8 %,
# earlier in 0.14 %; a title that differs in 0.9 %; a series in 1.4 %; votes, because films that people
# log are films that people rate.
#
# Letterboxd copied TMDB's films in the order of their ids, in runs that go down at first and up later, so
# its own number of a film predicts TMDB's id. KNOTS are the corners of that line, drawn through 6,623
# known pairs; of pairs that were held out, 95 % were within 0.4 % of it, 99 % within 0.6 %, and the rest,
# added to TMDB late, anywhere. The number says nothing about series. So it is evidence, no proof.

KNOTS: list[tuple[int, ...]] = [
    tuple(map(int, pair.split(":")))
    for pair in """
    83:64782 654:64276 666:66180 1856:64968 1931:64204 2657:63460 2683:38 2714:2 2793:66812 3161:66436
    3433:63400 24587:40374 28229:36056 30564:32196 36076:25430 37155:23928 38285:21622 39779:19204
    40977:17494 41548:16442 44186:13056 44336:12720 45042:11712 47324:9268 47340:9208 47345:9100 47589:8832
    47702:8470 47836:8270 47878:8092 47948:7972 47956:7874 47974:7840 47986:7552 47992:7520 48101:7214
    48139:6978 48185:6878 48216:6644 48372:6282 48485:6038 48788:5590 48857:5424 48865:5336 48902:5206
    49002:5000 49098:4886 49241:4566 49496:4148 49540:3980 49578:3902 49593:3784 49636:3600 49730:3472
    49810:3176 49986:2972 50121:2748 50196:2604 50237:2460 50995:1538 51020:1452 51096:1360 51105:1280
    51134:1246 51140:1164 51173:996 51209:944 51410:742 51412:714 51701:388 51712:350 51989:58 52304:68942
    53944:67236 54429:69472 54570:69544 55838:28304 55868:28272 55929:21882 55964:21828 56144:73358
    59627:69784 59711:73624 60279:73896 60297:950 60300:946 60501:75508 61409:74074 61602:75388 62008:74306
    62065:75656 73552:86608 73649:87516 74355:87818 81909:100402 98059:125490 98311:124994 98972:126774
    130911:180290 131363:179826 136534:189512 176035:252178 194978:271736 223226:295830 251160:324308
    283871:353930 294114:362428 301040:363676 301757:365942 302145:363228 302754:366742 318265:383616
    670478:750554 676545:755898 677660:748230 679030:758724 1025373:1138476 1085920:1201262 1086233:1195310
    1207541:1327766 1234878:1340206 1310863:1432596 1393775:1517772
    """.split()
]
YEAR_SCORES = {0: 0.0, 1: -1.3, -1: -2.5, 2: -2.8, -2: -2.8, 3: -3.2, -3: -3.2}
TOO_WEAK = -3.3  # without its votes, a candidate below this is no match
UNLIKE = -5.0  # the score of a title that is another one altogether
SURE_ENOUGH = 0.6  # nothing that further searches may find would win against this


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate with what speaks for and against it, see above."""

    candidate: Candidate
    title: float
    year: float
    number: float
    votes: float

    @property
    def evidence(self) -> float:
        return self.title + self.year + self.number + (-1.8 if self.candidate.tmdb_type == "tv" else 0)

    @property
    def score(self) -> float:
        return self.evidence + self.votes

    @property
    def hits(self) -> bool:
        """Title and year are the film's."""
        return self.title > -1 and self.year == 0


def expected_tmdb_id(letterboxd_number: int) -> float:
    """TMDB's id of the film with that number, on the line through KNOTS, which goes on straight."""
    right = min(max(bisect_left(KNOTS, (letterboxd_number, 0)), 1), len(KNOTS) - 1)
    (x0, y0), (x1, y1) = KNOTS[right - 1], KNOTS[right]
    return y0 + (y1 - y0) * (letterboxd_number - x0) / (x1 - x0)


def weigh(film: Film, candidate: Candidate) -> Weighed:
    return Weighed(
        candidate,
        title=_weigh_title(film.title, candidate),
        year=_weigh_year(film.year, candidate.year),
        number=_weigh_number(film.letterboxd_number, candidate),
        votes=0.6 * math.log10(1 + min(candidate.votes, 10_000)),
    )


def _weigh_title(title: str, candidate: Candidate) -> float:
    if plain(title) == plain(candidate.title):
        return 0
    wanted, names = fold(title), (candidate.title, candidate.original_title)
    if wanted in map(fold, names):
        return -0.8
    if any(fold(name) in _parts(title) or wanted in _parts(name) for name in names):
        return -2.5
    matchers = [difflib.SequenceMatcher(None, wanted, fold(name)) for name in names]
    alike = max(matcher.ratio() if matcher.quick_ratio() >= 0.6 else 0 for matcher in matchers)
    return -2.5 if alike >= 0.8 else -3.6 if alike >= 0.6 else UNLIKE


def _parts(title: str) -> set[str]:
    """A title and a subtitle: 'Wallace & Gromit: A Close Shave' is known as either."""
    return {fold(part) for part in re.split(r"[:–—|]| - ", title) if len(part) > 3}


def _weigh_year(year: int | None, candidate_year: int | None) -> float:
    if year is None:
        return 0
    return -4.5 if candidate_year is None else YEAR_SCORES.get(candidate_year - year, -5)


def _weigh_number(number: int | None, candidate: Candidate) -> float:
    if number is None or candidate.tmdb_type == "tv":
        return 0
    expected = expected_tmdb_id(number)
    off = (abs(candidate.tmdb_id - expected) - 20) / max(expected, 20)
    return 2 if off <= 0.005 else 1.2 if off <= 0.02 else 0 if off <= 0.05 else -2


def best_first(weighed: Weighed) -> tuple[float, float, int]:
    """Among equals the more popular one, then the one that is in TMDB for longer."""
    return -weighed.score, -weighed.candidate.popularity, weighed.candidate.tmdb_id


def judge(film: Film, ranked: list[Weighed]) -> tuple[Candidate | None, MatchStatus, str]:
    """The candidate to take, if any, how sure that is, and why."""
    if not ranked:
        return None, "not_found", "TMDB's search finds nothing of that title."
    best, rivals = ranked[0], [other for other in ranked[1:] if other.hits]
    found = best.candidate
    shown = f"'{found.title}' ({found.year or 'no year'})"
    if best.evidence < TOO_WEAK:
        return None, "not_found", f"TMDB has nothing of that title and year; the nearest is {shown}."
    doubts = list(_doubts(film, best, rivals))
    if not doubts and best.number > 0:
        return found, "exact", "Title, year and Letterboxd's own number agree."
    if not doubts:
        return found, "exact", "It is the only one of that title and year."
    return found, "guessed", f"{shown} is the best candidate, but {', and '.join(doubts)}."


def _doubts(film: Film, best: Weighed, rivals: list[Weighed]) -> Iterator[str]:
    found, numbered = best.candidate, best.number > 0
    if best.title <= -1:
        yield "its title differs"
    if film.year is None:
        yield "the upload gives no year"
    elif found.year is None:
        yield "TMDB gives it no year"
    elif found.year != film.year and not (numbered and abs(found.year - film.year) == 1):
        yield f"its year is not {film.year}"
    if best.number < 0 or (best.number == 0 and film.letterboxd_number and found.tmdb_type == "movie"):
        yield "Letterboxd's own number points to another film"
    if rivals and not (numbered and best.year == 0):
        yield f"{len(rivals)} more of that title and year" + (" exist" if len(rivals) > 1 else " exists")


def searches(film: Film) -> Iterator[tuple[MediaType, str, int | None, bool]]:
    """`(type, query, year, reworded)` in the order in which they are worth a call.

    The year is later in TMDB in 4.8 % of films and earlier in 0.14 %. Reworded queries, for what all
    the others miss, are the words that carry the title, then its longest words one by one.
    """
    title, year = film.title, film.year
    if year is None:
        yield from (("movie", title, None, False), ("tv", title, None, False))
        return
    yield from (("movie", title, year + later, False) for later in (0, 1, -1))
    yield from (("tv", title, year, False), ("movie", title, None, False))
    words = re.findall(r"\w+", title)
    telling = [word for word in words if len(word) > 1 and word.casefold() not in SMALL_WORDS]
    if telling != words:
        yield "movie", " ".join(telling), year, True
    if len(telling) > 1:
        yield from (("movie", word, year, True) for word in sorted(telling, key=len, reverse=True)[:2])


SMALL_WORDS = set("a an and at by de der die el en for from in la le les of on or the to und with".split())


# --- TMDB's JSON, as far as it is used


class Named(BaseModel):
    id: int | None = None
    name: str | None = None
    english_name: str | None = None
    order: int | None = None
    job: str | None = None
    jobs: list[Named] = []  # in a series' credits `job` is in here


class Body(BaseModel):
    """What is missing in TMDB's answer or of a wrong type is a gap, never an error; but for the id."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _leave_a_gap(cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError:
            default = cls.model_fields[str(info.field_name)]
            if default.is_required():
                raise
            return default.get_default()


# Numbers beyond these are gaps, titles are cut.
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Title = Annotated[str, AfterValidator(lambda title: title[:LONGEST_TITLE])]


class StateBody(BaseModel):
    success: Literal[True]


class ResultBody(Body):
    id: Annotated[int, Field(ge=1, le=999_999_999)]
    title: Title = Field("", validation_alias=AliasChoices("title", "name"))
    original_title: Title = Field("", validation_alias=AliasChoices("original_title", "original_name"))
    release_date: str = Field("", validation_alias=AliasChoices("release_date", "first_air_date"))
    vote_count: Count = 0
    popularity: float = Field(0, allow_inf_nan=False)
    poster_path: str = ""


Results = list[OnErrorOmit[ResultBody]]  # without those that have no id


class SearchBody(BaseModel):
    results: Results


class CollectionBody(Body):
    name: str = ""
    parts: Results = []


class FindBody(Body):
    movie_results: Results = []
    tv_results: Results = []


class MovieBody(ResultBody):
    """`movie/{id}` or `tv/{id}`, with what is appended to it."""

    imdb_id: str = ""
    external_ids: dict[str, Any] = {}
    runtime: Annotated[int, Field(ge=0, le=100_000)] = 0
    episode_run_time: list[Annotated[int, Field(ge=0, le=10_000)]] = []
    number_of_episodes: Annotated[int, Field(ge=0, le=100_000)] = 0
    genres: list[Named] = []
    created_by: list[Named] = []
    production_countries: list[Named] = []
    production_companies: list[Named] = []
    spoken_languages: list[Named] = []
    keywords: dict[str, list[Named]] = {}
    credits: dict[str, list[Named]] = Field({}, validation_alias=AliasChoices("aggregate_credits", "credits"))
    vote_average: Annotated[float, Field(ge=0, le=10)] = 0
    belongs_to_collection: Named | None = None


CAST_SHOWN = 15
JOBS = {
    "writers": {"Writer", "Screenplay", "Story", "Novel", "Author", "Teleplay", "Original Story", "Book"},
    "composers": {"Original Music Composer", "Music"},
    "cinematographers": {"Director of Photography", "Cinematography"},
    "editors": {"Editor"},
    "producers": {"Producer"},
}
POSTERS = "https://image.tmdb.org/t/p/w500"
POSTER_PATH = re.compile(r"/[\w-]+\.(jpg|png|svg|webp)")


def _year_of(day: str) -> int | None:
    return int(day[:4]) if re.match(r"[0-9]{4}-", day) else None


def _poster_url(path: str) -> str | None:
    return POSTERS + path if POSTER_PATH.fullmatch(path) else None


def _names(given: Iterable[Named]) -> tuple[str, ...]:
    """Each name once, in order; interned, since most stand in many movies."""
    names = (each.english_name or each.name for each in given)
    return tuple(dict.fromkeys(sys.intern(name) for name in names if name))


def candidate_of(tmdb_type: MediaType, body: ResultBody) -> Candidate:
    return Candidate(
        tmdb_id=body.id,
        tmdb_type=tmdb_type,
        title=body.title,
        original_title=body.original_title,
        year=_year_of(body.release_date),
        votes=body.vote_count,
        popularity=body.popularity,
        poster_url=_poster_url(body.poster_path),
    )


def movie_of(tmdb_type: MediaType, body: MovieBody, label: Callable[[str, Named], Label]) -> Movie:
    """A series' directors are its creators, and its runtime is that of all episodes."""

    def labels(given: Iterable[Named], kind: str = "person") -> tuple[Label, ...]:
        """Each once, in order."""
        return tuple({each.identity: each for each in map(partial(label, kind), given) if each}.values())

    def working_as(jobs: set[str]) -> tuple[Label, ...]:
        return labels(p for p in crew if p.job in jobs or any(credit.job in jobs for credit in p.jobs))

    episodes = body.episode_run_time
    series_runtime = round(sum(episodes) / len(episodes) * body.number_of_episodes) if episodes else 0
    runtime = body.runtime if tmdb_type == "movie" else series_runtime
    actors, crew = body.credits.get("cast", []), body.credits.get("crew", [])
    imdb_id = body.imdb_id or str(body.external_ids.get("imdb_id") or "")
    return Movie(
        tmdb_id=body.id,
        tmdb_type=tmdb_type,
        imdb_id=imdb_id if IMDB_ID.fullmatch(imdb_id) else None,
        title=body.title,
        original_title=body.original_title,
        release_date=body.release_date if _year_of(body.release_date) else None,
        runtime=runtime if runtime > 0 else None,
        genres=_names(body.genres),
        directors=labels(body.created_by) or working_as({"Director"}),
        cast=labels(sorted(actors, key=lambda person: person.order or 0))[:CAST_SHOWN],
        **{role: working_as(jobs) for role, jobs in JOBS.items()},
        studios=labels(body.production_companies, "company"),
        countries=_names(body.production_countries),
        languages=_names(body.spoken_languages),
        keywords=_names(itertools.chain(*body.keywords.values())),
        poster_url=_poster_url(body.poster_path),
        tmdb_rating=body.vote_average if body.vote_count else None,
        tmdb_votes=body.vote_count,
        collections=labels([body.belongs_to_collection] if body.belongs_to_collection else [], "collection"),
    )


# --- The client

ATTEMPTS = 12  # at one request, over half a minute; with 3 in 10 failing, one in 2 million needs more
OUTAGE = 5  # faults or pauses in a row, whoever asked, that may mean TMDB itself is out of order
PAUSES = 15  # in a row, 5 minutes or more, after which nobody waits any longer
CHECK_SECONDS = 1  # that /health waits to hear whether the key is accepted
BODY_BYTES = 4_000_000  # the largest one seen has 281 KB
APPENDED = {"movie": "credits,keywords", "tv": "aggregate_credits,keywords,external_ids"}
REMEMBERED = 2_000  # matches and movies that outlive the sessions that asked for them
DECISIONS = 2_000  # of members about films, the latest ones
CONSIDERED = 10  # candidates that a match keeps

NO_KEY = "No TMDB_API_KEY is set, so no film was looked up."

Model = TypeVar("Model", bound=BaseModel)
Known = TypeVar("Known", Match, Movie, Collection)


class _Fault(Exception):
    """One attempt failed; the next may not. `retry_after` in seconds, of a 429 only."""

    def __init__(self, reason: str, refused: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.refused, self.retry_after = refused, retry_after


def _name(film: Film) -> Hashable:
    """What a film is known by, whichever files told of it."""
    return film.title, film.year, film.letterboxd_number or film.film_uri or (film.tmdb, film.imdb_id)


def _key(film: Film) -> Hashable:
    """What a film is looked up by."""
    return _name(film), film.tmdb, film.imdb_id, film.given_as


class TMDBClient:
    """Asks TMDB, at its pace, once for what several sessions want. Use it as an async context manager.

    Its memory holds what any session still holds, so the same export again costs no call, and beyond
    that the last REMEMBERED answers; what is asked for at this moment is asked for once. What a member
    decided about a film by hand goes before what TMDB's search would say.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.key_state: Literal["missing", "unchecked", "accepted", "rejected"] = "missing"
        self.workers = settings.tmdb_connections
        self._settings = settings
        self._sleep = sleep
        self._limiter = RateLimiter(settings.tmdb_requests_per_second, clock, sleep)
        self._places = asyncio.Semaphore(settings.tmdb_connections)
        self._faults_in_a_row = 0
        self._known: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._last_known: deque[Match | Movie | Collection] = deque(maxlen=REMEMBERED)
        self._in_flight: dict[Hashable, asyncio.Task[Any]] = {}
        self._decided: dict[Hashable, Match] = {}
        self._labels: defaultdict[str, weakref.WeakValueDictionary[int | str, Label]] = defaultdict(
            weakref.WeakValueDictionary
        )
        self._headers, self._params = {"Accept-Encoding": "gzip"}, {}
        if key := settings.tmdb_api_key.get_secret_value():
            self.key_state = "unchecked"
            if key.startswith("eyJ"):
                self._headers["Authorization"] = f"Bearer {key}"
            else:
                self._params["api_key"] = key

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.tmdb_connections),
            timeout=aiohttp.ClientTimeout(total=self._settings.tmdb_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    async def find(self, film: Film) -> Match:
        """Which movie the film is. Raises TMDBKeyRejected, and TMDBError when TMDB cannot tell."""
        return self._decided.get(_name(film)) or await self._once(_key(film), partial(self._find, film))

    def remember(self, film: Film, match: Match) -> None:
        """What a member decided: from now on the film is that, in every upload that has it."""
        self._decided.pop(_name(film), None)
        self._decided[_name(film)] = match
        if len(self._decided) > DECISIONS:
            del self._decided[next(iter(self._decided))]

    def forget(self, film: Film) -> None:
        """The next `find` asks TMDB again."""
        self._known.pop(_key(film), None)

    async def _find(self, film: Film) -> Match:
        if film.tmdb:
            with contextlib.suppress(TMDBNotFound):
                return Match(film.given_as, "The upload gives TMDB's id.", await self.movie(*film.tmdb))
        if film.imdb_id and (found := await self._with_imdb_id(film.imdb_id)):
            movie = await self.movie(found.tmdb_type, found.tmdb_id)
            return Match(film.given_as, "The upload gives IMDb's id.", movie)
        if not film.title:
            return Match("not_found", "TMDB does not know the id that the upload gives.")
        ranked = await self._candidates(film)
        candidate, status, reason = judge(film, ranked)
        chosen = await self.movie(candidate.tmdb_type, candidate.tmdb_id) if candidate else None
        considered = (replace(w.candidate, score=round(w.score, 2)) for w in ranked[:CONSIDERED])
        return Match(status, reason, chosen, tuple(considered))

    async def _candidates(self, film: Film) -> list[Weighed]:
        """Ranked; searches go on until one is sure enough."""
        seen: dict[TMDBId, Weighed] = {}
        ranked: list[Weighed] = []
        for tmdb_type, query, year, reworded in searches(film):
            if reworded and ranked and ranked[0].evidence >= TOO_WEAK:
                break
            for candidate in await self.search(tmdb_type, query, year):
                weighed = weigh(film, candidate)
                if weighed.title > UNLIKE or not reworded:
                    seen[candidate.tmdb_type, candidate.tmdb_id] = weighed
            ranked = sorted(seen.values(), key=best_first)
            if ranked and ranked[0].score >= SURE_ENOUGH:
                break
        return ranked

    async def search(self, tmdb_type: MediaType, query: str, year: int | None) -> list[Candidate]:
        """The first page, 20 candidates at most; TMDB searches translated and alternative titles too."""
        year_name = "primary_release_year" if tmdb_type == "movie" else "first_air_date_year"
        params = {"query": query, "include_adult": "false"} | ({year_name: str(year)} if year else {})
        body = await self._get(f"search/{tmdb_type}", SearchBody, params)
        return [candidate_of(tmdb_type, result) for result in body.results[:20]]

    async def movie(self, tmdb_type: MediaType, tmdb_id: int) -> Movie:
        return await self._once((tmdb_type, tmdb_id), partial(self._movie, tmdb_type, tmdb_id))

    async def _movie(self, tmdb_type: MediaType, tmdb_id: int) -> Movie:
        params = {"append_to_response": APPENDED[tmdb_type]}
        return movie_of(tmdb_type, await self._get(f"{tmdb_type}/{tmdb_id}", MovieBody, params), self._label)

    def _label(self, kind: str, named: Named) -> Label:
        """One for all movies in which it stands, as most do in many."""
        identity = named.id or named.name or ""
        label = self._labels[kind].get(identity)
        if label is None:
            label = self._labels[kind][identity] = Label(named.name or "")
            label.identity = identity
        return label

    async def collection(self, tmdb_id: int) -> Collection:
        return await self._once(("collection", tmdb_id), partial(self._collection, tmdb_id))

    async def _collection(self, tmdb_id: int) -> Collection:
        body = await self._get(f"collection/{tmdb_id}", CollectionBody, {})
        today = datetime.now(UTC).date().isoformat()
        return Collection(body.name, tuple(part.id for part in body.parts if "" < part.release_date <= today))

    async def _with_imdb_id(self, imdb_id: str) -> Candidate | None:
        body = await self._get(f"find/{imdb_id}", FindBody, {"external_source": "imdb_id"})
        found = [candidate_of("movie", result) for result in body.movie_results]
        return next(iter(found + [candidate_of("tv", result) for result in body.tv_results]), None)

    async def check_key(self) -> None:
        """Settles `key_state`, where TMDB answers soon."""
        with contextlib.suppress(TMDBError, _Fault, TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await self._shared("the key", partial(self._fetch, "authentication", {}))

    async def _once(self, key: Hashable, ask: Callable[[], Awaitable[Known]]) -> Known:
        """From memory, or asked for."""
        if (known := self._known.get(key)) is not None:
            return cast(Known, known)
        return await self._shared(key, partial(self._keep, key, ask))

    async def _keep(self, key: Hashable, ask: Callable[[], Awaitable[Known]]) -> Known:
        self._known[key] = known = await ask()
        self._last_known.append(known)
        return known

    async def _shared(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Asked for by a task that everyone who wants it awaits, and nobody's leaving ends."""
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = asyncio.create_task(ask())
            task.add_done_callback(partial(self._landed, key))
        return cast(T, await asyncio.shield(task))

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            task.exception()  # all who wanted it may have left

    async def _get(self, path: str, model: type[Model], params: dict[str, str]) -> Model:
        """One answer, asked for again while TMDB is busy or ill. Raises TMDBError."""
        for tries in range(ATTEMPTS):
            try:
                body = _parsed(model, await self._fetch(path, params))
            except _Fault as error:
                fault = error
            else:
                self._answered()
                return body
            log.debug("[%s] TMDB: %s (%s), asking again", trace.get(), fault, path.partition("/")[0])
            await self._recover(fault)
            if not fault.refused and tries + 1 < ATTEMPTS:
                await self._sleep(min(2 ** (tries - 1), 4) * random.uniform(0.5, 1.5))
        raise TMDBUnavailable(f"TMDB gave no answer in {ATTEMPTS} tries; at the last one {fault}.")

    def _answered(self) -> None:
        self._faults_in_a_row = 0
        self._limiter.answered()

    async def _recover(self, fault: _Fault) -> None:
        """Slower after a refusal; and when TMDB answers nobody, not before it does again."""
        if fault.refused:
            self._limiter.slow_down()
            self._limiter.pause(fault.retry_after)
        else:
            self._faults_in_a_row += 1
        if max(self._faults_in_a_row, self._limiter.pauses) >= OUTAGE:
            await self._shared("how it is", partial(self._wait_for_tmdb, fault))

    async def _wait_for_tmdb(self, fault: _Fault) -> None:
        """Asks TMDB how it is until it answers. Raises TMDBSilent."""
        told = False
        while self._limiter.pauses < PAUSES:
            try:
                with contextlib.suppress(TMDBUnavailable, TMDBNotFound):  # which is an answer
                    _parsed(StateBody, await self._fetch("authentication", {}))
            except _Fault as error:
                fault = error
                if not told:
                    log.warning("TMDB is out of order: %s; everybody waits for it", fault)
                    self._limiter.slow_down()
                told = True
                self._limiter.pause(fault.retry_after)
            else:
                self._answered()
                return
        self._answered()  # so whoever asks next may wait as long
        raise TMDBSilent(
            f"TMDB has answered nothing for minutes; at last {fault}. What was found is kept: look up the "
            "rest with a retry when TMDB is back."
        )

    async def _fetch(self, path: str, params: dict[str, str]) -> bytes:
        """The body of one 200. No text of aiohttp's errors is kept: it may hold the URL with the key."""
        if self.key_state == "missing":
            raise TMDBKeyRejected("No TMDB_API_KEY is set, so TMDB cannot be asked.")
        url = f"{self._settings.tmdb_base_url}/{path}"
        async with self._places:
            await self._limiter.slot()
            try:
                async with self._http.get(
                    url, params=params | self._params, allow_redirects=False
                ) as response:
                    body = await self._body(response)
            except TimeoutError:
                raise _Fault(f"it took over {self._settings.tmdb_timeout_seconds:g} s") from None
            except (aiohttp.ClientError, OSError) as error:
                raise _Fault(f"the connection failed ({type(error).__name__})") from None
        self._check(response)
        return body

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > BODY_BYTES:
                raise _Fault("its answer was far too long")
        return bytes(body)

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises for every status but 200."""
        status = response.status
        if status == 401:
            self.key_state = "rejected"
            raise TMDBKeyRejected("TMDB rejects the key; check TMDB_API_KEY, restart and upload again.")
        if status == 429:
            raise _Fault("it refused, status 429", True, _seconds(response.headers.get("Retry-After")))
        self._limiter.let_through()
        if status == 200:
            self.key_state = "accepted"
            return
        if not 400 <= status < 500:
            raise _Fault(f"it answered with status {status}")
        self._answered()
        if status == 404:
            raise TMDBNotFound("TMDB has no record of that id and type; copy both from its address there.")
        raise TMDBUnavailable(f"TMDB refused the request with status {status}.")


def _parsed(model: type[Model], body: bytes) -> Model:
    """Half of a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark."""
    try:
        if SURROGATE.search(body):
            body = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        return model.model_validate_json(body)
    except (ValueError, RecursionError):
        raise _Fault("its answer was not the JSON expected") from None


SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; a date or junk counts as absent, and the limiter has its own idea then."""
    return float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,6}", retry_after) else None


# === Statistics ===============================================================
# Films -> numbers, pure functions.

WHAT_COUNTS = """All of it from what is known by now, of all time or of one `year` of the diary.

- A film counts when it was watched; with a `year`, when it has a viewing in it. Its year of release is the
  export's, or else TMDB's.
- A viewing is a row of the diary. A rewatch is one too: one that says so, or that is not the film's first.
  The date in watched.csv is no viewing. Viewings without a date count, but in no year. Those of one day are
  in the order of the films.
- Ratings are the film's own, as they are now, not those of its viewings.
- Hours are a film's runtime as often as it was viewed, and once without a diary. Films whose runtime is not
  known are left out of them and counted. Series are in all numbers, and counted apart.
- People, studios and collections are told apart by TMDB's id; each counts once a film, whatever the jobs.
- Ties are broken by mean rating, or where that is the order by the number of films, then by name."""

LEAST_RATED = 3  # films that a mean rating takes to be ranked
LEAST_VOTES = 50  # at TMDB, for a crowd to compare with
GEM_VOTES = 1_000  # fewer is hidden
RUNTIMES = (0, 60, 90, 120, 150, 180)  # the lower ends of the columns, in minutes
AGES = (0, 1, 5, 10, 20, 30, 50)  # and in years
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(slots=True)
class Bar:
    """One of a chart: how many films, or viewings where it says so, their mean rating, and the films."""

    name: str
    count: int
    mean_rating: float | None
    movie_ids: list[int]
    tmdb_id: int | None = None


@dataclass(slots=True)
class Ranking:
    """The first of `total`, by films; and by the mean of the rated films, where these are three or more."""

    most_watched: list[Bar]
    highest_rated: list[Bar]
    total: int


@dataclass(slots=True)
class Listed:
    """A film of a list, with the number that put it there."""

    movie_id: int
    title: str
    year: int | None
    poster_url: str | None
    rating: float | None
    value: float | None


@dataclass(slots=True)
class Totals:
    """`viewings` have a row in the diary, `undated` ones of them no date; a rewatch is a viewing too.

    `hours` are those of all viewings, and once of films that are not in the diary; `without_runtime` films
    are left out of them. `series` are in all numbers. A streak is one of days or weeks (from Monday) with a
    viewing; averages are over the time from the first to the last one. `milestones` are every 50th viewing.
    `reviewed` films have a review, with a year one of a viewing in it.
    """

    films: int
    series: int
    viewings: int
    undated: int
    rewatches: int
    hours: float
    days: float
    without_runtime: int
    rated: int
    liked: int
    reviewed: int
    watchlist: int
    directors: int
    countries: int
    languages: int
    mean_rating: float | None
    median_rating: float | None
    longest_streak_days: int
    longest_streak_weeks: int
    days_with_two_or_more: int
    viewings_per_week: float | None
    viewings_per_month: float | None
    first: Listed | None
    last: Listed | None
    milestones: list[Listed]


@dataclass(slots=True)
class ThroughTime:
    """Viewings by year, month, week (its Monday), weekday and day; films by release year and decade.

    `best_decades` are the three of the highest mean rating, with three rated films or more. `ages` are those
    of the films in years, by viewing; viewings that are dated before the film's year are left out.
    """

    years: list[Bar]
    months: list[Bar]
    weeks: list[Bar]
    weekdays: list[Bar]
    days: list[Bar]
    release_years: list[Bar]
    decades: list[Bar]
    best_decades: list[Bar]
    ages: list[Bar]
    mean_age: float | None


@dataclass(slots=True)
class Ratings:
    """`above_crowd` and `below_crowd`: the rating less half of TMDB's, for films with 50 votes or more.

    `obscure` and `popular` by votes; `gems` are rated 4 or higher and have 50 to 999 votes.
    """

    histogram: list[Bar]
    above_crowd: list[Listed]
    below_crowd: list[Listed]
    obscure: list[Listed]
    popular: list[Listed]
    gems: list[Listed]


@dataclass(slots=True)
class CollectionSeen:
    """A collection of which two films or more were watched, and how many of it are released."""

    name: str
    tmdb_id: int
    watched: int
    released: int
    movie_ids: list[int]


@dataclass(slots=True)
class What:
    """`themes` are TMDB's keywords; `completeness` is that of collections, the fullest first."""

    genres: Ranking
    genre_pairs: Ranking
    countries: Ranking
    languages: Ranking
    themes: Ranking
    studios: Ranking
    collections: Ranking
    completeness: list[CollectionSeen]


@dataclass(slots=True)
class Who:
    directors: Ranking
    cast: Ranking
    writers: Ranking
    composers: Ranking
    cinematographers: Ranking
    editors: Ranking
    producers: Ranking


@dataclass(slots=True)
class FilmLists:
    """`most_rewatched` by viewings, two or more. `new` and `old`: the highest rated of the year's releases
    and of older ones; empty without a year.
    """

    most_rewatched: list[Listed]
    longest: list[Listed]
    shortest: list[Listed]
    new: list[Listed]
    old: list[Listed]
    runtimes: list[Bar]


@dataclass(slots=True)
class Watchlist:
    """What is on the watchlist and not watched; whatever the year.

    `directors` are those with three rated films or more, by their mean rating, and with films on the list.
    """

    films: int
    hours: float
    without_runtime: int
    watched_from_it: int
    genres: list[Bar]
    decades: list[Bar]
    directors: list[Bar]


@dataclass(slots=True)
class Statistics:
    """All that rests on TMDB rests on the `matched` of the `films`; `pending` ones are still looked up."""

    year: int | None
    years: list[int]
    films: int
    matched: int
    pending: int
    totals: Totals
    through_time: ThroughTime
    ratings: Ratings
    what: What
    who: Who
    lists: FilmLists
    watchlist: Watchlist


@dataclass(slots=True)
class Counted:
    """A film as it is at this moment, for it may be looked up meanwhile."""

    film: Film
    match: Match
    movie: Movie | None
    movie_id: int
    name: str
    year: int | None
    rating: float | None

    @classmethod
    def of(cls, film: Film) -> Counted:
        match = film.match
        movie = match.movie
        year = film.year or (_year_of(movie.release_date or "") if movie else None)
        return cls(film, match, movie, film.movie_id, film.name, year, film.rating)

    @property
    def runtime(self) -> int | None:
        return self.movie.runtime if self.movie else None


@dataclass(slots=True)
class Seen:
    """One viewing of one film; `day` is None where the diary has none."""

    day: date | None
    film: Counted
    rewatch: bool
    reviewed: bool


def statistics(
    films: list[Film], collections: Mapping[int, Collection], year: int | None = None, limit: int = 10
) -> Statistics:
    """See WHAT_COUNTS; lists have `limit` entries at most."""
    every = [Counted.of(film) for film in films]
    viewings = [seen for counted in every for seen in _viewings(counted)]
    years = sorted({seen.day.year for seen in viewings if seen.day}, reverse=True)
    watched = [counted for counted in every if counted.film.watched]
    if year is not None:
        viewings = [seen for seen in viewings if seen.day and seen.day.year == year]
        watched = list({seen.film.movie_id: seen.film for seen in viewings}.values())
    viewings.sort(key=lambda seen: (seen.day or date.min, seen.film.movie_id))
    return Statistics(
        year=year,
        years=years,
        films=len(watched),
        matched=sum(counted.movie is not None for counted in watched),
        pending=sum(counted.match.status == "pending" for counted in watched),
        totals=_totals(every, watched, viewings, year),
        through_time=_through_time(watched, viewings, year),
        ratings=_ratings(watched, limit),
        what=_what(watched, collections, limit),
        who=Who(**{role.name: _ranking(_by(watched, role.name), limit) for role in fields(Who)}),
        lists=_lists(watched, viewings, year, limit),
        watchlist=_watchlist(every, limit),
    )


def _viewings(counted: Counted) -> Iterator[Seen]:
    """Oldest first."""
    for number, viewing in enumerate(reversed(counted.film.viewings)):
        yield Seen(viewing.watched_date, counted, viewing.rewatch or number > 0, bool(viewing.review))


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None


Group = tuple[Any, list[Counted]]


def _bar(name: object, films: list[Counted]) -> Bar:
    ids = list(dict.fromkeys([film.movie_id for film in films]))
    ratings = [film.rating for film in films if film.rating is not None]
    tmdb_id = name.identity if isinstance(name, Label) and isinstance(name.identity, int) else None
    return Bar(str(name), len(films), _mean(ratings), ids, tmdb_id)


def _grouped(groups: Iterable[Group]) -> list[Group]:
    """What has one key put together, by key."""
    together: defaultdict[Any, list[Counted]] = defaultdict(list)
    for key, films in groups:
        together[key] += films
    return sorted(together.items())


def _bars(groups: Iterable[Group], keys: Sequence[object] | None = None) -> list[Bar]:
    """A bar a key, in the order of `keys`, or sorted."""
    together = dict(_grouped(groups))
    return [_bar(key, together.get(key, [])) for key in (together if keys is None else keys)]


def _columns(films: Iterable[tuple[int, Counted]], ends: Sequence[int]) -> list[Bar]:
    """A column from each of `ends` up to the next."""
    names = [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(ends)]
    names.append(f"{ends[-1]} or more")
    return _bars(((names[bisect_right(ends, value) - 1], [film]) for value, film in films), names)


def _listed(counted: Counted, value: float | None = None) -> Listed:
    poster = counted.movie.poster_url if counted.movie else None
    return Listed(counted.movie_id, counted.name, counted.year, poster, counted.rating, value)


def _top(
    films: Iterable[tuple[float | None, Counted]], limit: int, least_first: bool = False
) -> list[Listed]:
    """The films of the highest value, or of the least."""
    sign = 1 if least_first else -1
    known = (
        (sign * value, -(f.rating or 0), f.name, f.movie_id, f) for value, f in films if value is not None
    )
    return [_listed(film, round(sign * value, 2)) for value, *_, film in heapq.nsmallest(limit, known)]


def _by(films: Iterable[Counted], attribute: str) -> list[Group]:
    """Films by what their movies have as `attribute`, a tuple of names."""
    names: dict[Hashable, str] = {}
    groups: defaultdict[Hashable, list[Counted]] = defaultdict(list)
    for film in films:
        for name in getattr(film.movie, attribute, ()):
            key = name.identity if type(name) is Label else name
            groups[key].append(film)
            names[key] = name
    return [(names[key], found) for key, found in groups.items()]


def _most(groups: list[Group], limit: int) -> list[Bar]:
    """By films, then mean rating, then name. Only those that may be among the first are looked at closely."""
    sizes = sorted((len(films) for _, films in groups), reverse=True)
    least = sizes[min(limit, len(sizes)) - 1] if sizes else 0
    bars = [_bar(name, films) for name, films in groups if len(films) >= least]
    return sorted(bars, key=lambda bar: (-bar.count, -(bar.mean_rating or 0), bar.name))[:limit]


def _highest_rated(groups: list[Group], limit: int = 100_000) -> list[Bar]:
    """By mean rating, then the number of rated films, then name."""
    first = heapq.nsmallest(limit, _means(groups))
    return [_bar(groups[n][0], [film for film in groups[n][1] if film.rating is not None]) for *_, n in first]


def _means(groups: list[Group]) -> Iterator[tuple[float, int, str, int]]:
    for n, (name, films) in enumerate(groups):
        if len(films) >= LEAST_RATED:
            ratings = [film.rating for film in films if film.rating is not None]
            if len(ratings) >= LEAST_RATED:
                yield -sum(ratings) / len(ratings), -len(ratings), name, n


def _ranking(groups: list[Group], limit: int) -> Ranking:
    return Ranking(_most(groups, limit), _highest_rated(groups, limit), len(groups))


def _hours(films: Iterable[Counted], times: Mapping[int, int]) -> float:
    """Of films, each as often as `times` says, and once where it says nothing."""
    return round(sum((film.runtime or 0) * times.get(film.movie_id, 1) for film in films) / 60, 1)


def _totals(every: list[Counted], watched: list[Counted], viewings: list[Seen], year: int | None) -> Totals:
    hours = _hours(watched, Counter(seen.film.movie_id for seen in viewings))
    undated_reviews = {c.movie_id for c in watched if year is None and c.film.undated_reviews}
    dated = [seen for seen in viewings if seen.day]
    per_day = Counter(seen.day.toordinal() for seen in dated if seen.day)
    span = max(per_day) - min(per_day) + 1 if per_day else 0
    ratings = [film.rating for film in watched if film.rating is not None]
    return Totals(
        films=len(watched),
        series=sum(counted.movie is not None and counted.movie.tmdb_type == "tv" for counted in watched),
        viewings=len(viewings),
        undated=len(viewings) - len(dated),
        rewatches=sum(seen.rewatch for seen in viewings),
        hours=hours,
        days=round(hours / 24, 1),
        without_runtime=sum(counted.runtime is None for counted in watched),
        rated=len(ratings),
        liked=sum(counted.film.liked for counted in watched),
        reviewed=len({seen.film.movie_id for seen in viewings if seen.reviewed} | undated_reviews),
        watchlist=sum(counted.film.watchlist for counted in every),
        directors=len(_by(watched, "directors")),
        countries=len(_by(watched, "countries")),
        languages=len(_by(watched, "languages")),
        mean_rating=_mean(ratings),
        median_rating=median(ratings) if ratings else None,
        longest_streak_days=_longest_run(per_day),
        longest_streak_weeks=_longest_run((day - 1) // 7 for day in per_day),
        days_with_two_or_more=sum(count > 1 for count in per_day.values()),
        viewings_per_week=round(len(dated) * 7 / max(span, 7), 2) if dated else None,
        viewings_per_month=round(len(dated) * 30.44 / max(span, 30.44), 2) if dated else None,
        first=_listed(dated[0].film) if dated else None,
        last=_listed(dated[-1].film) if dated else None,
        milestones=[_listed(seen.film, number) for number, seen in enumerate(dated, 1) if number % 50 == 0],
    )


def _longest_run(numbers: Iterable[int]) -> int:
    """How many numbers follow each other without a gap."""
    longest = run = 0
    before: int | None = None
    for number in sorted(set(numbers)):
        run = run + 1 if number - 1 == before else 1
        longest, before = max(longest, run), number
    return longest


def _through_time(watched: list[Counted], viewings: list[Seen], year: int | None) -> ThroughTime:
    days: list[tuple[date, list[Counted]]] = _grouped(
        (seen.day, [seen.film]) for seen in viewings if seen.day
    )
    ages = [
        (day.year - film.year, film)
        for day, films in days
        for film in films
        if film.year and film.year <= day.year  # the others were logged with a wrong date
    ]
    released = _grouped((film.year, [film]) for film in watched if film.year)
    decades = _grouped((f"{year // 10 * 10}s", films) for year, films in released)
    return ThroughTime(
        years=_bars((day.year, films) for day, films in days),
        months=_bars(
            ((day.isoformat()[:7], films) for day, films in days),
            [f"{year}-{month:02}" for month in range(1, 13)] if year else None,
        ),
        weeks=_bars((day - timedelta(day.weekday()), films) for day, films in days),
        weekdays=_bars(((WEEKDAYS[day.weekday()], films) for day, films in days), WEEKDAYS),
        days=[_bar(day, films) for day, films in days],
        release_years=[_bar(year, films) for year, films in released],
        decades=[_bar(decade, films) for decade, films in decades],
        best_decades=_highest_rated(decades, 3),
        ages=_columns(ages, AGES),
        mean_age=_mean([age for age, _ in ages]),
    )


def _ratings(watched: list[Counted], limit: int) -> Ratings:
    movies = [(counted.movie, counted) for counted in watched if counted.movie]
    voted = [(movie, film) for movie, film in movies if movie.tmdb_votes >= LEAST_VOTES]
    crowd = [
        (film.rating - movie.tmdb_rating / 2, film)
        for movie, film in voted
        if film.rating is not None and movie.tmdb_rating
    ]
    votes = [(movie.tmdb_votes, film) for movie, film in movies if movie.tmdb_votes]
    gems = [(m.tmdb_votes, f) for m, f in voted if m.tmdb_votes < GEM_VOTES and (f.rating or 0) >= 4]
    return Ratings(
        histogram=_bars(
            ((f"{counted.rating:g}", [counted]) for counted in watched if counted.rating),
            [f"{half / 2:g}" for half in range(1, 11)],
        ),
        above_crowd=_top(((less, film) for less, film in crowd if less > 0), limit),
        below_crowd=_top(((less, film) for less, film in crowd if less < 0), limit, least_first=True),
        obscure=_top(votes, limit, least_first=True),
        popular=_top(votes, limit),
        gems=_top(gems, limit, least_first=True),
    )


def _what(watched: list[Counted], collections: Mapping[int, Collection], limit: int) -> What:
    genres = ((sorted(counted.movie.genres), counted) for counted in watched if counted.movie)
    pairs = _grouped((pair, [film]) for names, film in genres for pair in itertools.combinations(names, 2))
    return What(
        genres=_ranking(_by(watched, "genres"), limit),
        genre_pairs=_ranking([(" & ".join(pair), films) for pair, films in pairs], limit),
        countries=_ranking(_by(watched, "countries"), limit),
        languages=_ranking(_by(watched, "languages"), limit),
        themes=_ranking(_by(watched, "keywords"), limit),
        studios=_ranking(_by(watched, "studios"), limit),
        collections=_ranking(_by(watched, "collections"), limit),
        completeness=_completeness(watched, collections)[:limit],
    )


def _completeness(watched: list[Counted], known: Mapping[int, Collection]) -> list[CollectionSeen]:
    movies = ((counted.movie, counted) for counted in watched)
    films = {movie.tmdb_id: counted for movie, counted in movies if movie and movie.tmdb_type == "movie"}
    found = []
    for tmdb_id, collection in list(known.items()):  # some may be added meanwhile
        ids = [films[part].movie_id for part in collection.released if part in films]
        if len(ids) > 1:
            found.append(CollectionSeen(collection.name, tmdb_id, len(ids), len(collection.released), ids))
    return sorted(found, key=lambda seen: (seen.released - seen.watched, -seen.watched, seen.name))


def _lists(watched: list[Counted], viewings: list[Seen], year: int | None, limit: int) -> FilmLists:
    times = Counter(seen.film.movie_id for seen in viewings)
    runtimes = [(minutes, film) for film in watched if (minutes := film.runtime)]
    new = [film for film in watched if year and film.year == year]
    old = [film for film in watched if year and film.year and film.year < year]
    return FilmLists(
        most_rewatched=_top(
            ((times[film.movie_id], film) for film in watched if times[film.movie_id] > 1), limit
        ),
        longest=_top(runtimes, limit),
        shortest=_top(runtimes, limit, least_first=True),
        new=_top(((film.rating, film) for film in new), limit),
        old=_top(((film.rating, film) for film in old), limit),
        runtimes=_columns(runtimes, RUNTIMES),
    )


def _watchlist(every: list[Counted], limit: int) -> Watchlist:
    listed = [counted for counted in every if counted.film.watchlist and not counted.film.watched]
    watched = [counted for counted in every if counted.film.watched]
    on_it = {name.identity: found for name, found in _by(listed, "directors")}
    best = (
        (bar, on_it.get(bar.tmdb_id or bar.name, [])) for bar in _highest_rated(_by(watched, "directors"))
    )
    return Watchlist(
        films=len(listed),
        hours=_hours(listed, {}),
        without_runtime=sum(counted.runtime is None for counted in listed),
        watched_from_it=sum(counted.film.watchlist for counted in watched),
        genres=_most(_by(listed, "genres"), limit),
        decades=_bars((f"{counted.year // 10 * 10}s", [counted]) for counted in listed if counted.year),
        directors=[
            replace(bar, count=len(found), movie_ids=[film.movie_id for film in found])
            for bar, found in best
            if found
        ][:limit],
    )


# === Sessions =================================================================

STOPPED = "The work was stopped."
SessionStatus = Literal["processing", "enriching", "completed", "failed"]


@dataclass(eq=False, repr=False)
class Session:
    """One upload: its films, how far they are looked up, and the task that does it while it runs.

    `clock` in seconds since 1970, `ttl_seconds` from the end of the work.
    """

    export: Export
    ttl_seconds: float
    clock: Callable[[], float]
    session_id: str = field(default_factory=partial(secrets.token_urlsafe, 16))
    status: SessionStatus = "processing"
    error_message: str | None = None
    collections: dict[int, Collection] = field(default_factory=dict)  # by TMDB's id
    revision: int = 0  # grows with every change that a follower wants to hear of
    followers: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)  # nothing more is to be followed
    task: asyncio.Task[None] | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.started_at = self._begun_at = self.clock()
        self.counts = Counter(film.match.status for film in self.export.films)
        self._to_do = self.total_movies

    @property
    def short_id(self) -> str:
        """For logs: the whole id opens the session to whoever reads it."""
        return self.session_id[:6]

    def film(self, movie_id: int) -> Film:
        if 1 <= movie_id <= self.total_movies:
            return self.export.films[movie_id - 1]
        raise MovieNotFound(f"This session has no film {movie_id}; they are 1 to {self.total_movies}.")

    def begin(self) -> None:
        """Pending films are being looked up, at first or again."""
        self.status, self.error_message, self.ended_at = "enriching", None, None
        self._begun_at, self._to_do = self.clock(), self.counts["pending"]
        self.over.clear()
        self.revision += 1

    def record(self, film: Film, match: Match) -> None:
        """The outcome of one film; progress follows in the same step."""
        self.counts[film.match.status] -= 1
        self.counts[match.status] += 1
        film.match = match
        self.revision += 1

    def end(self, status: SessionStatus, error_message: str | None) -> None:
        self.status, self.error_message, self.ended_at = status, error_message, self.clock()
        counts = ", ".join(f"{count} {status}" for status, count in sorted((+self.counts).items()))
        seconds = self.ended_at - self._begun_at
        log.info("[%s] %s after %.1f s: %s", self.short_id, self.status, seconds, counts)
        self.task = None  # a task that has ended keeps its frames, and so the whole session
        self.revision += 1
        self.over.set()

    async def stop(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.task:  # it was stopped before its first step
            self.end("failed", STOPPED)

    async def changes(self) -> AsyncIterator[None]:
        """Now, after every change but no oftener than at each tick, and once more at the end."""
        told, told_at, now = 0, -math.inf, asyncio.get_running_loop().time
        self.followers += 1
        try:
            while not self.over.is_set():
                if told != self.revision:
                    told, told_at = self.revision, now()
                    yield
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_tick(now(), self.followers)):
                        await self.over.wait()
            if told != self.revision:
                await asyncio.sleep(told_at + 0.25 - now())
                yield
        finally:
            self.followers -= 1

    # What the API tells, as it is at this moment.
    files = property(lambda self: list(self.export.rows))
    rows = property(lambda self: self.export.rows)
    warnings = property(lambda self: self.export.warnings)
    total_movies = property(lambda self: len(self.export.films))
    processed_count = property(lambda self: self.total_movies - self.counts["pending"])
    enriched_count = property(lambda self: sum(self.counts[s] for s in ("exact", "guessed", "corrected")))
    not_found_count = property(lambda self: self.counts["not_found"])
    failed_count = property(lambda self: self.counts["failed"])
    progress_percent = property(lambda self: 100 * self.processed_count / self.total_movies)
    created_at = property(lambda self: datetime.fromtimestamp(self.started_at, UTC))

    @property
    def eta_seconds(self) -> float | None:
        """At the pace so far; None until there is one, 0 at the end."""
        if self.ended_at is not None:
            return 0
        done = self._to_do - self.counts["pending"]
        return (self.clock() - self._begun_at) / done * self.counts["pending"] if done else None

    @property
    def expires_at(self) -> datetime:
        """While the work goes on, the earliest time at which the session may expire."""
        ended_at = self.clock() if self.ended_at is None else self.ended_at
        return datetime.fromtimestamp(ended_at + self.ttl_seconds, UTC)


def next_tick(now: float, followers: int) -> float:
    """When to tell those who follow one session of its changes, in seconds, 0.25 or more from now.

    All of them at the same ticks, which are the rarer the more they are: 15 events a second for all, so that
    two hundred cost no more CPU than a few.
    """
    tick = max(0.3, followers / 15)
    return math.ceil((now + 0.25) / tick) * tick


@dataclass(eq=False, repr=False)
class SessionStore:
    """Sessions by id; each is forgotten `ttl_seconds` after its work ended, never while it runs."""

    _ttl_seconds: float
    _max_sessions: int
    _max_memory_bytes: int
    _clock: Callable[[], float] = time.time
    _sessions: dict[str, Session] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        for session in self._sessions.values():
            await session.stop()
        self._sessions.clear()

    def __len__(self) -> int:
        self.sweep()
        return len(self._sessions)

    @property
    def memory_bytes(self) -> int:
        """Of all sessions, as estimated."""
        return sum(session.export.memory_bytes for session in self._sessions.values())

    def check_room(self, memory_bytes: int = 0) -> None:
        """Raises StoreFull when a session of that size has no room now, UploadTooLarge when it never has."""
        self.sweep()
        if memory_bytes > self._max_memory_bytes:
            raise UploadTooLarge(
                f"The upload takes about {memory_bytes:,} bytes of memory, "
                f"more than the {self._max_memory_bytes:,} of MAX_MEMORY_BYTES."
            )
        is_full = len(self._sessions) >= self._max_sessions
        if is_full or self.memory_bytes + memory_bytes > self._max_memory_bytes:
            soonest = min(session.expires_at for session in self._sessions.values())
            raise StoreFull(math.ceil(soonest.timestamp() - self._clock()))

    def create(self, export: Export) -> Session:
        self.check_room(export.memory_bytes)
        session = Session(export, self._ttl_seconds, self._clock)
        self._sessions[session.session_id] = session
        return session

    def get(self, session_id: str) -> Session:
        self.sweep()
        if session := self._sessions.get(session_id):
            return session
        raise SessionNotFound(
            "There is no such session: check its id, or upload the export again, for it may have expired."
        )

    async def delete(self, session_id: str) -> None:
        session = self.get(session_id)
        del self._sessions[session_id]
        await session.stop()

    def end_streams(self) -> None:
        for session in self._sessions.values():
            session.over.set()

    def sweep(self) -> None:
        for session in list(self._sessions.values()):
            if session.ended_at is not None and session.ended_at + session.ttl_seconds <= self._clock():
                del self._sessions[session.session_id]
                log.info("[%s] expired", session.short_id)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(min(self._ttl_seconds / 4, 30))
            self.sweep()


# === Enrichment ===============================================================


async def enrich_session_async(session: Session, tmdb: TMDBClient) -> None:
    """Looks every pending film up in TMDB; however it ends, the session's work has ended then."""
    trace.set(session.short_id)
    session.begin()
    status: SessionStatus = "failed"
    problem: str | None = STOPPED
    log.info("[%s] looking up %d films", session.short_id, session.counts["pending"])
    try:
        problem = await _look_up(session, tmdb)
        status = "completed"
    except (TMDBKeyRejected, TMDBSilent) as error:
        problem = _give_up(session, str(error))
    except Exception:
        log.exception("[%s] a bug ended the work", session.short_id)
        problem = _give_up(session, "An error inside this service ended the work.")
    finally:
        session.end(status, problem)


def _give_up(session: Session, reason: str) -> str:
    """The films that are still pending have failed, for that reason."""
    for film in session.export.films:
        if film.match is PENDING:
            session.record(film, Match("failed", reason))
    return reason


async def _look_up(session: Session, tmdb: TMDBClient) -> str | None:
    """Films that a member corrects meanwhile are no longer pending, and left alone."""
    if tmdb.key_state == "missing":
        return _give_up(session, NO_KEY)
    films = (film for film in session.export.films if film.match is PENDING)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(tmdb.workers):
                group.create_task(_work(session, films, tmdb))
        await read_collections(session, tmdb, COLLECTIONS_SECONDS)
    except* (TMDBKeyRejected, TMDBSilent) as ended:
        raise ended.exceptions[0] from None
    return None


async def read_collections(session: Session, tmdb: TMDBClient, seconds: float) -> None:
    """Those of which two films or more were watched, as far as TMDB tells them in time."""

    async def read(tmdb_id: int) -> None:
        with contextlib.suppress(TMDBError):  # then it is not in the statistics
            session.collections[tmdb_id] = await tmdb.collection(tmdb_id)

    watched = (film.match.movie for film in session.export.films if film.watched)
    ids = Counter(label.identity for movie in watched if movie for label in movie.collections)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for tmdb_id, count in ids.items():
                if isinstance(tmdb_id, int) and count > 1:
                    group.create_task(read(tmdb_id))


COLLECTIONS_SECONDS = 60  # a member has some dozens


async def _work(session: Session, films: Iterator[Film], tmdb: TMDBClient) -> None:
    """One of a session's workers, which share one iterator. A film's failure is its own."""
    for film in films:
        try:
            match = await tmdb.find(film)
        except (TMDBUnavailable, TMDBNotFound) as error:
            match = Match("failed", str(error))
        if film.match is not PENDING:
            continue
        session.record(film, match)
        if session.processed_count % -(-session.total_movies // 10) == 0:
            log.info("[%s] %d of %d films", session.short_id, session.processed_count, session.total_movies)


def retry(session: Session, tmdb: TMDBClient) -> None:
    """Asks TMDB again for the films that have no movie, but for those whose match a member has cleared."""
    if session.ended_at is None:
        raise SessionBusy(
            "The films are still being looked up; retry when the session is completed or failed."
        )
    for film in session.export.films:
        if film.match.movie is None and not film.match.by_hand:
            tmdb.forget(film)
            session.record(film, PENDING)
    session.begin()
    session.task = asyncio.create_task(enrich_session_async(session, tmdb))


def decide(session: Session, film: Film, movie: Movie | None, tmdb: TMDBClient) -> None:
    """The member says which movie the film is, or that it is none of TMDB's; later uploads remember it."""
    considered = film.match.considered
    if movie:
        match = Match("corrected", "Chosen by hand.", movie, considered, by_hand=True)
    else:
        match = Match("not_found", "The match was cleared by hand.", None, considered, by_hand=True)
    tmdb.remember(film, match)
    session.record(film, match)


# === Answers ==================================================================
# What goes over the wire: the JSON, with the words that /docs shows, and the CSVs to leave with.


EXAMPLE_ID = "Wm9XbK3vS4mZ0uH2aQ7c1w"


class SessionBase(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    session_id: str = Field(examples=[EXAMPLE_ID])
    status: SessionStatus = Field(
        description="`completed` when TMDB was asked for every film; `failed` when it rejects the key, or "
        "answers nothing for minutes. Either way, each film has an outcome then."
    )
    total_movies: int = Field(examples=[2186])
    created_at: datetime
    expires_at: datetime = Field(description="While films are being looked up, the earliest it may be.")


class UploadView(SessionBase):
    """A new session, and what became of each file."""

    files: list[str] = Field(description="The files that were understood.", examples=[["watched.csv"]])
    rows: dict[str, int] = Field(description="Rows used of each.", examples=[{"watched.csv": 1656}])
    warnings: list[str] = Field(
        description="What could not be read, with file, line and reason.",
        examples=[["ratings.csv, line 12: rating '6' is not between 0.5 and 5 in steps of 0.5"]],
    )


class SessionView(SessionBase):
    """How far a session is."""

    processed_count: int = Field(description="The sum of the next three.", examples=[1093])
    enriched_count: int = Field(examples=[1090])
    not_found_count: int = Field(examples=[2])
    failed_count: int = Field(examples=[1])
    progress_percent: float = Field(examples=[50.0])
    eta_seconds: float | None = Field(description="At the pace so far; null until there is one.")
    error_message: str | None = Field(description="Why the films were not looked up.")
    revision: int = Field(description="Grows with every change of a film's match.", examples=[1093])


class MatchView(BaseModel):
    status: MatchStatus
    reason: str = Field(examples=["Title, year and Letterboxd's own number agree."])


class MovieView(BaseModel):
    """A film as the member logged it, then TMDB's record of it, which is empty while there is none."""

    movie_id: int = Field(description="The film's number in this session.", examples=[7])
    title: str = Field(examples=["Inception"])
    year: int | None = Field(examples=[2010])
    letterboxd_uri: str | None = Field(examples=["https://boxd.it/1skk"])
    rating: float | None = Field(description="Stars from 0.5 to 5.", examples=[4.5])
    watched_date: date | None = Field(description="The latest viewing in the diary.")
    watched_dates: list[date] = Field(description="All viewings, latest first.")
    rewatch: bool
    tags: list[str]
    review: str | None
    liked: bool
    watched: bool
    watchlist: bool
    tmdb_enriched: bool
    tmdb_id: int | None = Field(None, examples=[27205])
    tmdb_type: MediaType | None = None
    tmdb_url: str | None = Field(None, examples=["https://www.themoviedb.org/movie/27205"])
    imdb_id: str | None = Field(None, examples=["tt1375666"])
    tmdb_title: str | None = Field(None, examples=["Inception"])
    original_title: str | None = None
    release_date: str | None = Field(None, examples=["2010-07-15"])
    runtime: int | None = Field(None, description="Minutes; of a series, all episodes.", examples=[148])
    genres: list[str] = []
    directors: list[str] = Field([], examples=[["Christopher Nolan"]])
    cast: list[str] = Field([], description="In billing order, 15 at most.")
    writers: list[str] = []
    countries: list[str] = []
    languages: list[str] = []
    keywords: list[str] = []
    poster_url: str | None = None
    tmdb_rating: float | None = Field(None, description="From 0 to 10.")
    tmdb_votes: int | None = None
    collection: str | None = None
    match: MatchView


class MovieDetail(MovieView):
    """A film with all that is known of it."""

    viewings: list[Viewing] = Field(description="Latest first, then reviews without a date.")
    candidates: list[Candidate] = Field(description="What was considered, best first, 10 at most.")


class Choice(BaseModel):
    """`tmdb_id` and `tmdb_type`, or `tmdb_url`."""

    tmdb_id: int | None = Field(None, strict=True, ge=1, le=999_999_999, examples=[27205])
    tmdb_type: MediaType | None = Field(None, description="A film and a series may have the same id.")
    tmdb_url: str | None = Field(None, examples=["https://www.themoviedb.org/movie/27205"])

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        by_id, by_url = (self.tmdb_id, self.tmdb_type), self.tmdb_url
        if by_url is None and None not in by_id:
            return self
        if by_id == (None, None) and tmdb_of(by_url or ""):
            return self
        raise ValueError(
            "give tmdb_id and tmdb_type (movie or tv), or the tmdb_url of a film or series, "
            "like https://www.themoviedb.org/movie/27205"
        )

    @property
    def tmdb(self) -> TMDBId:
        return cast(TMDBId, tmdb_of(self.tmdb_url) if self.tmdb_url else (self.tmdb_type, self.tmdb_id))


class Wanted(BaseModel):
    """Which films of a session, in which order, and which page of them."""

    match: list[MatchStatus] = Field([], description="Only films with such a match; may be repeated.")
    in_list: Literal["watched", "rated", "liked", "watchlist"] | None = Field(
        None, alias="list", description="Only films that are that."
    )
    q: str = Field(
        "",
        max_length=200,
        description="Only films with this in a title, the member's or TMDB's, whatever its case and accents.",
    )
    sort: (
        Literal["rating", "year", "watched_date", "runtime", "-rating", "-year", "-watched_date", "-runtime"]
        | None
    ) = Field(None, description="`-` is descending. Films without a value come last.")
    skip: int = Field(0, ge=0, description="How many films to leave out at the front.")
    limit: int = Field(100, ge=1, le=1000, description="How many films to answer with.")

    def of(self, films: list[Film]) -> list[Film]:
        """All of them, on whatever page."""
        text = fold(self.q) if self.q else ""
        chosen = [
            film
            for film in films
            if (not self.match or film.match.status in self.match)
            and (not self.in_list or IN_LIST[self.in_list](film))
            and (not text or any(text in fold(title) for title in film.titles))
        ]
        if self.sort is None:
            return chosen
        value = SORTED_BY[self.sort.lstrip("-")]
        keyed = [(value(film), film) for film in chosen]  # read once, for films may be enriched meanwhile
        known = [pair for pair in keyed if pair[0] is not None]
        known.sort(key=itemgetter(0), reverse=self.sort.startswith("-"))
        return [film for _, film in known] + [film for key, film in keyed if key is None]


IN_LIST: dict[str, Callable[[Film], bool]] = {
    "watched": lambda film: film.watched,
    "rated": lambda film: film.rating is not None,
    "liked": lambda film: film.liked,
    "watchlist": lambda film: film.watchlist,
}
SORTED_BY: dict[str, Callable[[Film], Any]] = {
    "rating": lambda film: film.rating,
    "year": lambda film: film.year,
    "watched_date": lambda film: film.watched_date,
    "runtime": lambda film: film.match.movie and film.match.movie.runtime,
}


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"
    sessions: int = Field(description="Sessions held.")
    memory_bytes: int = Field(description="What these take, as estimated.")
    tmdb_key: Literal["missing", "unchecked", "accepted", "rejected"] = Field(
        description="Whether TMDB accepts the key; `unchecked` when TMDB could not be reached."
    )
    uptime_seconds: float


class ErrorView(BaseModel):
    detail: str = Field(description="What was wrong, and what would be right.")


def movie_view(film: Film) -> MovieView:
    return MovieView(**_movie(film))


def movie_detail(film: Film) -> MovieDetail:
    return MovieDetail(**_movie(film), viewings=film.entries, candidates=list(film.match.considered))


def _movie(film: Film) -> dict[str, Any]:
    match = film.match
    movie = match.movie
    known = {f.name: getattr(movie, f.name) for f in fields(Movie)} if movie else {}
    return known | {
        "tmdb_title": movie and movie.title,
        "collection": movie and movie.collection,
        "tmdb_url": movie and tmdb_url(movie.tmdb_type, movie.tmdb_id),
        "tmdb_enriched": movie is not None,
        "movie_id": film.movie_id,
        "title": film.name,
        "year": film.year,
        "letterboxd_uri": film.film_uri or None,
        "rating": film.rating,
        "watched_date": film.watched_date,
        "watched_dates": [viewing.watched_date for viewing in film.viewings if viewing.watched_date],
        "rewatch": len(film.viewings) > 1 or any(viewing.rewatch for viewing in film.viewings),
        "tags": list(dict.fromkeys(tag for entry in film.entries for tag in entry.tags)),
        "review": next((entry.review for entry in film.entries if entry.review), None),
        "liked": film.liked,
        "watched": film.watched,
        "watchlist": film.watchlist,
        "match": MatchView(status=match.status, reason=match.reason),
    }


STATISTICS = TypeAdapter(Statistics)  # a megabyte of JSON, so it is written in the thread that counts


def progress_json(session: Session) -> str:
    return SessionView.model_validate(session).model_dump_json()


# --- CSVs

BOM = "\ufeff"  # without it, Excel takes UTF-8 for cp1252
MATCH_COLUMNS = "movie_id,title,year,letterboxd_uri,watched,watchlist,liked,status,reason,"
MATCH_COLUMNS += "tmdb_url,tmdb_id,tmdb_type,tmdb_title,candidates"
# Letterboxd's, and after them three that it passes over and an upload to this service reads.
LETTERBOXD_COLUMNS = (
    "LetterboxdURI,tmdbID,imdbID,Title,Year,Directors,Rating,WatchedDate,Rewatch,Tags,Review,"
)
LETTERBOXD_COLUMNS += "Liked,tmdbURL,MatchStatus"
LETTERBOXD_BYTES = 1_000_000  # Letterboxd takes no larger file
FILMS_A_CHUNK = 100
FORMULA = re.compile(
    r"[\0\ufeff\u200b]*[=+\-@\t\r\n＝＋－＠]"
)  # how a cell begins that a spreadsheet would compute


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(map(_cell, row) for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    """A space in front makes text of what begins like a formula; whoever reads the file strips it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return f" {text}" if FORMULA.match(text) else text


def csv_chunks(header: str, films: list[Film], row: Callable[[Film], Iterable[object]]) -> Iterator[str]:
    yield f"{BOM}{header}\r\n"
    for start in range(0, len(films), FILMS_A_CHUNK):
        yield csv_text(map(row, films[start : start + FILMS_A_CHUNK]))


def movie_row(film: Film) -> list[object]:
    """The JSON's fields, in its order; of `match` the parts."""
    view = movie_view(film).model_dump(mode="json")
    match = view.pop("match")
    return [*view.values(), match["status"], match["reason"]]


MOVIE_COLUMNS = ",".join(
    [*(name for name in MovieView.model_fields if name != "match"), "match_status", "match_reason"]
)


def match_row(film: Film) -> list[object]:
    match = film.match
    movie = match.movie
    chosen = (
        (tmdb_url(movie.tmdb_type, movie.tmdb_id), movie.tmdb_id, movie.tmdb_type, movie.title)
        if movie
        else [None] * 4
    )
    logged = film.movie_id, film.title, film.year, film.film_uri, film.watched, film.watchlist, film.liked
    candidates = "; ".join(
        f"{c.title} ({c.year or 'no year'}) {tmdb_url(c.tmdb_type, c.tmdb_id)} {c.score:g}"
        for c in match.considered
    )
    return [*logged, match.status, match.reason, *chosen, candidates]


def letterboxd_csvs(films: list[Film], in_list: Literal["watched", "watchlist"]) -> list[bytes]:
    """Letterboxd's import format, in parts of a size that Letterboxd takes.

    All lines of a film are in one part: the same day told of by two files is one viewing, not two.
    """
    header = f"{LETTERBOXD_COLUMNS}\r\n".encode()
    parts = [bytearray(header)]
    for film in filter(IN_LIST[in_list], films):
        entries = _entries_to_import(film) if in_list == "watched" else [Viewing()]
        lines = csv_text(letterboxd_row(film, entry) for entry in entries).encode()
        if len(parts[-1]) > len(header) and len(parts[-1]) + len(lines) > LETTERBOXD_BYTES:
            parts.append(bytearray(header))
        parts[-1] += lines
    return [bytes(part) for part in parts]


def _entries_to_import(film: Film) -> list[Viewing]:
    """Its viewings; and, where the latest does not tell the film's own rating, that without a date."""
    told = [entry for entry in film.entries if entry.watched_date or entry.review or entry.tags]
    latest = next((entry.rating for entry in told if entry.rating is not None), None)
    return told if told and latest == film.rating else [*told, Viewing(rating=film.rating)]


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def letterboxd_row(film: Film, entry: Viewing) -> list[object]:
    """Letterboxd's tmdbID is a film's; for a series the address tells. A cleared match leaves no id."""
    match = film.match
    tmdb, imdb_id, status = film.tmdb, film.imdb_id, film.given_as
    if movie := match.movie:
        tmdb, imdb_id, status = (movie.tmdb_type, movie.tmdb_id), movie.imdb_id or "", match.status
    elif match.by_hand and film.title:
        tmdb, imdb_id = None, ""
    return [
        film.film_uri,
        tmdb[1] if tmdb and tmdb[0] == "movie" else None,
        imdb_id,
        film.name,
        film.year,
        movie and movie.directors,
        entry.rating,
        entry.watched_date,
        "Yes" if entry.rewatch else None,
        entry.tags,
        entry.review,
        "Yes" if film.liked else None,
        tmdb and tmdb_url(*tmdb),
        status if tmdb or imdb_id else None,
    ]


# === Web ======================================================================
# The service, its routes, the guard that every request passes, and the app.


@dataclass
class Service:
    """What the lifespan owns."""

    settings: Settings
    tmdb: TMDBClient
    store: SessionStore
    started_at: float = field(default_factory=time.monotonic)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # one upload is parsed at a time

    async def read(self, files: list[UploadFile]) -> Export:
        async with self.reading:
            contents = [(_file_name(file), await file.read()) for file in files]
            return await asyncio.to_thread(parse_export, contents, self.settings.max_films)


def _file_name(file: UploadFile) -> str:
    """The end of it, which tells the kind. A client may choose a charset in which it cannot be sent back."""
    return (file.filename or "").encode("utf-8", "replace").decode()[-100:]


async def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


TheService = Annotated[Service, Depends(service_of)]
SessionId = Annotated[str, InPath(description="As the upload answered it.", examples=[EXAMPLE_ID])]


async def session_of(session_id: SessionId, service: TheService) -> Session:
    return service.store.get(session_id)


TheSession = Annotated[Session, Depends(session_of)]
MovieId = Annotated[int, InPath(description="The film's number in this session.", examples=[7])]


async def film_of(session: TheSession, movie_id: MovieId) -> Film:
    return session.film(movie_id)


TheFilm = Annotated[Film, Depends(film_of)]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": ErrorView.model_json_schema()}}
    return {status: {"description": ERRORS[status], "content": content} for status in statuses}


PAGE = Path(__file__).with_name("index.html")
PAGE_HEADERS = {
    "X-Total-Count": {
        "description": "How many films pass the filters, on all pages.",
        "schema": {"type": "integer"},
    },
    "Link": {"description": 'The next page, `<…>; rel="next"`, if any.', "schema": {"type": "string"}},
}
ERRORS = {
    400: "The body cannot be used; of an upload, the detail says why, file by file",
    403: "A page of another site may not change anything here",
    404: "No such session (it may have expired), no such film in it, or no such id at TMDB",
    408: "The body did not come in time",
    409: "The session's films are still being looked up",
    413: "Too many bytes or too many films",
    421: "The Host is neither this machine nor one of ALLOWED_HOSTS",
    422: "The request is not as described here; the detail says where",
    502: "TMDB gave no usable answer, or rejects the key; nothing was changed",
    503: "No room for one more session now; Retry-After says when some may be free",
}
LETTERBOXD_TYPES = {
    "description": "A CSV, or a ZIP of them",
    "content": {"text/csv": {}, "application/zip": {}},
}
CHANGES = _errors(403, 408, 413)  # of calls that change something


def _links(*operations: str, **parameters: str) -> dict[str, Any]:
    """Where what is answered leads to, for those who let a program read the description."""
    return {"links": {name: {"operationId": name, "parameters": parameters} for name in operations}}


OF_UPLOAD = _links(
    *("read_session", "follow_session", "read_movies", "read_statistics", "retry_session", "download_movies"),
    *("download_matches", "download_letterboxd", "delete_session"),
    session_id="$response.body#/session_id",
)
OF_MOVIES = _links(
    *("read_movie", "correct_match", "clear_match"),
    session_id="$request.path.session_id",
    movie_id="$response.body#/0/movie_id",
)
routes = APIRouter(responses=_errors(421))
of_session = APIRouter(
    prefix="/api/session/{session_id}", tags=["sessions"], responses=_errors(404, 421, 422)
)


CORRECTION_SECONDS = 20  # that a correction waits for TMDB, and as long again for a collection


class CSVResponse(StreamingResponse):
    media_type = "text/csv"


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


@routes.post(
    "/api/upload",
    summary="Upload an export",
    status_code=201,
    tags=["sessions"],
    responses=CHANGES | _errors(400, 422, 503) | {201: OF_UPLOAD},
)
async def upload(
    files: Annotated[
        list[UploadFile], File(description="The ZIP, or CSVs of it; repeat the field for more.")
    ],
    service: TheService,
    response: Response,
) -> UploadView:
    """The ZIP exactly as Letterboxd exports it, or any of its CSVs, one or many.

    Answers at once; the films can be read immediately and are looked up in TMDB in the background:
    poll `/api/session/{session_id}` for the progress.
    """
    service.store.check_room()
    session = service.store.create(await service.read(files))
    session.task = asyncio.create_task(enrich_session_async(session, service.tmdb))
    response.headers["Location"] = f"/api/session/{session.session_id}"
    return UploadView.model_validate(session)


@of_session.get("", summary="How far a session is")
async def read_session(session: TheSession) -> SessionView:
    """From memory, so poll as often as you like. Every film ends up enriched, not found or failed."""
    return SessionView.model_validate(session)


@of_session.get("/events", summary="Follow a session", response_class=EventSourceResponse)
async def follow_session(session: TheSession) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `progress` at once and after changes, four a second at most, then one `end`.

    The data of each is the session, as `/api/session/{session_id}` answers it. The more follow a session, the
    rarer the events. Close your `EventSource` on `end`, or it will connect again and be told the same.
    """
    async for _ in session.changes():
        yield ServerSentEvent(event="progress", raw_data=progress_json(session))
    yield ServerSentEvent(event="end", raw_data=progress_json(session))


@of_session.get(
    "/movies", summary="A session's films", responses={200: {"headers": PAGE_HEADERS} | OF_MOVIES}
)
def read_movies(
    session: TheSession, wanted: Annotated[Wanted, Query()], request: Request, response: Response
) -> list[MovieView]:
    """Watched films first, latest viewing first, then liked ones, then those on the watchlist only.

    That order does not change while films are looked up. `X-Total-Count` is the number of the films that
    are wanted, and `Link` leads to the next ones.
    """
    films, after = wanted.of(session.export.films), wanted.skip + wanted.limit
    response.headers["X-Total-Count"] = str(len(films))
    if after < len(films):
        next_page = request.url.include_query_params(skip=after, limit=wanted.limit)
        response.headers["Link"] = f'<{next_page.path}?{next_page.query}>; rel="next"'
    return [movie_view(film) for film in films[wanted.skip : after]]


@of_session.get("/movies/{movie_id}", summary="One film, with its viewings and candidates")
async def read_movie(film: TheFilm) -> MovieDetail:
    """All viewings, and what TMDB's search offered for it with the score of each."""
    return movie_detail(film)


@of_session.put("/movies/{movie_id}/match", summary="Correct a match", responses=CHANGES | _errors(400, 502))
async def correct_match(
    session: TheSession, film: TheFilm, choice: Choice, service: TheService
) -> MovieDetail:
    """Says which movie the film is, whatever was found; while films are looked up, too.

    Remembered for uploads of the same film until the service is stopped.
    """
    try:
        async with asyncio.timeout(CORRECTION_SECONDS):
            movie = await service.tmdb.movie(*choice.tmdb)
    except TimeoutError:
        raise TMDBUnavailable("TMDB gives no answer now; correct the match later.") from None
    decide(session, film, movie, service.tmdb)
    if session.task is None:  # else it will, at its end
        await read_collections(session, service.tmdb, CORRECTION_SECONDS)
    return movie_detail(film)


@of_session.delete(
    "/movies/{movie_id}/match", summary="Clear a wrong match", status_code=204, responses=CHANGES
)
async def clear_match(session: TheSession, film: TheFilm, service: TheService) -> None:
    """The film is `not_found` from now on, and no retry looks it up again. Remembered like a correction."""
    decide(session, film, None, service.tmdb)


@of_session.get("/stats", summary="Statistics", description=WHAT_COUNTS, response_model=Statistics)
def read_statistics(
    session: TheSession,
    year: Annotated[int | None, Query(ge=1, le=9999, description="A year in review.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How long a list is at most.")] = 10,
) -> Response:
    numbers = statistics(session.export.films, session.collections, year, limit)
    return Response(STATISTICS.dump_json(numbers), media_type="application/json")


@of_session.post(
    "/retry", summary="Look up again what has no match", status_code=202, responses=CHANGES | _errors(409)
)
async def retry_session(session: TheSession, service: TheService) -> SessionView:
    """Asks TMDB again for the failed and the not-found films alone, but for those that were cleared."""
    retry(session, service.tmdb)
    return SessionView.model_validate(session)


@of_session.get("/movies.csv", summary="The films as CSV", response_class=CSVResponse)
def download_movies(session: TheSession) -> CSVResponse:
    """A line a film, with the fields of the JSON as columns; lists are separated by commas.

    Safe in a spreadsheet: a cell that begins like a formula has a space in front.
    """
    chunks = csv_chunks(MOVIE_COLUMNS, session.export.films, movie_row)
    return CSVResponse(chunks, headers=_attached("movies.csv"))


@of_session.get("/matches.csv", summary="The match report", response_class=CSVResponse)
def download_matches(session: TheSession) -> CSVResponse:
    """A line a film: what it was matched with, why, and what else was considered."""
    chunks = csv_chunks(MATCH_COLUMNS, session.export.films, match_row)
    return CSVResponse(chunks, headers=_attached("matches.csv"))


@of_session.get(
    "/letterboxd.csv",
    summary="Letterboxd's import format",
    response_class=CSVResponse,
    responses={200: LETTERBOXD_TYPES},
)
def download_letterboxd(
    session: TheSession,
    in_list: Annotated[
        Literal["watched", "watchlist"],
        Query(alias="list", description="Apart, since Letterboxd marks all that is imported as watched."),
    ] = "watched",
) -> Response:
    """A line a viewing, with TMDB's ids, to import at Letterboxd or to upload here again.

    Films without a viewing, or whose own rating is another than their latest viewing's, have a line without
    a date. Over 1 MB, which is the most that Letterboxd takes, the answer is a ZIP of parts.
    """
    parts = letterboxd_csvs(session.export.films, in_list)
    name = "letterboxd" if in_list == "watched" else "letterboxd-watchlist"
    if len(parts) == 1:
        return Response(parts[0], media_type=CSVResponse.media_type, headers=_attached(f"{name}.csv"))
    numbered = ((f"{name}-{number}.csv", part) for number, part in enumerate(parts, 1))
    return Response(zipped(numbered), media_type="application/zip", headers=_attached(f"{name}.zip"))


@of_session.delete("", summary="Forget a session", status_code=204, responses=CHANGES)
async def delete_session(session_id: SessionId, service: TheService) -> None:
    """Ends its work, if it still goes on, and frees its memory."""
    await service.store.delete(session_id)


@routes.get("/health", summary="How the service is", tags=["service"])
async def health(service: TheService) -> HealthView:
    """For whoever runs the service. Asks TMDB about the key until that is known to be accepted."""
    if service.tmdb.key_state in ("unchecked", "rejected"):
        await service.tmdb.check_key()
    return HealthView(
        sessions=len(service.store),
        memory_bytes=service.store.memory_bytes,
        tmdb_key=service.tmdb.key_state,
        uptime_seconds=round(time.monotonic() - service.started_at, 1),
    )


@routes.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE)


async def show_error(_: Request, error: Exception) -> JSONResponse:
    """What the framework finds wrong is told in our words where its own say too little."""
    status, detail, headers = 500, "An error inside this service; its log says more.", None
    if isinstance(error, ServiceError):
        status, detail, headers = error.status, str(error), error.headers
    elif isinstance(error, RequestValidationError):
        status, detail = 422, "; ".join(map(_request_problem, error.errors())) + "."
    elif isinstance(error, HTTPException):
        status, detail = error.status_code, HTTP_ERRORS.get(error.detail, error.detail)
        headers = dict(error.headers or {})
    return JSONResponse({"detail": detail}, status, headers)


HTTP_ERRORS = {
    "Invalid multipart data.": "The body is not the form that `curl -F files=@export.zip` sends.",
    "There was an error parsing the body": "The body is not what /docs describes for this address.",
    "Not Found": "There is nothing at this address; /docs lists what there is.",
    "Method Not Allowed": "This address takes other methods; /docs lists them.",
}


def _request_problem(error: Any) -> str:
    name = ".".join(part for part in error["loc"][1:] if isinstance(part, str)) or "body"
    if name == "files":
        return "files: upload the export under this name, as `curl -F files=@export.zip` does"
    if name == "body" and error["type"] != "value_error":
        return "body: send a JSON object, with the header Content-Type: application/json"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


# --- What stands before every route

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
BODY_SECONDS = 30.0  # for the whole body of a request
SMALL_BODY_BYTES = 100_000  # where no files are taken
BODIES_HELD = 5  # times MAX_UPLOAD_BYTES
GRACE_SECONDS = 0.4  # for what is under way when the service is stopped
WRONG_HOST = "This service answers to localhost only; name others under which it is reached in ALLOWED_HOSTS."
CROSS_SITE = (
    "A page of another site may not change anything here; name its origin in CORS_ORIGINS if it should."
)
TOO_SLOW = 408, f"The body of the request was not here after {BODY_SECONDS:g} s; send it again."
CROWDED = 503, "Too many uploads are coming in; try again in a moment.", {"Retry-After": "10"}
STOPPING = 503, "The service is being stopped."
SECURITY = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_CONTENT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The page needs its own script and style, this service and TMDB's posters; FastAPI's /docs is from a CDN.
MAY_LOAD = {
    "/": f"{NO_CONTENT}; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src https://image.tmdb.org data:",
    "/docs": f"{NO_CONTENT}; script-src 'unsafe-inline' https://cdn.jsdelivr.net; connect-src 'self'; "
    "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src https://fastapi.tiangolo.com data:",
}


class Guard:
    """Stands before every request: where it comes from, how much it brings, how long that may take.

    A browser sends what any page tells it to, even to localhost. So the Host has to be this machine or an
    allowed name, whatever other name was made to lead here; and what changes something has to come from the
    service's own page, from one of CORS_ORIGINS, or from no browser at all.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._cors = CORSMiddleware(
            self._within_limits,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            expose_headers=["Content-Disposition", "Link", "Location", "Retry-After", "X-Total-Count"],
        )
        self.max_upload_bytes = settings.max_upload_bytes
        self.under_way: set[Exchange] = set()
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, send = Headers(scope=scope), partial(self._secured, send, scope["path"])
        if not all(map(self._is_ours, headers.getlist("host") or [""])):
            await _refusal(421, WRONG_HOST)(scope, receive, send)
        elif scope["method"] not in SAFE_METHODS and not self._may_change(headers):
            await _refusal(403, CROSS_SITE)(scope, receive, send)
        else:
            await self._cors(scope, receive, send)

    def stop(self) -> None:
        """What is under way ends soon, be it a stalled upload or a download that nobody reads."""
        self.stopping = True
        for exchange in self.under_way:
            if not exchange.limit.expired():
                exchange.limit.reschedule(asyncio.get_running_loop().time() + GRACE_SECONDS)

    def _is_ours(self, host: str) -> bool:
        name = re.sub(r":[0-9]*$", "", host.lower())
        if name == "localhost" or name in self._settings.allowed_hosts:
            return True
        with contextlib.suppress(ValueError):
            return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
        return False

    def _may_change(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._settings.cors_origins:
            return True
        if site:
            return site in ("same-origin", "none")
        return origin is None or origin in (f"http://{headers['host']}", f"https://{headers['host']}")

    async def _secured(self, send: Send, path: str, message: Message) -> None:
        if message["type"] == "http.response.start":
            policy = {"Content-Security-Policy": MAY_LOAD.get(path, NO_CONTENT)}
            MutableHeaders(scope=message).update(SECURITY | policy)
        await send(message)

    async def _within_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self, scope, receive, send)
        if int(Headers(scope=scope).get("content-length", 0)) > exchange.most:
            await _refusal(413, exchange.too_large)(scope, receive, send)
            return
        try:
            async with exchange.limit:
                self.under_way.add(exchange)
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if not exchange.limit.expired():
                raise
            if not exchange.answering:
                await _refusal(*(STOPPING if self.stopping else TOO_SLOW))(scope, receive, send)
        finally:
            self.under_way.discard(exchange)


class Exchange:
    """A request under way: how much of it has come, until when it may take, and whether it is answered."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._receive, self._send = guard, receive, send
        self.limit = asyncio.timeout(None if scope["method"] in SAFE_METHODS else BODY_SECONDS)
        self.most, self.too_large = SMALL_BODY_BYTES, f"The body is over {SMALL_BODY_BYTES:,} bytes."
        if scope["path"] == "/api/upload":
            self.most = guard.max_upload_bytes
            self.too_large = f"The upload is over {self.most:,} bytes (MAX_UPLOAD_BYTES)."
        self.taken = 0
        self.answering = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.taken += len(message.get("body", b""))
        if self.taken > self.most and self.answering:
            return {"type": "http.disconnect"}
        if self.taken > self.most:
            raise HTTPException(413, self.too_large)
        held = sum(each.taken for each in self._guard.under_way) if self.taken else 0
        if held > BODIES_HELD * self._guard.max_upload_bytes:
            raise HTTPException(*CROWDED)
        if not message.get("more_body") and not self._guard.stopping:
            self.limit.reschedule(None)
        return message

    async def send(self, message: Message) -> None:
        self.answering = True
        await self._send(message)


def _refusal(status: int, detail: str) -> JSONResponse:
    """Closes the connection only where no body comes: to close it on one that does hides the answer."""
    return JSONResponse({"detail": detail}, status, {"Connection": "close"} if status == 408 else None)


class ShortIds(logging.Filter):
    """Shortens the session ids in uvicorn's access log: a whole one opens the session."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                re.sub(r"([\w-]{6})[\w-]{16,}", r"\1…", arg) if isinstance(arg, str) else arg
                for arg in record.args
            )
        return True


@contextlib.contextmanager
def on_signals(call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` in the event loop before what SIGINT and SIGTERM do anyway.

    uvicorn waits for open streams before it ends the lifespan, so they have to hear of the end from here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal arrives here
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        cast(Callable[..., None], handlers[signal.Signals(number)])(number, frame)

    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in handlers.items():
        signal.signal(number, handle)
        if isinstance(server := getattr(handler, "__self__", None), uvicorn.Server):
            # Naughty, but a client that does not read its download would keep the service alive for ever.
            server.config.timeout_graceful_shutdown = server.config.timeout_graceful_shutdown or 1
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(settings.log_level)
    # By default Python looks for garbage cycles after every 700 objects, in the end through every film held;
    # statistics of 7,000 films took half as long again. So: seldom, but never so much that the loop stands
    # still, 1 ms for the young objects, 5 ms for the middle ones.
    gc.set_threshold(5_000, 5, 400)
    access, short_ids = logging.getLogger("uvicorn.access"), ShortIds()
    access.addFilter(short_ids)
    async with (
        TMDBClient(settings) as tmdb,
        SessionStore(settings.session_ttl_seconds, settings.max_sessions, settings.max_memory_bytes) as store,
    ):
        if tmdb.key_state == "missing":
            log.warning("no TMDB_API_KEY is set: films are read from the export and not looked up")
        app.state.service = Service(settings, tmdb, store)

        def stop() -> None:
            store.end_streams()
            app.state.guard.stop()

        with on_signals(stop):
            yield
    access.removeFilter(short_ids)


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(
        title="Letterboxd export, looked up in TMDB",
        version="1.0",
        description=ABOUT,
        lifespan=lifespan,
        generate_unique_id_function=attrgetter("name"),
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        exception_handlers=dict.fromkeys(
            (ServiceError, RequestValidationError, HTTPException, Exception), show_error
        ),
    )
    app.state.settings = settings
    app.include_router(routes)
    app.include_router(of_session)
    # Outermost, so that errors of the framework have its headers too; add_middleware would put it further in.
    app.state.guard = app.middleware_stack = Guard(app.build_middleware_stack(), settings)
    return app


ABOUT = """Upload a Letterboxd export, follow its session, read its films and statistics, correct and download
them; or let [the page](/) do it.

    curl -F files=@letterboxd-me-2026-01-01-00-00-utc.zip localhost:8000/api/upload
    curl localhost:8000/api/session/SESSION_ID
    curl localhost:8000/api/session/SESSION_ID/movies

A session is kept in memory and forgotten an hour after its films have been looked up.
This product uses the TMDB API but is not endorsed or certified by TMDB."""


def refuse_workers(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Each worker would know some of the sessions only."""
    told = re.findall(r" (?:--workers[= ]|-w[= ]?)(\d+)", " ".join(arguments))
    asked = told[-1] if told else environ.get("WEB_CONCURRENCY", "")
    if asked.isdecimal() and int(asked) > 1:
        sys.stderr.write(
            "The sessions are in the memory of one process, so with more than one worker most requests would "
            "miss theirs. Start it with one worker, without --workers and WEB_CONCURRENCY.\n"
        )
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)  # at which uvicorn starts no further worker


refuse_workers(sys.argv, os.environ)
app = create_app(Settings.load())

if __name__ == "__main__":
    settings = app.state.settings
    uvicorn.run(app, host=settings.host, port=settings.port)
