"""The lists of an export and its profile, over HTTP."""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import Any

import pytest

from tests.bench import ratings
from tests.conftest import SAMPLE_FILE, Api, Serve, files
from tests.fake_tmdb import FakeTMDB, made_up
from tests.test_matches import CHERNOBYL, INCEPTION, PARASITE, done, get, titles

PROFILE = (
    "profile.csv",
    b"Date Joined,Username,Given Name,Email Address,Favorite Films\n"
    b'2020-01-01,ann,Ann,ann@example.org,"https://boxd.it/hTha, https://boxd.it/1skk"',
)


def film_list(name: str, *entries: str, note: str = "") -> tuple[str, bytes]:
    rows = "".join(f"{n},{entry},{note}\n" for n, entry in enumerate(entries, 1))
    head = f"Letterboxd list export v7\nDate,Name,Tags,URL,Description\n2020-01-02,{name},fun,https://boxd.it/4Cxi,Why\n"
    return f"lists/{name.lower()}.csv", f"{head}\nPosition,Name,Year,URL,Description\n{rows}".encode()


def of(film: str) -> str:
    """Name, year and address of a row."""
    return film.split(",", 1)[1]


async def only(api: Api, session: str) -> Any:
    (made,) = await get(api, f"{session}/lists")
    return made


async def test_list_beside_an_export_shows_how_far_the_member_is(api: Api) -> None:
    made = film_list("Best", of(CHERNOBYL), of(PARASITE), "Dune,1984,", of(INCEPTION), note="wow")
    rated = files(watched=f"{INCEPTION}\n{PARASITE}", ratings=f"{INCEPTION},4\n{PARASITE},4.5")

    session = await done(api, *rated, made, PROFILE)

    best = await only(api, session)
    movies = await get(api, f"{session}/movies")
    assert [movie["title"] for movie in movies] == ["Inception", "Parasite", "Chernobyl", "Dune"]
    left = sum(movie["runtime"] or 0 for movie in movies[2:]) / 60
    assert best == {
        "id": 1,
        "name": "Best",
        "description": "Why",
        "tags": ["fun"],
        "list_date": "2020-01-02",
        "letterboxd_uri": "https://boxd.it/4Cxi",
        "films": 4,
        "watched": 2,
        "mean_rating": 4.25,
        "hours_left": round(left, 1),
        "movie_ids": [3, 2, 4, 1],
    }
    assert [movie["lists"] for movie in movies] == [[1]] * 4
    assert (await get(api, session))["profile"] == {"username": "ann", "name": "Ann", "favourites": [2, 1]}
    assert "example.org" not in (await api.get(session)).text
    totals = (await get(api, f"{session}/stats"))["totals"]
    assert (totals["films"], totals["watchlist"]) == (2, 0)


async def test_list_alone_is_a_session(api: Api) -> None:
    session = await done(api, film_list("Best", of(INCEPTION), of(PARASITE)))

    assert (await only(api, session))["watched"] == 0
    assert [m["match"]["status"] for m in await get(api, f"{session}/movies")] == ["exact", "exact"]
    assert (await get(api, f"{session}/stats"))["films"] == 0
    assert (await get(api, session))["profile"] is None


async def test_films_are_filtered_by_list(api: Api) -> None:
    given = film_list("One", of(PARASITE)), film_list("Two", of(PARASITE), of(CHERNOBYL))

    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}"), *given)

    assert await titles(api, f"{session}/movies?in=1") == ["Parasite"]
    assert await titles(api, f"{session}/movies?in=2") == ["Parasite", "Chernobyl"]
    assert await titles(api, f"{session}/movies?in=2&list=watched") == ["Parasite"]
    assert [m["lists"] for m in await get(api, f"{session}/movies")] == [[], [1, 2], [2]]
    missing = await api.get(f"{session}/lists/3.csv")
    assert (missing.status_code, missing.json()["detail"][:28]) == (404, "This session has no list 3; ")


async def test_canon_of_a_thousand_and_one_films_and_two_hundred_seen(api: Api, tmdb: FakeTMDB) -> None:
    canon = made_up(1_001)
    tmdb.knows(canon)
    rows = ratings(1_001).decode().splitlines()
    seen = "\n".join(rows[:201]).encode()
    entries = (f"{n},{row.split(',', 1)[1].rpartition(',')[0]}," for n, row in enumerate(rows[1:], 1))
    loose = "\n".join(["Position,Name,Year,URL,Description", *entries]).encode()

    session = await done(api, ("ratings.csv", seen), ("1001-films.csv", loose))

    made = await only(api, session)
    assert (made["name"], made["films"], made["watched"]) == ("1001-films", 1_001, 200)
    left = sum(film["runtime"] for film in canon[200:]) / 60
    assert made["hours_left"] == round(left, 1)
    assert made["mean_rating"] == 2.75  # of ten equally frequent ratings
    assert (await get(api, f"{session}/stats"))["films"] == 200


async def test_namesakes_in_a_list_are_two_films(api: Api) -> None:
    made = film_list("Wells", "Cinderella,1922,https://boxd.it/fA7G", "Cinderella,1922,https://boxd.it/4O24")

    session = await done(api, *files(watched="2024-01-02,Cinderella,1922,https://boxd.it/4O24"), made)

    assert ((await only(api, session))["films"], (await only(api, session))["watched"]) == (2, 1)


async def test_list_can_be_taken_away_and_uploaded_again(api: Api) -> None:
    made = film_list("=Best", of(CHERNOBYL), of(INCEPTION), note="-why")
    session = await done(api, made, *files(watched=INCEPTION))

    content = (await api.get(f"{session}/lists/1.csv")).content
    again = await done(api, ("lists/best.csv", content), *files(watched=INCEPTION))

    assert content.startswith(b"Letterboxd list export v7\r\n")
    assert await get(api, f"{session}/lists") == await get(api, f"{again}/lists")
    assert (await api.get(f"{again}/lists/1.csv")).content == content


async def test_newer_export_brings_its_lists(api: Api) -> None:
    session = await done(api, *files(watched=f"{INCEPTION}\n{PARASITE}"), film_list("Old", of(INCEPTION)))

    newer = [
        *files(watched=f"{INCEPTION}\n{PARASITE}"),
        film_list("New", of(PARASITE), of(INCEPTION)),
        PROFILE,
    ]
    answer = await api.post(f"{session}/export", files=[("files", file) for file in newer])
    await api.ended(session.rpartition("/")[2])

    assert answer.json()["changed_count"] == 0
    made = await only(api, session)
    assert (made["name"], made["movie_ids"]) == ("New", [2, 1])
    assert (await get(api, session))["profile"]["username"] == "ann"


async def test_lists_of_the_sample_are_read_from_its_zip(api: Api) -> None:
    session = await done(api, SAMPLE_FILE)

    made = await get(api, f"{session}/lists")

    assert [(each["name"], each["watched"], each["films"]) for each in made] == [
        ("Heists", 1, 1),
        ("Nights with the family", 9, 12),
        ("Tomorrow, as it was", 10, 10),
        ("World cinema to start with", 9, 17),
    ]
    assert (await get(api, session))["profile"]["name"] == "Robin"


@pytest.mark.in_memory
async def test_lists_count_toward_the_limits(serve: Serve) -> None:
    api = await serve(max_films=2)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(*film_list("Best", of(CHERNOBYL), of(INCEPTION), of(PARASITE)))

    answer = await api.post("/api/upload", files={"files": ("export.zip", packed.getvalue())})

    assert (answer.status_code, answer.json()["detail"]) == (413, "The upload has over 2 films (MAX_FILMS).")
