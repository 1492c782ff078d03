"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gatewright.plugin.failures import WrongUsage

if TYPE_CHECKING:
    from gatewright.plugin.cluster import Cluster

OUTPUTS = ("wide", "json", "yaml", "name")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the form of the answer."""
    parser.add_argument(
        "-o",
        "--output",
        choices=OUTPUTS,
        help="wide: more columns, nothing cut; json, yaml: for programs; name: names alone",
    )


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add which API server is asked, and as whom."""
    parser.add_argument("-n", "--namespace", help="namespace (default: the context's)")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--kubeconfig", help="path of the kubeconfig")
    parser.add_argument(
        "--as", dest="as_user", metavar="USER", help="act as another user, where RBAC lets you"
    )
    parser.add_argument(
        "--as-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="with --as; may be repeated",
    )


def connect_cluster(options: argparse.Namespace) -> Cluster:
    """Return the API server that the options mean. Raises RequestFailed."""
    from gatewright.plugin.cluster import Cluster

    return Cluster.connect(
        options.kubeconfig,
        options.context,
        options.namespace,
        options.as_user,
        tuple(options.as_group),
    )


def require_subject(options: argparse.Namespace) -> None:
    """Refuse what names neither a Release nor a file. Raises WrongUsage."""
    if not options.name and not options.filename:
        raise WrongUsage("name a Release, or a file by -f")


def parse_duration(text: str) -> float:
    """Return seconds; as a type of argparse."""
    # The words of the operator's own language, which take time to import.
    from gatewright.api.base import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
