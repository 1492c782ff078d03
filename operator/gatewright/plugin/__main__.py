"""The command `kubectl-release`, which kubectl finds on the PATH and runs as `kubectl release`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from gatewright import __version__
from gatewright.api.base import seconds
from gatewright.api.intervention import OF_SPEC
from gatewright.plugin import acts, show
from gatewright.plugin.cluster import Cluster, RequestFailed, api_path

ACTIONS = {
    "approve": "say go where an approval is waited for",
    "reject": "say no: the approval or manual step fails",
    "confirm": (
        "say that a manual step is done; after a failed rollback: that what is served is good"
    ),
    "retry": "repeat the failed stage, or start a rejected version again",
    "skip": "go past the step or stage that failed or is under way",
    "promote": "end the bake, or the guarding, early",
    "rollback": (
        "undo the run; its version is rejected; after a failed rollback: try again what "
        "was not undone"
    ),
    "abort": "undo the run without judging its version",
    "pause": "stop the walk; guards keep watching",
    "resume": "let a walk go on that a person or a guard has stopped",
}
_PLACES: Mapping[str, tuple[str, ...]] = {
    "approve": ("stage", "step", "gate"), "reject": ("stage", "step", "gate", "follow-up"),
    "confirm": ("stage", "step", "follow-up"),
    "skip": ("stage", "step"), "retry": ("stage",), "promote": ("stage",),
}  # fmt: skip
DEFAULT_ANSWER_TIMEOUT = "30s"
ENDLESS_S = 10**9


def main(argv: list[str] | None = None) -> int:
    """Do one thing; the exit code says how it went."""
    options = _make_parser().parse_args(argv)
    try:
        return int(options.do(options))
    except RequestFailed as error:
        _print_lines([str(error)], sys.stderr)
        return acts.FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has gone: nothing more is to be said to anybody
        return acts.FAILED


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl release",
        description="See where Releases stand, and act on them.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not over in time.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser(
        "status", help="where Releases stand, or one of them with its stages"
    )
    shown.add_argument(
        "name", nargs="?", help="name of the Release; all of the namespace without it"
    )
    shown.add_argument("-A", "--all-namespaces", action="store_true")
    shown.add_argument(
        "-w", "--watch", action="store_true", help="a line for each change, until interrupted"
    )
    shown.add_argument(
        "--wait", action="store_true", help="until the Release is at rest; 0 if its version is live"
    )
    shown.add_argument(
        "--timeout", default=None, type=_parse_duration, help="longest time to watch or wait (30m)"
    )
    shown.add_argument("-o", "--output", choices=["wide", "json", "yaml", "name"])
    shown.set_defaults(do=_run_status)
    why = commands.add_parser(
        "explain", help="why a Release is where it is, and what would happen next"
    )
    why.add_argument("name", help="name of the Release")
    why.add_argument("-o", "--output", choices=["json", "yaml"])
    why.set_defaults(do=_run_explain)
    for name, words in ACTIONS.items():
        _add_action(commands.add_parser(name, help=words, description=words), name)
    for command in commands.choices.values():
        _add_connection_options(command)
    return parser


def _add_action(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("name", help="name of the Release")
    for place in _PLACES.get(name, ()):
        which = (
            "of an earlier run"
            if place == "follow-up"
            else "that is meant; needed only where it could be another"
        )
        command.add_argument(f"--{place}", help=f"the {place} {which}")
    if name in ("approve", "skip"):
        command.add_argument(
            "--group", action="append", default=[], help="a group of yours to show; may be repeated"
        )
    command.add_argument(
        "--run", type=int, help="the run that is meant (default: the one under way now)"
    )
    if name.capitalize() in OF_SPEC:
        words = (
            "the spec that you have looked at, as `explain` shows it (default: the one that is "
            "there now)"
        )
        command.add_argument("--spec-hash", metavar="HASH", help=words)
    command.add_argument("--reason", default="", help="why, for those who read it later")
    command.add_argument(
        "--wait", action="store_true", help="until the run is over; 0 if it ended as was asked for"
    )
    command.add_argument(
        "--timeout",
        default=None,
        type=_parse_duration,
        help=f"longest time to wait ({DEFAULT_ANSWER_TIMEOUT}, with --wait 1h)",
    )
    command.add_argument("--no-wait", action="store_true", help="do not even wait for the answer")
    command.add_argument(
        "--dry-run", action="store_true", help="let the API server judge it, and print it"
    )
    command.set_defaults(
        do=_run_action,
        action=name.capitalize(),
        stage=None,
        step=None,
        gate=None,
        follow_up=None,
        group=[],
        spec_hash=None,
    )


def _add_connection_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-n", "--namespace", help="namespace (default: the context's)")
    command.add_argument("--context", help="context of the kubeconfig")
    command.add_argument("--kubeconfig", help="path of the kubeconfig")
    command.add_argument(
        "--as", dest="as_user", metavar="USER", help="act as another user, where RBAC lets you"
    )
    command.add_argument(
        "--as-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="with --as; may be repeated",
    )


def _parse_duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _connect_cluster(options: argparse.Namespace) -> Cluster:
    return Cluster.connect(
        options.kubeconfig,
        options.context,
        options.namespace,
        options.as_user,
        tuple(options.as_group),
    )


def _print_lines(lines: Iterable[str], to: Any = None) -> None:
    stream = to or sys.stdout
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()


# --------------------------------------------------------------------------------------------------
# See


def _run_status(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    where = "" if options.all_namespaces else cluster.namespace
    if options.wait and not options.name:
        raise RequestFailed("--wait needs the name of a Release")
    if options.watch or options.wait:
        return _follow_release(cluster, where, options)
    if options.name:
        found = cluster.get(api_path("releases", cluster.namespace, options.name))
        _print_lines(
            _lines_in_format(found, options.output, lambda: show.status_lines(found, _utc_now()))
        )
        return acts.DONE
    listed = cluster.get(api_path("releases", where))
    items = listed.get("items", [])
    if not items and options.output not in ("json", "yaml"):
        _print_lines([f"No releases found{f' in namespace {where}' if where else ''}."], sys.stderr)
        return acts.DONE
    wide = options.output == "wide"
    _print_lines(
        _lines_in_format(
            listed,
            options.output,
            lambda: show.release_table(items, _utc_now(), wide, options.all_namespaces),
        )
    )
    return acts.DONE


def _lines_in_format(
    found: Mapping[str, Any], form: str | None, lines: Callable[[], list[str]]
) -> list[str]:
    if form == "json":
        return [json.dumps(found, indent=2)]
    if form == "yaml":
        return [yaml.safe_dump(dict(found), sort_keys=False, width=120).rstrip()]
    if form == "name":
        return [
            f"release.gatewright.dev/{item['metadata']['name']}"
            for item in found.get("items", [found])
        ]
    return lines()


def _follow_release(cluster: Cluster, where: str, options: argparse.Namespace) -> int:
    """A line for each change of what people read, until the Release is at rest, or for ever."""
    deadline = time.monotonic() + (options.timeout if options.timeout is not None else ENDLESS_S)
    query = {"fieldSelector": f"metadata.name={options.name}"} if options.name else {}
    said: dict[str, str] = {}
    while True:
        listed = cluster.get(api_path("releases", where))
        items = [
            item for item in listed["items"] if options.name in (None, item["metadata"]["name"])
        ]
        if options.name and not items:
            raise RequestFailed(
                f'Error from server (NotFound): releases.gatewright.dev "{options.name}" not found',
                404,
            )
        for item in items:
            code = _print_change(item, said, options.wait)
            if code is not None:
                return code
        left = deadline - time.monotonic()
        if left <= 0:
            return acts.LATE if options.wait else acts.DONE
        code = _watch_until_settled(
            cluster,
            where,
            listed["metadata"]["resourceVersion"],
            min(left, 240.0),
            query,
            said,
            options.wait,
        )
        if code is not None:
            return code
        time.sleep(0.1)


def _watch_until_settled(
    cluster: Cluster,
    where: str,
    version: str,
    lasting: float,
    query: dict[str, str],
    said: dict[str, str],
    wait: bool,
) -> int | None:
    for event in cluster.watch(api_path("releases", where), version, lasting, **query):
        if event["type"] == "DELETED":
            _print_lines([f"{show.clean_text(event['object']['metadata']['name'])}   deleted"])
            if query:
                return acts.FAILED if wait else acts.DONE
        elif event["type"] in ("ADDED", "MODIFIED"):
            code = _print_change(event["object"], said, wait)
            if code is not None:
                return code
        else:
            return None  # the watch is too old: look again
    return None


def _print_change(item: Mapping[str, Any], said: dict[str, str], wait: bool) -> int | None:
    line = show.release_line(item)
    if said.get(item["metadata"]["uid"]) != line:
        said[item["metadata"]["uid"]] = line
        _print_lines([f"{datetime.now(UTC):%H:%M:%SZ}   {line}"])
    return acts.exit_code_at_rest(item) if wait else None


def _run_explain(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    found = cluster.get(api_path("releases", cluster.namespace, options.name))
    _print_lines(
        _lines_in_format(
            found.get("status", {}) if options.output else found,
            options.output,
            lambda: show.explain_lines(found, _utc_now()),
        )
    )
    return acts.DONE


# --------------------------------------------------------------------------------------------------
# Act


def _run_action(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    wish = acts.InterventionRequest(
        options.name,
        options.action,
        options.stage,
        options.step,
        options.gate,
        options.follow_up,
        options.run,
        tuple(options.group),
        options.reason,
        options.spec_hash,
    )
    release = cluster.get(api_path("releases", cluster.namespace, options.name))
    where = api_path("interventions", cluster.namespace) + (
        "?dryRun=All" if options.dry_run else ""
    )
    made = cluster.create(where, acts.build_intervention(cluster, wish, release))
    name = made["metadata"]["name"]
    if options.dry_run:
        _print_lines(
            _lines_in_format(
                {key: made[key] for key in ("apiVersion", "kind", "spec")}, "yaml", list
            )
        )
        return acts.DONE
    if options.no_wait:
        _print_lines([f"intervention.gatewright.dev/{name} created"])
        return acts.DONE
    began = time.monotonic()
    longest = (
        options.timeout
        if options.timeout is not None
        else seconds("1h" if options.wait else DEFAULT_ANSWER_TIMEOUT)
    )
    said = acts.wait_for_answer(cluster, name, began + longest)
    if said is None:
        words = (
            f"not answered within {show.time_span(longest)}; is the operator there? (kubectl "
            f"get itv {name})"
        )
        _print_lines([f"release.gatewright.dev/{options.name}: {words}"], sys.stderr)
        return acts.LATE
    accepted = said["result"] == "Accepted"
    verb = "accepted" if accepted else "refused"
    line = (
        f"release.gatewright.dev/{options.name} {options.action.lower()} {verb}: "
        f"{show.clean_text(said.get('message', ''))}"
    )
    line += (
        f" (specHash {show.clean_text(said['specHash'])})"
        if accepted and said.get("specHash")
        else ""
    )
    _print_lines([line], sys.stdout if accepted else sys.stderr)
    if not accepted or not options.wait or wish.follow_up:  # the run of a follow-up is over
        return acts.DONE if accepted else acts.FAILED
    code, words = acts.wait_for_end(
        cluster, wish, acts.meant_run(wish, release, said), began + longest
    )
    _print_lines(
        [f"release.gatewright.dev/{options.name} {show.clean_text(words)}"],
        sys.stdout if code == acts.DONE else sys.stderr,
    )
    return code


def _utc_now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
