"""Migrations: numbered SQL files by version, each applied once.

A file is one transaction together with its row in foco.schema_migrations. Files before a failing
one stay applied: the database is then half way, and a restore is the only way back.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from focomx.owner import LOCK, Connection, FailedError, connected, told

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_ATTEMPTS = 4


@dataclass(frozen=True)
class Migration:
    version: str
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def parsed(version: str) -> tuple[int, ...]:
    """2.4.0 as (2, 4, 0), so that 2.10.0 comes after 2.9.0."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise FailedError("APP_VERSION", f"{version!r} is not a version like 2.4.0")
    return tuple(int(part) for part in version.split("."))


def wanted(version: str, directory: Path = MIGRATIONS) -> list[Migration]:
    """What `version` and all before it bring, in the order of the file names."""
    found = [
        Migration(file.parent.name, file.stem, file.read_text())
        for file in directory.glob("*/*.sql")
        if parsed(file.parent.name) <= parsed(version)
    ]
    return sorted(found, key=lambda migration: migration.name)


_TABLE = """
    CREATE SCHEMA IF NOT EXISTS foco;
    CREATE TABLE IF NOT EXISTS foco.schema_migrations (
        name       text PRIMARY KEY,
        version    text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


def _apply(connection: Connection, migration: Migration) -> bool:
    """Apply one file, unless it is; True if this call did it."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '60s'")
        row = connection.execute(
            "SELECT checksum FROM foco.schema_migrations WHERE name = %s", (migration.name,)
        ).fetchone()
        if row is not None:
            if row[0] != migration.checksum:
                raise FailedError(
                    migration.name, "was applied with other contents than this image has"
                )
            return False
        connection.execute(migration.text.encode())
        connection.execute(
            "INSERT INTO foco.schema_migrations (name, version, checksum) VALUES (%s, %s, %s)",
            (migration.name, migration.version, migration.checksum),
        )
    return True


def _apply_patiently(connection: Connection, migration: Migration) -> bool:
    """A lock that is busy or a deadlock is worth another attempt; everything else is the
    migration's own fault."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _apply(connection, migration)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == _ATTEMPTS:
                raise FailedError(migration.name, told(error)) from error
            print(f"{migration.name}: {told(error)}, again", file=sys.stderr, flush=True)
        except psycopg.Error as error:
            raise FailedError(migration.name, told(error)) from error
    raise AssertionError("unreachable")


def migrate(env: Mapping[str, str]) -> dict[str, Any]:
    version = env["APP_VERSION"]
    applied: list[str] = []
    with connected("migrate") as connection:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute("SET LOCAL client_min_messages = warning")
            connection.execute(_TABLE.encode())
        for migration in wanted(version):
            if _apply_patiently(connection, migration):
                applied.append(migration.name)
                print(f"applied {migration.name} of {migration.version}", flush=True)
    return {"version": version, "applied": " ".join(applied)}
