"""Intervention: one human act on a Release; append-only, so that `kubectl get itv` is the audit
log."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gatewright.api.base import LongText, Model, Name, ObjectName, Text
from gatewright.api.rules import AtApply, AtMostOne, Excludes, OnlyWith, Rule
from gatewright.api.status import Message, Short, Time

Action = Literal[
    "Approve",
    "Reject",
    "Confirm",
    "Retry",
    "Skip",
    "Promote",
    "Rollback",
    "Abort",
    "Pause",
    "Resume",
    "Run",
    "Hotfix",
    "Notify",
]
"""What a person may do; in lower case the RBAC verb on `releases` that it needs."""
Result = Literal["Accepted", "Refused"]
Person = Annotated[str, Field(min_length=1, max_length=320)]
"""A user name as the API server knows it."""
Group = Annotated[str, Field(min_length=1, max_length=253)]

OF_STAGE = ("Approve", "Reject", "Confirm", "Retry", "Skip", "Promote")
OF_STEP = ("Approve", "Reject", "Confirm", "Skip")
OF_GATE = ("Approve", "Reject")
OF_FOLLOW_UP = ("Confirm", "Reject")
OF_WAY_BACK = ("Rollback",)
OF_PROCEDURE = ("Run", "Approve", "Reject", "Confirm", "Abort")
OF_START = ("Retry", "Hotfix")
"""What starts a run when none is under way."""
OF_SPEC = (*OF_STAGE, "Hotfix")
"""What undoes or stops a run is never kept back because somebody has edited the Release."""


class InterventionSpec(Model):
    """One human act. It cannot be changed, and acts once."""

    rules: ClassVar[tuple[Rule, ...]] = (
        AtApply("self == oldSelf", "an Intervention cannot be changed; make another one"),
        OnlyWith("stage", "action", OF_STAGE),
        OnlyWith("step", "action", OF_STEP),
        OnlyWith("gate", "action", OF_GATE),
        OnlyWith("followUp", "action", OF_FOLLOW_UP),
        OnlyWith("specHash", "action", OF_SPEC),
        OnlyWith("to", "action", OF_WAY_BACK),
        OnlyWith("toRun", "action", OF_WAY_BACK),
        OnlyWith("withDatabase", "action", OF_WAY_BACK),
        AtMostOne("to", "toRun"),
        OnlyWith("procedure", "action", OF_PROCEDURE),
        OnlyWith("undo", "action", ("Run",)),
        OnlyWith("confirmed", "action", ("Run",)),
        AtApply(
            "self.action != 'Run' || has(self.procedure)",
            "Run needs procedure: the name of one in spec.procedures of the Release",
        ),
        Excludes(
            "procedure",
            "stage",
            "gate",
            "run",
            "followUp",
            "specHash",
            message="procedure names all that is meant; leave out stage, gate, run, followUp "
            "and specHash",
        ),
        # The core refuses a reason of blanks as well.
        AtApply(
            "!has(self.withDatabase) || has(self.reason)",
            "with the database goes what was written since; give the reason",
        ),
        # The core refuses a reason of blanks as well.
        AtApply(
            "self.action != 'Hotfix' || has(self.reason)",
            "a Hotfix passes windows and Freezes by; give the reason",
        ),
        Excludes(
            "followUp",
            "stage",
            "step",
            "gate",
            "specHash",
            message="followUp names all that is meant; leave out stage, step, gate and specHash",
        ),
    )

    release: ObjectName
    """Name of the Release, in the same namespace."""
    action: Action
    """What is to be done; RBAC must allow its verb (in lower case) on this Release."""
    by: Person
    """Who acts: the caller's own user name, which admission compares."""
    groups: Annotated[list[Group], Field(max_length=64)] = []
    """Groups of the caller that count here, for approvals which ask for one; admission refuses
    others."""
    run: Annotated[int, Field(ge=1)] | None = None
    """Number of the run it is meant for; for another run it does nothing. Without it: whichever run
    is the latest."""
    stage: Name | None = None
    """The stage it is meant for; without it the one under way, or the failed one."""
    step: Name | None = None
    """The step it is meant for, with Approve, Reject, Confirm and Skip."""
    gate: Name | None = None
    """The preflight check of kind `approval` it is meant for, with Approve and Reject."""
    followUp: Name | None = None
    """The follow-up it is meant for, with Confirm and Reject; `run` is then the run that it
    follows."""
    to: Short | None = None
    """With Rollback when no run is under way: the promoted version to return to; without it the
    one before the last."""
    toRun: Annotated[int, Field(ge=1)] | None = None
    """The same by the number of the run that was promoted."""
    withDatabase: bool | None = None
    """With Rollback when no run is under way: also run the compensations of stages whose `reach` is
    Release. What was written since is lost, so a reason is needed."""
    procedure: Name | None = None
    """With Run: the procedure to run. With Approve, Reject, Confirm and Abort: the one under
    way."""
    undo: bool | None = None
    """With Run: run what takes the procedure back."""
    confirmed: LongText | None = None
    """With Run: what the procedure asks to be repeated (`confirm`), word for word."""
    specHash: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", max_length=32)] | None = None
    """The spec that was looked at: `status.run.specHash`, with a Retry or Hotfix that of the spec
    as it is now; for another it does nothing."""
    reason: Text = ""
    """Why, in words for those who read it later."""


class InterventionStatus(Model):
    """What came of it."""

    result: Result | None = None
    """Accepted: it did what it says. Refused: it did nothing. Absent: not answered yet."""
    message: Message | None = None
    """What was done, or why nothing was."""
    run: int | None = None
    """Number of the run that it met."""
    specHash: Short | None = None
    """Hash of the spec that it was accepted for."""
    at: Time | None = None
    """When it was answered."""
