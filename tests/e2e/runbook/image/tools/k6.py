"""k6's place: requests one after the other, and the file of `--summary-export`."""

from __future__ import annotations

import json
import os
import sys

from tools.web import ask, option

REQUESTS = 20
SLOWEST, MOST = 5000.0, 0.01
"""Thresholds: milliseconds of the 95th percentile, and the part of requests that may fail."""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments[:1] != ["run"]:
        print(f"k6: unknown command {' '.join(arguments)}", file=sys.stderr)
        return 2
    return load(arguments[1:])


def load(arguments: list[str]) -> int:
    """Run and print the summary; 99, as k6 has it, where a threshold is crossed."""
    base = option(arguments, "--baseUrl") or os.environ["BASE_URL"]
    answers = [ask(f"{base.rstrip('/')}/api/health") for _ in range(REQUESTS)]
    times = sorted(answer.seconds * 1000 for answer in answers)
    failed = sum(answer.status != 200 for answer in answers)
    p95 = times[int(REQUESTS * 0.95) - 1]
    slow, bad = p95 >= SLOWEST, failed / REQUESTS >= MOST
    duration = {"min": times[0], "avg": sum(times) / REQUESTS, "med": times[REQUESTS // 2], "max": times[-1]}
    counts = {"count": REQUESTS, "rate": REQUESTS / max(sum(times) / 1000, 0.001)}
    metrics = {
        # in this file `true` says that a threshold was crossed, and the passes of a failure rate are failures
        "http_req_duration": {**duration, "p(95)": p95, "thresholds": {f"p(95)<{SLOWEST:g}": slow}},
        "http_req_failed": {
            "passes": failed,
            "fails": REQUESTS - failed,
            "value": failed / REQUESTS,
            "thresholds": {f"rate<{MOST:g}": bad},
        },
        "http_reqs": counts,
        "iterations": counts,
    }
    group = {"name": "", "path": "", "id": "d41d8cd98f00b204e9800998ecf8427e", "groups": {}, "checks": {}}
    print(json.dumps({"metrics": metrics, "root_group": group}))
    return 99 if slow or bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
