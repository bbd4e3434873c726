"""How the list of known films, known_films.tsv.gz, is written."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import main


def packed(films: Iterable[tuple[str, int, int]]) -> bytes:
    """The list of these films, each `(title, year, TMDB's id)`: the same bytes for the same films."""
    lines = sorted(
        {f"{main.normalize_title(title)}\t{year}\t{tmdb_id}\n".encode() for title, year, tmdb_id in films}
    )
    return gzip.compress(b"".join(lines), mtime=0)
