"""The database as its owner sees it, for the orchestrator's commands.

The database is DATABASE_URL, or libpq's own variables where that is empty. It is taken apart into
those variables for the programs of PostgreSQL: a URL among their arguments would show its password
to everybody on the machine. Errors of the database become `FailedError`, without the parts that
quote rows.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]
LOCK = 2451
"""Key of the advisory lock; any number, the same for all: two that change the schema take turns."""


class FailedError(Exception):
    """A step that did not do what it should; `step` names it, the text says why, without row
    contents."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


def libpq_environment(url: str) -> dict[str, str]:
    """libpq's variables for a URL; {} for no URL."""
    if not url:
        return {}
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
    }
    parts = psycopg.conninfo.conninfo_to_dict(url)
    unknown = sorted(set(parts) - set(names) - {"sslmode"})
    if unknown:
        raise FailedError(
            "DATABASE_URL", f"has parameters that are not supported: {', '.join(unknown)}"
        )
    names["sslmode"] = "PGSSLMODE"
    return {names[key]: str(value) for key, value in parts.items()}


@contextmanager
def connected(step: str) -> Iterator[Connection]:
    """The owner's connection, in autocommit; errors of the database become FailedError."""
    try:
        with psycopg.connect(
            os.environ.get("DATABASE_URL", ""), autocommit=True, connect_timeout=10
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise FailedError(step, told(error)) from error


def told(error: psycopg.Error) -> str:
    # The primary message alone: DETAIL and CONTEXT quote rows.
    message = error.diag.message_primary or str(error).splitlines()[0]
    return f"{error.sqlstate or 'no SQLSTATE'}: {message}"


def program(step: str, arguments: list[str], stdin: bytes | None = None) -> bytes:
    environment = os.environ | libpq_environment(os.environ.get("DATABASE_URL", ""))
    done = subprocess.run(arguments, input=stdin, capture_output=True, env=environment, check=False)
    if done.returncode:
        lines = [
            line
            for line in done.stderr.decode(errors="replace").splitlines()
            if re.search("error|fatal", line, re.IGNORECASE)
        ]
        raise FailedError(
            step, f"{arguments[0]} ended with {done.returncode}: {'; '.join(lines)[:600]}"
        )
    return done.stdout


def tables(connection: Connection) -> list[str]:
    """The tables of schema foco, sorted; none if there is no such schema."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'foco' AND c.relkind = 'r' ORDER BY 1"
    ).fetchall()
    return [row[0] for row in rows]


def row_counts(connection: Connection) -> dict[str, int]:
    counts = {}
    for table in tables(connection):
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("foco", table))
        row = connection.execute(query).fetchone()
        counts[table] = row[0] if row else 0
    return counts
