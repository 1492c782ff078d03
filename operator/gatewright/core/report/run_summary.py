"""What is to be said of a run under way: one function for each phase, stages and steps apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from gatewright.api.status import GateStatus, Run
from gatewright.core.checks import judge
from gatewright.core.interventions import approvals, commands, questions
from gatewright.core.report.guarding_summary import summarize_guarding
from gatewright.core.report.holding_summary import (
    describe_meanwhile,
    first_by_gravity,
    summarize_difference,
    summarize_suspended,
)
from gatewright.core.report.summary import Summary, to_seconds
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.holds import is_suspended
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.rest_checks import describe_differences
from gatewright.core.run.stage_end import stops_of
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.steps.job import JOB_GRACE_S
from gatewright.core.subject import name_of_subject

GRAVITY = ("Expired", "Holding", "Breaching", "Unknown")
"""States of gates and guards that keep a stage from passing, the gravest first."""


def summarize_run(ctx: Context) -> Summary:
    """Return what is to be said of the run under way, and of edits that wait for its end."""
    run, spec = ctx.run, ctx.view.spec
    summary = PHASE_SUMMARIES.get(run.phase, _summarize_rollback)(ctx, run)
    summary.message += _describe_edit(ctx, run)

    # What is wanted now cannot be told.
    if summary.ready == "True" and (ctx.view.problems or spec is None):
        summary.ready, summary.reason, summary.stalled = "False", "InvalidSpec", True
    if summary.ready == "True" and spec is not None and spec.version != run.version:
        _mark_queued(summary, spec.version, spec.supersede)

    return summary


def _describe_edit(ctx: Context, run: Run) -> str:
    """Return what is to be said of an edit that does not count yet, and what makes it count."""
    spec = ctx.view.spec
    if ctx.view.problems or spec is None:
        problem = ctx.view.problems[0] if ctx.view.problems else "it cannot be read"
        return f"; the edited spec is invalid: {problem}"

    is_turned_around = run.phase in ("RollingBack", "Verifying")
    if spec.version != run.version:
        then = "is ignored" if spec.supersede == "Reject" else "waits for this run to end"
        return "" if is_turned_around else f"; {spec.version} {then}"

    # Without the pinned body there is nothing to compare an edit with.
    if not ctx.view.is_edited_since(run) or ctx.body_if_read is None:
        return ""

    # A new generation alone is no edit: what would be pinned now may be the same.
    pinned_now = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if pinned_now.hash() == run.bodyHash:
        return ""

    can_retry = run.phase != "Guarding" and not is_turned_around
    retry = ", or from a Retry of a failed stage" if can_retry else ""
    return f"; the spec was edited: the edit counts from the next run{retry}"


def _mark_queued(summary: Summary, version: str, supersede: str) -> None:
    """Say that what is live is not what is wanted: nothing may take it for ready."""
    # It does not start after the run either, but by a Retry.
    if supersede == "Reject":
        summary.ready, summary.reason, summary.stalled = "False", "Ignored", True
        return

    summary.ready, summary.reason, summary.working = "Unknown", "Queued", True
    summary.waiting = (
        f"{summary.waiting}; then {version} starts" if summary.waiting else f"{version} to start"
    )


# --- before the first stage


def _summarize_preflight(ctx: Context, run: Run) -> Summary:
    open_questions = questions.open_questions(ctx)
    check = questions.first_unmet_check(ctx)
    untouched = f"nothing was touched{_describe_early_breaches(run)}"

    # A person is asked only about what nothing else holds up.
    if check is None and open_questions:
        question = questions.describe_question(ctx, open_questions[0])
        stakes = questions.describe_stakes_of(ctx, open_questions[0])
        message, waiting = f"{run.version}: {question}", f"{question}; {untouched}{stakes}"
        return Summary(
            "WaitingForPerson", "Unknown", "WaitingForPerson", message, waiting, working=True
        )

    reason = _describe_preflight_wait(ctx, run, check)
    message, waiting = f"{run.version}: {reason}", f"{reason}; {untouched}"
    return Summary("Preflight", "Unknown", "Preflight", message, waiting, working=True)


def _describe_preflight_wait(ctx: Context, run: Run, check: GateStatus | None) -> str:
    if check is not None:
        unasked = questions.unasked_approvals(ctx)
        then = f"; then {', '.join(unasked)} is asked of a person" if unasked else ""
        return f"preflight {judge.describe(check)}{then}"
    if is_suspended(ctx):
        why, then = commands.describe_standstill(ctx)
        return f"{why} before the first stage; waits for {then}"

    silent = judge.first_in_state(run.guards, "Unknown")
    return f"a first answer of guard {silent.name}" if silent is not None else "preflight"


def _describe_early_breaches(run: Run) -> str:
    """Return which guards breach before anything is touched, and why the run goes on.

    Whoever approves should know.
    """
    early = [row for row in run.guards if row.early]
    if not early:
        return ""

    breaches = "; ".join(f"guard {judge.describe(row)}" for row in early[:3])
    return f"; already now: {breaches} (it counts from the first completed deploy on)"


# --- in a stage


def _summarize_stages(ctx: Context, run: Run) -> Summary:
    index = current_stage_index(run)
    asked_again = any(approvals.awaited_answers(run, index))
    stage_name = f"stage {run.stages[index].name}" if index is not None else "all stages passed"
    place = f"{run.version}: {stage_name}"

    if index is None and not asked_again:
        return Summary("Progressing", "Unknown", "Progressing", place, working=True)

    # What keeps everything from going on is said before what would come next.
    standstill = _summarize_standstill(ctx, run, place)
    if standstill is not None:
        return standstill
    if asked_again or index is None:
        return _summarize_question(ctx, place, questions.open_questions(ctx))

    stage = run.stages[index]
    if any(step.state == "Running" for step in stage.steps):
        return _summarize_step(ctx, run, index, place)
    # The next step begins only when what it changes was looked at.
    if ctx.seen.looking:
        waiting = f"a look at {ctx.seen.looking}"
        message = f"{place} waits for {waiting}"
        return Summary("Progressing", "Unknown", "Progressing", message, waiting, working=True)

    waiting, state = _describe_gates(run, stage.gates)
    overdue = f" ({stage.message})" if stage.message else ""
    message = f"{place} is {state.lower()}{overdue}"
    return Summary(state, "Unknown", state, message, waiting, working=True)


def _summarize_standstill(ctx: Context, run: Run, place: str) -> Summary | None:
    if is_suspended(ctx):
        return summarize_suspended(ctx, place)
    if run.stopping:
        return _summarize_stopping(ctx, run, place)
    if run.differences:
        return summarize_difference(ctx, run, place)
    return None


def _summarize_stopping(ctx: Context, run: Run, place: str) -> Summary:
    """Say that a Job of a failed stage may still run."""
    job = name_of_subject(run.stopping[0].subject)
    problem = _describe_stuck_stop(ctx)

    waiting = f"job {job} of a failed stage to stop; nothing else starts before{problem}"
    message = f"{place} waits for {waiting}"
    return Summary("Progressing", "Unknown", "Progressing", message, waiting, working=True)


def _describe_stuck_stop(ctx: Context) -> str:
    """Return what keeps the Job of a failed stage from stopping, as far as that is known."""
    for operation in stops_of(ctx.run):
        progress = ctx.progress(operation)
        if progress.message:
            return f": {progress.message}"
    return ""


def _summarize_step(ctx: Context, run: Run, stage_index: int, place: str) -> Summary:
    open_questions = questions.open_questions(ctx)
    if open_questions:
        return _summarize_question(ctx, place, open_questions)

    stage = run.stages[stage_index]
    number = next(n for n, step in enumerate(stage.steps) if step.state == "Running")
    step = stage.steps[number]
    kind = ctx.body.spec.stages[stage_index].steps[number].kind

    problem = f": {step.message}" if step.message else ""
    deadline = _describe_step_deadline(ctx, run, stage_index, number)
    standstill = f"; clocks stand still: {_describe_hold(run)}" if run.holdReason else ""

    waiting = f"{kind} step {step.name} of stage {stage.name}{problem}{deadline}{standstill}"
    message = f"{place}, step {step.name}{problem}{standstill}"
    return Summary("Progressing", "Unknown", "Progressing", message, waiting, working=True)


def _describe_step_deadline(ctx: Context, run: Run, stage_index: int, number: int) -> str:
    spec_step = ctx.body.spec.stages[stage_index].steps[number]
    due = clocks.due(run, "step")
    if due is None:
        return ""

    if spec_step.job is not None:
        # The Job's own deadline comes first; the clock of the step gives its pods time to end.
        due -= timedelta(seconds=JOB_GRACE_S)
    ends = "until" if spec_step.kind == "wait" else "fails at"
    return f"; {ends} {to_seconds(due)}"


def _summarize_question(
    ctx: Context, place: str, open_questions: list[questions.Question]
) -> Summary:
    question = questions.describe_question(ctx, open_questions[0])
    message = f"{place}, {question}"
    waiting = f"{question}{questions.describe_stakes_of(ctx, open_questions[0])}"
    return Summary(
        "WaitingForPerson", "Unknown", "WaitingForPerson", message, waiting, working=True
    )


def _describe_hold(run: Run) -> str:
    """Return why clocks stand still, with the words of the guard or gate that holds."""
    rows = [*run.guards]
    for stage in run.stages:
        rows += stage.gates

    for row in rows:
        if row.state in ("Holding", "Expired") and run.holdReason == f"{row.name} holds":
            return judge.describe(row)
    return run.holdReason or ""


def _describe_gates(run: Run, gates: list[GateStatus]) -> tuple[str, str]:
    """Return what the gates of a stage and the guards wait for, and the state that this is."""
    counting_guards = [row for row in run.guards if not row.early and not row.acknowledged]
    row = first_by_gravity([*gates, *run.availability, *counting_guards], GRAVITY)
    if row is None:
        return _describe_bake(run), "Baking"

    kind = "gate" if row in gates else "guard"
    if row.state == "Expired":
        standstill = "clocks stand still until there is an answer, or a person decides"
        return f"{judge.describe(row)}; {standstill}", "Holding"
    if row.state == "Holding":
        return f"{judge.describe(row)}; clocks stand still", "Holding"
    if row.state == "Breaching" and row in run.availability:
        return f"{row.message}, since {row.since}; nothing passes until it runs", "Breaching"
    if row.state == "Breaching":
        return f"{kind} {judge.describe(row)}, since {row.since}", "Breaching"
    return f"a first answer of {kind} {row.name}", "Gating"


def _describe_bake(run: Run) -> str:
    due = clocks.due(run, "bake")
    until = f" until {to_seconds(due)}" if due is not None else ""

    for row in run.guards:
        if row.acknowledged and row.state in ("Expired", "Holding"):
            waived = f"; guard {judge.describe(row)} (a person has let the run go on)"
            return f"the bake of this stage{until}{waived}"
    return f"the bake of this stage{until}"


# --- after a failure


def _summarize_paused(ctx: Context, run: Run) -> Summary:
    stage = run.stages[current_stage_index(run) or 0]
    failure = f"stage {stage.name} failed: {stage.message or ''}"
    message = f"{run.version}: {failure}{describe_meanwhile(run)}"
    waiting = f"a person: kubectl release retry {ctx.view.name}, or skip, rollback, abort"
    return Summary("Paused", "False", "Paused", message, waiting, stalled=True, paused=True)


def _summarize_rollback(ctx: Context, run: Run) -> Summary:
    assert run.rollback is not None
    is_verifying = run.phase == "Verifying"

    waiting = _describe_verification(ctx, run) if is_verifying else _describe_undoing(run)
    if run.stage_undone is not None:
        message = f"{run.version}: stage {run.stage_undone} is undone alone: {run.rollback.reason}"
        return Summary("RollingBack", "Unknown", "RollingBack", message, waiting, working=True)

    message = f"rolling back {run.version}: {run.rollback.reason}"
    return Summary("RollingBack", "False", "RollingBack", message, waiting, working=True)


def _describe_verification(ctx: Context, run: Run) -> str:
    assert run.rollback is not None
    check = next((row for row in run.rollback.verify if row.state != "Passing"), None)
    troubles = [standing.trouble for standing in ctx.seen.standings.values() if standing.trouble]
    changed = describe_differences(ctx.seen)

    parts = ["verification of the rollback"]
    if check is not None:
        parts.append(f", {judge.describe(check)}")
    if troubles:
        parts.append(f"; {troubles[0]}")
    if changed:
        parts.append(f"; {changed}: put it back")
    return "".join(parts)


def _describe_undoing(run: Run) -> str:
    assert run.rollback is not None
    open_lines = [line for line in run.rollback.undo if line.state in ("Running", "Pending")]
    if not open_lines:
        return "the rollback"

    line = open_lines[0]
    problem = f": {line.message}" if line.message else ""
    if line.kind == "Stop":
        return f"job {name_of_subject(line.subject)} to stop{problem}"
    return f"undoing {line.subject}{problem}"


PHASE_SUMMARIES: Mapping[str, Callable[[Context, Run], Summary]] = {
    "Preflight": _summarize_preflight,
    "Progressing": _summarize_stages,
    "Paused": _summarize_paused,
    "Guarding": summarize_guarding,
}
"""What is said in each phase before a rollback."""
