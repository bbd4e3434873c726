"""What openapi-python-client generates works; skipped where it is not installed."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import main
from tests.conftest import SAMPLE, Api

pytestmark = pytest.mark.long
PACKAGE = "generated_client"


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The generated package, ready to import."""
    pytest.importorskip("openapi_python_client")
    (tmp_path / "openapi.json").write_text(json.dumps(main.app.openapi()))
    (tmp_path / "config.yml").write_text(f"package_name_override: {PACKAGE}\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        [*command, "--config", "config.yml", "--fail-on-warning"],
        cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, "arning" in said.stdout + said.stderr) == (0, False), said.stdout + said.stderr
    (package,) = tmp_path.glob(f"*/{PACKAGE}")
    monkeypatch.syspath_prepend(str(package.parent))
    return PACKAGE


async def test_generated_client_uploads_polls_and_reads(generated: str, api: Api) -> None:
    client = importlib.import_module(generated).Client(base_url=str(api.base_url))

    def call(name: str, group: str = "sessions", **given: Any) -> Any:
        return importlib.import_module(f"{generated}.api.{group}.{name}").asyncio(client=client, **given)

    models, types = (importlib.import_module(f"{generated}.{name}") for name in ("models", "types"))
    file = types.File(
        payload=io.BytesIO(SAMPLE.read_bytes()), file_name=SAMPLE.name, mime_type="application/zip"
    )
    uploaded = await call("upload", body=models.BodyUpload(files=[file]))
    session_id = uploaded.session_id
    async with asyncio.timeout(30):
        while (await call("read_session", session_id=session_id)).status != "completed":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    # Not by read_movies: in what is generated for a field called `cast`, that name hides typing's cast.
    with_films = client.get_async_httpx_client().get(f"/api/session/{session_id}/movies?limit=1000")
    films = (await with_films).json()
    statistics = await call("read_statistics", session_id=session_id)
    missing = await call("read_session", session_id="x" * 22)
    await client.get_async_httpx_client().aclose()

    assert (uploaded.total_movies, len(films)) == (159, 159)
    assert statistics.totals.films == 133
    assert "There is no such session" in missing.detail
