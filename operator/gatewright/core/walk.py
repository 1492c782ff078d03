"""The way forward: preflight, stages, guarding, promotion."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.release import Stage, Step
from gatewright.api.status import Entry, Rejected, Run, Served, StageStatus, StepStatus
from gatewright.core import judge, states, times
from gatewright.core.body import pin, produced
from gatewright.core.model import Body, Revision, digest
from gatewright.core.operations import budget, measure, of_step, step_key
from gatewright.core.passing import REJECTED, Pass, finish, lines, look, serve
from gatewright.core.plan import foresee
from gatewright.core.unwind import begin

SUSPENDED = "suspended"


def start(p: Pass) -> None:
    """Pin the body, take the snapshots, begin."""
    spec = p.view.spec
    assert spec is not None
    status = p.status
    number = status.runs + 1
    _baseline(p)
    body = pin(spec, number, status.lastGood.version if status.lastGood else None)
    revision = _revision(p, body, number)
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
        plan=foresee(body),
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
    failed = [row for row, check in zip(rows, checks, strict=True) if row.state == "Failed" and "job" in check.provider]
    if failed:
        finish(p, "Aborted", f"preflight {judge.describe(failed[0])}; nothing was touched; Retry starts again")
    elif judge.all_passing(rows) and not _suspended(p):
        states.move(run, "Walking")
        walk(p)


def walk(p: Pass) -> None:
    """The stages in order."""
    if _interrupted(p):
        return
    while _advance(p):
        pass


def paused(p: Pass) -> None:
    """A stage has failed and a person decides; guards go on."""
    run = p.run
    if _interrupted(p):
        return
    if p.view.retry is None or p.view.retry == p.status.retry:
        return
    p.status.retry = p.view.retry
    index = current(run)
    assert index is not None
    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    _pin_again(p, index)
    states.move(run, "Walking")
    states.move(stage, "Running")
    stage.gates = lines(p.body.spec.stages[index].gates)
    times.resume(run, p.now)
    p.note("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    p.firmly()
    walk(p)


def _pin_again(p: Pass, index: int) -> None:
    """An edit counts from a Retry on, if the stages up to the failed one are still the same by name."""
    run, spec = p.run, p.view.spec
    edited = spec is not None and p.view.generation != run.generation and spec.version == run.version
    if spec is None or not edited or p.view.problems or p.seen.inherited is None:
        return
    old, new = p.body.spec.stages[: index + 1], spec.stages[: index + 1]
    if [_names(stage) for stage in old] != [_names(stage) for stage in new]:
        p.note(
            "EditIgnored", "stages up to the failed one were renamed; the edit counts from the next run", warning=True
        )
        return
    body = pin(spec, run.id, p.status.lastGood.version if p.status.lastGood else None)
    data = {"body": body.pinned(), "snapshots": dict(p.seen.inherited)}
    p.decision.revision = Revision(f"{p.view.name}-{run.id}-{digest([p.view.uid, data])}", data)
    run.revision, run.bodyHash, run.generation = p.decision.revision.name, body.hash(), p.view.generation
    run.stages = run.stages[: index + 1] + fresh_stages(body)[index + 1 :]
    run.guards = lines(spec.guards)
    run.plan = foresee(body)
    p.body_ = body


def _names(stage: Stage) -> tuple[str, list[str]]:
    return stage.name, [step.name for step in stage.steps]


def fresh_stages(body: Body) -> list[StageStatus]:
    """The stages of a body, nothing done yet."""
    return [
        StageStatus(
            name=stage.name,
            state="Pending",
            steps=[StepStatus(name=step.name, state="Pending") for step in stage.steps],
            gates=lines(stage.gates),
        )
        for stage in body.spec.stages
    ]


def guarding(p: Pass) -> None:
    """The version is live; guards go on until it counts as last good."""
    run = p.run
    if _interrupted(p) or not times.expired(run, "guard", p.now) or not _guards_calm(p):
        return
    if run.observe:
        finish(p, "Observed", "all stages would have passed")
        return
    _promote(p)


def current(run: Run) -> int | None:
    """Index of the stage the walk is at; None past the last."""
    over = ("Passed", "Skipped", "RolledBack")
    waiting = run.phase == "Paused"
    return next(
        (n for n, stage in enumerate(run.stages) if stage.state not in over and (stage.state != "Failed" or waiting)),
        None,
    )


def _revision(p: Pass, body: Body, number: int) -> Revision:
    snapshots = dict(p.seen.inherited or {name: sight.snapshot for name, sight in p.seen.sights.items()})
    data = {"body": body.pinned(), "snapshots": snapshots}
    return Revision(f"{p.view.name}-{number}-{digest([p.view.uid, data])}", data)


def _baseline(p: Pass) -> None:
    """What was live before the first run is the first last good."""
    if p.status.lastGood is not None:
        return
    versions = {sight.version for name, sight in p.seen.sights.items() if name.startswith("target/") and sight.version}
    version = versions.pop() if len(versions) == 1 else ""
    p.status.lastGood = Served(version=version, since=times.stamp(p.now))
    p.status.live = p.status.live or p.status.lastGood.model_copy()


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
    if _suspended(p):
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


def _suspended(p: Pass) -> bool:
    return p.view.spec is not None and p.view.spec.suspend


def _overdue(p: Pass) -> None:
    index = current(p.run)
    if index is not None and times.expired(p.run, "overdue", p.now):
        times.stop(p.run, "overdue")
        stage, expected = p.run.stages[index], p.body.spec.stages[index].expectedDuration
        stage.message = f"overdue: expected to take {expected}"
        p.note("Overdue", f"stage {stage.name} is taking longer than {expected}", warning=True)


def _advance(p: Pass) -> bool:
    """One transition of the current stage; False when something has to be waited for."""
    run = p.run
    index = current(run)
    if run.phase != "Walking":
        return False
    if index is None:
        _complete(p)
        return False
    stage = run.stages[index]
    if stage.state == "Pending":
        states.move(stage, "Running")
        stage.startedAt = times.stamp(p.now)
        expected = p.body.spec.stages[index].expectedDuration
        if expected:
            times.start(run, "overdue", seconds(expected), p.now)
        return True
    if stage.state == "Running":
        return _step(p, index, stage)
    return _gates(p, index, stage)


def _step(p: Pass, index: int, stage: StageStatus) -> bool:
    number = next((n for n, step in enumerate(stage.steps) if step.state not in ("Succeeded", "Skipped")), None)
    if number is None:
        return _steps_done(p, index, stage)
    step = stage.steps[number]
    if step.state in ("Pending", "Failed"):
        return _begin_step(p, index, number, step)
    wanted = p.body.spec.stages[index].steps[number]
    if wanted.wait is not None:
        return times.expired(p.run, "step", p.now) and _end_step(p, step, {})
    operations = of_step(p.view, p.body, p.run, index, number)
    found = [p.progress(operation) for operation in operations]
    failed = next((item for item in found if item.state == "Failed"), None)
    if failed is None and times.expired(p.run, "step", p.now):
        stuck = next(
            (item.message for item in found if item.message and item.state != "Succeeded"), "it is still under way"
        )
        return _fail_step(p, index, step, f"not done in {budget(wanted) or 0:.0f}s: {stuck}")
    if failed is not None:
        return _fail_step(p, index, step, failed.message)
    if all(item.state == "Succeeded" for item in found):
        return _end_step(p, step, {name: value for item in found for name, value in item.outputs.items()})
    for operation, item in zip(operations, found, strict=True):
        if item.state == "Absent":
            p.perform(operation, stage.name, step.name)
    stuck_message = next((item.message for item in found if item.stuck), None)
    if step.message != stuck_message:
        step.message = stuck_message
    return False


def _begin_step(p: Pass, index: int, number: int, step: StepStatus) -> bool:
    run, wanted = p.run, p.body.spec.stages[index].steps[number]
    missing = sorted(set(wanted.requires) - produced(p.body, run))
    if missing and not run.observe:
        return _fail_step(
            p, index, step, f"requires {', '.join(missing)}, which no earlier step of this run has produced"
        )
    step.attempt += 1
    step.key = step_key(p.view, run, index, number, step.attempt)
    step.startedAt = times.stamp(p.now)
    step.message = None
    states.move(step, "Running")
    operations = of_step(p.view, p.body, run, index, number)
    if run.observe:
        states.move(step, "Skipped")
        step.message = f"would {wanted.kind} {', '.join(operation.subject for operation in operations)}".strip()
        return True
    limit = seconds(wanted.wait) if wanted.wait is not None else budget(wanted)
    times.stop(run, "step")
    if limit is not None:
        times.start(run, "step", limit, p.now)
    for operation in operations:
        p.perform(operation, run.stages[index].name, step.name)
    p.firmly()
    return wanted.wait is not None and limit == 0.0


def _end_step(p: Pass, step: StepStatus, outputs: dict[str, str]) -> bool:
    states.move(step, "Succeeded")
    step.finishedAt = times.stamp(p.now)
    step.message = None
    step.outputs = {name: value[:1000] for name, value in list(outputs.items())[:32]}
    times.stop(p.run, "step")
    return True


def _fail_step(p: Pass, index: int, step: StepStatus, message: str) -> bool:
    if step.state != "Failed":
        states.move(step, "Failed")
    step.finishedAt = times.stamp(p.now)
    step.message = message[:1000]
    times.stop(p.run, "step")
    return _fail_stage(p, index, "Step", f"step {step.name}: {message}")


def _steps_done(p: Pass, index: int, stage: StageStatus) -> bool:
    wanted = p.body.spec.stages[index]
    if not wanted.gates and seconds(wanted.bake) == 0:
        return _pass(p, index, stage)
    for check, row in zip(wanted.gates, stage.gates, strict=True):
        measure(p.body, p.run, "gates", check, row, index)  # a reference that names nothing fails here, not later
    states.move(stage, "Gating")
    if any("job" in check.provider for check in wanted.gates):
        p.firmly()
    look(p, f"stages/{stage.name}", wanted.gates, stage.gates, index)
    return True


def _gates(p: Pass, index: int, stage: StageStatus) -> bool:
    run, wanted = p.run, p.body.spec.stages[index]
    failed = judge.first(stage.gates, "Failed")
    if failed is not None:
        return _fail_stage(p, index, "Gate", f"gate {judge.describe(failed)}", failed.name)
    if run.held is not None or not judge.all_passing(stage.gates):
        return False
    if stage.state == "Gating" and seconds(wanted.bake) > 0:
        states.move(stage, "Baking")
        times.start(run, "bake", seconds(wanted.bake), p.now)
        return True
    if stage.state == "Baking" and not times.expired(run, "bake", p.now):
        return False
    return _guards_calm(p) and _pass(p, index, stage)


def _guards_calm(p: Pass) -> bool:
    """A guard that breaches or holds keeps the run from going on; one that has not answered yet does so too."""
    rows = zip(p.run.guards, p.body.spec.guards, strict=True)
    return all(row.state == "Passing" for row, guard in rows if guard.action == "Rollback")


def _pass(p: Pass, index: int, stage: StageStatus) -> bool:
    if not _guards_calm(p):
        return False
    states.move(stage, "Passed")
    stage.finishedAt = times.stamp(p.now)
    times.stop(p.run, "bake", "overdue")
    _fold_journal(p.run, stage)
    p.note("StagePassed", f"{p.run.version}: stage {index + 1}/{len(p.run.stages)} {stage.name} passed")
    return True


def _fold_journal(run: Run, stage: StageStatus) -> None:
    """A passed stage needs one line for each thing it changed: none of its Jobs can still run."""
    kept: dict[str, Entry] = {}
    jobs: list[Entry] = []
    for entry in run.journal:
        if entry.stage == stage.name:
            (jobs.append(entry) if entry.subject.startswith("job/") else kept.update({entry.subject: entry}))
    rest = [entry for entry in run.journal if entry.stage != stage.name]
    run.journal = rest + (list(kept.values()) or jobs[-1:])


def _fail_stage(p: Pass, index: int, cause: str, reason: str, gate: str | None = None) -> bool:
    run = p.run
    stage, wanted = run.stages[index], p.body.spec.stages[index]
    states.move(stage, "Failed")
    stage.finishedAt = times.stamp(p.now)
    stage.message = reason[:1000]
    times.stop(run, "bake", "overdue", "step")
    p.firmly()
    if wanted.onFailure == "Continue":
        p.note("StageFailed", f"stage {stage.name}: {reason} (onFailure: Continue)", warning=True)
        return True
    if wanted.onFailure == "Pause" and not run.observe:
        states.move(run, "Paused")
        times.hold(run, "a person decides", p.now)
        p.note("Paused", f"stage {stage.name}: {reason}; a person decides", warning=True)
        return False
    begin(p, cause, f"stage {stage.name}: {reason}", failed=stage.name, gate=gate)
    return False


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
    if not sights and p.body.spec.targets:
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
    finish(p, "Promoted", f"all {len(run.stages)} stages passed")


def _step_of(p: Pass, index: int, name: str) -> Step:
    return next(step for step in p.body.spec.stages[index].steps if step.name == name)
