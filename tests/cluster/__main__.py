"""The throwaway cluster from the command line: `python -m tests.cluster --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster import Unavailable, assets, deps
from tests.cluster.cluster import NAME_VARIABLE, Cluster, default_name


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (Unavailable, RuntimeError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--name",
        default=default_name(),
        help=f"which cluster (default: ${NAME_VARIABLE}, else default)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "up", parents=[named], help="make the cluster, or keep the one that is healthy and current"
    )
    commands.add_parser(
        "down", parents=[named], help="remove it and everything it made on this machine"
    )
    commands.add_parser(
        "status", parents=[named], help="say in one line how it is; exit 1 when it is not healthy"
    )
    commands.add_parser(
        "kubeconfig", parents=[named], help="print the path of the administrator's kubeconfig"
    )
    load = commands.add_parser(
        "load-image", parents=[named], help="give the node the images of a docker-archive file"
    )
    load.add_argument("archive", type=Path)
    kubectl = commands.add_parser("kubectl", parents=[named], help="run kubectl against it")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    commands.add_parser(
        "image-operator",
        parents=[named],
        help="build gatewright:dev from this checkout and load it",
    )
    commands.add_parser("deps", help="install the Debian packages that a native cluster needs")
    build = commands.add_parser("assets", help="build the programs and print where they are")
    build.add_argument("--tier", choices=sorted(assets.TIERS), default="api")
    return parser


def _up(options: argparse.Namespace) -> int:
    print(Cluster.ensure(options.name).status())
    return 0


def _down(options: argparse.Namespace) -> int:
    Cluster.choose(options.name).down()
    return 0


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster.choose(options.name)
    print(cluster.status())
    return 0 if cluster.is_running() and cluster.is_healthy() else 1


def _kubeconfig(options: argparse.Namespace) -> int:
    print(_running(options).kubeconfig)
    return 0


def _load_image(options: argparse.Namespace) -> int:
    _running(options).load_archive(options.archive)
    return 0


def _kubectl(options: argparse.Namespace) -> int:
    cluster = _running(options)
    program = cluster.kubectl_program()
    os.execve(
        program, [program, *options.arguments], os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    )


def _image_operator(options: argparse.Namespace) -> int:
    from tests.cluster import operator_image

    print(operator_image.build(_running(options)))
    return 0


def _deps(_: argparse.Namespace) -> int:
    deps.ensure()
    print("all there: " + " ".join(dict.fromkeys(deps.PACKAGES.values())))
    return 0


def _assets(options: argparse.Namespace) -> int:
    for name, path in assets.ensure_tier(options.tier).items():
        print(f"{name}\t{path}")
    return 0


def _running(options: argparse.Namespace) -> Cluster:
    cluster = Cluster.choose(options.name)
    if not cluster.is_running():
        raise Unavailable(
            f"cluster {options.name} is not running; make it with: python -m tests.cluster up"
        )
    return cluster


_COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubeconfig": _kubeconfig,
    "load-image": _load_image,
    "kubectl": _kubectl,
    "image-operator": _image_operator,
    "deps": _deps,
    "assets": _assets,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
