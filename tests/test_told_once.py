"""What has to be said in several places is the same in all of them."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

import main
from tests.conftest import HEADERS, ROOT

SOURCE = (ROOT / "main.py").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PAGE = "".join(path.read_text("utf-8") for path in sorted((ROOT / "page").glob("*.js")))


def names(record: type) -> list[str]:
    return [field.name for field in fields(record)]


def every_error(kind: type[main.ServiceError] = main.ServiceError) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in kind.__subclasses__():
        if each.__module__ == "main":
            found |= {each.__name__: each.status} | every_error(each)
    return found


def test_tree_of_errors_has_every_error_with_its_status() -> None:
    drawn = re.findall(r"(?m)^#[ │]+[├└]─ (\w+) +(\d{3})?", SOURCE)

    errors = every_error()

    assert [name for name, _ in drawn] == list(errors)
    assert {name: int(status) for name, status in drawn if status}.items() <= errors.items()


def test_every_status_of_an_error_is_described_in_the_readme() -> None:
    """Those of the errors, of Guard and of FastAPI, and 500 for a bug."""
    described = set(map(int, re.findall(r"(?m)^\| (\d{3}) \|", README)))

    assert described == {*every_error().values(), 403, 421, 422, 500}


def test_every_match_status_is_described_and_shown() -> None:
    for status in get_args(main.MatchStatus):
        assert re.search(rf"(?m)^- .*`{status}`", README), status
        assert re.search(rf"\b{status}\b", PAGE), status


def test_sort_keys_and_lists_are_those_of_the_query() -> None:
    keys = get_args(get_args(main.MovieFilter.model_fields["sort"].annotation)[0])
    lists = get_args(get_args(main.MovieFilter.model_fields["in_list"].annotation)[0])

    assert {*keys} == {sign + key for key in main.SORT_VALUES for sign in ("", "-")}
    assert {*lists} == {*main.LISTS}
    assert all(f"`{name}`" in README for name in {*main.SORT_VALUES, *main.LISTS})


def test_files_of_an_export_are_the_same_everywhere() -> None:
    (pattern,) = re.findall(r"EXPORTED = /\^\(\?:(.*?)\)\\\.csv", PAGE)

    assert {f"{name}.csv" for name in pattern.replace("\\", "").split("|")} == main.FILM_FILES
    assert {f"{name}.csv" for name in HEADERS} == main.FILM_FILES
    assert all(f"`{name}`" in README for name in main.FILM_FILES)


def test_roles_are_the_same_everywhere() -> None:
    roles = ["directors", "cast", *main.JOBS]

    assert names(main.People) == roles
    assert set(roles) <= set(names(main.Movie)) & set(main.MovieView.model_fields)
    assert set(re.findall(r"stats\.who\.(\w+)", PAGE)) <= set(roles)


def test_every_field_of_a_record_is_shown_and_hides_none_of_the_members() -> None:
    """`title` is shown as tmdb_title, and the only collection by its name."""
    record = set(names(main.Movie)) - {"title", "collections", "other_titles"}

    assert record <= set(main.RECORD_FIELDS)
    assert not record & main.LoggedView.model_fields.keys()
