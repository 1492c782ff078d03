"""The command `kubectl-release`, which kubectl finds on the PATH and runs as `kubectl release`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from gatewright import __version__
from gatewright.api.base import seconds
from gatewright.api.intervention import OF_PROCEDURE, OF_SPEC
from gatewright.plugin import acts, explain, procedures, show, way_back
from gatewright.plugin.cluster import Cluster, RequestFailed, api_path
from gatewright.plugin.follow import follow_release
from gatewright.plugin.terminal import print_lines

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
        "undo the run; its version is rejected; when no run is under way: undo what was promoted "
        "last; after a failed rollback: try again what was not undone"
    ),
    "abort": "undo the run without judging its version",
    "pause": "stop the walk; guards keep watching",
    "resume": "let a walk go on that a person or a guard has stopped",
    "run": "run a procedure of the Release, at any time",
    "hotfix": "start the version in spite of windows and Freezes; needs a --reason",
}
_PLACES: Mapping[str, tuple[str, ...]] = {
    "approve": ("stage", "step", "gate"), "reject": ("stage", "step", "gate", "follow-up"),
    "confirm": ("stage", "step", "follow-up"),
    "skip": ("stage", "step"), "retry": ("stage",), "promote": ("stage",),
}  # fmt: skip
DEFAULT_ANSWER_TIMEOUT = "30s"


def main(argv: list[str] | None = None) -> int:
    """Do one thing; the exit code says how it went."""
    options = _make_parser().parse_args(argv)
    try:
        return int(options.do(options))
    except RequestFailed as error:
        print_lines([str(error)], sys.stderr)
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

    _add_status(
        commands.add_parser("status", help="where Releases stand, or one of them with its stages")
    )
    explanation = commands.add_parser(
        "explain", help="why a Release is where it is, and what would happen next"
    )
    explanation.add_argument("name", help="name of the Release")
    explanation.add_argument("-o", "--output", choices=["json", "yaml"])
    explanation.set_defaults(do=_run_explain)

    for name, words in ACTIONS.items():
        _add_action(commands.add_parser(name, help=words, description=words), name)
    for command in commands.choices.values():
        _add_connection_options(command)
    return parser


def _add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="?", help="name of the Release; all of the namespace without it"
    )
    command.add_argument("-A", "--all-namespaces", action="store_true")
    command.add_argument(
        "-w", "--watch", action="store_true", help="a line for each change, until interrupted"
    )
    command.add_argument(
        "--wait", action="store_true", help="until the Release is at rest; 0 if its version is live"
    )
    command.add_argument(
        "--timeout", default=None, type=_parse_duration, help="longest time to watch or wait (30m)"
    )
    command.add_argument("-o", "--output", choices=["wide", "json", "yaml", "name"])
    command.set_defaults(do=_run_status)


def _add_action(command: argparse.ArgumentParser, name: str) -> None:
    command.set_defaults(
        do=_run_action,
        action=name.capitalize(),
        stage=None,
        step=None,
        gate=None,
        follow_up=None,
        group=[],
        spec_hash=None,
        to=None,
        with_database=False,
        run=None,
        procedure=None,
        undo=False,
        yes=False,
    )

    _add_subject(command, name)
    if name == "rollback":
        _add_way_back(command)
    if name == "run":
        _add_procedure(command)
    if name.capitalize() in OF_PROCEDURE and name != "run":
        command.add_argument("--procedure", help="the procedure under way that is meant")
    command.add_argument("--reason", default="", help="why, for those who read it later")
    _add_waiting(command)
    command.add_argument(
        "--dry-run", action="store_true", help="let the API server judge it, and print it"
    )


def _add_subject(command: argparse.ArgumentParser, name: str) -> None:
    """Add what an action is about: the Release, a place in its run, the spec that was seen."""
    command.add_argument("name", help="name of the Release")
    for place in _PLACES.get(name, ()):
        which = "that is meant; needed only where it could be another"
        if place == "follow-up":
            which = "of an earlier run"
        command.add_argument(f"--{place}", help=f"the {place} {which}")

    if name in ("approve", "skip"):
        command.add_argument(
            "--group", action="append", default=[], help="a group of yours to show; may be repeated"
        )
    if name != "run":
        command.add_argument(
            "--run", type=int, help="the run that is meant (default: the one under way now)"
        )
    if name.capitalize() in OF_SPEC:
        which = (
            "that you have looked at, as `explain` shows it (default: the one that is there now)"
        )
        command.add_argument("--spec-hash", metavar="HASH", help=f"the spec {which}")


def _add_way_back(command: argparse.ArgumentParser) -> None:
    """Add where a Rollback leads when no run is under way."""
    command.add_argument(
        "--to",
        metavar="VERSION|RUN",
        help="when no run is under way: the kept version to return to, or the number of the run "
        "that promoted it (default: the version before the last)",
    )
    command.add_argument(
        "--with-database",
        action="store_true",
        help="when no run is under way: also run the compensations of stages with reach: Release; "
        "what was written since is lost, so give a --reason",
    )


def _add_procedure(command: argparse.ArgumentParser) -> None:
    """Add what is said of the procedure that is run."""
    command.add_argument("procedure", help="name of the procedure")
    command.add_argument("--undo", action="store_true", help="run what takes it back")
    command.add_argument(
        "--yes", action="store_true", help="say yes to what the procedure asks to be confirmed"
    )


def _add_waiting(command: argparse.ArgumentParser) -> None:
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


# --------------------------------------------------------------------------------------------------
# See


def _run_status(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    namespace = "" if options.all_namespaces else cluster.namespace
    if options.wait and not options.name:
        raise RequestFailed("--wait needs the name of a Release")

    if options.watch or options.wait:
        return follow_release(cluster, namespace, options)
    if options.name:
        return _show_release(cluster, options)
    return _show_releases(cluster, namespace, options)


def _show_release(cluster: Cluster, options: argparse.Namespace) -> int:
    release = cluster.get(api_path("releases", cluster.namespace, options.name))

    def status_lines() -> list[str]:
        return show.status_lines(release, _utc_now())

    print_lines(_lines_in_format(release, options.output, status_lines))
    return acts.DONE


def _show_releases(cluster: Cluster, namespace: str, options: argparse.Namespace) -> int:
    listed = cluster.get(api_path("releases", namespace))
    releases = listed.get("items", [])
    # Programs get an empty list, people a sentence.
    if not releases and options.output not in ("json", "yaml"):
        place = f" in namespace {namespace}" if namespace else ""
        print_lines([f"No releases found{place}."], sys.stderr)
        return acts.DONE

    def table() -> list[str]:
        is_wide = options.output == "wide"
        return show.release_table(releases, _utc_now(), is_wide, options.all_namespaces)

    print_lines(_lines_in_format(listed, options.output, table))
    return acts.DONE


def _lines_in_format(
    answer: Mapping[str, Any], output: str | None, lines: Callable[[], list[str]]
) -> list[str]:
    if output == "json":
        return [json.dumps(answer, indent=2)]
    if output == "yaml":
        return [yaml.safe_dump(dict(answer), sort_keys=False, width=120).rstrip()]
    if output == "name":
        releases = answer.get("items", [answer])
        return [f"release.gatewright.dev/{release['metadata']['name']}" for release in releases]
    return lines()


def _run_explain(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    release = cluster.get(api_path("releases", cluster.namespace, options.name))
    # A program that asks why gets the status, in which all of it stands.
    answer = release.get("status", {}) if options.output else release

    def explanation() -> list[str]:
        return explain.explain_lines(release, _utc_now())

    print_lines(_lines_in_format(answer, options.output, explanation))
    return acts.DONE


# --------------------------------------------------------------------------------------------------
# Act


def _run_action(options: argparse.Namespace) -> int:
    cluster = _connect_cluster(options)
    request = acts.InterventionRequest(
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
        options.to,
        options.with_database,
        options.procedure,
        options.undo,
    )
    release = cluster.get(api_path("releases", cluster.namespace, options.name))
    if options.action == "Run" and not options.undo:
        sentence = procedures.sentence_of(release, options.procedure)
        if sentence is not None:
            confirmed = procedures.ask_to_repeat(sentence, options.yes)
            request = replace(request, confirmed=confirmed)
    query = "?dryRun=All" if options.dry_run else ""
    path = api_path("interventions", cluster.namespace) + query
    made = cluster.create(path, acts.build_intervention(cluster, request, release))

    if options.dry_run:
        # As comments: what follows can still be read by a program.
        print_lines([f"# {line}" for line in way_back.plan_lines(release, request, _utc_now())])
        sent = {key: made[key] for key in ("apiVersion", "kind", "spec")}
        print_lines(_lines_in_format(sent, "yaml", list))
        return acts.DONE
    if options.no_wait:
        print_lines([f"intervention.gatewright.dev/{made['metadata']['name']} created"])
        return acts.DONE
    return _await_answer(cluster, options, request, release, made["metadata"]["name"])


def _await_answer(
    cluster: Cluster,
    options: argparse.Namespace,
    request: acts.InterventionRequest,
    release: Mapping[str, Any],
    intervention: str,
) -> int:
    """Wait for the operator's answer, and for the end of the run where that is asked for."""
    patience_s = options.timeout
    if patience_s is None:
        patience_s = seconds("1h" if options.wait else DEFAULT_ANSWER_TIMEOUT)
    deadline = time.monotonic() + patience_s
    subject = f"release.gatewright.dev/{options.name}"

    answer = acts.wait_for_answer(cluster, intervention, deadline)
    if answer is None:
        hint = f"is the operator there? (kubectl get itv {intervention})"
        silence = f"not answered within {show.time_span(patience_s)}; {hint}"
        print_lines([f"{subject}: {silence}"], sys.stderr)
        return acts.LATE

    is_accepted = answer["result"] == "Accepted"
    line = f"{subject} {options.action.lower()} {_describe_answer(answer)}"
    print_lines([line], sys.stdout if is_accepted else sys.stderr)
    if not is_accepted:
        return acts.FAILED
    if not options.wait or not acts.leaves_a_run(request, release):
        return acts.DONE

    if request.procedure:
        asked_by = intervention if request.action == "Run" else _begun_by(release)
        code, ending = procedures.wait_for_end(cluster, options.name, asked_by, deadline)
    else:
        run = acts.meant_run(request, release, answer)
        code, ending = acts.wait_for_end(cluster, request, run, deadline)
    stream = sys.stdout if code == acts.DONE else sys.stderr
    print_lines([f"{subject} {show.clean_text(ending)}"], stream)
    return code


def _begun_by(release: Mapping[str, Any]) -> str:
    """Return the Intervention that has begun the procedure under way."""
    rows = (release.get("status") or {}).get("procedures") or [{}]
    return str(rows[0].get("intervention", ""))


def _describe_answer(answer: Mapping[str, Any]) -> str:
    is_accepted = answer["result"] == "Accepted"
    verb = "accepted" if is_accepted else "refused"
    spec_hash = answer.get("specHash") if is_accepted else None

    about = f" (specHash {show.clean_text(spec_hash)})" if spec_hash else ""
    return f"{verb}: {show.clean_text(answer.get('message', ''))}{about}"


def _utc_now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
