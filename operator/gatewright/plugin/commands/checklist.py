"""`checklist`: the runbook as a list to be ticked off."""

from __future__ import annotations

import argparse

from gatewright.plugin import checklist
from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.failures import WrongUsage
from gatewright.plugin.options import add_connection, connect_cluster
from gatewright.plugin.runbooks import resolved_release
from gatewright.plugin.terminal import print_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", nargs="?", help="name of the Release")
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        help="the Release of a file (- for the standard input), without a cluster and unmarked",
    )
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Print it. Raises RequestFailed."""
    if options.filename:
        from gatewright.plugin.files import read_release

        release = read_release(options.filename, options.name)
    elif options.name:
        release = resolved_release(connect_cluster(options), options.name)
    else:
        raise WrongUsage("name a Release, or a file by -f")

    print_lines(checklist.checklist_lines(release))
    return DONE
