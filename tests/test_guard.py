"""What stands before every route: who may ask, with how much, for how long; and how the service ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import main
from tests.conftest import ROOT, SAMPLE, Api, Serve, files, process
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
        ("", 421), ("192.168.1.5:8000", 200), ("[fe80::1]:8000", 200), ("[::1%25x]", 421),
        (socket.gethostname(), 200), (f"{socket.gethostname()}.local:8000", 200),
    ],
)  # fmt: skip
async def test_only_addresses_this_machines_names_and_allowed_hosts_are_served(
    host: str, status: int, serve: Serve
) -> None:
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
    await main.create_app(main.Settings())(scope, receive, send)

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


async def test_refusals_and_500s_have_security_headers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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
    told = re.fullmatch(
        r"An internal error occurred; the service's log has it as (\w{8})\.", answers[4].json()["detail"]
    )
    assert told
    assert f"[{told[1]}] a bug, TypeError, made an answer fail" in caplog.text


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


@pytest.mark.parametrize(
    ("headers", "status"),
    [("", 413), ("Sec-Fetch-Site: cross-site\r\n", 403), ("Host: evil.example\r\n", 421)],
)
async def test_refused_body_is_read_before_the_answer(headers: str, status: int, serve: Serve) -> None:
    """A proxy or browser that is still sending it would report a broken connection instead."""
    api = await serve(max_upload_bytes=1_000)
    head = UPLOAD.replace("Host: localhost\r\n", headers) if "Host" in headers else UPLOAD + headers

    parts = [b"x" * 1_000_000] * 20
    answer = await raw(api, f"{head}Content-Length: {20 * 1_000_000}\r\n\r\n", *parts)

    assert answer.startswith(f"HTTP/1.1 {status}")
    assert status != 413 or "The upload is over 1,000 bytes (MAX_UPLOAD_BYTES)." in answer


async def test_upload_of_undeclared_size_is_counted_as_it_arrives(serve: Serve) -> None:
    api = await serve(max_upload_bytes=3_000_000)
    before = temporary_files()

    start = f"{UPLOAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(PART)
    answer = await raw(api, start, *[chunk(b"x" * 1_000_000)] * 4, b"0\r\n\r\n")

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

    declared = await raw(api, f"{head}Content-Length: 200000\r\n\r\n".encode(), b"x" * 200_000)
    body = chunk(b"x" * 200_000) + b"0\r\n\r\n"
    chunked = await raw(api, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body)

    assert declared.startswith("HTTP/1.1 413")
    assert chunked.startswith("HTTP/1.1 413")


@pytest.mark.parametrize("q", ["%0d%0aSet-Cookie:%20x=1", "%E2%80%A8", "<script>"])
async def test_query_cannot_split_a_header(q: str, api: Api) -> None:
    session_id = (await api.upload(SAMPLE_FILE))["session_id"]

    answer = await api.get(f"/api/session/{session_id}/movies?limit=1&q=&x={q}")

    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Link"].count("<") == 1


# --- Life and death


@contextlib.asynccontextmanager
async def running(tmdb: FakeTMDB, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Api]]:
    port = free_port()
    service = await process(port, tmdb, *arguments)
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


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_the_service_whatever_is_in_progress(
    number: signal.Signals, tmdb: FakeTMDB
) -> None:
    """Streams, a stalled upload, a stalled header, a download nobody reads, a session and a correction."""
    async with running(tmdb, "--timeout-graceful-shutdown", "2") as (service, api):
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
    for trouble in ("Task was destroyed", "Unclosed", "never retrieved"):
        assert trouble not in said


@pytest.mark.long
async def test_open_streams_do_not_hold_the_service_up(tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 30
    async with running(tmdb) as (service, api):
        session = f"/api/session/{(await api.upload(SAMPLE_FILE))['session_id']}"
        request = f"GET {session}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        writers = [await open_connection(api, request) for _ in range(5)]
        await asyncio.sleep(0.5)

        seconds, said = await stopped(service, signal.SIGTERM)
        for writer in writers:
            await shut(writer)

    assert seconds < 6
    assert "Finished server process" in said
    assert "Traceback" not in said


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


# --- Behind the README's proxy


@contextlib.asynccontextmanager
async def nginx(location: str, folder: Path) -> AsyncIterator[str]:
    """The address of an nginx that has this block in its server."""
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
    )
    proxy = await asyncio.create_subprocess_exec("nginx", "-c", folder / "nginx.conf")
    try:
        await asyncio.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        await proxy.wait()


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed (apt install nginx-light)")
async def test_everything_reaches_its_reader_through_the_readmes_nginx(
    tmdb: FakeTMDB, tmp_path: Path
) -> None:
    tmdb.latency_seconds = 0.1
    (location,) = re.findall(r"(?s)```nginx\n(.*?)```", (ROOT / "README.md").read_text("utf-8"))
    port = free_port()
    service = await process(port, tmdb, "--root-path", "/diary")
    location = location.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    large = {"files": ("watched.csv", b"x" * 20_200_000)}

    async with (
        nginx(location, tmp_path) as address,
        Api(base_url=f"{address}/diary", timeout=30, headers={"Host": "localhost"}) as api,
    ):
        for _ in range(6):
            refused = await api.post("/api/upload", files=large)
            foreign = await api.post("/api/upload", files={"files": SAMPLE_FILE}, headers={"Origin": EVIL})
            assert (refused.status_code, foreign.status_code) == (413, 403)
            assert "MAX_UPLOAD_BYTES" in refused.text
        uploaded = await api.post("/api/upload", files={"files": SAMPLE_FILE})
        session = f"/api/session/{uploaded.json()['session_id']}"
        seen = []
        async with api.stream("GET", f"{session}/events") as events:
            async for line in events.aiter_lines():
                seen.append(json.loads(line.removeprefix("data: "))["processed_count"] if "{" in line else 0)
                if max(seen) > 5:
                    break
        page = await api.get("/")
    service.terminate()
    await service.communicate()

    assert uploaded.headers["Location"] == f"/diary{session}"
    assert 5 < max(seen) < 159  # while the films are looked up
    assert page.status_code == 200
