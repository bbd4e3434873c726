from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

import main
from tests.conftest import FEW, SAMPLE_FILE, SHARED, Api, Clock, Serve, files
from tests.fake_tmdb import V3_KEY, FakeTMDB

DUNE = "2024-01-02,Dune,2021,https://boxd.it/fA7G"


async def test_upload_poll_read_delete(api: Api, tmdb: FakeTMDB) -> None:
    response = await api.post("/api/upload", files={"files": SAMPLE_FILE})

    uploaded = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/session/{uploaded['session_id']}"
    assert {"session_id", "status", "total_movies", "created_at", "expires_at", "files", "warnings"} <= set(
        uploaded
    )
    status = await api.ended(uploaded["session_id"])
    assert set(status) == {
        "session_id", "status", "total_movies", "processed_count", "enriched_count", "not_found_count",
        "failed_count", "progress_percent", "eta_seconds", "created_at", "expires_at", "warnings",
        "error_message", "revision", "waiting_for", "profile",
    }  # fmt: skip
    assert (status["status"], status["processed_count"], status["progress_percent"]) == (
        "completed",
        159,
        100,
    )
    assert (status["enriched_count"], status["not_found_count"], status["failed_count"]) == (156, 3, 0)
    movies = await api.movies(uploaded["session_id"])
    inception = next(movie for movie in movies if movie["title"] == "Inception")
    assert inception["watched_dates"] == ["2025-06-01", "2025-06-01"]
    assert (inception["rating"], inception["rewatch"], inception["tags"]) == (
        2.5,
        True,
        ["cinema", "with friends"],
    )
    assert (inception["tmdb_id"], inception["tmdb_type"], inception["runtime"]) == (27205, "movie", 148)
    assert inception["directors"] == ["Christopher Nolan"]
    assert len(inception["cast"]) == 15
    assert inception["match"] == {
        "status": "exact",
        "reason": "Title, year and Letterboxd's own number agree.",
    }
    assert (await api.delete(response.headers["Location"])).status_code == 204
    assert (await api.get(response.headers["Location"])).status_code == 404


async def test_films_are_readable_before_tmdb_answers(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 1

    session_id = (await api.upload(SAMPLE_FILE))["session_id"]
    movies = await api.movies(session_id)

    assert len(movies) == 159
    assert movies[0]["match"]["status"] == "pending"
    assert movies[0]["genres"] == []
    assert movies[0]["tmdb_enriched"] is False
    assert (await api.delete(f"/api/session/{session_id}")).status_code == 204


async def test_pages_cover_all_films_in_one_order(api: Api) -> None:
    session_id = (await api.upload(FEW))["session_id"]
    before = [movie["title"] for movie in await api.movies(session_id)]
    await api.ended(session_id)

    titles, url = [], f"/api/session/{session_id}/movies?limit=5"
    while url:
        response = await api.get(url)
        titles += [movie["title"] for movie in response.json()]
        url = response.links.get("next", {}).get("url", "")

    assert titles == before
    assert response.headers["X-Total-Count"] == "19"


async def test_second_upload_of_an_export_makes_no_tmdb_calls(api: Api, tmdb: FakeTMDB) -> None:
    await api.ended((await api.upload(FEW))["session_id"])
    calls = tmdb.calls()

    await api.ended((await api.upload(FEW))["session_id"])

    assert tmdb.calls() == calls


async def test_ten_simultaneous_uploads_make_the_calls_of_one(serve: Serve, tmdb: FakeTMDB) -> None:
    alone = await serve(database_url="")  # the other one will know no film yet
    await alone.ended((await alone.upload(FEW))["session_id"])
    calls = tmdb.calls()
    crowded = await serve()

    uploads = await asyncio.gather(*(crowded.upload(FEW) for _ in range(10)))
    await asyncio.gather(*(crowded.ended(upload["session_id"]) for upload in uploads))

    assert tmdb.calls() == 2 * calls


async def test_import_format_takes_one_call_per_film(api: Api, tmdb: FakeTMDB) -> None:
    csv = b"tmdbID,Title,Year,Rating\n27205,Inception,2010,4.5\n496243,Parasite,2019,5\n"

    session_id = (await api.upload(("import.csv", csv)))["session_id"]
    status = await api.ended(session_id)

    assert status["enriched_count"] == 2
    assert tmdb.calls() == 2


async def test_export_is_readable_without_a_key(serve: Serve) -> None:
    api = await serve(tmdb_api_key="")

    session_id = (await api.upload(SAMPLE_FILE))["session_id"]
    status = await api.ended(session_id)

    assert status["status"] == "completed"
    assert status["error_message"] == "No TMDB_API_KEY is set, so no film was looked up."
    assert len(await api.movies(session_id)) == 159
    assert (await api.get("/health")).json()["tmdb_key"] == "missing"


async def test_session_and_health_report_a_rejected_key(serve: Serve) -> None:
    api = await serve(tmdb_api_key="f" * 32)

    status = await api.ended((await api.upload(FEW))["session_id"])

    assert status["status"] == "failed"
    assert "TMDB_API_KEY" in status["error_message"]
    assert (await api.get("/health")).json()["tmdb_key"] == "rejected"


async def test_expired_session_is_a_404(serve: Serve, clock: Clock) -> None:
    api = await serve(session_ttl_seconds=0.5)
    session_id = (await api.upload(*files(watched=DUNE)))["session_id"]
    await api.ended(session_id)

    clock.now += 0.6
    async with asyncio.timeout(10):  # PostgreSQL has a clock of its own
        while (answer := await api.get(f"/api/session/{session_id}")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert answer.status_code == 404


# --- Errors


async def refused(api: Api, *given: tuple[str, bytes]) -> tuple[int, str]:
    response = await api.post("/api/upload", files=[("files", file) for file in given])
    assert set(response.json()) == {"detail"}
    return response.status_code, response.json()["detail"]


async def test_unusable_upload_is_a_400_file_by_file(api: Api) -> None:
    status, detail = await refused(api, ("notes.txt", b"hello"), ("a.csv", b""))

    assert status == 400
    assert "notes.txt: " in detail
    assert "a.csv: is empty" in detail


@pytest.mark.parametrize("path", ["", "/movies"])
@pytest.mark.parametrize("session_id", ["Wm9XbK3vS4mZ0uH2aQ7c1w", "x", "%00", "ä"])
async def test_unknown_session_is_a_404(session_id: str, path: str, api: Api) -> None:
    response = await api.get(f"/api/session/{session_id}{path}")

    assert response.status_code == 404
    assert response.json()["detail"].startswith("There is no such session")


async def test_too_many_bytes_or_films_is_a_413(serve: Serve) -> None:
    small, few = await serve(max_upload_bytes=1000), await serve(max_films=10)

    assert await refused(small, ("watched.csv", b"x" * 5000)) == (
        413,
        "The upload is over 1,000 bytes (MAX_UPLOAD_BYTES).",
    )
    assert (await refused(few, SAMPLE_FILE))[0] == 413


@pytest.mark.parametrize("query", ["skip=-1", "limit=0", "limit=1001", "limit=x"])
async def test_invalid_paging_is_a_422_with_a_sentence(query: str, api: Api) -> None:
    session_id = (await api.upload(*files(watched=DUNE)))["session_id"]

    response = await api.get(f"/api/session/{session_id}/movies?{query}")

    assert response.status_code == 422
    assert response.json()["detail"].startswith(query.partition("=")[0])


async def test_upload_under_another_field_name_is_a_422(api: Api) -> None:
    response = await api.post("/api/upload", files={"file": SAMPLE_FILE})

    assert response.status_code == 422
    assert "files" in response.json()["detail"]


async def test_full_store_is_a_503_with_retry_after(serve: Serve) -> None:
    api = await serve(max_sessions=1)
    await api.upload(FEW)

    response = await api.post("/api/upload", files={"files": FEW})

    assert response.status_code == 503
    assert 0 < int(response.headers["Retry-After"]) <= 3600


async def test_logs_and_responses_contain_no_secrets(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    session_id = (await api.upload(FEW))["session_id"]
    await api.ended(session_id)

    answers = [await api.get(path) for path in ("/health", "/openapi.json", "/api/session/unknown")]

    logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert session_id[:6] in logged
    assert session_id not in logged
    assert V3_KEY not in logged + "".join(answer.text for answer in answers)


async def test_session_keeps_the_warnings_of_its_upload(api: Api) -> None:
    uploaded = await api.upload(*files(ratings="2024-01-02,Dune,2021,,9\n2024-01-02,Alien,1979,,4"))

    session = await api.ended(uploaded["session_id"])

    assert "rating '9'" in uploaded["warnings"][0]
    assert session["warnings"] == uploaded["warnings"]


# --- Around it


async def test_page_and_docs_are_served(api: Api) -> None:
    page, docs = await api.get("/"), await api.get("/docs")

    assert (page.status_code, docs.status_code) == (200, 200)
    assert "This product uses the TMDB API but is not endorsed or certified by TMDB." in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/page/main.js", "/api/session/{id}/movies.csv"])
async def test_head_is_a_get_without_the_body(path: str, api: Api) -> None:
    path = path.format(id=(await api.upload(FEW))["session_id"])
    given = {"Accept-Encoding": "identity"}

    head, get = await api.head(path, headers=given), await api.get(path, headers=given)

    assert (head.status_code, head.content) == (200, b"")
    assert {*head.headers} == {*get.headers}


async def test_film_of_the_diary_alone_has_the_address_of_its_entry(api: Api) -> None:
    row = "2024-01-02,Inception,2010,https://boxd.it/1skl,4,,,2024-01-02"
    session_id = (await api.upload(*files(diary=row)))["session_id"]

    (film,) = await api.movies(session_id)

    assert film["letterboxd_uri"] == "https://boxd.it/1skl"


async def test_progress_has_one_decimal_and_the_time_left_none(api: Api) -> None:
    session = f"/api/session/{(await api.upload(FEW))['session_id']}"
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] == "enriching":
        seen.append((await api.get(session)).json())

    percents = [status["progress_percent"] for status in seen]
    assert percents == [round(percent, 1) for percent in percents]
    assert all((status["progress_percent"] == 100) == (status["status"] == "completed") for status in seen)
    assert all(isinstance(status["eta_seconds"], int | None) for status in seen)


async def test_docs_load_nothing_from_elsewhere(api: Api) -> None:
    docs = await api.get("/docs")

    assert re.findall(r'(?:src|href)="(?:https?:)?//', docs.text) == []
    assert "http" not in docs.headers["Content-Security-Policy"]
    for part in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', docs.text):
        assert (await api.get(f"/{part}")).status_code == 200


def test_upload_is_described_as_files() -> None:
    """Swagger UI shows them as file inputs then, and generated clients send them as files."""
    files = main.app.openapi()["components"]["schemas"]["Body_upload"]["properties"]["files"]

    assert files["items"] == {"type": "string", "format": "binary"}


def test_errors_share_one_schema() -> None:
    description = main.app.openapi()
    calls = [call for methods in description["paths"].values() for call in methods.values()]
    errors = [call["responses"]["default"]["content"]["application/json"]["schema"] for call in calls]

    assert len(errors) > 15
    assert all(schema == {"$ref": "#/components/schemas/ErrorView"} for schema in errors)
    assert "ErrorView" in description["components"]["schemas"]


def test_docs_describe_every_call() -> None:
    calls = [call for methods in main.app.openapi()["paths"].values() for call in methods.values()]

    assert all(call["summary"] and call["description"] for call in calls)
    assert "HTTPValidationError" not in main.app.openapi()["components"]["schemas"]


async def test_only_configured_origins_may_read(serve: Serve) -> None:
    api = await serve(cors_origins="http://localhost:3000")

    known = await api.get("/health", headers={"Origin": "http://localhost:3000"})
    other = await api.get("/health", headers={"Origin": "http://evil.example"})

    assert known.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_configured_origins_may_use_every_method(method: str, serve: Serve) -> None:
    api = await serve(cors_origins="http://localhost:3000")
    asks = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": method}

    preflight = await api.options("/api/session/x/movies/1/match", headers=asks)
    answer = await api.get("/health", headers=asks)

    assert preflight.status_code == 200
    assert method in preflight.headers["Access-Control-Allow-Methods"]
    assert "Content-Disposition" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.skipif(not SHARED.exists(), reason="the real export is not here")
async def test_real_export_is_read_completely(serve: Serve) -> None:
    api = await serve(tmdb_api_key="")
    sample = next(SHARED.glob("letterboxd-sample-*.zip"))

    uploaded = await api.upload((sample.name, sample.read_bytes()))

    assert uploaded["total_movies"] == 2186
    assert uploaded["warnings"] == []
    movies = await api.movies(uploaded["session_id"])
    assert sum(len(movie["watched_dates"]) for movie in movies) == 651
