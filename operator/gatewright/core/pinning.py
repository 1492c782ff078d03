"""What a run pins: its body, the snapshots from before its first change, its stages with nothing done yet."""

from __future__ import annotations

from gatewright.api.release import Stage
from gatewright.api.status import Served, StageStatus, StepStatus
from gatewright.core import times
from gatewright.core.body import pin
from gatewright.core.model import Body, Revision, digest
from gatewright.core.passing import Pass, lines
from gatewright.core.plan import foresee, ways


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


def revision_of(p: Pass, body: Body, number: int) -> Revision:
    snapshots = dict(p.seen.inherited or {name: sight.snapshot for name, sight in p.seen.sights.items()})
    data = {"body": body.pinned(), "snapshots": snapshots}
    return Revision(f"{p.view.name}-{number}-{digest([p.view.uid, data])}", data)


def baseline(p: Pass) -> None:
    """What was live before the first run is the first last good."""
    if p.status.lastGood is not None:
        return
    versions = {sight.version for name, sight in p.seen.sights.items() if name.startswith("target/") and sight.version}
    version = versions.pop() if len(versions) == 1 else ""
    p.status.lastGood = Served(version=version, since=times.stamp(p.now))
    p.status.live = p.status.live or p.status.lastGood.model_copy()


def pin_again(p: Pass, index: int) -> None:
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
    run.plan = foresee(body, ways(run.plan))
    p.body_ = body


def _names(stage: Stage) -> tuple[str, list[str]]:
    return stage.name, [step.name for step in stage.steps]
