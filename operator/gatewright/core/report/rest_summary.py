"""What is to be said of a Release without a run under way: one function for each situation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gatewright.api.status import Past, Run
from gatewright.core.report.summary import (
    Summary,
    describe_idle,
    first_and_count,
    first_target_problem,
)
from gatewright.core.run import closures
from gatewright.core.run.context import Context
from gatewright.core.run.rest_checks import (
    describe_differences,
    ended_before_undo,
    is_edited,
    unresolved_names,
)
from gatewright.core.run.run_end import known_live
from gatewright.core.run.situations import Situation

NEXT_START = "a Retry or a new version"
"""What is waited for where a version has ended and nothing follows by itself."""


def summarize_rest(ctx: Context, situation: Situation) -> Summary:
    """Return what is to be said while no run is under way."""
    status, spec = ctx.status, ctx.view.spec
    run, version = status.run, _wanted_version(ctx)

    is_unreadable = bool(ctx.view.problems) or spec is None
    if situation == "Invalid" or (situation != "Deleting" and is_unreadable):
        return _summarize_invalid(ctx)
    if status.unverified is not None and (situation == "Unverified" or ctx.view.run is not None):
        return _summarize_unverified(ctx, startable=version)

    if situation in SITUATION_SUMMARIES:
        return SITUATION_SUMMARIES[situation](ctx, version)

    if situation not in ("Rejected", "RunEnded") and _is_promoted(run, version):
        # It has been promoted in this very pass, in which it was looked at.
        return _summarize_serving(ctx, version)
    return _summarize_ended(ctx, run, version)


def _wanted_version(ctx: Context) -> str:
    return ctx.view.spec.version if ctx.view.spec is not None else ""


def _is_promoted(run: Run | None, version: str) -> bool:
    return run is not None and run.outcome == "Promoted" and run.version == version


# --- before a start


def _summarize_invalid(ctx: Context) -> Summary:
    problems = ctx.view.problems or ("spec cannot be read",)
    # The last one has no words where there are more than were counted.
    at_least = "" if all(problems) else "at least "
    more = f" (and {at_least}{len(problems) - 1} more)" if len(problems) > 1 else ""

    return _summarize_refused_spec(ctx, f"{problems[0]}{more}", "a corrected spec")


def _summarize_refused_spec(ctx: Context, problem: str, waiting: str) -> Summary:
    """Say why a spec cannot run, after what the last rollback has left, where there was one.

    A broken spec hides neither that a rollback was good nor that one has failed.
    """
    if ctx.status.unverified is not None:
        failed = _summarize_unverified(ctx, startable="")
        message = f"{failed.message}; {problem}"
        return replace(failed, message=message, waiting=f"{failed.waiting}; and {waiting}")

    state, run = "Invalid", ctx.status.run
    if run is not None and run.outcome == "RolledBack":
        state = "RolledBack"
        problem = f"{_describe_live(ctx, run)}; {_describe_rejected(ctx, run.version)}{problem}"
    return Summary(state, "False", "InvalidSpec", problem, waiting, stalled=True)


def _summarize_unobserved(ctx: Context, version: str) -> Summary:
    message = f"{version}: its targets are being looked at"
    return Summary("Pending", "Unknown", "Unobserved", message, working=True)


def _summarize_unread_targets(ctx: Context, version: str) -> Summary:
    reason = f"nobody knows what is there now: {ctx.seen.looking}"
    message, waiting = f"{version} cannot start yet: {reason}", f"a look at {ctx.seen.looking}"
    return Summary("Pending", "Unknown", "Unobserved", message, waiting, working=True)


def _summarize_drifted(ctx: Context, version: str) -> Summary:
    message = f"{version} was promoted, but {describe_differences(ctx.seen)}"
    retry = f"a Retry (kubectl release retry {ctx.view.name})"
    waiting = f"the target to be put back, {retry}, or a new version"
    return Summary("Drifted", "False", "Drifted", message, waiting, stalled=True)


def _summarize_unconnected(ctx: Context, version: str) -> Summary:
    message = f"{version} cannot start: {first_and_count(ctx.seen.unconnected)}"
    waiting = ctx.seen.unconnected[0]
    return Summary("Waiting", "False", "ConnectionNotFound", message, waiting, working=True)


def _summarize_unresolved(ctx: Context, version: str) -> Summary:
    names = unresolved_names(ctx.view, ctx.seen)
    message = f"{version} cannot start: {first_and_count(names)}"
    waiting = "a spec without it, or a first promoted version"
    return _summarize_refused_spec(ctx, message, waiting)


def _summarize_settling(ctx: Context, version: str) -> Summary:
    name, unready = next(
        (name, live_state.unready)
        for name, live_state in ctx.seen.live_states.items()
        if live_state.unready
    )

    message = f"{version} is what {name} has, but not what runs: {unready}"
    way_out = "adopt: Never walks the stages instead"
    waiting = f"{name} to run it ({unready}), looked at again every 30s; {way_out}"
    return Summary("Waiting", "Unknown", "Settling", message, waiting, working=True)


def _summarize_missing_target(ctx: Context, version: str) -> Summary:
    target_problem = first_target_problem(ctx)
    assert target_problem is not None
    name, problem = target_problem

    reason = "TargetNotFound" if problem.startswith("there is no") else "TargetUnfit"
    message = f"{version} cannot start: {name}: {problem}"
    waiting = f"{name}: {problem}; looked at again every 30s"
    return Summary("Waiting", "False", reason, message, waiting, working=True)


def _summarize_suspended(ctx: Context, version: str) -> Summary:
    return Summary(
        "Suspended",
        "Unknown",
        "Suspended",
        f"{version} is not started: the Release is suspended",
        "spec.suspend to be false",
        paused=True,
        working=True,
    )


def _summarize_frozen(ctx: Context, version: str) -> Summary:
    message = f"{version} is not started: {closures.describe_freeze(ctx)}"
    waiting = f"the end of {closures.describe_freeze(ctx)}; {closures.describe_hotfix(ctx)}"
    return Summary("Frozen", "Unknown", "Frozen", message, waiting, working=True)


def _summarize_outside_window(ctx: Context, version: str) -> Summary:
    message = f"{version} is not started: no window is open (spec.windows)"
    waiting = f"{closures.describe_opening(ctx)}; {closures.describe_hotfix(ctx)}"
    return Summary("OutsideWindow", "Unknown", "OutsideWindow", message, waiting, working=True)


def _summarize_unadmitted(ctx: Context, version: str) -> Summary:
    message = f"{version} cannot start: {ctx.seen.doubt}"
    waiting = "the admission policies to be in force"
    return Summary("Waiting", "False", "PolicyNotInForce", message, waiting, working=True)


def _summarize_blocked(ctx: Context, version: str) -> Summary:
    message = f"{version} waits for release {ctx.seen.rival}, which has one of its targets"
    waiting = f"release {ctx.seen.rival} to end its run"
    return Summary("Waiting", "Unknown", "Blocked", message, waiting, working=True)


def _summarize_no_room(ctx: Context, version: str) -> Summary:
    message = f"{version} waits for memory of the operator: {ctx.seen.no_room}"
    waiting = "other runs to end; smaller specs need less (gatewright run --specs-of-runs)"
    return Summary("Waiting", "Unknown", "NoRoom", message, waiting, working=True)


# --- after the end


def _summarize_serving(ctx: Context, version: str) -> Summary:
    """Say that the wanted version is live, if it was seen to be."""
    for name, standing in ctx.seen.standings.items():
        if standing.unknown:
            return _summarize_unknown(version, f"{name}: {standing.unknown}")

    message = f"serving {version}"
    remarks = _join_remarks(ctx)
    if remarks:
        message += f" ({remarks})"
    if is_edited(ctx.view):
        retry = f"from kubectl release retry {ctx.view.name}"
        message += f"; the spec was edited: the edit counts from the next version, or {retry}"
    return Summary("Promoted", "True", "Promoted", message)


def _summarize_unknown(version: str, unknown: str) -> Summary:
    message = f"{version} was promoted; whether it is live cannot be told: {unknown}"
    waiting = f"a look at {unknown}"
    return Summary("Promoted", "Unknown", "Unobserved", message, waiting, working=True)


def _join_remarks(ctx: Context) -> str:
    """Return the caveat that was kept, and what is to be remarked now unless it says so already."""
    live = known_live(ctx.status)
    caveat = (live.caveat if live is not None else None) or ""
    remark = describe_idle(ctx)
    # The record of the promotion says the same already.
    if remark in caveat:
        return caveat
    return f"{caveat}; {remark}" if caveat else remark


def _summarize_unverified(ctx: Context, startable: str) -> Summary:
    """Say that a rollback failed, what was started on it since, and what a person can do.

    `startable`: the version that a Retry would start; empty where the spec is broken.
    """
    unverified, run, name = ctx.status.unverified, ctx.status.run, ctx.view.name
    assert unverified is not None

    message = f"rollback of {unverified.version} failed: {unverified.reason}; "
    message += f"what is served is {_describe_seen(ctx)}"
    tried = [unverified.version]
    if run is not None and run.id != unverified.run and run.outcome is not None:
        tried.append(run.version)
        message += f"; {run.version} was started on it and {_describe_outcome(run)}"
        if unverified.subjects:
            message += f", which has not made good: {first_and_count(unverified.subjects)}"
    if startable and startable not in tried:
        message += f"; {startable} is not started on it"

    confirm = f"kubectl release confirm {name} says that what is served is good"
    if ctx.seen.lost:
        # Nothing that the operator still has could bring it back.
        message += f"; what was there before it is lost: {ctx.seen.lost}"
        waiting = f"a person to bring back by hand what was there before; then {confirm}"
    else:
        again = _describe_repeating(name, run, unverified.run)
        waiting = f"a person: {again}{confirm}"
        if startable:
            waiting += f"; kubectl release retry {name} starts {startable}"
    return Summary("RollbackFailed", "False", "RollbackFailed", message, waiting, stalled=True)


def _describe_seen(ctx: Context) -> str:
    """Return what was last seen of what a failed rollback has left, or why LIVE is empty."""
    live = ctx.status.live
    if live is not None and known_live(ctx.status) is None:
        return live.caveat or ""
    return "not verified, and not known: nobody has seen its targets at the end"


def _describe_outcome(run: Run) -> str:
    return "rolled back" if run.rollback is not None else str(run.outcome).lower()


def _describe_repeating(name: str, run: Run | None, unverified_run: int) -> str:
    """Return how a rollback is repeated; nothing where its run is not the latest any more."""
    if run is None or run.id != unverified_run:
        return ""
    if run.outcome != "RollbackFailed" or run.rollback is None:
        return ""
    return f"kubectl release rollback {name} tries again what could not be undone; "


def _summarize_ended(ctx: Context, run: Run | None, version: str) -> Summary:
    """Say how the wanted version ended; or that it is about to start."""
    is_latest = run is not None and run.version == version
    if run is not None and is_latest:
        summary = _summarize_outcome(ctx, run)
        if summary is not None:
            return summary

    if any(rejected.version == version for rejected in ctx.status.rejected):
        return _summarize_rejected(ctx, run, version)
    if run is not None and run.kind == "Undo" and ctx.view.spec is not None:
        past = ended_before_undo(ctx.status, ctx.view.spec)
        if past is not None:
            return _summarize_ended_before(ctx, run, past)
    return Summary("Pending", "Unknown", "Pending", f"{version} is about to start", working=True)


def _summarize_ended_before(ctx: Context, run: Run, past: Past) -> Summary:
    """Say how the wanted version ended before what is live was returned to."""
    ending = "RolledBack" if run.outcome == "RolledBack" else past.outcome
    rejected = _describe_rejected(ctx, run.version)
    why = f": {past.reason}" if past.reason else ""
    message = f"{_describe_live(ctx, run)}; {rejected}{past.version} {past.outcome.lower()}{why}"
    return Summary(ending, "False", ending, message, NEXT_START, stalled=True)


def _summarize_rejected(ctx: Context, run: Run | None, version: str) -> Summary:
    """Say what is served instead of a version that does not start by itself."""
    # Another version may have run since this one was rejected: how that ended comes first.
    was_rolled_back = run is not None and run.outcome == "RolledBack"
    is_latest = run is not None and run.version == version
    ending = "RolledBack" if is_latest or was_rolled_back else "Rejected"

    versions = [run.version, version] if run is not None and was_rolled_back else [version]
    rejected = _describe_rejected(ctx, *versions).removesuffix("; ")
    message = f"{_describe_live(ctx, run)}; {rejected}"
    return Summary(ending, "False", ending, message, NEXT_START, stalled=True)


def _describe_rejected(ctx: Context, *versions: str) -> str:
    """Return why versions do not start by themselves, each ended by a semicolon.

    Those that were rejected for the same reason are named together.
    """
    reasons = {rejected.version: rejected.reason for rejected in ctx.status.rejected}
    by_reason: dict[str, list[str]] = {}
    for version in dict.fromkeys(versions):
        if version in reasons:
            by_reason.setdefault(reasons[version], []).append(version)

    return "".join(
        f"{', '.join(names)} rejected by {reason}; " for reason, names in by_reason.items()
    )


def _summarize_outcome(ctx: Context, run: Run) -> Summary | None:
    """Say how a run ended that was neither promoted nor rolled back."""
    if run.outcome == "RollbackFailed":
        verdict = "a person has said that what is served is good"
        message = f"rollback of {run.version} failed: {run.reason}; {verdict}"
        return Summary(
            "RollbackFailed", "False", "RollbackFailed", message, NEXT_START, stalled=True
        )

    if run.outcome in ("Aborted", "Superseded"):
        serving, ended = _describe_live(ctx, run), run.outcome.lower()
        message = f"{serving}; {run.version} {ended}: {run.reason}"
        return Summary(run.outcome, "False", run.outcome, message, NEXT_START, stalled=True)

    if run.outcome == "Observed":
        message = f"{run.version} observed: {run.reason}"
        return Summary("Observed", "False", "Observed", message, stalled=True)
    return None


def _describe_live(ctx: Context, run: Run | None) -> str:
    """Return what is served, as far as somebody has looked.

    `normally` only where a verification has passed.
    """
    changed = describe_differences(ctx.seen)
    if changed:
        return f"serving something else than was left: {changed}"

    live = known_live(ctx.status)
    if live is None or not live.version:
        return "serving what was there before"

    remarks = _join_remarks(ctx)
    if remarks:
        return f"serving {live.version} ({remarks})"
    is_verified = run is not None and run.rollback is not None and bool(run.rollback.verify)
    return f"serving {live.version}{' normally' if is_verified else ''}"


SITUATION_SUMMARIES: Mapping[Situation, Callable[[Context, str], Summary]] = {
    "Unobserved": _summarize_unobserved,
    "TargetsNotRead": _summarize_unread_targets,
    "Drifted": _summarize_drifted,
    "Unconnected": _summarize_unconnected,
    "Unresolved": _summarize_unresolved,
    "Settling": _summarize_settling,
    "TargetMissing": _summarize_missing_target,
    "Suspended": _summarize_suspended,
    "Frozen": _summarize_frozen,
    "OutsideWindow": _summarize_outside_window,
    "Unadmitted": _summarize_unadmitted,
    "Blocked": _summarize_blocked,
    "NoRoom": _summarize_no_room,
    "UpToDate": _summarize_serving,
    "Adopted": _summarize_serving,
}
"""What is said in each situation that does not depend on how the last run ended."""
