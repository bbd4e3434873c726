"""What a member logged and decided as JSON, and back. What is empty or has its default is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, Field, asdict, fields
from datetime import date
from typing import Any

from main import PENDING, Export, Film, FilmList, Match, Movie, Profile, Viewing

Body = dict[str, Any]
Tags = dict[tuple[str, ...], tuple[str, ...]]


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return _given(value, VIEWING) if isinstance(value, Viewing) else asdict(value)  # type: ignore[call-overload]


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _defaults(kind: type[Any], *left_out: str) -> Body:
    return {field.name: _default(field) for field in fields(kind) if field.name not in left_out}


FILM = _defaults(Film, "movie_id", "match")
VIEWING = _defaults(Viewing)


def _given(value: object, defaults: Body) -> Body:
    return {name: own for name in defaults if (own := getattr(value, name)) != defaults[name]}


def film_body(film: Film) -> Body:
    return _given(film, FILM)


def film_of(body: Body, movie_id: int, match: Match, tags: Tags) -> Film:
    """`tags` are those seen so far, so that viewings with the same tags share them."""
    for name in body.keys() & {"added_date", "watchlist_date"}:
        body[name] = date.fromisoformat(body[name])
    if "tmdb_ref" in body:
        body["tmdb_ref"] = tuple(body["tmdb_ref"])
    for name in body.keys() & {"viewings", "undated_reviews"}:
        body[name] = [_viewing_of(viewing, tags) for viewing in body[name]]
    return Film(**body, movie_id=movie_id, match=match)


def _viewing_of(body: Body, tags: Tags) -> Viewing:
    if "watched_date" in body:
        body["watched_date"] = date.fromisoformat(body["watched_date"])
    if "tags" in body:
        several = tuple(body["tags"])
        body["tags"] = tags.setdefault(several, several)
    return Viewing(**body)


def export_of(row: Any, films: list[Film]) -> Export:
    """That of a session's row."""
    lists = [FilmList(**each) for each in json.loads(row.lists)]
    for made in lists:
        made.list_date = date.fromisoformat(str(made.list_date)) if made.list_date else None
        made.tags, made.entries = tuple(made.tags), [(movie_id, note) for movie_id, note in made.entries]
    profile = json.loads(row.profile) if row.profile else None
    rows, warnings = json.loads(row.rows), json.loads(row.warnings)
    return Export(films, rows, warnings, lists, profile and Profile(**profile), row.memory_bytes)


class StoredMatch(Match):
    """Its movie is read when it is first looked at, since most are not for a while."""

    __slots__ = ("_read",)
    _read: Callable[[], Movie | None]

    def __getattr__(self, name: str) -> Any:
        """Called for what is not set, as `movie` is at first."""
        if name != "movie":
            raise AttributeError(name)
        movie = self._read()
        object.__setattr__(self, "movie", movie)
        return movie


def match_of(row: Any, read: Callable[[], Movie | None]) -> Match:
    """That of a film's row. Its candidates are not stored: they are computed from kept searches if needed."""
    if row.status == "pending":
        return PENDING
    match = StoredMatch(row.status, row.reason, None, None, row.by_hand)
    if row.movie:
        object.__setattr__(match, "_read", read)
        object.__delattr__(match, "movie")
    return match
