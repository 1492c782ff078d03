"""`status`: where Releases stand."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from gatewright.plugin import show
from gatewright.plugin.cluster import TABLE, Cluster, api_path
from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.failures import WrongUsage
from gatewright.plugin.options import add_connection, add_output, connect_cluster, parse_duration
from gatewright.plugin.output import print_answer, server_table_lines
from gatewright.plugin.terminal import print_lines

FOR_PROGRAMS = ("json", "yaml", "name")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "name", nargs="?", help="name of the Release; all of the namespace without it"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="a line for each change, until interrupted"
    )
    parser.add_argument(
        "--wait", action="store_true", help="until the Release is at rest; 0 if its version is live"
    )
    parser.add_argument(
        "--timeout", default=None, type=parse_duration, help="longest time to watch or wait (30m)"
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Show them, or follow them. Raises RequestFailed."""
    if options.wait and not options.name:
        raise WrongUsage("--wait needs the name of a Release")
    cluster = connect_cluster(options)
    namespace = "" if options.all_namespaces else cluster.namespace

    if options.watch or options.wait:
        from gatewright.plugin.follow import follow_release

        return follow_release(cluster, namespace, options)
    if options.name:
        return _show_release(cluster, options)
    return _show_releases(cluster, namespace, options)


def _show_release(cluster: Cluster, options: argparse.Namespace) -> int:
    release = cluster.get_release(options.name)
    print_answer(
        options.output,
        release,
        [show.object_name(release)],
        lambda: show.status_lines(release, datetime.now(UTC)),
    )
    return DONE


def _show_releases(cluster: Cluster, namespace: str, options: argparse.Namespace) -> int:
    path = api_path("releases", namespace)
    if options.output in FOR_PROGRAMS:
        listed = cluster.get(path)
        names = (show.object_name(release) for release in listed["items"])
        print_answer(options.output, listed, names, list)
        return DONE

    table = cluster.get(path, TABLE)
    if not table.get("rows"):
        place = f" in namespace {namespace}" if namespace else ""
        print_lines([f"No releases found{place}."], sys.stderr)
        return DONE

    is_wide = options.output == "wide"
    print_lines(server_table_lines(table, is_wide, options.all_namespaces))
    return DONE
