"""The only writer of conditions, and of the words beside them: state, stage, message, waitingFor.

They follow kstatus, so that Argo CD, Flux and `kubectl wait` need little help:

    Ready        True: the wanted version is live, was seen to be, and all stages passed. Unknown while working, queued
                 or waiting. False otherwise.
    Reconciling  present while working, or waiting with a known next step: an approval and a confirmation are one.
    Stalled      present when nothing goes on by itself after a failure; never beside Reconciling.
    Succeeded    True after Promoted (and for an adopted version), False after any other ending.
    RolledBack   True after a clean rollback, False where the rollback failed.
    Paused       present while a person decides or the Release is suspended.
    Drifted      present while a target is not what was promoted or left, or not what the run wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gatewright.api.base import Condition
from gatewright.api.status import GateStatus, ReleaseStatus, Run, WaitingFor
from gatewright.core.checks import followups, judge
from gatewright.core.interventions import approvals, commands, questions
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import Context
from gatewright.core.run.interruptions import is_suspended
from gatewright.core.run.situations import (
    Situation,
    describe_differences,
    is_edited,
    unresolved_names,
)
from gatewright.core.run.stage_end import current_stage_index, stops_of
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.steps.job import JOB_GRACE_S

CONDITION_ORDER = (
    "Ready",
    "Reconciling",
    "Stalled",
    "Succeeded",
    "RolledBack",
    "Paused",
    "Drifted",
)


@dataclass(slots=True)
class _Summary:
    """What is to be said: state in a word, Ready's value, reason, message; and what is waited
    for."""

    state: str
    ready: str
    reason: str
    message: str
    waiting: str | None = None
    stalled: bool = False
    working: bool = False
    paused: bool = False


def summarize(ctx: Context, situation: Situation) -> None:
    """Write state, stage, message, waitingFor and conditions; untouched where nothing changed."""
    status = ctx.status
    said = (
        _summarize_run(ctx)
        if status.run is not None and status.run.outcome is None
        else _summarize_at_rest(ctx, situation)
    )
    if status.run is not None and status.run.outcome is not None:
        said.message += followups.describe_unmet(status)
    status.observedGeneration = ctx.view.generation
    status.state, status.stage = said.state, _stage_progress(status.run)
    status.message = said.message[:1000]
    _set_waiting_for(ctx, said.waiting)
    wanted = {"Ready": (said.ready, said.reason, said.message)}
    if said.working:
        wanted["Reconciling"] = ("True", said.reason, said.waiting or said.message)
    if said.stalled:
        wanted["Stalled"] = ("True", said.reason, said.message)
    if said.paused:
        wanted["Paused"] = ("True", said.reason, said.message)
    drift = "" if situation == "Adopted" else _describe_drift(ctx)
    was = next((item.message for item in ctx.view.status.conditions if item.type == "Drifted"), "")
    if (
        not drift
        and ctx.view.run is None
        and any(standing.unknown for standing in ctx.seen.standings.values())
    ):
        drift = was  # nobody can tell for a moment: what was said of it stays
    if drift:
        wanted["Drifted"] = ("True", "NotAsWanted", drift)
        if ctx.view.run is None and not was:
            # In a run its rows tell of each difference.
            ctx.record_event("Drifted", drift, warning=True)
    wanted |= _ending_conditions(status, said)
    _write_conditions(ctx, wanted)


def write_stalled(ctx: Context, reason: str, message: str, waiting: str) -> None:
    """Nothing goes on by itself, and why; said instead of everything else."""
    ctx.status.observedGeneration = ctx.view.generation
    ctx.status.state, ctx.status.stage = "Stalled", _stage_progress(ctx.status.run)
    ctx.status.message = message[:1000]
    _set_waiting_for(ctx, waiting)
    _write_conditions(
        ctx, {"Ready": ("False", reason, message), "Stalled": ("True", reason, message)}
    )


def _summarize_run(ctx: Context) -> _Summary:
    run = ctx.run
    phase = {
        "Walking": _summarize_stages,
        "Preflight": _summarize_preflight,
        "Paused": _summarize_paused,
        "Guarding": _summarize_guarding,
    }
    said = phase.get(run.phase, _summarize_rollback)(ctx, run)
    said.message += _describe_edit(ctx, run)
    # What is wanted now cannot be told.
    if said.ready == "True" and (ctx.view.problems or ctx.view.spec is None):
        said.ready, said.reason, said.stalled = "False", "InvalidSpec", True
    if ctx.view.spec is not None and ctx.view.spec.version != run.version and said.ready == "True":
        _mark_queued(said, ctx.view.spec.version, ctx.view.spec.supersede)
    return said


def _describe_edit(ctx: Context, run: Run) -> str:
    """What is to be said of an edit that does not count yet, and what makes it count."""
    spec = ctx.view.spec
    if ctx.view.problems or spec is None:
        return f"; the edited spec is invalid: {(ctx.view.problems or ('it cannot be read',))[0]}"
    if spec.version != run.version:
        then = {"Reject": "is ignored"}.get(spec.supersede, "waits for this run to end")
        return "" if run.phase in ("RollingBack", "Verifying") else f"; {spec.version} {then}"
    if ctx.view.generation == run.generation or ctx.body_if_read is None:
        return ""
    if pin_spec(spec, run.id, ctx.body.names.get("lastGood.version")).hash() == run.bodyHash:
        return ""
    retry = (
        ""
        if run.phase in ("Guarding", "RollingBack", "Verifying")
        else ", or from a Retry of a failed stage"
    )
    return f"; the spec was edited: the edit counts from the next run{retry}"


def _mark_queued(said: _Summary, version: str, supersede: str) -> None:
    """What is live is not what is wanted: nothing may take it for ready."""
    if supersede == "Reject":
        said.ready, said.reason, said.stalled = "False", "Ignored", True
        return
    said.ready, said.reason, said.working = "Unknown", "Queued", True
    said.waiting = (
        f"{said.waiting}; then {version} starts" if said.waiting else f"{version} to start"
    )


def _summarize_preflight(ctx: Context, run: Run) -> _Summary:
    open_ = questions.open_questions(ctx)
    lines = [item.line.name for item in open_]
    row = next(
        (row for row in run.preflight if row.state != "Passing" and row.name not in lines), None
    )
    if row is None and open_:
        text = questions.describe_question(ctx, open_[0])
        waiting = f"{text}; nothing was touched"
        waiting += _describe_early_breaches(run)
        return _Summary(
            "WaitingForPerson",
            "Unknown",
            "WaitingForPerson",
            f"{run.version}: {text}",
            waiting,
            working=True,
        )
    text = f"preflight {judge.describe(row)}" if row else "preflight"
    silent = next((row.name for row in run.guards if row.state == "Unknown"), None)
    if row is None and is_suspended(ctx):
        why, then = commands.describe_standstill(ctx)
        text = f"{why} before the first stage; waits for {then}"
    elif row is None and silent is not None:
        text = f"a first answer of guard {silent}"
    waiting = f"{text}; nothing was touched{_describe_early_breaches(run)}"
    return _Summary(
        "Preflight", "Unknown", "Preflight", f"{run.version}: {text}", waiting, working=True
    )


def _describe_early_breaches(run: Run) -> str:
    """A guard that breaches before anything is touched: whoever approves should know, and why the
    run goes on."""
    early = [row for row in run.guards if row.early]
    if not early:
        return ""
    words = "; ".join(f"guard {judge.describe(row)}" for row in early[:3])
    return f"; already now: {words} (it counts from the first completed deploy on)"


def _summarize_stages(ctx: Context, run: Run) -> _Summary:
    index = current_stage_index(run)
    again = any(approvals.awaited_answers(run, index))
    if index is None and not again:
        return _Summary(
            "Progressing",
            "Unknown",
            "Progressing",
            f"{run.version}: all stages passed",
            working=True,
        )
    text = (
        f"{run.version}: stage {run.stages[index].name}"
        if index is not None
        else f"{run.version}: all stages passed"
    )
    if is_suspended(ctx):
        return _summarize_suspended(ctx, text)
    if run.stopping:
        held = _describe_stuck_stop(ctx)
        waiting = (
            f"job {run.stopping[0].subject.partition('/')[2]} of a failed stage to stop; "
            f"nothing else starts before{held}"
        )
        return _Summary(
            "Progressing",
            "Unknown",
            "Progressing",
            f"{text} waits for {waiting}",
            waiting,
            working=True,
        )
    if run.differences:
        return _summarize_difference(ctx, run, text)
    if again or index is None:
        return _summarize_question(ctx, text, questions.open_questions(ctx))
    stage = run.stages[index]
    step = next((step for step in stage.steps if step.state == "Running"), None)
    if step is not None:
        return _summarize_step(ctx, run, index, text)
    if ctx.seen.looking:
        waiting = f"a look at {ctx.seen.looking}"
        return _Summary(
            "Progressing",
            "Unknown",
            "Progressing",
            f"{text} waits for {waiting}",
            waiting,
            working=True,
        )
    waiting, state = _describe_gates(run, stage.gates, stage.state)
    overdue = f" ({stage.message})" if stage.message else ""
    return _Summary(
        state, "Unknown", state, f"{text} is {state.lower()}{overdue}", waiting, working=True
    )


def _summarize_step(ctx: Context, run: Run, index: int, text: str) -> _Summary:
    stage = run.stages[index]
    number = next(n for n, step in enumerate(stage.steps) if step.state == "Running")
    step, wanted = stage.steps[number], ctx.body.spec.stages[index].steps[number]
    open_ = questions.open_questions(ctx)
    if open_:
        return _summarize_question(ctx, text, open_)
    due = clocks.due(run, "step")
    ends = "until" if wanted.kind == "wait" else "fails at"
    due = (
        due - timedelta(seconds=JOB_GRACE_S) if due is not None and wanted.job is not None else due
    )
    deadline = f"; {ends} {clocks.format_time(due)[:19]}Z" if due is not None else ""
    problem = f": {step.message}" if step.message else ""
    held = f"; clocks stand still: {_describe_hold(run)}" if run.held else ""
    waiting = f"{wanted.kind} step {step.name} of stage {stage.name}{problem}{deadline}{held}"
    return _Summary(
        "Progressing",
        "Unknown",
        "Progressing",
        f"{text}, step {step.name}{problem}{held}",
        waiting,
        working=True,
    )


def _summarize_question(ctx: Context, text: str, open_: list[questions.Question]) -> _Summary:
    waiting = questions.describe_question(ctx, open_[0])
    return _Summary(
        "WaitingForPerson",
        "Unknown",
        "WaitingForPerson",
        f"{text}, {waiting}",
        waiting,
        working=True,
    )


def _describe_hold(run: Run) -> str:
    """Why clocks stand still, with the words of the guard or gate that holds."""
    rows = [*run.guards, *(row for stage in run.stages for row in stage.gates)]
    row = next(
        (
            row
            for row in rows
            if row.state in ("Holding", "Expired") and run.held == f"{row.name} holds"
        ),
        None,
    )
    return judge.describe(row) if row is not None else run.held or ""


def _describe_stuck_stop(ctx: Context) -> str:
    """What keeps the Job of a failed stage from stopping, as far as that is known."""
    words = (ctx.progress(operation) for operation in stops_of(ctx.run))
    return next((f": {item.message}" for item in words if item.message), "")


def _summarize_suspended(ctx: Context, text: str) -> _Summary:
    """Somebody, or a guard, has stopped the walk."""
    why, then = commands.describe_standstill(ctx)
    why += _describe_meanwhile(ctx.run)
    by_guard = ctx.run.paused is not None and ctx.run.paused.startswith("guard ")
    return _Summary(
        "Suspended",
        "Unknown",
        "Suspended",
        f"{text} is {why}",
        then,
        working=not by_guard,
        stalled=by_guard,
        paused=True,
    )


def _describe_meanwhile(run: Run) -> str:
    """What runs instead while nothing goes on anyway."""
    return (
        f"; {_first_and_count([row.message for row in run.differences])}" if run.differences else ""
    )


def _summarize_difference(ctx: Context, run: Run, text: str) -> _Summary:
    """What runs instead, since when, what unblocks it, and what happens if nothing does."""
    row = run.differences[0]
    due = clocks.due(run, clocks.DIFFERENCE_CLOCK)
    more = f" (and {len(run.differences) - 1} more)" if len(run.differences) > 1 else ""
    then = "the release is rolled back" if run.phase == "Guarding" else "the stage fails"
    deadline = f"; {then} at {clocks.format_time(due)[:19]}Z" if due is not None else ""
    waiting = (
        f"{row.message}{more}, since {row.since[:19]}Z; make it so again, or roll back "
        "(kubectl release rollback "
    )
    waiting += f"{ctx.view.name}); clocks stand still{deadline}"
    return _Summary(
        "Holding", "Unknown", "Holding", f"{text}: {row.message}{more}", waiting, working=True
    )


def _describe_gates(run: Run, gates: list[GateStatus], state: str) -> tuple[str, str]:
    order = ("Expired", "Holding", "Breaching", "Unknown")
    rows = [
        *gates,
        *run.availability,
        *(row for row in run.guards if not row.early and not row.acknowledged),
    ]
    row = next((row for wanted in order for row in rows if row.state == wanted), None)
    due = clocks.due(run, "bake")
    kind = "gate" if row in gates else "guard"
    if row is not None and row.state == "Expired":
        return (
            (
                f"{judge.describe(row)}; clocks stand still until there is an answer, or a "
                "person decides"
            ),
            "Holding",
        )
    if row is not None and row.state == "Holding":
        return f"{judge.describe(row)}; clocks stand still", "Holding"
    if row is not None and row.state in ("Breaching", "Failed") and row in run.availability:
        return f"{row.message}, since {row.since}; nothing passes until it runs", "Breaching"
    if row is not None and row.state == "Breaching":
        return f"{kind} {judge.describe(row)}, since {row.since}", "Breaching"
    if row is not None:
        return f"a first answer of {kind} {row.name}", "Gating"
    until = f" until {clocks.format_time(due)[:19]}Z" if due is not None else ""
    silent = next(
        (row for row in run.guards if row.acknowledged and row.state in ("Expired", "Holding")),
        None,
    )
    said = (
        f"; guard {judge.describe(silent)} (a person has let the run go on)"
        if silent is not None
        else ""
    )
    return f"the bake of this stage{until}{said}", "Baking"


def _summarize_paused(ctx: Context, run: Run) -> _Summary:
    index = current_stage_index(run)
    stage = run.stages[index or 0]
    text = (
        f"{run.version}: stage {stage.name} failed: {stage.message or ''}{_describe_meanwhile(run)}"
    )
    waiting = f"a person: kubectl release retry {ctx.view.name}, or skip, rollback, abort"
    return _Summary("Paused", "False", "Paused", text, waiting, stalled=True, paused=True)


def _summarize_guarding(ctx: Context, run: Run) -> _Summary:
    text = f"{run.version}: all stages are done"
    if is_suspended(ctx) and (run.paused or "").startswith("guard "):
        return _summarize_suspended(ctx, text)
    if run.differences:
        return _summarize_difference(ctx, run, text)
    rows = [*run.availability, *(row for row in run.guards if not row.early)]
    row = next(
        (
            row
            for wanted in ("Expired", "Holding", "Breaching")
            for row in rows
            if row.state == wanted
        ),
        None,
    )
    due = clocks.due(run, "guard")
    until = f" until {clocks.format_time(due)[:19]}Z" if due is not None else ""
    waiting = f"guards watch{until}, then {run.version} is last good"
    if row is not None and row.state == "Expired":
        waiting = (
            f"an answer of guard {judge.describe(row)}; until then nothing is promoted and "
            "nothing undone "
        )
        waiting += (
            f"(kubectl release rollback {ctx.view.name} undoes it; a new version does not wait)"
        )
    elif row is not None and row in run.availability:
        waiting = f"{row.message}; nothing is promoted until it runs"
    elif row is not None:
        waiting = f"guard {judge.describe(row)}"
    if is_suspended(ctx):
        why, then = commands.describe_standstill(ctx)
        waiting = f"{why}; waits for {then}"
    lost = next(
        (
            f"{name}: {sight.problem}"
            for name, sight in ctx.seen.live_states.items()
            if sight.problem
        ),
        None,
    )
    untold = observed.unobserved_reason(ctx) if not run.observe else None
    lost = lost or ctx.seen.looking
    if lost or untold:
        waiting = f"cannot be made last good: {lost or untold}"
    if untold:
        return _Summary(
            "Guarding", "Unknown", "Guarding", f"{text}; {untold}", waiting, working=True
        )
    if run.availability:
        return _Summary(
            "Guarding",
            "Unknown",
            "Unavailable",
            f"{text}; {run.availability[0].message}",
            waiting,
            working=True,
        )
    if run.observe:  # nothing was deployed
        return _Summary(
            "Guarding",
            "Unknown",
            "Guarding",
            f"{run.version} is only observed",
            waiting,
            working=True,
        )
    nobody = f" ({remark})" if (remark := _describe_idle(ctx)) else ""
    return _Summary(
        "Guarding",
        "True",
        "Guarding",
        f"serving {run.version}{nobody}; guards watch{until}",
        waiting,
    )


def _summarize_rollback(ctx: Context, run: Run) -> _Summary:
    assert run.rollback is not None
    if run.phase == "Verifying":
        row = next((row for row in run.rollback.verify if row.state != "Passing"), None)
        changed = describe_differences(ctx.seen)
        trouble = next(
            (standing.trouble for standing in ctx.seen.standings.values() if standing.trouble), ""
        )
        waiting = f"verification of the rollback{f', {judge.describe(row)}' if row else ''}"
        waiting += f"; {trouble}" if trouble else ""
        waiting += f"; {changed}: put it back" if changed else ""
    else:
        line = next(
            (line for line in run.rollback.undo if line.state in ("Running", "Pending")), None
        )
        problem = f": {line.message}" if line and line.message else ""
        waiting = f"undoing {line.subject}{problem}" if line else "the rollback"
        if line is not None and line.kind == "Stop":
            waiting = f"job {line.subject.partition('/')[2]} to stop{problem}"
    text = f"rolling back {run.version}: {run.rollback.reason}"
    return _Summary("RollingBack", "False", "RollingBack", text, waiting, working=True)


def _summarize_at_rest(ctx: Context, situation: Situation) -> _Summary:
    status, spec = ctx.status, ctx.view.spec
    run, version = status.run, spec.version if spec is not None else ""
    if situation == "Invalid" or (situation != "Deleting" and (ctx.view.problems or spec is None)):
        # the last one has no words where there are more than were counted
        count = (
            f"{len(ctx.view.problems) - 1}"
            if all(ctx.view.problems)
            else f"at least {len(ctx.view.problems) - 1}"
        )
        more = f" (and {count} more)" if len(ctx.view.problems) > 1 else ""
        text = (ctx.view.problems or ("spec cannot be read",))[0] + more
        return _Summary("Invalid", "False", "InvalidSpec", text, "a corrected spec", stalled=True)
    if status.unverified is not None and (situation == "Unverified" or ctx.view.run is not None):
        return _summarize_unverified(ctx)
    if situation == "Unobserved":
        return _Summary(
            "Pending",
            "Unknown",
            "Unobserved",
            f"{version}: its targets are being looked at",
            working=True,
        )
    if situation == "TargetsNotRead":
        text = f"{version} cannot start yet: nobody knows what is there now"
        return _Summary(
            "Pending",
            "Unknown",
            "Unobserved",
            f"{text}: {ctx.seen.looking}",
            f"a look at {ctx.seen.looking}",
            working=True,
        )
    if situation == "Drifted":
        text = f"{version} was promoted, but {describe_differences(ctx.seen)}"
        waiting = (
            f"the target to be put back, a Retry (kubectl release retry {ctx.view.name}), or "
            "a new version"
        )
        return _Summary("Drifted", "False", "Drifted", text, waiting, stalled=True)
    if situation == "Unconnected":
        text = f"{version} cannot start: {_first_and_count(ctx.seen.unconnected)}"
        return _Summary(
            "Waiting",
            "False",
            "ConnectionNotFound",
            text,
            f"{ctx.seen.unconnected[0]}",
            working=True,
        )
    if situation == "Unresolved":
        names = unresolved_names(ctx.view, ctx.seen)
        text = f"{version} cannot start: {_first_and_count(names)}"
        return _Summary(
            "Invalid",
            "False",
            "InvalidSpec",
            text,
            "a spec without it, or a first promoted version",
            stalled=True,
        )
    if situation == "Settling":
        name, unready = next(
            (name, sight.unready) for name, sight in ctx.seen.live_states.items() if sight.unready
        )
        text = f"{version} is what {name} has, but not what runs: {unready}"
        waiting = (
            f"{name} to run it ({unready}), looked at again every 30s; adopt: Never walks "
            "the stages instead"
        )
        return _Summary("Waiting", "Unknown", "Settling", text, waiting, working=True)
    if situation == "TargetMissing":
        name, problem = next(
            (name, sight.problem) for name, sight in ctx.seen.live_states.items() if sight.problem
        )
        text = f"{version} cannot start: {name}: {problem}"
        reason = "TargetNotFound" if problem.startswith("there is no") else "TargetUnfit"
        return _Summary(
            "Waiting",
            "False",
            reason,
            text,
            f"{name}: {problem}; looked at again every 30s",
            working=True,
        )
    if situation == "Suspended":
        text = f"{version} is not started: the Release is suspended"
        return _Summary(
            "Suspended",
            "Unknown",
            "Suspended",
            text,
            "spec.suspend to be false",
            paused=True,
            working=True,
        )
    if situation == "Unadmitted":
        text = f"{version} cannot start: {ctx.seen.doubt}"
        return _Summary(
            "Waiting",
            "False",
            "PolicyNotInForce",
            text,
            "the admission policies to be in force",
            working=True,
        )
    if situation == "Blocked":
        text = f"{version} waits for release {ctx.seen.rival}, which has one of its targets"
        return _Summary(
            "Waiting",
            "Unknown",
            "Blocked",
            text,
            f"release {ctx.seen.rival} to end its run",
            working=True,
        )
    live = status.live.version if status.live else ""
    if situation in ("UpToDate", "Adopted"):
        return _summarize_serving(ctx, version)
    if (
        run
        and run.outcome == "Promoted"
        and run.version == version
        and situation not in ("Rejected", "RunEnded")
    ):
        # It has been promoted in this very pass, in which it was looked at.
        return _summarize_serving(ctx, version)
    return _summarize_ended(ctx, status, run, version, live)


def _summarize_serving(ctx: Context, version: str) -> _Summary:
    """The wanted version is live, and was seen to be."""
    unknown = next(
        (
            f"{name}: {standing.unknown}"
            for name, standing in ctx.seen.standings.items()
            if standing.unknown
        ),
        None,
    )
    if unknown:
        text = f"{version} was promoted; whether it is live cannot be told: {unknown}"
        return _Summary(
            "Promoted", "Unknown", "Unobserved", text, f"a look at {unknown}", working=True
        )
    remark = _describe_idle(ctx)
    caveat = (ctx.status.live.caveat if ctx.status.live is not None else None) or ""
    caveat = "; ".join(part for part in (caveat, remark if remark not in caveat else "") if part)
    text = f"serving {version}{f' ({caveat})' if caveat else ''}"
    if is_edited(ctx.view):
        text += (
            "; the spec was edited: the edit counts from the next version, or from kubectl "
            f"release retry {ctx.view.name}"
        )
    return _Summary("Promoted", "True", "Promoted", text)


def _summarize_unverified(ctx: Context) -> _Summary:
    left = ctx.status.unverified
    assert left is not None
    version = ctx.view.spec.version if ctx.view.spec is not None else ""
    text = f"rollback of {left.version} failed: {left.reason}; what is served is not verified"
    name, run = ctx.view.name, ctx.status.run
    tried = [left.version]
    if run is not None and run.id != left.run and run.outcome is not None:
        tried.append(run.version)
        text += f"; {run.version} was started on it and {_describe_outcome(run)}"
        text += (
            f", which has not made good: {_first_and_count(left.subjects)}" if left.subjects else ""
        )
    if version not in tried:
        text += f"; {version} is not started on it"
    confirm = f"kubectl release confirm {name} says that what is served is good"
    if ctx.seen.lost:
        text += f"; what was there before it is lost: {ctx.seen.lost}"
        waiting = f"a person to bring back by hand what was there before; then {confirm}"
        return _Summary("RollbackFailed", "False", "RollbackFailed", text, waiting, stalled=True)
    again = f"kubectl release rollback {name} tries again what could not be undone; "
    again = (
        again
        if run is not None
        and run.id == left.run
        and run.outcome == "RollbackFailed"
        and run.rollback
        else ""
    )
    waiting = f"a person: {again}{confirm}; kubectl release retry {name} starts {version}"
    return _Summary("RollbackFailed", "False", "RollbackFailed", text, waiting, stalled=True)


def _describe_outcome(run: Run) -> str:
    return "rolled back" if run.rollback is not None else str(run.outcome).lower()


def _first_and_count(problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def _describe_live(ctx: Context, run: Run | None) -> str:
    """What is served, as far as somebody has looked: normally only where a verification has
    passed."""
    live = ctx.status.live
    changed = describe_differences(ctx.seen)
    if changed:
        return f"serving something else than was left: {changed}"
    if live is None or not live.version:
        return "serving what was there before"
    caveat, remark = live.caveat or "", _describe_idle(ctx)
    if caveat or remark:
        more = "" if remark in caveat else remark
        return f"serving {live.version} ({'; '.join(part for part in (caveat, more) if part)})"
    verified = run is not None and run.rollback is not None and bool(run.rollback.verify)
    return f"serving {live.version}{' normally' if verified else ''}"


def _describe_idle(ctx: Context) -> str:
    """What people should know although nothing is different: nobody runs it."""
    return "; ".join(
        standing.remark
        for standing in ctx.seen.standings.values()
        if standing.remark.startswith("nobody")
    )


def _summarize_ended(
    ctx: Context, status: ReleaseStatus, run: Run | None, version: str, live: str
) -> _Summary:
    serving = _describe_live(ctx, run)
    if run is not None and run.version == version and run.outcome == "RollbackFailed":
        text = (
            f"rollback of {version} failed: {run.reason}; a person has said that what is "
            "served is good"
        )
        return _Summary(
            "RollbackFailed",
            "False",
            "RollbackFailed",
            text,
            "a Retry or a new version",
            stalled=True,
        )
    if run is not None and run.version == version and run.outcome in ("Aborted", "Superseded"):
        text = f"{serving}; {version} {run.outcome.lower()}: {run.reason}"
        return _Summary(
            run.outcome, "False", run.outcome, text, "a Retry or a new version", stalled=True
        )
    if run is not None and run.version == version and run.outcome == "Observed":
        return _Summary(
            "Observed", "False", "Observed", f"{version} observed: {run.reason}", stalled=True
        )
    rejected = next((item for item in status.rejected if item.version == version), None)
    if rejected is None:
        return _Summary(
            "Pending", "Unknown", "Pending", f"{version} is about to start", working=True
        )
    text = f"{serving}; {version} rejected by {rejected.reason}"
    if run is None or run.version != version:
        return _Summary(
            "Rejected", "False", "Rejected", text, "a Retry or a new version", stalled=True
        )
    return _Summary(
        "RolledBack", "False", "RolledBack", text, "a Retry or a new version", stalled=True
    )


def _describe_drift(ctx: Context) -> str:
    """What others have made of what was promoted, or of what the run has changed."""
    run = ctx.view.run
    if run is None:
        return describe_differences(ctx.seen)
    after = ctx.status.run
    return (
        "; ".join(row.message for row in after.differences)
        if after is not None and after.outcome is None
        else ""
    )


def _ending_conditions(status: ReleaseStatus, said: _Summary) -> dict[str, tuple[str, str, str]]:
    if said.state in ("Promoted", "Guarding"):
        return (
            {"Succeeded": ("True", said.reason, said.message)} if said.state == "Promoted" else {}
        )
    if said.state == "Rejected":
        return {"Succeeded": ("False", said.reason, said.message)}
    outcome = status.run.outcome if status.run is not None else None
    if outcome is None or said.state not in (
        "RolledBack",
        "RollbackFailed",
        "Aborted",
        "Superseded",
        "Observed",
    ):
        return {}
    found: dict[str, tuple[str, str, str]] = {"Succeeded": ("False", outcome, said.message)}
    if said.state in ("RolledBack", "RollbackFailed"):
        found["RolledBack"] = (
            "True" if said.state == "RolledBack" else "False",
            said.state,
            said.message,
        )
    return found


def _stage_progress(run: Run | None) -> str | None:
    if run is None:
        return None
    over = [n for n, stage in enumerate(run.stages) if stage.state != "Pending"]
    number = over[-1] if over else 0
    return f"{number + 1}/{len(run.stages)} {run.stages[number].name}"


def _set_waiting_for(ctx: Context, message: str | None) -> None:
    if message is None:
        ctx.status.waitingFor = None
    elif ctx.status.waitingFor is None or ctx.status.waitingFor.message != message[:1000]:
        ctx.status.waitingFor = WaitingFor(
            message=message[:1000], since=clocks.format_time(ctx.now)
        )


def _write_conditions(ctx: Context, wanted: dict[str, tuple[str, str, str]]) -> None:
    """`lastTransitionTime` moves only with the status of a condition."""
    old = {item.type: item for item in ctx.status.conditions}
    now = clocks.format_time(ctx.now)[:19] + "Z"
    ctx.status.conditions = [
        Condition(
            type=name,
            status=value,
            reason=reason,
            message=message[:2000],
            lastTransitionTime=old[name].lastTransitionTime
            if name in old and old[name].status == value
            else now,
            observedGeneration=ctx.view.generation,
        )
        for name in CONDITION_ORDER
        if name in wanted
        for value, reason, message in [wanted[name]]
    ]
