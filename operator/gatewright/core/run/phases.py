"""The way forward: preflight, stages, guarding, promotion."""

from __future__ import annotations

from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Step
from gatewright.api.status import GateStatus, Rejected, Run, Served
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import (
    WATCHED_STAGE_STATES,
    active_checks,
    preflight_set,
)
from gatewright.core.interventions import approvals
from gatewright.core.model import Revision, hash_spec
from gatewright.core.run import clocks, observed, states
from gatewright.core.run.context import (
    MOST_REJECTED,
    Context,
    evaluate_checks,
    finish_run,
    fresh_statuses,
    set_live,
)
from gatewright.core.run.pinning import (
    baseline_version,
    fresh_stages,
    pin_again,
    revision_of,
    set_baseline,
    steps_done_otherwise,
)
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.rollback_plan import describe_plan
from gatewright.core.run.stages import (
    advance_stage,
    are_guards_calm,
    current_stage_index,
    fail_current,
    settle_stopping,
)
from gatewright.core.spec.pinned_spec import has_subjects, pin_spec
from gatewright.core.steps import changed_by, kind_of

SUSPENDED_HOLD = "suspended"
IDLE_REMARK = "nobody ran it when it was promoted"


def start_run(ctx: Context) -> None:
    """Pin the body, take the snapshots, begin."""
    spec = ctx.view.spec
    assert spec is not None
    status = ctx.status
    number = status.runs + 1
    set_baseline(ctx)
    body = pin_spec(spec, number, status.lastGood.version if status.lastGood else None)
    revision = revision_of(ctx, body, number)
    ctx.decision.add_finalizer, ctx.decision.revision = True, revision
    # What was there before the first run: its snapshot is the run's own.
    for kept in (status.lastGood, status.live):
        if (
            kept is not None
            and kept.snapshot is None
            and kept.version == (status.lastGood or kept).version
        ):
            kept.snapshot = revision.name
    status.run = Run(
        id=number,
        version=spec.version,
        attempt=1 + sum(past.version == spec.version for past in status.history),
        phase="Preflight",
        observe=spec.mode == "Observe",
        generation=ctx.view.generation,
        revision=revision.name,
        bodyHash=body.hash(),
        specHash=hash_spec(spec),
        startedAt=clocks.format_time(ctx.now),
        preflight=fresh_statuses(spec.preflight),
        guards=fresh_statuses(spec.guards),
        stages=fresh_stages(body),
        plan=describe_plan(
            body,
            {
                name: sight.restore_hint
                for name, sight in ctx.seen.live_states.items()
                if sight.restore_hint
            },
        ),
        found=_found_version(ctx),
    )
    status.runs = number
    status.rejected = [item for item in status.rejected if item.version != spec.version]
    ctx.decision.prune_revisions = number > 1
    ctx.body_if_read = body
    ctx.record_event("Started", f"{spec.version}: run {number} with {len(spec.stages)} stages")
    ctx.write_now()


def _found_version(ctx: Context) -> str | None:
    """What is live before the run, where that is not the last good version: a rollback returns to
    it all the same."""
    good, last = ctx.status.lastGood, ctx.status.run
    if ctx.seen.inherited and last is not None:
        # Its rollback failed: what was live before it is what this run returns to as well.
        return last.found
    version, live = baseline_version(ctx.seen), ctx.status.live
    if good is None:
        return None
    if any(standing.difference for standing in ctx.seen.standings.values()):
        return version or "unknown"
    if live is None:  # a rollback had failed before: nobody has said since what is there
        return None if version == good.version else version or "unknown"
    # What was compared and does not differ is last good, whatever its images call it.
    compared = bool(ctx.seen.standings) and live.version == good.version
    return (
        version if not compared and version and good.version and version != good.version else None
    )


def run_preflight(ctx: Context) -> None:
    """All checks pass before anything is touched; until then nothing has to be undone."""
    if _end_if_outdated(ctx):
        return

    guards.preview_guards(ctx)
    checks = preflight_set(ctx.body, ctx.run)
    evaluate_checks(ctx, checks)

    # What is measured may still become good; what ends once has ended.
    failed = checks.first_failed_once()
    if failed is not None:
        words = judge.describe(failed)
        finish_run(ctx, "Aborted", f"preflight {words}; nothing was touched; Retry starts again")
        return

    ready = judge.all_passing(checks.rows) and guards.have_guards_answered(ctx)
    if ready and not is_suspended(ctx):
        states.move(ctx.run, "Walking")


def run_stages(ctx: Context) -> None:
    """The stages in order."""
    if _handle_interruptions(ctx):
        return
    while advance_stage(ctx):
        pass
    if (
        ctx.run.phase != "Walking"
        or current_stage_index(ctx.run) is not None
        or any(approvals.awaited_answers(ctx.run, None))
    ):
        return
    if not settle_stopping(ctx):
        _begin_guarding(ctx)


def stay_paused(ctx: Context) -> None:
    """A stage has failed and a person decides; guards go on."""
    if _handle_interruptions(ctx):
        return
    settle_stopping(ctx)


def retry_stage(ctx: Context) -> str:
    """Out of Paused, with the failed stage once more; why an edit does not count, where it does
    not."""
    run = ctx.run
    index = current_stage_index(run)
    assert index is not None
    before = ctx.body
    ignored = pin_again(ctx, index)
    if ignored:
        ctx.record_event(
            "EditIgnored", f"the edit does not count before the next run: {ignored}", warning=True
        )

    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    states.move(run, "Walking")
    states.move(stage, "Running")
    run.pausedStage = None
    stage.gates = fresh_statuses(ctx.body.spec.stages[index].gates)
    edited = steps_done_otherwise(ctx, before, ctx.body, index) if ctx.body is not before else []
    # What others have changed since is done once more, and so is what the edit changes.
    for step in stage.steps:
        if step.state == "Succeeded" and (
            step.name in edited or _is_changed_by_others(ctx, index, step.name)
        ):
            states.move(step, "Pending")
    run.availability = []
    run.differences = []
    clocks.stop(run, clocks.DIFFERENCE_CLOCK)
    clocks.resume(run, ctx.now)
    ctx.record_event("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    ctx.write_now()
    return ignored


def _is_changed_by_others(ctx: Context, index: int, name: str) -> bool:
    step = _spec_step(ctx, index, name)
    stage = ctx.body.spec.stages[index]
    different = {row.subject for row in ctx.run.differences}
    return bool(different & set(changed_by(stage, step)))


def run_guarding(ctx: Context) -> None:
    """The version is live; guards go on until it counts as last good."""
    run = ctx.run
    interrupted = _handle_interruptions(ctx)
    if run.phase == "Guarding":
        # Also while it stands still: what runs does not wait for whoever paused it.
        _set_live_when_observed(ctx)
    if interrupted:
        return
    silent = guards.expired_guard(ctx)
    waiting = (
        ctx.view.spec is not None and not ctx.view.problems and ctx.view.spec.version != run.version
    )
    if silent is not None and waiting and not run.observe:
        # A guard that says nothing must not keep the next version away for ever; that nobody
        # watched is said for ever.
        _promote_run(ctx, f"not watched to its end: guard {judge.describe(silent)}")
        return
    if not clocks.expired(run, "guard", ctx.now) or not are_guards_calm(ctx):
        return
    if run.observe:
        finish_run(ctx, "Observed", "all stages would have passed")
        return
    _promote_run(ctx)


def _set_live_when_observed(ctx: Context) -> None:
    """Say that the version is live, once it is: something may have been different when all stages
    were done."""
    run, live = ctx.run, ctx.status.live
    if (
        not run.observe
        and observed.all_as_wanted(ctx)
        and (live is None or live.version != run.version)
    ):
        set_live(ctx, Served(version=run.version))


def _end_if_outdated(ctx: Context) -> bool:
    """Nothing was touched yet, so a new version, a new body or a deletion simply ends this run."""
    run, spec = ctx.run, ctx.view.spec
    if ctx.view.deleting:
        finish_run(ctx, "Aborted", "the Release was deleted before anything was touched")
        return True
    if spec is None or ctx.view.problems or ctx.view.generation == run.generation:
        return False  # an invalid edit changes nothing
    if spec.version != run.version:
        finish_run(ctx, "Superseded", f"{spec.version} was asked for before anything was touched")
        return True
    fresh = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if fresh.hash() == run.bodyHash:
        return False
    finish_run(ctx, "Superseded", "the stages were edited before anything was touched")
    return True


def _handle_interruptions(ctx: Context) -> bool:
    """What ends or stops the walk from outside: people, guards, what others have changed,
    suspension, holds."""
    run = ctx.run
    if ctx.view.deleting:
        begin_rollback(ctx, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if _roll_back_if_replaced(ctx):
        return True
    for checks in active_checks(ctx.body, run, current_stage_index(run)):
        evaluate_checks(ctx, checks)
        if checks.place == "guards":
            guards.update_guards(ctx)
    if not run.observe:
        observed.update_rows(ctx)
    if _roll_back_on_failure(ctx):
        return True
    _ignore_other_version(ctx)
    _update_hold(ctx)
    _announce_overdue(ctx)
    if run.phase == "Walking" and _fail_on_lasting_difference(ctx):
        return run.phase != "Walking"
    return run.held == SUSPENDED_HOLD


def _roll_back_if_replaced(ctx: Context) -> bool:
    """A new version that does not wait for this run: by `supersede: Replace`, or because it is what
    was live before."""
    run, spec, good = ctx.run, ctx.view.spec, ctx.status.lastGood
    if spec is None or ctx.view.problems or spec.version == run.version:
        return False
    if good is not None and good.version == spec.version:
        begin_rollback(
            ctx,
            "Superseded",
            f"spec.version is {spec.version} again, the last good version",
            then="Superseded",
        )
        return True
    if spec.supersede == "Replace":
        begin_rollback(
            ctx, "Superseded", f"{spec.version} replaces {run.version}", then="Superseded"
        )
        return True
    return False


def _roll_back_on_failure(ctx: Context) -> bool:
    """Guards that undo the run, the built-in ones included; and, once all stages have passed, what
    others have changed."""
    run = ctx.run
    failed = guards.failed_guard(ctx)
    if failed is not None:
        begin_rollback(ctx, "Guard", f"guard {judge.describe(failed)}", gate=failed.name)
        return True
    target = observed.failed_target(ctx)
    if target is not None:
        row, availability = target
        if availability.action == "Rollback":
            begin_rollback(
                ctx,
                "Guard",
                f"{row.message} for {availability.for_}",
                gate=f"availability/{row.name}",
            )
            return True
        guards.notify_or_pause(ctx, row, availability.action)
    lasting = observed.expired_difference(ctx)
    if lasting is not None and run.phase == "Guarding":
        begin_rollback(
            ctx,
            "Difference",
            (
                f"{lasting.message}, longer than "
                f"{clocks.format_duration(observed.hold_for(ctx, lasting.subject))}"
            ),
        )
        return True
    return False


def _fail_on_lasting_difference(ctx: Context) -> bool:
    """What others have changed was not put back in time: the stage under way has failed."""
    lasting = observed.expired_difference(ctx)
    if lasting is None:
        return False
    words = (
        f"{lasting.message}, longer than "
        f"{clocks.format_duration(observed.hold_for(ctx, lasting.subject))}"
    )
    fail_current(ctx, "Difference", words)
    return True


def _ignore_other_version(ctx: Context) -> None:
    """supersede: Reject. What was asked for during a run does not start after it either, but by a
    Retry."""
    run, spec = ctx.run, ctx.view.spec
    if (
        spec is None
        or ctx.view.problems
        or spec.version == run.version
        or spec.supersede != "Reject"
    ):
        return
    if any(item.version == spec.version for item in ctx.status.rejected):
        return
    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=clocks.format_time(ctx.now))
    ctx.status.rejected = [ignored, *ctx.status.rejected][:MOST_REJECTED]
    ctx.record_event("Ignored", f"{spec.version}: {reason}", warning=True)


def _update_hold(ctx: Context) -> None:
    run = ctx.run
    why = _hold_reason(ctx)
    if why is not None and run.held != why:
        clocks.hold(run, why, ctx.now)
    elif why is None and run.held is not None:
        clocks.resume(run, ctx.now)
    if run.held in (SUSPENDED_HOLD, DECIDING_HOLD) or (run.held or "").endswith(PERSON_HOLD_ENDING):
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)  # people take their time, and it is not counted


DECIDING_HOLD = "a person decides"
PERSON_HOLD_ENDING = "waits for a person"


def _hold_reason(ctx: Context) -> str | None:
    run = ctx.run
    if is_suspended(ctx):
        return SUSPENDED_HOLD
    if run.phase == "Paused":
        return DECIDING_HOLD
    watched: list[GateStatus] = [
        row
        for row, guard in zip(run.guards, ctx.body.spec.guards, strict=True)
        if guard.action == "Rollback" and not row.early and not guards.is_waived(ctx, guard, row)
    ]
    index = current_stage_index(run)
    again = next(approvals.awaited_answers(run, index), None)
    if again is not None:
        return f"{again[0]} {PERSON_HOLD_ENDING}"
    if index is not None:
        stage = run.stages[index]
        if stage.state in WATCHED_STAGE_STATES:
            watched += stage.gates
        asked = next((step for step in stage.steps if step.state == "Running"), None)
        if asked is not None and kind_of(_spec_step(ctx, index, asked.name)).answered_by:
            return f"step {asked.name} {PERSON_HOLD_ENDING}"
    if run.differences:
        return f"{run.differences[0].subject} is not as the run wants it"
    holding = judge.first_in_state(watched, "Expired") or judge.first_in_state(watched, "Holding")
    return f"{holding.name} holds" if holding is not None else None


def is_suspended(ctx: Context) -> bool:
    """Whether the walk stands still: by `spec.suspend`, because somebody paused the run, or because
    nobody can tell."""
    return ctx.run.paused is not None or ctx.view.spec is None or ctx.view.spec.suspend


def _announce_overdue(ctx: Context) -> None:
    index = current_stage_index(ctx.run)
    if index is not None and clocks.expired(ctx.run, "overdue", ctx.now):
        clocks.stop(ctx.run, "overdue")
        stage, expected = ctx.run.stages[index], ctx.body.spec.stages[index].expectedDuration
        stage.message = f"overdue: expected to take {expected}"
        ctx.record_event(
            "Overdue", f"stage {stage.name} is taking longer than {expected}", warning=True
        )


def _begin_guarding(ctx: Context) -> None:
    run = ctx.run
    states.move(run, "Guarding")
    guards.rearm_guards(ctx)
    clocks.start(run, "guard", seconds(ctx.body.spec.guardFor), ctx.now)


def _promote_run(ctx: Context, caveat: str = "") -> None:
    """What is live becomes last good, if it is what the run wants; a target that is gone keeps the
    run from ending."""
    sights = ctx.seen.live_states
    if not sights and has_subjects(ctx.body.spec):
        return
    if any(sight.problem for sight in sights.values()) or not observed.all_as_wanted(ctx):
        return
    run = ctx.run
    data = {
        "subjects": promoted_subjects(ctx),
        "snapshots": {name: sight.snapshot for name, sight in sights.items()},
    }
    revision = Revision.named(ctx.view, f"{run.id}-good", data)
    ctx.decision.revision = revision
    remarks = [
        item.remark.replace("nobody runs it", IDLE_REMARK, 1)
        for item in ctx.seen.standings.values()
        if item.remark
    ]
    words = "; ".join([*([caveat] if caveat else []), *remarks]) or None
    ctx.status.lastGood = Served(
        version=run.version,
        snapshot=revision.name,
        since=clocks.format_time(ctx.now),
        caveat=words[:1000] if words else None,
    )
    since = (ctx.status.live or Served()).since
    # Whether anybody runs it is looked at as long as it is live: only the record of the promotion
    # keeps that.
    ctx.status.live = ctx.status.lastGood.model_copy(
        update={"since": since, "caveat": caveat[:1000] or None}
    )
    ctx.status.unverified = None
    ctx.status.rejected = [item for item in ctx.status.rejected if item.version != run.version]
    finish_run(ctx, "Promoted", "; ".join([_describe_stages(run), *([words] if words else [])]))


def promoted_subjects(ctx: Context) -> dict[str, Any]:
    """What finds each target and what the run did to it: to see at rest whether it still is what
    was promoted."""
    return {
        holding.subject: {
            "config": holding.config,
            "changes": [{"kind": item.kind, "config": item.config} for item in holding.operations],
        }
        for holding in ctx.holdings()
        if holding.subject.startswith("target/")
    }


def _describe_stages(run: Run) -> str:
    skipped = [stage.name for stage in run.stages if stage.state == "Skipped"]
    failed = [stage.name for stage in run.stages if stage.state == "Failed"]
    steps = [
        f"{step.name} of {stage.name}"
        for stage in run.stages
        if stage.state == "Passed"
        for step in stage.steps
        if step.state == "Skipped"
    ]
    passed = len(run.stages) - len(skipped) - len(failed)
    whole = not skipped and not failed and not steps
    words = [
        f"all {passed} stages passed" if whole else f"{passed} of {len(run.stages)} stages passed"
    ]
    words += [f"failed and passed over: {', '.join(failed)}"] if failed else []
    words += [f"skipped: {', '.join(skipped)}"] if skipped else []
    words += [f"skipped steps: {', '.join(steps)}"] if steps else []
    return "; ".join(words)


def _spec_step(ctx: Context, index: int, name: str) -> Step:
    return next(step for step in ctx.body.spec.stages[index].steps if step.name == name)
