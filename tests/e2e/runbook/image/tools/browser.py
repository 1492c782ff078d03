"""Playwright's place: the tests of foco.mx, a request each, and the report of its reporter `json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.web import Answer, ask, option

HEALTH, METRICS, ORGANIZATIONS = "/api/health", "/api/metrics", "/api/organizations"


@dataclass(frozen=True)
class Case:
    """A test: what is asked, and what the answer has to be."""

    title: str
    path: str
    good: Callable[[Answer], bool]
    method: str = "GET"
    token: str = ""


def _json(answer: Answer, name: str) -> str:
    try:
        return str(json.loads(answer.text).get(name, ""))
    except (ValueError, AttributeError):
        return ""


def _status(wanted: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == wanted


def _silent(answer: Answer) -> bool:
    return answer.status == 401 and "uptime" not in answer.text


CASES = (
    Case("P0 the site answers", HEALTH, _status(200)),
    Case("P0 the site is well", HEALTH, lambda answer: _json(answer, "status") == "ok"),
    Case("says its version", HEALTH, lambda answer: bool(re.match(r"\d+\.\d+\.\d+", _json(answer, "version")))),
    Case("speaks JSON", HEALTH, lambda answer: answer.kind == "application/json"),
    Case("has a head", HEALTH, _status(200), method="HEAD"),
    Case("health cannot be written", HEALTH, _status(405), method="POST"),
    Case("health cannot be deleted", HEALTH, _status(405), method="DELETE"),
    Case("metrics are not for strangers @security", METRICS, _silent),
    Case("a wrong key opens nothing @security", METRICS, _silent, token="wrong"),
    Case("organizations are not for strangers @security", ORGANIZATIONS, _status(401)),
    Case("an empty key opens nothing @security", ORGANIZATIONS, _status(401), token=" "),
    Case("what is not there is not told @security", "/api/nothing", _status(401)),
)


def test(arguments: list[str]) -> int:
    """Run what is chosen and print the report; 1 where a test failed or there was none."""
    base = option(arguments, "--baseUrl") or os.environ["BASE_URL"]
    chosen = [case for case in CASES if re.search(option(arguments, "--grep", ""), case.title)]
    specs = [_spec(case, *_run(base, case)) for case in chosen]
    failed = sum(not spec["ok"] for spec in specs)
    suite = {"title": "foco.spec.ts", "file": "foco.spec.ts", "specs": specs}
    stats = {"duration": 1, "expected": len(specs) - failed, "unexpected": failed, "flaky": 0, "skipped": 0}
    errors = [] if specs else [{"message": "Error: No tests found"}]
    print(json.dumps({"config": {"version": "1.65.1"}, "suites": [suite], "errors": errors, "stats": stats}))
    return int(failed > 0 or not specs)


def _run(base: str, case: Case) -> tuple[bool, float]:
    headers = {"Authorization": f"Bearer {case.token}"} if case.token else {}
    answer = ask(base.rstrip("/") + case.path, case.method, headers)
    return case.good(answer), answer.seconds


def _spec(case: Case, good: bool, seconds: float) -> dict[str, object]:
    result = {"status": "passed" if good else "failed", "duration": round(seconds * 1000), "retry": 0}
    ran = {
        "expectedStatus": "passed",
        "projectName": "api",
        "status": "expected" if good else "unexpected",
        "results": [result],
    }
    return {"title": case.title, "ok": good, "tags": re.findall(r"@(\w+)", case.title), "tests": [ran]}
