"""The way back: undo what ran, verify, say what is served.

A rollback's critical path is two requests: the write that holds the plan as intents, and the first restore. Restores do
not wait for each other; a compensation waits for everything before it. One line that fails does not keep the others
from being undone, but the run then ends RollbackFailed.
"""

from __future__ import annotations

from typing import Any

from gatewright.api.base import seconds
from gatewright.api.status import Outcome, Rejected, Rollback, Undo
from gatewright.core import judge, states, times
from gatewright.core.expand import Unknown
from gatewright.core.operations import key, of_undo, told
from gatewright.core.passing import REJECTED, Pass, finish, lines, look, serve
from gatewright.core.plan import plan

OVER = ("Succeeded", "Failed", "Skipped")


def begin(
    p: Pass, cause: Any, reason: str, failed: str | None = None, gate: str | None = None, then: Outcome = "RolledBack"
) -> None:
    """Turn around: the whole release is undone, the stage under way included."""
    run = p.run
    if run.observe:
        states.move(run, "Guarding") if run.phase == "Walking" else None
        finish(p, "Observed", f"would roll back: {reason}")
        return
    under_way = next((stage for stage in run.stages if stage.state in ("Running", "Gating", "Baking")), None)
    if under_way is not None:
        states.move(under_way, "Failed")
        under_way.finishedAt, under_way.message = times.stamp(p.now), reason[:1000]
        failed = failed or under_way.name
    if run.phase == "Paused":
        failed = failed or next((stage.name for stage in run.stages if stage.state == "Failed"), None)
    states.move(run, "RollingBack")
    run.timers.clear()
    run.held = None
    undo = plan(p.body, run, failed)
    for number, line in enumerate(undo):
        if line.kind != "Stop":
            line.key = key(p.view, run, "rollback", line.stage, line.subject.partition("/")[2], number)
    run.rollback = Rollback(
        cause=cause,
        reason=reason[:1000],
        gate=gate,
        startedAt=times.stamp(p.now),
        then=then,
        undo=undo,
        verify=lines(p.body.spec.rollback.verify),
    )
    times.start(run, "rollback", seconds(p.body.spec.rollback.within), p.now)
    within = [
        seconds(stage.rollback.within) for stage in p.body.spec.stages if stage.name == failed and stage.rollback.within
    ]
    if within:
        times.start(run, "within", within[0], p.now)
    p.decision.urgent = True
    p.note("RollingBack", f"{run.version}: {reason}", warning=True)
    p.firmly()
    roll_back(p)


def roll_back(p: Pass) -> None:
    """Undo line by line, as far as lines may go side by side."""
    run = p.run
    assert run.rollback is not None
    p.decision.urgent = True
    waiting = False
    for line in run.rollback.undo:
        if line.state not in OVER and not (waiting and line.kind == "Compensate"):
            _undo(p, line)
        if line.state not in OVER:
            waiting = True
            if line.kind == "Compensate":
                break
    _over_budget(p)
    if all(line.state in OVER for line in run.rollback.undo):
        _undone(p)


def verify(p: Pass) -> None:
    """All checks must pass before the rollback is called done."""
    run = p.run
    assert run.rollback is not None
    checks = p.body.spec.rollback.verify
    look(p, "verify", checks, run.rollback.verify)
    jobs = [row for row, check in zip(run.rollback.verify, checks, strict=True) if "job" in check.provider]
    broken = judge.first(jobs, "Failed")
    if judge.all_passing(run.rollback.verify):
        _returned(p)
    elif broken is not None:
        _failed(p, f"verification failed: {judge.describe(broken)}")
    elif times.expired(run, "rollback", p.now):
        open_ = next(row for row in run.rollback.verify if row.state != "Passing")
        _failed(p, f"not verified within {p.body.spec.rollback.within}: {judge.describe(open_)}")


def _undo(p: Pass, line: Undo) -> None:
    try:
        operations = of_undo(p.view, p.body, p.run, line)
    except Unknown as error:  # an output that its step never published: this line cannot be undone, the others can
        states.move(line, "Failed").message = str(error)[:1000]
        return
    if line.state == "Pending":
        states.move(line, "Running")
        for operation in operations:
            p.perform(operation, "", "")
        return
    found = [p.progress(operation) for operation in operations]
    failed = next((item for item in found if item.state == "Failed"), None)
    if failed is None and times.expired(p.run, "rollback", p.now):
        text = next((item.message for item in found if item.message), "it is still under way")
        states.move(line, "Failed").message = f"not done within {p.body.spec.rollback.within}: {text}"[:1000]
    elif failed is not None:
        states.move(line, "Failed").message = failed.message[:1000]
    elif all(item.state == "Succeeded" for item in found):
        states.move(line, "Succeeded").message = told(found)
    else:
        for operation, item in zip(operations, found, strict=True):
            if item.state == "Absent":
                p.perform(operation, "", "")
        line.message = told(found)


def _over_budget(p: Pass) -> None:
    if times.expired(p.run, "within", p.now):
        times.stop(p.run, "within")
        p.note("RollbackOverdue", f"{p.run.version}: the rollback exceeds its budget", warning=True)


def _undone(p: Pass) -> None:
    run = p.run
    assert run.rollback is not None
    broken = [line for line in run.rollback.undo if line.state == "Failed"]
    if broken:
        _failed(p, "; ".join(f"{line.subject}: {line.message}" for line in broken))
        return
    states.move(run, "Verifying")
    times.stop(run, "within")
    times.start(run, "rollback", seconds(p.body.spec.rollback.within), p.now)
    if any("job" in check.provider for check in p.body.spec.rollback.verify):
        p.firmly()
    verify(p)


def _returned(p: Pass) -> None:
    run = p.run
    assert run.rollback is not None
    for stage in run.stages:
        if stage.state == "Passed":
            states.move(stage, "RolledBack")
    serve(p, p.status.lastGood)
    _reject(p)
    finish(p, run.rollback.then, run.rollback.reason)


def _failed(p: Pass, reason: str) -> None:
    assert p.run.rollback is not None
    serve(p, None)
    _reject(p)
    finish(p, "RollbackFailed", f"{reason} (rolling back because of {p.run.rollback.reason})")


def _reject(p: Pass) -> None:
    run = p.run
    assert run.rollback is not None
    if run.rollback.cause in ("Superseded", "Aborted"):
        return
    rejected = Rejected(version=run.version, reason=run.rollback.reason, gate=run.rollback.gate, at=times.stamp(p.now))
    others = [item for item in p.status.rejected if item.version != run.version]
    p.status.rejected = [rejected, *others][:REJECTED]
