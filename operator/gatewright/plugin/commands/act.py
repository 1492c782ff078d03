"""`approve` to `hotfix`: each makes an Intervention, and waits for what comes of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gatewright.plugin import acts, show
from gatewright.plugin.cluster import Cluster, api_path
from gatewright.plugin.exit_codes import DONE, FAILED, LATE
from gatewright.plugin.options import add_connection, connect_cluster, parse_duration
from gatewright.plugin.output import yaml_text
from gatewright.plugin.runbooks import find_in, with_runbook
from gatewright.plugin.terminal import print_lines

PLACES: Mapping[str, tuple[str, ...]] = {
    "approve": ("stage", "step", "gate"),
    "reject": ("stage", "step", "gate", "follow-up"),
    "confirm": ("stage", "step", "follow-up"),
    "skip": ("stage", "step"),
    "retry": ("stage",),
    "promote": ("stage",),
}
"""Which places of a run a verb can name."""
DEFAULT_ANSWER_TIMEOUT_S = 30.0
DEFAULT_END_TIMEOUT_S = 3600.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes; which one it is, the parser knows."""
    verb = str(parser.get_default("command"))
    parser.set_defaults(
        action=verb.capitalize(),
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

    _add_subject(parser, verb)
    if verb == "rollback":
        _add_way_back(parser)
    if verb == "run":
        _add_procedure(parser)
    elif verb.capitalize() in acts.OF_PROCEDURE:
        parser.add_argument("--procedure", help="the procedure under way that is meant")
    parser.add_argument("--reason", default="", help="why, for those who read it later")
    _add_waiting(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="let the API server judge it, and print it"
    )
    add_connection(parser)


def _add_subject(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add what an action is about: the Release, a place in its run, the spec that was seen."""
    parser.add_argument("name", help="name of the Release")
    for place in PLACES.get(verb, ()):
        which = "that is meant; needed only where it could be another"
        if place == "follow-up":
            which = "of an earlier run"
        parser.add_argument(f"--{place}", help=f"the {place} {which}")

    if verb in ("approve", "skip"):
        parser.add_argument(
            "--group", action="append", default=[], help="a group of yours to show; may be repeated"
        )
    if verb != "run":
        parser.add_argument(
            "--run", type=int, help="the run that is meant (default: the one under way now)"
        )
    if verb.capitalize() in acts.OF_SPEC:
        which = (
            "that you have looked at, as `explain` shows it (default: the one that is there now)"
        )
        parser.add_argument("--spec-hash", metavar="HASH", help=f"the spec {which}")


def _add_way_back(parser: argparse.ArgumentParser) -> None:
    """Add where a Rollback leads when no run is under way."""
    parser.add_argument(
        "--to",
        metavar="VERSION|RUN",
        help="when no run is under way: the kept version to return to, or the number of the run "
        "that promoted it (default: the version before the last)",
    )
    parser.add_argument(
        "--with-database",
        action="store_true",
        help="when no run is under way: also run the compensations of stages with reach: Release; "
        "what was written since is lost, so give a --reason",
    )


def _add_procedure(parser: argparse.ArgumentParser) -> None:
    """Add what is said of the procedure that is run."""
    parser.add_argument("procedure", help="name of the procedure")
    parser.add_argument("--undo", action="store_true", help="run what takes it back")
    parser.add_argument(
        "--yes", action="store_true", help="say yes to what the procedure asks to be confirmed"
    )


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="until the run is over; 0 if it ended as was asked for"
    )
    parser.add_argument(
        "--timeout",
        default=None,
        type=parse_duration,
        help=f"longest time to wait ({DEFAULT_ANSWER_TIMEOUT_S:.0f}s, with --wait 1h)",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not even wait for the answer")


def run(options: argparse.Namespace) -> int:
    """Make the Intervention, and wait for its answer. Raises RequestFailed."""
    cluster = connect_cluster(options)
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
    release = cluster.get_release(options.name)
    if options.action in acts.OF_BODY:
        release = with_runbook(release, find_in(cluster))
    if options.action == "Run":
        request = _with_confirmation(request, release, options.yes)
    query = "?dryRun=All" if options.dry_run else ""
    path = api_path("interventions", cluster.namespace) + query
    made = cluster.create(path, acts.build_intervention(cluster, request, release))

    if options.dry_run:
        return _show_dry_run(release, request, made)
    if options.no_wait:
        print_lines([f"intervention.gatewright.dev/{made['metadata']['name']} created"])
        return DONE
    return _await_answer(cluster, options, request, release, made["metadata"]["name"])


def _with_confirmation(
    request: acts.InterventionRequest, release: Mapping[str, Any], yes: bool
) -> acts.InterventionRequest:
    """Return the request with what its procedure asks to be confirmed. Raises RequestFailed."""
    from gatewright.plugin import procedures

    sentence = procedures.sentence_of(release, request)
    if sentence is None:
        return request
    return replace(request, confirmed=procedures.ask_to_repeat(sentence, yes))


def _show_dry_run(
    release: Mapping[str, Any], request: acts.InterventionRequest, made: Mapping[str, Any]
) -> int:
    from gatewright.plugin import way_back

    # As comments: what follows can still be read by a program.
    plan = way_back.plan_lines(release, request, datetime.now(UTC))
    print_lines([f"# {line}" for line in plan], plain=True)
    sent = {key: made[key] for key in ("apiVersion", "kind", "spec")}
    print_lines([yaml_text(sent)], plain=True)
    return DONE


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
        patience_s = DEFAULT_END_TIMEOUT_S if options.wait else DEFAULT_ANSWER_TIMEOUT_S
    deadline = time.monotonic() + patience_s
    subject = f"release.gatewright.dev/{options.name}"

    answer = acts.wait_for_answer(cluster, intervention, deadline)
    if answer is None:
        hint = f"is the operator there? (kubectl get itv {intervention})"
        silence = f"not answered within {show.time_span(patience_s)}; {hint}"
        print_lines([f"{subject}: {silence}"], sys.stderr)
        return LATE

    is_accepted = answer["result"] == "Accepted"
    line = f"{subject} {options.action.lower()} {_describe_answer(answer)}"
    print_lines([line], sys.stdout if is_accepted else sys.stderr)
    if not is_accepted:
        return FAILED
    if not options.wait or not acts.leaves_a_run(request, release):
        return DONE

    if request.procedure:
        from gatewright.plugin import procedures

        asked_by = intervention if request.action == "Run" else procedures.begun_by(release)
        code, ending = procedures.wait_for_end(cluster, options.name, asked_by, deadline)
    else:
        number = acts.meant_run(request, release, answer)
        code, ending = acts.wait_for_end(cluster, request, number, deadline)
    stream = sys.stdout if code == DONE else sys.stderr
    print_lines([f"{subject} {show.clean_text(ending)}"], stream)
    return code


def _describe_answer(answer: Mapping[str, Any]) -> str:
    is_accepted = answer["result"] == "Accepted"
    verb = "accepted" if is_accepted else "refused"
    spec_hash = answer.get("specHash") if is_accepted else None

    about = f" (specHash {show.clean_text(spec_hash)})" if spec_hash else ""
    return f"{verb}: {show.clean_text(answer.get('message', ''))}{about}"
