"""`npm audit` and `npm run`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools import browser, k6
from tools.web import option

LEVELS = ("info", "low", "moderate", "high", "critical")


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments[:1] == ["audit"]:
        return audit(option(arguments, "--audit-level", "low"))
    if arguments[:2] == ["run", "test:smoke"]:
        return browser.test(arguments[2:])
    if arguments[:2] == ["run", "test:performance"]:
        return k6.load(arguments[2:])
    print(f"npm: unknown command {' '.join(arguments)}", file=sys.stderr)
    return 2


def audit(level: str) -> int:
    """Print the report; 1 where an advisory is of this level or above."""
    text = Path(__file__).parent.with_name("audit.json").read_text()
    print(text)
    found = json.loads(text)["metadata"]["vulnerabilities"]
    return int(any(found[name] for name in LEVELS[LEVELS.index(level) :]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
