"""Prism: a server made of a vendor's OpenAPI file. It refuses requests that the file does not
describe, and answers with the file's own examples; `Prefer: code=429` makes it answer that."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from multidict import CIMultiDict

from gatewright.providers.common import client
from tests.cluster.processes import free_port
from tests.fakes import npm

PACKAGE = "@stoplight/prism-cli@5.16.0"
FORCED = ("429", "500")


@contextmanager
def mocking(document: Mapping[str, Any], under: str = "") -> Iterator[str]:
    """The server of a file, its paths below `under`; its base URL."""
    program = npm.installed(PACKAGE) / "@stoplight" / "prism-cli" / "dist" / "index.js"
    with tempfile.TemporaryDirectory(prefix="gatewright-prism-") as directory:
        file, log, port = Path(directory, "spec.json"), Path(directory, "log"), free_port()
        file.write_text(json.dumps(_served(document, under)))
        with log.open("wb") as out:
            # What Prism needs is written as ES modules by now, which older lines of Node load only
            # when they are told to.
            node = ["node", "--experimental-require-module", "--no-warnings"]
            command = [*node, str(program), "mock", str(file), "--port", str(port), "--errors"]
            process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
        try:
            _until_listening(process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextmanager
def preferring(wish: str) -> Iterator[None]:
    """Every request of our client says what it would like to be answered: `code=429`,
    `dynamic=true`."""
    with _changing(lambda headers: headers.update({"Prefer": wish})):
        yield


@contextmanager
def understood() -> Iterator[None]:
    """Prism compares `Accept` with what the file names, letter by letter: a vendor's own JSON is
    asked for as JSON."""

    def plain(headers: CIMultiDict[str]) -> None:
        if headers.get("Accept", "").endswith("+json"):
            headers["Accept"] = "application/json"

    with _changing(plain):
        yield


@contextmanager
def _changing(change: Callable[[CIMultiDict[str]], None]) -> Iterator[None]:
    build = client.Client._build_request

    def changed(self: client.Client, wish: Any) -> client.Request:
        request = build(self, wish)
        change(request.headers)
        return request

    with mock.patch.object(client.Client, "_build_request", changed):
        yield


def _served(document: Mapping[str, Any], under: str) -> dict[str, Any]:
    served = {
        **document,
        "paths": {
            f"{under}{path}": copy.deepcopy(item) for path, item in document["paths"].items()
        },
    }
    for name in ("servers", "webhooks"):
        served.pop(name, None)
    for item in served["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict) and "responses" in operation:
                # few files say what a limit or a fault looks like; without a body it is one all the
                # same
                operation["responses"] |= {
                    code: {"description": code} for code in FORCED
                } | operation["responses"]
    return served


def _until_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while "is listening" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Prism did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
