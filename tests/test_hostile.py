"""Uploads that are broken, or meant to break something: a sentence each, and little time and memory."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import itertools
import logging
import random
import re
import struct
import tracemalloc
import unicodedata
import warnings
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import main
from tests.conftest import HEADERS, SAMPLE, SHARED, Api, Serve, files

WATCHED = files(watched="2024-01-02,Dune,2021,https://boxd.it/hTha")[0][1]


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def patched(archive: bytes, offset: int, form: str, value: int) -> bytes:
    """With a number of the first entry of the directory at the end replaced."""
    changed = bytearray(archive)
    struct.pack_into(form, changed, archive.index(b"PK\1\2") + offset, value)
    return bytes(changed)


def overlapping() -> bytes:
    """A thousand entries of the directory lead to one member, which unpacks a thousand times then."""
    one = packed(("0.csv", bytes(1_000_000)))
    directory = one.index(b"PK\1\2")
    entry, end = one[directory : one.index(b"PK\5\6")], one[one.index(b"PK\5\6") :]
    entries = b"".join(entry.replace(b"0.csv", f"{n:05}".encode()) for n in range(1_000))
    counted = struct.pack("<HHL", 1_000, 1_000, len(entries))
    return one[:directory] + entries + end[:8] + counted + end[16:]


def lying_small() -> bytes:
    return patched(packed(("watched.csv", WATCHED)), 24, "<L", 40)


def lying_checksum() -> bytes:
    return patched(packed(("watched.csv", WATCHED)), 16, "<L", 1)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "zeros": (lambda: packed(("watched.csv", bytes(100_000_000))), "unpacks to over 40,000,000 bytes"),
    "bzip2": (
        lambda: packed(("watched.csv", bytes(50_000_000)), method=zipfile.ZIP_BZIP2),
        "watched.csv uses an unsupported compression method",
    ),
    "LZMA": (
        lambda: packed(("watched.csv", bytes(50_000_000)), method=zipfile.ZIP_LZMA),
        "watched.csv uses an unsupported compression method",
    ),
    "many files": (lambda: packed(*((f"{n}.csv", b"") for n in range(60_000))), "over 2,000 files"),
    "encrypted": (
        lambda: patched(packed(("watched.csv", WATCHED)), 8, "<H", 1),
        "watched.csv is encrypted; re-create the ZIP without a password",
    ),
    "duplicate": (
        lambda: packed(("watched.csv", WATCHED), ("watched.csv", WATCHED)),
        "contains 2 files named watched.csv",
    ),
    "overlapping": (overlapping, "files in the ZIP overlap"),
    "truncated": (lambda: SAMPLE.read_bytes()[:-40], "the ZIP is incomplete; download or upload it again"),
    "broken": (lambda: SAMPLE.read_bytes().replace(b"PK\1\2", b"PK\1\3"), "the ZIP is damaged"),
    "lying of its size": (lying_small, "watched.csv is damaged or not what the ZIP declares"),
    "lying of its checksum": (lying_checksum, "watched.csv is damaged or not what the ZIP declares"),
    "nested": (
        lambda: packed(("letterboxd-me.zip", SAMPLE.read_bytes())),
        "letterboxd-me.zip: is a ZIP inside the ZIP; upload it by itself",
    ),
    "only others": (
        lambda: packed(*((f"deleted/{n}.csv", b"Date,Content") for n in range(8))),
        "nothing that lists films, only deleted/0.csv, .*deleted/5.csv, 2 more",
    ),
    "empty": (packed, "is an empty ZIP"),
}  # fmt: skip


LARGE = {"zeros", "bzip2", "LZMA", "many files", "overlapping"}


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        pytest.param(*each, id=name, marks=pytest.mark.long if name in LARGE else ())
        for name, each in ARCHIVES.items()
    ],
)
def test_archive_is_refused_with_its_own_message_in_little_memory(
    archive: Callable[[], bytes], said: str
) -> None:
    data = archive()
    tracemalloc.start()
    try:
        with pytest.raises((main.UnusableUpload, main.UploadTooLarge), match=said):
            main.parse_export([("export.zip", data)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 60_000_000


@pytest.mark.long
def test_archive_with_too_many_unpacked_bytes_is_refused() -> None:
    line = "2024-01-02,Dune {},2021,\r\n"
    rows = "".join(line.format(random.Random(n).random()) for n in range(40_000)).encode()
    archive = packed(*((f"films{n}.csv", rows) for n in range(30)))
    tracemalloc.start()

    with pytest.raises(main.UploadTooLarge, match="unpacks to over 40,000,000 bytes"):
        main.parse_export([("export.zip", archive)])

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60_000_000


def test_repacked_archives_are_read() -> None:
    members = [
        ("letterboxd-me/", b""), ("letterboxd-me/watched.csv", WATCHED), ("letterboxd-me/.DS_Store", b"\0"),
        ("__MACOSX/letterboxd-me/._watched.csv", b"\0\5"),
        ("letterboxd-me/deleted/x.csv", b"Position,Name"), ("letterboxd-me/deleted/x.csv", b"twice"),
    ]  # fmt: skip

    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        assert [
            film.title for film in main.parse_export([("my.zip", packed(*members, method=method))]).films
        ] == ["Dune"]


def outcome(*uploaded: tuple[str, bytes]) -> str:
    """What would be the status of the upload; any other exception is a 500."""
    try:
        return f"201 {len(main.parse_export(uploaded).films)}"
    except (main.UnusableUpload, main.UploadTooLarge) as error:
        assert 0 < len(str(error)) < 20_000
        return str(error.status)


def flip_bytes(data: bytes, flips: int) -> set[str]:
    statuses = set()
    chance = random.Random(5)
    for _ in range(flips):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] = chance.randrange(256)
        statuses.add(outcome(("export.zip", bytes(changed)))[:3])
    return statuses


def test_flipped_byte_is_a_201_or_400() -> None:
    assert flip_bytes(SAMPLE.read_bytes(), 50) == {"201", "400"}


@pytest.mark.long
@pytest.mark.skipif(not SHARED.exists(), reason="the real export is not here")
def test_twenty_thousand_flipped_bytes_of_a_real_export_are_201_or_400() -> None:
    real = next(SHARED.glob("letterboxd-sample-*.zip")).read_bytes()

    assert flip_bytes(real, 20_000) == {"201", "400"}


# --- CSVs


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=3_000), st.sampled_from([*HEADERS, "x"]), st.booleans())
def test_random_bytes_are_a_201_or_400(content: bytes, name: str, headed: bool) -> None:
    header = HEADERS.get(name, "tmdbID,Title").encode() + b"\r\n" if headed else b""

    assert outcome((f"{name}.csv", header + content))[:3] in ("201", "400")


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeffÃâ\ufffd"), max_size=80
).map(str.strip)
LINES = st.lists(TEXT, max_size=4).map(lambda lines: "\n".join(lines).strip())
DAYS = st.dates(date(1401, 1, 5), date(2031, 1, 1))
STARS = st.sampled_from([n / 2 for n in range(1, 11)])
TAGS = st.lists(
    TEXT.map(lambda text: text.replace(",", "").strip()).filter(
        lambda tag: tag.casefold() not in main.NOT_GIVEN
    ),
    max_size=3,
)
VIEWINGS = st.builds(
    main.Viewing,
    watched_date=DAYS,
    rating=st.none() | STARS,
    rewatch=st.booleans(),
    tags=TAGS.map(tuple),
    review=LINES.filter(lambda text: text.casefold() not in main.NOT_GIVEN) | st.just(""),
)
FILMS = st.builds(
    main.Film,
    title=TEXT.map(lambda title: unicodedata.normalize("NFC", title).strip()).filter(bool),
    year=st.none() | st.integers(1874, 2031),
    rating=st.none() | STARS,
    liked=st.booleans(),
    watchlist=st.booleans(),
    viewings=st.lists(VIEWINGS, max_size=3),
)
EXPORTS = st.lists(
    FILMS, min_size=1, max_size=8, unique_by=lambda film: (main.normalize_title(film.title), film.year)
)


def uri(number: int) -> str:
    digits, text = {value: digit for digit, value in main.BASE62.items()}, ""
    while number:
        number, digit = divmod(number, 62)
        text = digits[digit] + text
    return f"https://boxd.it/{text}"


def stars(rating: float | None) -> str:
    return f"{rating:g}" if rating else ""


def written(films: list[main.Film]) -> bytes:
    """The ZIP in which Letterboxd would export these films, all of them watched."""
    tables: dict[str, list[list[object]]] = {name: [] for name in HEADERS}
    for number, film in enumerate(films, 1):
        named: list[object] = ["2024-05-06", film.title, film.year]
        row = [*named, uri(number * 10)]
        tables["watched"].append(row)
        tables["ratings"] += [[*row, stars(film.rating)]] if film.rating else []
        tables["likes/films"] += [row] if film.liked else []
        tables["watchlist"] += [row] if film.watchlist else []
        for n, viewing in enumerate(film.viewings):
            entry = [*named, uri((number * 100 + n) * 10 + 1), stars(viewing.rating)]
            again, tags, day = "Yes" if viewing.rewatch else "", ", ".join(viewing.tags), viewing.watched_date
            tables["diary"].append([*entry, again, tags, day])
            tables["reviews"] += [[*entry, again, viewing.review, tags, day]] if viewing.review else []
    return packed(*((f"{name}.csv", csv_of(HEADERS[name], rows)) for name, rows in tables.items()))


def csv_of(header: str, rows: list[list[object]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([header.split(","), *rows])
    return out.getvalue().encode()


def logged(film: main.Film) -> Any:
    viewings = sorted(
        (v.watched_date, v.rating or 0, v.rewatch, v.tags, v.review) for v in film.viewings if v.watched_date
    )
    return film.title, film.year or 0, film.rating or 0, film.liked, film.watchlist, viewings


def comes_back_equal(films: list[main.Film]) -> None:
    read = main.parse_export([("letterboxd-me.zip", written(films))])

    assert read.warnings == []
    assert sorted(map(logged, read.films)) == sorted(map(logged, films))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(EXPORTS)
def test_valid_exports_survive_a_round_trip(films: list[main.Film]) -> None:
    comes_back_equal(films)


@pytest.mark.long
@settings(max_examples=1_500, deadline=None, suppress_health_check=list(HealthCheck))
@given(EXPORTS)
def test_1500_valid_exports_survive_a_round_trip(films: list[main.Film]) -> None:
    comes_back_equal(films)


BIG = {
    "field of a megabyte": b"Name,Year\r\nDune,2021\r\n" + b"x" * 1_100_000 + b",2001\r\n",
    "review of a megabyte": b'Name,Year,Review\r\nDune,2021,"' + b"y" * 999_999 + b'"\r\n',
    "a million cells": b"Name,Year\r\nDune,2021\r\nx" + b"," * 1_000_000 + b"\r\n",
    "a million tags": b"Name,Year,Tags\r\nDune,2021," + b'"' + b"t," * 450_000 + b'"\r\n',
    "NUL bytes": b"Na\0me,Year\r\nDu\0ne,20\x0021\r\n\0\0\0\r\n",
    "lone surrogates": b"Name,Year\r\nDune,2021\r\n" + b"\xed\xa0\x80,2001\r\n",
    "UTF-16 with half a pair": "\ufeffName,Year\nDune,2021\n".encode("utf-16-le") + b"\x00\xd8,\x00",
    "not a number": b"Name,Year,Rating\r\nDune,nan,nan\r\nAlien,inf,1e999\r\n",
    "huge numbers": b"Name,Year,Rating,tmdbID\r\nDune" + (b"," + b"9" * 5_000) * 3,
    "full-width digits": "Name,Year,Rating\r\nDune,２０２１,４\r\n".encode(),
    "git's conflict markers": b"Name,Year\r\n<<<<<<< HEAD\r\nDune,2021\r\n=======\r\n>>>>>>> main\r\n",
    "a quote that does not end": b'Name,Year\r\n"Dune,2021\r\nAlien,1979\r\n',
    "a title of a megabyte": b"Name,Year\r\nDune,2021\r\n" + b"T" * 999_999 + b",1999\r\n",
    "blank lines": b"Name,Year\r\n" + b"\r\n" * 30_000 + b"Dune,2021",
    "line ends of old": b"Name,Year\r" + b"A;B;C;D,2021\r" * 50,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("content", BIG.values(), ids=BIG.keys())
def test_impossible_exports_are_reported_cheaply(content: bytes) -> None:
    tracemalloc.start()
    status = outcome(("films.csv", content))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert status[:3] in ("201", "400")
    assert most < 100_000_000


def test_one_bad_row_does_not_lose_the_rest_of_the_file() -> None:
    for name in ("field of a megabyte", "lone surrogates", "a title of a megabyte"):
        read = main.parse_export([("watched.csv", BIG[name])])
        assert read.films[0].title == "Dune" or read.films[1].title == "Dune", name
        assert read.warnings, name


def films_of(name: str, count: int) -> list[tuple[str, bytes]]:
    return [(f"{n}{name}", b"Name,Year\r\nDune,2021\r\nAlien,1979\r\n") for n in range(count)]


@pytest.mark.parametrize("count", [1, 4])
def test_rows_have_a_limit_across_files(count: int) -> None:
    """The header and the end count, too."""
    read = main.parse_export(films_of(".csv", count), limits=main.Limits(rows=4 * count))

    assert len(read.films) == 2
    too_few = main.Limits(rows=4 * count - 1)
    with pytest.raises(main.UploadTooLarge, match="rows"):
        main.parse_export([("a.zip", packed(*films_of(".csv", count)))], limits=too_few)


def test_reading_an_upload_has_a_time_limit() -> None:
    ticks = itertools.count()

    with pytest.raises(main.UploadTooLarge, match="takes over 3 s to read"):
        main.parse_export(films_of(".csv", 1), limits=main.Limits(clock=lambda: next(ticks)))


def test_unpacked_bytes_have_a_limit_across_archives() -> None:
    archives = [(f"{n}.zip", packed(*films_of("watched.csv", 1))) for n in range(3)]
    used = 3 * len(films_of("", 1)[0][1])

    read = main.parse_export(archives, limits=main.Limits(unpacked_bytes=used))

    assert len(read.films) == 2
    with pytest.raises(main.UploadTooLarge, match="unpacks to over"):
        main.parse_export(archives, limits=main.Limits(unpacked_bytes=used - 1))


@pytest.mark.long
def test_many_namesakes_or_viewings_cost_no_more_than_any_upload() -> None:
    """Each is compared with each other."""
    films = "\r\n".join(f"Dune,2021,{uri((n + 1) * 10)}" for n in range(50_000))
    days = "\r\n".join(["Dune,2021,2024-01-02"] * 50_000)
    limits = main.Limits(seconds=0.3)

    with pytest.raises(main.UploadTooLarge):
        main.parse_export([("watched.csv", f"Name,Year,Letterboxd URI\r\n{films}".encode())], limits=limits)
    with pytest.raises(main.UploadTooLarge):
        main.parse_export([("diary.csv", f"Name,Year,Watched Date\r\n{days}".encode())], limits=limits)


def test_warnings_have_a_limit_across_files() -> None:
    bad = b"Name,Year\r\nDune,2021\r\n" + b"Alien,x\r\n" * 40
    read = main.parse_export([(f"watched ({n}).csv", bad) for n in range(20)])

    assert len(read.warnings) == main.MAX_WARNINGS + 1
    assert read.warnings[-1] == "600 more warnings not shown"


ACCENTS = "\u0301\u0323"  # of which a long pile takes quadratic time to normalize


def test_title_of_stacked_accents_is_skipped() -> None:
    rows = f"{ACCENTS * 247_000},2001\r\nDune,2021\r\nAme\u0301lie,2001\r\n"

    read = main.parse_export([("watched.csv", f"Name,Year\r\n{rows}".encode())])

    assert [film.title for film in read.films] == ["Dune", "Amélie"]
    assert read.warnings[0].startswith("watched.csv, line 2: ")


@pytest.mark.parametrize("column", ["Year", "Date", "Rating", "Tags", "Letterboxd URI", "tmdbURL", "imdbID"])
def test_overlong_cell_is_ignored(column: str) -> None:
    content = f"Name,{column}\r\nDune,{'9' * 21_000}\r\n".encode()

    read = main.parse_export([("watched.csv", content)])

    assert [film.title for film in read.films] == ["Dune"]
    assert "21,000 characters" in read.warnings[0]


def test_flipped_byte_affects_one_line() -> None:
    titles = [f"Amélie {n}" for n in range(1_000)]
    content = bytearray(csv_of("Name,Year", [[title, 2001] for title in titles]))
    content[content.index(b"Am\xc3\xa9lie 500") + 2] ^= 0x80

    read = main.parse_export([("watched.csv", bytes(content))])

    changed = [film.title for film in read.films if film.title not in titles]
    assert len(read.films) == 1_000
    assert len(changed) == 1
    assert read.warnings == ["watched.csv: is not all UTF-8; read as utf-8, so check accented letters"]


@pytest.mark.parametrize(
    "broken",
    [
        '2024-01-01,"Dune,2021,https://boxd.it/hTha,,,,2024-01-01',
        '2024-01-01,Dune,2021,https://boxd.it/hTha,,,"tag,2024-01-01',
    ],
)
def test_unclosed_quotation_mark_costs_one_line(broken: str) -> None:
    rows = [f'2024-01-02,Film {n},2001,,,,"a, b",2024-01-02' for n in range(1_000)]
    rows.insert(500, broken)

    read = main.parse_export(files(diary="\n".join(rows)))

    assert sum(len(film.viewings) for film in read.films) == 1_000
    assert read.warnings == ["diary.csv, line 502: a quotation mark is never closed; this line was skipped"]


def test_unclosed_quotation_mark_in_a_review_costs_one_line() -> None:
    rows = [f'2024-01-02,Film {n},2001,{uri(n * 10 + 11)},,,"Two\nlines",,2024-01-02' for n in range(9)]
    rows.insert(4, '2024-01-01,Dune,2021,https://boxd.it/hTha,,,"Great,,2024-01-01')
    given = [(name, content) for name, content in files(reviews="\n".join(rows))]

    read = main.parse_export(given)

    assert sorted(film.title for film in read.films) == [f"Film {n}" for n in range(9)]
    assert read.warnings == ["reviews.csv, line 10: a quotation mark is never closed; this line was skipped"]


QUADRATIC = {
    "row starts in a review": b'Name,Year,Review\r\nDune,2021,"x\n' + b"\r2024-01-01," * 80_000 + b'"\r\n',
    "quotation marks before a long cell": b"Name,Year\n" + b'a","\n' * 100_000 + b"x" * 1_050_000,
    "quotation marks on long lines": b"Name,Year\n" + (b"a" * 22_000 + b'","\n') * 800,
    "marks that decompose": ("Name,Year\n" + ("\u0f73" * 480 + ",2001\n") * 9_000).encode(),
}


@pytest.mark.long
@pytest.mark.parametrize("content", QUADRATIC.values(), ids=QUADRATIC.keys())
async def test_cost_of_an_upload_is_not_quadratic(content: bytes, api: Api) -> None:
    """Each took minutes, in which nobody else was answered."""
    async with asyncio.timeout(20):
        answer = await api.post("/api/upload", files={"files": ("reviews.csv", content)})

    assert answer.status_code in (201, 400, 413)


# --- Text stays text


async def test_user_text_stays_text_in_logs_and_responses(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    nasty = [
        "<script>alert(1)</script>",
        '=HYPERLINK("http://evil.example")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\tTab",
        "＝1+1",
        "\ufeff=1",
    ]
    nasty += [
        "Line\x85break",
        "Next\u2028line",
        "%s %n %(name)s",
        "{0.__class__}",
        "Ctrl\x1b[31mred",
        "\u202eevil",
    ]
    rows = [["2024-01-02", title, 2001, ""] for title in nasty]
    given = [
        (f"{title}.csv", csv_of(HEADERS["watched"], rows)) for title in ("<b>watched</b>", "../../watched")
    ]

    uploaded = await api.upload(*given)
    session = f"/api/session/{uploaded['session_id']}"
    await api.ended(uploaded["session_id"])
    movies = await api.movies(uploaded["session_id"])
    table = list(csv.reader(io.StringIO((await api.get(f"{session}/movies.csv")).text.lstrip("\ufeff"))))

    shown = {title.replace("\x1b", "").replace("\ufeff", "").strip() for title in nasty}
    assert {movie["title"] for movie in movies} == shown
    assert not any(cell.lstrip("\ufeff\0")[:1] in "=+-@\t\r＝" for row in table for cell in row if cell)
    assert not any(title in record.getMessage() for record in caplog.records for title in nasty)
    assert "\x1b" not in caplog.text


@pytest.mark.long
def test_ten_thousand_ids_are_unique_and_never_logged_in_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    film = main.Export([main.Film("Dune", 2021)], {}, [])
    sessions = [main.Session(film, 1, lambda: 0) for _ in range(10_000)]
    access = logging.getLogger("uvicorn.access")
    access.addFilter(short_ids := main.ShortIds())

    with caplog.at_level("DEBUG"):
        for session in sessions:
            session.begin()
            session.end("completed", None)
            path = f"/api/session/{session.session_id}/movies?limit=1"
            access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 200)
    access.removeFilter(short_ids)

    assert len({session.session_id for session in sessions}) == 10_000
    assert len(caplog.records) == 20_000
    assert not re.findall(r"[\w-]{22,}", caplog.text)
    assert all(session.short_id in caplog.text for session in sessions[:100])


def test_file_of_nul_bytes_does_not_affect_other_files() -> None:
    read = main.parse_export([("a.zip", packed(("watched.csv", WATCHED), ("ratings.csv", bytes(5_000))))])

    assert [film.title for film in read.films] == ["Dune"]
    assert read.warnings == ["ratings.csv: contains nothing but NUL bytes"]


@pytest.mark.parametrize("content", [WATCHED, b"nothing"])
async def test_file_name_cannot_break_the_response(content: bytes, api: Api) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="+2AA-' + b"n" * 3_000
    body = head + b'.csv"\r\n\r\n' + content + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=utf-7"}

    answer = await api.post("/api/upload", content=body, headers=headers)

    assert answer.status_code == (201 if content == WATCHED else 400)
    assert "n.csv" in answer.text
    assert len(answer.text) < 1_000


# --- Room


async def test_sessions_have_a_total_memory_limit(serve: Serve) -> None:
    api = await serve(max_memory_bytes=2_500_000)
    sample = (SAMPLE.name, SAMPLE.read_bytes())
    first = await api.upload(sample)
    await api.ended(first["session_id"])
    held = (await api.get("/health")).json()["memory_bytes"]

    refused = await api.post("/api/upload", files={"files": sample})
    small = await api.post("/api/upload", files={"files": ("watched.csv", WATCHED)})

    assert 159 * 10_000 < held < 159 * 11_000
    assert refused.status_code == 503
    assert 3590 <= int(refused.headers["Retry-After"]) <= 3600
    assert small.status_code == 201
    assert len(await api.movies(first["session_id"])) == 159
    await api.delete(f"/api/session/{first['session_id']}")
    assert (await api.post("/api/upload", files={"files": sample})).status_code == 201


async def test_kept_statistics_count_as_memory(api: Api) -> None:
    session = f"/api/session/{(await api.upload((SAMPLE.name, SAMPLE.read_bytes())))['session_id']}"
    await api.ended(session.rpartition("/")[2])
    before = (await api.get("/health")).json()["memory_bytes"]

    statistics = await api.get(f"{session}/stats")

    held = (await api.get("/health")).json()["memory_bytes"]
    assert held == before + len(statistics.content)


@pytest.mark.long
@pytest.mark.parametrize(
    "row", ["{n},2021,4,{tags}", "Dune {n},2021,4,", "Dune,2021,4,{tags}", "Dune 😀{n},2021,4,x"]
)
def test_memory_estimate_is_not_too_low(row: str) -> None:
    """What a parsed export takes, before TMDB's records, is at most its estimate."""
    tags = '"' + ",".join("tag{n}-" + str(k) for k in range(20)) + '"'
    rows = [row.replace("{tags}", tags).replace("{n}", str(n)) for n in range(5_000)]
    content = "Name,Year,Rating,Tags\r\n" + "\r\n".join(rows)
    given = [("diary.csv", content.replace("Tags", "Tags,Watched Date", 1).encode())]
    tracemalloc.start()

    read = main.parse_export(given, limits=main.Limits(seconds=60))  # measuring is slow
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held <= read.memory_bytes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_texts_have_no_control_characters(encoding: str) -> None:
    text = 'Name,Year,Watched Date,Tags\nDu\x1bne\x85,2021,2024-01-02,"a\x01\x9f,b\0"'

    read = main.parse_export([("diary.csv", text.encode(encoding))])

    assert read.films[0].title == "Dune"
    assert read.films[0].viewings[0].tags == ("a", "b")


def test_one_address_for_entries_of_two_films_loses_none() -> None:
    row = "{day},{title},2001,https://boxd.it/3nNzH,4,,,{day}"
    days = [row.format(day=f"2024-01-0{day}", title=title) for day, title in ((1, "A"), (2, "B"), (3, "B"))]

    read = main.parse_export(files(diary="\n".join(days)))

    assert sorted((film.title, len(film.viewings)) for film in read.films) == [("A", 1), ("B", 2)]


async def test_upload_that_can_never_fit_is_a_413(serve: Serve) -> None:
    api = await serve(max_memory_bytes=100_000)

    answer = await api.post("/api/upload", files={"files": (SAMPLE.name, SAMPLE.read_bytes())})

    assert answer.status_code == 413
    assert "MAX_MEMORY_BYTES" in answer.json()["detail"]
