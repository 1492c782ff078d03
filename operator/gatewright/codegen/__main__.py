"""python -m gatewright.codegen [--check] [--root DIRECTORY]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gatewright.codegen import files
from gatewright.codegen.uses import UnnamedConnection

CHECKOUT = Path(__file__).resolve().parents[3]


def main(argv: list[str] | None = None) -> int:
    """Write every generated file, or say which are not up to date; 1 where `--check` sees any,
    or where a provider is refused."""
    parser = argparse.ArgumentParser(prog="python -m gatewright.codegen", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where a file is not up to date"
    )
    parser.add_argument(
        "--root", type=Path, default=CHECKOUT, help="the checkout (default: where this package is)"
    )
    options = parser.parse_args(argv)
    try:
        generated = files.generated_files()
    except UnnamedConnection as error:
        print(error, file=sys.stderr)
        return 1

    if not options.check:
        for path in files.write_stale(options.root, generated):
            print(f"wrote {path}" if path in generated else f"removed {path}")
        return 0

    stale = files.stale_paths(options.root, generated)
    for path in stale:
        print(f"{path} is not up to date; run make generate", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
