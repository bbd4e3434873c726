from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from pydantic import SecretStr

import main

ROOT = Path(__file__).parents[1]
SECRET = "c0ffee" * 5 + "c0"


def test_defaults_follow_tmdbs_limits() -> None:
    settings = main.Settings.load({})

    assert settings.tmdb_requests_per_second == 40
    assert settings.tmdb_connections == 20
    assert settings.session_ttl_seconds == 3600
    assert settings.cors_origins == ("http://localhost:3000",)


def test_blank_values_count_as_not_set() -> None:
    settings = main.Settings.load({"TMDB_CONNECTIONS": " ", "TMDB_API_KEY": "", "LOG_LEVEL": None})

    assert settings == main.Settings()


def shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return "" if isinstance(default, SecretStr) else str(default)


def env_example() -> str:
    """What .env.example says, from the settings."""
    blocks = ["# Copy to .env. A blank value means the default. Environment variables override this file.\n"]
    for name, field in main.Settings.model_fields.items():
        help_lines = textwrap.wrap(str(field.description), 100, initial_indent="# ", subsequent_indent="# ")
        default = "" if name == "session_ttl_seconds" else field.default  # it depends on another
        blocks.append("\n".join([*help_lines, f"{name.upper()}={shown(default)}"]))
    return "\n".join(blocks) + "\n"


def readme_table() -> str:
    """The rows of the README's table of settings."""
    fields = main.Settings.model_fields.items()
    rows = (f"| `{name.upper()}` | {shown(field.default)} | {field.description} |" for name, field in fields)
    return "\n".join(rows)


def test_env_example_and_readme_match_the_settings() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")

    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))

    assert example == env_example()
    assert main.Settings.load(given) == main.Settings()
    assert readme_table() in (ROOT / "README.md").read_text("utf-8")


def test_module_docstring_lists_the_sections_in_order() -> None:
    sections = re.findall(r"^# === (\w+) ===", (ROOT / "main.py").read_text("utf-8"), re.MULTILINE)

    assert re.findall(r"^    ([A-Z]\w+) {2,}", str(main.__doc__), re.MULTILINE) == sections


def test_everything_that_is_installed_is_pinned() -> None:
    pinned = {name_of(line) for line in requirements() + requirements("postgres") + requirements("tests")}

    needed = {name for each in pinned for name in brought_by(each)}

    assert needed <= pinned


def requirements(*folder: str) -> list[str]:
    lines = ROOT.joinpath(*folder, "requirements.txt").read_text("utf-8").splitlines()
    return [line for line in lines if "==" in line]


def name_of(requirement: str) -> str:
    return Requirement(requirement).name.lower().replace("_", "-")


def test_service_needs_nothing_of_the_tests() -> None:
    pinned = set(map(name_of, requirements()))

    assert {name for each in pinned for name in brought_by(each)} <= pinned


def test_uv_installs_what_the_requirements_name_for_the_service() -> None:
    """The inline metadata (PEP 723) of main.py."""
    script = (ROOT / "main.py").read_text("utf-8")
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", script)
    assert block
    metadata = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))

    direct = (ROOT / "requirements.txt").read_text("utf-8").partition("# What these bring")[0]

    assert metadata["dependencies"] == [line for line in direct.splitlines() if "==" in line]
    assert metadata["requires-python"] == ">=3.11"


def brought_by(package: str) -> set[str]:
    """What pip installs for a package here."""
    required = map(Requirement, importlib.metadata.requires(package) or [])
    return {
        each.name.lower().replace("_", "-")
        for each in required
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def test_every_call_of_the_api_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    paths = main.app.openapi()["paths"]

    calls = [f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods]

    assert [call for call in calls if call not in readme] == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TMDB_CONNECTIONS", "many", "integer"),
        ("TMDB_REQUESTS_PER_SECOND", "0", "greater than 0"),
        ("TMDB_REQUESTS_PER_SECOND", "nan", "10000"),
        ("LOG_LEVEL", "LOUD", "'INFO'"),
    ],
)
def test_invalid_value_is_reported_with_its_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.Settings.load({name: value})

    sentence = str(stopped.value)
    assert sentence.startswith(f"{name} is '{value}'")
    assert said in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_env_file_of_powershell_is_read(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    bom = b"\xff\xfe" if encoding == "utf-16-le" else b""
    file.write_bytes(bom + f"TMDB_API_KEY={SECRET}\r\nMAX_FILMS=8001\r\n".encode(encoding))

    assert main._read_env(file) == {"TMDB_API_KEY": SECRET, "MAX_FILMS": "8001"}


@pytest.mark.parametrize("content", [b"A=8001\n" + "B=x\n".encode("utf-16-le"), b"B=\xff\n"])
def test_env_file_that_cannot_be_read_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(content)

    with pytest.raises(SystemExit, match=r"\.env is neither UTF-8 nor UTF-16 text; save it as UTF-8\."):
        main._read_env(file)


def test_app_is_made_once_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(main, "app", raising=False)
    monkeypatch.setenv("MAX_FILMS", "17")

    app = main.app

    assert app.state.settings.max_films == 17
    assert main.app is app
    with pytest.raises(AttributeError, match="no attribute 'ap'"):
        getattr(main, "ap")  # noqa: B009
    del main.app


def test_env_file_that_may_not_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()  # root may read every file

    with pytest.raises(SystemExit, match=r"\.env cannot be read: Is a directory\."):
        main._read_env(tmp_path / ".env")


@pytest.mark.parametrize(
    ("line", "raised", "said"),
    [
        ("import asyncpg", SystemExit, "asyncpg is missing: pip install -r postgres/requirements.txt"),
        ("import main.nothing", ModuleNotFoundError, "No module named 'main.nothing'"),
        ("from main import nothing", ImportError, "cannot import name 'nothing' from 'main'"),
    ],
)
def test_only_a_missing_requirement_is_said_to_be_missing(
    line: str, raised: type[BaseException], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "postgres", raising=False)
    monkeypatch.setattr(main, "refuse_to_start", sys.exit)
    settings = main.Settings.load({"DATABASE_URL": "postgresql+asyncpg://localhost/letterboxd"})

    with pytest.raises(raised, match=said):
        main.open_store(settings, main.Matcher(main.TMDBClient(settings)), lambda: 0.0)


def test_example_of_a_key_is_refused() -> None:
    with pytest.raises(SystemExit, match="TMDB_API_KEY: is still the example"):
        main.Settings.load({"TMDB_API_KEY": "your-key"})


def test_key_is_never_shown() -> None:
    settings = main.Settings.load({"TMDB_API_KEY": SECRET})

    with pytest.raises(SystemExit) as stopped:
        main.Settings.load({"TMDB_API_KEY": f"{SECRET}\n x"})

    assert SECRET not in f"{settings!r} {settings} {stopped.value}"


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://api.themoviedb.org/3?api_key={SECRET}", f"http://{SECRET}:x", "ftp://localhost"),
        *(
            "http://[::1",
            "http://[zz]",
            "http://:80",
            "http://a..b",
            "http://localhost:0",
            "http://a:99999/3",
        ),
    ],
)
def test_invalid_base_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.Settings.load({"TMDB_BASE_URL": url})

    assert str(stopped.value).startswith("TMDB_BASE_URL: must be a URL")
    assert SECRET not in str(stopped.value)


@pytest.mark.long
def test_invalid_value_at_startup_has_no_traceback() -> None:
    environment = os.environ | {"TMDB_CONNECTIONS": "many", "TMDB_API_KEY": SECRET}
    command = [sys.executable, "-c", "import main; print('imported', flush=True); from main import app"]

    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert ran.stdout == "imported\n"  # which has no effect yet
    assert ran.stderr.startswith("TMDB_CONNECTIONS is 'many'")
    assert "Traceback" not in ran.stderr
    assert SECRET not in ran.stderr


if __name__ == "__main__":  # writes what the tests compare
    (ROOT / ".env.example").write_text(env_example(), "utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    table = re.compile(r"^\| `TMDB_API_KEY` \|.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
    (ROOT / "README.md").write_text(table.sub(lambda _: readme_table(), readme), "utf-8")
