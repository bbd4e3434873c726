from __future__ import annotations

import asyncio
import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import main
from tests import fake_tmdb
from tests.conftest import SHARED, Clock, settings_for
from tests.fake_tmdb import V3_KEY, V4_TOKEN, FakeTMDB, Index, words
from tests.known_films import packed

# --- Choosing the right film


@pytest.fixture
async def matcher(tmdb: FakeTMDB, clock: Clock) -> AsyncIterator[main.Matcher]:
    async with connected(tmdb, clock) as matcher:
        yield matcher


@asynccontextmanager
async def connected(
    tmdb: FakeTMDB, clock: Clock, known_films: main.KnownFilms | None = None, **settings: Any
) -> AsyncIterator[main.Matcher]:
    async with main.TMDBClient(settings_for(tmdb, **settings), clock, clock.sleep) as client:
        yield main.Matcher(client, known_films)


def body(tmdb_id: int, title: str, day: str, votes: int = 100, **more: Any) -> dict[str, Any]:
    found = {"media": "movie", "id": tmdb_id, "title": title, "original_title": title, "release_date": day}
    return found | {"vote_count": votes, "popularity": 1.0} | more


async def found(film: main.Film, *bodies: dict[str, Any]) -> main.Match:
    """The match of `film` where TMDB knows these bodies."""
    clock = Clock()
    async with FakeTMDB(bodies) as tmdb, connected(tmdb, clock) as matcher:
        return await matcher.find(film)


async def found_and_asked(
    film: main.Film, known_films: main.KnownFilms | None, *bodies: dict[str, Any]
) -> tuple[main.Match, list[str]]:
    """The match of `film` where TMDB knows these bodies, and what TMDB was asked for it."""
    clock = Clock()
    async with FakeTMDB(bodies) as tmdb, connected(tmdb, clock, known_films) as matcher:
        return await matcher.find(film), [asked.path for asked in tmdb.requests]


NUMBERED = 320_000  # a Letterboxd number, and the TMDB id it predicts
PREDICTED = round(main.expected_tmdb_id(NUMBERED))


async def test_title_year_and_number_give_an_exact_match_in_two_calls(
    matcher: main.Matcher, tmdb: FakeTMDB
) -> None:
    match = await matcher.find(main.Film("Inception", 2010, letterboxd_number=34722))

    assert (match.status, match.reason) == ("exact", "Title, year and Letterboxd's own number agree.")
    assert match.movie
    assert match.movie.tmdb_id == 27205
    assert [asked.path for asked in tmdb.requests] == ["search/movie", "movie/27205"]


async def test_number_outweighs_votes_among_namesakes() -> None:
    film = main.Film("Dune", 2021, letterboxd_number=NUMBERED)

    match = await found(film, body(11, "Dune", "2021-01-01", 9000), body(PREDICTED, "Dune", "2021-02-02", 3))

    assert match.movie
    assert match.movie.tmdb_id == PREDICTED
    assert match.status == "exact"


async def test_namesakes_without_a_number_are_guessed_by_votes() -> None:
    match = await found(
        main.Film("Dune", 2021), body(11, "Dune", "2021-01-01", 30), body(12, "Dune", "2021-02-02", 9000)
    )

    assert match.movie
    assert match.movie.tmdb_id == 12
    assert match.status == "guessed"
    assert "1 other result has the same title and year" in match.reason


@pytest.mark.parametrize(
    ("day", "status"), [("2022-01-01", "exact"), ("2020-12-01", "exact"), ("2026-01-01", "guessed")]
)
async def test_number_supports_a_different_year(day: str, status: str) -> None:
    match = await found(main.Film("Dune", 2021, letterboxd_number=NUMBERED), body(PREDICTED, "Dune", day))

    assert match.status == status


async def test_conflicting_number_makes_it_a_guess() -> None:
    match = await found(main.Film("Dune", 2021, letterboxd_number=NUMBERED), body(11, "Dune", "2021-01-01"))

    assert match.status == "guessed"
    assert "number points to another film" in match.reason


async def test_only_result_with_title_and_year_is_exact() -> None:
    match = await found(main.Film("Dune", 2021), body(11, "Dune", "2021-01-01"))

    assert (match.status, match.reason) == ("exact", "It is the only result with that title and year.")


@pytest.mark.parametrize(
    ("votes", "day", "status", "reason"),
    [
        (9000, "2021-02-02", "exact", "It is by far the likeliest result with that title and year."),
        (900, "2021-02-02", "guessed", "1 other result has the same title and year"),
        (900, "2019-02-02", "exact", "It is the only result with that title and year."),
        (900, "2022-02-02", "guessed", "1 other result has the same title"),
    ],
)
async def test_namesake_makes_it_a_guess_unless_it_scores_far_less(
    votes: int, day: str, status: str, reason: str
) -> None:
    namesake = body(12, "Dune", day, 1 if day[:4] == "2021" else 900)

    match = await found(main.Film("Dune", 2021), body(11, "Dune", "2021-01-01", votes), namesake)

    assert match.movie
    assert match.movie.tmdb_id == 11
    assert (match.status, reason in match.reason) == (status, True)


async def test_namesake_is_a_doubt_only_if_its_number_agrees() -> None:
    film = main.Film("Dune", 2021, letterboxd_number=NUMBERED)
    right = body(PREDICTED, "Dune", "2021-01-01")

    near = await found(film, right, body(PREDICTED + 9, "Dune", "2021-02-02", 50))
    far = await found(film, right, body(11, "Dune", "2021-02-02", 50))

    assert (near.status, far.status) == ("guessed", "exact")
    assert "1 other result has the same title and year" in near.reason


@pytest.mark.parametrize("other", [11, round(PREDICTED * 1.03)])
async def test_search_continues_while_the_number_disagrees(other: int) -> None:
    film = main.Film("Dune", 2021, letterboxd_number=NUMBERED)

    match = await found(
        film, body(other, "Dune", "2021-01-01", 10_000), body(PREDICTED, "Dune", "2022-02-02", 3)
    )

    assert match.movie
    assert (match.movie.tmdb_id, match.status) == (PREDICTED, "exact")


async def test_same_year_outweighs_the_votes_of_the_next() -> None:
    match = await found(
        main.Film("Prey", 2021), body(11, "Prey", "2021-01-01", 20), body(12, "Prey", "2022-02-02", 10_000)
    )

    assert match.movie
    assert (match.movie.tmdb_id, match.status) == (11, "guessed")


@pytest.mark.parametrize("number", [None, NUMBERED])
async def test_parts_of_a_title_may_be_in_another_order(number: int | None) -> None:
    film = main.Film("Jason Lives - Friday the 13th Part VI", 1986, letterboxd_number=number)

    match = await found(film, body(PREDICTED, "Friday the 13th Part VI: Jason Lives", "1986-08-01"))

    assert match.movie
    assert match.status == ("exact" if number else "guessed")


APU: dict[str, Any] = {"original_title": "অপুর সংসার"}
OTHER_TITLES: dict[str, dict[str, Any]] = {
    "alternative": {"alternative_titles": {"titles": [{"iso_3166_1": "IN", "title": "Apur Sansar"}]}},
    "translated": {
        "translations": {"translations": [{"data": {"title": ""}}, {"data": {"title": "Apur Sansar"}}]}
    },
}


@pytest.mark.parametrize("kind", OTHER_TITLES)
async def test_other_title_with_a_number_is_exact(kind: str) -> None:
    apu = body(PREDICTED, "The World of Apu", "1959-05-01", **APU, **OTHER_TITLES[kind])
    film = main.Film("Apur Sansar", 1959, letterboxd_number=NUMBERED)

    match, asked = await found_and_asked(film, None, apu)

    assert (match.status, match.reason) == ("exact", "Title, year and Letterboxd's own number agree.")
    assert asked.count(f"movie/{PREDICTED}") == 1


@pytest.mark.parametrize("kind", OTHER_TITLES)
async def test_other_title_without_a_number_is_a_guess(kind: str) -> None:
    apu = body(896, "The World of Apu", "1959-05-01", **APU, **OTHER_TITLES[kind])

    match = await found(main.Film("Apur Sansar", 1959), apu)

    assert match.status == "guessed"
    assert "its main title differs" in match.reason


async def test_film_without_such_a_title_is_not_chosen() -> None:
    match = await found(
        main.Film("Dune", 2021), body(11, "Dune Drifter", "2021-01-01", **OTHER_TITLES["translated"])
    )

    assert (match.status, match.movie) == ("not_found", None)


async def test_other_titles_are_requested_only_if_the_title_differs(
    matcher: main.Matcher, tmdb: FakeTMDB
) -> None:
    await matcher.find(INCEPTION)

    assert "translations" not in tmdb.requests[-1].query["append_to_response"]


@pytest.mark.parametrize("number", [None, NUMBERED])
@pytest.mark.parametrize("title", ["The Seventh Continent of Utopia", "Love"])
async def test_film_missing_from_tmdb_takes_at_most_six_calls(title: str, number: int | None) -> None:
    namesakes = [body(n, title, f"{1950 + n}-01-01") for n in range(1, 30)]
    film = main.Film(title, 2021, letterboxd_number=number)

    for bodies in ([], namesakes):
        match, asked = await found_and_asked(film, None, *bodies)

        assert match.status == "not_found"
        assert len(asked) <= 6, asked


async def test_full_page_of_namesakes_is_followed_by_a_search_within_the_year() -> None:
    others = [body(n, "Dune", f"{1990 + n}-01-01", 500, popularity=9) for n in range(1, 25)]
    right = body(100, "Dune", "2021-01-01", 900, popularity=9)
    namesake = body(101, "Dune", "2021-02-02", 800, popularity=0.1)

    match, asked = await found_and_asked(main.Film("Dune", 2021), None, *others[:19], right, namesake)

    assert asked == ["search/movie", "search/movie", "movie/100"]
    assert (match.status, "2021" in match.reason) == ("guessed", True)


async def test_searches_within_a_year_are_skipped_if_all_namesakes_were_returned() -> None:
    _, asked = await found_and_asked(main.Film("Dune", 2021), None, body(11, "Dune", "2022-01-01"))

    assert asked == ["search/movie", "search/tv", "movie/11"]


@pytest.mark.parametrize("title", ["Godzilla x Kong: The New Empire", "GODZILLA × KONG  The New Empire"])
async def test_punctuation_and_case_are_ignored(title: str) -> None:
    film = main.Film("Godzilla × Kong: The New Empire", 2024)

    match = await found(film, body(11, "Other", "2024-01-01", original_title=title))

    assert match.movie


async def test_different_title_makes_it_a_guess(matcher: main.Matcher) -> None:
    match = await matcher.find(main.Film("Glass Onion", 2022, letterboxd_number=586723))

    assert match.movie
    assert match.movie.tmdb_id == 661374
    assert match.status == "guessed"
    assert "its title differs" in match.reason


async def test_first_result_is_not_chosen_if_it_is_another_film(
    tmdb: FakeTMDB, matcher: main.Matcher
) -> None:
    match = await matcher.find(main.Film("Our Summer on Super 8", 2019, letterboxd_number=612345))
    far = await found(
        main.Film("Dune", 2021), body(11, "Dune", "1984-01-01", 9000), body(12, "Dune Drifter", "2021-01-01")
    )

    assert (match.status, far.status) == ("not_found", "not_found")
    assert tmdb.calls("movie/") == 0


async def test_undated_stub_is_not_chosen() -> None:
    match = await found(main.Film("Dune", 2021), body(11, "Dune", "", 0), body(12, "Dune", "2021-01-01"))

    assert match.movie
    assert match.movie.tmdb_id == 12


async def test_miniseries_is_found_as_a_series(matcher: main.Matcher) -> None:
    match = await matcher.find(main.Film("Chernobyl", 2019))

    assert match.movie
    assert (match.movie.tmdb_type, match.movie.tmdb_id, match.status) == ("tv", 87108, "exact")
    assert (match.movie.runtime, match.movie.directors) == (335, ("Craig Mazin",))
    assert match.movie.imdb_id == "tt7366338"


async def test_film_without_a_year_is_guessed() -> None:
    match = await found(main.Film("Dune", None), body(11, "Dune", "2021-01-01"))

    assert match.status == "guessed"
    assert "the upload gives no year" in match.reason


@pytest.mark.parametrize(("title", "year"), [("Inception", 1999), ("Whatever", 2010), ("", None)])
async def test_tmdb_id_needs_no_search(
    title: str, year: int | None, matcher: main.Matcher, tmdb: FakeTMDB
) -> None:
    match = await matcher.find(main.Film(title, year, tmdb_ref=("movie", 27205)))

    assert match.status == "exact"
    assert [asked.path for asked in tmdb.requests] == ["movie/27205"]


async def test_unknown_id_falls_back_to_search(matcher: main.Matcher) -> None:
    by_title = await matcher.find(main.Film("Inception", 2010, tmdb_ref=("movie", 999999999)))
    by_imdb_id = await matcher.find(main.Film("", None, imdb_id="tt1375666"))
    unknown = await matcher.find(main.Film("", None, tmdb_ref=("movie", 999999999)))

    assert by_title.movie == by_imdb_id.movie
    assert unknown.status == "not_found"


HEAT = body(949, "Heat", "1995-12-15", runtime=170)
NORMAL_PEOPLE = body(89905, "Normal People", "2020-04-26", media="tv")
SHORT = body(87108, "A Short", "1987-01-01")
CHERNOBYL = body(87108, "Chernobyl", "2019-05-06", media="tv")


@pytest.mark.parametrize(
    ("film", "status", "found_ref"),
    [
        (main.Film("Normal People", 2020, tmdb_ref=("movie", 949)), "guessed", ("tv", 89905)),
        (main.Film("Normal People", 2020, tmdb_ref=("movie", 89905)), "exact", ("tv", 89905)),
        (main.Film("Chernobyl", 2019, tmdb_ref=("movie", 87108)), "exact", ("tv", 87108)),
        (main.Film("Chernobyl", 2019, imdb_id="tt0113277"), "guessed", ("tv", 87108)),
        (main.Film("Heat", 1995, tmdb_ref=("tv", 949)), "exact", ("movie", 949)),
        (main.Film("La grande sfida", 1995, tmdb_ref=("movie", 949)), "exact", ("movie", 949)),
        (main.Film("Heat", 1996, tmdb_ref=("movie", 949)), "exact", ("movie", 949)),
        (main.Film("Nowhere", 2000, tmdb_ref=("movie", 949)), "not_found", None),
        (main.Film("Any", 1, tmdb_ref=("movie", 949), given_status="corrected"), "corrected", ("movie", 949)),
    ],
)  # fmt: skip
async def test_id_of_another_film_is_not_believed(film: main.Film, status: str, found_ref: Any) -> None:
    match = await found(film, HEAT | {"imdb_id": "tt0113277"}, NORMAL_PEOPLE, SHORT, CHERNOBYL)

    movie = match.movie
    assert (match.status, movie and (movie.tmdb_type, movie.tmdb_id)) == (status, found_ref)
    if status in ("guessed", "not_found"):
        assert match.reason.startswith("The upload's id is that of 'Heat' (1995). ")


@pytest.mark.parametrize("titles", [{"alternative_titles": {"titles": [{"title": "Fuoco"}]}}, {}])
async def test_id_is_believed_if_another_of_its_titles_is_the_films(titles: dict[str, Any]) -> None:
    match = await found(main.Film("Fuoco", None, tmdb_ref=("movie", 949)), HEAT | titles)

    assert match.status == ("exact" if titles else "not_found")


async def test_type_decides_between_film_and_series() -> None:
    namesakes = body(1, "Fargo", "2014-01-01", 90), body(2, "Fargo", "2014-04-15", 90, media="tv")

    series, film = [
        await found(main.Film("Fargo", 2014, tmdb_type=kind), *namesakes) for kind in ("tv", "movie")
    ]

    assert [match.movie and match.movie.tmdb_type for match in (series, film)] == ["tv", "movie"]


def directed(tmdb_id: int, title: str, day: str, votes: int, *directors: str) -> dict[str, Any]:
    crew = [{"id": 1_000 * tmdb_id + n, "name": name, "job": "Director"} for n, name in enumerate(directors)]
    return body(tmdb_id, title, day, votes) | {"credits": {"cast": [], "crew": crew}}


@pytest.mark.parametrize(
    ("directors", "status", "tmdb_id"),
    [
        ("Lokesh Kanagaraj", "exact", 1),
        ("ROBERT SMIGEL", "exact", 2),
        ("Nobody, Róbert  Marianetti", "exact", 2),
        ("Jane Doe", "guessed", 1),
        ("", "guessed", 1),
    ],
)
async def test_directors_decide_among_namesakes(directors: str, status: str, tmdb_id: int) -> None:
    match = await found(
        main.Film("Leo", 2023, directors=directors),
        directed(1, "Leo", "2023-10-19", 900, "Lokesh Kanagaraj"),
        directed(2, "Leo", "2023-11-17", 800, "Robert Marianetti", "Robert Smigel"),
    )

    assert (match.status, match.movie and match.movie.tmdb_id) == (status, tmdb_id)


@pytest.mark.parametrize("number", [None, NUMBERED])
async def test_adult_film_is_found_if_nothing_else_has_the_title(number: int | None) -> None:
    adult = body(PREDICTED, "Deep Space", "1972-06-12", adult=True)
    film = main.Film("Deep Space", 1972, letterboxd_number=number)

    alone, asked = await found_and_asked(film, None, adult, body(12, "Deep Space Nine", "1993-01-03"))
    beside, _ = await found_and_asked(film, None, adult, body(12, "Deep Space", "1973-01-01"))

    assert (alone.status, alone.movie and alone.movie.tmdb_id) == ("exact", PREDICTED)
    assert asked[-2:] == ["search/movie", f"movie/{PREDICTED}"]
    assert beside.movie is None or beside.movie.tmdb_id == 12


# --- Known films


def listed(*films: tuple[str, int, int]) -> main.KnownFilms:
    return main.KnownFilms(packed(films))


DUNE = main.Film("Dune", 2021, letterboxd_number=NUMBERED)
DUNE_LINE = ("Dune", 2021, PREDICTED)


@pytest.mark.parametrize("title", ["Dune", "DUNE ", "dune"])
@pytest.mark.parametrize("year", [2020, 2021, 2022])
async def test_known_film_takes_one_call(title: str, year: int) -> None:
    film = main.Film(title, year, letterboxd_number=NUMBERED)

    match, asked = await found_and_asked(film, listed(DUNE_LINE), body(PREDICTED, "Dune", "2021-01-01"))

    assert match.status == "exact"
    assert match.reason == (
        "Title, year and Letterboxd's own number agree."
        if year == 2021
        else "Title and Letterboxd's own number agree, and the year is one off."
    )
    assert match.movie
    assert match.movie.tmdb_id == PREDICTED
    assert asked == [f"movie/{PREDICTED}"]


NOT_TAKEN = {
    "no number": (main.Film("Dune", 2021), [DUNE_LINE]),
    "no year": (main.Film("Dune", None, letterboxd_number=NUMBERED), [DUNE_LINE]),
    "two years off": (main.Film("Dune", 2023, letterboxd_number=NUMBERED), [DUNE_LINE]),
    "another number": (main.Film("Dune", 2021, letterboxd_number=34722), [DUNE_LINE]),
    "another title": (main.Film("Dune Part", 2021, letterboxd_number=NUMBERED), [DUNE_LINE]),
    "half a title": (main.Film("Dun", 2021, letterboxd_number=NUMBERED), [DUNE_LINE]),
    "two of them": (DUNE, [DUNE_LINE, ("Dune", 2022, PREDICTED + 9)]),
    "an empty list": (DUNE, []),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_known_film_needs_title_year_and_number(case: str) -> None:
    film, films = NOT_TAKEN[case]

    assert listed(*films).find(film) is None


def test_number_distinguishes_listed_namesakes() -> None:
    films = [
        DUNE_LINE,
        ("Dune", 2021, 11),
        ("Dune", 1984, PREDICTED + 1),
        ("Dune Drifter", 2021, PREDICTED + 2),
    ]

    assert listed(*films).find(DUNE) == PREDICTED


GONE = {
    "a 404": [],
    "another title": [body(PREDICTED, "Wüste", "2021-01-01")],
    "another year": [body(PREDICTED, "Dune", "1999-01-01")],
    "no date": [body(PREDICTED, "Dune", "")],
}


@pytest.mark.parametrize("case", GONE)
async def test_known_film_that_changed_in_tmdb_is_searched_for(case: str) -> None:
    new = body(PREDICTED + 1, "Dune", "2021-02-02")

    match, asked = await found_and_asked(DUNE, listed(DUNE_LINE), new, *GONE[case])

    assert match.movie
    assert match.movie.tmdb_id == PREDICTED + 1
    assert asked[:2] == [f"movie/{PREDICTED}", "search/movie"]
    assert match.candidates


@pytest.mark.parametrize("content", [None, b"", b"title\tyear\tid", packed([DUNE_LINE])[:-9]])
def test_without_a_readable_list_every_film_is_searched_for(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "known_films.tsv.gz"
    if content is not None:
        path.write_bytes(content)

    assert main.KnownFilms.read(path).find(DUNE) is None


def test_list_is_sorted_and_as_the_command_writes_it() -> None:
    lines = gzip.decompress(main.KNOWN_FILMS.read_bytes()).decode().splitlines()
    films = [
        (title, int(year), int(tmdb_id)) for title, year, tmdb_id in (line.split("\t") for line in lines)
    ]

    assert len(films) > 30_000
    assert len({tmdb_id for _, _, tmdb_id in films}) == len(films)
    assert main.KNOWN_FILMS.stat().st_size < 2_000_000
    assert gzip.decompress(packed(films)).decode().splitlines() == lines
    assert main.KnownFilms.read(main.KNOWN_FILMS).find(INCEPTION) == 27205


def rows(name: str) -> list[dict[str, str]]:
    with gzip.open(SHARED / name, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def truth() -> Iterator[tuple[main.Film, Any]]:
    """Films whose TMDB id is known, but for the rows that have the number of a namesake."""
    for row in rows("truth.csv.gz"):
        number = int(row["letterboxd_id"]) if row["letterboxd_id"] else None
        if number not in NAMESAKES_NUMBERS:
            film = main.Film(row["title"], int(row["year"]), letterboxd_number=number)
            yield film, (row["tmdb_type"], int(row["tmdb_id"]))


NAMESAKES_NUMBERS = {264336, 764843}  # of Sing (2016) and The Damned (2024)
with_truth = pytest.mark.skipif(not SHARED.exists(), reason="the films whose TMDB id is known are not here")


@with_truth
def test_list_gives_no_wrong_film_for_known_ids() -> None:
    known_films = main.KnownFilms.read(main.KNOWN_FILMS)

    found = [(known_films.find(film), right) for film, right in truth()]

    taken = [(("movie", tmdb_id), right) for tmdb_id, right in found if tmdb_id]
    assert len(taken) > 3_900
    assert [pair for pair in taken if pair[0] != pair[1]] == []


@pytest.mark.long
@with_truth
async def test_films_with_known_ids_are_found() -> None:
    catalogue = Index(
        [
            body(int(r["id"]), r["title"], day_of(r), int(r["vote_count"]), media=r["media"])
            | {"original_title": r["original_title"], "popularity": float(r["popularity"])}
            for r in rows("titles.csv.gz")
        ]
    )

    class Offline(main.TMDBClient):
        calls = 0

        async def search(
            self, tmdb_type: main.MediaType, query: str, year: int | None, adult: bool = False
        ) -> list[main.Candidate]:
            self.calls += 1
            results = catalogue.search(tmdb_type, query, str(year or ""))[:20]
            return [
                main.candidate_from_result(tmdb_type, main.ResultBody.model_validate(result))
                for result in results
            ]

        async def movie(
            self, tmdb_type: main.MediaType, tmdb_id: int, with_titles: bool = False
        ) -> main.Movie:
            self.calls += 1
            found = main.MovieBody.model_validate(catalogue.by_id[tmdb_type, tmdb_id])
            return main.movie_of(tmdb_type, found, self.names)

    client, counts = Offline(main.Settings()), defaultdict[bool, Counter[str]](Counter)
    for film, right in truth():
        before, count = client.calls, counts[film.letterboxd_number is not None]
        match = await main.Matcher(client)._find(film)
        outcome = _outcome(match.movie, right)
        count.update([outcome, match.status, f"{outcome} {match.status}", "films"])
        count["calls"] += client.calls - before

    numbered, bare = counts[True], counts[False]
    assert numbered["right"] >= 0.999 * (numbered["films"] - len(NOT_FOUND_BY_WORDS))
    assert numbered["wrong"] <= 1
    assert numbered["wrong exact"] == 0
    assert numbered["exact"] >= 0.99 * numbered["films"]
    assert numbered["calls"] <= 2.08 * numbered["films"]
    assert bare["right"] >= 0.998 * bare["films"] - 1
    assert bare["wrong exact"] == 0
    assert bare["exact"] >= 0.895 * bare["films"]
    assert bare["calls"] <= 2.25 * bare["films"]


NOT_FOUND_BY_WORDS = {
    "Adoration",
    "Apur Sansar",
    "Ever After",
    "The Quince Tree Sun",
}  # titles.csv has no others


def day_of(row: dict[str, str]) -> str:
    """Some have a year only."""
    return row["release_date"] + ("-06-15" if len(row["release_date"]) == 4 else "")


def _outcome(movie: main.Movie | None, right: main.TMDBRef) -> str:
    if movie is None:
        return "missing"
    return "right" if (movie.tmdb_type, movie.tmdb_id) == right else "wrong"


# --- The client

INCEPTION = main.Film("Inception", 2010, letterboxd_number=34722)


async def test_v3_key_goes_into_the_query(matcher: main.Matcher, tmdb: FakeTMDB) -> None:
    await matcher.find(INCEPTION)

    assert tmdb.requests[0].query["api_key"] == V3_KEY
    assert "Authorization" not in tmdb.requests[0].headers
    assert tmdb.requests[0].headers["Accept-Encoding"] == "gzip"


async def test_v4_token_goes_into_the_header(tmdb: FakeTMDB, clock: Clock) -> None:
    tmdb.key = V4_TOKEN
    async with connected(tmdb, clock, tmdb_api_key=V4_TOKEN) as matcher:
        await matcher.find(INCEPTION)

    assert tmdb.requests[0].headers["Authorization"] == f"Bearer {V4_TOKEN}"
    assert "api_key" not in tmdb.requests[0].query


async def test_rejected_key_fails_immediately(tmdb: FakeTMDB, clock: Clock) -> None:
    async with connected(tmdb, clock, tmdb_api_key="f" * 32) as matcher:
        with pytest.raises(main.TMDBKeyRejected, match="TMDB_API_KEY"):
            await matcher.find(INCEPTION)

    assert [asked.path for asked in tmdb.requests] == ["search/movie", "authentication"]


async def test_other_refusals_are_not_retried(matcher: main.Matcher, tmdb: FakeTMDB) -> None:
    tmdb.faults.append(fake_tmdb.status(422))

    with pytest.raises(main.TMDBUnavailable, match="422"):
        await matcher.find(INCEPTION)

    assert tmdb.calls() == 1


async def test_ten_simultaneous_lookups_make_one_request(matcher: main.Matcher, tmdb: FakeTMDB) -> None:
    matches = await asyncio.gather(*(matcher.find(INCEPTION) for _ in range(10)))
    again = await matcher.find(INCEPTION)

    assert tmdb.calls() == 2
    assert all(match is again for match in matches)


async def test_cancelled_waiter_does_not_affect_the_others(matcher: main.Matcher, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.01
    leaving, staying = [asyncio.create_task(matcher.find(INCEPTION)) for _ in range(2)]
    await asyncio.sleep(0)

    leaving.cancel()

    assert (await staying).status == "exact"


async def test_cache_size_is_limited(tmdb: FakeTMDB, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_CACHED", 2)
    async with connected(tmdb, clock) as matcher:
        await matcher.find(INCEPTION)
        await matcher.find(main.Film("Chernobyl", 2019))

        assert len(matcher.tmdb.cache) == 2


# --- TMDB's JSON


async def test_wrong_types_count_as_missing() -> None:
    holes: dict[str, Any] = {
        "runtime": "two hours",
        "genres": None,
        "credits": None,
        "imdb_id": 7,
        "keywords": [],
    }
    holes |= {"poster_path": "/../x.jpg?<b>", "vote_average": "inf", "belongs_to_collection": "no"}

    match = await found(main.Film("Dune", 2021), body(11, "Dune", "2021-01-01", **holes))

    movie = match.movie
    assert movie
    assert (movie.runtime, movie.genres, movie.cast, movie.directors) == (None, (), (), ())
    assert (movie.imdb_id, movie.poster_url, movie.collection) == (None, None, None)


async def test_people_are_listed_once_in_billing_order() -> None:
    cast = [{"name": f"Actor {n}", "order": n} for n in reversed(range(30))]
    crew = [{"name": "D", "job": job} for job in ("Director", "Writer", "Screenplay", "Editor", None)]

    match = await found(
        main.Film("Dune", 2021), body(11, "Dune", "2021-01-01", credits={"cast": cast, "crew": crew})
    )

    assert match.movie
    assert match.movie.cast == tuple(f"Actor {n}" for n in range(15))
    assert (match.movie.directors, match.movie.writers) == (("D",), ("D",))


def test_search_words_ignore_accents() -> None:
    assert words("Amélie À") == ("amelie", "a")
