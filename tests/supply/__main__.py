"""`python -m tests.supply`: one command, its answer, and 1 where it could not do its work."""

from __future__ import annotations

import argparse
import os
import sys

from tests.supply import SupplyError, audit, base, image, sbom
from tests.supply import __doc__ as description

COMMANDS = {
    "audit": lambda _: audit.audit(osv_url=os.environ.get("OSV_URL") or None),
    "sbom": lambda name: image.write(name) if name else sbom.write(),
    "pin-base": lambda _: base.pin(),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.supply",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--image", default="", help="sbom: look into this image instead of the checkout; needs syft"
    )
    options = parser.parse_args(arguments)
    try:
        print(f"{options.command}: {COMMANDS[options.command](options.image)}")
    except SupplyError as error:
        print(f"{options.command} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
