"""Where the plugin writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


def print_lines(lines: Iterable[str], to: Any = None) -> None:
    stream = to or sys.stdout
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()
