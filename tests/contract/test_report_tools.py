"""Reports that programs of others write while the test runs: Playwright without a browser, npm
without a registry, k6."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import free_port
from tests.contract.test_reports import read
from tests.contract.world import missing
from tests.e2e.runbook import programs
from tests.fakes import npm

SPEC = """
import { test, expect } from "@playwright/test";
const status = async (request, path) => (await request.get(process.env.SITE + path)).status();
test.describe("login", () => {
  test("answers @P0", async ({ request }) => { expect(await status(request, "/")).toBe(200); });
  test("locks the account", async ({ request }) => { expect(await status(request, "/lock")).toBe(200); });
});
"""


class _Site(BaseHTTPRequestHandler):
    """200 for the front page, 500 for all others; and as a registry: no advisories are answered."""

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/" else 500)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(405)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def played(folder: Path, site: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a run of the two tests."""
    modules = npm.installed(npm.PLAYWRIGHT)
    (folder / "node_modules").symlink_to(modules)
    (folder / "login.spec.ts").write_text(SPEC)
    command = [
        "node",
        str(modules / "@playwright/test/cli.js"),
        "test",
        "--reporter=json",
        *arguments,
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "SITE": site}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, f"> shop@1.0.0 test\n{done.stdout}"


def test_playwright_passes(tmp_path: Path, site: str) -> None:
    code, text = played(tmp_path, site, "--grep", "@P0")
    found = read("playwright", text)
    assert (
        code == 0 and found is not None and (found.good, found.words) == (True, "1 test passed")
    ), text
    assert found.outputs["passed"] == "1"


def test_playwright_names_the_first_test_that_failed(tmp_path: Path, site: str) -> None:
    code, text = played(tmp_path, site)
    found = read("playwright", text)
    assert code == 1 and found is not None and not found.good
    assert found.words == "1 of 2 tests failed, first: login.spec.ts › login › locks the account"


@pytest.mark.parametrize(("more", "expected"), [((), 1), (("--pass-with-no-tests",), 0)])
def test_playwright_that_finds_no_test_is_never_good(
    tmp_path: Path, site: str, more: tuple[str, ...], expected: int
) -> None:
    code, text = played(tmp_path, site, "--grep", "nothing is called so", *more)
    found = read("playwright", text)
    assert code == expected and found is not None and not found.good
    assert found.words.startswith("no test ran"), found.words


def audited(folder: Path, registry: str) -> tuple[int, str]:
    if shutil.which("npm") is None:
        missing("npm is not installed")
    package = {"name": "shop", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}}
    locked = {"version": "7.0.0", "resolved": f"{registry}/is-number/-/is-number-7.0.0.tgz"}
    lock = {"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
            "packages": {"": package, "node_modules/is-number": locked}}  # fmt: skip
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    command = ["npm", "audit", "--json", "--registry", registry, "--fetch-retries", "0"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_UPDATE_NOTIFIER": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("registry", ["refuses", "is away"])
def test_an_audit_that_could_not_ask_is_never_good(
    tmp_path: Path, site: str, registry: str
) -> None:
    code, text = audited(
        tmp_path, site if registry == "refuses" else f"http://127.0.0.1:{free_port()}"
    )
    found = read("npmAudit", text)
    assert code == 1 and found is not None and not found.good, text
    assert found.words.startswith("npm audit could not run"), found.words


def loaded(folder: Path, site: str, options: str, body: str = "") -> tuple[int, str]:
    """Exit code and summary of a run of k6, whose script asks for the front page after what `body`
    does."""
    (folder / "load.js").write_text(
        f"""
        import http from "k6/http";
        import {{ sleep }} from "k6";
        export const options = {{ {options} }};
        export default function () {{ {body} http.get("{site}/"); }}
        """
    )
    command = [str(programs.k6()), "run", "--quiet", "--summary-export=/dev/stdout", "load.js"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **programs.SETTINGS}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_k6_holds(tmp_path: Path, site: str) -> None:
    thresholds = 'http_req_duration: ["p(95)<60000"], http_req_failed: ["rate<0.01"]'
    code, text = loaded(tmp_path, site, f"vus: 1, iterations: 5, thresholds: {{ {thresholds} }}")
    found = read("k6", text)
    assert (
        code == 0 and found is not None and (found.good, found.words) == (True, "2 thresholds held")
    ), text
    assert (found.outputs["requests"], found.outputs["errorRate"]) == ("5", "0%")


def test_k6_names_the_threshold_that_was_crossed(tmp_path: Path, site: str) -> None:
    thresholds = 'http_req_duration: ["p(95)<60000"], http_req_failed: ["rate<0.01"]'
    code, text = loaded(
        tmp_path, f"{site}/lock", f"vus: 1, iterations: 5, thresholds: {{ {thresholds} }}"
    )
    found = read("k6", text)
    assert code == 99 and found is not None and not found.good
    assert found.words == "1 of 2 thresholds crossed, first: http_req_failed rate<0.01 (1)"


def test_k6_that_asks_for_nothing_keeps_its_thresholds_and_is_never_good(
    tmp_path: Path, site: str
) -> None:
    one = '{ executor: "constant-vus", vus: 1, duration: "1s", gracefulStop: "0s" }'
    options = f'scenarios: {{ one: {one} }}, thresholds: {{ http_req_duration: ["p(95)<60000"] }}'
    code, text = loaded(tmp_path, site, options, "sleep(3600);")
    found = read("k6", text)
    assert code == 0 and found is not None and not found.good
    assert found.words == "no iteration was completed"
