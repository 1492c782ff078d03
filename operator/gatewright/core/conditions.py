"""The only writer of conditions, and of the words beside them: state, stage, message, waitingFor.

They follow kstatus, so that Argo CD, Flux and `kubectl wait` need little help:

    Ready        True: the wanted version is live and all stages passed. Unknown while working. False otherwise.
    Reconciling  present while working, or waiting with a known next step.
    Stalled      present while a human is needed; never beside Reconciling.
    Succeeded    True after Promoted (and for an adopted version), False after any other ending.
    RolledBack   True after a clean rollback, False where the rollback failed.
    Paused       present while a person decides or the Release is suspended.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.api.base import Condition
from gatewright.api.status import GateStatus, ReleaseStatus, Run, WaitingFor
from gatewright.core import asked, followups, judge, steering, times
from gatewright.core.classify import Situation
from gatewright.core.passing import Pass
from gatewright.core.stages import current
from gatewright.core.walk import SUSPENDED, suspended

ORDER = ("Ready", "Reconciling", "Stalled", "Succeeded", "RolledBack", "Paused")


@dataclass(slots=True)
class _Said:
    """What is to be said: state in a word, Ready's value, reason, message; and what is waited for."""

    state: str
    ready: str
    reason: str
    message: str
    waiting: str | None = None
    stalled: bool = False
    working: bool = False
    paused: bool = False


def summarize(p: Pass, situation: Situation) -> None:
    """Write state, stage, message, waitingFor and conditions; untouched where nothing changed."""
    status = p.status
    said = _running(p) if status.run is not None and status.run.outcome is None else _resting(p, situation)
    if status.run is not None and status.run.outcome is not None:
        said.message += followups.remark(status)
    status.observedGeneration = p.view.generation
    status.state, status.stage = said.state, _stage(status.run)
    status.message = said.message[:1000]
    _waiting(p, said.waiting)
    wanted = {"Ready": (said.ready, said.reason, said.message)}
    if said.working:
        wanted["Reconciling"] = ("True", said.reason, said.waiting or said.message)
    if said.stalled:
        wanted["Stalled"] = ("True", said.reason, said.message)
    if said.paused:
        wanted["Paused"] = ("True", said.reason, said.message)
    wanted |= _ending(status, said)
    _write(p, wanted)


def _running(p: Pass) -> _Said:
    run = p.run
    phase = {"Walking": _walking, "Preflight": _preflight, "Paused": _paused, "Guarding": _guarding}
    said = phase.get(run.phase, _returning)(p, run)
    spec = p.view.spec
    if p.view.problems:
        said.message += f"; the edited spec is invalid: {p.view.problems[0]}"
    elif spec is not None and spec.version != run.version and said.state != "RollingBack":
        then = {"Reject": "is ignored"}.get(spec.supersede, "waits for this run to end")
        said.message += f"; {spec.version} {then}"
    return said


def _preflight(p: Pass, run: Run) -> _Said:
    open_ = asked.waiting(p)
    lines = [item.line.name for item in open_]
    row = next((row for row in run.preflight if row.state != "Passing" and row.name not in lines), None)
    if row is None and open_:
        text = asked.request(p, open_[0])
        waiting = f"{text}; nothing was touched"
        return _Said("WaitingForPerson", "Unknown", "WaitingForPerson", f"{run.version}: {text}", waiting, stalled=True)
    text = f"preflight {judge.describe(row)}" if row else "preflight"
    if row is None and suspended(p):
        why, then = steering.standstill(p)
        text = f"{why} before the first stage; waits for {then}"
    return _Said(
        "Preflight", "Unknown", "Preflight", f"{run.version}: {text}", f"{text}; nothing was touched", working=True
    )


def _walking(p: Pass, run: Run) -> _Said:
    index = current(run)
    if index is None:
        return _Said("Progressing", "Unknown", "Progressing", f"{run.version}: all stages passed", working=True)
    stage = run.stages[index]
    text = f"{run.version}: stage {stage.name}"
    if run.held == SUSPENDED:
        why, then = steering.standstill(p)
        return _Said("Suspended", "Unknown", "Suspended", f"{text} is {why}", then, working=True, paused=True)
    step = next((step for step in stage.steps if step.state == "Running"), None)
    if step is not None:
        return _stepping(p, run, index, text)
    waiting, state = _gating(run, stage.gates, stage.state)
    overdue = f" ({stage.message})" if stage.message else ""
    return _Said(state, "Unknown", state, f"{text} is {state.lower()}{overdue}", waiting, working=True)


def _stepping(p: Pass, run: Run, index: int, text: str) -> _Said:
    stage = run.stages[index]
    number = next(n for n, step in enumerate(stage.steps) if step.state == "Running")
    step, wanted = stage.steps[number], p.body.spec.stages[index].steps[number]
    open_ = asked.waiting(p)
    if open_:
        waiting = asked.request(p, open_[0])
        return _Said("WaitingForPerson", "Unknown", "WaitingForPerson", f"{text}, {waiting}", waiting, stalled=True)
    due = times.due(run, "step")
    deadline = f"; fails at {times.stamp(due)[:19]}Z" if due is not None else ""
    problem = f": {step.message}" if step.message else ""
    waiting = f"{wanted.kind} step {step.name} of stage {stage.name}{problem}{deadline}"
    return _Said("Progressing", "Unknown", "Progressing", f"{text}, step {step.name}{problem}", waiting, working=True)


def _gating(run: Run, gates: list[GateStatus], state: str) -> tuple[str, str]:
    rows = [*gates, *run.guards]
    row = next((row for wanted in ("Holding", "Breaching", "Unknown") for row in rows if row.state == wanted), None)
    due = times.due(run, "bake")
    if row is not None and row.state == "Holding":
        return f"{judge.describe(row)}; clocks stand still", "Holding"
    if row is not None and row.state == "Breaching":
        return f"gate {judge.describe(row)}, since {row.since}", "Breaching"
    if row is not None:
        return f"a first answer of gate {row.name}", "Gating"
    until = f" until {times.stamp(due)[:19]}Z" if due is not None else ""
    return f"the bake of this stage{until}", "Baking"


def _paused(p: Pass, run: Run) -> _Said:
    index = current(run)
    stage = run.stages[index or 0]
    text = f"{run.version}: stage {stage.name} failed: {stage.message or ''}"
    waiting = f"a person: kubectl release retry {p.view.name}, or skip, rollback, abort"
    return _Said("Paused", "False", "Paused", text, waiting, stalled=True, paused=True)


def _guarding(p: Pass, run: Run) -> _Said:
    row = next((row for wanted in ("Holding", "Breaching") for row in run.guards if row.state == wanted), None)
    due = times.due(run, "guard")
    until = f" until {times.stamp(due)[:19]}Z" if due is not None else ""
    waiting = f"guard {judge.describe(row)}" if row else f"guards watch{until}, then {run.version} is last good"
    if run.held == SUSPENDED:
        why, then = steering.standstill(p)
        waiting = f"{why}; waits for {then}"
    lost = next((f"{name}: {sight.problem}" for name, sight in p.seen.sights.items() if sight.problem), None)
    if lost:
        waiting = f"cannot be made last good: {lost}"
    return _Said("Guarding", "True", "Guarding", f"serving {run.version}; guards watch{until}", waiting)


def _returning(p: Pass, run: Run) -> _Said:
    assert run.rollback is not None
    if run.phase == "Verifying":
        row = next((row for row in run.rollback.verify if row.state != "Passing"), None)
        waiting = f"verification of the rollback{f', {judge.describe(row)}' if row else ''}"
    else:
        line = next((line for line in run.rollback.undo if line.state in ("Running", "Pending")), None)
        problem = f": {line.message}" if line and line.message else ""
        waiting = f"undoing {line.subject}{problem}" if line else "the rollback"
    text = f"rolling back {run.version}: {run.rollback.reason}"
    return _Said("RollingBack", "False", "RollingBack", text, waiting, working=True)


def _resting(p: Pass, situation: Situation) -> _Said:
    status, spec = p.status, p.view.spec
    run, version = status.run, spec.version if spec is not None else ""
    if situation == "Invalid":
        more = f" (and {len(p.view.problems) - 1} more)" if len(p.view.problems) > 1 else ""
        text = (p.view.problems or ("spec cannot be read",))[0] + more
        return _Said("Invalid", "False", "InvalidSpec", text, "a corrected spec", stalled=True)
    if situation == "Missing":
        name, problem = next((name, sight.problem) for name, sight in p.seen.sights.items() if sight.problem)
        text = f"{version} cannot start: {name}: {problem}"
        return _Said(
            "Waiting", "False", "TargetNotFound", text, f"{name}: {problem}; looked at again every 30s", stalled=True
        )
    if situation == "Suspended":
        text = f"{version} is not started: the Release is suspended"
        return _Said("Suspended", "False", "Suspended", text, "spec.suspend to be false", paused=True, stalled=True)
    if situation == "Blocked":
        text = f"{version} waits for release {p.seen.rival}, which has one of its targets"
        return _Said("Waiting", "Unknown", "Blocked", text, f"release {p.seen.rival} to end its run", working=True)
    live = status.live.version if status.live else ""
    if situation in ("Settled", "Adopted") or (run and run.outcome == "Promoted" and run.version == version):
        return _Said("Promoted", "True", "Promoted", f"serving {live or version}")
    return _after(status, run, version, live)


def _after(status: ReleaseStatus, run: Run | None, version: str, live: str) -> _Said:
    serving = f"serving {live} normally" if live else "serving what was there before"
    if run is not None and run.version == version and run.outcome == "RollbackFailed":
        text = f"rollback of {version} failed: {run.reason}; what is served is not verified"
        return _Said(
            "RollbackFailed",
            "False",
            "RollbackFailed",
            text,
            "a person to repair what could not be undone",
            stalled=True,
        )
    if run is not None and run.version == version and run.outcome in ("Aborted", "Superseded"):
        text = f"{serving}; {version} {run.outcome.lower()}: {run.reason}"
        return _Said(run.outcome, "False", run.outcome, text, "a Retry or a new version", stalled=True)
    if run is not None and run.version == version and run.outcome == "Observed":
        return _Said("Observed", "False", "Observed", f"{version} observed: {run.reason}", stalled=True)
    rejected = next((item for item in status.rejected if item.version == version), None)
    if rejected is None:
        return _Said("Pending", "Unknown", "Pending", f"{version} is about to start", working=True)
    text = f"{serving}; {version} rejected by {rejected.reason}"
    if run is None or run.version != version:
        return _Said("Rejected", "False", "Rejected", text, "a Retry or a new version", stalled=True)
    return _Said("RolledBack", "False", "RolledBack", text, "a Retry or a new version", stalled=True)


def _ending(status: ReleaseStatus, said: _Said) -> dict[str, tuple[str, str, str]]:
    if said.state in ("Promoted", "Guarding"):
        return {"Succeeded": ("True", said.reason, said.message)} if said.state == "Promoted" else {}
    if said.state == "Rejected":
        return {"Succeeded": ("False", said.reason, said.message)}
    outcome = status.run.outcome if status.run is not None else None
    if outcome is None or said.state not in ("RolledBack", "RollbackFailed", "Aborted", "Superseded", "Observed"):
        return {}
    found: dict[str, tuple[str, str, str]] = {"Succeeded": ("False", outcome, said.message)}
    if said.state in ("RolledBack", "RollbackFailed"):
        found["RolledBack"] = ("True" if said.state == "RolledBack" else "False", said.state, said.message)
    return found


def _stage(run: Run | None) -> str | None:
    if run is None:
        return None
    over = [n for n, stage in enumerate(run.stages) if stage.state != "Pending"]
    number = over[-1] if over else 0
    return f"{number + 1}/{len(run.stages)} {run.stages[number].name}"


def _waiting(p: Pass, message: str | None) -> None:
    if message is None:
        p.status.waitingFor = None
    elif p.status.waitingFor is None or p.status.waitingFor.message != message[:1000]:
        p.status.waitingFor = WaitingFor(message=message[:1000], since=times.stamp(p.now))


def _write(p: Pass, wanted: dict[str, tuple[str, str, str]]) -> None:
    """`lastTransitionTime` moves only with the status of a condition."""
    old = {item.type: item for item in p.status.conditions}
    now = times.stamp(p.now)[:19] + "Z"
    p.status.conditions = [
        Condition(
            type=name,
            status=value,
            reason=reason,
            message=message[:2000],
            lastTransitionTime=old[name].lastTransitionTime if name in old and old[name].status == value else now,
            observedGeneration=p.view.generation,
        )
        for name in ORDER
        if name in wanted
        for value, reason, message in [wanted[name]]
    ]
