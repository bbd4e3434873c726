"""Connections, migrations, and questions that are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
import asyncpg
from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import main

# One each for revisions, progress, records, corrections, writing and the pace; the others read and create
# sessions. Further statements wait. Ten processes stay within PostgreSQL's default of 100.
CONNECTIONS = 8
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 30
IDLE_SECONDS = 3
RETRY_SECONDS = 0.5  # between two tries of what can wait
MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION_LOCK = 1_164_865_640  # any number that nobody else locks
Rows = Sequence[Row[Any]]


class DatabaseUnavailable(main.ServiceError):
    """It is not known whether a change was made."""

    status = 503
    headers: dict[str, str] | None = {"Retry-After": "5"}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        super().__init__("The database cannot be reached; try again in 5 s.")


CONNECTION_ERRORS = (OSError, TimeoutError, NoConnection, asyncpg.InterfaceError)
# No connection, read-only, idle for too long, refused, no such database, a deadlock, no resources, shut down.
GONE_STATES = ("08", "25006", "25P03", "28", "3D", "40", "53", "57")


def is_gone(error: Exception) -> bool:
    """Whether the database, and not the statement, is to blame."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(cause, CONNECTION_ERRORS) or str(getattr(cause, "sqlstate", "")).startswith(GONE_STATES)


class Database:
    def __init__(self, url: str) -> None:
        self._is_gone = False
        self._engine = create_async_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=STATEMENT_SECONDS,
            isolation_level="AUTOCOMMIT",  # a statement is one round trip
            hide_parameters=True,
            json_deserializer=str,  # whoever reads many rows decodes them a few at a time
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                # A process that stands still in the middle of taking slots must not stop the others.
                "server_settings": {"idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s"},
            },
        )

    async def run(self, statement: TextClause, **values: object) -> Rows:
        """The rows of one statement. Raises DatabaseUnavailable.

        After PostgreSQL was restarted, pooled connections are dead, so every statement may be tried twice.
        """
        try:
            try:
                rows = await self._run(statement, values)
            except Exception as error:
                if not is_gone(error):
                    raise
                rows = await self._run(statement, values)
        except Exception as error:
            if not is_gone(error):
                raise
            if not self._is_gone:
                main.log.warning("the database cannot be reached: %s", getattr(error, "orig", error))
            self._is_gone = True
            raise DatabaseUnavailable from None
        self._is_gone = False
        return rows

    async def _run(self, statement: TextClause, values: dict[str, object]) -> Rows:
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, values)
            return result.all() if result.returns_rows else []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Raises DatabaseUnavailable."""
        try:
            async with self._engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
                yield connection
        except Exception as error:
            if is_gone(error):
                raise DatabaseUnavailable from None
            raise

    async def migrate(self) -> None:
        """One process migrates; others that start at the same time wait for it."""
        async with self.transaction() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            if (await connection.execute(text("SHOW server_encoding"))).scalar() != "UTF8":
                main.refuse_to_start("The database must have the encoding UTF8.")
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        await self._engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = alembic.config.Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic.command.upgrade(config, "head")


T = TypeVar("T")


async def retry_until_back(call: Callable[[], Awaitable[T]]) -> T:
    """Tries until the database is back. A person does not wait: raises DatabaseUnavailable."""
    while True:
        try:
            return await call()
        except DatabaseUnavailable:
            if main.urgent.get():
                raise
        await asyncio.sleep(RETRY_SECONDS)
