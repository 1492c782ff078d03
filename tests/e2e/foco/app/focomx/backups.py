"""Backup and restore of schema foco.

A backup is proved before it counts: the rows in the dump are those of the snapshot it was taken
from, and it comes back from the store as it was written. Its manifest is written last: what has a
manifest is a whole backup.

The restore is one transaction: end the other sessions, lock every table, drop the schema, load the
dump, count the rows, commit. Dropping the whole schema (rather than `pg_restore --clean`, which
knows only what is in the dump) also removes what the failed version added. Whoever connects
meanwhile waits on the locks.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from focomx.owner import LOCK, FailedError, connected, program, row_counts, tables
from focomx.store import Client, ExistsError

_ATTEMPTS = 4


def _store(env: Mapping[str, str]) -> Client:
    return Client(env["BACKUP_STORE_URL"], env["BACKUP_STORE_TOKEN"])


def _identifier(env: Mapping[str, str]) -> str:
    name = env.get("BACKUP_NAME")
    if name:
        return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:100]
    now = datetime.datetime.now(datetime.UTC)
    return f"foco-{now:%Y%m%dt%H%M%S}-{secrets.token_hex(3)}"


def _copied_rows(dump: bytes) -> dict[str, int]:
    """Rows by table as they stand in the dump: what a restore would really bring."""
    script = program("prove", ["pg_restore", "--data-only", "--file=-"], dump).decode()
    counts: dict[str, int] = {}
    table = None
    for line in script.split("\n"):
        start = re.match(r"COPY foco\.(\S+) .*FROM stdin;$", line)
        if start:
            table = start[1]
            counts[table] = 0
        elif line == "\\.":
            table = None
        elif table is not None:
            counts[table] += 1
    return counts


def _dump() -> tuple[bytes, dict[str, int]]:
    """A dump, and the row counts of the very snapshot it was taken from."""
    with connected("backup") as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        rows = row_counts(connection)
        dump = program(
            "backup",
            [
                "pg_dump",
                "--format=custom",
                "--schema=foco",
                "--no-owner",
                f"--snapshot={row[0]}",
                "--lock-wait-timeout=10s",
            ],
        )
    return dump, rows


def _prove(dump: bytes, rows: Mapping[str, int]) -> int:
    """The number of tables in the dump; FailedError if the dump is not what the database held."""
    listed = program("prove", ["pg_restore", "--list"], dump).decode()
    found = sum(
        1
        for line in listed.splitlines()
        if not line.startswith(";") and " TABLE DATA foco " in line
    )
    if not found or not dump:
        raise FailedError("prove", "the dump holds no table")
    copied = _copied_rows(dump)
    if copied != dict(rows):
        raise FailedError("prove", f"the dump holds {copied}, the database {dict(rows)}")
    return found


def _kept(store: Client, identifier: str) -> dict[str, Any] | None:
    """The manifest of a backup that is in the store; FailedError if its dump is not what the
    manifest says."""
    text = store.get(f"{identifier}.json")
    if text is None:
        return None
    manifest: dict[str, Any] = json.loads(text)
    dump = store.get(f"{identifier}.dump")
    if dump is None or hashlib.sha256(dump).hexdigest() != manifest["sha256"]:
        raise FailedError(
            "prove", f"backup {identifier} does not come back from the store as it was written"
        )
    return manifest


def backup(env: Mapping[str, str]) -> dict[str, Any]:
    store, identifier = _store(env), _identifier(env)
    manifest = _kept(store, identifier)
    if manifest is None:
        dump, rows = _dump()
        digest = hashlib.sha256(dump).hexdigest()
        manifest = {
            "id": identifier,
            "bytes": len(dump),
            "tables": _prove(dump, rows),
            "rows": rows,
            "sha256": digest,
        }
        # The manifest goes last: what has a manifest is a whole backup.
        try:
            store.put(f"{identifier}.dump", dump)
        except ExistsError:
            # An earlier attempt died between the two. Its dump has no manifest to prove it by; take
            # a new name.
            return backup({**env, "BACKUP_NAME": f"{identifier}-{secrets.token_hex(3)}"})
        store.put(f"{identifier}.json", json.dumps(manifest).encode())
        manifest = _kept(store, identifier)
        if manifest is None:
            raise FailedError("prove", "the manifest did not come back from the store")
    published = {key: manifest[key] for key in ("id", "bytes", "tables")}
    return published | {"rows": sum(manifest["rows"].values())}


_BEFORE = """
\\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '120s';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND usename IN ('foco_owner', 'foco_app', 'foco_monitor') \\g /dev/null
SELECT pg_advisory_xact_lock({lock}) \\g /dev/null
{lock_tables}
DROP SCHEMA IF EXISTS foco CASCADE;
"""

# Inside the same transaction: if the counts are wrong, what was there before stays.
_AFTER = """
DO $check$
DECLARE expected jsonb := '{rows}'; name text; n bigint;
BEGIN
    FOR name IN SELECT jsonb_object_keys(expected) LOOP
        EXECUTE format('SELECT count(*) FROM foco.%I', name) INTO n;
        IF n <> (expected ->> name)::bigint THEN
            RAISE EXCEPTION 'table % came back with % rows, the backup has %', name, n, expected ->> name;
        END IF;
    END LOOP;
END $check$;
COMMIT;
"""


def _restore_script(dump: bytes, manifest: Mapping[str, Any]) -> bytes:
    with connected("rollback") as connection:
        names = [
            sql.Identifier("foco", table).as_string(connection) for table in tables(connection)
        ]
    lock_tables = f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE;" if names else ""
    body = program("rollback", ["pg_restore", "--no-owner", "--file=-"], dump)
    before = _BEFORE.format(lock=LOCK, lock_tables=lock_tables)
    # The dump's own script sets client_encoding and search_path; names below are qualified.
    return before.encode() + body + _AFTER.replace("{rows}", json.dumps(manifest["rows"])).encode()


def rollback(env: Mapping[str, str]) -> dict[str, Any]:
    identifier = env.get("BACKUP_ID")
    if not identifier:
        raise FailedError(
            "BACKUP_ID", "is not set: which backup to restore is for the caller to say"
        )
    store = _store(env)
    manifest = _kept(store, identifier)
    dump = store.get(f"{identifier}.dump")
    if manifest is None or dump is None:
        raise FailedError("BACKUP_ID", f"there is no backup {identifier}; nothing was changed")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            program(
                "rollback",
                ["psql", "--no-psqlrc", "--quiet", "--file=-"],
                _restore_script(dump, manifest),
            )
            break
        except FailedError as error:
            busy = "deadlock detected" in error.reason or "lock timeout" in error.reason
            if attempt == _ATTEMPTS or not busy:
                raise
            print(f"rollback: {error.reason}, again", file=sys.stderr, flush=True)
    return {"id": identifier, "tables": manifest["tables"], "rows": sum(manifest["rows"].values())}
