"""Connections, migrations, and what is said when the database is not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import alembic.command
import alembic.config
import asyncpg
from alembic.util import CommandError
from sqlalchemy import Connection, Executable, Row, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import main

# One each for heads, progress, records, writing and the pace; the others read and create sessions. Further
# statements wait. Ten processes stay within PostgreSQL's default of 100.
CONNECTIONS = 8
PATIENCE_SECONDS = 3  # for one statement, since somebody waits for the answer, or
LONG_SECONDS = 20  # for one with all films of a session
RETRY_SECONDS = 0.5  # between two tries of what can wait
MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION_LOCK = 1_164_865_640  # any number that nobody else locks
Rows = Sequence[Row[Any]]
Run = Callable[..., Awaitable[Rows]]


class DatabaseUnavailable(main.ServiceError):
    """It is not known whether a change was made; it will not be made later."""

    status = 503
    headers: dict[str, str] | None = {"Retry-After": "5"}  # noqa: RUF012 - never changed

    def __init__(self, problem: str = "The database cannot be reached") -> None:
        super().__init__(f"{problem}; try again in 5 s.")


CONNECTION_ERRORS = (OSError, TimeoutError, NoConnection, asyncpg.InterfaceError)
# No connection, read-only, idle for too long, refused, no such database, a deadlock, no such table or column
# (another version has migrated it), no resources, locked, shut down.
GONE_STATES = ("08", "25006", "25P03", "28", "3D", "40", "42P01", "42703", "53", "55P03", "57")
PROBLEMS = {
    "25006": "The database is read-only",
    "42": "The database has been migrated by another version of this service, which has to be restarted",
    "57014": "The database takes too long",
}
# What does not mend by itself.
REFUSALS = {
    "28": "The database refuses the user or the password; check DATABASE_URL.",
    "3D": "There is no such database; create it, or check DATABASE_URL.",
}
UNUSABLE = "The database cannot be used; check DATABASE_URL, and that its user may create tables there."
NEWER = "A newer version of this service has migrated the database; update this one."
WRONG_ENCODING = "The database must have the encoding UTF8."


def _state(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def is_gone(error: Exception) -> bool:
    """Whether the database, and not the statement, is to blame."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, CONNECTION_ERRORS) or _state(error).startswith(GONE_STATES)


def problem(error: BaseException) -> DatabaseUnavailable:
    found = (sentence for state, sentence in PROBLEMS.items() if _state(error).startswith(state))
    return DatabaseUnavailable(*list(found)[:1])


def refusal(error: Exception) -> str | None:
    """Why the service cannot start with this database; None if that may change by itself."""
    for state, sentence in REFUSALS.items():
        if _state(error).startswith(state):
            return sentence
    if isinstance(error, CommandError):
        return NEWER
    if is_gone(error):
        return None
    unusable = isinstance(error, (ArgumentError, DBAPIError, OverflowError, TypeError, ValueError))
    return (str(error) if str(error) == WRONG_ENCODING else UNUSABLE) if unusable else None


class Database:
    def __init__(self, url: str) -> None:
        self._is_gone = False
        self._opening: asyncio.Task[None] | None = None
        self._engine = create_async_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=LONG_SECONDS,
            isolation_level="AUTOCOMMIT",  # a statement is one round trip
            hide_parameters=True,
            json_deserializer=str,  # whoever reads many rows decodes them a few at a time
            json_serializer=str,
            connect_args={
                "timeout": PATIENCE_SECONDS,
                # A process that stands still in the middle of a transaction must not stop the others.
                "server_settings": {"idle_in_transaction_session_timeout": f"{PATIENCE_SECONDS}s"},
            },
        )

    async def run(self, statement: Executable, seconds: float = PATIENCE_SECONDS, **values: Any) -> Rows:
        """The rows of one statement, which may be executed twice. Raises DatabaseUnavailable.

        After PostgreSQL was restarted, pooled connections are dead, so every statement may be tried twice.
        """
        with self._watching():
            async with asyncio.timeout(seconds):
                try:
                    return await self._run(statement, values)
                except Exception as error:
                    if not is_gone(error):
                        raise
                return await self._run(statement, values)

    async def _run(self, statement: Executable, values: dict[str, object]) -> Rows:
        async with self._engine.connect() as connection:
            return await _execute(connection, statement, **values)

    @asynccontextmanager
    async def transaction(self, first: Executable, **values: object) -> AsyncIterator[tuple[Rows, Run]]:
        """The rows of `first`, which changes nothing and may be executed twice, and how to run more."""
        with self._watching():
            async with asyncio.timeout(LONG_SECONDS), contextlib.AsyncExitStack() as stack:
                engine = self._engine.execution_options(isolation_level="READ COMMITTED")
                try:
                    rows, connection = await self._begin(stack, engine.begin(), first, values)
                except Exception as error:
                    if not is_gone(error):
                        raise
                    rows, connection = await self._begin(stack, engine.begin(), first, values)
                yield rows, partial(_execute, connection)

    async def _begin(
        self, stack: contextlib.AsyncExitStack, begin: Any, first: Executable, values: dict[str, object]
    ) -> tuple[Rows, AsyncConnection]:
        async with contextlib.AsyncExitStack() as opening:
            connection = await opening.enter_async_context(begin)
            async with asyncio.timeout(PATIENCE_SECONDS):
                rows = await _execute(connection, first, **values)
            await stack.enter_async_context(opening.pop_all())
        return rows, connection

    @contextlib.contextmanager
    def _watching(self) -> Any:
        """Raises DatabaseUnavailable if the database is gone, and logs it once."""
        if self._opening:
            raise DatabaseUnavailable
        try:
            yield
        except Exception as error:
            if not is_gone(error):
                raise
            if not self._is_gone:
                main.log.warning("%s %s", problem(error), getattr(error, "orig", error))
            self._is_gone = True
            raise problem(error) from None
        self._is_gone = False

    # --- Opening

    async def open(self) -> None:
        """Migrates, now or as soon as the database can be reached. Ends the process if it never will."""
        if not await self._open():
            main.log.warning("the database cannot be reached; requests get a 503 until it can")
            self._opening = asyncio.create_task(self._open_later())

    async def _open_later(self) -> None:
        while not await self._open():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(RETRY_SECONDS)
        self._opening = None
        main.log.warning("the database is there")

    async def _open(self) -> bool:
        try:
            async with asyncio.timeout(None if self._opening else LONG_SECONDS):
                await self._migrate()
        except Exception as error:
            if sentence := refusal(error):
                main.refuse_to_start(sentence)
            if not is_gone(error):
                raise
            return False
        return True

    async def _migrate(self) -> None:
        """One process migrates; others that start at the same time wait for it."""
        async with self._engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            if (await connection.execute(text("SHOW server_encoding"))).scalar() != "UTF8":
                raise ValueError(WRONG_ENCODING)
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        if self._opening:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._engine.dispose()


async def _execute(connection: AsyncConnection, statement: Executable, **values: object) -> Rows:
    result = await connection.execute(statement, values)
    return result.all() if result.returns_rows else []


def _upgrade(connection: Connection) -> None:
    config = alembic.config.Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic.command.upgrade(config, "head")


T = TypeVar("T")
Key = TypeVar("Key")
Value = TypeVar("Value")


class Batch(Generic[Key, Value]):
    """Asks one question for many keys at a time; whoever comes meanwhile shares the next."""

    def __init__(self, ask: Callable[[list[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._ask = ask
        self._sharing = main.Sharing()
        self._gathered: dict[Key, None] = {}

    async def get(self, *keys: Key) -> Mapping[Key, Value]:
        """The answers for these keys, and for others."""
        self._gathered.update(dict.fromkeys(keys))
        return await self._sharing.run(None, self._ask_for_all)

    async def _ask_for_all(self) -> Mapping[Key, Value]:
        gathered, self._gathered = self._gathered, {}
        return await self._ask(list(gathered))


async def retry_until_back(call: Callable[[], Awaitable[T]]) -> T:
    """Tries until the database is back. A person does not wait: raises DatabaseUnavailable."""
    while True:
        try:
            return await call()
        except DatabaseUnavailable:
            if main.urgent.get():
                raise
        await asyncio.sleep(RETRY_SECONDS)
