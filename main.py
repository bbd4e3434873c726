# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "fastapi==0.165.0",
#     "uvicorn==0.54.0",
#     "aiohttp==3.14.5",
#     "python-dotenv==1.2.4",
#     "python-multipart==0.0.34",
#     "fastapi-swagger==0.4.64",
#     "platformdirs==4.14.9",
#     "pydantic==2.14.3",
#     "starlette==1.10.0",
#     "anyio==4.16.0",
# ]
# ///
"""Reads a Letterboxd export and looks up every film in TMDB.

    python main.py letterboxd-me-2026-01-01-00-00-utc.zip      # prints what is in it
    uvicorn main:app                                           # serves http://localhost:8000
    curl -F files=@letterboxd-me-2026-01-01-00-00-utc.zip localhost:8000/api/upload

An upload returns a session id at once. The films are looked up in the background, as fast as TMDB allows.
Everything is kept in memory; a session is deleted an hour (SESSION_TTL_SECONDS) after its lookups finish.
With DATABASE_URL, postgres/ keeps sessions in PostgreSQL, for 30 days and for several processes.
page/, beside this file, is the web page; this file works without it. The sections, in reading order:

    Settings     what can be set, with default, unit and help
    Errors       what can go wrong, and the HTTP status of each
    Films        the words of the domain: Film, Viewing, Movie, Match
    Export       an upload -> CSVs: ZIPs, paths, limits
    Cells        what headers and cells say: words, numbers, dates, addresses
    Sources      CSVs -> lines of cells: encodings, headers, lists, warnings
    Tables       lines -> rows: file kinds and columns
    Joining      rows -> films
    Matching     film + candidates -> match: scores, judgement, search queries, the list of known films
    Records      TMDB's JSON -> movies and candidates
    Pace         when the next request to TMDB may go, and which one: rate, refusals, Retry-After, outages
    Memory       what is remembered of TMDB's answers, in the process and in a file
    TMDB         the client
    Charts       films -> bars, rankings and lists
    Statistics   films -> numbers; pure functions
    Sessions     Session: progress, when to give up; SessionStore: a dict whose entries expire
    Enrichment   the task that fills in a session; retries and corrections
    Answers      what goes over the wire as JSON
    Downloads    the CSVs: films, matches, lists, Letterboxd's import format
    Guard        checks of Host and Origin, limits on size and time, security headers, CORS
    Routes       the endpoints of the API
    App          signals, one process only, lifespan, create_app
    Terminal     an export analysed without a server; the command line

The app's lifespan owns the TMDB client, the matcher (with the corrections) and the store. The store owns the
sessions, and a session owns its enrichment task. Apart from these, nothing is kept between requests.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program at any time without a traceback

import argparse
import asyncio
import codecs
import contextlib
import csv
import difflib
import gc
import gzip
import hashlib
import heapq
import html
import io
import itertools
import json
import logging
import math
import os
import random
import re
import secrets
import socket
import sqlite3
import string
import sys
import threading
import time
import unicodedata
import weakref
import webbrowser
import zipfile
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
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
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Protocol, Self, TypeVar, cast, get_args
from urllib.parse import urlencode, urlsplit

import aiohttp
import anyio.to_thread
import uvicorn
from dotenv import dotenv_values
from fastapi import APIRouter, Depends, FastAPI, File, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from platformdirs import user_cache_path
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.logging import ColourizedFormatter

log = logging.getLogger("letterboxd")

# The short id of the session for which a request to TMDB is logged.
log_id: ContextVar[str] = ContextVar("log_id", default="-")


# === Settings =================================================================
# Each setting is described once, here: .env.example and the README's table repeat these words, and a test
# compares them. Values come from the environment, or from a .env file beside this one. Blank means not set.


def _split(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _check_url(value: str) -> str:
    with contextlib.suppress(ValueError):  # a port over 65535, a bracket that is not closed, two dots
        url = urlsplit(value)
        is_real = url.port != 0 and (url.hostname or "").encode("idna")
        if is_real and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            return value.rstrip("/")
    raise ValueError("must be a URL such as https://api.themoviedb.org/3")


def _check_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    origins = tuple(origin.rstrip("/").lower() for origin in value)
    if not all(re.fullmatch(r"https?://[^\s/?#@*]+", origin) for origin in origins):
        raise ValueError("each origin must look like http://localhost:3000, with no path and no *")
    return origins


def _check_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", host) for host in value):
        raise ValueError("each must be a host name or IP address, without http:// or a port")
    return tuple(host.lower() for host in value)


def _check_database_url(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"(postgresql\+asyncpg://[^\s/]+/[^\s/]+)?", value.get_secret_value()):
        raise ValueError("must be a URL such as postgresql+asyncpg://user:password@localhost/letterboxd")
    return value


def _check_key(value: SecretStr) -> SecretStr:
    if value.get_secret_value().lower().strip("<>").startswith("your"):
        raise ValueError("is still the example; put your own key there, or leave it blank")
    if not re.fullmatch(r"[!-~]*", value.get_secret_value()):
        raise ValueError("must be a v3 key or a v4 token, without spaces or non-ASCII characters")
    return value


class Settings(BaseModel):
    """All settings. The environment variable is the field's name in capitals."""

    model_config = ConfigDict(frozen=True)

    tmdb_api_key: Annotated[SecretStr, AfterValidator(_check_key)] = Field(
        default=SecretStr(""),
        description="Your TMDB key (32 hex characters) or token (starts with eyJ), from "
        "https://www.themoviedb.org/settings/api. Without one, exports are read but no film is looked up.",
    )
    tmdb_base_url: Annotated[str, AfterValidator(_check_url)] = Field(
        default="https://api.themoviedb.org/3", description="Base URL of TMDB's v3 API."
    )
    tmdb_requests_per_second: float = Field(
        default=40,
        gt=0,
        le=10_000,
        description="For all sessions together. TMDB allows about 40 per IP address.",
    )
    tmdb_connections: int = Field(
        default=20, ge=1, le=1_000, description="Concurrent requests to TMDB. TMDB allows 20 per IP address."
    )
    tmdb_timeout_seconds: float = Field(
        default=10, gt=0, le=300, description="Time allowed for one request before it is retried."
    )
    tmdb_cache: str = Field(
        default="",
        description="File that keeps TMDB's answers for the next run, or `off`. By default, the command line "
        "uses one in your cache folder, and the service keeps them in memory.",
    )
    database_url: Annotated[SecretStr, AfterValidator(_check_database_url)] = Field(
        default=SecretStr(""),
        description="Keeps sessions in PostgreSQL, for example "
        "postgresql+asyncpg://user:password@localhost/letterboxd. Without it, they are kept in memory.",
    )
    session_ttl_seconds: float = Field(
        default=3600,
        gt=0,
        le=7_776_000,
        description="How long a session is kept after its films have been looked up: 3600 by default; with "
        "DATABASE_URL, 2592000 (30 days).",
    )
    max_sessions: int = Field(
        default=50,
        ge=1,
        description="Sessions held at once. Further uploads get a 503; with DATABASE_URL, only if all of "
        "them are being looked up.",
    )
    max_stored_sessions: int = Field(
        default=10_000,
        ge=1,
        description="Sessions stored at once, with DATABASE_URL. Beyond that, those that ended first are "
        "deleted, and uploads get a 503 if none has ended.",
    )
    max_memory_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        description="Estimated memory of all sessions together, not counting the process itself: about "
        "70 MB, and up to 500 MB while it reads uploads and sends answers. Further uploads get a 503.",
    )
    max_upload_bytes: int = Field(
        default=20_000_000,
        ge=1,
        description="Size of one upload. Larger ones get a 413. The largest export seen is a tenth of this.",
    )
    max_films: int = Field(default=20_000, ge=1, description="Films in one upload. More get a 413.")
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check_origins)] = Field(
        default=("http://localhost:3000",),
        description="Comma-separated origins whose pages may call the API.",
    )
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check_hosts)] = Field(
        default=(), description="Comma-separated host names to accept besides localhost."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR."
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_stored_sessions_longer(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"session_ttl_seconds": 30 * 86_400} | given if given.get("database_url") else given

    @classmethod
    def load(cls, environ: dict[str, str | None] | None = None) -> Settings:
        """From `environ`, by default the environment and .env. Raises SystemExit if a value is wrong."""
        if environ is None:
            environ = {**_read_env(Path(__file__).with_name(".env")), **os.environ}
        given = {name: (environ.get(name.upper()) or "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            raise SystemExit("\n".join(map(_setting_problem, error.errors()))) from None


def _read_env(path: Path) -> dict[str, str | None]:
    """UTF-8, or UTF-16 as PowerShell writes it. Raises SystemExit for anything else."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}.") from None
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    if "\0" in text or "\ufffd" in text:
        raise SystemExit(f"{path.name} is neither UTF-8 nor UTF-16 text; save it as UTF-8.")
    return dotenv_values(stream=io.StringIO(text))


def _setting_problem(error: Any) -> str:
    name = str(error["loc"][0]).upper()
    secret = name in ("TMDB_API_KEY", "TMDB_BASE_URL", "DATABASE_URL")  # a pasted URL may contain the key
    given = "" if secret else f" is {error['input']!r}"
    return f"{name}{given}: {error['msg'].removeprefix('Value error, ')}. See .env.example."


# === Errors ===================================================================
#
#   ServiceError
#    ├─ UnusableUpload    400   no file of the upload could be read as films
#    ├─ SessionNotFound   404   unknown, expired or malformed session id
#    ├─ NotInSession      404   the session has no film, or no list, with that number
#    ├─ SessionBusy       409   its films are still being looked up
#    ├─ NothingToUndo     409   the film has no choice by hand to take back
#    ├─ UploadTooLarge    413   too many bytes, rows or films
#    ├─ StoreFull         503   no room for another session
#    └─ TMDBError         502   why a film, a session or a correction failed
#        ├─ TMDBUnavailable     no usable answer, or one that will not change if asked again
#        ├─ TMDBKeyRejected     TMDB rejects the key, or there is none
#        ├─ TMDBSilent          no film could be looked up for minutes
#        └─ TMDBNotFound  404   TMDB has no record with that id


class ServiceError(Exception):
    """Its text is one sentence for people: what was wrong, and what would be right."""

    status = 500
    headers: dict[str, str] | None = None


class UnusableUpload(ServiceError):
    status = 400


class SessionNotFound(ServiceError):
    status = 404

    def __init__(self) -> None:
        super().__init__(
            "There is no such session: check its id, or upload the export again if it has expired."
        )


class NotInSession(ServiceError):
    status = 404


class SessionBusy(ServiceError):
    status = 409


class NothingToUndo(ServiceError):
    status = 409

    def __init__(self) -> None:
        super().__init__("There is nothing to undo: only the latest choice for a film can be, and once.")


class UploadTooLarge(ServiceError):
    status = 413


class StoreFull(ServiceError):
    status = 503

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"There is no room for another session; try again in {retry_after_seconds} s.")
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
# joins them. Sessions with the same film share one Movie and one Match, so these are frozen. The API calls
# films movies, as its clients do.

MediaType = Literal["movie", "tv"]
TMDBRef = tuple[MediaType, int]  # a movie and a series can have the same id
MatchStatus = Literal["pending", "exact", "guessed", "corrected", "not_found", "failed"]


class TMDBName(str):
    """A name with its TMDB id, which distinguishes namesakes."""

    __slots__ = ("__weakref__", "identity")
    identity: int | str  # TMDB's id, or the name if it has none


class Person(TMDBName):
    __slots__ = ("portrait_url",)
    portrait_url: str | None


class Company(TMDBName):
    __slots__ = ()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Movie:
    """TMDB's record of a film or a series. `runtime` is in minutes, None if unknown."""

    tmdb_id: int
    tmdb_type: MediaType
    imdb_id: str | None
    title: str
    original_title: str
    release_date: str | None
    runtime: int | None
    genres: tuple[str, ...]
    directors: tuple[Person, ...]
    cast: tuple[Person, ...]
    writers: tuple[Person, ...]
    composers: tuple[Person, ...]
    cinematographers: tuple[Person, ...]
    editors: tuple[Person, ...]
    producers: tuple[Person, ...]
    studios: tuple[Company, ...]
    countries: tuple[str, ...]
    languages: tuple[str, ...]
    keywords: tuple[str, ...]
    poster_url: str | None
    tmdb_rating: float | None
    tmdb_votes: int
    collections: tuple[TMDBName, ...]  # at most one
    original_language: str | None = None  # ISO 639-1
    backdrop_url: str | None = None
    other_titles: tuple[str, ...] = ()  # alternative and translated ones, if they were asked for

    @property
    def collection(self) -> TMDBName | None:
        return next(iter(self.collections), None)

    @property
    def year(self) -> int | None:
        return year_of(self.release_date)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Collection:
    """TMDB's group of films that belong together, such as a film and its sequels."""

    name: str
    released: Mapping[int, str]  # by TMDB's ids, the titles of the parts that are out


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of TMDB's search results. Each point of `score` means ten times as likely."""

    tmdb_id: int
    tmdb_type: MediaType
    title: str
    original_title: str
    year: int | None
    votes: int
    popularity: float
    poster_url: str | None
    score: float = 0

    @property
    def ref(self) -> TMDBRef:
        return self.tmdb_type, self.tmdb_id


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Match:
    """Which movie a film is, how sure that is, and why, in words for the member."""

    status: MatchStatus
    reason: str
    movie: Movie | None = None
    candidates: tuple[Candidate, ...] | None = ()  # best first; None if there was no search
    by_hand: bool = False  # chosen or cleared by the member, so no search may change it


PENDING = Match("pending", "Waiting to be looked up in TMDB.")


@dataclass(slots=True)
class Viewing:
    """One diary entry, or a review outside the diary. Its rating may differ from the film's."""

    watched_date: date | None = None
    rating: float | None = None
    rewatch: bool = False
    tags: tuple[str, ...] = ()
    review: str = ""
    entry_uri: str = ""


@dataclass(slots=True)
class Film:
    """What the member logged about one film, from all files. `rating` is in stars from 0.5 to 5."""

    title: str
    year: int | None
    film_uri: str = ""
    letterboxd_number: int | None = None  # Letterboxd's id, which a short film_uri contains
    rating: float | None = None
    watched: bool = False
    liked: bool = False
    watchlist: bool = False
    added_date: date | None = None  # when it was marked as watched or liked, or added to the watchlist
    watchlist_date: date | None = None  # when it was added to the watchlist
    viewings: list[Viewing] = field(default_factory=list)  # latest first once the export has been read
    undated_reviews: list[Viewing] = field(default_factory=list)  # reviews that are not in the diary
    tmdb_ref: TMDBRef | None = None  # from the upload, like the next four
    imdb_id: str = ""
    tmdb_type: MediaType | None = None
    directors: str = ""  # separated by commas
    given_status: MatchStatus = "exact"  # that of these ids, if the file is a download of this service
    lists: list[int] = field(default_factory=list)  # the places of its lists in the session, from 1
    movie_id: int = 0  # its place in the session, from 1
    match: Match = PENDING

    @property
    def name(self) -> str:
        """The title, or TMDB's if the upload gives none."""
        movie = self.match.movie
        return self.title or (movie.title if movie else "")

    @property
    def titles(self) -> set[str]:
        """The member's title and TMDB's two."""
        movie = self.match.movie
        return {self.title, movie.title, movie.original_title} if movie else {self.title}

    @property
    def release_year(self) -> int | None:
        """The export's year, or TMDB's if the upload gives none."""
        return self.year or (self.match.movie.year if self.match.movie else None)

    @property
    def watched_date(self) -> date | None:
        return next((viewing.watched_date for viewing in self.viewings if viewing.watched_date), None)

    @property
    def entries(self) -> list[Viewing]:
        return self.viewings + self.undated_reviews

    @property
    def uri(self) -> str:
        """Its own, or that of an entry if it is known from the diary alone."""
        return self.film_uri or next((entry.entry_uri for entry in self.entries if entry.entry_uri), "")


@dataclass(slots=True)
class FilmList:
    """A list that the member made, or that somebody exported. `entries` are movie_ids and notes, in order."""

    name: str
    list_date: date | None = None
    tags: tuple[str, ...] = ()
    list_uri: str = ""
    description: str = ""
    entries: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Profile:
    """What is read of the member's profile, and no more. `favourites` are up to four movie_ids."""

    username: str
    name: str
    favourites: list[int]


def identity_key(film: Film) -> Hashable:
    """A key that is the same for one film in every upload."""
    ids = film.letterboxd_number or film.film_uri or (film.tmdb_ref, film.imdb_id)
    return film.title, film.year, ids, *([film.directors] if film.directors else [])


BASE62 = {digit: i for i, digit in enumerate(string.digits + string.ascii_lowercase + string.ascii_uppercase)}
SHORT_URI = re.compile(r"(?:https?://)?boxd\.it/([0-9a-zA-Z]{1,8})/?")
IMDB_ID = re.compile(r"tt[0-9]{5,10}")
IMDB_URL = re.compile(r"(?i)(?:https?://)?(?:www\.|m\.)?imdb\.com/title/(tt[0-9]{5,10})(?:[/?#].*)?")
LETTERBOXD_URL = re.compile(r"(?i)(?:https?://)?(?:(?:www\.)?letterboxd\.com|boxd\.it)/[!-~]*")
LONG_URI = re.compile(r"(?:https?://)?(?:www\.)?letterboxd\.com/([\w-]+/)?film/([\w-]+)(?:/.*)?")
TMDB_URL = re.compile(
    r"(?i)(?:https?://)?(?:www\.)?themoviedb\.org/(movie|tv)/([1-9][0-9]{0,8})(?:[-/?#](?!.*season/).*)?"
)


def parse_short_uri(uri: str) -> tuple[int, bool] | None:
    """`(number, is_film)` of a short URI: 'https://boxd.it/2a1m' is film 51518. None for any other URI.

    The code is a number in base 62. Its last decimal digit is a type (0 is a film); the other digits are
    Letterboxd's id. This held for all 24,960 film URIs and 68,600 diary URIs of 97 exports.
    """
    code = SHORT_URI.fullmatch(uri)
    if code is None:
        return None
    value = 0
    for digit in code[1]:
        value = value * 62 + BASE62[digit]
    return value // 10, value % 10 == 0


def parse_tmdb_url(url: str) -> TMDBRef | None:
    """'https://www.themoviedb.org/movie/27205-inception' is ('movie', 27205). None for any other address."""
    page = TMDB_URL.fullmatch(url.strip())
    return (cast(MediaType, page[1].lower()), int(page[2])) if page else None


def tmdb_url(tmdb_type: MediaType, tmdb_id: int) -> str:
    return f"https://www.themoviedb.org/{tmdb_type}/{tmdb_id}"


def year_of(iso_date: str | None) -> int | None:
    return int(iso_date[:4]) if iso_date and re.match(r"[0-9]{4}-", iso_date) else None


def normalize_title(title: str) -> str:
    """A key that is the same for equal titles: ignores case, spacing and how an accent is encoded."""
    return " ".join(unicodedata.normalize("NFC", title).casefold().split())


def share_a_name(names: str, others: str) -> bool:
    """Whether two lists of people have one in common, however they are separated: 'Coen, Joel & Ethan'.

    A blank list may be anybody.
    """
    own, other = ({fold_title(word) for word in re.findall(r"\w+", each)} for each in (names, others))
    return len(own & other) >= min(2, len(own), len(other))


def fold_title(title: str) -> str:
    """A key that is the same for similar titles: ignores accents and punctuation as well."""
    spelled = unicodedata.normalize("NFKD", title.casefold().replace("×", "x").replace("&", "and"))
    return "".join(filter(str.isalnum, spelled)) or normalize_title(title)


# === Export ===================================================================
# An upload -> CSVs that may list films. An upload is ZIPs, CSVs or both. Files are recognised by their path,
# since people re-zip and rename them.
#
# The limits here and in Tables are far above any real export: one has a few dozen files, unpacks to at most
# 8 MB (four times its size), and has 11 columns, titles of 151 characters, and one row per film or viewing.

FILM_FILES = {"watched.csv", "ratings.csv", "watchlist.csv", "likes/films.csv", "diary.csv", "reviews.csv"}
PROFILE = "profile.csv"
IGNORED_FILES = {"comments.csv", "likes/reviews.csv", "likes/lists.csv"}
IGNORED_FOLDERS = {"deleted", "orphaned", "__macosx"}


class Unreadable(Exception):
    """Why one file of an upload cannot be used."""


MAX_FILES = 2_000  # in one ZIP: zipfile would take seconds to list 60,000
MAX_UNPACKED_BYTES = 40_000_000
MAX_ROWS = 100_000
MAX_READING_SECONDS = 3  # of one CPU


@dataclass(slots=True)
class Limits:
    """What one upload, all its files together, may still cost. Time is that of the thread it is read in."""

    unpacked_bytes: int = MAX_UNPACKED_BYTES
    rows: int = MAX_ROWS
    seconds: float = MAX_READING_SECONDS
    clock: Callable[[], float] = time.thread_time
    started_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def count_unpacked(self, count: int) -> None:
        self.check_time()
        self.unpacked_bytes -= count
        if self.unpacked_bytes < 0:
            raise UploadTooLarge(f"The upload unpacks to over {MAX_UNPACKED_BYTES:,} bytes.")

    def count_row(self) -> None:
        self.check_time()
        self.rows -= 1
        if self.rows < 0:
            raise UploadTooLarge(f"The upload has over {MAX_ROWS:,} rows.")

    def check_time(self) -> None:
        if self.clock() - self.started_at > self.seconds:
            raise UploadTooLarge(
                f"The upload takes over {self.seconds:g} s to read, which no export does; "
                "upload the ZIP as Letterboxd exports it."
            )


def csvs_in(name: str, data: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    """The `(path, bytes)` that may list films: the file itself, or the files of a ZIP."""
    if not data.startswith(b"PK"):
        path = _path_in_export(name)  # from a folder, the rules of a ZIP apply
        return [(path, data)] if path else []
    _check_format(data)
    try:
        return list(_unzipped(data, limits))
    except (Unreadable, UploadTooLarge):
        raise
    except Exception:  # zipfile raises anything on a damaged archive, even IndexError
        log.debug("damaged ZIP", exc_info=True)
        raise Unreadable("the ZIP is damaged; export it from Letterboxd again") from None


def _unzipped(data: bytes, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """The files that may list films. The sizes that a ZIP declares are not trusted."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise Unreadable("the ZIP is incomplete; download or upload it again")
    if data.count(b"PK\1\2") > MAX_FILES:
        raise UploadTooLarge(f"The ZIP has over {MAX_FILES:,} files, which no export does.")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        wanted = [(path, info) for info in archive.infolist() if (path := _path_in_export(info.filename))]
        if all(path == PROFILE for path, _ in wanted):
            raise Unreadable(
                f"the ZIP has nothing that lists films, only {_few(names)}" if names else "is an empty ZIP"
            )
        _check_files([info for _, info in wanted])
        if sum(info.compress_size for _, info in wanted) > len(data):  # Python before 3.11.8 unpacks them
            raise Unreadable("files in the ZIP overlap; export it from Letterboxd again")
        for path, info in wanted:
            yield path, _unpacked(archive, info, limits)


MAX_TOLD = 6  # files or problems in one sentence


def _few(items: Sequence[str], separator: str = ", ", most: int = MAX_TOLD) -> str:
    """The first of them, and how many more there are."""
    rest = len(items) - most
    return separator.join([*items[:most], *([f"{rest:,} more"] if rest > 0 else [])])


# What people upload instead of a CSV or a ZIP of CSVs, by how it starts and what a ZIP lists at its end.
FORMATS = {
    rb"PK.*\bxl/workbook": "an Excel workbook; save it as CSV (UTF-8)",
    rb"PK.*Index(/Document\.iwa|\.zip)": "a Numbers document; export it as CSV (UTF-8)",
    rb"PK.*(\bcontent\.xml|\bword/)": "an OpenDocument or Word file; save its table as CSV (UTF-8)",
    rb"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV (UTF-8)",
    rb"\x1f\x8b|7z\xbc\xaf|Rar!|.{257}ustar": "an archive, but no ZIP; unpack it and upload what is in it",
    rb"\s*(<(!doctype|html|\?xml)|\{|\[\s*\{)": "a web page, XML or JSON; export the films as CSV instead",
    rb"%PDF|\x89PNG|\xff\xd8\xff|SQLite": "a PDF, picture or database; export the films as CSV instead",
}


def _check_format(data: bytes) -> None:
    sample = data[:1_000].removeprefix(codecs.BOM_UTF8) + data[-20_000:]
    for pattern, what in FORMATS.items():
        if re.match(pattern, sample, re.DOTALL | re.IGNORECASE):
            raise Unreadable(f"is {what}")


def _check_files(files: list[zipfile.ZipInfo]) -> None:
    counts = Counter(info.filename for info in files)
    for info in files:
        name = info.filename[-100:]
        if info.flag_bits & 1:
            raise Unreadable(f"{name} is encrypted; re-create the ZIP without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(f"{name} uses an unsupported compression method; re-create the ZIP with Deflate")
        if counts[info.filename] > 1:
            raise Unreadable(f"the ZIP contains {counts[info.filename]} files named {name}; keep one")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> bytes:
    content = bytearray()
    try:
        with archive.open(info) as file:
            while chunk := file.read(65_536):
                limits.count_unpacked(len(chunk))
                content += chunk
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise Unreadable(f"{info.filename[-100:]} is damaged or not what the ZIP declares") from None
    return bytes(content)


def _path_in_export(path: str) -> str | None:
    """`path` without the wrapper folders of a re-zip. None for what does not list the member's films."""
    if len(path) > 1_000:
        return None
    parts = path.replace("\\", "/").split("/")
    for start, folder in enumerate(parts):
        inner = "/".join(parts[start : start + 3]).lower()  # none of the known paths is deeper
        if inner in FILM_FILES or inner == PROFILE or re.fullmatch(r"lists/[^/.][^/]{,100}", inner):
            return inner
        if inner in IGNORED_FILES or (folder.lower() in IGNORED_FOLDERS and start < len(parts) - 1):
            return None
    name = parts[-1]  # blank for a folder, whose path ends with a slash
    return None if name.startswith(".") else name[-100:] or None


# === Cells ====================================================================
# What headers and cells say: words, numbers, dates, addresses. Dates may be written 2024-12-31, or 31/12/2024
# if the file shows which is the day. A parser raises ValueError with what would be right.

T = TypeVar("T")

NOT_GIVEN = {"", "na", "n/a", "nan", "null", "none", "-"}
TIME = r"([ T,]+[0-9]{1,2}:[0-9]{2}(:[0-9.]+)? ?([AaPp][Mm]|Z|UTC|[+-][0-9:]+)?)?"
ISO_DATE = re.compile(rf"((?:1[0-9]|20)[0-9]{{2}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{1,2}}){TIME}")
SLASH_DATE = re.compile(rf"([0-9]{{1,2}})[/.-]([0-9]{{1,2}})[/.-]((?:1[89]|20)?[0-9]{{2}}){TIME}")

MAX_TITLE_LENGTH = 300
MAX_CELL_LENGTH = 300  # in columns that are not listed here
MAX_CELL_LENGTHS = {"title": MAX_TITLE_LENGTH, "directors": 2_000, "tags": 20_000, "review": 1_000_000}


def _by_word(text: str) -> dict[str, str]:
    """From each word to what it means, given lines of 'meaning: words', or of words that mean themselves."""
    lines = (line.rpartition(":") for line in text.splitlines())
    return {word: meaning.strip() or word for meaning, _, words in lines for word in words.split()}


# Of columns that mean the same, the one named first here is read.
COLUMNS = _by_word("""
    title: name title film movie filmname filmtitle moviename movietitle originaltitle
    year: year releaseyear yearreleased yearofrelease filmyear movieyear released releasedate
    uri: letterboxduri letterboxdurl uri url
    tmdbID: tmdbid tmdb themoviedbid
    imdbID: imdbid imdb const tconst imdburl
    type: tmdbtype type titletype mediatype
    directors: directors director directedby
    date: date created createdat added addedat dateadded listedat daterated ratedat
    watched date: watcheddate watchedat watchedon datewatched lastwatched lastwatchedat lastviewedat dateseen
    watchlist date: watchlistdate watchlistedat
    rating: yourrating yourated userrating myrating ownerrating personalrating myscore yourscore rating score
    rating10: rating10 ratings10 ratingoutof10
    tmdbURL: tmdburl
    rewatch tags review position movieid
    liked: liked like favorite favourite
    watched: watched seen checked
    state: status watchstatus
    on watchlist: watchlist
    match: matchstatus
""")
STATES = _by_word("""
    watched: watched seen completed finished
    watchlist: watchlist plantowatch planned towatch wanttowatch wishlist
    none: watching dropped abandoned hold onhold paused notinteresting unwatched notwatched unseen notseen
""")
YES_OR_NO = _by_word("yes: yes true y x 1 \n no: no false n 0")
TYPES = _by_word("""
    movie: movie film feature featurefilm short shortfilm documentary video tvmovie tvspecial tvshort
    tv: tv series show tvseries tvshow serietv miniseries tvminiseries miniserietv limitedseries
    none: episode tvepisode season tvseason videogame game podcast podcastseries podcastepisode
""")


def _is_long_entry(uri: str) -> bool:
    return bool((long := LONG_URI.fullmatch(uri)) and long[1])


def _parser(pattern: str, expected: str, convert: Callable[[str], T]) -> Callable[[str], T]:
    """Parses cells that match `pattern`. `expected` says what would be right for the others."""

    def parse(text: str) -> T:
        if not re.fullmatch(pattern, text):
            raise ValueError(expected)
        return convert(text)

    return parse


class _NotAFilm(Exception):
    """Why a row is left out. Completes the sentence whose subject is the row."""


TITLE_ENDING = re.compile(r"(.*\S)\s*[(\[]([^()\[\]]{1,40})[)\]]")
ENTITY = re.compile(r"&(#[0-9]{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});")
INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
HEADING = re.compile(r"(?i)\b(watched|seen|to[ -](see|watch)|watchlist|wishlist)\b|:$")
EPISODE = re.compile(r"(?i): (season|series) [0-9]+: ")  # as in Netflix's history
YEAR_IN_TITLE = re.compile(r"[(\[](18|19|20|21)[0-9]{2}[)\]]")
NUMBER = re.compile(r"[0-9]{1,3}([.,][0-9]{1,4})?")


def _from_title(title: str, year: int | None, tmdb_type: str | None) -> tuple[str, int | None, str | None]:
    """Title, year and type, of which other tools write the last two behind the title: 'Alien (1979)'."""
    title = INVISIBLE.sub("", ENTITY.sub(lambda entity: html.unescape(entity[0]), title))
    while ending := TITLE_ENDING.fullmatch(title):
        years = re.findall(r"\b(?:18|19|20|21)[0-9]{2}\b", ending[2])
        word = _squash(re.sub(r"\b[0-9]{4}\b", "", ending[2]))
        found = int(years[0]) if years else year, TYPES.get(word, tmdb_type)
        if found[1] == "none":
            raise _NotAFilm(f"is left out, since it is '{ending[2]}'")
        if word not in ("", *TYPES) or (year or found[0], tmdb_type or found[1]) != found:
            break
        title, (year, tmdb_type) = ending[1], found
    return title, year, tmdb_type


def _word_parser(words: dict[str, str], expected: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        meaning = words.get(_squash(text))
        if meaning is None:
            raise ValueError(expected)
        if meaning == "none":
            raise _NotAFilm(f"is left out, since it is '{text}'")
        return meaning

    return parse


def _parse_address(text: str) -> tuple[str, Any]:
    """The column whose value the address gives, and the value."""
    if LETTERBOXD_URL.fullmatch(text):
        return "uri", text
    if page := IMDB_URL.fullmatch(text):
        return "imdbID", page[1]
    if ref := parse_tmdb_url(text):
        return "tmdbURL", ref
    raise ValueError("an address at letterboxd.com, boxd.it, imdb.com or themoviedb.org")


_parse_year = _parser(
    r"([0-9]{1,2}[/.-][0-9]{1,2}[/.-])?\(?(18|19|20|21)[0-9]{2}\)?(\.0|[-–/][0-9–/T:.Z -]*)?",  # or a date
    "between 1800 and 2199",
    lambda text: int(re.findall(r"[0-9]{4}", text)[0]),
)
_parse_tmdb_url = _parser(
    TMDB_URL.pattern, "a TMDB URL such as https://www.themoviedb.org/movie/27205", parse_tmdb_url
)
_parse_imdb_id = _parser(
    rf"((https?://)?(\w+\.)?imdb\.com/title/)?{IMDB_ID.pattern}([/?#].*)?",
    "an IMDb id such as tt1375666",
    lambda text: IMDB_ID.findall(text)[0],
)


def _parse_rating(text: str, max_stars: int) -> float | None:
    """Stars out of 5, from a rating out of `max_stars`. Other tools write 0 for "not rated"."""
    text, step = text.replace(",", "."), max_stars / 10
    rating = float(text) if NUMBER.fullmatch(text) else -1
    if rating and not (step <= rating <= max_stars and rating % step == 0):
        raise ValueError(f"between {step:g} and {max_stars} in steps of {step:g}")
    return rating / max_stars * 5 or None


def _parse_yes(text: str) -> bool:
    if text.casefold() not in YES_OR_NO:
        raise ValueError("yes or no")
    return YES_OR_NO[text.casefold()] == "yes"


def _parse_tags(text: str, shared: dict[str, str]) -> tuple[str, ...]:
    """Equal tags of a file become one string."""
    tags = (tag for part in _clean(text).split(",") if (tag := part.strip()))
    return tuple(shared.setdefault(tag, tag) for tag in tags)


def _parse_date(text: str, day_first: bool | None) -> date:
    if parts := SLASH_DATE.fullmatch(text):
        first, second, year = map(int, parts.groups()[:3])
        if re.match(r"[0-9]{2}-[0-9]{2}-[0-9]{2}(?![0-9])", text):
            raise ValueError("written like 2024-12-31, since year and day cannot be told apart")
        year += 0 if year > 99 else 2000 if year < 30 else 1900
        if "." in text or max(first, second) > 12:
            day_first = "." in text or first > 12
        if day_first is None and first != second:
            raise ValueError("written like 2024-12-31, since day and month cannot be told apart")
        month, day = (second, first) if day_first else (first, second)
    elif parts := ISO_DATE.fullmatch(text):
        year, month, day = map(int, parts.groups()[:3])
    else:
        raise ValueError("a date such as 2024-12-31")
    try:
        return date(year, month, day)
    except ValueError:
        raise ValueError("a valid date") from None


CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]+"
)  # commands to a terminal, for example


def _clean(text: str) -> str:
    return text if text.isprintable() else CONTROL.sub("", text)


def _squash(text: str) -> str:
    """Without case, spaces and punctuation, as far as words of COLUMNS, STATES and TYPES are long."""
    return "".join(filter(str.isalnum, text[:40].casefold()))


# Columns of plain text have no parser. A table adds the parsers that depend on its file.
PARSERS: dict[str, Callable[[str], Any]] = {
    "year": _parse_year,
    "rating10": partial(_parse_rating, max_stars=10),
    **dict.fromkeys(("watched", "liked", "rewatch"), _parse_yes),
    "state": _word_parser(STATES, "like completed or plan to watch"),
    "on watchlist": _word_parser(STATES | YES_OR_NO, "yes or no"),
    "type": _word_parser(TYPES, "like film or series"),
    "uri": _parse_address,
    "tmdbID": _parser(r"[1-9][0-9]{0,8}(\.0)?", "a number such as 27205", lambda text: int(float(text))),
    "tmdbURL": _parse_tmdb_url,
    "imdbID": _parse_imdb_id,
    "match": lambda text: text if text in ("guessed", "corrected") else "exact",
}


# === Sources ==================================================================
# CSVs -> lines of cells. Whatever cannot be read becomes a warning with file, line and reason; everything
# else is used.

csv.field_size_limit(1_000_000)  # Python stops at 131,072 characters; the longest review seen has 17,958

NAMING = {"title", "uri", "tmdbID", "tmdbURL", "imdbID"}  # columns that name a film
CONTROL_BYTES = bytes({*range(32), 127} - {*b"\t\n\r"})  # in no encoding part of a letter
ACCENTED = "àâäáãåçèéêëìíîïñòóôöõùúûü’“”–"
MAX_WARNINGS_PER_FILE = 50
MAX_LINES_ABOVE = 10  # in which the first header is looked for

# A line in a quoted cell that looks like a row of its own: the quotation mark before it was never closed.
SWALLOWED_ROW = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2},.*,[0-9]{4},(https?://|$)")
LIST_START = re.compile("letterboxdlistexport|date,name,tags,url,|position,name,year,url,")

Rows = list[tuple[int, list[str]]]  # line and cells


def meanings(cells: list[str]) -> set[str]:
    return {meaning for cell in cells[:100] if (meaning := COLUMNS.get(_squash(cell)))}


def is_header(cells: list[str]) -> bool:
    """Whether it names columns, at least two, one of them a film's. Most have to be known."""
    known, filled = meanings(cells), sum(bool(cell.strip()) for cell in cells[:100])
    return len(known) > 1 and bool(known & NAMING) and 2 * len(known) > filled


def is_list(rows: Rows) -> bool:
    """Whether it is a list of Letterboxd's: one header for the list, another one for its films."""
    starts = (",".join(map(_squash, cells[:5])) for _, cells in rows[:MAX_LINES_ABOVE])
    return any(LIST_START.match(start) for start in starts)


def cells_by_name(lines: list[list[str]]) -> dict[str, str]:
    """The cells of the second line, by what the first line calls them."""
    header, cells = [*lines, [], []][:2]
    return dict(zip(map(_squash, header), (_clean(cell.strip()) for cell in cells), strict=False))


class Source:
    """One CSV: its lines of cells, and what could not be read. Raises Unreadable if it is no CSV.

    A list has a `film_list`, whose films become its `entries`.
    """

    def __init__(self, name: str, data: bytes, limits: Limits) -> None:
        self.name, self.limits, self.rows_used = name, limits, 0
        self._warnings: list[str] = []
        self._unlisted_warnings = 0
        self.starts: list[int] = []  # the rows that are headers
        self.lines = self._read(self._decode(data))
        self.entries: dict[int, tuple[Film, str]] = {}  # by the id() of the film
        has_list = is_list(self.lines)
        self.film_list = self._read_list_head(has_list) if has_list or name.startswith("lists/") else None

    def _decode(self, data: bytes) -> str:
        _check_format(data)
        if data.startswith(b"PK\3\4"):
            raise Unreadable("is a ZIP inside the ZIP; upload it by itself")
        if b"\0" in data and not data.strip(b"\0\r\n\t "):
            raise Unreadable("contains nothing but NUL bytes")
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16", "replace").encode()
        elif 2 * data[1:200:2].count(0) > len(data[1:200:2]):
            data = data.decode("utf-16-le", "replace").encode()
        data = data.translate(None, CONTROL_BYTES).replace(codecs.BOM_UTF8, b"")  # also of appended files
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode()
            if damage := re.search("Ã[\x80-\xbf]|â€|\ufffd", text):
                self.say(f"has letters like '{damage[0]}', so it was saved in a wrong encoding once")
            return text
        encoding = _guess_encoding(data)
        self.say(f"is not all UTF-8; read as {encoding}, so check accented letters")
        return data.decode(encoding, "replace")

    def _read(self, text: str) -> Rows:
        """The rows that are not blank."""
        source, mark = io.StringIO(text, newline=""), _delimiter(text)
        reader = csv.reader(iter(source.readline, ""), delimiter=mark)
        rows: Rows = []
        line = 1
        while True:
            start, before, problem = source.tell(), reader.line_num, None
            self.limits.count_row()
            try:
                cells = next(reader)
                if reader.line_num - before > 1 and self._has_swallowed(cells, rows, mark):
                    problem = "a quotation mark is never closed; this line was skipped"
            except StopIteration:
                break
            except csv.Error as error:
                problem = f"{error}; skipped"
            if problem:  # go on with the next line, whatever the reader took for a row
                self.warn(line, problem)
                source.seek(start)
                source.readline()
                line += 1
                continue
            is_excels = not rows and "".join(cells).startswith("sep=")  # says what separates the cells
            if any(map(str.strip, cells)) and not is_excels:
                if (not rows or not COLUMNS.keys().isdisjoint(map(str.casefold, cells))) and is_header(cells):
                    self.starts.append(len(rows))
                rows.append((line, cells))
            line += reader.line_num - before
        if not rows:
            raise Unreadable("is empty")
        return rows

    def _has_swallowed(self, cells: list[str], rows: Rows, mark: str) -> bool:
        """Whether a cell has taken in the lines after it: one of them looks like a row."""
        header = rows[self.starts[-1] if self.starts else 0][1] if rows else []
        lines = (
            (line, _squash(name) == "review")
            for cell, name in itertools.zip_longest(cells, header, fillvalue="")
            for line in cell.splitlines()[1:]
        )
        is_odd = len(cells) != len(header)
        return any(
            SWALLOWED_ROW.match(line) if is_review else is_odd or line.count(mark) == len(header) - 1
            for line, is_review in lines
        )

    def _read_list_head(self, has_list: bool) -> FilmList:
        """What stands above the films of a list: the names of columns, and under them one line of values."""
        starts = [_squash(cells[0]) for _, cells in self.lines[:MAX_LINES_ABOVE]]
        films = starts.index("position") if "position" in starts else has_list * len(self.lines)
        above, self.lines = [cells for _, cells in self.lines[:films]], self.lines[films:]
        said = cells_by_name(above[starts.index("date") :]) if "date" in starts[:films] else {}
        made = FilmList(said.get("name", "")[:MAX_TITLE_LENGTH] or self.stem)
        with contextlib.suppress(ValueError):
            made.list_date = _parse_date(said.get("date", ""), None)
        made.tags, made.description = _parse_tags(said.get("tags", ""), {}), said.get("description", "")
        made.list_uri = uri if LETTERBOXD_URL.fullmatch(uri := said.get("url", "")) else ""
        self.starts = [0]
        return made

    @property
    def stem(self) -> str:
        """The name of the file, by which a list is called that has none."""
        return self.name.rpartition("/")[2].removesuffix(".csv")

    def add_to_list(self, film: Film, note: str, line: int) -> bool:
        """Returns whether the list did not have it before."""
        if id(film) in self.entries:
            self.warn(line, f"'{film.title[:40]}' is in the list twice; skipped")
            return False
        self.entries[id(film)] = film, note
        return True

    def say(self, what: str) -> None:
        """Warns of something about the whole file."""
        self._warnings.append(f"{self.name}: {what}")

    def warn(self, line: int, reason: str) -> None:
        if len(self._warnings) < MAX_WARNINGS_PER_FILE:
            self._warnings.append(f"{self.name}, line {line}: {reason}")
        else:
            self._unlisted_warnings += 1

    def warnings(self, most: int = MAX_WARNINGS_PER_FILE) -> list[str]:
        """The first of them, and how many more there are."""
        rest = len(self._warnings) + self._unlisted_warnings - most
        more = [f"{self.name}: {rest:,} more warnings not shown"] if rest > 0 else []
        return self._warnings[:most] + more


def _delimiter(text: str) -> str:
    """That of the first header, or the one that the first line has most of."""
    lines = text.lstrip()[:100_000].splitlines()[:MAX_LINES_ABOVE] or [""]
    headers = (mark for line in lines for mark in ",;\t" if is_header(line.split(mark, 100)))
    return next(headers, max(",;\t", key=lines[0].count))


def _guess_encoding(data: bytes) -> str:
    """UTF-8 with some damage, or the legacy encoding in which the text has more accented letters.

    Lines that end with CR alone were written on a Mac of old.
    """
    text = data.decode("utf-8", "replace")
    if 2 * text.count("\ufffd") <= len(text) - len(text.encode("ascii", "ignore")):
        return "utf-8"
    if b"\r" in data and b"\n" not in data:
        return "mac_roman"
    guesses = {name: data[:100_000].decode(name, "replace").lower() for name in ("cp1252", "mac_roman")}
    return max(guesses, key=lambda name: sum(map(guesses[name].count, ACCENTED)))


def read_profile(data: bytes, limits: Limits) -> dict[str, str]:
    """The member's names and favourites. Nothing else of a profile is anybody's business."""
    said = cells_by_name([cells for _, cells in Source(PROFILE, data, limits).lines])
    return {name: said.get(name, "") for name in ("username", "givenname", "favoritefilms")}


# === Tables ===================================================================
# lines -> rows, each a film and an entry (a viewing, a rating or a mark). Kinds and columns are recognised by
# the header, since people re-save files.

Kind = Literal["watched", "ratings", "likes", "watchlist", "import", "diary", "reviews", "list"]
KINDS = get_args(Kind)  # in the order in which they are joined

DATES = ("date", "watched date", "watchlist date")
LETTERBOXDS = {"name", "letterboxduri"}
OUT_OF_TEN = {"yourrating", "yourated", "userrating", "simklid", "traktid", "trakt"}  # IMDb, TMDB, Movary, …
# What a file lists, by the first of these columns that it has.
TOLD_KINDS: dict[Kind, set[str]] = {
    "import": {"tmdbID", "tmdbURL", "imdbID", "rating10"},
    "reviews": {"review"},
    "diary": {"watched date", "rewatch"},
    "ratings": {"rating"},
}
TELLING = {"watched", "state", "on watchlist", "rating10"}.union(*list(TOLD_KINDS.values())[1:])
# And by words in its path.
NAMED_KINDS: dict[Kind, str] = {
    "watchlist": r"(?<![a-z])((watch|wish)[ _-]*list|(to|want|plan)[ _-]*(to)?[ _-]*(watch|see)|planned|"
    r"(un|not[ _-]*)(watched|seen))",
    "likes": r"(?<![a-z])(liked?s?|loved|favou?rites?)(?![a-z])|(^|/)films\b",
    "watched": "",  # whatever else
}
PLAIN_NAME = re.compile(
    r"likes/films|(.*/)?((my|letterboxd)[ _-])?(watchlist|watched|likes)(-.*-20[0-9]{2}-.*|[^a-z]*)"
)
MAX_COLUMNS_TOLD = 30
CONFLICT = re.compile(r"(<{7}|\|{7}|={7}|>{7})( |$)")  # a line of Git's
READ_AS_LIST = "was read as a list, which does not say what was watched; name a watchlist watchlist.csv"


class Table:
    """A header and the rows under it. Raises Unreadable if they cannot list films."""

    def __init__(self, source: Source, header: list[str], lines: Rows) -> None:
        self.source, self.warn = source, source.warn
        self._header, self._lines = header, lines
        self._words = {_squash(name): i for i, name in reversed(list(enumerate(header)))}
        preferred = [word for word in reversed(COLUMNS) if word in self._words]
        self._columns = {COLUMNS[word]: self._words[word] for word in preferred}
        columns = self._columns.keys()
        if not columns & NAMING:
            shown = ",".join(header)[:60]
            raise Unreadable(f"the header '{shown}' has no Name column, so this file lists no films")
        self.is_our_download = columns >= {"tmdbURL", "match"}
        is_letterboxds = self._words.keys() >= LETTERBOXDS or source.film_list is not None
        self.is_foreign = not self.is_our_download and not is_letterboxds
        self.has_line_per_film = self.is_our_download and "movieid" in columns  # movies.csv and matches.csv
        self.has_rating_column = bool(columns & {"rating", "rating10"})
        self.tells_state = "state" in columns or columns & TELLING == {"on watchlist"}
        self.has_names = bool(columns & (NAMING - {"uri"}))
        self.kind = "list" if source.film_list else self._find_kind(source.name.lower())
        if self.kind == "list":
            source.film_list = source.film_list or FilmList(source.stem)
            if "description" in self._words:
                self._columns["review"] = self._words["description"]
        if not self.is_our_download:
            self._name_unread_columns()
        is_dated = any(re.match(r"[0-9]{1,4}[-/.][0-9]", text) for text in self._column("date"))
        if self.is_foreign and is_dated and "date" in self._words and "watched date" not in columns:
            source.say("its column Date was not read as the day of watching; if it is, name it Watched Date")
        parsers = {column: cache(parse) for column, parse in self._file_parsers().items()}
        self._cells = [
            (column, i, parsers.get(column), MAX_CELL_LENGTHS.get(column, MAX_CELL_LENGTH))
            for column, i in self._columns.items()
        ]

    def _find_kind(self, path: str) -> Kind:
        """What it lists, by its columns. If they do not say, or if it is a watchlist, by its name."""
        columns = self._columns.keys()
        named = next(kind for kind, words in NAMED_KINDS.items() if re.search(words, path))
        told = next((kind for kind, telling in TOLD_KINDS.items() if columns & telling), None)
        is_plain = PLAIN_NAME.fullmatch(path.removesuffix(".csv"))
        if "position" in columns and not is_plain and not all(list(self._column("rating")) or [""]):
            self.source.say(READ_AS_LIST)
            return "list"
        if named == "watchlist" or not columns & TELLING:
            if not is_plain:
                self.source.say(
                    f"its columns do not say what it lists, so it was read as {named}; "
                    "to change that, name it watched.csv, watchlist.csv or likes.csv"
                )
            return told if told and named == "watched" else named
        if named == "likes":
            self.source.say("its columns say what was watched, so it was not read as likes")
        return told or "watched"

    def _name_unread_columns(self) -> None:
        """Says which columns were not read, though they have cells."""
        unread = [i for i in range(len(self._header)) if i not in self._columns.values()][:MAX_COLUMNS_TOLD]
        filled = [i for i in unread if any(i < len(cells) and cells[i].strip() for _, cells in self._lines)]
        if filled:
            names = [self._header[i].strip()[:40] or f"number {i + 1}" for i in filled]
            self.source.say(f"these columns were not read: {', '.join(names)}")

    def _file_parsers(self) -> dict[str, Callable[[str], Any]]:
        """PARSERS, and those that depend on what else is in this file."""
        parse_date = partial(_parse_date, day_first=self._detect_day_first())
        return PARSERS | {
            **dict.fromkeys(DATES, parse_date),
            "rating": partial(_parse_rating, max_stars=self._detect_max_stars()),
            "tags": partial(_parse_tags, shared={}),
        }

    def _column(self, name: str) -> Iterator[str]:
        i = self._columns.get(name, len(self._header))
        return (cells[i].strip() for _, cells in self._lines if i < len(cells))

    def _detect_day_first(self) -> bool | None:
        """Whether 03/04/2024 is 3 April: known if other dates in the file have a day over 12."""
        dates = filter(None, map(SLASH_DATE.fullmatch, itertools.chain(*map(self._column, DATES))))
        slashed = {(int(parts[1]) > 12, int(parts[2]) > 12): parts for parts in dates if "." not in parts[0]}
        day_first, month_first = slashed.get((True, False)), slashed.get((False, True))
        if day_first and month_first:
            self.source.say(f"'{day_first[0]}' and '{month_first[0]}' are written in different orders")
        elif day_first and len(day_first[3]) == 2 and "/" in day_first[0]:
            self.source.say(
                f"'{day_first[0]}' was read as day, month and year, and so were all dates like it"
            )
        return None if bool(day_first) == bool(month_first) else bool(day_first)

    def _detect_max_stars(self) -> int:
        """10 if another tool's file has a rating over 5, or a column of a service that has ten stars."""
        ratings = [float(t.replace(",", ".")) for t in self._column("rating") if NUMBER.fullmatch(t)]
        if not self.is_foreign or not ratings:
            return 5
        if 10 * sum(rating > 10 for rating in ratings) > len(ratings):
            self.source.say("its ratings are out of neither 5 nor 10, so none was read")
            del self._columns["rating"]
            return 5
        if any(5 < rating <= 10 for rating in ratings):
            self.source.say("has ratings over 5, so all its ratings were read as out of 10")
            return 10
        if not OUT_OF_TEN & self._words.keys():
            return 5
        most = 10 if all(rating % 1 == 0 for rating in ratings) else 5
        self.source.say(f"has columns of a service with ten stars; its ratings were read as out of {most}")
        return most

    def rows(self) -> Iterator[tuple[int, Film, Viewing]]:
        width = len(self._header)
        for line, cells in self._lines:
            self.source.limits.check_time()
            while len(cells) > width and not cells[-1].strip():
                cells.pop()
            if len(cells) > width:
                self.warn(line, f"row has {len(cells)} cells but the header has {width}; skipped")
                continue
            try:
                film, entry = self._row(line, cells)
                self._check(line, cells, film, entry)
            except _NotAFilm as reason:
                self.warn(line, f"'{','.join(cells)[:40]}' {reason}")
                continue
            yield line, film, entry

    def _values(self, line: int, cells: list[str]) -> dict[str, Any]:
        """What the columns say. Addresses say what they name."""
        values: dict[str, Any] = {}
        for column, i, parse, max_length in self._cells:
            text = cells[i].strip() if i < len(cells) else ""
            if len(text) > max_length:
                self.warn(
                    line, f"{column} has {len(text):,} characters, over the limit of {max_length:,}; ignored"
                )
            elif parse is None:
                values[column] = _clean(text)
            elif text.casefold() not in NOT_GIVEN or (column == "tags" and text):
                try:
                    values[column] = parse(text)
                except ValueError as expected:
                    self.warn(line, f"{column} '{text[:40]}' must be {expected}")
        meaning, named = values.pop("uri", ("uri", ""))
        return {meaning: named} | values

    def _row(self, line: int, cells: list[str]) -> tuple[Film, Viewing]:
        values = self._values(line, cells)
        title = unicodedata.normalize("NFC", values.get("title", ""))
        year, tmdb_type = values.get("year"), values.get("type")
        if self.is_foreign:
            title, year, tmdb_type = _from_title(title, year, tmdb_type)
        uri = values.get("uri", "")
        number, is_film = parse_short_uri(uri) or (None, not _is_long_entry(uri))
        tmdb_id, added, listed = values.get("tmdbID"), values.get("date"), values.get("watchlist date")
        watched, watchlist = self._state(values)
        film = Film(
            title=title,
            year=year,
            film_uri=uri if is_film else "",
            letterboxd_number=number if is_film else None,
            watched=watched,
            liked=values.get("liked", self.kind == "likes"),
            watchlist=watchlist,
            added_date=added,
            watchlist_date=listed or (added if watchlist and not watched else None),
            tmdb_ref=values.get("tmdbURL") or ((tmdb_type or "movie", tmdb_id) if tmdb_id else None),
            imdb_id=values.get("imdbID", ""),
            tmdb_type=tmdb_type,
            directors="" if self.is_our_download else values.get("directors", ""),
            given_status=values.get("match", "exact"),
        )
        entry = Viewing(
            watched_date=values.get("watched date"),
            rating=values.get("rating") or values.get("rating10"),
            rewatch=values.get("rewatch", False),
            tags=values.get("tags", ()),
            review=values.get("review", ""),
            entry_uri="" if is_film else uri,
        )
        return film, entry

    def _check(self, line: int, cells: list[str], film: Film, entry: Viewing) -> None:
        """Raises _NotAFilm if the row is none of the member's, and says what is odd about it."""
        uri = film.film_uri or entry.entry_uri
        if CONFLICT.match(cells[0]) or not (film.title or film.tmdb_ref or film.imdb_id or uri):
            raise _NotAFilm("does not name a film; skipped")
        is_alone = len(cells) > 1 and not any(cells[1:])
        if is_alone and HEADING.search(film.title):
            raise _NotAFilm("looks like a heading; skipped, and the lines after it were read like the others")
        if self.is_foreign and EPISODE.search(film.title):
            raise _NotAFilm("is left out, since it looks like an episode")
        if self.is_foreign and self.kind != "list" and not (film.watched or film.liked or film.watchlist):
            raise _NotAFilm("is neither watched, liked nor on the watchlist; skipped")
        shown = f"'{film.title[:40]}'"
        if self.is_foreign and is_alone:
            self.warn(line, f"{shown} has nothing but a title")
        if (self.is_foreign and YEAR_IN_TITLE.search(film.title)) or ENTITY.search(film.title):
            self.warn(line, f"title {shown} was kept as it is, with a year or an HTML entity in it")

    def _state(self, values: dict[str, Any]) -> tuple[bool, bool]:
        """Whether it was watched, and whether it is on the watchlist: by its row, otherwise by its file."""
        if self.is_foreign and values.keys() & {"watched date", "watchlist date"} == {"watchlist date"}:
            return False, True
        columns, said = self._columns, values.get("state") or values.get("on watchlist")
        if "watched" in columns:
            watched = values.get("watched", False)
        elif said == "yes":
            watched = bool(values.keys() & {"watched date", "rating", "rating10"})
        elif self.tells_state or said in ("watched", "watchlist"):
            watched = said == "watched"
        else:
            watched = self.kind not in ("likes", "watchlist", "list") or "watched date" in values
        return watched, said in ("watchlist", "yes") or (said is None and self.kind == "watchlist")


def tables_of(source: Source) -> Iterator[Table]:
    """One per header, since people join files. The first header may have lines above it."""
    rows = source.lines
    if not rows:  # of an empty list
        return iter(())
    if not source.starts or source.starts[0] >= MAX_LINES_ABOVE:
        top = enumerate(rows[:MAX_LINES_ABOVE])
        source.starts.insert(0, next((i for i, (_, cells) in top if meanings(cells) & NAMING), 0))
    for line, cells in rows[: source.starts[0]]:
        source.warn(line, f"'{','.join(cells)[:40]}' stands above the header; skipped")
    parts: defaultdict[tuple[str, ...], Rows] = defaultdict(list)
    for start, end in itertools.pairwise([*source.starts, len(rows)]):
        line, header = rows[start]
        if parts:
            source.warn(line, "is another header, by which the lines after it were read")
        parts[tuple(header)] += rows[start + 1 : end]
    return (Table(source, list(header), lines) for header, lines in parts.items())


def read_sources(
    files: Iterable[tuple[str, bytes]], limits: Limits
) -> tuple[list[Source], list[Table], dict[str, str], list[str]]:
    """The CSVs in the uploaded `(name, bytes)`, their tables, what is used of a profile, and why the other
    files could not be used.
    """
    sources: list[Source] = []
    tables: list[Table] = []
    profile: dict[str, str] = {}
    problems: list[str] = []
    for given_name, data in files:
        name = given_name or "unnamed file"
        try:
            csvs = csvs_in(name, data, limits)
        except Unreadable as reason:
            problems.append(f"{name}: {reason}")
            continue
        for path, count in Counter(path for path, _ in csvs).items():
            if count > 1:
                problems.append(f"{name}: contains {count} files named {path}; all were read")
        for path, content in csvs:
            try:
                if path == PROFILE:
                    profile = profile or read_profile(content, limits)
                    continue
                source = Source(path, content, limits)
                tables += tables_of(source)
                sources.append(source)
            except Unreadable as reason:
                problems.append(f"{path}: {reason}")
    return sources, tables, profile, problems


# === Joining ==================================================================
# rows -> films. Watched, ratings, likes and the watchlist name films. The URI of a diary row or a review
# names the *entry*, so those are joined to films by name and year; joining by URI would list every film
# twice.

MAX_WARNINGS = 200
MAX_FAVOURITES = 4

# The estimated memory of a session.
FILM_BYTES = 10_000  # with TMDB's record, if no two films share a person; tests.bench measures half of it
ENTRY_BYTES = 250  # without its texts


@dataclass(slots=True)
class Export:
    films: list[Film]
    rows: dict[str, int]  # how many rows of each file were used
    warnings: list[str]
    lists: list[FilmList] = field(default_factory=list)
    profile: Profile | None = None
    memory_bytes: int = 0  # see `estimated_bytes`


def estimated_bytes(films: list[Film], lists: list[FilmList]) -> int:
    """What a session of these takes at most, once TMDB's records are in it."""
    entries = [entry for film in films for entry in film.entries]
    texts = itertools.chain(*((entry.review, entry.entry_uri, *entry.tags) for entry in entries))
    notes = itertools.chain(*(map(str, itertools.chain(*made.entries)) for made in lists))
    sizes = map(sys.getsizeof, itertools.chain(texts, (made.description for made in lists), notes))
    return FILM_BYTES * len(films) + ENTRY_BYTES * len(entries) + sum(sizes)


class Joiner:
    """Collects rows into films: by what identifies a film (its URI or an id), otherwise by name and year."""

    def __init__(self, has_ratings: bool = False, has_viewings: bool = False) -> None:
        """What the upload has: a file of ratings; files with a line per viewing."""
        self.films: list[Film] = []
        self._by_identity: dict[Hashable, Film] = {}
        self._by_name: defaultdict[tuple[str, int | None], list[Film]] = defaultdict(list)
        self._identities: dict[int, dict[str, Hashable]] = {}  # of each film, by its id()
        self._by_entry: dict[tuple[str, int, date | None], Viewing] = {}
        self._by_day: defaultdict[tuple[int, date | None], list[Viewing]] = defaultdict(list)
        self._sources: set[tuple[Table, int]] = set()  # (file, id() of an entry that it contains)
        self._rated: set[int] = set()  # id() of films whose own rating is given, even if it is none
        self._has_ratings, self._has_viewings = has_ratings, has_viewings

    def add(self, row: Film, entry: Viewing, table: Table, line: int) -> bool:
        """Returns whether the row was used: it names a film, itself or by the address of another row."""
        film = self._film(row, entry, table, line)
        if film is None:
            uri = row.film_uri or entry.entry_uri
            table.warn(
                line,
                f"no other row names the film at '{uri}'; upload the file that does, such as watched.csv",
            )
            return False
        if table.kind == "list":
            return table.source.add_to_list(film, entry.review, line)
        film.watched |= row.watched
        film.liked |= row.liked
        film.watchlist |= row.watchlist
        is_viewing = bool(entry.watched_date or entry.review or entry.tags)
        if table.has_line_per_film and self._has_viewings:
            is_viewing = False  # its line puts the texts of all viewings together
        if is_viewing or table.kind == "diary":
            self._add_entry(film, entry, table, line)
        elif film.rating is None:
            film.rating = entry.rating
        elif entry.rating not in (None, film.rating):
            table.warn(
                line, f"{film.rating:g} stars were read before for this film, so its rating is ignored"
            )
        if table.kind == "import" and not is_viewing and table.has_rating_column:
            self._rated.add(id(film))
        return True

    def _film(self, row: Film, entry: Viewing, table: Table, line: int) -> Film | None:
        identities = _identities(row, entry.entry_uri)
        # The ids in our own downloads say what was matched; two films may share one.
        is_ours = table.is_our_download and row.title
        naming = [each for each in identities.items() if not is_ours or each[0] in ("number", "slug")]
        known = (self._by_identity[key] for key in naming if key in self._by_identity)
        film = next((film for film in known if _may_be_same(film, row)), None)
        if film is None:
            if not (row.title or row.tmdb_ref or row.imdb_id):
                return None
            film = self._namesake(row, identities, entry, table, line)
        elif table.is_foreign and row.title and fold_title(film.title) not in ("", fold_title(row.title)):
            table.warn(
                line, f"'{row.title[:40]}' has the id of '{film.title[:40]}', so they count as one film"
            )
        film.film_uri = film.film_uri or row.film_uri
        film.watchlist_date = film.watchlist_date or row.watchlist_date
        film.directors, film.tmdb_type = film.directors or row.directors, film.tmdb_type or row.tmdb_type
        film.given_status = film.given_status if film.tmdb_ref or film.imdb_id else row.given_status
        film.tmdb_ref, film.imdb_id = film.tmdb_ref or row.tmdb_ref, film.imdb_id or row.imdb_id
        film.letterboxd_number = film.letterboxd_number or row.letterboxd_number
        self._identities[id(film)] = identities | self._identities.get(id(film), {})
        self._by_identity.update(dict.fromkeys(naming, film))
        return film

    def favourites(self, addresses: str) -> list[int]:
        """The movie_ids of the films with these addresses, as far as they are in the export."""
        keys = (parse_short_uri(uri.strip()) for uri in addresses.split(",")[:MAX_FAVOURITES])
        films = (self._by_identity.get(("number", key[0])) for key in keys if key and key[1])
        return [film.movie_id for film in films if film]

    def _namesake(
        self, row: Film, identities: dict[str, Hashable], entry: Viewing, table: Table, line: int
    ) -> Film:
        """The film of that name and year whose identities do not contradict, or else a new one."""
        namesakes = self._by_name[normalize_title(row.title), row.year]
        alike = [
            film
            for film in namesakes
            if row.title
            and all(
                self._identities[id(film)].get(name, given) == given for name, given in identities.items()
            )
            and {film.tmdb_type, row.tmdb_type} != {"movie", "tv"}
            and share_a_name(film.directors, row.directors)
        ]
        if alike:
            return alike[0] if len(alike) == 1 else _choose(alike, row, entry, table, line)
        self.films.append(row)
        namesakes.append(row)
        return row

    def _add_entry(self, film: Film, row: Viewing, table: Table, line: int) -> None:
        key = row.entry_uri, id(film), row.watched_date
        entry = self._by_entry.get(key) or self._same_day(film, row, table)
        if entry is None:
            entry = row
            dated = row.watched_date or table.kind == "diary"
            (film.viewings if dated else film.undated_reviews).append(row)
            self._by_day[id(film), row.watched_date].append(row)
        if row.entry_uri:
            self._by_entry[key] = entry
        self._sources.add((table, id(entry)))
        entry.rating = row.rating if entry.rating is None else entry.rating
        entry.rewatch |= row.rewatch
        entry.tags, entry.review = entry.tags or row.tags, entry.review or row.review

    def _same_day(self, film: Film, row: Viewing, table: Table) -> Viewing | None:
        """The viewing of that day in another file. Two rows of one file are two viewings."""
        for entry in self._by_day[id(film), row.watched_date]:
            if not (entry.entry_uri and row.entry_uri) and (table, id(entry)) not in self._sources:
                return entry
        return None

    def finish(self) -> list[Film]:
        """Watched (latest viewing, then latest marked, first), liked, on the watchlist, only in lists."""
        for film in self.films:
            film.viewings.sort(key=lambda viewing: viewing.watched_date or date.min, reverse=True)
            if film.rating is None and not self._has_ratings and id(film) not in self._rated:
                film.rating = next((e.rating for e in film.entries if e.rating is not None), None)
        ordered = sorted(self.films, key=_order)
        for place, film in enumerate(ordered, 1):
            film.movie_id = place
        return ordered


def _choose(alike: list[Film], row: Film, entry: Viewing, table: Table, line: int) -> Film:
    """One of several films with a row's name and year: by spelling, rating or day added, else a row each."""

    def differences(film: Film) -> tuple[bool, bool]:
        return film.title != row.title, film.rating != entry.rating

    def fit(film: Film) -> tuple[bool, bool, bool, int]:
        entries = len(film.viewings) + len(film.undated_reviews)
        return *differences(film), film.added_date != row.added_date, entries

    best = min(alike, key=fit)
    least = differences(best)
    if sum(differences(film) == least for film in alike) > 1:
        shown = f"'{row.title}' ({row.year or 'no year'})"
        table.warn(line, f"{len(alike)} films are called {shown}; {best.film_uri or 'the first'} was used")
    return best


def _identities(film: Film, entry_uri: str = "") -> dict[str, Hashable]:
    """What identifies the film, by naming scheme. A long diary URI contains the film's slug."""
    long = None if film.letterboxd_number else LONG_URI.fullmatch(film.film_uri or entry_uri)
    identities: dict[str, Hashable] = {
        "number": film.letterboxd_number,
        "slug": long and long[2],
        "tmdb": film.tmdb_ref,
        "imdb": film.imdb_id,
    }
    return {scheme: identity for scheme, identity in identities.items() if identity}


def _may_be_same(film: Film, row: Film) -> bool:
    """Not if neither title nor year agree: somebody copied a wrong id or address."""
    if film.title == row.title or film.year == row.year or not (film.title and row.title):
        return True
    return fold_title(film.title) == fold_title(row.title)


def _order(film: Film) -> tuple[int, int, int]:
    group = 0 if film.watched else 1 if film.liked else 2 if film.watchlist else 3
    viewed = film.viewings[0].watched_date if film.viewings else None
    return group, -(viewed or date.min).toordinal(), -(film.added_date or date.min).toordinal()


def parse_export(
    files: Iterable[tuple[str, bytes]], max_films: int = 20_000, limits: Limits | None = None
) -> Export:
    """The films in the uploaded `(name, bytes)`: ZIPs, CSVs or both.

    Watched films come first (latest viewing first), then liked ones, those on the watchlist, and the rest.
    Raises UnusableUpload if no file lists films, UploadTooLarge beyond `max_films` or `limits`.
    """
    files = list(files)
    sources, tables, profile, problems = read_sources(files, limits or Limits())
    joined = Joiner(
        has_ratings=any(table.kind == "ratings" for table in tables),
        has_viewings=any(
            table.kind in ("import", "diary", "reviews") and not table.has_line_per_film for table in tables
        ),
    )
    for table in sorted(tables, key=lambda table: (not table.has_names, KINDS.index(table.kind))):
        for line, film, entry in table.rows():
            table.source.rows_used += joined.add(film, entry, table, line)
            if len(joined.films) > max_films:
                raise UploadTooLarge(f"The upload has over {max_films:,} films (MAX_FILMS).")
    if not joined.films:
        raise UnusableUpload(
            f"No films in this upload: {_why_empty(files, sources, problems)}. "
            "Upload the ZIP that Letterboxd exports, or CSVs from it."
        )
    rows: Counter[str] = Counter()
    for source in sources:
        rows[source.name] += source.rows_used
        problems += source.warnings()
    if len(problems) > MAX_WARNINGS:
        problems[MAX_WARNINGS:] = [f"{len(problems) - MAX_WARNINGS:,} more warnings not shown"]
    films = joined.finish()
    lists = _lists_of(sources)
    favourites = joined.favourites(profile.get("favoritefilms", ""))
    member = Profile(profile["username"], profile["givenname"], favourites) if any(profile.values()) else None
    return Export(films, rows, problems, lists, member, estimated_bytes(films, lists))


def _lists_of(sources: list[Source]) -> list[FilmList]:
    """Each once, and tells their films."""
    known: list[FilmList] = []
    for source in sources:
        if source.film_list:
            entries = [(film.movie_id, note) for film, note in source.entries.values()]
            made = replace(source.film_list, entries=entries)
            if made not in known:
                known.append(made)
                for film, _ in source.entries.values():
                    film.lists.append(len(known))
    return known


def _why_empty(files: list[tuple[str, bytes]], sources: list[Source], problems: list[str]) -> str:
    for source in sources:
        problems += [*source.warnings(1), f"{source.name}: none of its rows names a film"]
    names = [name for name, _ in files]
    return _few(problems, "; ") or (f"it has only {_few(names)}" if names else "it is empty")


# === Matching =================================================================
# film + TMDB's candidates -> match. Pure functions; Enrichment fetches what they need.
#
# A candidate's score is a sum of decimal logarithms: for each observation, how much likelier it is with the
# right movie than with a wrong one. The weights come from 19,270 films whose TMDB id is known: TMDB's year is
# later in 4.8 % and earlier in 0.14 %, the title differs in 0.9 %, and 1.4 % are series. Votes count because
# films that people log are films that people rate.
#
# Letterboxd copied TMDB's films in the order of their ids, in runs that first go down and later go up, so its
# own number for a film predicts TMDB's id. TMDB_ID_KNOTS are the corners of a piecewise-linear fit to 6,623
# known pairs. On held-out pairs, 95 % were within 0.4 % of it and 99 % within 0.6 %; the rest were added to
# TMDB late and can have any id. It says nothing about series. It is evidence, not proof.

TMDB_ID_KNOTS: list[tuple[int, ...]] = [
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
OTHER_TYPE_SCORE = -1.8  # a series, unless the upload says that it is one
YEAR_SCORES = {0: 0.0, 1: -1.3, -1: -2.5, 2: -2.8, -2: -2.8, 3: -3.2, -3: -3.2}
ON_THE_LINE = 0.005  # the largest deviation that counts as none
MIN_EVIDENCE = -3.3  # a candidate whose evidence, without votes, is below this is no match
UNRELATED_TITLE = -5.0  # the score of an altogether different title
STOP_SCORE = 0.6  # searching stops at this score, unless the number or the year disagrees
SAFE_LEAD = 2.0  # without a number, a match is exact if it scores this much more than its namesakes
SAME_TITLE = -1.0  # a title that scores more than this is the same
SIMILAR_TITLE = -2.5
DIRECTOR_SCORE = 2.0  # of the upload's director, or less this much for another one
MIN_LIKENESS = 0.6  # of two titles that are compared letter by letter


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate, and what speaks for and against it."""

    candidate: Candidate
    title_score: float
    year_score: float
    number_score: float
    type_score: float
    votes_score: float
    director_score: float = 0

    @property
    def evidence(self) -> float:
        known = self.title_score + self.year_score + self.number_score
        return known + self.type_score + self.director_score

    @property
    def score(self) -> float:
        return self.evidence + self.votes_score

    @property
    def has_title(self) -> bool:
        """Whether its title, or one of its other titles, is the film's."""
        return self.title_score > SAME_TITLE

    @property
    def has_year(self) -> bool:
        return self.year_score == 0

    @property
    def has_number(self) -> bool:
        """Whether Letterboxd's number points to it."""
        return self.number_score > 0

    @property
    def has_title_and_year(self) -> bool:
        return self.has_title and self.has_year


def expected_tmdb_id(letterboxd_number: int) -> float:
    """TMDB's id of the film with that number, on the line through TMDB_ID_KNOTS, extended at both ends."""
    right = min(max(bisect_left(TMDB_ID_KNOTS, (letterboxd_number, 0)), 1), len(TMDB_ID_KNOTS) - 1)
    (x0, y0), (x1, y1) = TMDB_ID_KNOTS[right - 1], TMDB_ID_KNOTS[right]
    return y0 + (y1 - y0) * (letterboxd_number - x0) / (x1 - x0)


def score_candidate(film: Film, candidate: Candidate, other_titles: Iterable[str] = ()) -> ScoredCandidate:
    return ScoredCandidate(
        candidate,
        title_score=_title_score(film.title, candidate, other_titles),
        year_score=_year_score(film.year, candidate.year),
        number_score=_number_score(film.letterboxd_number, candidate),
        type_score=0 if candidate.tmdb_type == (film.tmdb_type or "movie") else OTHER_TYPE_SCORE,
        votes_score=0.6 * math.log10(1 + min(candidate.votes, 10_000)),
    )


def score_director(film: Film, scored: ScoredCandidate, movie: Movie) -> ScoredCandidate:
    """With its record, which has the directors."""
    if not movie.directors:
        return scored
    is_theirs = share_a_name(film.directors, ", ".join(movie.directors))
    return replace(scored, director_score=DIRECTOR_SCORE if is_theirs else -DIRECTOR_SCORE)


def _title_score(title: str, candidate: Candidate, other_titles: Iterable[str]) -> float:
    """Of the other titles, only equal ones count: there are so many that some will always be similar."""
    if normalize_title(title) == normalize_title(candidate.title):
        return 0
    wanted, names = fold_title(title), (candidate.title, candidate.original_title)
    all_names = (*names, *other_titles)
    if wanted in map(fold_title, all_names):
        return -0.8
    if _sorted_parts(title) in map(_sorted_parts, all_names):
        return -0.9
    if any(fold_title(name) in _parts(title) or wanted in _parts(name) for name in names):
        return SIMILAR_TITLE
    # Comparing takes up to cubic time in the length.
    matchers = [difflib.SequenceMatcher(None, wanted[:100], fold_title(name)[:100]) for name in names]
    alike = max(matcher.ratio() if matcher.quick_ratio() >= MIN_LIKENESS else 0 for matcher in matchers)
    return SIMILAR_TITLE if alike >= 0.8 else -3.6 if alike >= MIN_LIKENESS else UNRELATED_TITLE


def _parts(title: str) -> set[str]:
    """Title and subtitle, each of which may stand alone: 'Wallace & Gromit: A Close Shave'."""
    return {fold_title(part) for part in PART_BREAK.split(title) if len(part) > 3}


def _sorted_parts(title: str) -> list[str]:
    """The same for 'Jason Lives - Friday the 13th Part VI' and 'Friday the 13th Part VI: Jason Lives'."""
    return sorted(map(fold_title, PART_BREAK.split(title)))


PART_BREAK = re.compile(r"[:–—|]| - ")


def _year_score(year: int | None, candidate_year: int | None) -> float:
    if year is None:
        return 0
    return -4.5 if candidate_year is None else YEAR_SCORES.get(candidate_year - year, -5)


def _number_score(number: int | None, candidate: Candidate) -> float:
    if number is None or candidate.tmdb_type == "tv":
        return 0
    off = _deviation(number, candidate.tmdb_id)
    return 2 if off <= ON_THE_LINE else 1.2 if off <= 0.02 else 0 if off <= 0.05 else -2


def _deviation(number: int, tmdb_id: int) -> float:
    """How far the id is from the expected one, as a fraction of it. A distance of 20 counts as none."""
    expected = expected_tmdb_id(number)
    return (abs(tmdb_id - expected) - 20) / max(expected, 20)


def has_title_has_year(film: Film, movie: Movie) -> tuple[bool, bool]:
    """Whether one of the movie's titles is like the film's, and whether it has its year."""
    scored = score_candidate(film, candidate_from_movie(movie), movie.other_titles)
    return scored.title_score >= SIMILAR_TITLE, film.year is not None and scored.has_year


def is_contradicted(film: Film, scored: ScoredCandidate) -> bool:
    """Whether Letterboxd's number points to another film. It says nothing about a series."""
    numbered = film.letterboxd_number is not None and scored.candidate.tmdb_type == "movie"
    return numbered and not scored.has_number


def is_settled(film: Film, best: ScoredCandidate) -> bool:
    """Whether no further search is worth a call."""
    confirmed = best.has_number or best.has_year
    return best.score >= STOP_SCORE and confirmed and not is_contradicted(film, best)


def is_promising(film: Film, best: ScoredCandidate) -> bool:
    """Whether it is a match, or would be one if another of its titles were the film's."""
    return best.evidence >= MIN_EVIDENCE or (best.has_year and not is_contradicted(film, best))


def best_first(film: Film, scored: ScoredCandidate) -> tuple[bool, float, float, int]:
    """A sort key. Of equal scores, the more popular movie comes first, then the older record."""
    candidate = scored.candidate
    return not is_settled(film, scored), -scored.score, -candidate.popularity, candidate.tmdb_id


def judge(film: Film, ranked: list[ScoredCandidate]) -> tuple[Candidate | None, MatchStatus, str]:
    """The candidate to take, if any, how sure that is, and why. `ranked` is best first."""
    if not ranked:
        return None, "not_found", "TMDB's search returned nothing for that title."
    best, others = ranked[0], ranked[1:]
    found = best.candidate
    shown = f"'{found.title}' ({found.year or 'no year'})"
    if best.evidence < MIN_EVIDENCE:
        return None, "not_found", f"TMDB has nothing with that title and year; the nearest is {shown}."
    if doubts := list(_doubts(film, best, others)):
        return found, "guessed", f"{shown} is the best candidate, but {', and '.join(doubts)}."
    return found, "exact", _why_exact(best, others)


def _why_exact(best: ScoredCandidate, others: list[ScoredCandidate]) -> str:
    if best.has_number and best.has_year:
        return "Title, year and Letterboxd's own number agree."
    if best.has_number:
        return "Title and Letterboxd's own number agree, and the year is one off."
    if best.director_score > 0:
        return "Title, year and director agree."
    if any(other.has_title_and_year for other in others):
        return "It is by far the likeliest result with that title and year."
    return "It is the only result with that title and year."


def _doubts(film: Film, best: ScoredCandidate, others: list[ScoredCandidate]) -> Iterator[str]:
    found = best.candidate
    if not best.has_title:
        yield "its title differs"
    elif best.title_score < 0 and not best.has_number:
        yield "its main title differs"
    if film.year is None:
        yield "the upload gives no year"
    elif found.year is None:
        yield "TMDB has no year for it"
    elif found.year != film.year and not (best.has_number and abs(found.year - film.year) == 1):
        yield f"its year is not {film.year}"
    if is_contradicted(film, best):
        yield "Letterboxd's own number points to another film"
    if best.director_score < 0:
        yield f"its director is not {film.directors[:60]}"
    if rivals := [other for other in others if _is_rival(best, other)]:
        alike = "title and year" if all(rival.has_title_and_year for rival in rivals) else "title"
        yield f"{len(rivals)} other result{'s have' if len(rivals) > 1 else ' has'} the same {alike}"


def _is_rival(best: ScoredCandidate, other: ScoredCandidate) -> bool:
    """A number decides among films of the same year. Without one, only a large lead does."""
    if best.has_number:
        return other.has_title_and_year and other.number_score >= best.number_score
    return other.has_title and best.score - other.score < SAFE_LEAD


@dataclass(frozen=True, slots=True)
class SearchQuery:
    tmdb_type: MediaType
    text: str
    year: int | None
    is_one_word: bool = False  # of the title, not all of it


def search_queries(film: Film) -> Iterator[SearchQuery]:
    """In the order in which they are worth a call.

    With a number, a search within the year finds the film among many namesakes. Without one, all namesakes
    must be known, so the search without a year comes first. Single words, the title's two longest ones, are
    for what the others miss.
    """
    title, year = film.title, film.year
    if film.tmdb_type == "tv":
        yield SearchQuery("tv", title, year)
    if year is None:
        yield from (SearchQuery("movie", title, None), SearchQuery("tv", title, None))
        return
    years = (year, None, year + 1) if film.letterboxd_number else (None, year, year + 1)
    yield from (SearchQuery("movie", title, searched) for searched in years)
    yield SearchQuery("tv", title, year)
    words = (word for word in re.findall(r"\w+", title) if len(word) > 1)
    telling = [word for word in words if word.casefold() not in SMALL_WORDS]
    longest = sorted(telling, key=len, reverse=True)[:2]
    yield from (SearchQuery("movie", word, year, is_one_word=True) for word in longest if word != title)


SMALL_WORDS = set("a an and at by de der die el en for from in la le les of on or the to und with".split())


# --- Known films
#
# A film that TMDB is known to have needs no search. known_films.tsv.gz lists films with at least ten votes,
# one `normalized title<TAB>year<TAB>TMDB id` per line, sorted. A film is taken from the list if exactly one
# line has its title, its year or one beside it, and an id that its number predicts. Of 12,702 films whose
# id is known, 12,517 were found and none wrongly; with the right line removed, nothing was found. Without a
# number, some would be wrong.

KNOWN_FILMS = Path(__file__).with_name("known_films.tsv.gz")


class KnownFilms:
    """The list: 3 MB of lines, searched by bisection. Empty if there is no file."""

    def __init__(self, packed: bytes = b"") -> None:
        self._lines = gzip.decompress(packed).splitlines()

    @classmethod
    def read(cls, path: Path) -> KnownFilms:
        """Takes at least 10 ms, so it runs in a thread."""
        try:
            return cls(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            log.warning("%s cannot be read (%s): every film is searched for", path.name, type(error).__name__)
            return cls()

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, film: Film) -> int | None:
        """The TMDB id of the only listed film with the title, the year (or one beside it) and the number."""
        number, year = film.letterboxd_number, film.year
        if number is None or year is None:
            return None
        start = normalize_title(film.title).encode() + b"\t"
        first, end = (bisect_left(self._lines, start + stop) for stop in (b"", b"\xff"))
        listed = (map(int, line.rsplit(b"\t", 2)[1:]) for line in self._lines[first:end])
        ids = [i for y, i in listed if abs(y - year) <= 1 and _deviation(number, i) <= ON_THE_LINE]
        return ids[0] if len(ids) == 1 else None


# === Records ==================================================================
# TMDB's JSON -> movies, candidates and collections, as far as they are used. TMDB's records have
# gaps, and its fields change without notice, so whatever is missing or odd counts as unknown.


# Numbers out of range count as missing; texts are cut.
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
MAX_TMDB_ID = 999_999_999


def _short(text: str) -> str:
    return text if len(text) <= MAX_TITLE_LENGTH and text.isprintable() else _clean(text[:MAX_TITLE_LENGTH])


def _possible_id(tmdb_id: int | None) -> int | None:
    return tmdb_id if tmdb_id and 1 <= tmdb_id <= MAX_TMDB_ID else None


Text = Annotated[str, AfterValidator(_short)]
Model = TypeVar("Model", bound=BaseModel)


MAX_CAST = 15
MAX_NAMES = 500  # in any other role, and of keywords and other titles
JOBS = {
    "writers": {"Writer", "Screenplay", "Story", "Novel", "Author", "Teleplay", "Original Story", "Book"},
    "composers": {"Original Music Composer", "Music"},
    "cinematographers": {"Director of Photography", "Cinematography"},
    "editors": {"Editor"},
    "producers": {"Producer"},
}
USED_JOBS = {"Director"}.union(*JOBS.values())


class SeriesJob(BaseModel):
    job: str | None = None


class NamedItem(BaseModel):
    """A person, genre, company, country or collection."""

    id: Annotated[int | None, AfterValidator(_possible_id)] = None
    name: Text | None = None
    english_name: Text | None = None
    order: int | None = None
    job: str | None = None
    jobs: tuple[SeriesJob, ...] = ()  # where the credits of a series have `job`
    profile_path: Text | None = None


Items = tuple[NamedItem, ...]


def _first_of_cast(cast: Items) -> Items:
    billed = sorted(cast, key=lambda person: person.order or 0)
    return tuple({person.id or person.name: person for person in billed}.values())[:MAX_CAST]


def _used_crew(crew: Items) -> Items:
    return tuple(p for p in crew if USED_JOBS & {p.job, *(credit.job for credit in p.jobs)})


def validated(model: type[Model], body: bytes | str) -> Model:
    """What is wrong counts as missing, and takes its default; a row without an id is left out.

    Raises ValueError if the body itself is no such object.
    """
    with contextlib.suppress(ValidationError):
        return model.model_validate_json(body)
    data = json.loads(body)
    for _ in range(2):  # a wrong id goes first, then the row that lacks it
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for problem in reversed(error.errors()):  # or the places in lists would change
                _remove(data, problem["loc"][:-1] if problem["type"] == "missing" else problem["loc"])
    return model.model_validate(data)


def _remove(data: Any, place: tuple[int | str, ...]) -> None:
    *path, last = place
    for step in path:
        data = data[step]
    del data[last]


class AuthenticationBody(BaseModel):
    success: Literal[True]


class ResultBody(BaseModel):
    id: Annotated[int, Field(ge=1, le=MAX_TMDB_ID)]
    title: Text = Field("", validation_alias=AliasChoices("title", "name"))
    original_title: Text = Field("", validation_alias=AliasChoices("original_title", "original_name"))
    release_date: Text = Field("", validation_alias=AliasChoices("release_date", "first_air_date"))
    vote_count: Count = 0
    popularity: float = Field(0, allow_inf_nan=False)
    poster_path: Text = ""


Results = list[ResultBody]


class SearchBody(BaseModel):
    results: Results


class CollectionBody(BaseModel):
    name: Text = ""
    parts: Results = []


class FindBody(BaseModel):
    movie_results: Results = []
    tv_results: Results = []


class TitleBody(BaseModel):
    title: Text = Field("", validation_alias=AliasChoices("title", "name"))


class TranslationBody(BaseModel):
    data: TitleBody | None = None


class CreditsBody(BaseModel):
    cast: Annotated[Items, AfterValidator(_first_of_cast)] = ()
    crew: Annotated[Items, AfterValidator(_used_crew)] = ()


class ExternalIdsBody(BaseModel):
    imdb_id: str = ""


class MovieBody(ResultBody):
    """`movie/{id}` or `tv/{id}`, with what is appended."""

    imdb_id: str = ""
    external_ids: ExternalIdsBody = ExternalIdsBody()
    runtime: Annotated[int, Field(ge=0, le=100_000)] = 0
    episode_run_time: list[Annotated[int, Field(ge=0, le=10_000)]] = []
    number_of_episodes: Annotated[int, Field(ge=0, le=100_000)] = 0
    genres: Items = ()
    created_by: Items = ()
    production_countries: Items = ()
    production_companies: Items = ()
    spoken_languages: Items = ()
    keywords: dict[str, Items] = {}
    credits: CreditsBody = Field(CreditsBody(), validation_alias=AliasChoices("aggregate_credits", "credits"))
    vote_average: Annotated[float, Field(ge=0, le=10)] = 0
    belongs_to_collection: NamedItem | None = None
    original_language: Text = ""
    backdrop_path: Text = ""
    alternative_titles: dict[str, list[TitleBody]] = {}
    translations: dict[str, list[TranslationBody]] = {}

    @property
    def other_titles(self) -> Iterator[str]:
        alternative = itertools.chain(*self.alternative_titles.values())
        translated = (translation.data for translation in itertools.chain(*self.translations.values()))
        return (body.title for body in itertools.chain(alternative, translated) if body and body.title)


IMAGE_BASE_URL = "https://image.tmdb.org/t/p/"
IMAGE_PATH = re.compile(r"/[\w-]+\.(jpg|png|svg|webp)")


def _image_url(path: str | None, size: str = "w500") -> str | None:
    """The sizes are TMDB's, for example w92, w185 and w500 for posters, and h632 for portraits."""
    return f"{IMAGE_BASE_URL}{size}{path}" if path and IMAGE_PATH.fullmatch(path) else None


def candidate_from_result(tmdb_type: MediaType, body: ResultBody) -> Candidate:
    return Candidate(
        tmdb_id=body.id,
        tmdb_type=tmdb_type,
        title=body.title,
        original_title=body.original_title,
        year=year_of(body.release_date),
        votes=body.vote_count,
        popularity=body.popularity,
        poster_url=_image_url(body.poster_path),
    )


def candidate_from_movie(movie: Movie) -> Candidate:
    """The movie as a search would return it."""
    return Candidate(
        tmdb_id=movie.tmdb_id,
        tmdb_type=movie.tmdb_type,
        title=movie.title,
        original_title=movie.original_title,
        year=movie.year,
        votes=movie.tmdb_votes,
        popularity=0,
        poster_url=movie.poster_url,
    )


NameType = TypeVar("NameType", bound=TMDBName)


class NameFactory:
    """Shares one object per name among all movies, to save memory."""

    def __init__(self) -> None:
        self._known: defaultdict[type, weakref.WeakValueDictionary[int | str, Any]] = defaultdict(
            weakref.WeakValueDictionary
        )

    def __call__(self, kind: type[NameType], items: Iterable[NamedItem]) -> tuple[NameType, ...]:
        """Each name once, in order."""
        names = (self._name(kind, body) for body in items)
        return tuple({name.identity: name for name in names if name}.values())[:MAX_NAMES]

    def texts(self, items: Iterable[NamedItem]) -> tuple[str, ...]:
        """Names that need no id, such as genres: each once, in order."""
        texts = (item.english_name or item.name for item in items)
        return tuple(dict.fromkeys(sys.intern(text) for text in texts if text))[:MAX_NAMES]

    def _name(self, kind: type[NameType], body: NamedItem) -> NameType:
        identity = body.id or body.name or ""
        name = self._known[kind].get(identity)
        if name is None:
            name = self._known[kind][identity] = kind(body.name or "")
            name.identity = identity
            if isinstance(name, Person):
                name.portrait_url = _image_url(body.profile_path, "w185")
        return cast(NameType, name)


def movie_of(tmdb_type: MediaType, body: MovieBody, names: NameFactory) -> Movie:
    """The directors of a series are its creators, and its runtime is that of all episodes."""

    def working_as(jobs: set[str]) -> tuple[Person, ...]:
        hired = (p for p in crew if p.job in jobs or any(credit.job in jobs for credit in p.jobs))
        return names(Person, hired)

    episodes = body.episode_run_time
    series_runtime = round(sum(episodes) / len(episodes) * body.number_of_episodes) if episodes else 0
    runtime = body.runtime if tmdb_type == "movie" else series_runtime
    crew, imdb_id = body.credits.crew, body.imdb_id or body.external_ids.imdb_id
    return Movie(
        tmdb_id=body.id,
        tmdb_type=tmdb_type,
        imdb_id=imdb_id if IMDB_ID.fullmatch(imdb_id) else None,
        title=body.title,
        original_title=body.original_title,
        release_date=body.release_date if year_of(body.release_date) else None,
        runtime=runtime if runtime > 0 else None,
        genres=names.texts(body.genres),
        directors=names(Person, body.created_by) or working_as({"Director"}),
        cast=names(Person, body.credits.cast),
        **{role: working_as(jobs) for role, jobs in JOBS.items()},
        studios=names(Company, body.production_companies),
        countries=names.texts(body.production_countries),
        languages=names.texts(body.spoken_languages),
        keywords=names.texts(itertools.chain(*body.keywords.values())),
        poster_url=_image_url(body.poster_path),
        tmdb_rating=body.vote_average if body.vote_count else None,
        tmdb_votes=body.vote_count,
        collections=names(TMDBName, filter(None, [body.belongs_to_collection])),
        original_language=body.original_language[:3] or None,
        backdrop_url=_image_url(body.backdrop_path, "w1280"),
        other_titles=tuple(dict.fromkeys(body.other_titles))[:MAX_NAMES],
    )


# === Pace =====================================================================
# When the next request to TMDB may go, and which one. Requests wait for their turn here; only the pause
# before another try is in TMDB.
#
# TMDB refuses requests (status 429) if we ask too fast, but also at random. So a few refusals change nothing.
# If 8 of the last 40 requests were refused, the rate drops by 30 %, then grows by 2.5 % of the full rate per
# second. One in ten refused at random rarely causes a cut; asking a quarter too fast does.

RATE_KEPT = 0.985  # of the permitted rate, so that jitter cannot put one request too many into any second
SLACK_SECONDS = 0.01  # oversleeping by this much does not cost a slot
SAMPLE, REFUSED_OF_SAMPLE = 40, 8
CUT_FACTOR = 0.7
RECOVERY_SECONDS = 40  # from a cut until the rate is full again, at the latest
MAX_RETRY_AFTER_SECONDS = 60
# Failures in a row. Even if half of all requests fail, so many in a row happen by chance once in a million.
OUTAGE_FAILURES = 20
PROBE_SECONDS = 30  # the longest time between two requests during an outage


class Pace:
    """Decides when the next request may go, from the outcomes of earlier ones. It neither sends nor sleeps.

    `sent` returns the time; pass it to `answered`, `refused` or `failed` once the outcome is known.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.full_rate = self.rate_after_cut = per_second * RATE_KEPT
        self.slot_at, self.cut_at, self.paused_until = clock(), -math.inf, -math.inf
        self._sample: deque[bool] = deque(maxlen=SAMPLE)  # whether each request since the cut was refused
        self.failing = 0.0  # share of the last fifty requests or so without a usable answer, refusals aside
        self._bad_in_a_row, self.problem = 0, ""
        self._probe_at, self._probe_seconds = -math.inf, 0.0
        self.is_out = self._is_new_outage = self._answers_elsewhere = False

    def next_at(self, urgent: bool) -> float:
        """When the next request may go. An urgent one is itself a probe during an outage."""
        return max(self.slot_at, self.paused_until, -math.inf if urgent else self._probe_at)

    def rate(self, at: float) -> float:
        """In requests per second."""
        regained = self.full_rate * max(at - self.cut_at, 0) / RECOVERY_SECONDS
        return min(self.rate_after_cut + regained, self.full_rate)

    def waiting_for(self) -> str | None:
        """A sentence for people while everybody waits for TMDB, otherwise None."""
        wait = max(self.paused_until, self._probe_at) - self.clock()
        if wait < 1 and not self.is_out:
            return None
        return f"TMDB {self.problem}; trying again in {max(math.ceil(wait), 1)} s"

    def sent(self) -> float:
        now = self.clock()
        self.slot_at = max(self.slot_at, now - SLACK_SECONDS) + 1 / self.rate(now)
        if self.is_out:
            self._probe_at = now + self._probe_seconds
            self._probe_seconds = min(self._probe_seconds * 2, PROBE_SECONDS)
        return now

    # --- Outcomes

    def answered(self, sent_at: float) -> None:
        """Any answer but a 429 or a 5xx, even one that must be asked for again. Ends an outage."""
        self.failing *= 0.98
        self._end_outage(answers_elsewhere=False)
        self._count(sent_at, is_refused=False)

    def failed(self, sent_at: float, problem: str) -> None:
        """No usable answer: a 500, a time-out, a reset. `problem` completes "TMDB …"."""
        self.failing += 0.02 * (1 - self.failing)
        self._count(sent_at, is_refused=False)
        self._count_problem(problem)

    def refused(self, sent_at: float, retry_after_seconds: float | None = None) -> None:
        """A 429. With `Retry-After`, everybody waits, at most MAX_RETRY_AFTER_SECONDS."""
        self._answers_elsewhere = False
        if retry_after_seconds is not None:
            wait = min(max(retry_after_seconds, 0.5), MAX_RETRY_AFTER_SECONDS)
            self.paused_until = max(self.paused_until, self.clock() + wait)
        self._count(sent_at, is_refused=True)
        self._count_problem("refused requests (status 429)")

    def _count(self, sent_at: float, is_refused: bool) -> None:
        """Cuts the rate after many refusals, once per burst: those sent before a cut do not count again."""
        if sent_at <= self.cut_at:
            return
        self._sample.append(is_refused)
        if sum(self._sample) >= REFUSED_OF_SAMPLE:
            now = self.clock()
            self.rate_after_cut, self.cut_at = self.rate(now) * CUT_FACTOR, now
            self._sample.clear()

    # --- Outages

    def answers_others(self, tries: int) -> bool:
        """Whether TMDB answered others during the last `tries` requests, or was found to."""
        return self._bad_in_a_row < tries or self._answers_elsewhere

    def take_new_outage(self) -> bool:
        """Whether an outage has begun. True only once per outage, for whoever looks into it."""
        is_new, self._is_new_outage = self._is_new_outage, False
        return is_new

    def found_answering(self) -> None:
        """TMDB answers other questions, so whatever fails does not make an outage by itself."""
        self._end_outage(answers_elsewhere=True)

    def _end_outage(self, answers_elsewhere: bool) -> None:
        self._bad_in_a_row, self._probe_at, self._answers_elsewhere = 0, -math.inf, answers_elsewhere
        self.is_out = self._is_new_outage = False

    def _count_problem(self, problem: str) -> None:
        self.problem = problem
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= OUTAGE_FAILURES and not self.is_out and not self._answers_elsewhere:
            log.warning("TMDB %s %d times in a row; all sessions wait for it", problem, OUTAGE_FAILURES)
            self._probe_at, self._probe_seconds = self.clock() + 0.5, 1.0
            self.is_out = self._is_new_outage = True


class Turnstile:
    """Lets requests through one by one: people first, then by place. Each needs a slot and a connection.

    A request takes its place once, with `next(turnstile.order)`, and keeps it when it is sent again.
    """

    def __init__(self, pace: Pace, connections: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.order = itertools.count()
        self._pace, self._sleep = pace, sleep
        self._connections = asyncio.Semaphore(connections)
        self._queue: list[tuple[bool, int, int, asyncio.Future[float]]] = []
        self._dispatcher: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def slot(self, place: int, urgent: bool = False) -> AsyncIterator[float]:
        """Holds one of the connections, and yields the time at which the request is sent."""
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (not urgent, place, id(turn), turn))  # futures cannot be compared
        if self._dispatcher is None:
            self._dispatcher = asyncio.create_task(self._dispatch())
        try:
            yield await turn
        finally:
            if not turn.cancelled():
                self._connections.release()

    async def _dispatch(self) -> None:
        """Runs while anybody waits. Decides who is next when the slot comes, not before."""
        pace = self._pace
        while self._anyone_waits():
            await self._connections.acquire()
            while self._anyone_waits() and (wait := pace.next_at(not self._queue[0][0]) - pace.clock()) > 0:
                # At most 0.5 s at a time: a person or the end of an outage may bring the slot forward.
                await self._sleep(min(wait, 0.5))
            if self._anyone_waits():
                heapq.heappop(self._queue)[-1].set_result(pace.sent())
            else:
                self._connections.release()
        self._dispatcher = None

    def _anyone_waits(self) -> bool:
        while self._queue and self._queue[0][-1].done():  # it was cancelled
            heapq.heappop(self._queue)
        return bool(self._queue)

    async def close(self) -> None:
        if self._dispatcher:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)


# === Memory ===================================================================
# What is remembered of TMDB's answers: in the process, as decoded objects; beyond it, if wanted, as bodies
# cut down to what is used, which are decoded by the code that decodes what TMDB sends.

# Whether a person waits for the answer. Background work then goes second.
urgent: ContextVar[bool] = ContextVar("urgent", default=False)

# What TMDB has been asked for the film that is being looked up.
asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)

# Whether TMDB is to be asked, whatever it answered earlier.
asks_anew: ContextVar[bool] = ContextVar("asks_anew", default=False)

Answer = TypeVar("Answer", Match, Movie, Collection)

MAX_CACHED = 2_000  # results that outlive the sessions that asked for them


@dataclass(slots=True)
class SharedTask:
    task: asyncio.Task[Any]
    waiting: int = 0


class Sharing:
    """Shares work among those who ask for the same at once.

    An answer is never older than its question: whoever asks while one is being found shares the next.
    """

    def __init__(self) -> None:
        self._next: dict[Hashable, SharedTask] = {}
        self._locks: weakref.WeakValueDictionary[Hashable, asyncio.Lock] = weakref.WeakValueDictionary()

    async def run(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks in a task; the last of those who wait for it to leave cancels it."""
        shared = self._next.get(key)
        if shared is None:
            shared = self._next[key] = SharedTask(asyncio.create_task(self._one_at_a_time(key, ask)))
        shared.waiting += 1
        try:
            return cast(T, await asyncio.shield(shared.task))
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                shared.task.cancel()
                if self._next.get(key) is shared:
                    del self._next[key]
            del shared  # its error's traceback refers to this frame

    async def _one_at_a_time(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            del self._next[key]
            return await ask()


class Cache:
    """Answers by key: all that something else refers to, and the last MAX_CACHED that were fetched."""

    def __init__(self) -> None:
        self.sharing = Sharing()
        self._answers: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._latest: deque[Match | Movie | Collection] = deque(maxlen=MAX_CACHED)

    def __len__(self) -> int:
        return len(self._answers)

    async def get_or_fetch(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """From the cache, or asked for. People do not join the background's requests, which wait longer."""
        if (answer := self._answers.get(key)) is not None:
            return cast(Answer, answer)
        return await self.sharing.run((urgent.get(), key), partial(self._fetch, key, ask))

    def forget(self, key: Hashable) -> None:
        self._answers.pop(key, None)

    def hold(self, key: Hashable, read: Callable[[], Answer]) -> Answer:
        """From the cache, or read without asking anyone."""
        if (answer := self._answers.get(key)) is None:
            self._answers[key] = answer = read()
        return cast(Answer, answer)

    async def _fetch(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        if (answer := self._answers.get(key)) is not None:  # by the request before, which this one waited for
            return cast(Answer, answer)
        self._answers[key] = answer = await ask()
        self._latest.append(answer)
        return answer


class KeptAnswers(Protocol):
    """Where TMDB's answers outlive the process, by what was asked: path and parameters, without TMDB's key.

    A body is a validated model as JSON; `version` is that of the model. A body of another version lacks some
    field, so it is not returned.
    """

    async def get(self, key: str, version: str) -> str | None: ...

    def put(self, key: str, version: str, body: str, days: int) -> None: ...


PUT_AT_ONCE = 100  # answers in one transaction


class AnswerFile:
    """Keeps answers in an SQLite file, which only its owner may read. `now` is in seconds since 1970.

    A full disk or a damaged file costs no film: it is logged once, and nothing is kept any more.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        self._unwritten: list[tuple[str, str, str, float]] = []
        self._lock = threading.Lock()
        self._is_usable = True
        self._run(self._open)

    async def get(self, key: str, version: str) -> str | None:
        return self._run(self._select, key, version)  # in microseconds, less than a thread would take

    def put(self, key: str, version: str, body: str, days: int) -> None:
        self._unwritten.append((key, version, body, self._now() + days * 86_400))
        if len(self._unwritten) >= PUT_AT_ONCE:
            asyncio.get_running_loop().run_in_executor(None, self._run, self._write)

    def close(self) -> None:
        self._run(self._write)
        if self._is_usable:
            self._database.close()

    def _run(self, call: Callable[..., T], *arguments: Any) -> T | None:
        try:
            with self._lock:
                return call(*arguments) if self._is_usable else None
        except (OSError, sqlite3.Error) as error:
            log.warning("%s cannot be used, so TMDB's answers are not kept: %s", self._path, error)
            self._is_usable = False
            return None

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(self._path, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE IF NOT EXISTS "
            "answers (key TEXT PRIMARY KEY, version TEXT, body TEXT, usable_until REAL) WITHOUT ROWID"
        )
        with self._database:
            self._database.execute("DELETE FROM answers WHERE usable_until < ?", (self._now(),))

    def _select(self, key: str, version: str) -> str | None:
        query = "SELECT body FROM answers WHERE (key, version) = (?, ?) AND usable_until > ?"
        row = self._database.execute(query, (key, version, self._now())).fetchone()
        return row[0] if row else None

    def _write(self) -> None:
        written, self._unwritten = self._unwritten, []
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", written)


@cache
def model_version(model: type[BaseModel]) -> str:
    """Another one whenever a field of the model changes."""
    schema = json.dumps(model.model_json_schema(), sort_keys=True)
    return hashlib.blake2b(schema.encode(), digest_size=4).hexdigest()


def days_to_keep(answer: BaseModel, today: date) -> int:
    """A new film's record still changes, and what TMDB does not have today it may have tomorrow."""
    if isinstance(answer, MovieBody):
        return 150 if answer.release_date and answer.release_date < f"{today - timedelta(365)}" else 14
    return 30 if any(value for _, value in answer) else 1


# === TMDB =====================================================================
# Everything that is asked of TMDB. The endpoint methods build requests and share their results, `_get` looks
# among the kept answers, `_ask` asks again if that may help, `_try` passes the turnstile, and `_fetch` sends
# one request.

MIN_TRIES, MAX_TRIES = 12, 40  # of one request, refusals aside
PATIENCE_SECONDS = 300  # for one request, whatever TMDB does
CHECK_SECONDS = 1  # how long /health waits to learn whether the key is accepted, and
CHECK_INTERVAL_SECONDS = 10  # how often it asks
MAX_ANSWER_BYTES = 1_000_000  # the largest seen has 281 KB
APPENDED = {"movie": "credits,keywords", "tv": "aggregate_credits,keywords,external_ids"}
MORE_TITLES = ",alternative_titles,translations"
PAGE_SIZE = 20  # results of a search
TMDB = re.compile(r"https://api\.(themoviedb|tmdb)\.org/3")  # one service; another's answers are not the same
KEY_REJECTED = "TMDB rejects the key; check TMDB_API_KEY, restart and upload again."
STRAY_STATUSES = {400, 401, 403, 405}  # statuses that the CDN also sends by mistake


class _Fault(Exception):
    """One attempt failed; the next may succeed. Its text completes "TMDB …"."""

    def __init__(self, problem: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.status, self.retry_after = status, retry_after


class TMDBClient:
    """TMDB's endpoints. Use it as an async context manager.

    `clock` and `sleep`, in seconds, let tests decide how time passes.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        answers: KeptAnswers | None = None,
    ) -> None:
        self.key_state: Literal["missing", "unchecked", "accepted", "rejected"] = "missing"
        self.workers = settings.tmdb_connections
        self.cache = Cache()
        self.answers = answers
        self._source = "" if TMDB.fullmatch(settings.tmdb_base_url) else f" of {settings.tmdb_base_url}"
        self._settings = settings
        self._sleep = sleep
        self._clock = clock
        self.keep_pace(Pace(settings.tmdb_requests_per_second, clock))
        self._key_checked_at = -math.inf
        self.names = NameFactory()
        self._headers, self._params = {"Accept-Encoding": "gzip"}, {}
        if key := settings.tmdb_api_key.get_secret_value():
            self.key_state = "unchecked"
            if key.startswith("eyJ"):
                self._headers["Authorization"] = f"Bearer {key}"
            else:
                self._params["api_key"] = key

    def keep_pace(self, pace: Pace) -> None:
        """Sends requests when this pace says so."""
        self.pace = pace
        self._turnstile = Turnstile(pace, self._settings.tmdb_connections, self._sleep)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.tmdb_connections),
            timeout=aiohttp.ClientTimeout(total=self._settings.tmdb_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        # Otherwise aiohttp repeats a request after a reset by itself, past the turnstile. No public option.
        self._http._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._turnstile.close()
        await self._http.close()

    async def search(
        self, tmdb_type: MediaType, query: str, year: int | None, adult: bool = False
    ) -> list[Candidate]:
        """The first page of candidates. TMDB also searches translated and alternative titles."""
        year_name = "primary_release_year" if tmdb_type == "movie" else "first_air_date_year"
        params = {"query": query, "include_adult": str(adult).lower()} | (
            {year_name: str(year)} if year else {}
        )
        body = await self._get(f"search/{tmdb_type}", SearchBody, params)
        return [candidate_from_result(tmdb_type, result) for result in body.results[:PAGE_SIZE]]

    async def movie(self, tmdb_type: MediaType, tmdb_id: int, with_titles: bool = False) -> Movie:
        """With credits and keywords and, if `with_titles`, its other titles, which take up to 100 KB.

        Raises TMDBNotFound if TMDB has no such record.
        """

        async def ask() -> Movie:
            params = {"append_to_response": APPENDED[tmdb_type] + (MORE_TITLES if with_titles else "")}
            body = await self._get(f"{tmdb_type}/{tmdb_id}", MovieBody, params)
            return movie_of(tmdb_type, body, self.names)

        return await self.cache.get_or_fetch((tmdb_type, tmdb_id, with_titles), ask)

    async def collection(self, tmdb_id: int) -> Collection:
        """Without a name and films if TMDB does not know it. That is an answer to cache, too."""

        async def ask() -> Collection:
            body = CollectionBody()
            with contextlib.suppress(TMDBNotFound):
                body = await self._get(f"collection/{tmdb_id}", CollectionBody, {})
            return collection_of(body)

        return await self.cache.get_or_fetch(("collection", tmdb_id), ask)

    async def find_by_imdb_id(self, imdb_id: str) -> TMDBRef | None:
        body = await self._get(f"find/{imdb_id}", FindBody, {"external_source": "imdb_id"})
        if body.movie_results:
            return "movie", body.movie_results[0].id
        return ("tv", body.tv_results[0].id) if body.tv_results else None

    async def check_key(self) -> None:
        """Updates `key_state` if TMDB answers within a second. Asks at most every ten seconds."""
        if self._clock() - self._key_checked_at < CHECK_INTERVAL_SECONDS:
            return
        self._key_checked_at = self._clock()
        with contextlib.suppress(TMDBError, _Fault, TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await self._authenticate()

    async def _authenticate(self) -> None:
        """Asks TMDB whether it accepts the key. Raises TMDBKeyRejected if not, _Fault or TMDBError
        if it does not say.
        """

        async def ask() -> None:
            urgent.set(True)
            await self._try("authentication", AuthenticationBody, {}, next(self._turnstile.order))

        await self.cache.sharing.run("key", ask)

    def version(self, model: type[BaseModel]) -> str:
        """Of the answers that are kept: another service's are not the same."""
        return f"{model_version(model)}{self._source}"

    async def _get(self, path: str, model: type[Model], params: dict[str, str]) -> Model:
        """One answer, kept or asked for. Raises TMDBError."""
        key, version = f"{path}?{urlencode(sorted(params.items()))}", self.version(model)
        if self.answers and not asks_anew.get() and (kept := await self.answers.get(key, version)):
            return validated(model, kept)
        answer = await self._ask(path, model, params)
        if self.answers:
            days = days_to_keep(answer, datetime.now(UTC).date())
            self.answers.put(key, version, answer.model_dump_json(exclude_defaults=True), days)
        return answer

    async def _ask(self, path: str, model: type[Model], params: dict[str, str]) -> Model:
        """One answer, asked for again if that may help. Raises TMDBError."""
        place, started = next(self._turnstile.order), self._clock()
        if (paths := asked.get()) is not None:
            paths.append(path)
        faults: list[_Fault] = []
        while True:
            try:
                return await self._try(path, model, params, place)
            except _Fault as fault:
                faults.append(fault.with_traceback(None))  # a traceback would keep this frame alive
            log.debug("[%s] TMDB %s (%s), asking again", log_id.get(), faults[-1], path.partition("/")[0])
            if not await self._look_into(faults[-1]):
                self._check_patience(faults, self._clock() - started)
            wait = min(0.25 * 2 ** min(len(faults), 10), 60 if self.pace.is_out else 4)
            await self._sleep(wait * random.uniform(0.5, 1.5))

    async def _look_into(self, fault: _Fault) -> bool:
        """Asks /authentication: after a 401, about the key; in a new outage, if TMDB answers at all.

        True if TMDB does answer after all, so that one more try is worth it.
        """
        if fault.status == 401 and self.key_state == "rejected":
            raise TMDBKeyRejected(KEY_REJECTED)
        is_outage = fault.status not in (401, 429) and self.pace.take_new_outage()
        if is_outage or fault.status == 401:
            with contextlib.suppress(_Fault, TMDBUnavailable, TMDBNotFound):
                await self._authenticate()
                if is_outage:
                    self.pace.found_answering()
                    return True
        return False

    def _check_patience(self, faults: list[_Fault], seconds: float) -> None:
        """Raises TMDBUnavailable if asking again is pointless. Refusals do not count as tries."""
        fault = faults[-1]
        tries = sum(earlier.status != 429 for earlier in faults)
        if (
            fault.status in STRAY_STATUSES - {401}
            and sum(earlier.status == fault.status for earlier in faults) == 3
        ):
            raise TMDBUnavailable(f"TMDB refused the request three times with status {fault.status}.")
        if tries >= self._max_tries() and self.pace.answers_others(tries):
            raise TMDBUnavailable(f"TMDB gave no answer in {tries} tries; the last time, it {fault}.")
        if seconds >= PATIENCE_SECONDS:
            raise TMDBUnavailable(
                f"TMDB gave no answer in {PATIENCE_SECONDS // 60} minutes; the last time, it {fault}."
            )

    def _max_tries(self) -> int:
        """Enough that independent failures, at the present rate, would exhaust them once in a million."""
        failing = min(max(self.pace.failing, 1e-6), 0.99)
        return min(max(math.ceil(math.log(1e-6) / math.log(failing)), MIN_TRIES), MAX_TRIES)

    async def _try(self, path: str, model: type[Model], params: dict[str, str], place: int) -> Model:
        """One request, whose outcome the pace learns."""
        if self.key_state == "missing":
            raise TMDBKeyRejected("No TMDB_API_KEY is set, so TMDB cannot be asked.")
        async with self._turnstile.slot(place, urgent.get()) as sent_at:
            try:
                status, body = await self._fetch(path, params)
                answer = _parse(model, body) if status == 200 else None
            except _Fault as fault:
                if fault.status == 429:
                    self.pace.refused(sent_at, fault.retry_after)
                else:
                    self.pace.failed(sent_at, str(fault))
                raise
            self.pace.answered(sent_at)
        if answer is None:
            self._raise_for(status, path)
        self.key_state = "accepted"
        return answer

    def _raise_for(self, status: int, path: str) -> NoReturn:
        """The error for a status other than 200. A stray one is a _Fault, so it is asked again."""
        if status == 401 and path == "authentication":
            self.key_state = "rejected"
            raise TMDBKeyRejected(KEY_REJECTED)
        if status == 404:
            raise TMDBNotFound(
                "TMDB has no record with that id and type; copy both from the URL of its page there."
            )
        if status in STRAY_STATUSES:
            raise _Fault(f"answered with status {status}", status)
        raise TMDBUnavailable(f"TMDB refused the request with status {status}.")

    async def _fetch(self, path: str, params: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of one answer. Drops aiohttp's error texts, which may contain the key."""
        url = f"{self._settings.tmdb_base_url}/{path}"
        try:
            async with self._http.get(url, params=params | self._params, allow_redirects=False) as response:
                body = await self._read(response)
        except TimeoutError:
            raise _Fault(f"took over {self._settings.tmdb_timeout_seconds:g} s to answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Fault(f"could not be reached: the connection failed ({type(error).__name__})") from None
        if response.status == 429:
            seconds = response.headers.get("Retry-After", "")  # a date or junk counts as absent
            wait = float(seconds) if re.fullmatch(r"[0-9]{1,6}", seconds) else None
            raise _Fault("refused requests (status 429)", 429, wait)
        if response.status != 200 and not 400 <= response.status < 500:
            raise _Fault(f"answered with status {response.status}", response.status)
        return response.status, body

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise _Fault(f"sent over {MAX_ANSWER_BYTES:,} bytes")
        return bytes(body)


def collection_of(body: CollectionBody) -> Collection:
    today = datetime.now(UTC).date().isoformat()
    return Collection(body.name, {p.id: p.title for p in body.parts if "" < p.release_date <= today})


def _parse(model: type[Model], body: bytes) -> Model:
    """Replaces lone surrogates, which JSON can spell but UTF-8 cannot, with question marks."""
    try:
        if SURROGATE.search(body):
            body = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        return validated(model, body)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Fault("sent something that is not the JSON expected") from None


SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


# === Charts ===================================================================
# films -> bars, rankings and lists, which the statistics consist of. A group is a key and its films; a value
# is the number by which a list is ordered.

MIN_RATED_FILMS = 3  # for a mean rating to be ranked
MAX_POSTERS = 6  # of a person's films
MAX_WALL = 48  # favourites, whatever the limit
RUNTIMES = (0, 60, 90, 120, 150, 180)  # lower ends of the columns, in minutes
AGES = (0, 1, 5, 10, 20, 30, 50)  # likewise, in years
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(slots=True)
class Bar:
    """One bar of a chart: the number of films (in some charts, of viewings), their mean rating, the films.

    Directors and cast have a portrait, if TMDB has one, and the posters of up to six films, best first.
    """

    name: str
    count: int
    mean_rating: float | None
    movie_ids: list[int]
    tmdb_id: int | None = None
    portrait_url: str | None = None
    poster_urls: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Ranking:
    """The first of `total` groups by films, and of `total_rated` groups by mean rating.

    Only groups with at least three rated films are ranked by rating.
    """

    most_watched: list[Bar]
    highest_rated: list[Bar]
    total: int
    total_rated: int


@dataclass(slots=True)
class ListedFilm:
    """A film in a list, with the value that put it there."""

    movie_id: int
    title: str
    year: int | None
    poster_url: str | None
    rating: float | None
    value: float | None
    liked: bool
    tmdb_rating: float | None
    backdrop_url: str | None


FIELDS = attrgetter(*(each.name for each in fields(Film)))  # replace() takes five times as long


def snapshots(films: Iterable[Film]) -> tuple[list[Film], list[list[int]]]:
    """The films as they are now, one per record, with TMDB's year if they have none; who shares a record."""
    same: defaultdict[Hashable, list[Film]] = defaultdict(list)
    for film in films:
        now = Film(*FIELDS(film))
        movie = now.match.movie
        now.year = film.release_year
        same[(movie.tmdb_type, movie.tmdb_id) if movie else film.movie_id].append(now)
    shared = [[film.movie_id for film in group] for group in same.values() if len(group) > 1]
    return [group[0] if len(group) == 1 else _as_one(group) for group in same.values()], shared


def _as_one(group: list[Film]) -> Film:
    """The first of them, with what was logged of all. A day in several of them is one viewing."""
    viewings = list(group[0].viewings)
    for film in group[1:]:
        days = {viewing.watched_date for viewing in viewings} - {None}
        viewings += [viewing for viewing in film.viewings if viewing.watched_date not in days]
    return replace(
        group[0],
        rating=next((film.rating for film in group if film.rating is not None), None),
        watched=any(film.watched for film in group),
        liked=any(film.liked for film in group),
        watchlist=any(film.watchlist for film in group),
        viewings=viewings,
        undated_reviews=[review for film in group for review in film.undated_reviews],
    )


def _runtime(film: Film) -> int | None:
    return film.match.movie.runtime if film.match.movie else None


def _is_series(film: Film) -> bool:
    return film.match.movie is not None and film.match.movie.tmdb_type == "tv"


@dataclass(slots=True)
class FilmViewing:
    """One viewing of one film. `day` is None if the diary has none."""

    day: date | None
    film: Film
    rewatch: bool
    reviewed: bool


def _oldest_first(film: Film) -> list[Viewing]:
    """Those of one day stay in the order of the diary, so that the first row is no rewatch."""
    return sorted(film.viewings, key=lambda viewing: viewing.watched_date or date.min)


def _viewings(film: Film) -> Iterator[FilmViewing]:
    for number, viewing in enumerate(_oldest_first(film)):
        yield FilmViewing(viewing.watched_date, film, viewing.rewatch or number > 0, bool(viewing.review))


def _of_year(viewings: list[FilmViewing], year: int) -> tuple[list[FilmViewing], list[Film]]:
    """The viewings in that year, and each of their films once."""
    within = [viewing for viewing in viewings if viewing.day and viewing.day.year == year]
    return within, list({viewing.film.movie_id: viewing.film for viewing in within}.values())


Group = tuple[Any, list[Film]]
Draw = Callable[[Any, list[Film]], Bar]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None


def _mean_rating(films: Iterable[Film]) -> float | None:
    return _mean([film.rating for film in films if film.rating is not None])


def _bar(name: object, films: list[Film]) -> Bar:
    ids = list(dict.fromkeys([film.movie_id for film in films]))
    tmdb_id = name.identity if isinstance(name, TMDBName) and isinstance(name.identity, int) else None
    return Bar(str(name), len(films), _mean_rating(films), ids, tmdb_id)


def _merged(groups: Iterable[Group]) -> list[Group]:
    """One group per key, in the order of the keys."""
    together: defaultdict[Any, list[Film]] = defaultdict(list)
    for key, films in groups:
        together[key] += films
    return sorted(together.items())


def _bars(groups: Iterable[Group], keys: Sequence[object] | None = None) -> list[Bar]:
    """One bar per key, in the order of `keys`, or sorted."""
    together = dict(_merged(groups))
    return [_bar(key, together.get(key, [])) for key in (together if keys is None else keys)]


def _histogram(films: Iterable[tuple[int, Film]], ends: Sequence[int]) -> list[Bar]:
    """One column from each of `ends` up to the next."""
    names = [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(ends)]
    names.append(f"{ends[-1]} or more")
    return _bars(((names[bisect_right(ends, value) - 1], [film]) for value, film in films), names)


def _decades(films: Iterable[Film]) -> list[Group]:
    return _merged((f"{film.year // 10 * 10}s", [film]) for film in films if film.year)


def _by_rating(films: Iterable[Film]) -> list[Bar]:
    rated = dict(_merged((film.rating, [film]) for film in films if film.rating))
    return [_bar(f"{half / 2:g}", rated.get(half / 2, [])) for half in range(1, 11)]


def _listed(film: Film, value: float | None = None) -> ListedFilm:
    movie = film.match.movie
    return ListedFilm(
        movie_id=film.movie_id,
        title=film.name,
        year=film.year,
        poster_url=movie.poster_url if movie else None,
        rating=film.rating,
        value=value,
        liked=film.liked,
        tmdb_rating=movie.tmdb_rating if movie else None,
        backdrop_url=movie.backdrop_url if movie else None,
    )


def _top(films: Iterable[tuple[float, Film]], limit: int, least_first: bool = False) -> list[ListedFilm]:
    """The films with the highest values, or with the lowest."""
    sign = 1 if least_first else -1
    known = ((sign * value, -(film.rating or 0), film.name, film.movie_id, film) for value, film in films)
    return [_listed(film, round(sign * value, 2)) for value, *_, film in heapq.nsmallest(limit, known)]


def _favourites(watched: list[Film], times: Mapping[int, int]) -> list[ListedFilm]:
    def better(film: Film) -> tuple[float, bool, int, int]:
        return -(film.rating or 0), not film.liked, -times.get(film.movie_id, 0), film.movie_id

    films = (film for film in watched if not _is_series(film))
    return [_listed(film, film.rating) for film in heapq.nsmallest(MAX_WALL, films, key=better)]


def _group_by(films: Iterable[Film], attribute: str) -> list[Group]:
    """Films by the names in an attribute of their movies, such as `genres` or `original_language`."""
    called: dict[Hashable, str] = {}
    groups: defaultdict[Hashable, list[Film]] = defaultdict(list)
    for film in films:
        names = getattr(film.match.movie, attribute, None) or ()
        for name in [names] if isinstance(names, str) else names:
            key = name.identity if isinstance(name, TMDBName) else name
            groups[key].append(film)
            called[key] = name
    return [(called[key], members) for key, members in groups.items()]


def _most_watched(groups: list[Group], limit: int, bar: Draw = _bar) -> list[Bar]:
    """By films, then mean rating, then name."""
    least = min(heapq.nlargest(limit, (len(films) for _, films in groups)), default=0)
    large = (group for group in groups if len(group[1]) >= least)
    first = sorted(large, key=lambda group: (-len(group[1]), -(_mean_rating(group[1]) or 0), group[0]))
    return [bar(name, films) for name, films in first[:limit]]


def _rated(groups: list[Group]) -> list[Group]:
    """Those with enough rated films, by mean rating, then number of these films, then name."""
    ranked = []
    for name, films in groups:
        ratings = [film.rating for film in films if film.rating is not None]
        if len(ratings) >= MIN_RATED_FILMS:
            ranked.append((-sum(ratings) / len(ratings), -len(ratings), name, films))
    return [(name, films) for *_, name, films in sorted(ranked, key=lambda each: each[:3])]


def _ranking(groups: list[Group], limit: int, bar: Draw = _bar) -> Ranking:
    rated = _rated(groups)
    first = [(name, [film for film in films if film.rating is not None]) for name, films in rated[:limit]]
    highest_rated = list(itertools.starmap(bar, first))
    return Ranking(_most_watched(groups, limit, bar), highest_rated, len(groups), len(rated))


def _portrayed(person: Person, films: list[Film]) -> Bar:
    """A bar with the portrait, and the posters of the best films."""
    best = (film.match.movie for film in sorted(films, key=lambda film: -(film.rating or 0)))
    posters = [movie.poster_url for movie in best if movie and movie.poster_url]
    return replace(_bar(person, films), portrait_url=person.portrait_url, poster_urls=posters[:MAX_POSTERS])


def _longest_run(numbers: Iterable[int]) -> int:
    """The length of the longest run of consecutive numbers."""
    longest = run = 0
    before: int | None = None
    for number in sorted(set(numbers)):
        run = run + 1 if number - 1 == before else 1
        longest, before = max(longest, run), number
    return longest


def _days_covered(days: Mapping[int, int], year: int | None) -> int:
    """From the first of the days to the last; of a year all days, or those until today."""
    if year is None or not days:
        return max(days) - min(days) + 1 if days else 0
    last = min(datetime.now(UTC).date(), date(year, 12, 31)).toordinal()
    return max(last, *days) - date(year, 1, 1).toordinal() + 1


def _hours(films: Iterable[Film], times: Mapping[int, int]) -> float:
    """Hours of films, each counted as often as `times` says, or once."""
    return round(sum((_runtime(film) or 0) * times.get(film.movie_id, 1) for film in films) / 60, 1)


# === Statistics ===============================================================
# films -> numbers. Pure functions. Each shape stands directly before the function that fills it; Statistics
# and People are filled by compute_statistics, at the end.

WHAT_COUNTS = """Computed from the films looked up so far, for all time or for one `year` of the diary.

- A film counts if it was watched; with a `year`, if it has a viewing in that year. Films with one record of
  TMDB's count once. The year of release is the export's, or TMDB's if the export has none.
- A viewing is a row of the diary. A rewatch is a viewing that says so, or that is not the film's first. The
  date in watched.csv is not a viewing. Viewings without a date count, but in no year. Viewings on one day are
  in the order of the session's films.
- Ratings are the current ratings of films, not those of single viewings.
- Hours count a film's runtime once per viewing, or once if the film is not in the diary. Films without a
  known runtime are left out and counted separately. Series are included in all numbers, and also counted
  separately.
- People, studios and collections are told apart by TMDB's id. Within a ranking, each counts once per film.
- Ties are broken by mean rating (or, in rankings by rating, by number of films), then by name."""

MIN_VOTES = 50  # at TMDB, for a comparison with the crowd
MAX_GEM_VOTES = 1_000


@dataclass(slots=True)
class Totals:
    """`viewings` are rows of the diary, including rewatches; `undated` of them have no date.

    `hours` count each viewing, and once each film that is not in the diary. They leave out the films
    `without_runtime`. All numbers include `series`, of which `series_hours` are. A streak is a run of days,
    or of weeks from Monday, with a viewing. Averages cover the time from the first to the last viewing; those
    of a year cover the year, or the days until today. `milestones` are every 50th viewing. `reviewed` films
    have a review; with a year, a review of a viewing in it.
    """

    films: int
    series: int
    viewings: int
    undated: int
    rewatches: int
    hours: float
    days: float
    series_hours: float
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
    first: ListedFilm | None
    last: ListedFilm | None
    milestones: list[ListedFilm]


def _totals(every: list[Film], watched: list[Film], viewings: list[FilmViewing], year: int | None) -> Totals:
    times = Counter(viewing.film.movie_id for viewing in viewings)
    hours, series = _hours(watched, times), [film for film in watched if _is_series(film)]
    undated_reviews = {f.movie_id for f in watched if year is None and f.undated_reviews}
    dated = [viewing for viewing in viewings if viewing.day]
    per_day = Counter(viewing.day.toordinal() for viewing in dated if viewing.day)
    span = _days_covered(per_day, year)
    ratings = [film.rating for film in watched if film.rating is not None]
    return Totals(
        films=len(watched),
        series=len(series),
        viewings=len(viewings),
        undated=len(viewings) - len(dated),
        rewatches=sum(viewing.rewatch for viewing in viewings),
        hours=hours,
        days=round(hours / 24, 1),
        series_hours=_hours(series, times),
        without_runtime=sum(_runtime(film) is None for film in watched),
        rated=len(ratings),
        liked=sum(film.liked for film in watched),
        reviewed=len({viewing.film.movie_id for viewing in viewings if viewing.reviewed} | undated_reviews),
        watchlist=sum(film.watchlist for film in every),
        directors=len(_group_by(watched, "directors")),
        countries=len(_group_by(watched, "countries")),
        languages=len(_group_by(watched, "languages")),
        mean_rating=_mean(ratings),
        median_rating=median(ratings) if ratings else None,
        longest_streak_days=_longest_run(per_day),
        longest_streak_weeks=_longest_run((day - 1) // 7 for day in per_day),
        days_with_two_or_more=sum(count > 1 for count in per_day.values()),
        viewings_per_week=round(len(dated) * 7 / max(span, 7), 2) if dated else None,
        viewings_per_month=round(len(dated) * 30.44 / max(span, 30.44), 2) if dated else None,
        first=_listed(dated[0].film) if dated else None,
        last=_listed(dated[-1].film) if dated else None,
        milestones=[_listed(viewing.film, n) for n, viewing in enumerate(dated, 1) if n % 50 == 0],
    )


@dataclass(slots=True)
class ThroughTime:
    """Viewings by year, month, week (its Monday), weekday and day; films by release year and decade.

    `best_decades` are up to three decades with the highest mean rating and at least three rated films. `ages`
    are the ages of the films in years, by viewing, without viewings dated before the film's year.
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


def _through_time(watched: list[Film], viewings: list[FilmViewing], year: int | None) -> ThroughTime:
    days: list[tuple[date, list[Film]]] = _merged(
        (viewing.day, [viewing.film]) for viewing in viewings if viewing.day
    )
    ages = [
        (day.year - film.year, film)
        for day, films in days
        for film in films
        if film.year and film.year <= day.year  # otherwise the date is wrong
    ]
    decades = _decades(watched)
    return ThroughTime(
        years=_bars((day.year, films) for day, films in days),
        months=_bars(
            ((day.isoformat()[:7], films) for day, films in days),
            [f"{year}-{month:02}" for month in range(1, 13)] if year else None,
        ),
        weeks=_bars((day - timedelta(day.weekday()), films) for day, films in days),
        weekdays=_bars(((WEEKDAYS[day.weekday()], films) for day, films in days), WEEKDAYS),
        days=_bars(days),
        release_years=_bars((film.year, [film]) for film in watched if film.year),
        decades=_bars(decades),
        best_decades=_ranking(decades, 3).highest_rated,
        ages=_histogram(ages, AGES),
        mean_age=_mean([age for age, _ in ages]),
    )


@dataclass(slots=True)
class Ratings:
    """`above_crowd` and `below_crowd`: the rating minus half of TMDB's, for films with at least 50 votes.

    `obscure` and `popular` are by votes. `gems` are rated 4 or higher and have 50 to 999 votes. `compared`
    films have a rating and at least 50 votes: their mean rating is `compared_mean` and their ratings are the
    `compared_histogram`; by half of TMDB's rating, they have the `crowd_mean` and the `crowd_histogram`.
    """

    histogram: list[Bar]
    compared_histogram: list[Bar]
    crowd_histogram: list[int]
    compared: int
    compared_mean: float | None
    crowd_mean: float | None
    above_crowd: list[ListedFilm]
    below_crowd: list[ListedFilm]
    obscure: list[ListedFilm]
    popular: list[ListedFilm]
    gems: list[ListedFilm]


def _ratings(watched: list[Film], limit: int) -> Ratings:
    movies = [(film.match.movie, film) for film in watched if film.match.movie]
    voted = [(movie, film) for movie, film in movies if movie.tmdb_votes >= MIN_VOTES]
    rated = [(film.rating, m.tmdb_rating / 2, film) for m, film in voted if film.rating and m.tmdb_rating]
    crowd = [(mine - others, film) for mine, others, film in rated]
    columns = Counter(min(max(math.floor(others * 2 + 0.5), 1), 10) for _, others, _ in rated)
    votes = [(movie.tmdb_votes, film) for movie, film in movies if movie.tmdb_votes]
    gems = [(m.tmdb_votes, f) for m, f in voted if m.tmdb_votes < MAX_GEM_VOTES and (f.rating or 0) >= 4]
    return Ratings(
        histogram=_by_rating(watched),
        compared_histogram=_by_rating(film for *_, film in rated),
        crowd_histogram=[columns[half] for half in range(1, 11)],
        compared=len(rated),
        compared_mean=_mean([mine for mine, _, _ in rated]),
        crowd_mean=_mean([others for _, others, _ in rated]),
        above_crowd=_top(((less, film) for less, film in crowd if less > 0), limit),
        below_crowd=_top(((less, film) for less, film in crowd if less < 0), limit, least_first=True),
        obscure=_top(votes, limit, least_first=True),
        popular=_top(votes, limit),
        gems=_top(gems, limit, least_first=True),
    )


@dataclass(slots=True)
class CollectionProgress:
    """A collection with at least two watched films: how many are released, which of them are `missing`."""

    name: str
    tmdb_id: int
    watched: int
    released: int
    movie_ids: list[int]
    missing: list[str]


@dataclass(slots=True)
class Topics:
    """`themes` are TMDB's keywords, `tags` the member's own. `world` are all countries. `languages` are all
    that are spoken in a film; `original_languages` are ISO 639-1 codes. `completeness` lists collections,
    those with the fewest missing films first and the complete ones last.
    """

    genres: Ranking
    genre_pairs: Ranking
    countries: Ranking
    world: list[Bar]
    languages: Ranking
    original_languages: Ranking
    themes: Ranking
    tags: Ranking
    studios: Ranking
    collections: Ranking
    completeness: list[CollectionProgress]


def _topics(watched: list[Film], collections: Mapping[int, Collection], limit: int) -> Topics:
    genres = ((sorted(film.match.movie.genres), film) for film in watched if film.match.movie)
    pairs = _merged((pair, [film]) for names, film in genres for pair in itertools.combinations(names, 2))
    countries = _group_by(watched, "countries")
    tagged = (
        (tag, [film]) for film in watched for tag in {tag for each in film.entries for tag in each.tags}
    )
    return Topics(
        genres=_ranking(_group_by(watched, "genres"), limit),
        genre_pairs=_ranking([(" & ".join(pair), films) for pair, films in pairs], limit),
        countries=_ranking(countries, limit),
        world=_most_watched(countries, len(countries)),
        languages=_ranking(_group_by(watched, "languages"), limit),
        original_languages=_ranking(_group_by(watched, "original_language"), limit),
        themes=_ranking(_group_by(watched, "keywords"), limit),
        tags=_ranking(_merged(tagged), limit),
        studios=_ranking(_group_by(watched, "studios"), limit),
        collections=_ranking(_group_by(watched, "collections"), limit),
        completeness=_completeness(watched, collections)[:limit],
    )


def _completeness(watched: list[Film], known: Mapping[int, Collection]) -> list[CollectionProgress]:
    films = {f.match.movie.tmdb_id: f for f in watched if f.match.movie and not _is_series(f)}
    progress = []
    for tmdb_id, collection in list(known.items()):  # a copy: some may be added meanwhile
        ids = [films[part].movie_id for part in collection.released if part in films]
        missing = [title for part, title in collection.released.items() if part not in films]
        if len(ids) > 1:
            released = len(collection.released)
            progress.append(CollectionProgress(collection.name, tmdb_id, len(ids), released, ids, missing))
    return sorted(progress, key=lambda c: (not c.missing, len(c.missing), -c.watched, c.name, c.tmdb_id))


@dataclass(slots=True)
class People:
    directors: Ranking
    cast: Ranking
    writers: Ranking
    composers: Ranking
    cinematographers: Ranking
    editors: Ranking
    producers: Ranking


def _people(watched: list[Film], limit: int) -> People:
    def ranking(role: str) -> Ranking:
        bar = _portrayed if role in ("directors", "cast") else _bar
        return _ranking(_group_by(watched, role), limit, bar)

    return People(**{role.name: ranking(role.name) for role in fields(People)})


MAX_DIARY = 1_000
MAX_LATEST = 24  # of the watchlist, whatever the limit


@dataclass(slots=True)
class FilmLists:
    """`favourites` are the highest rated, then liked, then most often watched films. `most_rewatched` films
    are by rewatches. `longest`, `shortest` and `runtimes` are without series. `series` are by minutes, 0 if
    unknown. With a year, `new` and `old` are the highest rated of its releases and of older films, and
    `diary` has one entry per viewing, in order. Without, they are empty. `rerated` films have another rating
    in their last rated viewing than in their first, by this much.
    """

    favourites: list[ListedFilm]
    diary: list[ListedFilm]
    most_rewatched: list[ListedFilm]
    rerated: list[ListedFilm]
    longest: list[ListedFilm]
    shortest: list[ListedFilm]
    series: list[ListedFilm]
    new: list[ListedFilm]
    old: list[ListedFilm]
    runtimes: list[Bar]


def _lists(watched: list[Film], viewings: list[FilmViewing], year: int | None, limit: int) -> FilmLists:
    times = Counter(viewing.film.movie_id for viewing in viewings)
    again = Counter(viewing.film.movie_id for viewing in viewings if viewing.rewatch)
    runtimes = [(minutes, film) for film in watched if (minutes := _runtime(film)) and not _is_series(film)]
    new = [(film.rating, film) for film in watched if year and film.rating and film.year == year]
    old = [(film.rating, film) for film in watched if year and film.rating and (film.year or year) < year]
    diary = [_listed(viewing.film, number) for number, viewing in enumerate(viewings, 1)] if year else []
    return FilmLists(
        favourites=_favourites(watched, times),
        diary=diary[:MAX_DIARY],
        most_rewatched=_top(((again[f.movie_id], f) for f in watched if again[f.movie_id]), limit),
        rerated=sorted(_rerated(watched), key=lambda each: -abs(each.value or 0))[:limit],
        longest=_top(runtimes, limit),
        shortest=_top(runtimes, limit, least_first=True),
        series=_top(((_runtime(film) or 0, film) for film in watched if _is_series(film)), limit),
        new=_top(new, limit),
        old=_top(old, limit),
        runtimes=_histogram(runtimes, RUNTIMES),
    )


def _rerated(watched: list[Film]) -> Iterator[ListedFilm]:
    for film in watched:
        ratings = [viewing.rating for viewing in _oldest_first(film) if viewing.rating is not None]
        if ratings and ratings[0] != ratings[-1]:
            yield _listed(film, ratings[-1] - ratings[0])


@dataclass(slots=True)
class YearBefore:
    """What the year before has of the totals; None if it has no viewing."""

    year: int
    viewings: int
    films: int
    hours: float
    mean_rating: float | None


def _year_before(viewings: list[FilmViewing], year: int) -> YearBefore | None:
    before, films = _of_year(viewings, year - 1)
    hours = _hours(films, Counter(viewing.film.movie_id for viewing in before))
    return YearBefore(year - 1, len(before), len(films), hours, _mean_rating(films)) if films else None


@dataclass(slots=True)
class Watchlist:
    """The unwatched films on the watchlist, whatever the year. `latest` are those added last, up to 24.

    `directors` have films on the list and at least three rated films. They are ordered by mean rating.
    """

    films: int
    hours: float
    without_runtime: int
    watched_from_it: int
    genres: list[Bar]
    decades: list[Bar]
    directors: list[Bar]
    latest: list[ListedFilm]


def _watchlist(every: list[Film], limit: int) -> Watchlist:
    def added(film: Film) -> tuple[date, int]:
        return film.watchlist_date or date.min, -film.movie_id

    listed = [film for film in every if film.watchlist and not film.watched]
    watched = [film for film in every if film.watched]
    on_it = {name.identity: films for name, films in _group_by(listed, "directors")}
    return Watchlist(
        films=len(listed),
        hours=_hours(listed, {}),
        without_runtime=sum(_runtime(film) is None for film in listed),
        watched_from_it=sum(film.watchlist for film in watched),
        genres=_most_watched(_group_by(listed, "genres"), limit),
        decades=_bars(_decades(listed)),
        directors=[
            replace(bar, count=len(films), movie_ids=[film.movie_id for film in films])
            for bar in itertools.starmap(_bar, _rated(_group_by(watched, "directors")))
            if (films := on_it.get(bar.tmdb_id or bar.name))
        ][:limit],
        latest=[_listed(film) for film in heapq.nlargest(MAX_LATEST, listed, key=added)],
    )


@dataclass(slots=True)
class Statistics:
    """Everything from TMDB covers the `matched` of the `films`. `pending` ones are still being looked up.
    `same_record` has the movie_ids of films that share a record; they count as the first of them."""

    year: int | None
    years: list[int]
    films: int
    matched: int
    pending: int
    totals: Totals
    year_before: YearBefore | None
    through_time: ThroughTime
    ratings: Ratings
    what: Topics
    who: People
    lists: FilmLists
    watchlist: Watchlist
    same_record: list[list[int]]


def compute_statistics(
    films: list[Film], collections: Mapping[int, Collection], year: int | None = None, limit: int = 10
) -> Statistics:
    """See WHAT_COUNTS. Lists have up to `limit` entries."""
    every, same_record = snapshots(films)
    viewings = [viewing for film in every for viewing in _viewings(film)]
    years = sorted({viewing.day.year for viewing in viewings if viewing.day}, reverse=True)
    watched = [film for film in every if film.watched]
    year_before = _year_before(viewings, year) if year else None
    if year is not None:
        viewings, watched = _of_year(viewings, year)
    viewings.sort(key=lambda viewing: (viewing.day or date.min, viewing.film.movie_id))
    return Statistics(
        year=year,
        years=years,
        films=len(watched),
        matched=sum(film.match.movie is not None for film in watched),
        pending=sum(film.match.status == "pending" for film in watched),
        totals=_totals(every, watched, viewings, year),
        year_before=year_before,
        through_time=_through_time(watched, viewings, year),
        ratings=_ratings(watched, limit),
        what=_topics(watched, collections, limit),
        who=_people(watched, limit),
        lists=_lists(watched, viewings, year, limit),
        watchlist=_watchlist(every, limit),
        same_record=same_record,
    )


# === Sessions =================================================================
# A session is one upload, kept in memory until it expires. It counts outcomes as they are recorded, so
# reading progress never scans the films.

STOPPED = "The lookup was stopped."
MAX_STUCK_SECONDS = 600  # with nothing but failures; the next failure then ends the work
MAX_COMPUTED = 4  # results kept per session
FOLLOW_SECONDS = 0.3  # between two looks of a follower at a session
SessionStatus = Literal["processing", "enriching", "completed", "failed"]


def running_server() -> uvicorn.Server | None:
    """The server of this process: the handler that uvicorn installs for SIGTERM is a method of it."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def server_is_stopping() -> bool:
    """Whether uvicorn was told to stop. It waits for open streams, so these have to ask."""
    server = running_server()
    return server is not None and server.should_exit


@dataclass(eq=False, repr=False)
class Session:
    """One upload: its films, the progress of looking them up, and the task that does so.

    `clock` is monotonic, in seconds. `ttl_seconds` count from the end of the work.
    """

    export: Export
    ttl_seconds: float = 3600
    clock: Callable[[], float] = time.monotonic
    session_id: str = field(default_factory=partial(secrets.token_urlsafe, 16))
    status: SessionStatus = "processing"
    error_message: str | None = None
    collections: dict[int, Collection] = field(default_factory=dict)  # by TMDB's id
    revision: int = 0  # increases whenever a film, a collection or the status changes
    replaced: dict[int, Match] = field(default_factory=dict)  # by movie_id: the match before the last choice
    followers: int = 0
    ended_event: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    pace: Pace | None = None  # of whoever looks the films up
    ended_at: float | None = None
    kept_films: int = 0  # found without a call to TMDB
    _sharing: Sharing = field(default_factory=Sharing)
    _computed: dict[Hashable, tuple[int, bytes]] = field(default_factory=dict)  # with their revision

    def __post_init__(self) -> None:
        self.created_at = datetime.now(UTC)
        self.ended_utc = self.created_at
        self.begun_at = self.clock()
        self.counts = Counter(film.match.status for film in self.export.films)
        self.films_to_look_up = self.total_movies

    @property
    def short_id(self) -> str:
        """For logs. Whoever knows the whole id can read the session."""
        return self.session_id[:6]

    def film(self, movie_id: int) -> Film:
        if 1 <= movie_id <= len(self.export.films):
            return self.export.films[movie_id - 1]
        raise NotInSession(
            f"This session has no film {movie_id}; its films are numbered 1 to {self.total_movies}."
        )

    def film_list(self, list_id: int) -> FilmList:
        if 1 <= list_id <= len(self.export.lists):
            return self.export.lists[list_id - 1]
        raise NotInSession(f"This session has no list {list_id}; it has {len(self.export.lists)} lists.")

    def begin(self) -> None:
        """The pending films are now being looked up, for the first time or again."""
        self.status, self.error_message, self.ended_at = "enriching", None, None
        self.begun_at, self.films_to_look_up = self.clock(), self.counts["pending"]
        self._progressed_at = self.begun_at
        self.ended_event.clear()
        self.revision += 1

    def record(self, film: Film, match: Match) -> None:
        """Sets the outcome of one film, and the progress with it."""
        self.counts[film.match.status] -= 1
        self.counts[match.status] += 1
        film.match = match
        self.revision += 1
        if match.status != "failed":
            self._progressed_at = self.clock()

    def end(self, status: SessionStatus, error_message: str | None) -> None:
        self.status, self.error_message, self.ended_at = status, error_message, self.clock()
        self.ended_utc = datetime.now(UTC)
        counts = ", ".join(f"{count} {status}" for status, count in sorted((+self.counts).items()))
        seconds = self.ended_at - self.begun_at
        log.info("[%s] %s after %.1f s: %s", self.short_id, self.status, seconds, counts)
        self.task = None  # an ended task keeps its frames alive, and so the whole session
        self.revision += 1
        self.ended_event.set()

    # What members and the work change. Where sessions are stored, these are stored before they are seen.

    async def finish(self, status: SessionStatus, error_message: str | None) -> None:
        self.end(status, error_message)

    async def choose(self, film: Film, match: Match) -> None:
        self.replaced[film.movie_id] = film.match
        self.record(film, match)

    async def undo(self, film: Film) -> None:
        """Brings back the match before the last choice by hand. Raises NothingToUndo."""
        before = self.replaced.pop(film.movie_id, None)
        if before is None:
            raise NothingToUndo
        self.record(film, before)

    async def retry(self) -> list[Film]:
        """Makes the films without a movie pending, except those that a member cleared by hand."""
        films = [film for film in self.export.films if film.match.movie is None and not film.match.by_hand]
        for film in films:
            self.record(film, PENDING)
        return films

    async def take_over(self, export: Export) -> None:
        """Takes the films of a newer export. Those that were there keep their matches."""
        before = same_films(self.export, export)
        for film in export.films:
            film.match = before[film.movie_id].match if film.movie_id in before else PENDING
        choices = ((new, self.replaced.get(old.movie_id)) for new, old in before.items())
        self.export, self.replaced = export, {new: match for new, match in choices if match}
        self.counts = Counter(film.match.status for film in export.films)
        self.revision += 1

    async def save_collections(self) -> None:
        """Called when a choice brought one."""

    async def stop(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.task:  # it was stopped before its first step
            self.end("failed", STOPPED)

    async def compute(self, key: Hashable, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """The result of `compute`, kept until the session changes."""

        async def ask() -> bytes:
            kept = self._computed.get(key)
            if kept is None or kept[0] != self.revision:
                self._computed.pop(key, None)
                kept = self._computed[key] = self.revision, await compute()
            if len(self._computed) > MAX_COMPUTED:
                del self._computed[next(iter(self._computed))]
            return kept[1]

        return await self._sharing.run(key, ask)

    async def changes(self) -> AsyncIterator[Session]:
        """Yields its progress at once, after changes, and at the end if a change was not seen."""
        seen: object = None
        self.followers += 1
        try:
            while True:
                is_last = self.ended_event.is_set() or server_is_stopping()
                if seen != (current := (self.revision, self.waiting_for)):
                    seen = current
                    yield self
                if is_last:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_SECONDS):
                        await self.ended_event.wait()
        finally:
            self.followers -= 1

    # What the API shows.
    files = property(lambda self: list(self.export.rows))
    rows = property(lambda self: self.export.rows)
    warnings = property(lambda self: self.export.warnings)
    profile = property(lambda self: self.export.profile)
    total_movies = property(lambda self: self.counts.total())
    processed_count = property(lambda self: self.total_movies - self.counts["pending"])
    enriched_count = property(lambda self: sum(self.counts[s] for s in ("exact", "guessed", "corrected")))
    not_found_count = property(lambda self: self.counts["not_found"])
    failed_count = property(lambda self: self.counts["failed"])

    @property
    def memory_bytes(self) -> int:
        """Estimated, with the results that are kept."""
        return self.export.memory_bytes + sum(len(result) for _, result in self._computed.values())

    @property
    def progress_percent(self) -> float:
        """At most 99.9 until the work has ended, since collections are read after the last film."""
        percent: float = round(100 * self.processed_count / self.total_movies, 1)
        return percent if self.ended_at is not None else min(percent, 99.9)

    @property
    def films_per_second(self) -> float | None:
        """So far. None until a film has been looked up."""
        done = self.films_to_look_up - self.counts["pending"]
        return done / max(self.clock() - self.begun_at, 0.001) if done else None

    @property
    def eta_seconds(self) -> int | None:
        """At the rate so far. None until there is one, 0 at the end."""
        if self.ended_at is not None:
            return 0
        rate = self.films_per_second
        return math.ceil(self.counts["pending"] / rate) if rate else None

    @property
    def waiting_for(self) -> str | None:
        """Why lookups are paused; None if they are not."""
        return self.pace.waiting_for() if self.pace and self.ended_at is None else None

    @property
    def is_stuck(self) -> bool:
        return self.clock() - self._progressed_at >= MAX_STUCK_SECONDS

    @property
    def expires_at(self) -> datetime:
        """While films are being looked up, the earliest time at which it can expire."""
        ended = datetime.now(UTC) if self.ended_at is None else self.ended_utc
        return ended + timedelta(seconds=self.ttl_seconds)

    @property
    def seconds_left(self) -> float:
        """Until it expires, at the earliest."""
        return self.ttl_seconds - (0 if self.ended_at is None else self.clock() - self.ended_at)


def same_films(before: Export, after: Export) -> dict[int, Film]:
    """The films of `before` that are in `after`, by their movie_id there."""
    known = {film.letterboxd_number or identity_key(film): film for film in before.films}
    found = ((film, known.pop(film.letterboxd_number or identity_key(film), None)) for film in after.films)
    return {film.movie_id: old for film, old in found if old}


def count_changes(before: Export, after: Export) -> tuple[int, int, int]:
    """How many films of a newer export are new, are logged in another way, and are gone."""
    same = same_films(before, after)
    logged = attrgetter(*(f.name for f in fields(Film) if f.name not in ("movie_id", "match", "lists")))
    changed = sum(logged(same.get(film.movie_id, film)) != logged(film) for film in after.films)
    return len(after.films) - len(same), changed, len(before.films) - len(same)


class Store(Protocol):
    """Makes, finds and deletes sessions, which change through their own methods.

    `len` is how many of them are in this process's memory, and `memory_bytes` what they take there.
    """

    def __len__(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def check_room(self, memory_bytes: int = 0) -> None: ...
    async def create(self, export: Export) -> Session: ...
    async def get(self, session_id: str) -> Session: ...
    async def progress(self, session_id: str) -> Session: ...  # maybe without its films
    async def delete(self, session_id: str) -> None: ...
    async def count_stored(self) -> int | None: ...  # by all processes, if they are


def check_size(memory_bytes: int, max_memory_bytes: int) -> None:
    """Raises UploadTooLarge."""
    if memory_bytes > max_memory_bytes:
        raise UploadTooLarge(
            f"The upload would take about {memory_bytes:,} bytes of memory; "
            f"the limit is {max_memory_bytes:,} (MAX_MEMORY_BYTES)."
        )


@dataclass(eq=False, repr=False)
class SessionStore:
    """A dict of sessions by id. Each expires `ttl_seconds` after its work ended, never while it runs."""

    _ttl_seconds: float
    _max_sessions: int
    _max_memory_bytes: int
    _clock: Callable[[], float] = time.monotonic
    _sessions: dict[str, Session] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep_forever())
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
        """Estimated, of all sessions together."""
        return sum(session.memory_bytes for session in self._sessions.values())

    def check_room(self, memory_bytes: int = 0) -> None:
        """Raises StoreFull if a session of that size has no room now, UploadTooLarge if it never has."""
        self.sweep()
        check_size(memory_bytes, self._max_memory_bytes)
        is_full = len(self._sessions) >= self._max_sessions
        if is_full or self.memory_bytes + memory_bytes > self._max_memory_bytes:
            raise StoreFull(math.ceil(min(session.seconds_left for session in self._sessions.values())))

    async def create(self, export: Export) -> Session:
        self.check_room(export.memory_bytes)
        session = Session(export, self._ttl_seconds, self._clock)
        self._sessions[session.session_id] = session
        return session

    async def get(self, session_id: str) -> Session:
        self.sweep()
        if session := self._sessions.get(session_id):
            return session
        raise SessionNotFound

    async def progress(self, session_id: str) -> Session:
        return await self.get(session_id)

    async def count_stored(self) -> int | None:
        return None

    async def delete(self, session_id: str) -> None:
        session = await self.get(session_id)
        del self._sessions[session_id]
        await session.stop()

    def sweep(self) -> None:
        for session in list(self._sessions.values()):
            if session.seconds_left <= 0:
                del self._sessions[session.session_id]
                log.info("[%s] expired", session.short_id)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(min(max(self._ttl_seconds / 4, 0.1), 30))
            self.sweep()


# === Enrichment ===============================================================
# Finds the movie of every film of a session, in a task of its own: first what a member decided about the
# film, then what is cached, then what the upload, the list of known films or TMDB's search says. Each
# film has its own outcome, so one failure never stops the others.

MAX_CORRECTIONS = 2_000
MAX_CANDIDATES = 10  # kept with a match
OTHER_TYPE: dict[MediaType, MediaType] = {"movie": "tv", "tv": "movie"}
MAX_DIRECTED = 5  # namesakes whose directors are looked up
CANDIDATES_SECONDS = 5  # how long opening a film waits for its candidates
COLLECTIONS_SECONDS = 60  # for reading all collections of a session, a few dozen
NO_KEY = "No TMDB_API_KEY is set, so no film was looked up."


def cache_key(film: Film) -> Hashable:
    """A key that is the same for films that are looked up in the same way."""
    return identity_key(film), film.tmdb_ref, film.imdb_id, film.given_status, film.tmdb_type


class Matcher:
    """Finds the movie of a film: by a correction, else by the upload's ids, else among the known films, else
    by a search.

    Corrections apply to later uploads, too, unless members share the service: then each is its session's.
    """

    def __init__(
        self, tmdb: TMDBClient, known_films: KnownFilms | None = None, keeps_corrections: bool = True
    ) -> None:
        self.tmdb = tmdb
        self.known_films = known_films or KnownFilms()
        self._corrections: dict[Hashable, Match] = {}  # the latest last
        self._keeps_corrections = keeps_corrections

    async def find(self, film: Film) -> Match:
        """Raises TMDBError if TMDB gives no usable answer. TMDBKeyRejected: no film can be looked up."""
        correction = self._corrections.get(identity_key(film))
        return correction or await self.tmdb.cache.get_or_fetch(cache_key(film), partial(self._find, film))

    def keep_correction(self, film: Film) -> None:
        """Keeps the film's match if it was chosen by hand, and forgets what was chosen before."""
        key = identity_key(film)
        self._corrections.pop(key, None)
        if film.match.by_hand and self._keeps_corrections:
            self._corrections[key] = film.match
        if len(self._corrections) > MAX_CORRECTIONS:
            del self._corrections[next(iter(self._corrections))]

    def forget(self, film: Film) -> None:
        """Makes the next `find` ask TMDB again."""
        self.tmdb.cache.forget(cache_key(film))

    async def _find(self, film: Film) -> Match:
        other: Movie | None = None  # the record of an id that is not believed
        async for scheme, movie in self._records_given(film):
            if await self._is_believed(film, movie):
                return Match(film.given_status, f"The upload includes its {scheme} id.", movie)
            other = other or movie
        if not film.title:
            return Match("not_found", "TMDB has no record with the id in the upload.")
        match = await self._find_known(film) or await self._search(film)
        if other is None:
            return match
        reason = f"The upload's id is that of '{other.title}' ({other.year or 'no year'}). {match.reason}"
        return replace(match, status="guessed" if match.movie else match.status, reason=reason)

    async def _records_given(self, film: Film) -> AsyncIterator[tuple[str, Movie]]:
        """What the upload's ids name, the likelier first. A TMDB id may be that of a series."""
        ref = film.tmdb_ref
        if movie := await self._movie(ref):
            yield "TMDB", movie
        if film.imdb_id and (movie := await self._movie(await self.tmdb.find_by_imdb_id(film.imdb_id))):
            yield "IMDb", movie
        other = (OTHER_TYPE[ref[0]], ref[1]) if ref and film.title else None
        if (movie := await self._movie(other)) and all(has_title_has_year(film, movie)):
            yield "TMDB", movie

    async def _movie(self, ref: TMDBRef | None) -> Movie | None:
        with contextlib.suppress(TMDBNotFound):
            return await self.tmdb.movie(*ref) if ref else None
        return None

    async def _is_believed(self, film: Film, movie: Movie) -> bool:
        """Whether the record has the film's title or its year. In our downloads, any record may be meant."""
        if not film.title or film.given_status != "exact" or any(has_title_has_year(film, movie)):
            return True
        titled = await self.tmdb.movie(movie.tmdb_type, movie.tmdb_id, with_titles=True)
        return any(has_title_has_year(film, titled))

    async def _find_known(self, film: Film) -> Match | None:
        """A match from the list of known films, if TMDB's record confirms it."""
        if tmdb_id := self.known_films.find(film):
            with contextlib.suppress(TMDBNotFound):
                movie = await self.tmdb.movie("movie", tmdb_id)
                _, status, reason = judge(film, [score_candidate(film, candidate_from_movie(movie))])
                if status == "exact":
                    return Match(status, reason, movie, candidates=None)
        return None

    async def candidates(self, film: Film) -> tuple[Candidate, ...]:
        """What a search offers, whatever the film was matched with."""
        match = await self.tmdb.cache.get_or_fetch(("search", cache_key(film)), partial(self._search, film))
        return match.candidates or ()

    async def candidates_titled(self, film: Film, title: str) -> tuple[Candidate, ...]:
        """What one search for another title offers, best first."""
        results = await self.tmdb.search("movie", title, None)
        scored = (score_candidate(film, candidate) for candidate in results)
        return _first_candidates(sorted(scored, key=partial(best_first, film)))

    async def _search(self, film: Film, gone: frozenset[TMDBRef] = frozenset()) -> Match:
        """`gone` are results of whose records TMDB says that there are none, as happens."""
        ranked, movie = await self.rank(film, gone), None
        if film.directors:
            ranked = await self._by_director(film, ranked)
        if ranked and is_promising(film, ranked[0]):
            try:
                movie, ranked[0] = await self._look_at(film, ranked[0])
            except TMDBNotFound:
                return await self._search(film, gone | {ranked[0].candidate.ref})
        candidate, status, reason = judge(film, ranked)
        return Match(status, reason, movie if candidate else None, _first_candidates(ranked))

    async def _by_director(self, film: Film, ranked: list[ScoredCandidate]) -> list[ScoredCandidate]:
        """Compares the directors of the first candidates that have the title."""
        for scored in [scored for scored in ranked if scored.has_title][:MAX_DIRECTED]:
            if movie := await self._movie(scored.candidate.ref):
                ranked[ranked.index(scored)] = score_director(film, scored, movie)
        return sorted(ranked, key=partial(best_first, film))

    async def _look_at(self, film: Film, best: ScoredCandidate) -> tuple[Movie, ScoredCandidate]:
        """TMDB's record of the candidate. If the title differs, the other titles decide its score."""
        candidate = best.candidate
        movie = await self.tmdb.movie(candidate.tmdb_type, candidate.tmdb_id, with_titles=not best.has_title)
        if best.has_title:
            return movie, best
        return replace(movie, other_titles=()), score_candidate(film, candidate, movie.other_titles)

    async def rank(self, film: Film, gone: frozenset[TMDBRef] = frozenset()) -> list[ScoredCandidate]:
        """The candidates that are not `gone`, best first. Searches until the match is settled."""
        by_ref: dict[TMDBRef, ScoredCandidate] = {}
        ranked: list[ScoredCandidate] = []
        complete = False  # every film with the title has been seen, so searches within a year add nothing
        for query in search_queries(film):
            if query.is_one_word and (not complete or (ranked and is_promising(film, ranked[0]))):
                break
            if complete and query.tmdb_type == "movie" and not query.is_one_word:
                continue
            results = await self.tmdb.search(query.tmdb_type, query.text, query.year)
            complete |= query.year is None and len(results) < PAGE_SIZE
            for candidate in results:
                scored = score_candidate(film, candidate)
                is_related = scored.title_score > UNRELATED_TITLE or not query.is_one_word
                if is_related and candidate.ref not in gone:
                    by_ref[candidate.ref] = scored
            ranked = sorted(by_ref.values(), key=partial(best_first, film))
            if ranked and is_settled(film, ranked[0]) and (query.year or complete or ranked[0].has_number):
                break
        if not any(scored.has_title for scored in ranked):
            adult = await self.tmdb.search("movie", film.title, None, adult=True)
            ranked += [score_candidate(film, each) for each in adult if each.ref not in by_ref.keys() | gone]
            ranked.sort(key=partial(best_first, film))
        return ranked


def _first_candidates(ranked: list[ScoredCandidate]) -> tuple[Candidate, ...]:
    return tuple(replace(s.candidate, score=round(s.score, 2)) for s in ranked[:MAX_CANDIDATES])


async def enrich_session_async(session: Session, matcher: Matcher) -> None:
    """Looks up every pending film. Always ends the session."""
    log_id.set(session.short_id)
    session.pace = matcher.tmdb.pace
    session.begin()
    status: SessionStatus = "failed"
    problem: str | None = STOPPED
    log.info("[%s] looking up %d films", session.short_id, session.counts["pending"])
    try:
        problem = await _look_up(session, matcher)
        status = "completed"
    except (TMDBKeyRejected, TMDBSilent) as error:
        problem = str(error)
        _fail_pending(session, problem)
    except Exception:
        log.exception("[%s] a bug ended the work", session.short_id)
        problem = f"An internal error stopped the lookup; the service's log has it as {session.short_id}."
        _fail_pending(session, problem)
    finally:
        await session.finish(status, problem)


def _fail_pending(session: Session, reason: str) -> None:
    for film in session.export.films:
        if film.match is PENDING:
            session.record(film, Match("failed", reason))


async def _look_up(session: Session, matcher: Matcher) -> str | None:
    """Returns why nothing was looked up; None if films were."""
    if matcher.tmdb.key_state == "missing":
        _fail_pending(session, NO_KEY)
        return NO_KEY
    while True:
        films = (film for film in session.export.films if film.match is PENDING)
        await _run_all(_work(session, films, matcher) for _ in range(matcher.tmdb.workers))
        await read_collections(session, matcher.tmdb, COLLECTIONS_SECONDS)
        if not session.counts["pending"]:  # undoing a choice may make a film pending again
            return None


async def _run_all(work: Iterable[Awaitable[None]]) -> None:
    """Runs them as tasks; the first error ends them all.

    The errors of a TaskGroup and their tracebacks refer to each other, which would keep a deleted session in
    memory until the garbage collector comes by.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()


async def _work(session: Session, films: Iterator[Film], matcher: Matcher) -> None:
    """One of a session's workers, which share an iterator. Leaves corrected films alone."""
    for film in films:
        paths: list[str] = []
        asked.set(paths)
        try:
            match = await matcher.find(film)
        except (TMDBUnavailable, TMDBNotFound) as error:
            match = Match("failed", str(error))
            if session.is_stuck:
                raise TMDBSilent(
                    f"No film could be looked up for {MAX_STUCK_SECONDS // 60} minutes. {error} "
                    "Films already found are kept; retry the rest when TMDB is back."
                ) from None
        if film.match is not PENDING:
            continue
        session.record(film, match)
        session.kept_films += not paths
        if session.processed_count % math.ceil(session.total_movies / 10) == 0:
            log.info("[%s] %d of %d films", session.short_id, session.processed_count, session.total_movies)


async def read_collections(session: Session, tmdb: TMDBClient, seconds: float) -> None:
    """Reads the collections with at least two watched films, as many as TMDB answers in time."""

    async def read(tmdb_id: int) -> None:
        with contextlib.suppress(TMDBError):  # then it is missing from the statistics
            session.collections[tmdb_id] = await tmdb.collection(tmdb_id)
            session.revision += 1

    watched = (film.match.movie for film in session.export.films if film.watched)
    ids = Counter(name.identity for movie in watched if movie for name in movie.collections)
    started = (i for i, count in ids.items() if isinstance(i, int) and count > 1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _run_all(map(read, started))


def start_enrichment(session: Session, matcher: Matcher) -> None:
    """Starts the task, with this context, and keeps it on the session, or it could be garbage-collected."""
    session.task = asyncio.create_task(enrich_session_async(session, matcher))


def check_ended(session: Session) -> None:
    if session.ended_at is None:
        raise SessionBusy(
            "The films are still being looked up; try again when the session is completed or failed."
        )


async def retry_films(session: Session, matcher: Matcher) -> None:
    """Looks up again all films without a movie, except those that a member cleared by hand."""
    check_ended(session)
    for film in await session.retry():
        matcher.forget(film)
    asks_anew.set(True)
    look_up_again(session, matcher)


def look_up_again(session: Session, matcher: Matcher) -> None:
    session.begin()  # now, so that the response already says `enriching`
    start_enrichment(session, matcher)


async def apply_correction(session: Session, film: Film, movie: Movie | None, matcher: Matcher) -> None:
    """Sets the film's movie by hand; None clears the match."""
    candidates = film.match.candidates
    if movie:
        match = Match("corrected", "Chosen by hand.", movie, candidates, by_hand=True)
    else:
        match = Match("not_found", "The match was cleared by hand.", None, candidates, by_hand=True)
    await session.choose(film, match)
    matcher.keep_correction(film)


async def undo_correction(session: Session, film: Film, matcher: Matcher) -> None:
    """Brings back the match before the last choice by hand."""
    await session.undo(film)
    matcher.keep_correction(film)
    if film.match is PENDING and session.ended_at is not None:
        look_up_again(session, matcher)


async def add_candidates(film: Film, matcher: Matcher) -> None:
    """Searches for the candidates of a film that was found without a search, so that it can be corrected."""
    if film.match.candidates is None:
        with contextlib.suppress(TMDBError, TimeoutError):  # opening it again tries again
            async with asyncio.timeout(CANDIDATES_SECONDS):
                candidates = await matcher.candidates(film)
            film.match = replace(film.match, candidates=candidates)


# === Answers ==================================================================
# What goes over the wire as JSON, with the words that /docs shows.


EXAMPLE_ID = "Wm9XbK3vS4mZ0uH2aQ7c1w"


class SessionBase(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    session_id: str = Field(examples=[EXAMPLE_ID])
    status: SessionStatus = Field(
        description="`completed` when every film has an outcome, or if no TMDB key is set. `failed` if TMDB "
        "rejected the key or did not answer for minutes, or if an error stopped the work. What was found is "
        "kept."
    )
    total_movies: int = Field(examples=[2186])
    created_at: datetime
    expires_at: datetime = Field(description="While films are being looked up, the earliest possible time.")


class UploadView(SessionBase):
    """A new session, and what was read from each file."""

    files: list[str] = Field(description="The files that were used.", examples=[["watched.csv"]])
    rows: dict[str, int] = Field(
        description="How many rows of each were used.", examples=[{"watched.csv": 1656}]
    )
    warnings: list[str] = Field(
        description="What could not be read, with file, line and reason.",
        examples=[["ratings.csv, line 12: rating '6' must be between 0.5 and 5 in steps of 0.5"]],
    )


class UpdateView(UploadView):
    """A session that has taken over a newer export."""

    new_count: int = Field(description="Films that it did not have.", examples=[12])
    changed_count: int = Field(description="Films that are logged in another way now.", examples=[3])
    gone_count: int = Field(description="Films that the newer export does not have.", examples=[1])


class SessionView(SessionBase):
    """The progress of a session."""

    processed_count: int = Field(description="The sum of the next three.", examples=[1093])
    enriched_count: int = Field(examples=[1090])
    not_found_count: int = Field(examples=[2])
    failed_count: int = Field(examples=[1])
    progress_percent: float = Field(description="100 only when the session has ended.", examples=[50.0])
    eta_seconds: int | None = Field(description="At the rate so far; null until there is one.", examples=[14])
    waiting_for: str | None = Field(
        description="Why lookups are paused; null if they are not.",
        examples=["TMDB refused requests (status 429); trying again in 12 s"],
    )
    error_message: str | None = Field(description="Why films were not looked up; null if they were.")
    revision: int = Field(
        description="Increases whenever a film, a collection or the status changes.", examples=[1093]
    )


class SessionDetail(SessionView):
    """The progress of a session, who uploaded it, and what could not be read of its upload."""

    profile: Profile | None = Field(description="Null if the upload has no profile.csv.")
    warnings: list[str] = Field(description="What could not be read, with file, line and reason.")


class MatchView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    status: MatchStatus
    reason: str = Field(examples=["Title, year and Letterboxd's own number agree."])


class LoggedView(BaseModel):
    """A film as the member logged it."""

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
    watchlist_date: date | None = Field(description="The day it was added to the watchlist.")
    lists: list[int] = Field(description="The ids of the lists that it is in.")
    match: MatchView


class MovieView(LoggedView):
    """A film as the member logged it, and TMDB's record of it, which is empty if there is none."""

    tmdb_enriched: bool
    tmdb_id: int | None = Field(None, examples=[27205])
    tmdb_type: MediaType | None = None
    tmdb_url: str | None = Field(None, examples=["https://www.themoviedb.org/movie/27205"])
    imdb_id: str | None = Field(None, examples=["tt1375666"])
    tmdb_title: str | None = Field(None, examples=["Inception"])
    original_title: str | None = None
    release_date: str | None = Field(None, examples=["2010-07-15"])
    runtime: int | None = Field(
        None, description="In minutes; for a series, of all episodes.", examples=[148]
    )
    genres: list[str] = []
    directors: list[str] = Field([], examples=[["Christopher Nolan"]])
    cast: list[str] = Field([], description=f"In billing order, up to {MAX_CAST}.")
    writers: list[str] = []
    composers: list[str] = []
    cinematographers: list[str] = []
    editors: list[str] = []
    producers: list[str] = []
    studios: list[str] = []
    countries: list[str] = []
    languages: list[str] = []
    original_language: str | None = Field(None, description="ISO 639-1.", examples=["en"])
    keywords: list[str] = []
    poster_url: str | None = None
    backdrop_url: str | None = None
    tmdb_rating: float | None = Field(None, description="From 0 to 10.")
    tmdb_votes: int | None = None
    collection: str | None = None


RECORD_FIELDS = [name for name in MovieView.model_fields if name not in LoggedView.model_fields]


class MovieDetail(MovieView):
    """A film with everything known about it."""

    viewings: list[Viewing] = Field(description="Latest first, then reviews without a date.")
    candidates: list[Candidate] = Field(
        description=f"Up to {MAX_CANDIDATES} movies that were considered, best first."
    )


class Choice(BaseModel):
    """`tmdb_id` and `tmdb_type`, or `tmdb_url`."""

    tmdb_id: int | None = Field(None, strict=True, ge=1, le=MAX_TMDB_ID, examples=[27205])
    tmdb_type: MediaType | None = Field(None, description="A film and a series may have the same id.")
    tmdb_url: str | None = Field(None, examples=["https://www.themoviedb.org/movie/27205"])

    @model_validator(mode="after")
    def _exactly_one_way(self) -> Self:
        by_id, by_url = (self.tmdb_id, self.tmdb_type), self.tmdb_url
        if by_url is None and None not in by_id:
            return self
        if by_id == (None, None) and parse_tmdb_url(by_url or ""):
            return self
        raise ValueError(
            "give tmdb_id and tmdb_type (movie or tv), or the tmdb_url of a film or series, "
            "like https://www.themoviedb.org/movie/27205"
        )

    @property
    def ref(self) -> TMDBRef:
        by_id = self.tmdb_type, self.tmdb_id
        return cast(TMDBRef, parse_tmdb_url(self.tmdb_url) if self.tmdb_url else by_id)


MAX_PAGE = 1_000  # films in one answer


class MovieFilter(BaseModel):
    """Which films of a session, and in which order."""

    ids: str = Field(
        "",
        pattern=r"^([0-9]{1,6}(,[0-9]{1,6})*)?$",
        max_length=7 * MAX_PAGE,
        description="Only films with these movie_ids, separated by commas; in this order unless sorted.",
        examples=["7,3,12"],
    )
    match: list[MatchStatus] = Field([], description="Only films with this match status. May be repeated.")
    in_list: Literal["watched", "rated", "liked", "watchlist"] | None = Field(
        None, alias="list", description="Only films in this list."
    )
    list_id: int | None = Field(None, alias="in", ge=1, description="Only films in the list with this id.")
    q: str = Field(
        "",
        max_length=200,
        description="Only films with this text in a title, the member's or TMDB's. Ignores case and accents.",
    )
    sort: (
        Literal["rating", "year", "watched_date", "runtime", "-rating", "-year", "-watched_date", "-runtime"]
        | None
    ) = Field(None, description="`-` means descending. Films without a value come last.")

    def select(self, films: list[Film]) -> list[Film]:
        """The films of all pages."""
        text, statuses = fold_title(self.q) if self.q else "", set(self.match)
        chosen = [
            film
            for film in self._named(films)
            if (not statuses or film.match.status in statuses)
            and (not self.in_list or LISTS[self.in_list](film))
            and (not self.list_id or self.list_id in film.lists)
            and (not text or any(text in fold_title(title) for title in film.titles))
        ]
        if self.sort is None:
            return chosen
        value = SORT_VALUES[self.sort.removeprefix("-")]
        keyed = [(value(film), film) for film in chosen]  # read once, since films may be enriched meanwhile
        known = [pair for pair in keyed if pair[0] is not None]
        known.sort(key=itemgetter(0), reverse=self.sort.startswith("-"))
        return [film for _, film in known] + [film for key, film in keyed if key is None]

    def _named(self, films: list[Film]) -> list[Film]:
        if not self.ids:
            return films
        ids = dict.fromkeys(map(int, self.ids.split(",")))
        return [films[movie_id - 1] for movie_id in ids if 1 <= movie_id <= len(films)]


class MovieQuery(MovieFilter):
    """One page of them."""

    skip: int = Field(0, ge=0, description="How many films to skip.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="How many films to return.")


LISTS: dict[str, Callable[[Film], bool]] = {
    "watched": lambda film: film.watched,
    "rated": lambda film: film.rating is not None,
    "liked": lambda film: film.liked,
    "watchlist": lambda film: film.watchlist,
}
SORT_VALUES: dict[str, Callable[[Film], Any]] = {
    "rating": lambda film: film.rating,
    "year": lambda film: film.year,
    "watched_date": lambda film: film.watched_date,
    "runtime": lambda film: film.match.movie and film.match.movie.runtime,
}


class ListView(BaseModel):
    """A list of the export, and how far the member is with it."""

    id: int
    name: str
    description: str
    tags: list[str]
    list_date: date | None = Field(description="The day it was made.")
    letterboxd_uri: str | None
    films: int
    watched: int
    mean_rating: float | None = Field(description="Of its films that the member has rated.")
    hours_left: float = Field(description="Of its films that are not watched, as far as TMDB has runtimes.")
    movie_ids: list[int] = Field(description="In the order of the list.")


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"
    sessions: int = Field(description="Sessions held.")
    memory_bytes: int = Field(description="Their estimated memory.")
    stored_sessions: int | None = Field(
        description="Sessions in PostgreSQL, of all processes; null without it, or if it cannot be reached."
    )
    tmdb_key: Literal["missing", "unchecked", "accepted", "rejected"] = Field(
        description="Whether TMDB accepts the key; `unchecked` if TMDB could not be reached."
    )
    uptime_seconds: float


class ErrorView(BaseModel):
    detail: str = Field(description="What was wrong, and what would be right.")


def movie_view(film: Film) -> MovieView:
    return MovieView.model_validate(_logged(film) | _tmdb_record(film.match.movie))


def movie_detail(film: Film) -> MovieDetail:
    more = {"viewings": film.entries, "candidates": film.match.candidates or ()}
    return MovieDetail.model_validate(_logged(film) | _tmdb_record(film.match.movie) | more)


def _logged(film: Film) -> dict[str, object]:
    return {
        "movie_id": film.movie_id,
        "title": film.name,
        "year": film.year,
        "letterboxd_uri": film.uri or None,
        "rating": film.rating,
        "watched_date": film.watched_date,
        "watched_dates": [viewing.watched_date for viewing in film.viewings if viewing.watched_date],
        "rewatch": len(film.viewings) > 1 or any(viewing.rewatch for viewing in film.viewings),
        "tags": list(dict.fromkeys(tag for entry in film.entries for tag in entry.tags)),
        "review": next((entry.review for entry in film.entries if entry.review), None),
        "liked": film.liked,
        "watched": film.watched,
        "watchlist": film.watchlist,
        "watchlist_date": film.watchlist_date,
        "lists": film.lists,
        "match": film.match,
    }


def _tmdb_record(movie: Movie | None) -> dict[str, object]:
    """RECORD_FIELDS, by their names in Movie."""
    if movie is None:
        return {"tmdb_enriched": False}
    shown = {
        "tmdb_enriched": True,
        "tmdb_title": movie.title,
        "tmdb_url": tmdb_url(movie.tmdb_type, movie.tmdb_id),
    }
    return {name: shown[name] if name in shown else getattr(movie, name) for name in RECORD_FIELDS}


def list_views(session: Session) -> list[ListView]:
    return [_list_view(session, *numbered) for numbered in enumerate(session.export.lists, 1)]


def _list_view(session: Session, list_id: int, made: FilmList) -> ListView:
    films = [session.film(movie_id) for movie_id, _ in made.entries]
    return ListView(
        id=list_id,
        name=made.name,
        description=made.description,
        tags=list(made.tags),
        list_date=made.list_date,
        letterboxd_uri=made.list_uri or None,
        films=len(films),
        watched=sum(film.watched for film in films),
        mean_rating=_mean_rating(films),
        hours_left=_hours([film for film in films if not film.watched], {}),
        movie_ids=[film.movie_id for film in films],
    )


# The JSON can have many megabytes, so these run in threads.
STATISTICS_ADAPTER = TypeAdapter(Statistics)
MOVIES_ADAPTER = TypeAdapter(list[MovieView])


def movies_json(films: list[Film], query: MovieQuery) -> tuple[bytes, int]:
    """One page of them, and how many there are on all pages."""
    chosen = query.select(films)
    page = chosen[query.skip : query.skip + query.limit]
    return MOVIES_ADAPTER.dump_json([movie_view(film) for film in page]), len(chosen)


def statistics_json(session: Session, year: int | None, limit: int) -> bytes:
    return STATISTICS_ADAPTER.dump_json(
        compute_statistics(session.export.films, session.collections, year, limit)
    )


def progress_json(session: Session) -> str:
    return SessionView.model_validate(session).model_dump_json()


# === Downloads ================================================================
# The CSVs. A row is a dict from column to value, so that columns and values are listed once.

BOM = "\ufeff"  # without it, Excel takes UTF-8 for cp1252
# The start of a cell that a spreadsheet would compute, after any invisible characters.
FORMULA = re.compile(
    r"[\0-\x08\x0b\x0c\x0e-\x1f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*[=+\-@\t\r\n＝＋－＠]"
)
MAX_IMPORT_BYTES = 1_000_000  # the largest file that Letterboxd imports
IMPORT_NAMES = {"watched": "letterboxd", "watchlist": "letterboxd-watchlist"}

Row = dict[str, object]


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(map(_cell, row) for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    """What starts like a formula gets a space in front, which makes it text and which readers strip."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return f" {text}" if FORMULA.match(text) else text


def csv_bytes(films: list[Film], row: Callable[[Film], Row]) -> bytes:
    """The CSV, with a header. It can have many megabytes, so this runs in a thread."""
    content = bytearray((BOM + csv_text([list(row(films[0]))])).encode())
    for film in films:
        content += csv_text([row(film).values()]).encode()
    return bytes(content)


def movie_row(film: Film) -> Row:
    """The fields of MovieView, in its order."""
    row = movie_view(film).model_dump(mode="json")
    match = row.pop("match")
    return row | {"match_status": match["status"], "match_reason": match["reason"]}


MATCH_COLUMNS = (
    "movie_id title year letterboxd_uri watched watchlist watchlist_date liked match_status match_reason "
    "tmdb_url tmdb_id tmdb_type tmdb_title"
).split()


def match_row(film: Film) -> Row:
    """Some of movies.csv, and what else was considered."""
    row = movie_row(film)
    candidates = (
        f"{c.title} ({c.year or 'no year'}) {tmdb_url(c.tmdb_type, c.tmdb_id)} {c.score:g}"
        for c in film.match.candidates or ()
    )
    return {name: row[name] for name in MATCH_COLUMNS} | {"candidates": "; ".join(candidates)}


def import_row(film: Film, entry: Viewing) -> Row:
    """Letterboxd's columns, then four that it ignores and an upload to this service reads.

    Letterboxd takes a tmdbID for a film's, so a series only has its URL. A cleared match leaves no id.
    """
    match = film.match
    tmdb_ref, imdb_id, status = film.tmdb_ref, film.imdb_id, film.given_status
    if movie := match.movie:
        tmdb_ref, imdb_id, status = (movie.tmdb_type, movie.tmdb_id), movie.imdb_id or "", match.status
    elif match.by_hand and film.title:
        tmdb_ref, imdb_id = None, ""
    return {
        "LetterboxdURI": film.film_uri,
        "tmdbID": tmdb_ref[1] if tmdb_ref and tmdb_ref[0] == "movie" else None,
        "imdbID": imdb_id,
        "Title": film.name,
        "Year": film.year,
        "Directors": movie.directors if movie else film.directors,
        "Rating": entry.rating,
        "WatchedDate": entry.watched_date,
        "Rewatch": "Yes" if entry.rewatch else None,
        "Tags": entry.tags,
        "Review": entry.review,
        "Liked": "Yes" if film.liked else None,
        "tmdbURL": tmdb_ref and tmdb_url(*tmdb_ref),
        "MatchStatus": status if tmdb_ref or imdb_id else None,
        "WatchlistDate": film.watchlist_date,
    }


def import_files(films: list[Film], in_list: Literal["watched", "watchlist"]) -> Iterator[tuple[str, bytes]]:
    """`(name, bytes)` in Letterboxd's import format, in parts small enough for Letterboxd.

    All rows of a film are in one part: rows for one day in two files are one viewing, not two.
    """
    header = csv_text([import_row(films[0], Viewing())]).encode()
    name = IMPORT_NAMES[in_list]
    part, number = bytearray(header), 0
    for film in filter(LISTS[in_list], films):
        entries = _entries_to_import(film) if in_list == "watched" else [Viewing()]
        rows = csv_text(import_row(film, entry).values() for entry in entries).encode()
        if len(part) > len(header) and len(part) + len(rows) > MAX_IMPORT_BYTES:
            number += 1
            yield f"{name}-{number}.csv", bytes(part)
            part = bytearray(header)
        part += rows
    yield f"{name}-{number + 1}.csv" if number else f"{name}.csv", bytes(part)


def _entries_to_import(film: Film) -> list[Viewing]:
    """Its entries, and one without a date if the latest rating among them is not the film's."""
    entries = [entry for entry in film.entries if entry.watched_date or entry.review or entry.tags]
    latest = next((entry.rating for entry in entries if entry.rating is not None), None)
    return entries if entries and latest == film.rating else [*entries, Viewing(rating=film.rating)]


def import_download(films: list[Film], in_list: Literal["watched", "watchlist"]) -> tuple[str, bytes]:
    """The name and bytes of the one file, or else of a ZIP of the parts."""
    files = list(import_files(films, in_list))
    return files[0] if len(files) == 1 else (f"{IMPORT_NAMES[in_list]}.zip", zipped(files))


def list_csv(session: Session, list_id: int) -> bytes:
    """As Letterboxd exports a list, and takes it back."""
    made = session.film_list(list_id)
    films = [(session.film(movie_id), note) for movie_id, note in made.entries]
    return csv_text(
        [
            ["Letterboxd list export v7"],
            ["Date", "Name", "Tags", "URL", "Description"],
            [made.list_date, made.name, made.tags, made.list_uri, made.description],
            [],
            ["Position", "Name", "Year", "URL", "Description"],
            *([place, film.name, film.year, film.uri, note] for place, (film, note) in enumerate(films, 1)),
        ]
    ).encode()


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


# === Guard ====================================================================
# Checks every request before the app sees it: Host, origin and size. Any web page can make a browser send
# requests to localhost, so a request that changes something must come from our own page, from CORS_ORIGINS,
# or from no browser at all (against CSRF). And any site can point its own name at this machine (DNS
# rebinding), so the Host must be an IP address, this machine's name or one of ALLOWED_HOSTS.

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
UPLOADS = re.compile(r"/api/(upload|session/[^/]+/export)")
MAX_SMALL_BODY_BYTES = 100_000  # where no files are uploaded
MAX_DRAINED_BYTES = 100_000_000  # of a body that is too large
MIN_COMPRESSED_BYTES = 4_000  # smaller answers are sent as they are
COMPRESSION_LEVEL = 5  # level 9 takes three times as long and saves another 5 %
WRONG_HOST = "This host name is not allowed; add it to ALLOWED_HOSTS."
CROSS_SITE = "Other sites' pages may not change anything here; to allow one, add its origin to CORS_ORIGINS."
SECURITY_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LOAD_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Both load only their own files and this service; the page also loads pictures from TMDB.
CONTENT_POLICIES = {
    "/": f"{LOAD_NOTHING}; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src https://image.tmdb.org data:",
    "/docs": f"{LOAD_NOTHING}; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:",
}


def path_of(scope: Scope) -> str:
    """Without the prefix that a proxy may add."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


class Guard:
    """ASGI middleware, outermost in the app, so that framework errors get its headers, too."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        own_name = socket.gethostname().lower()
        self._hosts = {"localhost", own_name, f"{own_name}.local", *settings.allowed_hosts}
        self._cors = CORSMiddleware(
            GZipMiddleware(self._within_limits, MIN_COMPRESSED_BYTES, COMPRESSION_LEVEL),
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            expose_headers=["Content-Disposition", "Link", "Location", "Retry-After", "X-Total-Count"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as a GET, whose body the server leaves out
            scope = {**scope, "method": "GET"}
        headers, send = Headers(scope=scope), partial(self._secured, send, path_of(scope))
        if not all(map(self._is_known_host, headers.getlist("host") or [""])):
            await _refuse(421, WRONG_HOST, scope, receive, send)
        elif scope["method"] not in SAFE_METHODS and not self._is_trusted_origin(headers):
            await _refuse(403, CROSS_SITE, scope, receive, send)
        else:
            await self._cors(scope, receive, send)

    def _is_known_host(self, host: str) -> bool:
        name = re.sub(r":[0-9]*$", "", host.lower())
        if name in self._hosts:
            return True
        with contextlib.suppress(ValueError):  # an address is nobody's name
            return bool("%" not in name and ip_address(name.removeprefix("[").removesuffix("]")))
        return False

    def _is_trusted_origin(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._settings.cors_origins:
            return True
        if site:
            return site in ("same-origin", "none")
        return origin is None or origin in (f"http://{headers['host']}", f"https://{headers['host']}")

    async def _secured(self, send: Send, path: str, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            headers["Content-Security-Policy"] = CONTENT_POLICIES.get(path, LOAD_NOTHING)
            is_file = path in CONTENT_POLICIES or path.startswith(("/page/", "/docs/"))
            # A browser may keep the files, but asks whether they have changed.
            headers["Cache-Control"] = "no-cache" if is_file else "no-store"
        await send(message)

    async def _within_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        most, too_large = MAX_SMALL_BODY_BYTES, f"The body is over {MAX_SMALL_BODY_BYTES:,} bytes."
        if UPLOADS.fullmatch(path_of(scope)):
            most = self._settings.max_upload_bytes
            too_large = f"The upload is over {most:,} bytes (MAX_UPLOAD_BYTES)."
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                await _drain(receive)
                raise HTTPException(413, too_large)
            return message

        headers = Headers(scope=scope)
        is_endless = scope["method"] in SAFE_METHODS and "transfer-encoding" in headers
        if is_endless or int(headers.get("content-length", 0)) > most:
            await _refuse(413, too_large, scope, receive, send)
        else:
            await self._app(scope, counted, send)


async def _drain(receive: Receive) -> None:
    """Reads the rest of a body: a client or proxy that is still sending it would not see the answer."""
    left = MAX_DRAINED_BYTES
    while left > 0 and (message := await receive()).get("more_body"):
        left -= len(message["body"])


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    await _drain(receive)
    await JSONResponse({"detail": detail}, status)(scope, receive, send)


# === Routes ===================================================================
# The endpoints of the API, a few lines each. Their docstrings are what /docs shows.


THREADS = 2  # that read uploads, compute statistics and write answers: more would only share the same core


@dataclass
class Service:
    """What the lifespan owns, and routes use."""

    settings: Settings
    matcher: Matcher
    store: Store
    started_at: float = field(default_factory=time.monotonic)
    threads: anyio.CapacityLimiter = field(default_factory=partial(anyio.CapacityLimiter, THREADS))

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self.threads)


def read_upload(files: list[UploadFile], max_films: int) -> Export:
    return parse_export([(_file_name(file), file.file.read()) for file in files], max_films)


def _file_name(file: UploadFile) -> str:
    """The last 100 characters, which tell the kind, without control characters and lone surrogates."""
    return _clean((file.filename or "").encode("utf-8", "replace").decode()[-100:])


async def get_service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]
SessionId = Annotated[str, InPath(description="From the response to the upload.", examples=[EXAMPLE_ID])]


async def get_session(session_id: SessionId, service: ServiceDep) -> Session:
    return await service.store.get(session_id)


SessionDep = Annotated[Session, Depends(get_session)]
MovieId = Annotated[int, InPath(description="The film's number in this session.", examples=[7])]
ListId = Annotated[int, InPath(description="The list's number in this session.", examples=[1])]


async def get_film(session: SessionDep, movie_id: MovieId) -> Film:
    return session.film(movie_id)


FilmDep = Annotated[Film, Depends(get_film)]

PAGE_FOLDER = Path(__file__).with_name("page")
HAS_PAGE = PAGE_FOLDER.is_dir()
PAGE = StaticFiles(directory=PAGE_FOLDER, check_dir=False)
SWAGGER_UI = StaticFiles(packages=[("fastapi_swagger", "resources")])
DOCS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>API of Letterboxd export, looked up in TMDB</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css">
<div id="docs"></div><script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>"""
# One for all errors, whose sentence says what was wrong. FastAPI's `model` would give those of a CSV the type
# text/csv, so it is used once, where it also describes ErrorView.
ERROR = {"description": "What was wrong, and what would be right", "model": ErrorView}
ERROR_IN_JSON = {
    "description": ERROR["description"],
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorView"}}},
}
IMPORT_CONTENT = {
    "description": "A CSV, or a ZIP of them",
    "content": {"text/csv": {}, "application/zip": {}},
}
routes = APIRouter(responses={"default": ERROR})
of_session = APIRouter(
    prefix="/api/session/{session_id}", tags=["sessions"], responses={"default": ERROR_IN_JSON}
)


CORRECTION_SECONDS = 20  # how long a correction waits for TMDB, and as long again for a collection


class CSVResponse(Response):
    media_type = "text/csv"


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


Files = Annotated[
    list[Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary"})]],
    File(description="The ZIP, or CSVs from it. Repeat the field for more files."),
]


@routes.post("/api/upload", summary="Upload an export", status_code=201, tags=["sessions"])
async def upload(files: Files, service: ServiceDep, request: Request, response: Response) -> UploadView:
    """The ZIP exactly as Letterboxd exports it, or any of its CSVs, one or many.

    Answers at once. The films can be read immediately and are looked up in TMDB in the background. Poll
    `/api/session/{session_id}` for the progress.
    """
    service.store.check_room()
    session = await service.store.create(
        await service.in_thread(read_upload, files, service.settings.max_films)
    )
    start_enrichment(session, service.matcher)
    response.headers["Location"] = request.url_for("read_session", session_id=session.session_id).path
    return UploadView.model_validate(session)


@of_session.post("/export", summary="Upload a newer export into a session")
async def update_session(session: SessionDep, files: Files, service: ServiceDep) -> UpdateView:
    """Films that are in both exports keep their matches, also those by hand; only new ones are looked up.

    Movie ids may change, since a newer export has another order.
    """
    check_ended(session)
    export = await service.in_thread(read_upload, files, service.settings.max_films)
    check_ended(session)
    new, changed, gone = count_changes(session.export, export)
    await session.take_over(export)
    look_up_again(session, service.matcher)
    read = UploadView.model_validate(session).model_dump()
    return UpdateView(**read, new_count=new, changed_count=changed, gone_count=gone)


@of_session.get("", summary="The progress of a session")
async def read_session(session_id: SessionId, service: ServiceDep) -> SessionDetail:
    """Cheap, so poll as often as you like. Every film ends up enriched, not found or failed."""
    return SessionDetail.model_validate(await service.store.progress(session_id))


@of_session.get("/events", summary="Follow a session", response_class=EventSourceResponse)
async def follow_session(session: SessionDep) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `progress` at once and after changes, up to four per second, then one `end`.

    The data of each event is what `/api/session/{session_id}` returns, without `warnings` and `profile`.
    Close your `EventSource` on `end`, or it will connect again.
    """
    async for session in session.changes():  # noqa: B020, PLR1704 - as it is by then
        yield ServerSentEvent(event="progress", raw_data=progress_json(session))
    yield ServerSentEvent(event="end", raw_data=progress_json(session))


@of_session.get("/movies", summary="A session's films", response_model=list[MovieView])
async def read_movies(
    session: SessionDep, query: Annotated[MovieQuery, Query()], service: ServiceDep, request: Request
) -> Response:
    """Watched films first (latest viewing first), then liked ones, those on the watchlist, and the rest.

    The order does not change while films are looked up. `X-Total-Count` is the number of matching films, and
    `Link` leads to the next page.
    """
    content, count = await service.in_thread(movies_json, session.export.films, query)
    after, headers = query.skip + query.limit, {"X-Total-Count": str(count)}
    if after < count:
        next_page = request.url.include_query_params(skip=after, limit=query.limit)
        headers["Link"] = f'<{next_page.path}?{next_page.query}>; rel="next"'
    return Response(content, media_type="application/json", headers=headers)


@of_session.get("/movies/ids", summary="The ids of a session's films")
async def read_movie_ids(
    session: SessionDep, query: Annotated[MovieFilter, Query()], service: ServiceDep
) -> list[int]:
    """The `movie_id` of every film that `/movies` returns on all its pages, in the same order."""
    films = await service.in_thread(query.select, session.export.films)
    return [film.movie_id for film in films]


@of_session.get("/movies/{movie_id}", summary="One film, with its viewings and candidates")
async def read_movie(film: FilmDep, service: ServiceDep) -> MovieDetail:
    """With all viewings, and the candidates that TMDB's search returned, with their scores.

    If the film was found without a search, TMDB is searched now; if it does not answer, there are no
    candidates.
    """
    urgent.set(True)
    await add_candidates(film, service.matcher)
    return movie_detail(film)


@of_session.get("/movies/{movie_id}/candidates", summary="Search by another title")
async def search_candidates(
    film: FilmDep,
    service: ServiceDep,
    q: Annotated[str, Query(min_length=1, max_length=200, description="A title.", examples=["Amélie"])],
) -> list[Candidate]:
    """What TMDB's search for films offers, scored like all candidates, best first. Changes nothing."""
    urgent.set(True)
    try:
        async with asyncio.timeout(CORRECTION_SECONDS):
            return list(await service.matcher.candidates_titled(film, q))
    except TimeoutError:
        raise TMDBUnavailable("TMDB is not answering; search again later.") from None


@of_session.put("/movies/{movie_id}/match", summary="Correct a match")
async def correct_match(
    session: SessionDep, film: FilmDep, choice: Choice, service: ServiceDep
) -> MovieDetail:
    """Says which movie the film is. Works while films are being looked up, too.

    The correction also applies to later uploads of the same film, unless sessions are in PostgreSQL.
    """
    urgent.set(True)
    asks_anew.set(True)
    try:
        async with asyncio.timeout(CORRECTION_SECONDS):
            movie = await service.matcher.tmdb.movie(*choice.ref)
    except TimeoutError:
        raise TMDBUnavailable("TMDB is not answering; correct the match later.") from None
    await apply_correction(session, film, movie, service.matcher)
    if session.task is None:  # otherwise the task will, at its end
        await read_collections(session, service.matcher.tmdb, CORRECTION_SECONDS)
        await session.save_collections()
    return movie_detail(film)


@of_session.delete("/movies/{movie_id}/match", summary="Clear a wrong match", status_code=204)
async def clear_match(session: SessionDep, film: FilmDep, service: ServiceDep) -> None:
    """Makes the film `not_found`, which no retry changes. Applies to later uploads like a correction."""
    await apply_correction(session, film, None, service.matcher)


@of_session.post("/movies/{movie_id}/match/undo", summary="Undo a correction")
async def undo_match(session: SessionDep, film: FilmDep, service: ServiceDep) -> MovieDetail:
    """Takes back the latest `PUT` or `DELETE` for this film in this session; earlier ones stay."""
    urgent.set(True)
    await undo_correction(session, film, service.matcher)
    await add_candidates(film, service.matcher)
    return movie_detail(film)


@of_session.get("/lists", summary="A session's lists")
async def read_lists(session: SessionDep, service: ServiceDep) -> list[ListView]:
    """Each list of the export, in its order there, and how much of it was watched."""
    return await service.in_thread(list_views, session)


@of_session.get("/lists/{list_id}.csv", summary="A list as CSV", response_class=CSVResponse)
async def download_list(session: SessionDep, list_id: ListId) -> CSVResponse:
    """As Letterboxd exports and imports lists."""
    return CSVResponse(list_csv(session, list_id), headers=_attachment(f"list-{list_id}.csv"))


@of_session.get("/stats", summary="Statistics", description=WHAT_COUNTS, response_model=Statistics)
async def read_statistics(
    session: SessionDep,
    service: ServiceDep,
    year: Annotated[int | None, Query(ge=1, le=9999, description="One year of the diary.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="The maximum length of a list.")] = 10,
) -> Response:
    compute = partial(service.in_thread, statistics_json, session, year, limit)
    return Response(await session.compute((year, limit), compute), media_type="application/json")


@of_session.post("/retry", summary="Retry films without a match", status_code=202)
async def retry_session(session: SessionDep, service: ServiceDep) -> SessionView:
    """Looks up all failed and not-found films again, except those cleared by hand."""
    await retry_films(session, service.matcher)
    return SessionView.model_validate(await service.store.progress(session.session_id))


@of_session.get("/movies.csv", summary="The films as CSV", response_class=CSVResponse)
async def download_movies(session: SessionDep, service: ServiceDep) -> CSVResponse:
    """One line per film, with the fields of the JSON as columns. Lists are separated by commas.

    Safe in a spreadsheet: a cell that starts like a formula has a space in front.
    """
    content = await service.in_thread(csv_bytes, session.export.films, movie_row)
    return CSVResponse(content, headers=_attachment("movies.csv"))


@of_session.get("/matches.csv", summary="The match report", response_class=CSVResponse)
async def download_matches(session: SessionDep, service: ServiceDep) -> CSVResponse:
    """One line per film: what it was matched with, why, and what else was considered.

    A film that was found without a search has no candidates until it is opened.
    """
    content = await service.in_thread(csv_bytes, session.export.films, match_row)
    return CSVResponse(content, headers=_attachment("matches.csv"))


@of_session.get(
    "/letterboxd.csv",
    summary="Letterboxd's import format",
    response_class=CSVResponse,
    responses={200: IMPORT_CONTENT},
)
async def download_letterboxd(
    session: SessionDep,
    service: ServiceDep,
    in_list: Annotated[
        Literal["watched", "watchlist"],
        Query(
            alias="list",
            description="Separate files, because Letterboxd marks everything it imports as watched.",
        ),
    ] = "watched",
) -> Response:
    """One line per viewing, with TMDB's ids, to import at Letterboxd or to upload here again.

    A film without a viewing, or with a rating other than its latest viewing's, has a line without a date.
    Letterboxd imports up to 1 MB; beyond that, the answer is a ZIP of parts.
    """
    name, content = await service.in_thread(import_download, session.export.films, in_list)
    if name.endswith(".csv"):
        return CSVResponse(content, headers=_attachment(name))
    return Response(content, media_type="application/zip", headers=_attachment(name))


@of_session.delete("", summary="Delete a session", status_code=204)
async def delete_session(session_id: SessionId, service: ServiceDep) -> None:
    """Stops its work and frees its memory. Corrections are kept."""
    await service.store.delete(session_id)


@routes.get("/health", summary="The state of the service", tags=["service"])
async def health(service: ServiceDep) -> HealthView:
    """For whoever runs the service. Checks the key with TMDB until TMDB has accepted it."""
    tmdb = service.matcher.tmdb
    if tmdb.key_state in ("unchecked", "rejected"):
        await tmdb.check_key()
    return HealthView(
        sessions=len(service.store),
        memory_bytes=service.store.memory_bytes,
        stored_sessions=await service.store.count_stored(),
        tmdb_key=tmdb.key_state,
        uptime_seconds=round(time.monotonic() - service.started_at, 1),
    )


@routes.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return await PAGE.get_response("index.html", request.scope) if HAS_PAGE else RedirectResponse("docs")


@routes.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return HTMLResponse(DOCS)


@routes.get("/docs/start.js", include_in_schema=False)
async def docs_start() -> Response:
    # Swagger UI warns that it has no component for such items, before it shows a file input.
    files = "plugins: [() => ({components: {JsonSchema_string_binary: () => null}})]"
    script = f'SwaggerUIBundle({{url: "openapi.json", dom_id: "#docs", deepLinking: true, {files}}})'
    return Response(script, media_type="text/javascript")


async def handle_error(_: Request, error: Exception) -> JSONResponse:
    """Shows every error as a sentence, in our own words if the framework's say too little."""
    headers = None
    if isinstance(error, ServiceError):
        status, detail, headers = error.status, str(error), error.headers
    elif isinstance(error, RequestValidationError):
        status, detail = 422, "; ".join(map(_request_problem, error.errors())) + "."
    elif isinstance(error, HTTPException) and isinstance(error.__cause__, OSError):
        log.error("an upload could not be stored: %s", error.__cause__.strerror)
        status = 500
        detail = "The upload could not be stored: the service's disk may be full or not writable."
    elif isinstance(error, HTTPException):
        status, detail = error.status_code, HTTP_ERRORS.get(error.detail, error.detail)
        headers = dict(error.headers or {})
    else:
        status, error_id = 500, secrets.token_hex(4)
        log.error(
            "[%s] a bug, %s, made an answer fail", error_id, type(error).__name__
        )  # uvicorn logs the rest
        detail = f"An internal error occurred; the service's log has it as {error_id}."
    return JSONResponse({"detail": detail}, status, headers)


HTTP_ERRORS = {
    "Invalid multipart data.": "The body is not valid multipart form data; "
    "send it as `curl -F files=@export.zip` does.",
    "There was an error parsing the body": "The body could not be parsed; /docs describes it.",
    "Not Found": "No such path; /docs lists all endpoints.",
    "Method Not Allowed": "Method not allowed; /docs lists the methods of each path.",
}


def _request_problem(error: Any) -> str:
    name = ".".join(part for part in error["loc"][1:] if isinstance(part, str)) or "body"
    if name == "files":
        return "files: upload the export under this name, as `curl -F files=@export.zip` does"
    if name == "body" and error["type"] != "value_error":
        return "body: send a JSON object, with the header Content-Type: application/json"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


# === App ======================================================================
# The app and its life: the lifespan opens what lives as long as the process, and closes it in reverse order.


LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
POLL = re.compile(r"GET .*/api/session/[\w-]+")


class ShortIds(logging.Filter):
    """Shortens session ids in uvicorn's access log, since whoever knows an id can read the session.

    Polls of the progress are left out: they would be most of the log, and a fifth slower.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            if POLL.fullmatch(" ".join(map(str, record.args[1:3]))) and record.args[-1] == 200:
                return False
            record.args = tuple(
                re.sub(r"([\w%-]{6})[\w%-]{16,}", r"\1…", arg) if isinstance(arg, str) else arg
                for arg in record.args
            )
        return True


def refuse_several_workers() -> None:
    server = running_server()
    if server and server.config.workers > 1 and not server.config.reload:
        refuse_to_start(
            "Sessions live in the memory of one process, so with several workers most requests would not "
            "find theirs. Start one worker, or set DATABASE_URL."
        )


def refuse_to_start(sentence: str) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
    os._exit(uvicorn.config.STARTUP_FAILURE)  # with this status, uvicorn starts no further workers


def open_store(
    settings: Settings, matcher: Matcher, clock: Callable[[], float]
) -> contextlib.AbstractAsyncContextManager[Store]:
    """In memory, or in PostgreSQL, where several processes share what they know and the pace of asking."""
    if not settings.database_url.get_secret_value():
        limits = settings.session_ttl_seconds, settings.max_sessions, settings.max_memory_bytes
        return SessionStore(*limits, clock)
    sys.modules.setdefault("main", sys.modules[__name__])  # by this name, the package imports this module
    try:
        import postgres  # noqa: PLC0415 - only who wants it needs it
    except ModuleNotFoundError as error:
        if error.name not in ("alembic", "asyncpg", "sqlalchemy"):
            raise
        refuse_to_start(f"{error.name} is missing: pip install -r postgres/requirements.txt.")
    return postgres.open_store(settings, matcher, clock)


def open_answers(
    settings: Settings, default: str = "off"
) -> contextlib.AbstractContextManager[AnswerFile | None]:
    """The file that TMDB_CACHE names, or else the default one."""
    name = settings.tmdb_cache or default
    return contextlib.nullcontext() if name == "off" else contextlib.closing(AnswerFile(Path(name)))


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    clock: Callable[[], float] = app.state.clock
    is_alone = not settings.database_url.get_secret_value()
    if is_alone:
        refuse_several_workers()
    gc.set_threshold(10_000)  # Python's 700 scans all films so often that statistics take half as long again
    access, short_ids = logging.getLogger("uvicorn.access"), ShortIds()
    access.addFilter(short_ids)
    known_films = await asyncio.to_thread(KnownFilms.read, KNOWN_FILMS)
    with open_answers(settings) as answers:
        async with (
            TMDBClient(settings, clock, app.state.sleep, answers) as tmdb,
            open_store(settings, matcher := Matcher(tmdb, known_films, is_alone), clock) as store,
        ):
            if tmdb.key_state == "missing":
                log.warning("no TMDB_API_KEY is set: exports are read, but no film is looked up")
            app.state.service = Service(settings, matcher, store)
            yield
    access.removeFilter(short_ids)


ABOUT = """Upload a Letterboxd export, follow its session, read its films and statistics, correct matches and
download the result. [The page](/) does it all for you.

    curl -F files=@letterboxd-me-2026-01-01-00-00-utc.zip localhost:8000/api/upload
    curl localhost:8000/api/session/SESSION_ID
    curl localhost:8000/api/session/SESSION_ID/movies

Sessions are deleted a while after their films have been looked up; `expires_at` says when.
This product uses the TMDB API but is not endorsed or certified by TMDB."""


def create_app(
    settings: Settings,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> FastAPI:
    """`clock` and `sleep`, in seconds, let tests decide how time passes."""
    app = FastAPI(
        title="Letterboxd export, looked up in TMDB",
        version="1.0",
        description=ABOUT,
        lifespan=lifespan,
        generate_unique_id_function=attrgetter("name"),
        docs_url=None,
        redoc_url=None,
        exception_handlers=dict.fromkeys(
            (ServiceError, RequestValidationError, HTTPException, Exception), handle_error
        ),
    )
    app.state.settings, app.state.clock, app.state.sleep = settings, clock, sleep
    app.include_router(routes)
    app.include_router(of_session)
    if HAS_PAGE:
        app.mount("/page", PAGE)
    app.mount("/docs", SWAGGER_UI)
    # add_middleware would put Guard inside the handler of unexpected errors, so 500s would lack its headers.
    app.middleware_stack = Guard(app.build_middleware_stack(), settings)
    return app


def set_up_logging(level: str) -> None:
    """Gives uvicorn's lines, which have no time, our format, unless `--log-config` gave them another."""
    logging.basicConfig(format=LOG_FORMAT)
    log.setLevel(level)
    for name in ("uvicorn", "uvicorn.access"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler.formatter, ColourizedFormatter):
                handler.setFormatter(logging.Formatter(LOG_FORMAT))


app: FastAPI
if not TYPE_CHECKING:  # mypy would believe that this module has every name

    def __getattr__(name: str) -> FastAPI:
        """Makes `app` when a server asks for it, so that importing this file has no effect."""
        if name != "app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        settings = Settings.load()
        set_up_logging(settings.log_level)
        return globals().setdefault(name, create_app(settings))


# === Terminal =================================================================
# The command line. `python main.py` serves; with an export, it looks the films up and prints what is in it,
# without a server. Results go to stdout, progress and warnings to stderr.

CACHE = str(user_cache_path("letterboxd-tmdb", appauthor=False) / "answers.sqlite")
MAX_LISTED = 20  # films without a certain match
MAX_LISTS = 5
BAR_WIDTH = 40
RATINGS_WIDTH = 30


def read_paths(paths: Iterable[Path], max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """`(name, bytes)` of the files, and of all CSVs in the folders. Raises UnusableUpload, UploadTooLarge."""
    left = max_bytes
    for path in paths:
        try:
            for file in csvs_below(path) if path.is_dir() else [path]:
                with file.open("rb") as opened:
                    data = opened.read(left + 1)  # it may be endless
                left -= len(data)
                if left < 0:
                    raise UploadTooLarge(f"The upload is over {max_bytes:,} bytes (MAX_UPLOAD_BYTES).")
                yield file.relative_to(path.parent).as_posix(), data
        except OSError as error:
            raise UnusableUpload(f"{error.filename or path} cannot be read: {error.strerror}.") from None


def csvs_below(folder: Path) -> Iterator[Path]:
    folders = [folder]  # Path.rglob skips what it may not read, and a thousand nested folders end it
    while folders:
        for entry in sorted(os.scandir(folders.pop()), key=attrgetter("name")):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry))
            elif entry.name.endswith(".csv") and entry.is_file():
                yield Path(entry)


BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")  # would turn the text after them around


def say(text: str, name: str = "stderr") -> None:
    """Nothing depends on whether somebody reads it. Raises OSError if what goes to stdout has no room."""
    stream = getattr(sys, name) or io.TextIOWrapper(io.BytesIO())  # it may be closed
    try:
        stream.reconfigure(errors="replace")  # not every terminal shows every title
        stream.write(BIDI.sub("", text))
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python tries again when it exits
        if name == "stdout" and not isinstance(error, BrokenPipeError):
            raise


async def show_progress(session: Session) -> None:
    """Until the session ends: a bar in a terminal, otherwise a line whenever another tenth is done."""
    in_terminal, tenth = sys.stderr and sys.stderr.isatty(), -1.0
    async for _ in session.changes():
        if in_terminal:
            say(f"\r{progress_line(session)}\x1b[K")
        elif session.progress_percent // 10 > tenth:
            tenth = session.progress_percent // 10
            say(f"{progress_line(session)}\n")
    if in_terminal:
        say("\n")


def progress_line(session: Session) -> str:
    done, total = session.processed_count, session.total_movies
    words = [f"{'█' * (BAR_WIDTH * done // total):░<{BAR_WIDTH}} {done} of {total} films"]
    if session.films_per_second and session.ended_at is None:
        words += [f"{session.films_per_second:.0f} a second", f"{session.eta_seconds} s left"]
    if session.waiting_for:
        words.append(session.waiting_for)
    return ", ".join(words)


def summary(session: Session) -> str:
    """What is in the export, in about thirty lines."""
    statistics = compute_statistics(session.export.films, session.collections, limit=5)
    totals, unwatched = statistics.totals, statistics.watchlist.films
    matches = ", ".join(f"{count} {status}" for status, count in (+session.counts).most_common())
    lines = [
        f"{_count(totals.films, 'film')} watched, {totals.hours:,.0f} hours ({totals.days:g} days); "
        f"{_count(totals.viewings, 'viewing')} in the diary, "
        f"including {_count(totals.rewatches, 'rewatch', 'es')}",
        *_top_lines(statistics),
        *_rating_lines(statistics.ratings, totals),
        f"{totals.liked} liked, {totals.reviewed} reviewed, {totals.watchlist} on the watchlist"
        + (f", {unwatched} of them unwatched" if unwatched != totals.watchlist else ""),
        *_list_lines(session),
        f"matches: {matches}",
        *_uncertain_lines(session.export.films),
    ]
    return "\n".join(lines)


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{plural if number != 1 else ''}"


def _top_lines(statistics: Statistics) -> Iterator[str]:
    tops = {
        "directors": statistics.who.directors.most_watched,
        "actors": statistics.who.cast.most_watched,
        "genres": statistics.what.genres.most_watched,
        "decades": sorted(statistics.through_time.decades, key=lambda bar: -bar.count)[:5],
        "countries": statistics.what.countries.most_watched,
    }
    for name, bars in tops.items():
        if bars:
            yield f"    {name}: {', '.join(f'{bar.name} ({bar.count})' for bar in bars)}"


def _list_lines(session: Session) -> Iterator[str]:
    """The lists that are begun but not finished, the most films first."""
    begun = [view for view in list_views(session) if 0 < view.watched < view.films]
    begun.sort(key=lambda view: -view.films)
    for view in begun[:MAX_LISTS]:
        yield f"    {view.name}: {view.watched} of {view.films} watched, {view.hours_left:,.0f} hours left"
    if len(begun) > MAX_LISTS:
        yield f"    … and {len(begun) - MAX_LISTS} more lists"


def _rating_lines(ratings: Ratings, totals: Totals) -> Iterator[str]:
    if totals.mean_rating is None:
        return
    line = f"{_count(totals.rated, 'film')} rated, {totals.mean_rating:g} stars on average"
    if ratings.compared_mean is not None and ratings.crowd_mean is not None:
        line += f"; where TMDB's voters give {ratings.crowd_mean:g}, you give {ratings.compared_mean:g}"
    yield line
    most = max(bar.count for bar in ratings.histogram)
    for bar in ratings.histogram:
        columns = "█" * math.ceil(RATINGS_WIDTH * bar.count / most)
        yield f"    {bar.name:>3} {columns} {bar.count}"


def _uncertain_lines(films: list[Film]) -> Iterator[str]:
    """Watched films come first, above all rated ones. A reason that several share is said once."""
    uncertain = [film for film in films if film.match.status not in ("exact", "corrected")]
    uncertain.sort(key=lambda film: (not film.watched, film.rating is None))
    named: dict[str, list[str]] = defaultdict(list)
    for film in uncertain[:MAX_LISTED]:
        name = film.name or film.imdb_id
        outcome = f"{film.match.status}: {film.match.reason}"
        named[outcome].append(f"{name} ({film.year})" if film.year else name)
    for outcome, names in named.items():
        yield f"    {', '.join(names)}, {outcome}"
    if len(uncertain) > MAX_LISTED:
        yield f"    … and {len(uncertain) - MAX_LISTED} more; --out writes them all to matches.csv"


def write_results(session: Session, folder: Path) -> None:
    """The downloads of the API, and the statistics for all time. Raises OSError."""
    films = session.export.films
    files = {
        "movies.csv": csv_bytes(films, movie_row),
        "matches.csv": csv_bytes(films, match_row),
        "stats.json": statistics_json(session, None, 100),
        **dict(import_files(films, "watched")),
        **dict(import_files(films, "watchlist")),
        **{f"list-{n}.csv": list_csv(session, n) for n in range(1, len(session.export.lists) + 1)},
    }
    for name, data in files.items():
        unfinished = folder / f"{name}.part"
        try:
            unfinished.write_bytes(data)
            unfinished.replace(folder / name)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(folder / name)) from None


async def analyse(export: Export, out: Path | None, settings: Settings) -> bool:
    """Looks the films up and prints what is in the export. Returns whether every film could be looked up."""
    for warning in export.warnings:
        say(f"{_clean(warning)}\n")
    session = Session(export)
    with open_answers(settings, CACHE) as answers:
        async with TMDBClient(settings, answers=answers) as tmdb:
            start_enrichment(session, Matcher(tmdb, KnownFilms.read(KNOWN_FILMS)))
            await show_progress(session)
    if session.error_message:
        say(f"{session.error_message}\n")
    if session.kept_films:
        say(f"{_count(session.kept_films, 'film')} needed no call: TMDB's answers were kept\n")
    said = f"{summary(session)}\n"
    if out:
        write_results(session, out)
        said += (
            f"Written to {out}: the films, the matches, the lists, Letterboxd's import format, statistics.\n"
        )
    say(said, "stdout")
    return not session.failed_count


def serve(settings: Settings, host: str, port: int, open_page: bool) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise SystemExit(f"Port {port} cannot be used ({error}); choose another with --port.") from None
    server = uvicorn.Server(uvicorn.Config(create_app(settings), timeout_graceful_shutdown=2))
    set_up_logging(settings.log_level)
    is_local = host in ("127.0.0.1", "0.0.0.0", "::", "::1")
    url = f"http://{'localhost' if is_local else f'[{host}]' if ':' in host else host}:{port}"
    log.info("serving %s until Ctrl-C", url)
    if open_page:  # the browser waits until the page is served
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    server.run([listening])


def command(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with 1 if something failed, with 2 if it was called wrongly."""
    parser = argparse.ArgumentParser(
        prog="python main.py",
        description="Looks up the films of a Letterboxd export in TMDB and prints what is in it. "
        "Without an export, serves the page and the API.",
        epilog="Settings, such as TMDB_API_KEY, come from the environment or .env; .env.example lists them.",
    )
    add = parser.add_argument
    add("exports", nargs="*", type=Path, metavar="EXPORT", help="ZIPs, CSVs or folders of CSVs")
    add("--out", type=Path, metavar="DIR", help="also write CSVs and stats.json into this folder")
    add("--no-cache", action="store_true", help=f"ask TMDB anew; its answers are kept in {CACHE}")
    add("--open", action="store_true", help="open the page in a browser when serving")
    add("--host", metavar="ADDRESS", help="serve at this address instead of 127.0.0.1")
    add("--port", type=int, metavar="NUMBER", help="serve on this port instead of 8000")
    options = parser.parse_args(arguments)
    if options.out and not options.exports:
        parser.error("--out needs an export to analyse")
    if options.exports and (options.open or options.host or options.port):
        parser.error("--open, --host and --port are for serving, without an export")
    settings = Settings.load()
    if options.no_cache:
        settings = settings.model_copy(update={"tmdb_cache": "off"})
    if not options.exports:
        serve(settings, options.host or "127.0.0.1", options.port or 8000, options.open)
        return
    try:
        export = parse_export(read_paths(options.exports, settings.max_upload_bytes), settings.max_films)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
        done = asyncio.run(analyse(export, options.out, settings))
    except ServiceError as error:
        raise SystemExit(_clean(str(error))) from None
    except OSError as error:
        raise SystemExit(f"{error.filename or 'The summary'} cannot be written: {error.strerror}.") from None
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    command()
