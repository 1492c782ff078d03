"""`python -m tests.bench [decision] [fleet] [noisy]`."""

from __future__ import annotations

import os
import sys

from tests.bench import decision, fleet, noisy

ALL = {"decision": decision.main, "fleet": fleet.main, "noisy": noisy.main}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"unknown: {', '.join(unknown)} (known: {', '.join(ALL)})", file=sys.stderr)
        return 2
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start: figures of a "
        "busy machine are not figures"
    )
    for name in names or ALL:
        ALL[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
