"""`history`: how the latest runs of a Release have ended."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from gatewright.plugin import history
from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.options import add_connection, add_output, connect_cluster
from gatewright.plugin.output import print_answer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", help="name of the Release")
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Show the runs; with `-o name` their numbers, as `--run` takes them. Raises RequestFailed."""
    cluster = connect_cluster(options)
    release = cluster.get_release(options.name)
    runs = history.runs_of(release)

    print_answer(
        options.output,
        {"release": f"{cluster.namespace}/{options.name}", "runs": runs},
        [str(past["id"]) for past in runs],
        lambda: history.history_lines(release, datetime.now(UTC), options.output == "wide"),
    )
    return DONE
