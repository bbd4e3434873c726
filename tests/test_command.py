"""The command line: an export analysed without a server, and the ways to start one."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

import main
from tests.bench import answering
from tests.conftest import ROOT, SAMPLE, Api, export, files
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port

LISTS = {f"list-{n}.csv" for n in range(1, 5)}
RESULTS = {"movies.csv", "matches.csv", "letterboxd.csv", "letterboxd-watchlist.csv", "stats.json"} | LISTS
FAST = {"TMDB_REQUESTS_PER_SECOND": "10000"}


async def run(
    *arguments: str | Path, tmdb: FakeTMDB | None = None, script: Path = ROOT / "main.py", **environ: str
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of python main.py."""
    given = {"TMDB_API_KEY": V3_KEY if tmdb else "", "TMDB_BASE_URL": tmdb.url if tmdb else "", **FAST}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, script, *arguments),
        cwd=ROOT,
        env=os.environ | given | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(running.communicate(), 60)
    assert running.returncode is not None
    return running.returncode, out.decode(), err.decode()


async def test_export_is_analysed_in_one_command(tmdb: FakeTMDB, tmp_path: Path) -> None:
    status, out, err = await run(SAMPLE, "--out", tmp_path / "new" / "results", tmdb=tmdb)

    assert status == 0
    assert out.startswith("133 films watched, 281 hours (11.7 days); 87 viewings in the diary")
    for words in ("directors: Quentin Tarantino (6)", "decades: 2010s (60)", "3.22 stars", "152 exact"):
        assert words in out
    assert "Glass Onion (2022), guessed: 'Glass Onion: A Knives Out Mystery' (2022)" in out
    assert err.splitlines()[-1].endswith("159 of 159 films")
    results = {path.name: path.read_bytes() for path in (tmp_path / "new" / "results").iterdir()}
    assert json.loads(results["stats.json"])["totals"]["films"] == 133
    assert results["movies.csv"].decode("utf-8-sig").count("\r\n") == 160
    assert set(results) == RESULTS
    assert "    World cinema to start with: 9 of 17 watched, " in out


@pytest.mark.long
async def test_files_and_folders_are_analysed_together(tmdb: FakeTMDB, tmp_path: Path) -> None:
    folder = tmp_path / "letterboxd-me"
    for name in ("likes", "deleted", "lists"):
        (folder / name).mkdir(parents=True)
    line = "2024-01-02,Inception,2010,https://boxd.it/1skk"
    (folder / "likes" / "films.csv").write_bytes(files(likes=line)[0][1])
    (folder / "deleted" / "diary.csv").write_bytes(
        files(diary="2024-01-02,Deleted,2010,,,,,2024-01-02")[0][1]
    )
    (folder / "lists" / "best.csv").write_bytes(
        b"Letterboxd list export v7\r\nDate,Name\r\n2024-01-02,Best\r\n"
    )
    (folder / "profile.csv").write_bytes(b"Date Joined,Username\r\n2020-01-01,me\r\n")
    (tmp_path / "ratings.csv").write_bytes(files(ratings=f"{line},4.5")[0][1])

    status, out, err = await run(folder, tmp_path / "ratings.csv", tmdb=tmdb)

    assert status == 0
    assert out.startswith("1 film watched")
    assert "1 liked" in out
    assert "Deleted" not in out
    assert "1 of 1 films" in err
    assert not any(name in err for name in ("deleted", "lists", "profile"))


@pytest.mark.long
async def test_terminal_gets_no_commands_from_an_export(tmdb: FakeTMDB, tmp_path: Path) -> None:
    rows = "2024-01-02,\x1b[2JIn\u202eception\u2066\x9b31m,2010,,\u202b\x1b]0;x\x07"
    (tmp_path / "ratings.csv").write_bytes(files(ratings=rows)[0][1])

    _, out, err = await run(tmp_path / "ratings.csv", tmdb=tmdb)

    assert "Inception" in out
    assert "rating ']0;x' must be" in err
    assert not re.search(r"[\x1b\x9b\x07\u202a-\u202e\u2066-\u2069]", out + err)


@pytest.mark.long
async def test_export_without_a_key_is_summarised_and_says_so() -> None:
    status, out, err = await run(SAMPLE)

    assert status == 1
    assert out.startswith("133 films watched, 0 hours")
    assert main.NO_KEY in err
    assert out.count(main.NO_KEY) == 1
    assert "… and 139 more; --out writes them all to matches.csv" in out


def summary_of(**rows: str) -> list[str]:
    return main.summary(main.Session(export(**rows))).splitlines()


def test_summary_counts_the_watchlist_as_the_statistics_do() -> None:
    lines = summary_of(
        watched="2024-01-02,Dune,2021,", watchlist="2024-01-02,Dune,2021,\n2024-01-02,Up,2009,"
    )
    unwatched = summary_of(watchlist="2024-01-02,Up,2009,")

    assert "0 liked, 0 reviewed, 2 on the watchlist, 1 of them unwatched" in lines
    assert "0 liked, 0 reviewed, 1 on the watchlist" in unwatched


def test_summary_lists_watched_and_rated_films_first_and_a_reason_once() -> None:
    lines = summary_of(
        watchlist="2024-01-02,Up,2009,",
        watched="2024-01-03,Dune,2021,\n2024-01-02,Alien,1979,",
        ratings="2024-01-02,Alien,1979,,4",
    )

    assert lines[-1] == f"    Alien (1979), Dune (2021), Up (2009), pending: {main.PENDING.reason}"


@pytest.mark.long
async def test_ctrl_c_while_modules_are_loaded_shows_no_traceback() -> None:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "main.py", SAMPLE), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    assert running.stderr
    while b" aiohttp" not in await running.stderr.readline():
        pass

    running.send_signal(signal.SIGINT)
    _, err = await running.communicate()

    assert running.returncode == -signal.SIGINT
    assert b"Traceback" not in err


@pytest.mark.long
async def test_closed_stderr_does_not_matter() -> None:
    shell = f"'{sys.executable}' main.py '{SAMPLE}' 2>&-"
    started = await asyncio.create_subprocess_shell(shell, cwd=ROOT, stdout=asyncio.subprocess.PIPE)

    out, _ = await started.communicate()

    assert out.startswith(b"133 films watched")


@pytest.mark.long
async def test_readers_that_leave_do_not_stop_the_work(tmdb: FakeTMDB, tmp_path: Path) -> None:
    command = f"'{sys.executable}' '{ROOT}/main.py' '{SAMPLE}' --out '{tmp_path}' 2>&1 | head -1"
    environ = os.environ | {"TMDB_API_KEY": V3_KEY, "TMDB_BASE_URL": tmdb.url} | FAST
    started = await asyncio.create_subprocess_exec(
        *("bash", "-o", "pipefail", "-c", command), env=environ, stdout=asyncio.subprocess.PIPE
    )

    out, _ = await started.communicate()

    assert (started.returncode, out.count(b"\n")) == (0, 1)
    assert set(os.listdir(tmp_path)) == RESULTS  # noqa: PTH208 - pathlib's blocks just as long


@pytest.mark.long
async def test_no_room_for_the_summary_is_a_sentence() -> None:
    shell = f"'{sys.executable}' main.py '{SAMPLE}' >/dev/full"
    started = await asyncio.create_subprocess_shell(shell, cwd=ROOT, stderr=asyncio.subprocess.PIPE)

    _, err = await started.communicate()

    assert started.returncode == 1
    assert err.splitlines()[-1] == b"The summary cannot be written: No space left on device."


def test_no_room_for_a_result_is_a_sentence_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_bytes(b"of before")
    session = main.Session(export(watched="\n".join(f"2024-01-02,Film {n},2001," for n in range(100))))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            main.write_results(session, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert raised.value.filename == str(tmp_path / "movies.csv")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"movies.csv": b"of before"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.zip"], "nothing.zip cannot be read: No such file or directory."),
        (["README.md"], "No films in this upload: README.md: the header"),
        (["README.md", "--out", "README.md"], "No films in this upload"),
        ([str(SAMPLE), "--out", "README.md"], "README.md cannot be written: File exists."),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--out", "results"], "--out needs an export to analyse"),
        ([str(SAMPLE), "--open"], "--open, --host and --port are for serving, without an export"),
        ([str(SAMPLE), "--port", "8001"], "--open, --host and --port are for serving, without an export"),
        (["--port", "http"], "argument --port: invalid int value: 'http'"),
        (["--host", "192.0.2.1"], "Port 8000 cannot be used ([Errno 99] Cannot assign requested address"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    with pytest.raises(SystemExit) as stopped:
        main.command(arguments)

    printed = capfd.readouterr()
    assert said in (printed.err if stopped.value.code == 2 else str(stopped.value))
    assert printed.out == ""  # it is said before any film is looked up


@pytest.mark.parametrize("source", ["/dev/zero", "large.csv", "folder"])
def test_endless_or_large_source_is_refused_after_the_limit(source: str, tmp_path: Path) -> None:
    large, small = tmp_path / "large.csv", tmp_path / "folder" / "small.csv"
    with large.open("wb") as file:
        file.truncate(3_000_000_000)
    small.parent.mkdir()
    small.write_bytes(b"x" * 600)
    small.with_name("other.csv").write_bytes(b"x" * 600)

    with pytest.raises(main.UploadTooLarge, match=r"over 1,000 bytes \(MAX_UPLOAD_BYTES\)"):
        list(main.read_paths([tmp_path / source], 1_000))


def test_folder_may_be_deep_and_have_links_to_itself(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath(*["d"] * 200)
    deepest.mkdir(parents=True)
    (deepest / "ratings.csv").write_bytes(b"x")
    (deepest / "top").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "never-written.csv")
    usual = sys.getrecursionlimit()

    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        ((name, data),) = main.read_paths([tmp_path], 1_000)
    finally:
        sys.setrecursionlimit(usual)

    assert name == f"{tmp_path.name}/{'d/' * 200}ratings.csv"
    assert data == b"x"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("hidden", ["export", "export/likes", "export/ratings.csv"])
def test_what_may_not_be_read_is_named(hidden: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is only for root
        likes = Path(folder) / "export" / "likes"
        likes.mkdir(parents=True)
        (likes.parent / "ratings.csv").write_bytes(files(ratings="2024-01-02,Dune,2021,,4")[0][1])
        (Path(folder) / hidden).chmod(0)
        shutil.chown(folder, "nobody")
        os.seteuid(Path(folder).stat().st_uid)
        try:
            with pytest.raises(main.UnusableUpload) as refused:
                list(main.read_paths([likes.parent], 1_000))
        finally:
            os.seteuid(0)

    assert str(refused.value) == f"{folder}/{hidden} cannot be read: Permission denied."


@pytest.mark.long
async def test_ctrl_c_ends_the_reading_of_a_slow_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.csv")
    running = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "main.py", tmp_path / "slow.csv", stderr=asyncio.subprocess.PIPE
    )
    with (tmp_path / "slow.csv").open("wb"):  # opens once the other side has
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), 5)

    assert (running.returncode, err) == (-signal.SIGINT, b"")


def readme_block(language: str, containing: str) -> str:
    blocks = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"))
    (block,) = [str(block) for block in blocks if containing in block]
    return block


@pytest.mark.long
async def test_readmes_script_prints_the_directors(tmdb: FakeTMDB, tmp_path: Path) -> None:
    script = tmp_path / "directors.py"
    script.write_text(readme_block("python", "parse_export"))
    given = {"TMDB_API_KEY": V3_KEY, "TMDB_BASE_URL": tmdb.url, "PYTHONPATH": str(ROOT), **FAST}

    running = await asyncio.create_subprocess_exec(
        *(sys.executable, script, SAMPLE), env=os.environ | given, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(running.communicate(), 60)

    assert out.decode().splitlines()[0].startswith("Quentin Tarantino 6 ")


@pytest.mark.long
async def test_readmes_shell_loop_waits_for_the_end(api: Api) -> None:
    loop = readme_block("sh", "until curl").replace("localhost:8000", f"127.0.0.1:{api.base_url.port}")
    loop = loop.replace("letterboxd-me-2026-01-01-00-00-utc.zip", str(SAMPLE))

    running = await asyncio.create_subprocess_exec("bash", "-c", loop, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(running.communicate(), 60)

    assert json.loads(out)["totals"]["films"] == 133


async def statuses(folder: Path, *arguments: str) -> list[int]:
    """What / and /docs answer, and all that these load, with the service started in that folder."""
    port = free_port()
    environ = os.environ | {"TMDB_API_KEY": "", "HOST": "x86_64-conda-linux-gnu", "PORT": "tcp://10.0.0.1:80"}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments, "--port", str(port)),
        cwd=folder, env=environ, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await answering(client, "/health")
            answers = [await client.get(path) for path in ("/", "/docs")]
            parts = re.findall(r'(?:href|src)="(\w+/[^"]+)"', answers[0].text + answers[1].text)
            answers += [await client.get(f"/{part}") for part in parts]
    finally:
        running.terminate()
        await running.wait()
    return [answer.status_code for answer in answers]


@pytest.mark.long
async def test_files_of_the_readmes_container_are_enough(tmp_path: Path) -> None:
    for line in re.findall(r"(?m)^COPY (.+)$", readme_block("dockerfile", "FROM python")):
        *names, target = line.split()
        for name in names:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tmp_path / target / ("" if copy is shutil.copytree else name))
    _, *command = json.loads(readme_block("dockerfile", "FROM python").partition("CMD ")[2])

    answered = await statuses(tmp_path, *command)

    assert answered == [200] * len(answered)


@pytest.mark.long
async def test_main_works_alone(tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)

    answered = await statuses(tmp_path, "main.py")
    status, out, _ = await run(SAMPLE, script=tmp_path / "main.py")

    assert answered[:2] == [307, 200]
    assert answered[2:] == [200] * 3
    assert (status, out[:20]) == (1, "133 films watched, 0")


@pytest.mark.long
@pytest.mark.parametrize("started", [("-m", "uvicorn", "main:app"), ("main.py",)])
async def test_every_line_of_the_log_has_the_time_and_the_level(started: tuple[str, ...]) -> None:
    port = free_port()
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, *started, "--port", str(port)),
        cwd=ROOT, env=os.environ | {"TMDB_API_KEY": ""}, stdout=asyncio.subprocess.PIPE, stderr=-2,
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await answering(client, "/health")
    running.terminate()

    lines = (await running.communicate())[0].decode().splitlines()

    assert all(re.match(r"[\d-]{10} [\d:,]{12} (INFO|WARNING) ", line) for line in lines), lines
    for words in ("Started server", "no TMDB_API_KEY is set", '"GET /health HTTP/1.1" 200', "Finished"):
        assert any(words in line for line in lines)


def test_help_says_what_there_is(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.command(["--help"])

    out = capfd.readouterr().out
    for word in ("EXPORT", "--out DIR", "--open", "--host ADDRESS", "--port NUMBER", "TMDB_API_KEY"):
        assert word in out


def test_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(SystemExit) as stopped:
            main.serve(main.Settings(), "127.0.0.1", port, open_page=False)

    assert str(stopped.value).startswith(f"Port {port} cannot be used ([Errno 98] Address already in use")
    assert str(stopped.value).endswith("; choose another with --port.")


@pytest.mark.long
async def test_impossible_port_is_a_sentence() -> None:
    _, _, err = await run("--port", "70000")

    assert err.startswith("Port 70000 cannot be used (bind(): port must be 0-65535.); choose another")


@pytest.mark.long
async def test_open_shows_the_page_once_it_is_served(tmp_path: Path) -> None:
    port, shown = free_port(), tmp_path / "shown"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\ncurl -s "$1/health" && echo "$1" > {shown}\n')
    browser.chmod(0o755)
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "main.py", "--open", "--port", str(port)), cwd=ROOT,
        env=os.environ | {"BROWSER": str(browser), "TMDB_API_KEY": ""},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async with asyncio.timeout(20):
        while not (shown.exists() and shown.read_text()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    running.terminate()
    await running.wait()

    assert shown.read_text() == f"http://localhost:{port}\n"
