"""`checklist`: the runbook as a list to be ticked off."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.options import add_connection, connect_cluster, require_subject
from gatewright.plugin.runbooks import resolved_release
from gatewright.plugin.terminal import print_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", nargs="?", help="name of the Release")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        metavar="FILE",
        help="the Release of a file (- for the standard input), without a cluster and unmarked; "
        "more files may have its Runbook",
    )
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Print it. Raises RequestFailed."""
    require_subject(options)
    from gatewright.plugin import checklist
    from gatewright.plugin.start import NOT_ASKED, fetch_freezes

    now, freezes = datetime.now(UTC), NOT_ASKED
    if options.filename:
        from gatewright.plugin.files import read_release

        release = read_release(options.filename, options.name)
    else:
        cluster = connect_cluster(options)
        release = resolved_release(cluster, options.name)
        freezes = fetch_freezes(cluster, now)

    print_lines(checklist.checklist_lines(release, freezes, now))
    return DONE
