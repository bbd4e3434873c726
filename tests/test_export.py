from __future__ import annotations

import csv
import io
import zipfile
from datetime import date

import pytest

import main
from tests.conftest import HEADERS, SAMPLE, SHARED, export, files

DUNE = "2024-01-02,Dune,2021,https://boxd.it/fA7G"


def zipped(*members: tuple[str, bytes]) -> tuple[str, bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members:
            archive.writestr(path, data)
    return "letterboxd-me.zip", packed.getvalue()


def table(header: str, *rows: str, name: str = "ratings.csv") -> main.Export:
    return main.parse_export([(name, "\r\n".join((header, *rows)).encode())])


def titles(read: main.Export) -> list[str]:
    return [film.title for film in read.films]


# --- The archive


def test_sample_export_accounts_for_every_row() -> None:
    read = main.parse_export([(SAMPLE.name, SAMPLE.read_bytes())])

    with zipfile.ZipFile(SAMPLE) as archive:
        rows = {
            name: list(csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8", newline="")))
            for name in read.rows
        }
    assert {name: count for name, count in read.rows.items() if "lists/" not in name} == {
        name: len(lines) for name, lines in rows.items() if "lists/" not in name
    }
    assert read.warnings == []
    assert sum(film.watched for film in read.films) == len(rows["watched.csv"])
    assert sum(film.rating is not None for film in read.films) == len(rows["ratings.csv"])
    assert sum(len(film.viewings) for film in read.films) == len(rows["diary.csv"])
    assert sum(film.liked for film in read.films) == len(rows["likes/films.csv"])
    assert sum(film.watchlist for film in read.films) == len(rows["watchlist.csv"])


@pytest.mark.skipif(not SHARED.exists(), reason="the real export is not here")
def test_real_export_accounts_for_every_row() -> None:
    sample = next(SHARED.glob("letterboxd-sample-*.zip"))

    read = main.parse_export([(sample.name, sample.read_bytes())])

    assert read.warnings == []
    assert sum(film.watched for film in read.films) == 1656
    assert sum(film.rating is not None for film in read.films) == 1073
    assert sum(len(film.viewings) for film in read.films) == 651
    assert sum(film.watchlist for film in read.films) == 531
    assert sum(film.liked for film in read.films) == 320


def test_zip_files_are_identified_by_full_path() -> None:
    deleted = files(diary="2024-01-02,Cats,2019,https://boxd.it/3nNzH,0.5,,,2024-01-02")[0][1]
    watched = files(watched=DUNE)[0][1]
    list_file = b"Letterboxd list export v7\r\nDate,Name\r\n2024-01-01,Heists"

    read = main.parse_export(
        [
            zipped(
                ("deleted/diary.csv", deleted),
                ("orphaned/diary.csv", deleted),
                ("lists/watched.csv", list_file),
                ("likes/reviews.csv", b"Date,Content\r\n2024-01-01,https://boxd.it/x"),
                ("profile.csv", b"Date Joined,Username\r\n2022-01-20,me"),
                ("likes/films.csv", watched),
                ("watched.csv", watched),
            )
        ]
    )

    assert titles(read) == ["Dune"]
    assert read.films[0].liked
    assert read.films[0].watched
    assert read.warnings == []


@pytest.mark.parametrize("wrapper", ["letterboxd-me/", "a/b/", "letterboxd-me\\"])
def test_rezip_may_add_wrapper_folders(wrapper: str) -> None:
    watched = files(watched=DUNE)[0][1]

    read = main.parse_export(
        [
            zipped(
                (f"{wrapper}deleted/diary.csv", b"Date,Name\r\n2024-01-01,Cats"),
                (f"{wrapper}watched.csv", watched),
                (f"{wrapper}.DS_Store", b"\0\1"),
                ("__MACOSX/._watched.csv", b"\0\1"),
            )
        ]
    )

    assert titles(read) == ["Dune"]
    assert list(read.rows) == ["watched.csv"]
    assert read.warnings == []


def test_zip_beside_its_own_csvs_changes_nothing() -> None:
    with zipfile.ZipFile(SAMPLE) as archive:
        loose = [
            (name.rpartition("/")[2], archive.read(name))
            for name in ("diary.csv", "reviews.csv", "likes/films.csv")
        ]
    alone = main.parse_export([(SAMPLE.name, SAMPLE.read_bytes())])

    both = main.parse_export([*loose, (SAMPLE.name, SAMPLE.read_bytes()), (SAMPLE.name, SAMPLE.read_bytes())])

    assert both.films == alone.films


def test_two_exports_in_one_zip_are_a_warning() -> None:
    watched = files(watched=DUNE)[0][1]

    read = main.parse_export([zipped(("a/watched.csv", watched), ("b/watched.csv", watched))])

    assert titles(read) == ["Dune"]
    assert read.warnings == ["letterboxd-me.zip: contains 2 files named watched.csv; all were read"]


def test_damaged_zip_is_a_warning_and_other_files_are_read() -> None:
    read = main.parse_export([("broken.zip", SAMPLE.read_bytes()[:3000]), *files(watched=DUNE)])

    assert titles(read) == ["Dune"]
    assert read.warnings == ["broken.zip: the ZIP is incomplete; download or upload it again"]


# --- Loose files


@pytest.mark.parametrize(
    ("name", "watched", "liked", "watchlist"),
    [
        ("watched (1).csv", True, False, False),
        ("whatever.csv", True, False, False),
        ("films.csv", False, True, False),
        ("liked_films.csv", False, True, False),
        ("likes.csv", False, True, False),
        ("my-watchlist.csv", False, False, True),
    ],
)
def test_file_name_decides_if_the_header_is_ambiguous(
    name: str, watched: bool, liked: bool, watchlist: bool
) -> None:
    film = table(HEADERS["watched"], DUNE, name=name).films[0]

    assert (film.watched, film.liked, film.watchlist) == (watched, liked, watchlist)


def test_header_decides_whatever_the_file_name() -> None:
    row = "2024-01-03,Dune,2021,https://boxd.it/3nNzH,4.5,Yes,cinema,2024-01-02"

    film = table(HEADERS["diary"], row, name="letterboxd-export.csv").films[0]

    assert film.viewings[0].watched_date == date(2024, 1, 2)
    assert film.film_uri == ""


def test_unusable_upload_says_why_file_by_file() -> None:
    given = [
        ("notes.txt", b"hello"),
        ("nothing.csv", b""),
        ("nul.csv", b"\0\0\0"),
        ("watched.csv", HEADERS["watched"].encode()),
        ("list.csv", b"Letterboxd list export v7\r\n"),
        zipped(("profile.csv", b"Date Joined,Username\r\n")),
    ]

    with pytest.raises(main.UnusableUpload) as refused:
        main.parse_export(given)

    assert all(name in str(refused.value) for name, _ in given)


def test_upload_of_other_files_says_what_was_in_it() -> None:
    for name in ("profile.csv", "likes/lists.csv", "letterboxd-me/deleted/diary.csv"):
        with pytest.raises(main.UnusableUpload, match=f"it has only {name}"):
            main.parse_export([(name, HEADERS["watched"].encode())])


def test_refusal_tells_the_first_problems_and_how_many_more() -> None:
    rows = "Date,Name,Year\r\n" + "2024-01-02,,x\r\n" * 11_000

    with pytest.raises(main.UnusableUpload, match="more warnings not shown") as refused:
        main.parse_export([("watched.csv", rows.encode())])

    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("name", "read_as"),
    [
        ("films.csv", "likes"),
        ("2024.csv", "watched"),
        ("watch-list.csv", "watchlist"),
        ("seen.csv", "watched"),
    ],
)
def test_file_whose_kind_is_not_plain_says_how_it_was_read(name: str, read_as: str) -> None:
    read = main.parse_export([(name, b"Name,Year\r\nDune,2021")])

    assert (read.films[0].watched, read.films[0].liked) == (read_as == "watched", read_as == "likes")
    assert f"it was read as {read_as}" in read.warnings[0]
    for plain in ("watched.csv", "watched (1).csv", "my-likes.csv", "letterboxd-watchlist.csv"):
        assert main.parse_export([(plain, b"Name,Year\r\nDune,2021")]).warnings == []


def test_too_many_films_are_refused() -> None:
    with pytest.raises(main.UploadTooLarge, match=r"over 1 films \(MAX_FILMS\)"):
        main.parse_export(files(watched=f"{DUNE}\n2024-01-02,Her,2013,https://boxd.it/4O24"), max_films=1)


# --- Joining


def test_diary_joins_by_name_and_year_not_by_uri() -> None:
    read = export(
        watched=DUNE,
        ratings=f"{DUNE},4.5",
        diary='2024-01-03,Dune,2021,https://boxd.it/3nNzH,4,Yes,"cinema, imax",2024-01-02',
    )

    assert len(read.films) == 1
    film = read.films[0]
    assert film.rating == 4.5
    assert film.viewings[0] == main.Viewing(
        date(2024, 1, 2), 4, True, ("cinema", "imax"), "", "https://boxd.it/3nNzH"
    )


def test_accents_and_spaces_do_not_split_a_film() -> None:
    read = export(
        watched="2024-01-02,À  propos de nous,2020,https://boxd.it/fA7G",
        diary="2024-01-02,A\u0300 propos\u00a0de nous,2020,https://boxd.it/3nNzH,4,,,2024-01-02",
    )

    assert len(read.films) == 1


def test_two_viewings_on_one_day_are_both_kept() -> None:
    rows = [f"2024-01-03,Dune,2021,https://boxd.it/{code},4,,,2024-01-02" for code in ("3nNzH", "3nPj7")]

    film = export(diary="\n".join(rows)).films[0]

    assert len(film.viewings) == 2


def test_two_viewings_on_one_day_without_uris_are_both_kept() -> None:
    header, row = "Name,Year,Watched Date", "Dune,2021,2024-01-02"
    diary = ("diary.csv", "\n".join([header, row, row]).encode())

    once, twice = main.parse_export([diary]), main.parse_export([diary, ("diary (1).csv", diary[1])])

    assert len(once.films[0].viewings) == 2
    assert once.films == twice.films


def test_review_merges_with_its_diary_row() -> None:
    row = "2024-01-03,Dune,2021,https://boxd.it/3nNzH,4,"

    film = export(diary=f"{row},,2024-01-02", reviews=f'{row},"Two lines,\n\n""quoted""",,2024-01-02').films[
        0
    ]

    assert len(film.viewings) == 1
    assert film.viewings[0].review.split("\n")[-1] == '"quoted"'


def test_undated_review_is_not_a_viewing() -> None:
    film = export(reviews="2024-01-03,Dune,2021,https://boxd.it/3nNzH,4,,Fine.,,").films[0]

    assert film.viewings == []
    assert film.undated_reviews[0].review == "Fine."


RAINS = "2024-01-01,Rain,2019,https://boxd.it/fA7G\n2024-02-02,rain,2019,https://boxd.it/4O24"
IN_DIARY = "{},{},2019,https://boxd.it/{},,,{},{}"


def viewings_of(read: main.Export) -> list[tuple[str, list[tuple[str, ...]]]]:
    return [(film.film_uri[-4:], [viewing.tags for viewing in film.viewings]) for film in read.films]


def test_namesakes_are_told_apart_by_their_spelling() -> None:
    rows = [
        IN_DIARY.format("2024-03-03", "rain", "xPZrr", "small", "2024-03-03"),
        IN_DIARY.format("2024-03-04", "Rain", "xQ22J", "large", "2024-03-04"),
    ]

    read = export(watched=RAINS, diary="\n".join(rows))

    assert dict(viewings_of(read)) == {"fA7G": [("large",)], "4O24": [("small",)]}
    assert read.warnings == []


def test_namesakes_are_told_apart_by_the_day_they_were_added() -> None:
    rows = [
        IN_DIARY.format("2024-02-02", "Rain", "xPZrr", "second", "2024-01-30"),
        IN_DIARY.format("2024-01-01", "Rain", "xQ22J", "first", "2023-12-30"),
    ]

    read = export(watched=RAINS.replace("rain", "Rain"), diary="\n".join(rows))

    assert dict(viewings_of(read)) == {"fA7G": [("first",)], "4O24": [("second",)]}
    assert "2 films are called 'Rain' (2019); https://boxd.it/4O24 was used" in read.warnings[0]


def test_namesakes_that_nothing_tells_apart_get_a_row_each() -> None:
    rows = [IN_DIARY.format("2024-05-05", "Rain", code, code, "2024-05-05") for code in ("xPZrr", "xQ22J")]

    read = export(watched=RAINS.replace("rain", "Rain"), diary="\n".join(rows))

    assert [len(tags) for _, tags in viewings_of(read)] == [1, 1]
    assert len(read.warnings) == 2


def test_namesakes_are_told_apart_by_their_ratings_without_a_warning() -> None:
    ratings = RAINS.replace("rain", "Rain").replace("fA7G", "fA7G,2").replace("4O24", "4O24,4.5")
    row = IN_DIARY.format("2024-05-05", "Rain", "xPZrr", "loved", "2024-05-05").replace(",,,", ",4.5,,")

    read = export(ratings=ratings, diary=row)

    assert dict(viewings_of(read)) == {"fA7G": [], "4O24": [("loved",)]}
    assert read.warnings == []


def test_files_of_a_folder_follow_the_rules_of_a_zip() -> None:
    line = "2024-01-02,Inception,2010,https://boxd.it/1skk"
    given = files(watched=line, diary=f"{line},,,,2024-01-02", likes=line)
    watched, diary, likes = (content for _, content in given)

    read = main.parse_export(
        [
            ("data/watched.csv", watched),
            ("data/deleted/diary.csv", diary),
            ("data/likes/films.csv", likes),
            ("data/likes/lists.csv", b"Date,Name\r\n2024-01-02,Some list"),
            ("profile.csv", b"Date Joined,Username\r\n2020-01-01,me"),
        ]
    )

    assert [(film.liked, film.viewings) for film in read.films] == [(True, [])]
    assert read.warnings == []


def test_namesakes_with_different_uris_are_two_films() -> None:
    read = export(
        watched="2024-01-02,Cinderella,1922,https://boxd.it/fA7G\n2024-01-02,Cinderella,1922,https://boxd.it/4O24",
        diary="2024-01-02,Cinderella,1922,https://boxd.it/3nNzH,,,,2024-01-02",
    )

    assert len(read.films) == 2
    assert sum(len(film.viewings) for film in read.films) == 1
    assert "2 films are called 'Cinderella' (1922)" in read.warnings[0]


def test_film_needs_no_uri_or_year() -> None:
    read = export(watched="2020-01-01,Removed,,", ratings="2020-01-01,Removed,,,3.5")

    assert [(film.title, film.year, film.rating) for film in read.films] == [("Removed", None, 3.5)]


def test_long_uris_identify_film_and_entry() -> None:
    read = export(
        watched="2019-01-01,Her,2013,https://letterboxd.com/film/her/",
        diary="2019-01-01,Her (renamed),2013,https://letterboxd.com/me/film/her/1/,4,,,2019-01-01",
    )

    assert [len(film.viewings) for film in read.films] == [1]


def test_short_uri_contains_letterboxds_number() -> None:
    assert main.parse_short_uri("https://boxd.it/2a1m") == (51518, True)
    assert main.parse_short_uri("https://boxd.it/hTha") == (426406, True)
    assert main.parse_short_uri("https://letterboxd.com/film/her/") is None


def test_diary_rating_counts_only_without_ratings_csv() -> None:
    diary = "2024-01-03,Dune,2021,https://boxd.it/3nNzH,2.5,,,2024-01-02"

    assert export(diary=diary).films[0].rating == 2.5
    assert export(diary=diary, ratings="2024-01-01,Her,2013,https://boxd.it/4O24,3").films[0].rating is None


def test_order_is_latest_viewing_then_liked_then_watchlist() -> None:
    read = export(
        watchlist="2024-01-01,W,2000,https://boxd.it/29TM",
        likes="2024-01-01,L,2000,https://boxd.it/294O",
        watched="2024-01-01,Old mark,2000,https://boxd.it/2a1m\n2024-02-01,New mark,2000,https://boxd.it/hTha\n"
        + DUNE,
        diary="2024-01-03,Dune,2021,https://boxd.it/3nNzH,4,,,2001-01-02",
    )

    assert titles(read) == ["Dune", "New mark", "Old mark", "L", "W"]


# --- Values


@pytest.mark.parametrize(
    "written", ["0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5", "4.0", "4,5"]
)
def test_half_stars_survive(written: str) -> None:
    film = table(
        HEADERS["ratings"].replace(",", ";"), f"2024-01-02;Dune;2021;https://boxd.it/fA7G;{written}"
    ).films[0]

    assert film.rating == float(written.replace(",", "."))


@pytest.mark.parametrize("written", ["", "0", '"0,00"', "NA"])
def test_blank_rating_is_not_a_warning(written: str) -> None:
    read = table(HEADERS["ratings"], f"{DUNE},{written}")

    assert read.films[0].rating is None
    assert read.warnings == []


@pytest.mark.parametrize("written", ["6", "-1", "4.3", "nan", "９", "1e9", "9" * 300])
def test_invalid_rating_is_a_warning_and_the_film_is_kept(written: str) -> None:
    read = table(HEADERS["ratings"], f"{DUNE},{written}")

    assert titles(read) == ["Dune"]
    assert read.films[0].rating is None
    if written != "nan":
        expected = f"ratings.csv, line 2: rating '{written[:40]}' must be between 0.5 and 5 in steps of 0.5"
        assert read.warnings == [expected]


@pytest.mark.parametrize(
    "title",
    [
        "300",
        "#Alive",
        "@ in the mood for love",
        "Steins;Gate",
        "tick, tick... BOOM!",
        'Peep "TV" Show',
        "V/H/S",
        "if....",
        "★",
        "=1+1",
        "None",
        "x" * 151,
        "Star Wars: Episode III –\u00a0Revenge of the Sith",
        "Apollo 10½:  A Space Age Childhood",
    ],
)
def test_titles_are_kept_exactly(title: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow(["2024-01-02", title, "2021", "https://boxd.it/fA7G"])

    assert titles(table(HEADERS["watched"], out.getvalue(), name="watched.csv")) == [title]


def test_excels_line_about_the_separator_is_skipped() -> None:
    read = main.parse_export([("watched.csv", b"sep=;\r\nName;Year\r\nDune;2021\r\n")])

    assert [(film.title, film.year) for film in read.films] == [("Dune", 2021)]
    assert read.warnings == []


@pytest.mark.parametrize(
    ("encoding", "warns"),
    [
        ("utf-8", False),
        ("utf-8-sig", False),
        ("utf-16", False),
        ("utf-32", False),
        ("cp1252", True),
        ("mac_roman", True),
    ],
)
def test_encodings_of_resaved_files_are_read(encoding: str, warns: bool) -> None:
    text = f"{HEADERS['watched']}\r\n2024-01-02,Amélie à l’été,2001,https://boxd.it/2aUc\r\n"

    read = main.parse_export([("watched.csv", text.encode(encoding))])

    assert titles(read) == ["Amélie à l’été"]
    assert bool(read.warnings) == warns


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_delimiters_and_line_endings_of_resaved_files_are_read(delimiter: str, line_end: str) -> None:
    text = line_end.join([HEADERS["ratings"], f"{DUNE},4.5"]).replace(",", delimiter)

    read = main.parse_export([("ratings.csv", text.encode())])

    assert (read.films[0].title, read.films[0].rating) == ("Dune", 4.5)


@pytest.mark.parametrize("header", [",Title,Letterboxd.URI,Year", "x,Film,letterboxd_uri,year"])
def test_columns_are_found_by_name(header: str) -> None:
    film = table(header, "7,Dune,https://boxd.it/fA7G,2012.0", name="watched.csv").films[0]

    assert (film.title, film.year) == ("Dune", 2012)
    assert film.film_uri == "https://boxd.it/fA7G"


@pytest.mark.parametrize(
    ("other", "expected"), [("25/12/2023", date(2024, 4, 3)), ("12/25/2023", date(2024, 3, 4))]
)
def test_one_unambiguous_date_decides_day_or_month_first(other: str, expected: date) -> None:
    rows = [f"03/04/2024,Dune,2021,,4,,,{day}" for day in ("03/04/2024", other)]

    film = table(HEADERS["diary"], *rows, name="diary.csv").films[0]

    assert expected in [viewing.watched_date for viewing in film.viewings]


def test_ambiguous_date_is_dropped_and_the_viewing_kept() -> None:
    read = table(HEADERS["diary"], "2024-01-01,Dune,2021,,4,,,03/04/2024", name="diary.csv")

    assert [viewing.watched_date for viewing in read.films[0].viewings] == [None]
    assert "line 2: watched date '03/04/2024' must be written like 2024-12-31" in read.warnings[0]


def test_diary_may_lack_the_rewatch_column() -> None:
    header = HEADERS["diary"].replace("Rewatch,", "")

    film = table(
        header, "2017-01-02,Her,2013,https://boxd.it/3nNzH,4.5,tv,2017-01-01", name="diary.csv"
    ).films[0]

    assert film.viewings[0].tags == ("tv",)
    assert film.viewings[0].watched_date == date(2017, 1, 1)


def test_unreadable_rows_are_reported_with_file_line_and_reason() -> None:
    read = table(
        HEADERS["watched"],
        "<<<<<<< HEAD",
        DUNE,
        "2024-01-02,,2021,https://boxd.it/29TM",
        "2024-13-02,Her,20133,https://boxd.it/4O24",
        "2024-01-02,one,too,2021,https://boxd.it/29TM",
        name="watched.csv",
    )

    assert titles(read) == ["Dune", "Her"]
    lines = {warning.partition(":")[0] for warning in read.warnings}
    assert lines == {f"watched.csv, line {line}" for line in (2, 4, 5, 6)}
    assert read.rows == {"watched.csv": 2}


def test_warnings_after_fifty_are_counted() -> None:
    read = table(HEADERS["ratings"], *[f"2024-01-02,Film {n},2021,,9" for n in range(60)])

    assert len(read.warnings) == 51
    assert read.warnings[-1] == "ratings.csv: 10 more warnings not shown"


# --- Letterboxd's import format


def test_import_format_has_ids_viewings_and_ratings() -> None:
    header = "LetterboxdURI,tmdbID,imdbID,Title,Year,Directors,Rating10,WatchedDate,Rewatch,Tags,Review"
    row = "https://boxd.it/1skk,27205,tt1375666,Inception,2010,Nolan,9,2024-01-02 20:15:00,true,cinema,Good"

    film = table(header, row, name="import.csv").films[0]

    assert (film.tmdb_ref, film.imdb_id, film.rating, film.watched) == (
        ("movie", 27205),
        "tt1375666",
        4.5,
        True,
    )
    assert film.viewings[0].watched_date == date(2024, 1, 2)


def test_import_ratings_over_five_are_out_of_ten() -> None:
    read = table("tmdbID,Title,Rating", "27205,Inception,9", "1,Other,5", name="import.csv")

    assert [film.rating for film in read.films] == [4.5, 2.5]
    assert "out of 10" in read.warnings[0]


def test_import_needs_no_title() -> None:
    assert table("tmdbID,Rating", "27205,4", name="import.csv").films[0].tmdb_ref == ("movie", 27205)
