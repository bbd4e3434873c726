"""Films, matches and movies as JSON, and back. What is empty or has its default is left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import date
from typing import Any

from main import (
    IMAGE_BASE_URL,
    JOBS,
    PENDING,
    Candidate,
    Collection,
    Company,
    Film,
    Match,
    Movie,
    NameFactory,
    Person,
    TMDBName,
    Viewing,
)

Body = dict[str, Any]


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else _given(value, VIEWING)


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _defaults(kind: type[Any], *left_out: str) -> dict[str, object]:
    return {field.name: _default(field) for field in fields(kind) if field.name not in left_out}


FILM = _defaults(Film, "movie_id", "match")
VIEWING = _defaults(Viewing)


def _given(value: object, defaults: dict[str, object]) -> Body:
    return {name: own for name in defaults if (own := getattr(value, name)) != defaults[name]}


# --- Films as logged


def film_body(film: Film) -> Body:
    return _given(film, FILM)


class StoredFilm(Film):
    """A film whose match is decoded when it is first looked at, since most are not for a while."""

    __slots__ = ("_match",)
    _match: Match | Callable[[], Match]

    @property
    def match(self) -> Match:
        match = self._match
        if isinstance(match, Match):
            return match
        decoded = match()
        if self._match is match:
            self._match = decoded
        return self.match

    @match.setter
    def match(self, match: Match | Callable[[], Match]) -> None:
        self._match = match


def film_of(body: Body, movie_id: int, tags: dict[tuple[str, ...], tuple[str, ...]]) -> StoredFilm:
    """Pending. `tags` are those seen so far, so that viewings with the same tags share them."""
    for name in body.keys() & {"added_date", "watchlist_date"}:
        body[name] = date.fromisoformat(body[name])
    if "tmdb_ref" in body:
        body["tmdb_ref"] = tuple(body["tmdb_ref"])
    for name in body.keys() & {"viewings", "undated_reviews"}:
        body[name] = [_viewing_of(viewing, tags) for viewing in body[name]]
    return StoredFilm(**body, movie_id=movie_id)


def _viewing_of(body: Body, tags: dict[tuple[str, ...], tuple[str, ...]]) -> Viewing:
    if "watched_date" in body:
        body["watched_date"] = date.fromisoformat(body["watched_date"])
    if "tags" in body:
        several = tuple(body["tags"])
        body["tags"] = tags.setdefault(several, several)
    return Viewing(**body)


# --- TMDB's records

NAMES: dict[str, type[TMDBName]] = {
    **dict.fromkeys(("directors", "cast", *JOBS), Person),
    "studios": Company,
    "collections": TMDBName,
}
TEXTS = ("genres", "countries", "languages", "keywords", "other_titles")
EMPTY_MOVIE: Body = {field.name: None for field in fields(Movie)} | dict.fromkeys((*NAMES, *TEXTS), ())
EMPTY_CANDIDATE: Body = {field.name: None for field in fields(Candidate)} | {"score": 0}
PORTRAITS = f"{IMAGE_BASE_URL}w185"


def _filled(body: Body) -> Body:
    return {name: value for name, value in body.items() if value is not None and value != ()}


def movie_body(movie: Movie) -> Body:
    body = {name: getattr(movie, name) for name in EMPTY_MOVIE}
    return _filled(body | {name: tuple(map(_name_body, body[name])) for name in NAMES})


def _name_body(name: TMDBName) -> list[object]:
    """Id and name, and the path of a portrait."""
    portrait = getattr(name, "portrait_url", None)
    return [name.identity, str(name), *([portrait.removeprefix(PORTRAITS)] if portrait else [])]


def movie_of(body: Body, names: NameFactory) -> Movie:
    for role in body.keys() & NAMES.keys():
        body[role] = tuple([names.shared(NAMES[role], *name) for name in body[role]])
    for kind in body.keys() & set(TEXTS):
        body[kind] = tuple(map(sys.intern, body[kind]))
    return Movie(**EMPTY_MOVIE | body)


def collection_body(collection: Collection) -> Body:
    return {"name": collection.name, "released": collection.released}


def collection_of(body: Body) -> Collection:
    return Collection(body["name"], tuple(body["released"]))


# --- Matches


def match_body(match: Match, movie_key: str | None) -> Body:
    """`movie_key` is that of the movie's record."""
    body: Body = {"status": match.status, "reason": match.reason, "movie": movie_key}
    if match.candidates is not None:
        candidates = ({name: getattr(each, name) for name in EMPTY_CANDIDATE} for each in match.candidates)
        body["candidates"] = list(map(_filled, candidates))
    return _filled(body | {"by_hand": match.by_hand or None})


def match_of(body: Body, movies: Mapping[str, Movie]) -> Match | None:
    """None if the record of its movie is gone."""
    movie_key, candidates = body.get("movie"), body.get("candidates")
    if body["status"] == "pending":
        return PENDING
    if movie_key and movie_key not in movies:
        return None
    return Match(
        body["status"],
        body["reason"],
        movies[movie_key] if movie_key else None,
        None if candidates is None else tuple(Candidate(**EMPTY_CANDIDATE | each) for each in candidates),
        body.get("by_hand", False),
    )
