"""`python -m tests.supply`: one command, its answer, and 1 where it could not do its work."""

from __future__ import annotations

import argparse
import os
import sys

from tests.supply import SupplyError, audit, base, sbom
from tests.supply import __doc__ as description

COMMANDS = {
    "audit": lambda: audit.audit(osv_url=os.environ.get("OSV_URL") or None),
    "sbom": sbom.write,
    "pin-base": base.pin,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.supply", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    options = parser.parse_args(arguments)
    try:
        print(f"{options.command}: {COMMANDS[options.command]()}")
    except SupplyError as error:
        print(f"{options.command} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
