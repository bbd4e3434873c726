"""A PostgreSQL of our own: in a temporary folder, on a free port of loopback, without a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.fake_tmdb import free_port

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)  # where Debian has them
INSTALLED = shutil.which("postgres") or BINARIES
PASSWORD = "c0rrect-horse"  # not asked for, but not to be shown either
# PostgreSQL refuses to run as root.
USER = "nobody" if os.getuid() == 0 else None


def _path(program: str) -> str:
    return str(BINARIES / program) if BINARIES else program


class Cluster:
    """`options` are PostgreSQL's own. Nothing that only an outage of power would need is done by default."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self._options = options or ("fsync=off", "full_page_writes=off")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="letterboxd-", ignore_cleanup_errors=True)
        if USER:
            shutil.chown(self._folder.name, USER)
        self._run("initdb", "--username=letterboxd", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        options = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        given = " ".join(f"-c {option}" for option in (*options, *self._options))
        self._run("pg_ctl", "start", "--wait", f"--options={given}", f"--log={self._folder.name}/log")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def _run(self, program: str, *arguments: str) -> None:
        data = f"--pgdata={self._folder.name}/data"
        command = (_path(program), data, *arguments)
        subprocess.run(command, check=True, user=USER, stdout=-3, cwd=self._folder.name)

    def empty(self) -> None:
        self.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def ask(self, statement: str) -> str:
        """What psql prints, one row a line."""
        host = ("--host=127.0.0.1", f"--port={self.port}", "--username=letterboxd", "--dbname=postgres")
        command = (_path("psql"), *host, "--tuples-only", "--no-align", "--no-psqlrc", "-c", statement)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://letterboxd:{PASSWORD}@127.0.0.1:{self.port}/postgres"
