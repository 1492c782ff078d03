"""`connections`: are they ready, all of a namespace or those that a Release uses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from gatewright.plugin import connections
from gatewright.plugin.cluster import TABLE, Cluster, api_path
from gatewright.plugin.exit_codes import DONE, FAILED
from gatewright.plugin.options import add_connection, add_output, connect_cluster
from gatewright.plugin.output import print_answer, server_table_lines
from gatewright.plugin.runbooks import resolved_release
from gatewright.plugin.show import table_lines
from gatewright.plugin.terminal import print_lines

_USED_HEAD = ("NAME", "READY", "REASON", "USED-BY")
_WIDE_USED_HEAD = (*_USED_HEAD[:3], "MESSAGE", "USED-BY")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "name", nargs="?", help="a Release: those that it uses; all of the namespace without it"
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Show whether they are ready; 1 where one is not. Raises RequestFailed."""
    cluster = connect_cluster(options)
    # The columns are the API server's own; the objects tell of which spec they speak.
    table = cluster.get(f"{api_path('connections', cluster.namespace)}?includeObject=Object", TABLE)
    objects = [row["object"] for row in table.get("rows") or ()]

    if options.name:
        judged = _used_by(cluster, options.name, objects)
    else:
        judged = [connections.readiness_of(connection) for connection in objects]

    if not judged and options.output not in ("json", "yaml", "name"):
        place = f"Release {options.name}" if options.name else f"namespace {cluster.namespace}"
        print_lines([f"No Connections found in {place}."], sys.stderr)
        return DONE

    _print_readiness(options, table, judged)
    return DONE if all(readiness.is_ready for readiness in judged) else FAILED


def _used_by(
    cluster: Cluster, name: str, objects: Sequence[dict[str, Any]]
) -> list[connections.Readiness]:
    from gatewright.plugin.specs import pin_next, read_spec
    from gatewright.providers.connections_used import connections_used

    release = resolved_release(cluster, name)
    body = pin_next(read_spec(release), release.get("status") or {})
    uses = [(use.path, use.kind, use.name) for use in connections_used(body)]
    return connections.used_readiness(uses, objects)


def _print_readiness(
    options: argparse.Namespace, table: dict[str, Any], judged: Sequence[connections.Readiness]
) -> None:
    is_wide = options.output == "wide"

    def lines() -> Iterable[str]:
        if options.name:
            yield from _used_lines(judged, is_wide)
        else:
            yield from server_table_lines(table, is_wide)
        reasons = [] if is_wide else connections.unready_lines(judged)
        if reasons:
            yield from ("", *reasons)

    print_answer(
        options.output,
        {"connections": [connections.readiness_object(readiness) for readiness in judged]},
        [f"connection.gatewright.dev/{readiness.name}" for readiness in judged],
        lines,
    )


def _used_lines(judged: Sequence[connections.Readiness], is_wide: bool) -> list[str]:
    if not is_wide:
        return table_lines(_USED_HEAD, connections.used_rows(judged))
    rows = (
        [one.name, one.ready, one.reason, one.message, ", ".join(one.used_by)] for one in judged
    )
    return table_lines(_WIDE_USED_HEAD, rows)
