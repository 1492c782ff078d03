"""The way forward: preflight, stages, guarding, promotion."""

from __future__ import annotations

from typing import Any

from gatewright.api.base import seconds
from gatewright.api.release import Step
from gatewright.api.status import GateStatus, Rejected, Run, Served
from gatewright.core.checks import guards, judge
from gatewright.core.interventions import approvals
from gatewright.core.model import Revision, hash_of
from gatewright.core.run import clocks, observed, states
from gatewright.core.run.context import REJECTED, Pass, finish, lines, look, serve
from gatewright.core.run.pinning import baseline, baseline_version, done_otherwise, fresh_stages, pin_again, revision_of
from gatewright.core.run.rollback import begin
from gatewright.core.run.rollback_plan import foresee
from gatewright.core.run.stages import advance, current, fail_current, guards_calm, settle_stopping
from gatewright.core.spec.changes import changed_by
from gatewright.core.spec.pinned_spec import has_subjects, pin

SUSPENDED = "suspended"
NOBODY = "nobody ran it when it was promoted"


def start(p: Pass) -> None:
    """Pin the body, take the snapshots, begin."""
    spec = p.view.spec
    assert spec is not None
    status = p.status
    number = status.runs + 1
    baseline(p)
    body = pin(spec, number, status.lastGood.version if status.lastGood else None)
    revision = revision_of(p, body, number)
    p.decision.finalize, p.decision.revision = True, revision
    for kept in (status.lastGood, status.live):  # what was there before the first run: its snapshot is the run's own
        if kept is not None and kept.snapshot is None and kept.version == (status.lastGood or kept).version:
            kept.snapshot = revision.name
    status.run = Run(
        id=number,
        version=spec.version,
        attempt=1 + sum(past.version == spec.version for past in status.history),
        phase="Preflight",
        observe=spec.mode == "Observe",
        generation=p.view.generation,
        revision=revision.name,
        bodyHash=body.hash(),
        specHash=hash_of(spec),
        startedAt=clocks.stamp(p.now),
        preflight=lines(spec.preflight),
        guards=lines(spec.guards),
        stages=fresh_stages(body),
        plan=foresee(body, {name: sight.way for name, sight in p.seen.sights.items() if sight.way}),
        found=_found(p),
    )
    status.runs = number
    status.rejected = [item for item in status.rejected if item.version != spec.version]
    p.decision.prune = number > 1
    p.body_ = body
    p.note("Started", f"{spec.version}: run {number} with {len(spec.stages)} stages")
    p.firmly()
    preflight(p)


def _found(p: Pass) -> str | None:
    """What is live before the run, where that is not the last good version: a rollback returns to it all the same."""
    good, last = p.status.lastGood, p.status.run
    if p.seen.inherited and last is not None:
        return last.found  # its rollback failed: what was live before it is what this run returns to as well
    version, live = baseline_version(p.seen), p.status.live
    if good is None:
        return None
    if any(standing.difference for standing in p.seen.standings.values()):
        return version or "unknown"
    if live is None:  # a rollback had failed before: nobody has said since what is there
        return None if version == good.version else version or "unknown"
    # What was compared and does not differ is last good, whatever its images call it.
    compared = bool(p.seen.standings) and live.version == good.version
    return version if not compared and version and good.version and version != good.version else None


def preflight(p: Pass) -> None:
    """All checks pass before anything is touched; until then nothing has to be undone."""
    run, checks = p.run, p.body.spec.preflight
    if _left_behind(p):
        return
    guards.look_ahead(p)
    if run.observe:
        checks = [check for check in checks if check.provider[0] not in ("job", "approval")]
    rows = [row for row in run.preflight if row.name in {check.name for check in checks}]
    look(p, "preflight", checks, rows)
    once = ("job", "approval")
    failed = [
        row for row, check in zip(rows, checks, strict=True) if row.state == "Failed" and check.provider[0] in once
    ]
    if failed:
        finish(p, "Aborted", f"preflight {judge.describe(failed[0])}; nothing was touched; Retry starts again")
    elif judge.all_passing(rows) and not suspended(p) and guards.asked_once(p):
        states.move(run, "Walking")
        walk(p)


def walk(p: Pass) -> None:
    """The stages in order."""
    if _interrupted(p):
        return
    while advance(p):
        pass
    if p.run.phase != "Walking" or current(p.run) is not None or any(approvals.awaited(p.run, None)):
        return
    if not settle_stopping(p):
        _complete(p)


def paused(p: Pass) -> None:
    """A stage has failed and a person decides; guards go on."""
    if _interrupted(p):
        return
    settle_stopping(p)


def retry(p: Pass) -> str:
    """Out of Paused, with the failed stage once more; why an edit does not count, where it does not."""
    run = p.run
    index = current(run)
    assert index is not None
    before = p.body
    ignored = pin_again(p, index)
    if ignored:
        p.note("EditIgnored", f"the edit does not count before the next run: {ignored}", warning=True)

    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    states.move(run, "Walking")
    states.move(stage, "Running")
    run.pausedStage = None
    stage.gates = lines(p.body.spec.stages[index].gates)
    edited = done_otherwise(p, before, p.body, index) if p.body is not before else []
    for step in stage.steps:  # what others have changed since is done once more, and so is what the edit changes
        if step.state == "Succeeded" and (step.name in edited or _changed_by_others(p, index, step.name)):
            states.move(step, "Pending")
    run.availability = []
    run.differences = []
    clocks.stop(run, clocks.DIFFERENCE)
    clocks.resume(run, p.now)
    p.note("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    p.firmly()
    return ignored


def _changed_by_others(p: Pass, index: int, name: str) -> bool:
    step = _step_of(p, index, name)
    stage = p.body.spec.stages[index]
    different = {row.subject for row in p.run.differences}
    return bool(different & set(changed_by(stage, step)))


def guarding(p: Pass) -> None:
    """The version is live; guards go on until it counts as last good."""
    run = p.run
    interrupted = _interrupted(p)
    if run.phase == "Guarding":
        _tell_live(p)  # also while it stands still: what runs does not wait for whoever paused it
    if interrupted:
        return
    silent = guards.silent(p)
    waiting = p.view.spec is not None and not p.view.problems and p.view.spec.version != run.version
    if silent is not None and waiting and not run.observe:
        # A guard that says nothing must not keep the next version away for ever; that nobody watched is said for ever.
        _promote(p, f"not watched to its end: guard {judge.describe(silent)}")
        return
    if not clocks.expired(run, "guard", p.now) or not guards_calm(p):
        return
    if run.observe:
        finish(p, "Observed", "all stages would have passed")
        return
    _promote(p)


def _tell_live(p: Pass) -> None:
    """Say that the version is live, once it is: something may have been different when all stages were done."""
    run, live = p.run, p.status.live
    if not run.observe and observed.all_as_wanted(p) and (live is None or live.version != run.version):
        serve(p, Served(version=run.version))


def _left_behind(p: Pass) -> bool:
    """Nothing was touched yet, so a new version, a new body or a deletion simply ends this run."""
    run, spec = p.run, p.view.spec
    if p.view.deleting:
        finish(p, "Aborted", "the Release was deleted before anything was touched")
        return True
    if spec is None or p.view.problems or p.view.generation == run.generation:
        return False  # an invalid edit changes nothing
    if spec.version != run.version:
        finish(p, "Superseded", f"{spec.version} was asked for before anything was touched")
        return True
    fresh = pin(spec, run.id, p.body.names.get("lastGood.version"))
    if fresh.hash() == run.bodyHash:
        return False
    finish(p, "Superseded", "the stages were edited before anything was touched")
    return True


def _interrupted(p: Pass) -> bool:
    """What ends or stops the walk from outside: people, guards, what others have changed, suspension, holds."""
    run = p.run
    if p.view.deleting:
        begin(p, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if _replaced(p):
        return True
    look(p, "guards", p.body.spec.guards, run.guards)
    guards.count_guards(p)
    index = current(run)
    if index is not None and run.stages[index].state in ("Gating", "Baking"):
        stage = run.stages[index]
        look(p, f"stages/{stage.name}", p.body.spec.stages[index].gates, stage.gates, index)
    if not run.observe:
        observed.review(p)
    if _turned_around(p):
        return True
    _ignore(p)
    _hold(p)
    _overdue(p)
    if run.phase == "Walking" and _changed_too_long(p):
        return run.phase != "Walking"
    return run.held == SUSPENDED


def _replaced(p: Pass) -> bool:
    """A new version that does not wait for this run: by `supersede: Replace`, or because it is what was live before."""
    run, spec, good = p.run, p.view.spec, p.status.lastGood
    if spec is None or p.view.problems or spec.version == run.version:
        return False
    if good is not None and good.version == spec.version:
        begin(p, "Superseded", f"spec.version is {spec.version} again, the last good version", then="Superseded")
        return True
    if spec.supersede == "Replace":
        begin(p, "Superseded", f"{spec.version} replaces {run.version}", then="Superseded")
        return True
    return False


def _turned_around(p: Pass) -> bool:
    """Guards that undo the run, the built-in ones included; and, once all stages have passed, what others have changed."""
    run = p.run
    failed = guards.failed_guard(p)
    if failed is not None:
        begin(p, "Guard", f"guard {judge.describe(failed)}", gate=failed.name)
        return True
    target = observed.failed_target(p)
    if target is not None:
        row, availability = target
        if availability.action == "Rollback":
            begin(p, "Guard", f"{row.message} for {availability.for_}", gate=f"availability/{row.name}")
            return True
        guards.say_or_pause(p, row, availability.action)
    lasting = observed.lasting(p)
    if lasting is not None and run.phase == "Guarding":
        begin(p, "Difference", f"{lasting.message}, longer than {clocks.words(observed.hold_for(p, lasting.subject))}")
        return True
    return False


def _changed_too_long(p: Pass) -> bool:
    """What others have changed was not put back in time: the stage under way has failed."""
    lasting = observed.lasting(p)
    if lasting is None:
        return False
    words = f"{lasting.message}, longer than {clocks.words(observed.hold_for(p, lasting.subject))}"
    fail_current(p, "Difference", words)
    return True


def _ignore(p: Pass) -> None:
    """supersede: Reject. What was asked for during a run does not start after it either, but by a Retry."""
    run, spec = p.run, p.view.spec
    if spec is None or p.view.problems or spec.version == run.version or spec.supersede != "Reject":
        return
    if any(item.version == spec.version for item in p.status.rejected):
        return
    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=clocks.stamp(p.now))
    p.status.rejected = [ignored, *p.status.rejected][:REJECTED]
    p.note("Ignored", f"{spec.version}: {reason}", warning=True)


def _hold(p: Pass) -> None:
    run = p.run
    why = _why_held(p)
    if why is not None and run.held != why:
        clocks.hold(run, why, p.now)
    elif why is None and run.held is not None:
        clocks.resume(run, p.now)
    if run.held in (SUSPENDED, DECIDES) or (run.held or "").endswith(FOR_A_PERSON):
        clocks.stop(run, clocks.DIFFERENCE)  # people take their time, and it is not counted


DECIDES = "a person decides"
FOR_A_PERSON = "waits for a person"


def _why_held(p: Pass) -> str | None:
    run = p.run
    if suspended(p):
        return SUSPENDED
    if run.phase == "Paused":
        return DECIDES
    watched: list[GateStatus] = [
        row
        for row, guard in zip(run.guards, p.body.spec.guards, strict=True)
        if guard.action == "Rollback" and not row.early and not guards.let_go(p, guard, row)
    ]
    index = current(run)
    again = next(approvals.awaited(run, index), None)
    if again is not None:
        return f"{again[0]} {FOR_A_PERSON}"
    if index is not None:
        stage = run.stages[index]
        if stage.state in ("Gating", "Baking"):
            watched += stage.gates
        asked = next((step for step in stage.steps if step.state == "Running"), None)
        if asked is not None and _step_of(p, index, asked.name).kind in ("confirm", "approval"):
            return f"step {asked.name} {FOR_A_PERSON}"
    if run.differences:
        return f"{run.differences[0].subject} is not as the run wants it"
    holding = judge.first(watched, "Expired") or judge.first(watched, "Holding")
    return f"{holding.name} holds" if holding is not None else None


def suspended(p: Pass) -> bool:
    """Whether the walk stands still: by `spec.suspend`, because somebody paused the run, or because nobody can tell."""
    return p.run.paused is not None or p.view.spec is None or p.view.spec.suspend


def _overdue(p: Pass) -> None:
    index = current(p.run)
    if index is not None and clocks.expired(p.run, "overdue", p.now):
        clocks.stop(p.run, "overdue")
        stage, expected = p.run.stages[index], p.body.spec.stages[index].expectedDuration
        stage.message = f"overdue: expected to take {expected}"
        p.note("Overdue", f"stage {stage.name} is taking longer than {expected}", warning=True)


def _complete(p: Pass) -> None:
    run = p.run
    states.move(run, "Guarding")
    guards.watch_on(p)
    clocks.start(run, "guard", seconds(p.body.spec.guardFor), p.now)
    guarding(p)


def _promote(p: Pass, caveat: str = "") -> None:
    """What is live becomes last good, if it is what the run wants; a target that is gone keeps the run from ending."""
    sights = p.seen.sights
    if not sights and has_subjects(p.body.spec):
        return
    if any(sight.problem for sight in sights.values()) or not observed.all_as_wanted(p):
        return
    run = p.run
    data = {"subjects": promoted_subjects(p), "snapshots": {name: sight.snapshot for name, sight in sights.items()}}
    revision = Revision.named(p.view, f"{run.id}-good", data)
    p.decision.revision = revision
    remarks = [item.remark.replace("nobody runs it", NOBODY, 1) for item in p.seen.standings.values() if item.remark]
    words = "; ".join([*([caveat] if caveat else []), *remarks]) or None
    p.status.lastGood = Served(
        version=run.version, snapshot=revision.name, since=clocks.stamp(p.now), caveat=words[:1000] if words else None
    )
    since = (p.status.live or Served()).since
    # Whether anybody runs it is looked at as long as it is live: only the record of the promotion keeps that.
    p.status.live = p.status.lastGood.model_copy(update={"since": since, "caveat": caveat[:1000] or None})
    p.status.unverified = None
    p.status.rejected = [item for item in p.status.rejected if item.version != run.version]
    finish(p, "Promoted", "; ".join([_passed(run), *([words] if words else [])]))


def promoted_subjects(p: Pass) -> dict[str, Any]:
    """What finds each target and what the run did to it: to see at rest whether it still is what was promoted."""
    return {
        holding.subject: {
            "config": holding.config,
            "changes": [{"kind": item.kind, "config": item.config} for item in holding.operations],
        }
        for holding in p.holdings()
        if holding.subject.startswith("target/")
    }


def _passed(run: Run) -> str:
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
    words = [f"all {passed} stages passed" if whole else f"{passed} of {len(run.stages)} stages passed"]
    words += [f"failed and passed over: {', '.join(failed)}"] if failed else []
    words += [f"skipped: {', '.join(skipped)}"] if skipped else []
    words += [f"skipped steps: {', '.join(steps)}"] if steps else []
    return "; ".join(words)


def _step_of(p: Pass, index: int, name: str) -> Step:
    return next(step for step in p.body.spec.stages[index].steps if step.name == name)
