"""The runbook's orchestrator: backup | migrate | verify | rollback ID.

All may be repeated: a backup stands as it was first made in a run, a migration asks what is there,
and a restore ends in the same state each time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TABLES = ("public.organizations", "public.tasks", "public.workspaces")
NAME = "backups/database/before-2.4.0.dump"
ADDED = """
    SELECT count(*) FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = 'tasks' AND column_name = 'priority'
"""


class Failed(Exception):
    """What did not work."""


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        _publish(COMMANDS[arguments[0]](*arguments[1:]))
    except (Failed, OSError) as error:
        _publish({"failed": arguments[0], "reason": str(error)})
        return 1
    return 0


def backup() -> dict[str, object]:
    """Dump, prove, keep."""
    dump = _dump()
    listed = re.findall(
        r"^\d+; \d+ \d+ TABLE (?!DATA )(\w+) (\w+)",
        _run(["pg_restore", "--list"], dump).decode(),
        re.MULTILINE,
    )
    _store("PUT", NAME, dump)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    tables = sorted(".".join(item) for item in listed)
    return {"id": NAME, "bytes": len(dump), "createdAt": created, "tables": tables}


def migrate() -> dict[str, object]:
    """Bring what this image brings."""
    _psql(Path("migration.sql").read_bytes())
    return {"migration": "applied"}


def verify() -> dict[str, object]:
    """Whether it is there."""
    if _psql(ADDED.encode()).decode().strip() != "1":
        raise Failed("the column of the migration is not there")
    return {"checks": 1}


def rollback(identity: str) -> dict[str, object]:
    """Back to a backup, in one transaction, where the database differs from it."""
    kept = _store("GET", identity)
    script = _script(kept)
    if _plain(script) == _plain(_script(_dump())):
        return {"restored": False}
    drop = "".join(f"DROP TABLE {table} CASCADE;\n" for table in TABLES)
    _psql(b"LOCK TABLE " + ", ".join(TABLES).encode() + b";\n" + drop.encode() + script)
    if _plain(script) != _plain(_script(_dump())):
        raise Failed("the database differs from the backup after it was restored")
    return {"restored": True}


def _dump() -> bytes:
    tables = [f"--table={table}" for table in TABLES]
    return _run(["pg_dump", "--format=custom", "--compress=0", *tables, os.environ["DATABASE_URL"]])


def _script(dump: bytes) -> bytes:
    return _run(["pg_restore", "--file=-"], dump)


def _plain(script: bytes) -> list[bytes]:
    """What a script says, whatever its comments say and in whatever order rows are stored."""
    return sorted(
        line for line in script.splitlines() if line and not line.startswith((b"--", b"\\"))
    )


def _psql(script: bytes) -> bytes:
    flags = [
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
    ]
    return _run(["psql", *flags, "--file=-", os.environ["DATABASE_URL"]], script)


def _run(command: list[str], stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode:
        lines = re.findall(rb"(?:ERROR|error|FATAL): .*", done.stderr)
        raise Failed(
            f"{command[0]} ended with {done.returncode}: "
            f"{b'; '.join(lines[:3]).decode(errors='replace')}"
        )
    return done.stdout


def _store(method: str, name: str, content: bytes | None = None) -> bytes:
    request = urllib.request.Request(
        f"{os.environ['BACKUP_STORE_URL']}/{name}", content, method=method
    )
    request.add_header("Authorization", f"Bearer {os.environ['BACKUP_STORE_TOKEN']}")
    request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return bytes(found.read())
    except urllib.error.HTTPError as error:
        raise Failed(f"the store of backups says {error.code} to {method} {name}") from None


def _publish(outputs: dict[str, object]) -> None:
    text = json.dumps(outputs)
    print(text)
    message = Path("/dev/termination-log")
    if message.exists():
        message.write_text(text)


COMMANDS = {"backup": backup, "migrate": migrate, "verify": verify, "rollback": rollback}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
