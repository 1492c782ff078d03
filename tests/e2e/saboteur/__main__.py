"""`make saboteur SEED=1 DRAWS=200`: many draws, each violation with its seed and its timeline. Exit
1 where there is one."""

from __future__ import annotations

import argparse
import sys
import time

from tests.cluster.paths import Unavailable
from tests.e2e.main_job import make_cluster
from tests.e2e.saboteur import many
from tests.e2e.saboteur.draws import CHOSEN, draw
from tests.e2e.saboteur.site import Report


def main(arguments: list[str]) -> int:
    """Play what was asked for, and say what was found."""
    options = _options(arguments)
    first, *more = options.seed
    seeds = (
        CHOSEN if options.chosen else options.seed if more else range(first, first + options.draws)
    )
    if options.list:
        print("\n".join(str(draw(seed)) for seed in seeds))
        return 0
    started = time.monotonic()

    def told(report: Report) -> None:
        print(f"[{time.monotonic() - started:6.0f}s] {report}", flush=True)

    try:
        with many.made_ready(make_cluster()) as ground:
            reports = many.play(ground, list(seeds), told, options.beside)
    except Unavailable as reason:
        print(f"no cluster can be had here: {reason}", file=sys.stderr)
        return 2
    bad = [report for report in reports if report.violations]
    missed = sum(bool(report.missed) for report in reports)
    print(
        f"{len(reports)} draws in {time.monotonic() - started:.0f}s, {missed} of them "
        "missed their moment"
    )
    print(
        f"{len(bad)} with violations: {' '.join(str(report.draw.seed) for report in bad) or 'none'}"
    )
    return 1 if bad else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.saboteur", description=__doc__)
    parser.add_argument(
        "--seed",
        type=int,
        nargs="+",
        default=[1],
        help="the first seed (default: 1), or all of several",
    )
    parser.add_argument(
        "--draws", type=int, default=200, help="how many, each with the next seed (default: 200)"
    )
    parser.add_argument("--beside", type=int, default=many.BESIDE, help="how many at the same time")
    parser.add_argument(
        "--chosen", action="store_true", help="the short list that is part of the tests"
    )
    parser.add_argument("--list", action="store_true", help="only say what the seeds mean")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
