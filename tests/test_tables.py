"""Files as people really have them: of other services, edited, joined, renamed, or no CSVs at all."""

from __future__ import annotations

import io
import zipfile
from datetime import date

import pytest

import main
from tests.conftest import HEADERS

DUNE = "2024-01-02,Dune,2021,https://boxd.it/fA7G"
Given = tuple[str, str]  # name and text


def read(*given: Given) -> main.Export:
    return main.parse_export([(name, text.encode()) for name, text in given])


def rated(export: main.Export) -> dict[str, float | None]:
    return {film.title: film.rating for film in export.films}


def refusal(*given: tuple[str, bytes]) -> str:
    with pytest.raises(main.UnusableUpload) as refused:
        main.parse_export(given)
    return str(refused.value)


# --- Ratings


@pytest.mark.parametrize(
    "text",
    [
        "Title,Year,Rating\nA,2001,8\nB,2002,9\nC,2003,4",
        "Title,Year,Directors,Rating,WatchedDate\nA,2001,X,8,2024-01-02\nB,2002,Y,9,\nC,2003,Z,4,2024-01-03",
        "Film;Released;My Rating\nA;2001;8,0\nB;2002;9,0\nC;2003;4,0",
        "Name,Year,Ratings10\nA,2001,8\nB,2002,9\nC,2003,4",
    ],
)
def test_ratings_over_five_of_another_tool_are_out_of_ten(text: str) -> None:
    export = read(("ratings.csv", text))

    assert rated(export) == {"A": 4, "B": 4.5, "C": 2}
    assert ["out of 10" in warning for warning in export.warnings] == [True] * ("Ratings10" not in text)


def test_seven_stars_in_letterboxds_own_file_stay_an_error() -> None:
    export = read(("ratings.csv", f"{HEADERS['ratings']}\n{DUNE},7\n2024-01-02,Her,2013,,4"))

    assert rated(export) == {"Dune": None, "Her": 4}
    assert export.warnings == ["ratings.csv, line 2: rating '7' must be between 0.5 and 5 in steps of 0.5"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("TMDb ID,Type,Name,Release Date,Rating,Your Rating", "1,movie,A,2001-02-03,8.0,9.0"),
        ("Const,IMDb Rating,Your Rating,Title,Year", "tt0000001,8.0,9,A,2001"),
        ("Rating,Owner_rating,Film_title,Release_year", "8.0,9,A,2001"),
        ("title,year,rating,userRating", "A,2001,7.9,9"),
    ],
)  # fmt: skip
def test_members_own_rating_wins_over_the_publics(header: str, row: str) -> None:
    export = read(("ratings.csv", f"{header}\n{row}"))

    assert [(film.title, film.year, film.rating) for film in export.films] == [("A", 2001, 4.5)]
    assert any("Rating" in warning or "rating" in warning for warning in export.warnings)


def test_low_ratings_of_a_service_with_ten_stars_are_out_of_ten() -> None:
    imdb = read(("ratings.csv", "Const,Your Rating,Title,Year\ntt0000001,4,A,2001"))
    simkl = read(("SimklBackup.csv", "SIMKL_ID,Title,Year,Rating\n53992,A,2001,3"))
    halves = read(("mine.csv", "Title,Year,Your Rating\nA,2001,4.5\nB,2002,3"))

    assert [rated(export) for export in (imdb, simkl, halves)] == [{"A": 2}, {"A": 1.5}, {"A": 4.5, "B": 3}]
    assert "ten stars" in imdb.warnings[-1]


# --- Columns


def test_columns_of_imdb_are_read() -> None:
    header = "Const,Your Rating,Date Rated,Title,Original Title,URL,Title Type,IMDb Rating,Year,Directors"
    row = 'tt0087884,9,2024-02-03,"Paris, Texas","Paris, Texas",https://www.imdb.com/title/tt0087884,Movie,8.1,1984,W'

    (film,) = (export := read(("ratings.csv", f"{header}\n{row}"))).films

    assert (film.title, film.year, film.imdb_id, film.rating) == ("Paris, Texas", 1984, "tt0087884", 4.5)
    assert (film.film_uri, film.added_date, film.directors) == ("", date(2024, 2, 3), "W")
    assert "ratings.csv: these columns were not read: Original Title, IMDb Rating" in export.warnings


def test_columns_of_movary_trakt_and_mubi_are_read() -> None:
    history = (
        "history.csv",
        "title,year,tmdbId,imdbId,watchedAt,comment\nA,2001,11,tt0000011,2024-01-02,Fine",
    )
    ratings = ("ratings.csv", "title,year,tmdbId,imdbId,userRating\nA,2001,11,tt0000011,9")
    trakt = (
        "trakt.csv",
        "watched_at,type,title,year,trakt_id,tmdb_id\n2024-03-04T20:15:00Z,movie,B,2002,5,12",
    )
    mubi = ("mubi.csv", "title,director,year,rating\nC,Agnès Varda,2003,4")

    export = read(history, ratings, trakt, mubi)

    assert [(f.title, f.tmdb_ref, f.rating, f.watched_date) for f in export.films] == [
        ("B", ("movie", 12), None, date(2024, 3, 4)),
        ("A", ("movie", 11), 4.5, date(2024, 1, 2)),
        ("C", None, 4, None),
    ]
    assert export.films[2].directors == "Agnès Varda"
    assert "history.csv: these columns were not read: comment" in export.warnings


def test_simkls_lists_and_types_are_read_row_by_row() -> None:
    header = "SIMKL_ID,Title,Type,Year,Watchlist,LastEpWatched,WatchedDate,Rating,TMDB,IMDB"
    rows = [
        "1,A,movie,2001,completed,,2024-01-02,9,11,",
        "2,B,movie,2002,plantowatch,,,,12,",
        "3,C,tv,2003,watching,s1e2,,,13,",
        "4,D,movie,2004,dropped,,,,14,",
    ]

    export = read(("SimklBackup.csv", "\n".join([header, *rows])))

    assert [(f.title, f.watched, f.watchlist, f.tmdb_ref) for f in export.films] == [
        ("A", True, False, ("movie", 11)),
        ("B", False, True, ("movie", 12)),
    ]
    for state in ("watching", "dropped"):
        assert any(f"is left out, since it is '{state}'" in warning for warning in export.warnings)
    assert any(
        "these columns were not read: SIMKL_ID, LastEpWatched" in warning for warning in export.warnings
    )


def test_episodes_and_games_are_no_films() -> None:
    rows = "A,2001,tvEpisode,4\nB,2002,Video Game,4\nC,2003,TV Mini Series,4\nD,2004,Short,4"

    export = read(("ratings.csv", f"Title,Year,Title Type,Rating\n{rows}"))

    assert [(film.title, film.tmdb_type) for film in export.films] == [("C", "tv"), ("D", "movie")]
    assert [warning.partition(":")[0] for warning in export.warnings] == [
        "ratings.csv, line 2",
        "ratings.csv, line 3",
    ]


def test_episodes_of_netflix_are_no_films() -> None:
    titles = "The Irishman", "Stranger Things: Season 4: Chapter One", "Love: Season One"
    rows = "\n".join(f'"{title}","3/14/23"' for title in titles)

    export = read(("NetflixViewingHistory.csv", f"Title,Date\n{rows}"))

    assert {film.title for film in export.films} == {"The Irishman", "Love: Season One"}
    assert any("Stranger Things" in w and "looks like an episode" in w for w in export.warnings)


def test_columns_that_are_not_read_are_named() -> None:
    export = read(
        ("a.csv", "Title,Year,Rating,Mood,,Empty\nA,2001,4,sad,x,"),
        ("diary.csv", f"{HEADERS['diary']},Cinema\n{DUNE},4,,,2024-01-02,Lucerna"),
        ("watched.csv", f"{HEADERS['watched']}\n{DUNE}"),
    )

    assert export.warnings == [
        "a.csv: these columns were not read: Mood, number 5",
        "diary.csv: these columns were not read: Cinema",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "https://evil.example/film/dune/",
        "https://letterboxd.com.evil.example/",
        "https://mubi.com/films/dune",
        "//boxd.it/fA7G",
        "data:text/html,x",
    ],
)
def test_foreign_addresses_are_left_out(address: str) -> None:
    (film,) = (export := read(("watched.csv", f'Name,Year,Letterboxd URI\nDune,2021,"{address}"'))).films

    assert film.uri == ""
    assert export.warnings == [
        f"watched.csv, line 2: uri '{address}' must be an address at letterboxd.com, boxd.it, imdb.com "
        "or themoviedb.org"
    ]


def test_addresses_of_imdb_and_tmdb_are_ids() -> None:
    rows = "A,2001,https://m.imdb.com/title/tt0000001/?ref=x\nB,2002,https://www.themoviedb.org/tv/12-b"

    films = read(("watched.csv", f"Title,Year,URL\n{rows}")).films

    assert [(f.title, f.imdb_id, f.tmdb_ref, f.uri) for f in films] == [
        ("A", "tt0000001", None, ""),
        ("B", "", ("tv", 12), ""),
    ]


# --- Titles


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Alien (1979)", ("Alien", 1979, None)),
        ("Chernobyl (TV Miniseries)", ("Chernobyl", None, "tv")),
        ("Chernobyl (TV Mini Series) (2019)", ("Chernobyl", 2019, "tv")),
        ("Dark (2017 TV Series)", ("Dark", 2017, "tv")),
        ("2001: A Space Odyssey [1968]", ("2001: A Space Odyssey", 1968, None)),
        ("Jackass Forever (2022) (re-watch)",) * 2,
        ("Don&#039;t Look Now", ("Don't Look Now", None, None)),
        ("Tom &amp; Viv (1994)", ("Tom & Viv", 1994, None)),
        ("The Office (US)", ("The Office (US)", None, None)),
        ("(500) Days of Summer", ("(500) Days of Summer", None, None)),
        ("Birdman or (The Unexpected Virtue of Ignorance)",) * 2,
        ("AT&T & me&copy", ("AT&T & me&copy", None, None)),
    ],
)
def test_year_type_and_entities_are_taken_from_the_title(title: str, expected: object) -> None:
    (film,) = read(("watched.csv", f'Title\n"{title}"')).films

    found = film.title, film.year, film.tmdb_type
    assert found == (expected if isinstance(expected, tuple) else (expected, None, None))


def test_title_of_a_file_with_columns_for_them_keeps_what_differs() -> None:
    rows = "Alien (1979),1979,movie\nAlien (1979),2003,movie\nDark (Film),2017,tv"

    films = read(("watched.csv", f"Title,Year,Type\n{rows}")).films
    (own,) = read(("watched.csv", f"{HEADERS['watched']}\n2024-01-02,Alien &amp; (1979),,")).films

    assert [film.title for film in films] == ["Alien", "Alien (1979)", "Dark (Film)"]
    assert own.title == "Alien &amp; (1979)"


def test_directors_tell_namesakes_apart() -> None:
    rows = [
        "Leo,2023,Lokesh Kanagaraj,2024-01-02",
        'Leo,2023,"Robert Marianetti, Robert Smigel",2024-01-03',
        "Leo,2023,Robert  Smigel,2024-01-04",
        "Parasite,2019,Bong Joon-ho,2024-01-05",
        "Parasite,2019,BONG JOON HO,2024-01-06",
        "Parasite,2019,,2024-01-07",
    ]

    films = read(("diary.csv", "\n".join(["Title,Year,Directors,WatchedDate", *rows]))).films

    assert [(film.title, len(film.viewings)) for film in films] == [("Parasite", 3), ("Leo", 2), ("Leo", 1)]


# --- Lists

OLD_LIST = (
    "\r\nDate,Name,Tags,URL,Description\r\n2020-01-02,MyList,,https://boxd.it/4Cxi,\r\n\r\n"
    "Position,Name,Year,URL,Description\r\n1,Dune,2021,https://boxd.it/fA7G,\r\n2,Her,2013,https://boxd.it/4O24,"
)
LISTS = {
    "old": OLD_LIST,
    "v7": f"Letterboxd list export v7{OLD_LIST}",
    "empty": "Letterboxd list export v7\r\nDate,Name,Tags,URL,Description\r\n2020-01-02,MyList,,,",
    "without its head": OLD_LIST.partition("\r\n\r\n")[2],
    "re-saved": f"Letterboxd list export v7;;;;{OLD_LIST}".replace(",", ";"),
}


def listed(export: main.Export) -> list[tuple[str, list[str]]]:
    return [(made.name, [export.films[i - 1].title for i, _ in made.entries]) for made in export.lists]


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_list_is_never_watched(text: str) -> None:
    name = "my-list" if text == LISTS["without its head"] else "MyList"
    given = "lists/my-list.csv", text.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(*given)

    beside = main.parse_export([given, ("watched.csv", f"{HEADERS['watched']}\n{DUNE}".encode())])

    entries = [] if text == LISTS["empty"] else ["Dune", "Her"]
    assert [(film.title, film.watched) for film in beside.films] == [("Dune", True), ("Her", False)][
        : len(entries) or 1
    ]
    assert listed(beside) == [(name, entries)]
    assert beside.warnings == []
    if entries:
        for alone in (("renamed.csv", given[1]), ("export.zip", packed.getvalue())):
            export = main.parse_export([alone])
            assert [film.watched for film in export.films] == [False, False]
            assert len(export.lists[0].entries) == 2
            assert export.films[0].lists == [1]


def test_list_has_what_the_member_wrote() -> None:
    text = (
        "Letterboxd list export v7\nDate,Name,Tags,URL,Description\n"
        '2020-01-02,"Heists, and more","heist, fun",https://boxd.it/4Cxi,"Two\nlines"\n\n'
        "Position,Name,Year,URL,Description\n1,Dune,2021,https://boxd.it/fA7G,Sand\n2,Dune,1984,,\n"
        "3,Dune,2021,https://boxd.it/fA7G,again"
    )

    export = read(("lists/heists.csv", text), ("watched.csv", f"{HEADERS['watched']}\n{DUNE}"))

    (made,) = export.lists
    assert (made.name, made.list_date, made.tags) == ("Heists, and more", date(2020, 1, 2), ("heist", "fun"))
    assert (made.list_uri, made.description) == ("https://boxd.it/4Cxi", "Two\nlines")
    assert made.entries == [(1, "Sand"), (2, "")]
    assert [(film.title, film.year, film.watched) for film in export.films] == [
        ("Dune", 2021, True),
        ("Dune", 1984, False),
    ]
    assert export.warnings == ["lists/heists.csv, line 9: 'Dune' is in the list twice; skipped"]
    assert export.rows == {"lists/heists.csv": 2, "watched.csv": 1}


def test_imdbs_list_is_a_watchlist_only_by_its_name() -> None:
    text = (
        "Position,Const,Created,Title,URL,Title Type,Year,Your Rating\n1,tt0000001,2024-01-02,A,,Movie,2001,"
    )

    (film,) = read(("WATCHLIST.csv", text)).films
    other = read(("0c9f1b5e.csv", text))

    assert (film.watched, film.watchlist, film.watchlist_date) == (False, True, date(2024, 1, 2))
    assert (listed(other), other.films[0].watched) == ([("0c9f1b5e", ["A"])], False)
    assert "was read as a list" in other.warnings[0]
    assert rated(read(("old-ratings.csv", f"{text}8"))) == {"A": 4}


def test_profile_gives_names_and_favourites_and_nothing_else() -> None:
    header = "Date Joined,Username,Given Name,Family Name,Email Address,Location,Website,Bio,Favorite Films"
    favourites = '"https://boxd.it/4O24, https://boxd.it/fA7G, https://boxd.it/2a1m"'
    row = f"2020-01-01,ann,Ann,Secret,ann@example.org,Nowhere,https://x.example,Shy,{favourites}"
    watched = f"{HEADERS['watched']}\n{DUNE}\n2024-01-01,Her,2013,https://boxd.it/4O24"

    export = read(("profile.csv", f"{header}\n{row}"), ("watched.csv", watched))

    assert export.profile == main.Profile("ann", "Ann", [2, 1])
    assert not any(word in repr(export) for word in ("Secret", "example", "Nowhere", "Shy"))
    assert read(("watched.csv", watched)).profile is None


# --- Lines


@pytest.mark.parametrize(
    "above",
    [
        "<<<<<<< Updated upstream",
        "Table 1",
        "Films;;;",
        "Film",
        "My films of 2024\n\nexported by hand",
        "Title: my films, and more",
    ],
)
def test_lines_above_the_header_are_skipped(above: str) -> None:
    export = read(("ratings.csv", f"{above}\nName;Year;Rating\nDune;2021;4,5"))

    assert [(film.title, film.year, film.rating) for film in export.films] == [("Dune", 2021, 4.5)]
    assert all("stands above the header; skipped" in warning for warning in export.warnings)
    assert len(export.warnings) == len([line for line in above.splitlines() if line])


def test_header_in_the_middle_is_no_film() -> None:
    watched = f"{HEADERS['watched']}\n{DUNE}\n"
    diary = f"\ufeff{HEADERS['diary']}\n2024-01-03,Her,2013,https://boxd.it/3nNzH,4,,tv,2024-01-02\n"

    twice = read(("watched.csv", watched + watched.replace("Dune", "Her").replace("fA7G", "4O24")))
    longer, shorter = read(("watched.csv", watched + diary)), read(("diary.csv", diary + watched))

    assert [film.title for film in twice.films] == ["Dune", "Her"]
    assert twice.warnings == ["watched.csv, line 3: is another header, by which the lines after it were read"]
    for export in (longer, shorter):
        assert {film.title: len(film.viewings) for film in export.films} == {"Her": 1, "Dune": 0}
        assert export.films[0].watched_date == date(2024, 1, 2)
        assert "line 3: is another header, by which the lines after it were read" in export.warnings[0]


def test_gits_marks_are_no_films() -> None:
    export = read(
        ("watched.csv", "Title,Year\n<<<<<<< HEAD\nDune,2021\n=======,\nHer,2013\n>>>>>>> 1a2b3c\nM,1931")
    )

    assert [film.title for film in export.films] == ["Dune", "Her", "M"]
    assert [warning.partition(":")[0][-1] for warning in export.warnings] == ["2", "4", "6"]


def test_film_called_like_a_column_is_no_header() -> None:
    rows = '2024-01-02,Film,1965,https://boxd.it/1skk,4,,"title, review",2024-01-01'

    export = read(("diary.csv", f"{HEADERS['diary']}\n{rows}"))

    assert [film.title for film in export.films] == ["Film"]
    assert export.warnings == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("7/22/16", date(2016, 7, 22)),
        ("22.7.16", date(2016, 7, 22)),
        ("22-7-16", date(2016, 7, 22)),
        ("7/22/29", date(2029, 7, 22)),
        ("7/22/30", date(1930, 7, 22)),
        ("7/22/99 20:15", date(1999, 7, 22)),
        ("2016/07/22", date(2016, 7, 22)),
    ],
)
def test_dates_of_spreadsheets_are_read(written: str, expected: date) -> None:
    export = read(("diary.csv", f"{HEADERS['diary']}\n2024-01-01,Dune,2021,,4,,,{written}"))

    assert export.films[0].watched_date == expected
    assert export.warnings == []


def test_guesses_about_dates_are_said() -> None:
    short = read(("diary.csv", "Name,Watched Date\nDune,22/07/16\nHer,1/2/16"))
    netflix = read(("watched.csv", "Title,Date\nDune,1/13/24"))

    assert [film.watched_date for film in short.films] == [date(2016, 7, 22), date(2016, 2, 1)]
    assert short.warnings == [
        "diary.csv: '22/07/16' was read as day, month and year, and so were all dates like it"
    ]
    assert (netflix.films[0].added_date, netflix.films[0].watched_date) == (date(2024, 1, 13), None)
    assert "Date was not read as the day of watching" in netflix.warnings[0]


def test_row_that_says_not_watched_is_left_out() -> None:
    export = read(("mine.csv", "Title,Year,Watched,Liked\nDune,2021,yes,\nHer,2013,no,\nM,1931,no,yes"))

    assert [(film.title, film.watched, film.liked) for film in export.films] == [
        ("Dune", True, False),
        ("M", False, True),
    ]
    assert export.warnings == [
        "mine.csv, line 3: 'Her,2013,no,' is neither watched, liked nor on the watchlist; skipped"
    ]


@pytest.mark.parametrize("title", ["Summer of Soul (…or When", "Amélie – à l’été", "Señor “X”"])
def test_lines_that_end_with_cr_alone_speak_for_mac_roman(title: str) -> None:
    text = f"{HEADERS['watched']}\r2024-01-02,{title},2021,\r"

    export = main.parse_export([("watched.csv", text.encode("mac_roman"))])

    assert [film.title for film in export.films] == [title]
    assert "read as mac_roman" in export.warnings[0]


def test_byte_order_marks_anywhere_are_no_text() -> None:
    text = f"\ufeff{HEADERS['diary']}\n\ufeff2024-01-02,\ufeffDune,2021,,4,,,2024-01-02\n"

    export = read(("diary.csv", text))

    assert (export.films[0].title, export.films[0].watched_date) == ("Dune", date(2024, 1, 2))
    assert export.warnings == []


# --- Rows without a name


def test_film_is_found_by_its_address_in_another_file() -> None:
    diary = "LetterboxdURI,WatchedDate,Rating\nhttps://boxd.it/fA7G,2024-01-02,4.5\nhttps://boxd.it/4O24,2024-01-03,3"

    export = read(("mine.csv", diary), ("watched.csv", f"{HEADERS['watched']}\n{DUNE}"))

    assert [(f.title, f.watched_date, f.rating) for f in export.films] == [("Dune", date(2024, 1, 2), 4.5)]
    assert export.warnings == [
        "mine.csv, line 3: no other row names the film at 'https://boxd.it/4O24'; "
        "upload the file that does, such as watched.csv"
    ]
    assert export.rows == {"mine.csv": 1, "watched.csv": 1}
    assert "upload the file that does, such as watched.csv" in refusal(("mine.csv", diary.encode()))


def test_film_is_found_by_a_long_address_and_in_the_same_file() -> None:
    slug = "https://letterboxd.com/film/her/"
    rows = f"Her,2013,{slug},\n,,{slug},4"

    export = read(("ratings.csv", f"Name,Year,Letterboxd URI,Rating\n{rows}"))

    assert (rated(export), export.warnings) == ({"Her": 4}, [])


# --- Names of files


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("watch-list.csv", "watchlist"),
        ("Watch List.csv", "watchlist"),
        ("to-watch.csv", "watchlist"),
        ("wishlist.csv", "watchlist"),
        ("plantowatch.csv", "watchlist"),
        ("want_to_see.csv", "watchlist"),
        ("Unwatched.csv", "watchlist"),
        ("favourites.csv", "likes"),
        ("films.csv", "likes"),
        ("seen.csv", "watched"),
        ("2024.csv", "watched"),
    ],
)
@pytest.mark.parametrize("header", ["Title,Year,tmdbID", "Name,Year,Mood"])
def test_file_that_only_its_name_tells_apart_says_as_what_it_was_read(
    name: str, kind: str, header: str
) -> None:
    export = read((name, f"{header}\nA,2001,11"))

    (film,) = export.films
    assert (film.watched, film.liked, film.watchlist) == (
        kind == "watched",
        kind == "likes",
        kind == "watchlist",
    )
    assert f"{name}: its columns do not say what it lists, so it was read as {kind}" in export.warnings[0]


def test_columns_win_over_a_name_that_says_likes() -> None:
    export = read(("my-likes.csv", "Title,Year,Rating\nA,2001,4"))

    assert (export.films[0].liked, export.films[0].watched) == (False, True)
    assert export.warnings == ["my-likes.csv: its columns say what was watched, so it was not read as likes"]


# --- No CSVs


def workbook(*members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return packed.getvalue()


NO_CSVS = {
    "films.xlsx": (workbook("_rels/.rels", "xl/workbook.xml"), "an Excel workbook; save it as CSV (UTF-8)"),
    "films.numbers": (workbook("Index/Document.iwa", "preview.jpg"), "a Numbers document"),
    "films.ods": (workbook("mimetype", "content.xml"), "an OpenDocument or Word file"),
    "films.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
    "films.csv.gz": (b"\x1f\x8b\x08\x00", "an archive, but no ZIP"),
    "films.tar": (b"watched.csv".ljust(257, b"\0") + b"ustar\x0000", "an archive, but no ZIP"),
    "films.7z": (b"7z\xbc\xaf\x27\x1c", "an archive, but no ZIP"),
    "films.html": (b"\xef\xbb\xbf\n<!DOCTYPE html><title>Films</title>", "a web page, XML or JSON"),
    "page.csv": (b"<html><body>", "a web page, XML or JSON"),
    "films.pdf": (b"%PDF-1.7", "a PDF, picture or database"),
    "trakt.json": (b'[\n {"title": "Dune"}]', "a web page, XML or JSON"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "what"), [(n, *rest) for n, rest in NO_CSVS.items()], ids=NO_CSVS
)
def test_file_that_is_no_csv_says_what_it_is(name: str, content: bytes, what: str) -> None:
    assert f"{name}: is {what}" in refusal((name, content))


@pytest.mark.parametrize("ending", ["(Video Game)", "(TV Episode)", "(Podcast) (2014)", "(game)"])
def test_type_in_a_title_that_is_no_film_is_left_out_and_said(ending: str) -> None:
    read = main.parse_export([("watched.csv", f"Title,TMDB ID\nElden Ring {ending},5\nHeat,949".encode())])

    assert [film.title for film in read.films] == ["Heat"]
    assert any("Elden Ring" in warning and "is left out" in warning for warning in read.warnings)


# --- What a row, a name or a cell does not say is not guessed


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("Title,Year,Watched", "A,2001,yes\nB,2002,\nC,2003,maybe", [("A", True, False)]),
        ("Title,Year,Seen", "A,2001,x\nB,2002,", [("A", True, False)]),
        ("Title,Year,Status", "A,2001,Watched\nB,2002,\nC,2003,Unwatched\nD,2004,?", [("A", True, False)]),
        ("Title,Year,Watchlist", "A,2001,yes\nB,2002,no\nC,2003,", [("A", False, True)]),
        ("Title,Year,checked,watchlist", "A,2001,yes,no\nB,2002,no,no", [("A", True, False)]),
        ("Title,Year,Watchlist,Rating", "A,2001,yes,4", [("A", True, True)]),
    ],
)  # fmt: skip
def test_row_is_watched_only_if_it_says_so(header: str, rows: str, expected: list[object]) -> None:
    export = read(("watched.csv", f"{header}\n{rows}"))

    assert [(film.title, film.watched, film.watchlist) for film in export.films] == expected
    for title in {line[0] for line in rows.splitlines()} - {film.title for film in export.films}:
        assert any(f"'{title},200" in warning for warning in export.warnings), title


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dislikes.csv", "watched"),
        ("unliked.csv", "watched"),
        ("not watched.csv", "watchlist"),
        ("removed from watchlist.csv", "watchlist"),
        ("watched from watchlist.csv", "watchlist"),
        ("watchlist removed.csv", "watchlist"),
        ("photo_seen.csv", "watched"),
        ("unlikely.csv", "watched"),
    ],
)
def test_name_that_is_not_plain_is_said(name: str, kind: str) -> None:
    export = read((name, "Name,Year\nA,2001"))

    assert (export.films[0].watched, export.films[0].watchlist) == (kind == "watched", kind == "watchlist")
    assert f"it was read as {kind}" in export.warnings[0]


@pytest.mark.parametrize(
    "name", ["watchlist.csv", "watchlist-me-2024-01-02.csv", "My watched (2).csv", "likes.csv"]
)
def test_plain_name_needs_no_warning(name: str) -> None:
    assert read((name, "Name,Year\nA,2001")).warnings == []


def test_one_id_of_two_films_joins_no_films() -> None:
    rows = "A,2001,11\nB,2002,11\na,2001,11\nA renamed,2001,11"

    export = read(("mine.csv", f"Title,Year,tmdbID\n{rows}"))
    own = read(("watched.csv", f"{HEADERS['watched']}\n{DUNE}\n{DUNE.replace('Dune,2021', 'Her,2013')}"))

    assert [film.title for film in export.films] == ["A", "B"]
    assert export.warnings[1] == "mine.csv, line 5: 'A renamed' has the id of 'A', so they count as one film"
    assert [film.title for film in own.films] == ["Dune", "Her"]


def test_film_and_series_of_one_name_are_two() -> None:
    export = read(("mine.csv", "Title,Year,Type\nFargo,2014,movie\nFargo,2014,tv\nFargo,2014,"))

    assert [(film.title, film.tmdb_type) for film in export.films] == [("Fargo", "movie"), ("Fargo", "tv")]


def test_cell_of_several_lines_is_no_film() -> None:
    notes = 'Title,Year,Notes\nDune,2021,"good\nwith Ann, and Bob"\nHer,2013,\nM,1931,"one\n\ntwo"'

    export = read(("mine.csv", notes))

    assert [film.title for film in export.films] == ["Dune", "Her", "M"]
    assert export.warnings[-1] == "mine.csv: these columns were not read: Notes"


def test_second_rating_tags_and_reviews_are_not_lost() -> None:
    rows = "A,2001,4,first,Fine.\nA,2001,2,,\nB,2002,3,cinema,"

    export = read(("mine.csv", f"Title,Year,Rating,Tags,Review\n{rows}"))

    assert rated(export) == {"A": 2, "B": 3}
    assert export.films[0].entries[0].rating == 4
    assert [[(e.tags, e.review) for e in film.entries] for film in export.films] == [
        [(("first",), "Fine.")],
        [(("cinema",), "")],
    ]


@pytest.mark.parametrize("header", ["Title,Year,Rating", HEADERS["ratings"]])
def test_rating_that_differs_from_an_earlier_one_is_said(header: str) -> None:
    rows = ["A,2001,4", "A,2001,2", "A,2001,4"]
    if "Date" in header:
        rows = [f"2024-01-02,{row[:6]},https://boxd.it/fA7G,{row[7:]}" for row in rows]

    export = read(("ratings.csv", "\n".join([header, *rows])))

    assert rated(export) == {"A": 4}
    assert export.warnings == [
        "ratings.csv, line 3: 4 stars were read before for this film, so its rating is ignored"
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("24-03-15", None),
        ("0024-03-15", None),
        ("2224-03-15", None),
        ("2024-01-02, 2024-03-04", None),
        ("7.22.2016", None),
        ("03.04.2024", date(2024, 4, 3)),
        ("2024-01-02 08:15 PM", date(2024, 1, 2)),
        ("2024-01-02T20:15:00.000+02:00", date(2024, 1, 2)),
    ],
)
def test_date_that_may_be_another_is_left_out_and_said(written: str, expected: date | None) -> None:
    export = read(("diary.csv", f'Title,Watched Date\nA,"{written}"'))

    assert export.films[0].watched_date == expected
    assert len(export.warnings) == (expected is None)


def test_dates_in_both_orders_are_read_where_they_are_certain() -> None:
    export = read(("diary.csv", "Title,Watched Date\nA,13/01/2024\nB,01/14/2024\nC,02/03/2024"))

    assert {film.title: film.watched_date for film in export.films} == {
        "A": date(2024, 1, 13),
        "B": date(2024, 1, 14),
        "C": None,
    }
    assert "'13/01/2024' and '01/14/2024' are written in different orders" in export.warnings[0]


def test_rewatch_in_other_words_is_said() -> None:
    export = read(("diary.csv", "Title,Watched Date,Rewatch\nA,2024-01-02,x\nB,2024-01-02,ja"))

    assert {film.title: film.viewings[0].rewatch for film in export.films} == {"A": True, "B": False}
    assert export.warnings == ["diary.csv, line 3: rewatch 'ja' must be yes or no"]


def test_ratings_of_an_unknown_scale_are_left_out() -> None:
    percent = read(("mine.csv", "Title,Year,Rating\nA,2001,85\nB,2002,7\nC,2003,4.5"))
    halves = read(("mine.csv", "Title,Year,Trakt ID,Rating\nA,2001,7,4.5"))

    assert rated(percent) == {"A": None, "B": None, "C": None}
    assert "out of neither 5 nor 10" in percent.warnings[0]
    assert (rated(halves), "out of 5" in halves.warnings[1]) == ({"A": 4.5}, True)


def test_members_score_wins_over_a_rating() -> None:
    assert rated(read(("mine.csv", "Title,Year,Rating,My Score\nA,2001,7.9,4"))) == {"A": 4}


@pytest.mark.parametrize(
    "address",
    ["https://www.themoviedb.org/tv/1396/season/1/episode/2", "https://notimdb.com/title/tt0903747"],
)
def test_address_of_something_else_is_no_id(address: str) -> None:
    export = read(("mine.csv", f"Title,TMDB URL,IMDb URL,URL\nA,{address},{address},{address}"))

    (film,) = export.films
    assert (film.tmdb_ref, film.imdb_id, film.uri) == (None, "", "")
    assert sum("' must be an" in w or "' must be a " in w for w in export.warnings) == 3


@pytest.mark.parametrize(
    "director", ["Coen, Joel & Coen, Ethan", "Joel Coen; Ethan Coen", "ETHAN COEN", "Joel &amp; Ethan Coen"]
)
def test_director_may_be_spelled_in_several_ways(director: str) -> None:
    rows = f'Fargo,1996,"Joel Coen, Ethan Coen"\nFargo,1996,"{director}"'

    assert len(read(("mine.csv", f"Title,Year,Directors\n{rows}")).films) == 1


def test_utf_16_needs_no_mark_and_marks_need_no_cell() -> None:
    text = "Title,Year\nAm\u200bélie\u200e,2001\n"

    (film,) = main.parse_export([("watched.csv", text.encode("utf-16-le"))]).films

    assert film.title == "Amélie"


@pytest.mark.parametrize("heading", ["To watch:", "TO WATCH", "Watchlist", "SEEN IN 2024"])
def test_headings_are_no_films(heading: str) -> None:
    export = read(("mine.csv", f"Title,Year,Rating\n{heading},,\nA,2001,4\nJanuary,,"))

    assert [film.title for film in export.films] == ["A", "January"]
    assert f"line 2: '{heading},,' looks like a heading; skipped" in export.warnings[0]
    assert export.warnings[1] == "mine.csv, line 4: 'January' has nothing but a title"


def test_tag_may_be_called_none() -> None:
    export = read(("diary.csv", f"{HEADERS['diary']}\n{DUNE},4,,none,2024-01-02"))

    assert export.films[0].viewings[0].tags == ("none",)


def test_title_that_says_another_year_or_has_entities_is_said() -> None:
    mine = read(("mine.csv", "Year,Film,Rating\n2023,Heat (1995),4"))
    own = read(("watched.csv", f"{HEADERS['watched']}\n{DUNE.replace('Dune', 'Fast &amp; Furious')}"))

    assert (mine.films[0].title, mine.films[0].year) == ("Heat (1995)", 2023)
    again = read(("mine.csv", "Name\nJackass Forever (2022) (re-watch)"))
    assert "was kept as it is" in again.warnings[-1]
    assert "title 'Heat (1995)' was kept as it is" in mine.warnings[0]
    assert "title 'Fast &amp; Furious' was kept as it is" in own.warnings[0]


@pytest.mark.parametrize("title", ["AmÃ©lie", "Itâ€™s great", "Am\ufffdlie"])
def test_letters_that_were_damaged_before_are_said(title: str) -> None:
    export = read(("watched.csv", f"Name,Year\n{title},2001"))

    assert "saved in a wrong encoding once" in export.warnings[0]


def test_blank_reviews_are_none_and_a_viewing_is_of_a_watched_film() -> None:
    mubi = read(("mubi.csv", "title,year,director,rating,review\nHeat,1995,Mann,4,\nCats,2019,Hooper,1,No."))
    watchlist = read(("watchlist.csv", "Title,Year,Watched Date\nHeat,1995,2023-01-01\nRonin,1998,"))

    assert {film.title: len(film.entries) for film in mubi.films} == {"Heat": 0, "Cats": 1}
    assert [(film.title, film.watched) for film in watchlist.films] == [("Heat", True), ("Ronin", False)]


def test_titles_of_letterboxds_own_files_stay_without_its_date_column() -> None:
    (film,) = read(("watched.csv", "Name,Year,Letterboxd URI\nTwelve (TV),2010,https://boxd.it/fA7G")).films

    assert (film.title, film.tmdb_type) == ("Twelve (TV)", None)


def test_watchlist_of_imdb_has_the_day_a_film_was_added() -> None:
    row = "tt0000001,2020-05-06,A,2001,9,2024-01-02"

    (film,) = read(("watchlist.csv", f"Const,Created,Title,Year,Your Rating,Date Rated\n{row}")).films

    assert film.watchlist_date == date(2020, 5, 6)
