"""The command `gatewright`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
from typing import Any, cast

import kopf
import uvloop

from gatewright import __version__, handlers
from gatewright.api.base import seconds
from gatewright.providers.common.networks import AddressSetting
from gatewright.runtime.operator import Operator
from gatewright.runtime.settings import (
    HEALTH_PORT,
    MEASUREMENTS_PER_S,
    METRICS_PORT,
    MIN_INTERVAL_S,
    SPECS_OF_RUNS,
    Settings,
    default_identity,
    default_lease_namespace,
    pod_addresses,
    pod_namespace,
)
from gatewright.runtime.telling.log_limits import LogLimits


def main(argv: list[str] | None = None) -> int:
    """Run the operator until it is told to stop."""
    parser = _parser()
    options = parser.parse_args(argv)
    both = AddressSetting.parse(options.allow_address).both(
        AddressSetting.parse(options.refuse_address)
    )
    if both:
        parser.error(
            f"--allow-address and --refuse-address both name {', '.join(both)}; take it out of one"
        )
    if options.port and options.port == options.health_port:
        parser.error(
            f"--port and --health-port are both {options.port}; health needs a port of its own"
        )
    _log(options.log_level, options.log_format)
    settings = Settings(
        namespaces=frozenset(options.namespace or ()),
        lease_namespace=options.lease_namespace,
        identity=options.identity,
        port=options.port,
        health_port=options.health_port,
        allow=options.allow_address,
        refuse=options.refuse_address,
        trust=options.trust_interventions,
        trust_authors=options.trust_authors,
        own_namespace="" if options.serve_own_namespace else pod_namespace(),
        pod_addresses=pod_addresses(),
        fastest=options.fastest_interval,
        rate=options.measurements_per_second,
        specs_of_runs=1024 * options.specs_of_runs,
    )
    _collect_seldom()
    registry = kopf.OperatorRegistry()
    handlers.register(registry, Operator(settings))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                kopf.operator(
                    registry=registry,
                    clusterwide=not settings.namespaces,
                    namespaces=sorted(settings.namespaces),
                    standalone=True,
                    # Else kopf asks for the user's name; a pod's user has none.
                    identity=cast(Any, settings.identity),
                )
            )
    except KeyboardInterrupt:
        return 130
    return 0


def _collect_seldom() -> None:
    """What was imported stays for good, and a pass makes thousands of objects that die by their
    reference counts: looking through all of that for cycles again and again was a tenth of the
    CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatewright", description="The Kubernetes operator that runs a production runbook."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="run the operator against the current context, or the cluster it is in"
    )
    scope = run.add_mutually_exclusive_group(required=True)
    scope.add_argument(
        "--all-namespaces", action="store_true", help="run the Releases of every namespace"
    )
    scope.add_argument(
        "--namespace", action="append", help="run the Releases of this namespace; may be repeated"
    )
    run.add_argument(
        "--lease-namespace",
        default=default_lease_namespace(),
        help="where the Lease is (POD_NAMESPACE)",
    )
    run.add_argument(
        "--identity", default=default_identity(), help="holder of the Lease (POD_NAME)"
    )
    run.add_argument(
        "--port",
        default=os.environ.get("GATEWRIGHT_PORT", str(METRICS_PORT)),
        type=_port,
        help="port of /metrics; 0 for none (GATEWRIGHT_PORT, 8080)",
    )
    run.add_argument(
        "--health-port",
        default=os.environ.get("GATEWRIGHT_HEALTH_PORT", str(HEALTH_PORT)),
        type=_port,
        help=(
            "port of /healthz and /readyz, for the kubelet alone; 0 for none "
            "(GATEWRIGHT_HEALTH_PORT, 8081)"
        ),
    )
    run.add_argument(
        "--allow-address",
        default=os.environ.get("GATEWRIGHT_ALLOW_ADDRESS", ""),
        type=_listed,
        help="hosts, addresses and networks that Connections may reach although they are "
        "loopback, link-local, the API server "
        "or refused by --refuse-address; NAMESPACE=... for the Connections of one "
        "namespace (GATEWRIGHT_ALLOW_ADDRESS)",
    )
    run.add_argument(
        "--refuse-address",
        default=os.environ.get("GATEWRIGHT_REFUSE_ADDRESS", ""),
        type=_listed,
        help="hosts, addresses and networks that Connections may not reach; NAMESPACE=... for "
        "those of one namespace, whose "
        "entries come before those for all (GATEWRIGHT_REFUSE_ADDRESS)",
    )
    run.add_argument(
        "--trust-interventions",
        action="store_true",
        help=(
            "act on Interventions also where the admission policy is not in force: anybody may "
            "act as anybody there"
        ),
    )
    run.add_argument(
        "--trust-authors",
        action="store_true",
        help="run Releases and open Connections also where the admission policies are not in "
        "force: whoever writes them acts "
        "with the operator's rights there",
    )
    run.add_argument(
        "--serve-own-namespace",
        action="store_true",
        help="run Releases and open Connections also in the namespace of the operator's own "
        "pod: whoever may edit, or create "
        "pods, there can act as the operator",
    )
    run.add_argument(
        "--fastest-interval",
        default=MIN_INTERVAL_S,
        type=seconds,
        help="time between two measurements of one check at least, whatever its spec says (1s)",
    )
    run.add_argument(
        "--measurements-per-second",
        default=MEASUREMENTS_PER_S,
        type=_positive,
        help=(
            "measurements of one namespace a second at most; what is more is spread over time (50)"
        ),
    )
    run.add_argument(
        "--specs-of-runs",
        default=SPECS_OF_RUNS // 1024,
        type=_positive_whole,
        metavar="KIB",
        help=(
            "KiB of JSON that the specs of all runs under way may have together; a namespace may "
            f"hold as much as is free, and what is more waits ({SPECS_OF_RUNS // 1024})"
        ),
    )
    run.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    run.add_argument("--log-format", default="text", choices=["text", "json"])
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; 0 to 65535")
    return int(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 1000000")
    return number


def _positive_whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _listed(text: str) -> str:
    """A list of hosts, addresses and networks, as it is written."""
    try:
        AddressSetting.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _log(level: str, form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(LogLimits())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
