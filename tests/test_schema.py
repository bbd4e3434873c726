"""The API keeps to its own description, whatever is asked; skipped where Schemathesis is not installed.

Schemathesis follows the links from an upload to the calls of its session, and imports this file for its hook.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Serve

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CHECKS += ",response_headers_conformance,use_after_free"
WATCHED = b"Date,Name,Year,Letterboxd URI\r\n2024-01-02,Inception,2010,https://boxd.it/1skk\r\n"
WATCHED += b"2024-01-02,Parasite,2019,https://boxd.it/hTha\r\n"

if "SCHEMATHESIS_HOOKS" in os.environ:
    import schemathesis

    def map_body(context: Any, body: Any) -> Any:
        """Most uploads are an export, or there would hardly be a session to go on with."""
        if context.operation.path == "/api/upload" and isinstance(body, dict) and len(str(body)) % 4:
            return {"files": [WATCHED]}
        return body

    schemathesis.hook(map_body)


@pytest.mark.long
@pytest.mark.skipif(
    not find_spec("schemathesis") and not os.environ.get("CI"), reason="pip install schemathesis"
)
async def test_api_conforms_to_its_schema(serve: Serve, tmp_path: Path) -> None:
    api = await serve(max_sessions=100_000, max_memory_bytes=10**12)
    schemathesis = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("run", f"{api.base_url}/openapi.json", "--max-examples", "200", "--checks", CHECKS),
        *("--seed", "1", "--continue-on-failure", "--request-timeout", "30", "--no-color"),
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.test_schema", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )

    said, _ = await schemathesis.communicate()

    assert schemathesis.returncode == 0, said.decode()
    assert (await api.get("/health")).json()["sessions"] > 20
