"""What a check asks: a measurement, a Job, or people."""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.base import quantity, seconds
from gatewright.api.checks import Check
from gatewright.api.jobs import Job
from gatewright.api.status import GateStatus, Run
from gatewright.api.steps import Step
from gatewright.core.checks.window import Rule
from gatewright.core.model.needs import Measure
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.operations import operation_key
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.steps.job import job_name


def operation_of_check(
    view: View, body: PinnedSpec, run: Run, place: str, check: Check, stage: int | None = None
) -> Operation | None:
    """Return the operation of a check that is a job or an approval; None for one that is measured.

    Raises UnknownReference.
    """
    provider, config = check.provider
    if provider not in ("job", "approval"):
        return None

    attempt = run.stages[stage].attempt if stage is not None else run.attempt
    # What was undone once more is verified anew.
    if place == "verify" and run.rollback is not None:
        attempt += run.rollback.attempt - 1

    # Five parts, where a step has four: a stage may be called `verify`, and its step as the check
    # is.
    where = place.split("/") if stage is not None else (place, "checks")
    own = operation_key(view, run, *where, check.name, attempt)

    if provider == "approval":
        return Operation(own, "ask", f"approval/{check.name}", config)

    job = Job.model_validate(expand_references(config, names_at(body, run, stage)))
    return Operation(own, "job", f"job/{job_name(view, own, check.name)}", job)


def has_jobs(body: PinnedSpec) -> bool:
    """Return whether a run of this body may make Jobs."""
    spec = body.spec
    checks = [*spec.preflight, *spec.rollback.verify]
    steps: list[Step] = []
    for stage in spec.stages:
        checks += stage.gates
        steps += [*stage.steps, *stage.rollback.steps]

    return any(step.job for step in steps) or any(check.provider[0] == "job" for check in checks)


def measure_of_check(
    body: PinnedSpec, run: Run, place: str, check: Check, row: GateStatus, stage: int | None = None
) -> Measure | None:
    """Return the measurement of a check; None for a job or an approval. Raises UnknownReference."""
    if check.provider[0] in ("job", "approval"):
        return None
    path = path_of(run, place, check, window_of(run, row, stage))
    return measure_at(path, check, row, names_at(body, run, stage))


def measure_at(
    path: str, check: Check, row: GateStatus | None, names: Mapping[str, str]
) -> Measure:
    """Return the measurement of a check whose samples are kept at a path.

    Raises UnknownReference.
    """
    provider, config = check.provider
    since = row.since if row is not None and row.state == "Breaching" else None
    return Measure(path, check, provider, expand_references(config, names), rule_of(check), since)


def rule_of(check: Check) -> Rule:
    """Return when a measured check fails."""
    return Rule(
        interval=seconds(check.interval),
        lasting=seconds(check.for_) if check.for_ else None,
        threshold=check.failureThreshold,
        hold_for=seconds(check.holdFor),
        no_data_fails=check.onNoData == "Fail",
        error_fails=check.onError == "Fail",
    )


def window_of(run: Run, row: GateStatus, stage: int | None) -> int:
    """Return the number of the samples that a check's verdict comes from.

    A Retry, or a guard that counts only now, begins with none.
    """
    return run.stages[stage].attempt if stage is not None else row.window


def path_of(run: Run, place: str, check: Check, attempt: int = 0) -> str:
    """Return where a check's samples are kept; another run or attempt starts with none."""
    return f"{run.id}/{place}/{check.name}/{attempt}"


def limit_of(check: Check) -> str | None:
    """Return the limits as text, for status and messages."""
    parts = [
        f"<= {check.max}" if check.max is not None else "",
        f">= {check.min}" if check.min is not None else "",
    ]
    return " and ".join(part for part in parts if part) or None


def margin_of(check: Check, value: float) -> float | None:
    """Return the distance to the nearer limit; negative in breach."""
    margins = []
    if check.max is not None:
        margins.append(quantity(check.max) - value)
    if check.min is not None:
        margins.append(value - quantity(check.min))
    return min(margins, default=None)
