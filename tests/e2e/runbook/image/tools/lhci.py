"""Lighthouse CI's place: the page is loaded five times, and `.lighthouseci/assertion-results.json`
is written."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from tools.web import ask, option

LOADS = 5
SLOWEST, LARGEST = 5000.0, 300_000
"""Milliseconds and bytes."""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments[:1] != ["autorun"]:
        print(f"lhci: unknown command {' '.join(arguments)}", file=sys.stderr)
        return 2
    url = option(arguments, "--collect.url")
    answers = [ask(f"{url.rstrip('/')}/api/health") for _ in range(LOADS)]
    if any(answer.status != 200 for answer in answers):
        print("lhci: the page could not be loaded", file=sys.stderr)
        return 1
    times = [answer.seconds * 1000 for answer in answers]
    sizes = [len(answer.text) for answer in answers]
    results = [
        _result("interactive", SLOWEST, times, url),
        _result("resource-summary", LARGEST, sizes, url, "script:size"),
    ]
    Path(".lighthouseci", "assertion-results.json").write_text(json.dumps(results))
    return int(not all(result["passed"] for result in results))


def _result(
    audit: str, limit: float, values: list[float], url: str, part: str = ""
) -> dict[str, object]:
    actual = statistics.median(values)
    found = {
        "name": "maxNumericValue",
        "expected": limit,
        "actual": actual,
        "values": values,
        "operator": "<=",
        "passed": actual <= limit,
        "auditId": audit,
        "level": "error",
        "url": url,
    }
    return found | ({"auditProperty": part.split(":")} if part else {})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
