"""What stands before every route: who may ask, with how much, for how long; and how the service ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import main
from tests.conftest import ROOT, SAMPLE, Api, Serve, files, process, until
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port

SAMPLE_FILE = (SAMPLE.name, SAMPLE.read_bytes())
WATCHED = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")[0]
PAGE_OF = "http://localhost:3000"
EVIL = "https://evil.example"


async def upload_from(api: Api, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.post("/api/upload", files={"files": WATCHED}, headers=named)


# --- Where a request comes from


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:8000", 200), ("127.9.9.9", 200),
        ("[::1]:8000", 200), ("films.example", 200), ("films.example:80", 200), ("xfilms.example", 421),
        ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421),
        ("", 421), ("192.168.1.5:8000", 421), ("0.0.0.0", 421), ("[::2]", 421), ("[::1%25x]", 421),
    ],
)  # fmt: skip
async def test_only_localhost_and_allowed_hosts_are_served(host: str, status: int, serve: Serve) -> None:
    api = await serve(allowed_hosts="films.example")

    answer = await api.get("/health", headers={"Host": host})

    assert answer.status_code == status
    if status == 421:
        assert "ALLOWED_HOSTS" in answer.json()["detail"]


async def test_every_host_header_is_checked() -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    hosts = [(b"host", b"localhost"), (b"host", b"evil.example")]
    scope = {"type": "http", "method": "GET", "path": "/health", "headers": hosts}
    await main.create_app(main.Settings()).state.guard(scope, receive, send)

    assert said[0]["status"] == 421


async def test_request_without_a_host_is_refused(api: Api) -> None:
    answer = await raw(api, "GET /health HTTP/1.0\r\n\r\n")

    assert "421" in answer.splitlines()[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),  # curl
        ({"Sec_Fetch_Site": "same-origin"}, 201),
        ({"Sec_Fetch_Site": "none"}, 201),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "null"}, 201),
        ({"Sec_Fetch_Site": "same-site", "Origin": PAGE_OF}, 201),
        ({"Sec_Fetch_Site": "cross-site", "Origin": PAGE_OF}, 201),
        ({"Origin": "http://films.example", "Host": "films.example"}, 201),
        ({"Sec_Fetch_Site": "cross-site", "Origin": EVIL}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:4000"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "null"}, 403),
        ({"Origin": EVIL}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": PAGE_OF + ".evil.example"}, 403),
    ],
)
async def test_other_sites_pages_may_not_change_anything(
    headers: dict[str, str], status: int, serve: Serve
) -> None:
    api = await serve(allowed_hosts="films.example")

    answer = await upload_from(api, **headers)

    assert answer.status_code == status
    if status == 403:
        assert "CORS_ORIGINS" in answer.json()["detail"]
        assert (await api.get("/health")).json()["sessions"] == 0


@pytest.mark.parametrize("call", ["PUT /movies/1/match", "DELETE /movies/1/match", "POST /retry", "DELETE "])
async def test_every_call_that_changes_something_is_guarded(call: str, api: Api) -> None:
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"
    method, _, path = call.partition(" ")

    answer = await api.request(method, session + path, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert (await api.get(session)).status_code == 200


@pytest.mark.parametrize("status", [201, 400, 413])
async def test_configured_origins_can_read_every_response(status: int, serve: Serve) -> None:
    api = await serve(max_upload_bytes=2_000)
    content = {201: WATCHED[1], 400: b"nothing", 413: b"x" * 3_000}[status]

    given = {"files": ("watched.csv", content)}
    answer = await api.post("/api/upload", files=given, headers={"Origin": PAGE_OF})

    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_OF


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/health", "/openapi.json", "/nothing", "/api/session/x/movies.csv"]
)
async def test_every_response_has_security_headers(path: str, api: Api) -> None:
    session_id = (await api.upload(WATCHED))["session_id"]

    answer = await api.get(path.replace("/x", f"/{session_id}"))

    assert {name: answer.headers[name] for name in main.SECURITY_HEADERS} == main.SECURITY_HEADERS
    assert answer.headers["Cache-Control"] == ("no-cache" if path in ("/", "/docs") else "no-store")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_refusals_and_500s_have_security_headers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    api = await serve(max_upload_bytes=100)
    monkeypatch.setattr(main, "HealthView", None)

    answers = [
        await api.get("/health", headers={"Host": "evil.example"}),
        await upload_from(api, Origin=EVIL),
        await upload_from(api),
        await api.put("/health"),
        await api.get("/health"),
        await api.options("/health", headers={"Origin": PAGE_OF, "Access-Control-Request-Method": "PUT"}),
    ]

    assert [answer.status_code for answer in answers] == [421, 403, 413, 405, 500, 200]
    for answer in answers:
        assert {name: answer.headers[name] for name in main.SECURITY_HEADERS} == main.SECURITY_HEADERS
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answers[4].json() == {"detail": "An internal error occurred; see the service's log."}


# --- How much, and how long


async def raw(api: Api, request: str | bytes, *more: bytes, wait: float = 0.0) -> str:
    """The answer to bytes as they stand; each of `more` is sent `wait` seconds after the one before."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        writer.write(request.encode() if isinstance(request, str) else request)
        for part in more:
            await asyncio.sleep(wait)
            writer.write(part)
        head = await reader.readuntil(b"\r\n\r\n")
        return (head + await reader.read(1000)).decode()
    finally:
        await shut(writer)


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


UPLOAD = "POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="watched.csv"\r\n\r\n'


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


async def test_upload_declared_too_large_is_refused_unread(serve: Serve) -> None:
    api = await serve(max_upload_bytes=1_000)

    answer = await raw(api, f"{UPLOAD}Content-Length: 999999999\r\n\r\n")

    assert answer.startswith("HTTP/1.1 413")
    assert "The upload is over 1,000 bytes (MAX_UPLOAD_BYTES)." in answer


async def test_upload_of_undeclared_size_is_counted_as_it_arrives(serve: Serve) -> None:
    api = await serve(max_upload_bytes=3_000_000)
    before = temporary_files()

    start = f"{UPLOAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(PART)
    answer = await raw(api, start, *[chunk(b"x" * 1_000_000)] * 4)

    assert answer.startswith("HTTP/1.1 413")
    assert temporary_files() <= before


def temporary_files() -> set[str]:
    """Those with a name, and, where the system tells, those that are open without one."""
    folder = tempfile.gettempdir()
    opened = (str(link.readlink()) for link in Path("/proc/self/fd").glob("*") if link.is_symlink())
    return {*map(str, Path(folder).iterdir()), *(path for path in opened if path.startswith(folder))}


async def test_other_calls_only_accept_small_bodies(api: Api) -> None:
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"

    answer = await api.put(f"{session}/movies/1/match", json={"tmdb_url": "x" * 100_000})

    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body is over 100,000 bytes."


@pytest.mark.parametrize(
    "body", ["[" * 90_000, '{"tmdb_id": ' + "9" * 5_000 + ', "tmdb_type": "movie"}', "\udcff"]
)
async def test_unreadable_json_is_a_client_error(body: str, api: Api) -> None:
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"
    content, headers = body.encode("utf-8", "surrogateescape"), {"Content-Type": "application/json"}

    answer = await api.put(f"{session}/movies/1/match", content=content, headers=headers)

    assert answer.status_code in (400, 422)
    assert "parsing" not in answer.json()["detail"]


async def test_body_that_never_arrives_times_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_REQUEST_SECONDS", 0.1)

    answer = await raw(api, f"{UPLOAD}Content-Length: 5000\r\n\r\n".encode() + PART)

    assert answer.startswith("HTTP/1.1 408")
    assert "connection: close" in answer.lower()


async def test_request_bodies_have_a_total_limit(serve: Serve) -> None:
    api = await serve(max_upload_bytes=100_000)
    part = PART + b"x" * 90_000
    waiting = [
        await open_connection(api, f"{UPLOAD}Content-Length: 99999\r\n\r\n".encode() + part) for _ in range(5)
    ]
    await asyncio.sleep(0.1)

    refused = await api.post("/api/upload", files={"files": ("watched.csv", b"x" * 80_000)})
    other = await api.get("/health")
    for writer in waiting:
        await shut(writer)
    await asyncio.sleep(0.1)
    accepted = await upload_from(api)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    assert other.status_code == 200
    assert accepted.status_code == 201


async def test_full_disk_is_reported_and_logged(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Any, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)

    answer = await upload_from(api)

    assert answer.status_code == 500
    assert "disk" in answer.json()["detail"]
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("path", ["/api/session/{}/events", "/api/session/{}/movies.csv"])
async def test_get_with_a_large_body_is_refused(path: str, api: Api) -> None:
    session_id = (await api.upload(WATCHED))["session_id"]
    await api.ended(session_id)
    head = f"GET {path.format(session_id)} HTTP/1.1\r\nHost: localhost\r\n"

    declared = await raw(api, f"{head}Content-Length: 200000\r\n\r\n")
    chunked = await raw(api, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(b"x" * 200_000))

    assert declared.startswith("HTTP/1.1 413")
    assert chunked.startswith("HTTP/1.1 413")


async def test_stalled_upload_is_told_that_the_service_is_stopping(serve: Serve) -> None:
    api = await serve()
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(f"{UPLOAD}Content-Length: 5000\r\n\r\n".encode() + PART)
    await asyncio.sleep(0.1)

    api.guard.stop()
    answer = await asyncio.wait_for(reader.read(2000), 5)
    await shut(writer)

    assert answer.startswith(b"HTTP/1.1 503")
    assert b"The service is stopping." in answer


async def test_trickling_body_times_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_REQUEST_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(f"{UPLOAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(PART))

    answering = asyncio.create_task(reader.readline())
    while not answering.done():
        writer.write(chunk(b"-"))
        await asyncio.sleep(0.02)
    await shut(writer)

    assert b"408" in await answering


async def test_body_timeout_does_not_limit_the_response(
    api: Api, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "MAX_REQUEST_SECONDS", 0.1)
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"
    await api.ended(session.rpartition("/")[2])
    tmdb.latency_seconds = 0.3

    answer = await api.put(f"{session}/movies/1/match", json={"tmdb_id": 496243, "tmdb_type": "movie"})

    assert answer.status_code == 200


@pytest.mark.parametrize("q", ["%0d%0aSet-Cookie:%20x=1", "%E2%80%A8", "<script>"])
async def test_query_cannot_split_a_header(q: str, api: Api) -> None:
    session_id = (await api.upload(SAMPLE_FILE))["session_id"]

    answer = await api.get(f"/api/session/{session_id}/movies?limit=1&q=&x={q}")

    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Link"].count("<") == 1


# --- Life and death


@contextlib.asynccontextmanager
async def running(tmdb: FakeTMDB) -> AsyncIterator[tuple[asyncio.subprocess.Process, Api]]:
    port = free_port()
    service = await process(port, tmdb)
    try:
        async with Api(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
            yield service, api
    finally:
        if service.returncode is None:
            service.kill()
            await service.communicate()


async def stopped(service: asyncio.subprocess.Process, number: signal.Signals) -> tuple[float, str]:
    """Seconds until it had exited, and what it said."""
    sent = time.monotonic()
    service.send_signal(number)
    _, said = await asyncio.wait_for(service.communicate(), 20)
    return time.monotonic() - sent, said.decode()


async def open_connection(api: Api, request: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(request)
    await writer.drain()
    return writer


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
async def test_signal_ends_the_service_whatever_is_in_progress(
    number: signal.Signals, tmdb: FakeTMDB
) -> None:
    """Streams, a stalled upload, a stalled header, a download nobody reads, a session and a correction."""
    async with running(tmdb) as (service, api):
        session = f"/api/session/{(await api.upload(SAMPLE_FILE))['session_id']}"
        await api.ended(session.rpartition("/")[2])
        tmdb.latency_seconds = 30
        await api.upload(files(watched="2024-01-02,Some Other Film,2010,")[0])
        host = " HTTP/1.1\r\nHost: localhost\r\n"
        body = '{"tmdb_id": 496243, "tmdb_type": "movie"}'
        writers = [
            await open_connection(api, request.encode())
            for request in (
                *[f"GET {session}/events{host}\r\n"] * 5,
                f"{UPLOAD}Content-Length: 5000\r\n\r\n--x",
                f"GET /health{host}",
                *[f"GET {session}/movies?limit=1000{host}\r\n" * 400] * 2,
                f"PUT {session}/movies/1/match{host}Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}",
            )
        ]
        await asyncio.sleep(0.5)

        seconds, said = await stopped(service, number)
        for writer in writers:
            await shut(writer)

    assert service.returncode in (0, -number)
    assert seconds < 6
    assert "Finished server process" in said
    for trouble in ("Traceback", "Task was destroyed", "Unclosed", "never retrieved"):
        assert trouble not in said


@pytest.mark.long
async def test_second_ctrl_c_exits_without_a_traceback(tmdb: FakeTMDB) -> None:
    async with running(tmdb) as (service, api):
        session = f"/api/session/{(await api.upload(SAMPLE_FILE))['session_id']}"
        writer = await open_connection(
            api, f"GET {session}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        await asyncio.sleep(0.2)

        service.send_signal(signal.SIGINT)
        service.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(service.communicate(), 20)
        await shut(writer)

    assert b"Traceback" not in said


@pytest.mark.long
async def test_service_without_descriptors_says_so_once_and_recovers() -> None:
    port = free_port()
    service = await asyncio.create_subprocess_shell(
        f"ulimit -n 100; exec {sys.executable} -m uvicorn main:app --port {port}",
        cwd=ROOT,
        env=os.environ | {"TMDB_API_KEY": ""},
        stderr=asyncio.subprocess.PIPE,
    )
    assert service.stderr
    while b"Uvicorn running" not in await service.stderr.readline():
        pass
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
    await asyncio.sleep(3)

    for _, writer in opened:
        await shut(writer)
    async with Api(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
        assert (await api.get("/health")).status_code == 200
    _, said = await stopped(service, signal.SIGTERM)

    assert said.count("too many open files") == 1
    assert len(said) < 5_000


@pytest.mark.long
async def test_service_restarts_ten_times_on_one_port(tmdb: FakeTMDB) -> None:
    port = free_port()
    for _ in range(10):
        service = await process(port, tmdb)
        _, said = await stopped(service, signal.SIGTERM)
        assert "Finished server process" in said
        assert "Traceback" not in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["--workers", "2"], {}),
        (["--workers=3"], {}),
        ([], {"WEB_CONCURRENCY": "2"}),
        ([], {"UVICORN_WORKERS": "2"}),
    ],
)
async def test_several_workers_are_refused(arguments: list[str], environ: dict[str, str]) -> None:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "main:app", "--port", str(free_port()), *arguments),
        cwd=ROOT, env=os.environ | environ | {"TMDB_API_KEY": V3_KEY}, stdout=-1, stderr=-1,
    )  # fmt: skip

    _, said = await asyncio.wait_for(started.communicate(), 30)

    assert b"Start one worker" in said
    assert b"Traceback" not in said
    assert b"Application startup complete" not in said


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="told by a name that only Linux has")
async def test_second_process_on_one_socket_is_refused() -> None:
    """As gunicorn would start it, whatever it is told by."""
    with socket.socket() as shared:
        shared.bind(("127.0.0.1", 0))
        shared.listen()
        command = [sys.executable, "-m", "uvicorn", "main:app", "--fd", str(shared.fileno())]
        environ = os.environ | {"TMDB_API_KEY": ""}
        both = [
            await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=environ, pass_fds=[shared.fileno()], stderr=-1
            )
            for _ in range(2)
        ]
        await asyncio.wait(
            [asyncio.create_task(each.wait()) for each in both], return_when=asyncio.FIRST_COMPLETED
        )
        refused, serving = sorted(both, key=lambda each: each.returncode is None)
        async with httpx.AsyncClient() as client:
            health = await client.get(f"http://127.0.0.1:{shared.getsockname()[1]}/health", timeout=20)
        serving.terminate()

    _, said = await refused.communicate()
    await serving.communicate()
    assert refused.returncode == 3
    assert b"Start one worker" in said
    assert health.status_code == 200


async def test_headers_that_never_arrive_time_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_HEADER_SECONDS", 0.2)
    watching = asyncio.create_task(main.watch_connections(api.server))
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: local")

    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(100), 5) == b""
    watching.cancel()
    await shut(writer)


async def test_unread_response_is_cut_off(api: Api, tmdb: FakeTMDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_UNREAD_SECONDS", 0.2)
    review = "x" * 900_000
    rows = "\n".join(f"2024-01-02,Film {n},2001,,4,,{review},,2024-01-02" for n in range(10))
    session = f"/api/session/{(await api.upload(*files(reviews=rows)))['session_id']}"
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port, limit=1_000)
    writer.write(f"GET {session}/movies HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    await until(lambda: api.guard.under_way)
    await until(lambda: not api.guard.under_way)
    whole = await api.get(f"{session}/movies")

    with contextlib.suppress(ConnectionError):
        assert len(await asyncio.wait_for(reader.read(-1), 5)) < 9_000_000
    await shut(writer)
    assert len(whole.content) > 9_000_000


async def test_unread_responses_have_a_total_limit(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAX_UNREAD_BYTES", 10_000_000)
    review = "x" * 900_000
    rows = "\n".join(f"2024-01-02,Film {n},2001,,4,,{review},,2024-01-02" for n in range(10))
    session = f"/api/session/{(await api.upload(*files(reviews=rows)))['session_id']}"
    request = f"GET {session}/movies HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    writers = [await open_connection(api, request) for _ in range(3)]
    await until(lambda: sum(each.unread for each in api.guard.under_way) > 10_500_000)

    refused, poll = await api.get(f"{session}/movies"), await api.get(session)
    for writer in writers:
        await shut(writer)

    assert (refused.status_code, poll.status_code) == (503, 200)


@pytest.fixture
def slow_downloads(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[object], threading.Event]]:
    """The CSVs that have been begun, and what lets them be finished."""
    begun, go_on, write = [], threading.Event(), main.csv_bytes

    def slow(films: list[main.Film], row: Any) -> bytes:
        begun.append(row)
        go_on.wait(10)
        return write(films, row)

    monkeypatch.setattr(main, "csv_bytes", slow)
    yield begun, go_on
    go_on.set()


async def test_uploads_wait_for_their_turn(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there may be sessions."""
    api = await serve(max_sessions=3)
    go_on, parse = threading.Event(), main.parse_export

    def slow(*given: Any) -> main.Export:
        go_on.wait(10)
        return parse(*given)

    monkeypatch.setattr(main, "parse_export", slow)
    uploads = [asyncio.create_task(upload_from(api)) for _ in range(6)]
    await until(lambda: sum(upload.done() for upload in uploads) == 2)

    go_on.set()
    answers = [await upload for upload in uploads]

    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [503] * 3
    refused = [answer.json()["detail"] for answer in answers if answer.status_code == 503]
    assert sum(detail.startswith("Too many uploads are being read") for detail in refused) == 2


async def test_downloads_wait_for_their_turn(
    api: Api, monkeypatch: pytest.MonkeyPatch, slow_downloads: tuple[list[object], threading.Event]
) -> None:
    monkeypatch.setattr(main, "MAX_WAITING", 3)
    begun, go_on = slow_downloads
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"
    downloads = [asyncio.create_task(api.get(f"{session}/movies.csv")) for _ in range(6)]
    await until(lambda: len(begun) == 2 and any(download.done() for download in downloads))

    others = [await api.get(path) for path in (session, "/page/page.css", f"{session}/stats")]
    go_on.set()
    statuses = sorted([(await download).status_code for download in downloads])

    assert [other.status_code for other in others] == [200] * 3
    assert statuses == [200] * 5 + [503]


async def test_download_is_not_written_for_who_has_left(
    api: Api, slow_downloads: tuple[list[object], threading.Event]
) -> None:
    begun, go_on = slow_downloads
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"
    request = f"GET {session}/movies.csv HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    stay = [asyncio.create_task(api.get(f"{session}/movies.csv")) for _ in range(2)]
    await until(lambda: len(begun) == 2)
    for _ in range(3):
        await shut(await open_connection(api, request))
    await until(lambda: len(api.guard.under_way) == 5)

    go_on.set()
    await asyncio.gather(*stay)
    await until(lambda: not api.guard.under_way)

    assert len(begun) == 2


@pytest.mark.parametrize("name", ["movies.csv", "matches.csv", "letterboxd.csv"])
async def test_downloads_tell_their_length(name: str, api: Api) -> None:
    """It is what an unread one counts for."""
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"

    answer = await api.get(f"{session}/{name}", headers={"Accept-Encoding": "identity"})

    assert int(answer.headers["Content-Length"]) == len(answer.content) > 100


async def test_page_files_are_kept_and_asked_for_again(api: Api) -> None:
    for path in ("/", "/page/page.css", "/page/main.js"):
        first = await api.get(path)
        again = await api.get(path, headers={"If-None-Match": first.headers["ETag"]})

        assert (first.status_code, again.status_code) == (200, 304)
        assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-cache"
        assert "unsafe-inline" not in first.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/page", "/page/", "/page/nothing.js", "/page/..%2fmain.py", "/page/%00"])
async def test_nothing_else_is_served_from_the_page_folder(path: str, api: Api) -> None:
    answer = await api.get(path, follow_redirects=True)

    assert answer.status_code == 404
    assert answer.json() == {"detail": "No such path; /docs lists all endpoints."}


async def test_large_answers_are_compressed_for_those_who_ask(api: Api) -> None:
    session = f"/api/session/{(await api.upload(SAMPLE_FILE))['session_id']}"
    await api.ended(session.rpartition("/")[2])

    for path in (f"{session}/stats", f"{session}/movies", f"{session}/movies.csv", "/page/page.css"):
        packed = await api.get(path, headers={"Accept-Encoding": "gzip"})
        plain = await api.get(path, headers={"Accept-Encoding": "identity"})

        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.num_bytes_downloaded < plain.num_bytes_downloaded / 2
        assert packed.text == plain.text
    assert "Content-Encoding" not in (await api.get(session, headers={"Accept-Encoding": "gzip"})).headers


async def test_compression_holds_no_event_back(api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 60
    session = f"/api/session/{(await api.upload(WATCHED))['session_id']}"

    async with api.stream("GET", f"{session}/events", headers={"Accept-Encoding": "gzip"}) as events:
        assert "Content-Encoding" not in events.headers
        assert await anext(events.aiter_lines()) == "event: progress"
    await api.delete(session)


async def test_service_works_under_a_path_prefix(serve: Serve) -> None:
    api = await serve(root_path="/films")
    big = "\r\n".join(f"2024-01-02,Film {n},2001," for n in range(6_000))

    page, docs = await api.get("/"), await api.get("/docs")
    parts = re.findall(r'(?:href|src)="((?:page|docs)/[^"]+)"', page.text + docs.text)
    loaded = [await api.get(f"/{part}") for part in parts]
    uploaded = await api.post("/api/upload", files={"files": files(watched=big)[0]})
    films = await api.get(f"/api/session/{uploaded.json()['session_id']}/movies?limit=1")

    assert parts
    assert {answer.status_code for answer in loaded} == {200}
    assert "script-src" in page.headers["Content-Security-Policy"]
    assert "script-src" in docs.headers["Content-Security-Policy"]
    assert uploaded.status_code == 201
    assert uploaded.headers["Location"].startswith("/films/api/session/")
    assert films.headers["Link"].startswith("</films/api/session/")


async def test_slow_reader_gives_back_what_it_has_read(api: Api) -> None:
    rows = "\n".join(f"2024-01-02,Film {n},2001,,4,,{'x' * 900_000},,2024-01-02" for n in range(10))
    session = f"/api/session/{(await api.upload(*files(reviews=rows)))['session_id']}"
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(f"GET {session}/movies HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await until(lambda: sum(each.unread for each in api.guard.under_way) > 1_000_000)
    before = sum(each.unread for each in api.guard.under_way)

    await reader.readexactly(5_000_000)
    await until(lambda: sum(each.unread for each in api.guard.under_way) < before - 2_000_000)

    await shut(writer)


async def test_request_line_may_name_the_host(api: Api) -> None:
    answer = await raw(api, "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith("HTTP/1.1 200")
