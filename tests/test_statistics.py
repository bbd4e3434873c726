"""Statistics: every number of a small diary by hand, and what must hold for any diary."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

import main
from tests.conftest import FEW, SAMPLE_FILE, Api, Serve, export, files
from tests.fake_tmdb import FakeTMDB, made_up


def label(name: str, tmdb_id: int | None = None) -> main.Person:
    made = main.Person(name)
    made.identity, made.portrait_url = tmdb_id or name, None
    return made


def labels(*given: tuple[str, int]) -> tuple[main.Person, ...]:
    return tuple(label(name, tmdb_id) for name, tmdb_id in given)


def movie(tmdb_id: int, **given: Any) -> main.Movie:
    empty: dict[str, Any] = {field.name: () for field in fields(main.Movie)}
    empty |= {"tmdb_id": tmdb_id, "tmdb_type": "movie", "title": f"TMDB {tmdb_id}", "original_title": ""}
    empty |= {"imdb_id": None, "release_date": None, "runtime": None, "poster_url": None}
    return main.Movie(**(empty | {"tmdb_rating": None, "tmdb_votes": 0} | given))


def film(number: int, title: str, year: int | None, days: Iterable[str] = (), **given: Any) -> main.Film:
    """`days` latest first; a day with a `*` is marked as a rewatch, `-` is a viewing without a date."""
    record = given.pop("movie", None)
    viewings = [
        main.Viewing(None if day == "-" else date.fromisoformat(day.strip("*")), rewatch="*" in day)
        for day in days
    ]
    match = main.Match("exact", "", record) if record else main.Match("not_found", "")
    logged: dict[str, Any] = {"watched": True, "viewings": viewings, "match": match}
    return main.Film(title, year, movie_id=number, **(logged | given))


SCOTT, WEAVER, KING = ("Ridley Scott", 578), ("Sigourney Weaver", 10205), ("Stephen King", 3027)
NAMESAKE = ("Ridley Scott", 999)

ALIEN = movie(
    348, runtime=117, genres=("Horror", "Science Fiction"), countries=("United Kingdom", "United States"),
    languages=("English",), keywords=("space",), directors=labels(SCOTT), cast=labels(WEAVER),
    studios=labels(("Fox", 25)), collections=labels(("Alien Collection", 8091)),
    tmdb_rating=8.2, tmdb_votes=15_000,
)  # fmt: skip
ALIENS = movie(
    679, runtime=137, genres=("Science Fiction", "Action"), countries=("United States",),
    languages=("English",), keywords=("space", "war"), directors=labels(("James Cameron", 2710)),
    writers=labels(("James Cameron", 2710), KING), cast=labels(WEAVER), studios=labels(("Fox", 25)),
    collections=labels(("Alien Collection", 8091)), tmdb_rating=7.9, tmdb_votes=9_000,
)  # fmt: skip
BLADE = movie(
    78, runtime=118, genres=("Science Fiction",), countries=("United States",),
    languages=("English", "Cantonese"), directors=labels(SCOTT), composers=labels(("Vangelis", 1)),
    tmdb_rating=7.9, tmdb_votes=13_000,
)  # fmt: skip
SHORT = movie(9, runtime=30, genres=("Drama",), directors=labels(NAMESAKE), tmdb_rating=6.0, tmdb_votes=60)
SERIES = movie(348, tmdb_type="tv", runtime=None, genres=("Drama",), tmdb_rating=9.0, tmdb_votes=49)
LATER = movie(5, runtime=90, genres=("Horror",), directors=labels(SCOTT, KING))
UNLIKED = movie(6, runtime=100, genres=("Horror",), directors=labels(("Nobody", 7)))

# Sundays are 2023-12-31 and 2024-01-07; 2024-01-01 is a Monday.
DIARY = [
    film(1, "Alien", 1979, ("2024-01-01", "2023-12-31"), rating=5, liked=True, movie=ALIEN),
    film(2, "Aliens", 1986, ("2024-01-02*",), rating=4, movie=ALIENS),
    film(3, "Blade Runner", 1982, ("2024-01-02", "-"), rating=4.5, movie=BLADE, watchlist=True),
    film(4, "Shorty", 2024, ("2024-03-10",), rating=4.5, movie=SHORT),
    film(5, "A Series", 2023, ("2024-01-10",), rating=1, movie=SERIES),
    film(6, "Unknown", None, (), rating=None),
    film(7, "On the list", 2019, watched=False, watchlist=True, movie=LATER),
    film(8, "On it too", 2005, watched=False, watchlist=True, movie=UNLIKED),
    film(9, "Not matched", 2001, watched=False, watchlist=True),
    film(10, "Only liked", 2000, watched=False, liked=True),
]
DIARY[0].viewings[0].review = "Again!"
COLLECTIONS = {8091: main.Collection("Alien Collection", {348: "Alien", 679: "Aliens", 8077: "Alien³"})}


def told(bars: list[main.Bar]) -> list[tuple[str, int]]:
    return [(bar.name, bar.count) for bar in bars]


def titles(listed: list[main.ListedFilm]) -> list[tuple[str, float | None]]:
    return [(one.title, one.value) for one in listed]


@pytest.fixture(scope="module")
def ever() -> main.Statistics:
    return main.compute_statistics(DIARY, COLLECTIONS)


@pytest.fixture(scope="module")
def in_2024() -> main.Statistics:
    return main.compute_statistics(DIARY, COLLECTIONS, 2024)


# --- By hand


def test_statistics_say_how_many_films_they_cover(ever: main.Statistics, in_2024: main.Statistics) -> None:
    assert (ever.year, ever.years, ever.films, ever.matched, ever.pending) == (None, [2024, 2023], 6, 5, 0)
    assert (in_2024.year, in_2024.films, in_2024.matched) == (2024, 5, 5)


def test_totals_of_all_time(ever: main.Statistics) -> None:
    totals = ever.totals

    assert (totals.films, totals.series, totals.viewings, totals.undated) == (6, 1, 7, 1)
    # Alien and Blade Runner a second time, and Aliens because it says so.
    assert totals.rewatches == 3
    assert totals.hours == round((2 * 117 + 137 + 2 * 118 + 30) / 60, 1) == 10.6
    assert (totals.days, totals.without_runtime) == (0.4, 2)
    assert (totals.rated, totals.liked, totals.reviewed, totals.watchlist) == (5, 1, 1, 4)
    assert (totals.directors, totals.countries, totals.languages) == (3, 2, 2)
    assert (totals.mean_rating, totals.median_rating) == (3.8, 4.5)
    # 31 December to 2 January; the weeks of 25 December, 1 and 8 January.
    assert (totals.longest_streak_days, totals.longest_streak_weeks, totals.days_with_two_or_more) == (
        3,
        3,
        1,
    )
    # Six dated viewings in the 71 days from 31 December to 10 March.
    assert totals.viewings_per_week == round(6 * 7 / 71, 2) == 0.59
    assert totals.viewings_per_month == round(6 * 30.44 / 71, 2) == 2.57
    assert totals.first and totals.last
    assert (totals.first.title, totals.last.title, totals.milestones) == ("Alien", "Shorty", [])


def test_totals_of_a_year(in_2024: main.Statistics) -> None:
    totals = in_2024.totals

    assert (totals.films, totals.viewings, totals.undated, totals.rewatches) == (5, 5, 0, 3)
    assert totals.hours == round((117 + 137 + 118 + 30) / 60, 1) == 6.7
    assert (totals.longest_streak_days, totals.longest_streak_weeks) == (2, 2)
    assert totals.first
    assert totals.first.title == "Alien"


def test_averages_of_a_year_cover_it_until_today() -> None:
    today = datetime.now(UTC).date()
    year = film(9, "New", today.year, [str(today)] * 2, movie=SHORT)

    past, present = (main.compute_statistics([*DIARY, year], {}, each).totals for each in (2024, today.year))

    assert (past.viewings_per_week, past.viewings_per_month) == (
        round(5 * 7 / 366, 2),
        round(5 * 30.44 / 366, 2),
    )
    assert present.viewings_per_week == round(2 * 7 / max(today.timetuple().tm_yday, 7), 2)


def test_complete_collections_come_last_and_others_name_what_is_missing() -> None:
    diary = [film(n, f"Film {n}", 2000, movie=movie(n)) for n in range(1, 7)]
    known = {
        1: main.Collection("Complete", {1: "One", 2: "Two"}),
        2: main.Collection("Two missing", {3: "Three", 4: "Four", 8: "Eight", 9: "Nine"}),
        3: main.Collection("One missing", {5: "Five", 7: "Seven", 6: "Six"}),
    }

    progress = main.compute_statistics(diary, known).what.completeness

    assert [(one.name, one.missing) for one in progress] == [
        ("One missing", ["Seven"]),
        ("Two missing", ["Eight", "Nine"]),
        ("Complete", []),
    ]


def test_watchlist_shows_the_films_added_last() -> None:
    diary = [
        film(n, f"Film {n}", 2000, watched=n == 30, watchlist=True, watchlist_date=date(2024, 1, n))
        for n in range(1, 31)
    ]

    latest = main.compute_statistics(diary, {}, limit=1).watchlist.latest

    assert [listed.title for listed in latest] == [f"Film {n}" for n in range(29, 5, -1)]


def test_every_fiftieth_viewing_is_a_milestone() -> None:
    start = date(2020, 1, 1)
    diary = [film(n, f"Film {n}", 2000, (f"{start + timedelta(n)}",)) for n in range(1, 121)]

    assert titles(main.compute_statistics(diary, {}).totals.milestones) == [
        ("Film 50", 50),
        ("Film 100", 100),
    ]


def test_viewings_through_time(ever: main.Statistics, in_2024: main.Statistics) -> None:
    time = ever.through_time

    assert told(time.years) == [("2023", 1), ("2024", 5)]
    assert told(time.months) == [("2023-12", 1), ("2024-01", 4), ("2024-03", 1)]
    assert told(in_2024.through_time.months)[:4] == [
        ("2024-01", 4),
        ("2024-02", 0),
        ("2024-03", 1),
        ("2024-04", 0),
    ]
    assert len(in_2024.through_time.months) == 12
    assert told(time.weeks) == [("2023-12-25", 1), ("2024-01-01", 3), ("2024-01-08", 1), ("2024-03-04", 1)]
    assert [bar.count for bar in time.weekdays] == [1, 2, 1, 0, 0, 0, 2]
    assert told(time.days)[2] == ("2024-01-02", 2)
    assert time.days[2].movie_ids == [2, 3]


def test_films_by_release_year_decade_and_age(ever: main.Statistics) -> None:
    time = ever.through_time

    assert told(time.release_years) == [("1979", 1), ("1982", 1), ("1986", 1), ("2023", 1), ("2024", 1)]
    assert [(bar.name, bar.count, bar.mean_rating) for bar in time.decades] == [
        ("1970s", 1, 5),
        ("1980s", 2, 4.25),
        ("2020s", 2, 2.75),
    ]
    assert time.best_decades == []
    # Alien at 44 and 45, Aliens at 38, Blade Runner at 42, Shorty at 0, the series at 1.
    assert [(name, count) for name, count in told(time.ages) if count] == [("0", 1), ("1–4", 1), ("30–49", 4)]
    assert time.mean_age == round((44 + 45 + 38 + 42 + 0 + 1) / 6, 2)


def test_year_is_compared_with_the_one_before(in_2024: main.Statistics, ever: main.Statistics) -> None:
    assert in_2024.year_before == main.YearBefore(2023, viewings=1, films=1, hours=1.9, mean_rating=5)
    assert main.compute_statistics(DIARY, {}, 2023).year_before is None
    assert ever.year_before is None


def test_crowds_histogram_covers_the_compared_films(ever: main.Statistics) -> None:
    ratings = ever.ratings

    # Alien, Aliens, Blade Runner and Shorty. The series has 49 votes.
    assert ratings.compared == sum(ratings.crowd_histogram) == 4
    assert [(n, count) for n, count in told(ratings.compared_histogram) if count] == [
        ("4", 1),
        ("4.5", 2),
        ("5", 1),
    ]
    assert ratings.crowd_histogram == [0, 0, 0, 0, 0, 1, 0, 3, 0, 0]
    assert ratings.compared_mean == round((5 + 4 + 4.5 + 4.5) / 4, 2)
    assert ratings.crowd_mean == round((8.2 + 7.9 + 7.9 + 6.0) / 8, 2)


def test_series_are_apart() -> None:
    series, unknown = movie(1, tmdb_type="tv", runtime=600), movie(2, tmdb_type="tv")
    diary = [
        film(1, "Long", 2019, rating=5, movie=series),
        film(2, "Alien", 1979, movie=ALIEN),
        film(3, "Unknown", 2019, movie=unknown),
    ]
    stats = main.compute_statistics(diary, {})

    assert stats.totals.series_hours == 10
    assert titles(stats.lists.longest) == [("Alien", 117)]
    assert titles(stats.lists.series) == [("Long", 600), ("Unknown", 0)]
    assert [(name, count) for name, count in told(stats.lists.runtimes) if count] == [("90–119", 1)]
    assert stats.totals.series == len(stats.lists.series) == 2
    assert [listed.title for listed in stats.lists.favourites] == ["Alien"]


def test_favourites_are_by_rating_then_likes_then_viewings() -> None:
    diary = [
        film(1, "Seen once", 2000, ("2024-01-01",), rating=4),
        film(2, "Seen twice", 2000, ("2024-01-03", "2024-01-02"), rating=4),
        film(3, "Liked", 2000, rating=4, liked=True),
        film(4, "Best", 2000, rating=5),
        film(5, "Unrated", 2000, liked=True),
    ]

    favourites = main.compute_statistics(diary, {}).lists.favourites

    assert [listed.title for listed in favourites] == ["Best", "Liked", "Seen twice", "Seen once", "Unrated"]


def test_people_have_a_portrait_and_the_posters_of_their_best_films() -> None:
    scott = main.Person("Ridley Scott")
    scott.identity, scott.portrait_url = 578, "https://image.tmdb.org/t/p/w185/scott.jpg"
    diary = [
        film(n, f"Film {n}", 2000, rating=n / 2, movie=movie(n, directors=(scott,), poster_url=f"p{n}"))
        for n in range(1, 9)
    ]

    director = main.compute_statistics(diary, {}).who.directors.most_watched[0]

    assert director.portrait_url == scott.portrait_url
    assert director.poster_urls == ["p8", "p7", "p6", "p5", "p4", "p3"]


def test_world_lists_every_country(ever: main.Statistics) -> None:
    assert told(ever.what.world) == [("United States", 3), ("United Kingdom", 1)]


def test_viewing_before_the_release_year_has_no_age() -> None:
    time = main.compute_statistics([film(1, "x", 2020, ("1401-01-05", "2021-01-01"))], {}).through_time

    assert [(name, count) for name, count in told(time.ages) if count] == [("1–4", 1)]
    assert time.mean_age == 1


def test_ranking_needs_three_rated_films() -> None:
    who = labels(("A", 1))
    diary = [
        film(n, str(n), 2000, rating=rating, movie=movie(n, directors=who))
        for n, rating in ((1, 5), (2, 5), (3, None))
    ]

    directors = main.compute_statistics(diary, {}).who.directors

    assert (told(directors.most_watched), directors.highest_rated) == ([("A", 3)], [])


def test_best_decades_have_three_rated_films_each() -> None:
    rated = {1950: (5, 5), 1960: (3, 3, 3), 1970: (4, 4, 4), 1980: (2, 2, 2), 1990: (4, 4, 5, None)}
    numbers = iter(range(1, 99))
    diary = [
        film(next(numbers), "x", decade, rating=rating)
        for decade, ratings in rated.items()
        for rating in ratings
    ]

    best = main.compute_statistics(diary, {}).through_time.best_decades

    assert [(bar.name, bar.mean_rating) for bar in best] == [("1990s", 4.33), ("1970s", 4), ("1960s", 3)]


def test_ratings_and_the_crowd(ever: main.Statistics) -> None:
    ratings = ever.ratings

    assert told(ratings.histogram) == [
        ("0.5", 0), ("1", 1), ("1.5", 0), ("2", 0), ("2.5", 0),
        ("3", 0), ("3.5", 0), ("4", 1), ("4.5", 2), ("5", 1),
    ]  # fmt: skip
    # The crowd's halves are 4.1, 3.95, 3.95 and 3; the series has too few votes.
    assert titles(ratings.above_crowd) == [
        ("Shorty", 1.5),
        ("Alien", 0.9),
        ("Blade Runner", 0.55),
        ("Aliens", 0.05),
    ]
    assert ratings.below_crowd == []
    assert titles(ratings.obscure)[:2] == [("A Series", 49), ("Shorty", 60)]
    assert titles(ratings.popular)[:2] == [("Alien", 15_000), ("Blade Runner", 13_000)]
    assert titles(ratings.gems) == [("Shorty", 60)]


def test_films_rated_below_the_crowd_are_listed_lowest_first() -> None:
    diary = [
        film(n, str(n), 2000, rating=rating, movie=movie(n, tmdb_rating=8.0, tmdb_votes=50))
        for n, rating in ((1, 3), (2, 0.5), (3, 4))
    ]

    assert titles(main.compute_statistics(diary, {}).ratings.below_crowd) == [("2", -3.5), ("1", -1)]


def test_genres_countries_languages_themes_studios(ever: main.Statistics) -> None:
    what = ever.what

    assert [(b.name, b.count, b.mean_rating) for b in what.genres.most_watched] == [
        ("Science Fiction", 3, 4.5),
        ("Drama", 2, 2.75),
        ("Horror", 1, 5),
        ("Action", 1, 4),
    ]
    assert [(b.name, b.mean_rating) for b in what.genres.highest_rated] == [("Science Fiction", 4.5)]
    assert what.genres.total == 4
    assert told(what.countries.most_watched) == [("United States", 3), ("United Kingdom", 1)]
    assert told(what.languages.most_watched) == [("English", 3), ("Cantonese", 1)]
    assert told(what.themes.most_watched) == [("space", 2), ("war", 1)]
    assert [(b.name, b.tmdb_id, b.movie_ids) for b in what.studios.most_watched] == [("Fox", 25, [1, 2])]
    assert told(what.genre_pairs.most_watched) == [
        ("Horror & Science Fiction", 1),
        ("Action & Science Fiction", 1),
    ]
    assert told(what.collections.most_watched) == [("Alien Collection", 2)]


def test_collections_show_progress(ever: main.Statistics) -> None:
    assert ever.what.completeness == [
        main.CollectionProgress("Alien Collection", 8091, 2, 3, [1, 2], ["Alien³"])
    ]


def test_people_are_identified_by_id_and_count_once_per_film(ever: main.Statistics) -> None:
    who = ever.who

    assert [(b.name, b.tmdb_id, b.count, b.mean_rating) for b in who.directors.most_watched] == [
        ("Ridley Scott", 578, 2, 4.75),
        ("Ridley Scott", 999, 1, 4.5),
        ("James Cameron", 2710, 1, 4),
    ]
    assert told(who.cast.most_watched) == [("Sigourney Weaver", 2)]
    assert told(who.writers.most_watched) == [("James Cameron", 1), ("Stephen King", 1)]
    assert told(who.composers.most_watched) == [("Vangelis", 1)]
    for role in (who.cinematographers, who.editors, who.producers):
        assert role == main.Ranking([], [], 0, 0)


def test_film_lists(ever: main.Statistics, in_2024: main.Statistics) -> None:
    lists = ever.lists

    assert titles(lists.most_rewatched) == [("Alien", 1), ("Blade Runner", 1), ("Aliens", 1)]
    assert titles(lists.longest)[0] == ("Aliens", 137)
    assert titles(lists.shortest)[0] == ("Shorty", 30)
    assert told(lists.runtimes)[:4] == [("0–59", 1), ("60–89", 0), ("90–119", 2), ("120–149", 1)]
    assert (lists.new, lists.old) == ([], [])
    assert titles(in_2024.lists.new) == [("Shorty", 4.5)]
    assert titles(in_2024.lists.old)[:2] == [("Alien", 5), ("Blade Runner", 4.5)]
    # Their first viewings were in 2023, undated, or not logged.
    assert titles(in_2024.lists.most_rewatched) == [("Alien", 1), ("Blade Runner", 1), ("Aliens", 1)]
    assert sum(film.value or 0 for film in in_2024.lists.most_rewatched) == in_2024.totals.rewatches


def test_watchlist(ever: main.Statistics, in_2024: main.Statistics) -> None:
    listed = ever.watchlist

    assert (listed.films, listed.hours, listed.without_runtime, listed.watched_from_it) == (3, 3.2, 1, 1)
    assert told(listed.genres) == [("Horror", 2)]
    assert told(listed.decades) == [("2000s", 2), ("2010s", 1)]
    assert listed.directors == []
    assert in_2024.watchlist == listed


def test_watchlist_lists_the_highest_rated_directors() -> None:
    good, bad = labels(("Good", 1)), labels(("Bad", 2))
    diary = [film(n, str(n), 2000, rating=5, movie=movie(n, directors=good)) for n in range(1, 4)]
    diary += [film(n, str(n), 2000, rating=1, movie=movie(n, directors=bad)) for n in range(4, 7)]
    diary += [
        film(n, str(n), 2000, watched=False, watchlist=True, movie=movie(n, directors=who))
        for n, who in ((7, bad), (8, good), (9, good))
    ]

    directors = main.compute_statistics(diary, {}).watchlist.directors

    assert [(b.name, b.mean_rating, b.count, b.movie_ids) for b in directors] == [
        ("Good", 5, 2, [8, 9]),
        ("Bad", 1, 1, [7]),
    ]


def test_review_counts_in_the_year_of_its_viewing() -> None:
    diary = [film(1, "x", 2000, ("2024-01-01", "2020-01-01")), film(2, "y", 2000)]
    diary[0].viewings[1].review = "Fine."
    for reviewed_film in diary:
        reviewed_film.undated_reviews = [main.Viewing(review="Fine too.")]

    reviewed = [main.compute_statistics(diary, {}, year).totals.reviewed for year in (None, 2020, 2024)]

    assert reviewed == [2, 1, 0]


def test_release_year_falls_back_to_tmdb() -> None:
    diary = [film(1, "x", None, movie=movie(1, release_date="1994-05-05"))]

    assert told(main.compute_statistics(diary, {}).through_time.decades) == [("1990s", 1)]


def test_no_watched_films_is_not_an_error() -> None:
    empty = main.compute_statistics([film(1, "x", 2000, watched=False, watchlist=True)], {}, 2020)

    assert (empty.films, empty.totals.hours, empty.totals.first, empty.totals.mean_rating) == (
        0,
        0,
        None,
        None,
    )


# --- What must hold for any diary


def random_diary(seed: int) -> list[main.Film]:
    dice = random.Random(seed)
    movies = [
        movie(
            n,
            tmdb_type=dice.choice(["movie", "movie", "tv"]),
            runtime=dice.choice([None, 45, 90, 130]),
            genres=tuple(dice.sample(["Drama", "Horror", "War"], dice.randrange(3))),
            directors=labels(*dice.sample([("A", 1), ("A", 2), ("B", 3)], dice.randrange(3))),
            tmdb_rating=dice.choice([None, 3.1, 7.9]),
            tmdb_votes=dice.choice([0, 49, 50, 5000]),
        )
        for n in range(1, 12)
    ]
    days = ["-", *(str(date(2019, 1, 1) + timedelta(dice.randrange(1500))) for _ in range(30))]
    return [
        film(
            n,
            f"Film {n}",
            dice.choice([None, *range(1920, 2025)]),
            sorted(dice.choices(days, k=dice.choice([0, 0, 1, 2, 3])), reverse=True) if watched else (),
            rating=dice.choice([None, 0.5, 3, 4.5, 5]) if watched else None,
            watched=watched,
            watchlist=dice.random() < 0.3,
            movie=dice.choice([None, *movies]),
        )
        for n in range(1, 60)
        for watched in [dice.random() < 0.8]
    ]


@pytest.mark.parametrize("seed", range(25))
def test_parts_sum_to_wholes(seed: int) -> None:
    diary = random_diary(seed)
    ever = main.compute_statistics(diary, {}, limit=100)
    years = [main.compute_statistics(diary, {}, year, limit=100) for year in ever.years]

    time, dated = ever.through_time, ever.totals.viewings - ever.totals.undated
    assert sum(year.totals.viewings for year in years) == dated
    assert sum(year.totals.rewatches for year in years) <= ever.totals.rewatches
    for bars in (time.years, time.months, time.weeks, time.weekdays, time.days):
        assert sum(bar.count for bar in bars) == dated
    for year in years:
        assert {bar.name: bar.count for bar in time.years}[str(year.year)] == year.totals.viewings
        assert sum(bar.count for bar in year.through_time.months) == year.totals.viewings
    assert sum(bar.count for bar in ever.ratings.histogram) == ever.totals.rated
    assert sum(bar.count for bar in time.decades) == sum(bar.count for bar in time.release_years)
    series = sum(listed.value != 0 for listed in ever.lists.series)
    assert sum(bar.count for bar in ever.lists.runtimes) == ever.films - ever.totals.without_runtime - series
    assert sum(film.value or 0 for film in ever.lists.most_rewatched) == ever.totals.rewatches
    assert ever.totals.watchlist == ever.watchlist.films + ever.watchlist.watched_from_it
    shared = {same[0]: same for same in ever.same_record}
    given = [[diary[m - 1].rating for m in shared.get(n, [n])] for n in range(1, len(diary) + 1)]
    rating = [next((rating for rating in same if rating is not None), None) for same in given]
    for bar in [*ever.what.genres.most_watched, *ever.who.directors.most_watched]:
        assert bar.count == len(bar.movie_ids)
        ratings = [rating[n - 1] for n in bar.movie_ids if rating[n - 1] is not None]
        assert bar.mean_rating == (round(sum(r or 0 for r in ratings) / len(ratings), 2) if ratings else None)


# --- Over HTTP


async def test_statistics_of_the_sample_by_year_and_limit(api: Api) -> None:
    upload = await api.upload(SAMPLE_FILE)
    await api.ended(upload["session_id"])
    url = f"/api/session/{upload['session_id']}/stats"
    movies = await api.movies(upload["session_id"])

    ever, year, long = [(await api.get(url + query)).json() for query in ("", "?year=2024", "?limit=100")]

    assert (ever["films"], ever["matched"], ever["pending"]) == (133, 131, 0)
    days = [day for movie in movies for day in movie["watched_dates"] if day.startswith("2024")]
    assert (year["year"], year["totals"]["viewings"]) == (2024, len(days))
    directors = ever["who"]["directors"]
    assert directors["most_watched"][0]["name"] == "Quentin Tarantino"
    assert directors["most_watched"][0]["count"] == 6
    assert len(directors["most_watched"]) == 10
    assert len(long["who"]["directors"]["most_watched"]) == min(directors["total"], 100)


async def test_statistics_are_available_during_lookup(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    upload = await api.upload(SAMPLE_FILE)

    response = await api.get(f"/api/session/{upload['session_id']}/stats")

    assert response.status_code == 200
    assert (response.json()["films"], response.json()["pending"]) == (133, 133)
    assert response.json()["totals"]["rated"] > 0


@pytest.mark.parametrize("query", ["year=0", "year=x", "limit=0", "limit=101"])
async def test_wrong_year_or_limit_is_a_422(query: str, api: Api) -> None:
    upload = await api.upload(*files(watched="2024-01-02,Dune,2021,"))

    response = await api.get(f"/api/session/{upload['session_id']}/stats?{query}")

    assert response.status_code == 422
    assert response.json()["detail"].startswith(query.partition("=")[0])


async def test_duplicate_files_do_not_change_statistics(api: Api) -> None:
    once, twice = await api.upload(FEW), await api.upload(FEW, FEW)
    for upload in (once, twice):
        await api.ended(upload["session_id"])

    one, other = [(await api.get(f"/api/session/{u['session_id']}/stats")).json() for u in (once, twice)]

    assert one == other


def test_film_logged_twice_on_one_day_is_rewatched_once() -> None:
    diary = """2024-01-03,Dune,2021,https://boxd.it/a1,,,,2024-01-02
        2024-01-03,Dune,2021,https://boxd.it/a2,,Yes,,2024-01-02"""
    (dune,) = export(diary="\n".join(map(str.strip, diary.splitlines()))).films

    totals = main.compute_statistics([dune], {}).totals

    assert (totals.viewings, totals.rewatches) == (2, 1)


async def test_collections_are_requested_once(serve: Serve) -> None:
    collection = {"id": 77, "name": "Reels"}
    bodies = [body | {"belongs_to_collection": collection} for body in made_up(6)]
    bodies[3]["release_date"], bodies[4]["release_date"] = "2999-01-01", ""
    bodies[5]["belongs_to_collection"] = {"id": 78, "name": "One seen"}
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        watched = "\n".join(
            f"2024-01-02,{body['title']},{body['release_date'][:4]}," for body in (*bodies[:2], bodies[5])
        )
        for _ in range(2):
            upload = await api.upload(*files(watched=watched))
            await api.ended(upload["session_id"])
        stats = (await api.get(f"/api/session/{upload['session_id']}/stats")).json()

        assert stats["what"]["completeness"] == [
            {
                "name": "Reels",
                "tmdb_id": 77,
                "watched": 2,
                "released": 3,
                "movie_ids": [1, 2],
                "missing": ["Reel2"],
            }
        ]
        assert tmdb.calls("collection/") == 1


async def test_correction_into_a_collection_loads_it(serve: Serve) -> None:
    bodies = [body | {"belongs_to_collection": {"id": 77, "name": "Reels"}} for body in made_up(2)]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        upload = await api.upload(*files(watched="2024-01-02,Reel0,1930,\n2024-01-02,Unheard of,1999,"))
        await api.ended(upload["session_id"])
        session = f"/api/session/{upload['session_id']}"

        choice = {"tmdb_id": bodies[1]["id"], "tmdb_type": "movie"}
        assert (await api.put(f"{session}/movies/2/match", json=choice)).status_code == 200

        assert (await api.get(f"{session}/stats")).json()["what"]["completeness"][0]["watched"] == 2


async def test_unknown_collection_is_requested_once(serve: Serve) -> None:
    bodies = [body | {"belongs_to_collection": {"id": 404, "name": "Gone"}} for body in made_up(2)]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        given = files(watched="2024-01-02,Reel0,1930,\n2024-01-02,Reel1,1931,")
        for _ in range(2):
            await api.ended((await api.upload(*given))["session_id"])

        assert tmdb.calls("collection/") == 1


async def test_unavailable_collection_is_left_out(serve: Serve) -> None:
    bodies = [body | {"belongs_to_collection": {"id": 404, "name": "Gone"}} for body in made_up(2)]
    async with FakeTMDB(bodies) as tmdb:
        api = await serve(tmdb_base_url=tmdb.url)
        watched = "\n".join(f"2024-01-02,{body['title']},{body['release_date'][:4]}," for body in bodies)
        upload = await api.upload(*files(watched=watched))

        status = await api.ended(upload["session_id"])
        stats = (await api.get(f"/api/session/{upload['session_id']}/stats")).json()

    assert (status["status"], status["enriched_count"]) == ("completed", 2)
    assert stats["what"]["completeness"] == []


# --- Computed once


async def test_simultaneous_requests_share_one_computation(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int | None] = []

    def counting(session: main.Session, year: int | None, limit: int) -> bytes:
        computed.append(year)
        return statistics_json(session, year, limit)

    statistics_json = main.statistics_json
    monkeypatch.setattr(main, "statistics_json", counting)
    session = f"/api/session/{(await api.upload(FEW))['session_id']}"
    await api.ended(session.rpartition("/")[2])

    answers = await asyncio.gather(*(api.get(f"{session}/stats") for _ in range(40)))
    again = await api.get(f"{session}/stats")
    assert (await api.delete(f"{session}/movies/1/match")).status_code == 204
    changed = await api.get(f"{session}/stats")

    assert {answer.text for answer in answers} == {again.text}
    assert changed.json()["matched"] == again.json()["matched"] - 1
    assert computed == [None, None]


async def test_statistics_asked_for_after_a_change_have_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while older ones are being computed."""
    begun, go_on, statistics_json = threading.Event(), threading.Event(), main.statistics_json

    def slow(*given: Any) -> bytes:
        computed = statistics_json(*given)
        begun.set()
        go_on.wait(10)
        return computed

    monkeypatch.setattr(main, "statistics_json", slow)
    session = f"/api/session/{(await api.upload(*files(watched='2024-01-02,Inception,2010,')))['session_id']}"
    await api.ended(session.rpartition("/")[2])
    before = asyncio.create_task(api.get(f"{session}/stats"))
    await asyncio.to_thread(begun.wait, 10)

    assert (await api.delete(f"{session}/movies/1/match")).status_code == 204
    after = asyncio.create_task(api.get(f"{session}/stats"))
    await asyncio.sleep(0.05)
    go_on.set()

    assert (await before).json()["matched"] == 1
    assert (await after).json()["matched"] == 0


def test_crowds_histogram_rounds_halves_up() -> None:
    rated = {6.5: 7, 7.5: 8, 6.4: 6, 0.2: 1, 10.0: 10}

    for crowd, column in rated.items():
        body = main.MovieBody.model_validate({"id": 1, "vote_count": 99, "vote_average": crowd})
        movie = main.movie_of("movie", body, main.NameFactory())
        film = main.Film("Dune", 2021, watched=True, rating=4, match=main.Match("exact", "", movie))
        histogram = main.compute_statistics([film], {}).ratings.crowd_histogram
        assert histogram.index(1) + 1 == column


async def test_latest_statistics_are_cached() -> None:
    session = main.Session(export(watched="2024-01-02,Dune,2021,"), 1, lambda: 0)

    async def compute() -> bytes:
        return b"{}"

    for year in range(100):
        await session.compute(year, compute)

    assert len(session._computed) == main.MAX_COMPUTED


# --- Films with one record


SEVEN = movie(807, runtime=127, directors=labels(("David Fincher", 7467)), collections=labels(("Sins", 1)))
PANIC = movie(4547, runtime=112, directors=labels(("Sam Raimi", 7623)))


def test_films_with_one_record_count_once() -> None:
    films = [
        film(1, "Se7en", 1995, movie=SEVEN),
        film(2, "Seven", 1995, movie=SEVEN, rating=4.5),
        film(3, "Darkman", 1990, movie=PANIC, rating=3),
        film(4, "Lost", None),
        film(5, "Lost", None),
    ]

    found = main.compute_statistics(films, {1: main.Collection("Sins", {807: "Se7en", 808: "Shrek"})})

    assert (found.films, found.totals.films, found.totals.hours, found.totals.rated) == (4, 4, 4.0, 2)
    assert [(bar.name, bar.count) for bar in found.who.directors.most_watched] == [
        ("David Fincher", 1),
        ("Sam Raimi", 1),
    ]
    assert (found.totals.mean_rating, found.what.completeness) == (3.75, [])
    assert found.same_record == [[1, 2]]


def test_films_with_one_record_have_what_is_logged_of_each() -> None:
    films = [
        film(1, "Se7en", 1995, ["2024-01-05", "2023-01-05"], movie=SEVEN),
        film(2, "Seven", 1995, ["2024-01-05", "2022-01-01", "-"], movie=SEVEN, watched=False, liked=True),
        film(3, "Sept", 1995, movie=SEVEN, watched=False, watchlist=True),
    ]

    found, in_2022 = main.compute_statistics(films, {}), main.compute_statistics(films, {}, 2022)

    totals = found.totals
    assert (totals.films, totals.viewings, totals.rewatches, totals.undated) == (1, 4, 3, 1)
    assert (totals.liked, totals.watchlist, found.watchlist.films) == (1, 1, 0)
    assert (in_2022.films, in_2022.same_record, films[0].liked) == (1, [[1, 2, 3]], False)


def test_film_and_series_with_one_number_are_two() -> None:
    found = main.compute_statistics([film(1, "A", 1979, movie=ALIEN), film(2, "B", 1990, movie=SERIES)], {})

    assert (found.films, found.same_record) == (2, [])


def test_members_own_tags_are_ranked() -> None:
    read = export(
        diary='2024-01-03,Dune,2021,https://boxd.it/3nNzH,4,,"cinema, sand",2024-01-02\n'
        "2024-01-04,Dune,2021,https://boxd.it/3nPj7,4,Yes,cinema,2024-01-03\n"
        "2024-01-05,Her,2013,https://boxd.it/3nPzv,2,,cinema,2024-01-04"
    )

    tags = main.compute_statistics(read.films, {}).what.tags

    assert [(bar.name, bar.count, bar.mean_rating) for bar in tags.most_watched] == [
        ("cinema", 2, 3.0),
        ("sand", 1, 4.0),
    ]


def test_films_that_were_rated_in_another_way_later_are_listed() -> None:
    rows = [("A", 2, 1), ("A", 4.5, 2), ("B", 4, 3), ("B", 3, 5), ("B", "", 4), ("C", 3, 6), ("C", 3, 7)]
    read = export(diary="\n".join(f"2024-01-0{d},{t},2001,,{r},,,2024-01-0{d}" for t, r, d in rows))

    rerated = main.compute_statistics(read.films, {}).lists.rerated

    assert [(film.title, film.value) for film in rerated] == [("A", 2.5), ("B", -1)]
