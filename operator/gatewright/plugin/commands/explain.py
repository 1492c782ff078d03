"""`explain`: why a Release is where it is."""

from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import UTC, datetime

from gatewright.plugin import explain, show
from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.options import add_connection, add_output, connect_cluster
from gatewright.plugin.output import print_answer
from gatewright.plugin.runbooks import find_in, with_runbook


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", help="name of the Release")
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Show everything that explains it. Raises RequestFailed."""
    cluster = connect_cluster(options)
    release = cluster.get_release(options.name)
    # What stands in a Runbook that is gone, or cannot be read, explains nothing.
    with suppress(RequestFailed):
        release = with_runbook(release, find_in(cluster))
    print_answer(
        options.output,
        # A program that asks why gets the status, in which all of it stands.
        release.get("status", {}),
        [show.object_name(release)],
        lambda: explain.explain_lines(release, datetime.now(UTC)),
    )
    return DONE
