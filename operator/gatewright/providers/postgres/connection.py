"""PostgreSQL, and the way SQL is asked of it: one query, read-only, within the link's time, always
rolled back.

    ask, ask_for                 one question within the link's time
      └─ Database, one per identity        a few connections, kept for the next question
           └─ Session, one per connection  two round trips a question
                └─ Relay                   logs in, and counts what comes back below the driver

A new connection is asked first what its role may do: a function that a query calls may run
programs, write files or end sessions where the role may, and none of that is rolled back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

import psycopg
from pydantic import BaseModel, ValidationError

from gatewright.api.connection import PostgresAccess
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import context, meter
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.common.secrets import hide_in_error, secret_value
from gatewright.providers.postgres import column_types, errors
from gatewright.providers.postgres.errors import StatementFailed
from gatewright.providers.postgres.relay import Relay
from gatewright.providers.postgres.session import DECLARE_PREFIX, Question, Row, Session
from gatewright.providers.postgres.url import (
    Place,
    login_of,
    places_of,
    relayed_settings,
    settings_of,
)

MAX_SESSIONS = 2
"""Connections to one database at a time: checks must not be what fills it up."""
LOGIN_BYTES = 64 * 1024
"""Bytes that may come back before a connection is ready."""
MAX_ANSWER_BYTES = 64 * 1024
"""Bytes that may come back of a question, unless it says otherwise."""
MAX_SESSION_BYTES = 64 * 1024
"""A connection on which more came back in all is not kept: a driver remembers some of what it is
told."""

_JSON = frozenset({column_types.JSON})

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


async def ask_rows(
    link: OpenConnection, statement: str, parameters: Sequence[str] = ()
) -> list[Row]:
    """Return the first rows, at most two, of a query for numbers, truths or intervals.

    Raises Retryable, Permanent.
    """
    types = column_types.NUMBERS
    question = Question(statement, tuple(parameters), types, MAX_ANSWER_BYTES)
    return await _ask_in_time(link, question)


async def ask_model(
    link: OpenConnection,
    model: type[M],
    statement: str,
    parameters: Sequence[str] = (),
    longest: int = MAX_ANSWER_BYTES,
) -> M:
    """Return the only value of a query for JSON, as a model. Raises Retryable, Permanent."""
    rows = await _ask_in_time(link, Question(statement, tuple(parameters), _JSON, longest))
    with contextlib.suppress(ValidationError):
        if len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], bytes):
            return model.model_validate_json(rows[0][0])
    raise Permanent("what answers is not a PostgreSQL: its catalogs say something else")


class PostgresConnection:
    """A PostgreSQL database that answers `select 1`."""

    config: ClassVar[type[BaseModel]] = PostgresAccess

    async def check(self, link: OpenConnection) -> None:
        """Log in and ask, as gates do."""
        await ask_rows(link, "select 1")


class Database:
    """One database by one role: a few connections, kept."""

    def __init__(self, link: OpenConnection) -> None:
        self._settings = settings_of(secret_value(link, link.config.url))
        self._trusted = link.config.superuser == "Allowed"
        self._timeout = link.timeout
        self._namespace = link.namespace
        self._slots = asyncio.Semaphore(MAX_SESSIONS)
        self._idle: list[Session] = []
        self._closed = False

    async def ask(
        self, question: Question, deadline: float, charge: Callable[[int], None]
    ) -> list[Row]:
        """Ask one question in a transaction of its own.

        `deadline`: a time of the loop's clock. `charge`: counts what comes in.
        """
        async with self._slots:
            while self._idle:
                kept = self._idle.pop()
                rows = await self._ask_session(kept, question, deadline, charge, is_kept=True)
                if rows is not None:
                    return rows

            session = await self._connect_first(charge)
            rows = await self._ask_session(session, question, deadline, charge)
            assert rows is not None
            return rows

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def _ask_session(
        self,
        session: Session,
        question: Question,
        deadline: float,
        charge: Callable[[int], None],
        is_kept: bool = False,
    ) -> list[Row] | None:
        """Return the rows; None where a connection broke that was kept, which says nothing about
        the database now."""
        left = deadline - asyncio.get_running_loop().time()
        before = session.relay.received
        reusable = False
        try:
            try:
                column = await session.begin(question, left)
            except (StatementFailed, psycopg.Error) as error:
                if is_kept and errors.is_broken(error) and not session.relay.is_cut:
                    return None
                raise

            rows = await session.finish(question, column)
            reusable = not self._closed and session.relay.received <= MAX_SESSION_BYTES
            return rows
        except (StatementFailed, psycopg.Error) as error:
            problem = _error_of_cut(session.relay) or _error_of_statement(error, question.statement)
        finally:
            charge(session.relay.received - before)
            if reusable:
                self._idle.append(session)
            else:
                await session.aclose()

        raise problem

    async def _connect_first(self, charge: Callable[[int], None]) -> Session:
        """Return the first address that lets the role in. Raises Retryable, Permanent."""
        places = await places_of(self._settings, self._namespace)
        # One silent address of several must not use up the time of the others.
        share = self._timeout / len(places)
        problem: Retryable | Permanent | None = None

        for place in places:
            try:
                return await self._connect_to(place, share, charge)
            except (Retryable, Permanent) as error:
                # Of several addresses, the one that will never do has the most to say.
                if not isinstance(problem, Permanent):
                    problem = error

        assert problem is not None
        raise problem

    async def _connect_to(
        self, place: Place, timeout: float, charge: Callable[[int], None]
    ) -> Session:
        relay = Relay(LOGIN_BYTES)
        login = login_of(self._settings, self._namespace, relay)
        ready = False
        try:
            settings = await relayed_settings(self._settings, login, place, relay, timeout)
            session = await Session.connect(settings, relay)
            if not self._trusted:
                await session.check_role()

            ready = True
            return session
        except (StatementFailed, psycopg.Error) as error:
            problem = _error_of_cut(relay) or relay.problem or _error_of_connecting(error, relay)
        finally:
            charge(relay.received + relay.charged)
            relay.close()
            if not ready:
                relay.abort()

        raise problem


async def _ask_in_time(link: OpenConnection, question: Question) -> list[Row]:
    """Return the rows, once what came in for the namespace before is paid for."""
    with await context.current().pace.admit(link.namespace) as account:
        count = meter.counter()

        def charge(size: int) -> None:
            count(size)
            account.spend(size)

        return await _ask_charged(link, question, charge)


async def _ask_charged(
    link: OpenConnection, question: Question, charge: Callable[[int], None]
) -> list[Row]:
    problem: Retryable | Permanent
    try:
        return await _run_within(link.timeout, _ask_database(link, question, charge))
    except (Retryable, Permanent) as error:
        problem = error
    except TimeoutError:
        problem = Retryable(f"the database gave no answer within {link.timeout:g}s")
    # Raised out here, so that no traceback leads from it to an error that holds a connection.
    raise hide_in_error(problem, link)


async def _ask_database(
    link: OpenConnection, question: Question, charge: Callable[[int], None]
) -> list[Row]:
    deadline = asyncio.get_running_loop().time() + link.timeout
    async with _database_pool().lend_client(
        link.identity, lambda: Database(link), link.namespace
    ) as database:
        return await database.ask(question, deadline, charge)


def _error_of_cut(relay: Relay) -> Permanent | None:
    if not relay.is_cut:
        return None
    size = f"more than {relay.allowance // 1024} KiB"
    return Permanent(f"the database sent {size} for one answer and was cut off")


def _error_of_statement(
    error: StatementFailed | psycopg.Error, statement: str
) -> Retryable | Permanent:
    if isinstance(error, StatementFailed):
        return errors.error_of_statement(error, statement, len(DECLARE_PREFIX))
    return Retryable("the connection to the database broke off")


def _error_of_connecting(
    error: StatementFailed | psycopg.Error, relay: Relay
) -> Retryable | Permanent:
    if isinstance(error, StatementFailed):
        return errors.error_of_statement(error, "", 0)
    if relay.refused:
        return Retryable("cannot connect to the database: connection refused")
    return errors.error_of_connecting(error)


async def _run_within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, if it comes in time.

    Raises TimeoutError, and lets it clean up behind our back.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            _late_tasks().add(task)


class _LateTasks:
    """Tasks that were cancelled, and clean up."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it has ended."""
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def close(self) -> None:
        """Cancel them once more, and wait for a moment."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=1.0)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


_database_pool = context.ContextPart(ClientPool[Database], ClientPool.aclose)
_late_tasks = context.ContextPart(_LateTasks, _LateTasks.close)
