"""`notify --test`: have each entry of `spec.notify` tried, and say what came of it.

The operator sends, by the Connections that it alone may open. Whoever asks needs the RBAC verb
`notify`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.plugin import acts, show
from gatewright.plugin.cluster import Cluster, api_path
from gatewright.plugin.commands.act import DEFAULT_ANSWER_TIMEOUT_S
from gatewright.plugin.exit_codes import DONE, FAILED, LATE
from gatewright.plugin.failures import WrongUsage
from gatewright.plugin.options import add_connection, connect_cluster, parse_duration
from gatewright.plugin.output import yaml_text
from gatewright.plugin.terminal import print_lines

DEFAULT_TEST_TIMEOUT_S = 90.0
"""Longer than a message may take at a Connection that does not answer."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", help="name of the Release")
    parser.add_argument(
        "--test",
        action="store_true",
        help="send a message that is marked as a test through each entry of spec.notify; nobody is "
        "paged, and nothing appears on a status page",
    )
    parser.add_argument("--reason", default="", help="why; whoever is told reads it")
    parser.add_argument("--run", type=int, help="the run that must be the latest")
    parser.add_argument(
        "--timeout",
        type=parse_duration,
        default=DEFAULT_TEST_TIMEOUT_S,
        help=f"longest time to wait for what comes of it ({DEFAULT_TEST_TIMEOUT_S:.0f}s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="let the API server judge it, and print it"
    )
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Have it tested; 1 where a message has not arrived. Raises RequestFailed."""
    if not options.test:
        raise WrongUsage("say --test: of its runs a Release tells by itself, and of nothing else")

    cluster = connect_cluster(options)
    request = acts.InterventionRequest(
        options.name, "Notify", run=options.run, reason=options.reason
    )
    release = cluster.get_release(options.name)
    body = acts.build_intervention(cluster, request, release)
    query = "?dryRun=All" if options.dry_run else ""
    made = cluster.create(api_path("interventions", cluster.namespace) + query, body)
    if options.dry_run:
        sent = {key: made[key] for key in ("apiVersion", "kind", "spec")}
        print_lines([yaml_text(sent)], plain=True)
        return DONE

    return _await_test(cluster, options, made["metadata"]["name"])


def _await_test(cluster: Cluster, options: argparse.Namespace, intervention: str) -> int:
    """Wait for the answer, then for each message."""
    subject = f"release.gatewright.dev/{options.name}"
    deadline = time.monotonic() + options.timeout
    patience_s = min(options.timeout, DEFAULT_ANSWER_TIMEOUT_S)

    answer = acts.wait_for_answer(cluster, intervention, time.monotonic() + patience_s)
    if answer is None:
        silence = f"not answered within {show.time_span(patience_s)}; is the operator there?"
        print_lines([f"{subject}: {silence} (kubectl get itv {intervention})"], sys.stderr)
        return LATE
    if answer["result"] != "Accepted":
        message = show.clean_text(answer.get("message", ""))
        print_lines([f"{subject} notify refused: {message}"], sys.stderr)
        return FAILED

    rows = _wait_for_rows(cluster, options.name, intervention, deadline)
    if rows is None:
        lost = "status.notifyTest does not tell of this test; its Events do (kubectl get events)"
        print_lines([f"{subject}: {lost}"], sys.stderr)
        return LATE
    print_lines(row_lines(rows))
    if any(row["state"] == "Pending" for row in rows):
        print_lines([f"{subject}: not over yet; status.notifyTest tells the rest"], sys.stderr)
        return LATE
    return DONE if all(row["state"] == "Sent" for row in rows) else FAILED


def _wait_for_rows(
    cluster: Cluster, release: str, intervention: str, deadline: float
) -> list[dict[str, Any]] | None:
    """Return what came of each message, as far as it is known when there is no time left.

    None where the status does not tell of this test. Raises RequestFailed.
    """
    rows: list[dict[str, Any]] | None = None
    for status in acts.poll_status(lambda: cluster.get_release(release), deadline):
        test = status.get("notifyTest") or {}
        if test.get("intervention") != intervention:
            return None
        # The API server holds no defaults.
        rows = [{"state": "Pending", **row} for row in test["rows"]]
        if not any(row["state"] == "Pending" for row in rows):
            break
    return rows


def row_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of what came of each message."""
    return show.table_lines(
        ("ENTRY", "TO", "STATE", "MESSAGE"),
        [
            (
                ", ".join(f"spec.notify[{number}]" for number in row["entries"]),
                row["to"].rpartition("-")[0],
                row["state"],
                row.get("message", ""),
            )
            for row in rows
        ],
    )
