"""How a command has gone, as a number for scripts: the same meaning for every command."""

from __future__ import annotations

from collections.abc import Mapping

DONE, FAILED, USAGE, LATE, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES: Mapping[int, str] = {
    DONE: "done: it was accepted, shown, or is as it should be",
    FAILED: "refused, failed, or not as it should be; the message says what",
    USAGE: "wrong usage: nobody was asked anything",
    LATE: "not answered, or not over, in time",
    INTERRUPTED: "interrupted from the keyboard",
}
"""Every exit code there is; `--help` and docs/plugin.md have this table."""
