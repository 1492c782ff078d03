"""Which operations a point of a run stands for: the same run always yields the same keys.

A key reads `RUN.STAGE.STEP.ATTEMPT-NONCE`. The nonce is a hash of the Release's UID and the start of the run, so that a
child of a deleted Release of the same name, or of a run whose status was wiped, is never taken for ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.api.base import quantity, seconds
from gatewright.api.jobs import Job
from gatewright.api.release import Check, FlagsStep, Stage, Step
from gatewright.api.status import GateStatus, Run, Undo
from gatewright.core.body import names_at
from gatewright.core.expand import expand
from gatewright.core.model import Body, Measure, Operation, Progress, View, digest
from gatewright.core.window import Rule

CONFIGS = "config"
"""Field of a target that lists the ConfigMaps and Secrets captured with it."""


def key(view: View, run: Run, *parts: str | int) -> str:
    """The key of an operation within a run."""
    nonce = digest([view.uid, run.id, run.startedAt])[:6]
    return ".".join(str(part) for part in (run.id, *parts)) + f"-{nonce}"


def child_name(view: View, operation_key: str, step: str) -> str:
    """A deterministic DNS label for the Job of an operation."""
    return f"{view.name[:30].rstrip('-.')}-{step[:20].rstrip('-')}-{digest([view.uid, operation_key])}".replace(
        ".", "-"
    )


def raw_target(body: Body, name: str) -> Any:
    """Provider key and raw configuration of a target, as one map."""
    target = next(target for target in body.spec.targets if target.name == name)
    return dict([target.provider])


def captured(body: Body, name: str) -> list[str]:
    """Subjects of the ConfigMaps and Secrets that are captured with a target."""
    config = next(iter(raw_target(body, name).values())) or {}
    found = config.get(CONFIGS, []) if isinstance(config, dict) else []
    return [f"{kind.lower()}/{ref}" for item in found for kind, ref in item.items()]


def subjects(body: Body) -> dict[str, Any]:
    """Everything the stages may change, with the configuration that finds it."""
    found: dict[str, Any] = {}
    for target in body.spec.targets:
        found[f"target/{target.name}"] = expand(dict([target.provider]), body.names)
        found |= dict.fromkeys(captured(body, target.name))
    for stage in body.spec.stages:
        names = {**body.names, "stage": stage.name}
        for step in (*stage.steps, *stage.rollback.steps):
            if step.flags and step.flags.configMap:
                found[expand(f"configmap/{step.flags.configMap}", names)] = None
            elif step.flags and not step.flags.target:
                found[flags_subject(stage, step)] = expand(dict([step.flags.provider]), names)
    return found


def flags_subject(stage: Stage, step: Step) -> str:
    """Flags of a provider: each step returns its own to what they were."""
    return f"flags/{stage.name}.{step.name}"


def of_step(view: View, body: Body, run: Run, stage: int, step: int) -> list[Operation]:
    """The operations of the current attempt of a step. Raises expand.Unknown."""
    status = run.stages[stage].steps[step]
    return _operations(view, body, run, stage, body.spec.stages[stage].steps[step], status.key or "")


def stop_of_step(view: View, body: Body, run: Run, stage: int, step: int) -> list[Operation]:
    """What stops the current attempt of a step: only a Job goes on by itself. Raises expand.Unknown."""
    own = run.stages[stage].steps[step].key or ""
    jobs = (operation for operation in of_step(view, body, run, stage, step) if operation.kind == "job")
    return [Operation(own, "stop", operation.subject) for operation in jobs]


def step_key(view: View, run: Run, stage: int, step: int, attempt: int) -> str:
    """The key that a step's attempt will carry."""
    return key(view, run, run.stages[stage].name, run.stages[stage].steps[step].name, attempt)


def of_undo(view: View, body: Body, run: Run, undo: Undo) -> list[Operation]:
    """The operations of one line of the rollback. Raises expand.Unknown."""
    own = undo.key or ""
    if undo.kind == "Stop":
        return [Operation(own, "stop", undo.subject)]
    if undo.kind == "Restore":
        return [Operation(own, "restore", undo.subject, subjects(body).get(undo.subject))]
    stage = next(index for index, item in enumerate(body.spec.stages) if item.name == undo.stage)
    step = next(item for item in body.spec.stages[stage].rollback.steps if f"step/{item.name}" == undo.subject)
    return _operations(view, body, run, stage, step, own)


def of_check(view: View, body: Body, run: Run, place: str, check: Check, stage: int | None = None) -> Operation | None:
    """The operation of a check that is a job or an approval; None for one that is measured."""
    provider, config = check.provider
    if provider not in ("job", "approval"):
        return None
    attempt = run.stages[stage].attempt if stage is not None else run.attempt
    own = key(view, run, *place.split("/"), check.name, attempt)
    if provider == "approval":
        return Operation(own, "ask", f"approval/{check.name}", config)
    job = Job.model_validate(expand(config, names_at(body, run, stage)))
    return Operation(own, "job", f"job/{child_name(view, own, check.name)}", job)


def has_jobs(body: Body) -> bool:
    """Whether a run of this body may make Jobs."""
    spec = body.spec
    checks = [*spec.preflight, *spec.rollback.verify, *(gate for stage in spec.stages for gate in stage.gates)]
    steps = [step for stage in spec.stages for step in (*stage.steps, *stage.rollback.steps)]
    return any(step.job for step in steps) or any(check.provider[0] == "job" for check in checks)


def measure(
    body: Body, run: Run, place: str, check: Check, row: GateStatus, stage: int | None = None
) -> Measure | None:
    """The measurement of a check; None for a job or an approval. Raises expand.Unknown."""
    if check.provider[0] in ("job", "approval"):
        return None
    attempt = run.stages[stage].attempt if stage is not None else 0
    return measure_at(path_of(run, place, check, attempt), check, row, names_at(body, run, stage))


def measure_at(path: str, check: Check, row: GateStatus | None, names: Mapping[str, str]) -> Measure:
    """The measurement of a check whose samples are kept at a path. Raises expand.Unknown."""
    provider, config = check.provider
    since = row.since if row is not None and row.state == "Breaching" else None
    return Measure(path, check, provider, expand(config, names), rule_of(check), since)


def rule_of(check: Check) -> Rule:
    """When a measured check fails."""
    return Rule(
        interval=seconds(check.interval),
        lasting=seconds(check.for_) if check.for_ else None,
        threshold=check.failureThreshold,
        hold_for=seconds(check.holdFor),
        no_data_fails=check.onNoData == "Fail",
        error_fails=check.onError == "Fail",
    )


def path_of(run: Run, place: str, check: Check, attempt: int = 0) -> str:
    """Where a check's samples are kept; another run or attempt starts with none."""
    return f"{run.id}/{place}/{check.name}/{attempt}"


def limit_of(check: Check) -> str | None:
    """The limits as text, for status and messages."""
    parts = [f"<= {check.max}" if check.max is not None else "", f">= {check.min}" if check.min is not None else ""]
    return " and ".join(part for part in parts if part) or None


def margin_of(check: Check, value: float) -> float | None:
    """Distance to the nearer limit; negative in breach."""
    sides = [quantity(check.max) - value] if check.max is not None else []
    sides += [value - quantity(check.min)] if check.min is not None else []
    return min(sides, default=None)


def budget(step: Step) -> float | None:
    """Seconds after which a step has failed; None for a step that waits for people."""
    if step.deploy:
        return seconds(step.deploy.timeout)
    if step.flags:
        return seconds(step.flags.timeout)
    if step.job:
        return (
            seconds(step.job.timeout) + 30.0
        )  # the Job's own deadline comes first; this one is for a cluster that hangs
    return seconds(step.timeout) if step.model_extra else None


def changed_by(stage: Stage, step: Step) -> list[str]:
    """Subjects that a step changes and a rollback returns to their snapshot."""
    if step.deploy:
        return [f"target/{name}" for name in step.deploy.targets]
    if step.flags is None:
        return []
    if step.flags.configMap:
        return [f"configmap/{step.flags.configMap}"]
    return [f"target/{step.flags.target}"] if step.flags.target else [flags_subject(stage, step)]


def _operations(view: View, body: Body, run: Run, stage: int, step: Step, own: str) -> list[Operation]:
    names = names_at(body, run, stage)
    if step.deploy:
        if step.deploy.version:
            names["version"] = expand(step.deploy.version, names)
        return [
            Operation(own, "apply", f"target/{name}", expand(raw_target(body, name), names))
            for name in step.deploy.targets
        ]
    if step.job:
        config = expand(step.job.model_dump(mode="json", exclude_none=True), names)
        return [Operation(own, "job", f"job/{child_name(view, own, step.name)}", Job.model_validate(config))]
    if step.flags and (step.flags.configMap or step.flags.target):
        return [_flags(body, step.flags, own, names)]
    if step.flags:
        where = flags_subject(body.spec.stages[stage], step)
        return [Operation(own, "set", where, expand(dict([step.flags.provider]), names))]
    if step.confirm or step.approval:
        asked = (step.confirm or step.approval).model_dump(mode="json")  # type: ignore[union-attr]  # one is given
        return [Operation(own, "ask", f"{step.kind}/{step.name}", expand(asked, names))]
    if step.model_extra:
        return [Operation(own, "act", f"action/{step.name}", expand(dict([step.provider]), names))]
    return []


def _flags(body: Body, flags: FlagsStep, own: str, names: dict[str, str]) -> Operation:
    values = expand(dict(flags.set), names)
    if flags.configMap:
        return Operation(own, "set", expand(f"configmap/{flags.configMap}", names), {"set": values})
    assert flags.target is not None
    config = {"target": expand(raw_target(body, flags.target), names), "container": flags.container, "set": values}
    return Operation(own, "set", f"target/{flags.target}", config)


def told(found: Sequence[Progress]) -> str | None:
    """What people should know of operations: what keeps one from ending, else what is notable although nothing is wrong."""
    stuck = next((item.message for item in found if item.stuck), None)
    return stuck or "; ".join(item.message for item in found if item.notable and item.message)[:1000] or None
