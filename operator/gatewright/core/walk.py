"""The way forward: preflight, stages, guarding, promotion."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.release import Step
from gatewright.api.status import Rejected, Run, Served
from gatewright.core import judge, states, times
from gatewright.core.body import has_subjects, pin
from gatewright.core.model import Revision, digest
from gatewright.core.passing import REJECTED, Pass, finish, lines, look, serve
from gatewright.core.pinning import baseline, fresh_stages, pin_again, revision_of
from gatewright.core.plan import foresee
from gatewright.core.stages import advance, current, guards_calm
from gatewright.core.unwind import begin

SUSPENDED = "suspended"


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
    if status.lastGood is not None and status.lastGood.snapshot is None:
        status.lastGood.snapshot = revision.name
    status.run = Run(
        id=number,
        version=spec.version,
        attempt=1 + sum(past.version == spec.version for past in status.history),
        phase="Preflight",
        observe=spec.mode == "Observe",
        generation=p.view.generation,
        revision=revision.name,
        bodyHash=body.hash(),
        startedAt=times.stamp(p.now),
        preflight=lines(spec.preflight),
        guards=lines(spec.guards),
        stages=fresh_stages(body),
        plan=foresee(body, {name: sight.way for name, sight in p.seen.sights.items() if sight.way}),
    )
    status.runs = number
    status.retry = p.view.retry
    status.rejected = [item for item in status.rejected if item.version != spec.version]
    p.decision.prune = revision.name if number > 1 else None
    p.body_ = body
    p.note("Started", f"{spec.version}: run {number} with {len(spec.stages)} stages")
    p.firmly()
    preflight(p)


def preflight(p: Pass) -> None:
    """All checks pass before anything is touched; until then nothing has to be undone."""
    run, checks = p.run, p.body.spec.preflight
    if _left_behind(p):
        return
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
    elif judge.all_passing(rows) and not suspended(p):
        states.move(run, "Walking")
        walk(p)


def walk(p: Pass) -> None:
    """The stages in order."""
    if _interrupted(p):
        return
    while advance(p):
        pass
    if p.run.phase == "Walking" and current(p.run) is None:
        _complete(p)


def paused(p: Pass) -> None:
    """A stage has failed and a person decides; guards go on."""
    if _interrupted(p):
        return
    if p.view.retry is None or p.view.retry == p.status.retry:
        return
    p.status.retry = p.view.retry
    retry(p)
    walk(p)


def retry(p: Pass) -> None:
    """Out of Paused, with the failed stage once more."""
    run = p.run
    index = current(run)
    assert index is not None
    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    pin_again(p, index)
    states.move(run, "Walking")
    states.move(stage, "Running")
    stage.gates = lines(p.body.spec.stages[index].gates)
    times.resume(run, p.now)
    p.note("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    p.firmly()


def guarding(p: Pass) -> None:
    """The version is live; guards go on until it counts as last good."""
    run = p.run
    if _interrupted(p) or not times.expired(run, "guard", p.now) or not guards_calm(p):
        return
    if run.observe:
        finish(p, "Observed", "all stages would have passed")
        return
    _promote(p)


def _left_behind(p: Pass) -> bool:
    """Nothing was touched yet, so a new version, a new body or a deletion simply ends this run."""
    run, spec = p.run, p.view.spec
    if p.view.deleting:
        finish(p, "Aborted", "the Release was deleted before anything was touched")
        return True
    if spec is None or p.view.generation == run.generation:
        return False
    if spec.version != run.version:
        finish(p, "Superseded", f"{spec.version} was asked for before anything was touched")
        return True
    fresh = pin(spec, run.id, p.status.lastGood.version if p.status.lastGood else None)
    if fresh.hash() == run.bodyHash:
        return False
    finish(p, "Superseded", "the stages were edited before anything was touched")
    return True


def _interrupted(p: Pass) -> bool:
    """What ends or stops the walk from outside: guards, deletion, a new version, suspension, holds."""
    run, spec = p.run, p.view.spec
    look(p, "guards", p.body.spec.guards, run.guards)
    failed = _failed_guard(p)
    if failed is not None:
        begin(p, "Guard", f"guard {failed}", gate=failed.partition(":")[0])
        return True
    if p.view.deleting:
        begin(p, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if spec is not None and spec.version != run.version and spec.supersede == "Replace":
        begin(p, "Superseded", f"{spec.version} replaces {run.version}", then="Superseded")
        return True
    _ignore(p)
    index = current(run)
    if index is not None and run.stages[index].state in ("Gating", "Baking"):
        stage = run.stages[index]
        look(p, f"stages/{stage.name}", p.body.spec.stages[index].gates, stage.gates, index)
    _hold(p)
    _overdue(p)
    return run.held == SUSPENDED


def _ignore(p: Pass) -> None:
    """supersede: Reject. What was asked for during a run does not start after it either, but by a Retry."""
    run, spec = p.run, p.view.spec
    if spec is None or p.view.problems or spec.version == run.version or spec.supersede != "Reject":
        return
    if any(item.version == spec.version for item in p.status.rejected):
        return
    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=times.stamp(p.now))
    p.status.rejected = [ignored, *p.status.rejected][:REJECTED]
    p.note("Ignored", f"{spec.version}: {reason}", warning=True)


def _failed_guard(p: Pass) -> str | None:
    for guard, row in zip(p.body.spec.guards, p.run.guards, strict=True):
        if row.state != "Failed":
            continue
        if guard.action == "Rollback":
            return judge.describe(row)
        if (
            p.view.status.run
            and next((g.state for g in p.view.status.run.guards if g.name == row.name), "") != "Failed"
        ):
            p.note("GuardFailed", f"guard {judge.describe(row)} (action: Notify)", warning=True)
    return None


def _hold(p: Pass) -> None:
    run = p.run
    why = _why_held(p)
    if why is not None and run.held != why:
        times.hold(run, why, p.now)
    elif why is None and run.held is not None:
        times.resume(run, p.now)


def _why_held(p: Pass) -> str | None:
    run = p.run
    if suspended(p):
        return SUSPENDED
    if run.phase == "Paused":
        return "a person decides"
    watched = [row for row, guard in zip(run.guards, p.body.spec.guards, strict=True) if guard.action == "Rollback"]
    index = current(run)
    if index is not None:
        stage = run.stages[index]
        if stage.state in ("Gating", "Baking"):
            watched += stage.gates
        asked = next((step for step in stage.steps if step.state == "Running"), None)
        if asked is not None and _step_of(p, index, asked.name).kind in ("confirm", "approval"):
            return f"step {asked.name} waits for a person"
    holding = judge.first(watched, "Holding")
    return f"{holding.name} holds" if holding is not None else None


def suspended(p: Pass) -> bool:
    """Whether the walk stands still: by `spec.suspend`, or because somebody paused the run."""
    return p.run.paused is not None or (p.view.spec is not None and p.view.spec.suspend)


def _overdue(p: Pass) -> None:
    index = current(p.run)
    if index is not None and times.expired(p.run, "overdue", p.now):
        times.stop(p.run, "overdue")
        stage, expected = p.run.stages[index], p.body.spec.stages[index].expectedDuration
        stage.message = f"overdue: expected to take {expected}"
        p.note("Overdue", f"stage {stage.name} is taking longer than {expected}", warning=True)


def _complete(p: Pass) -> None:
    run = p.run
    states.move(run, "Guarding")
    if not run.observe:
        serve(p, Served(version=run.version))
    times.start(run, "guard", seconds(p.body.spec.guardFor) if p.body.spec.guards else 0.0, p.now)
    guarding(p)


def _promote(p: Pass) -> None:
    """What is live becomes last good; a target that is gone keeps the run from ending."""
    sights = p.seen.sights
    if not sights and has_subjects(p.body.spec):
        return
    if any(sight.problem for sight in sights.values()):
        return
    data = {"snapshots": {name: sight.snapshot for name, sight in sights.items()}}
    run = p.run
    revision = Revision(f"{p.view.name}-{run.id}-good-{digest([p.view.uid, data])}", data)
    p.decision.revision = revision
    p.status.lastGood = Served(version=run.version, snapshot=revision.name, since=times.stamp(p.now))
    p.status.live = Served(version=run.version, snapshot=revision.name, since=(p.status.live or Served()).since)
    p.status.rejected = [item for item in p.status.rejected if item.version != run.version]
    finish(p, "Promoted", _passed(run))


def _passed(run: Run) -> str:
    skipped = [stage.name for stage in run.stages if stage.state == "Skipped"]
    if not skipped:
        return f"all {len(run.stages)} stages passed"
    return f"{len(run.stages) - len(skipped)} of {len(run.stages)} stages passed; skipped: {', '.join(skipped)}"


def _step_of(p: Pass, index: int, name: str) -> Step:
    return next(step for step in p.body.spec.stages[index].steps if step.name == name)
