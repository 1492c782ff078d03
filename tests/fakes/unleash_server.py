"""A real unleash-server, where somebody has installed one: `npm install unleash-server@6.10.1` in a
folder (Node 18 to 20), and `GATEWRIGHT_UNLEASH` names the folder. The stand-in in `flags` answers
as this one does."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.processes import free_port
from tests.contract.world import PASSWORD_QUOTED, Postgres

TOKEN = "*:*.tok-5eCr3t-b34rer-0123456789"
FOLDER = os.environ.get("GATEWRIGHT_UNLEASH", "")


@contextmanager
def unleash_server(database: Postgres) -> Iterator[str]:
    """Start it on a database of its own; its base URL."""
    with database.admin() as admin:
        admin.execute("DROP DATABASE IF EXISTS unleash")
        admin.execute("CREATE DATABASE unleash")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"postgres://postgres:{PASSWORD_QUOTED}@127.0.0.1:{database.port}/unleash",
        "DATABASE_SSL": "false",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "LOG_LEVEL": "warn",
        "CHECK_VERSION": "false",
        "SEND_TELEMETRY": "false",
        "INIT_ADMIN_API_TOKENS": TOKEN,
    }
    with tempfile.TemporaryFile() as log:
        program = Path(FOLDER, "node_modules/unleash-server/dist/server.js")
        process = subprocess.Popen(["node", str(program)], stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 90
            while not _answers(f"{url}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(
                        f"Unleash did not start: {log.read()[-2000:].decode(errors='replace')}"
                    )
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def switched(url: str, flag: str, environments: dict[str, bool]) -> None:
    """Have a flag, in these states."""
    _post(f"{url}/api/admin/projects/default/features", {"name": flag, "type": "release"})
    for name, on in environments.items():
        _post(
            f"{url}/api/admin/projects/default/features/{flag}/environments/{name}/{'on' if on else 'off'}",
            {},
        )


def _post(url: str, body: dict[str, Any]) -> None:
    headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
    try:
        urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=10
        ).close()
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True
