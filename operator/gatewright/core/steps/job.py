"""`job`: run a Job and take what it says."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.jobs import Job
from gatewright.api.steps import Step
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View
from gatewright.core.permissions import AuthorPermission
from gatewright.core.spec.expand import expand_references
from gatewright.core.steps.kind import StepPoint, SubjectlessKind

JOB_GRACE_S = 60.0
"""Seconds that a Job has after its own deadline, for its pods to end."""
CREATE_JOBS = AuthorPermission("create", "batch", "jobs")
USE_ACCOUNT = AuthorPermission(
    "impersonate",
    "",
    "serviceaccounts",
    ("serviceAccountName", "template.spec.serviceAccountName", "template.spec.serviceAccount"),
    spared=("default",),
)


class RunJob(SubjectlessKind):
    """A Job of the Release's namespace. Nothing returns what it did: that is for the stage's
    compensations."""

    acts = True
    compensates = True
    stoppable = True
    publishes = True
    permissions = ((Job, CREATE_JOBS), (Job, USE_ACCOUNT))

    def clock(self, step: Step) -> float | None:
        # The Job's own deadline comes first, and its pods have time to end; this one is for a
        # cluster that hangs.
        return seconds(_config(step).timeout) + JOB_GRACE_S

    def operations(self, point: StepPoint) -> list[Operation]:
        raw = _config(point.step).model_dump(mode="json", exclude_none=True)
        job = Job.model_validate(expand_references(raw, point.names))
        subject = f"job/{job_name(point.view, point.key, point.step.name)}"
        return [Operation(point.key, "job", subject, job, point.since)]


def job_name(view: View, key: str, step: str) -> str:
    """Return the name of the Job of an operation: a DNS label, the same whenever it is asked
    for."""
    ending = short_fingerprint([view.uid, key])
    return f"{view.name[:30].rstrip('-.')}-{step[:20].rstrip('-')}-{ending}".replace(".", "-")


def _config(step: Step) -> Job:
    assert step.job is not None
    return step.job
