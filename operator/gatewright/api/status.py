"""Status of a Release: what is live, where the run stands, and why.

Timers are kept as `due` (a point in time) while they tick and as `remaining` (seconds) while they stand still, so
that holds, human waits, suspension and operator downtime stop every clock in one place (`core.timers`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from gatewright.api.base import Condition, Model

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Short = Annotated[str, Field(max_length=256)]
Message = Annotated[str, Field(max_length=1024)]

Phase = Literal["Preflight", "Walking", "Paused", "Guarding", "RollingBack", "Verifying", "Done"]
Outcome = Literal["Promoted", "Superseded", "Aborted", "RolledBack", "RollbackFailed", "Observed"]
StageState = Literal["Pending", "Running", "Gating", "Baking", "Passed", "Failed", "Skipped", "RolledBack"]
StepState = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]
GateState = Literal["Unknown", "Passing", "Breaching", "Holding", "Failed"]


class Served(Model):
    """A version that is or was live, and the snapshot that brings it back."""

    version: Short = ""
    """The version; empty where it cannot be told from what is deployed."""
    snapshot: Short | None = None
    """Name of the ControllerRevision that holds every target's state."""
    since: Time | None = None


class WaitingFor(Model):
    """Why nothing moves right now."""

    message: Message
    """One sentence: what, since when, who or what can unblock it, next look, deadline."""
    since: Time


class GateStatus(Model):
    """One check's verdict; written when it changes, not when it is measured."""

    name: Short
    state: GateState
    value: Short | None = None
    """The value that decided, in the unit of the limit."""
    limit: Short | None = None
    margin: Short | None = None
    """How far the value was from the limit; negative in breach."""
    since: Time | None = None
    message: Message | None = None


class StepStatus(Model):
    """One step of a stage."""

    name: Short
    state: StepState
    attempt: int = 0
    key: Short | None = None
    """Key of the operation: stands here before the operation starts, and on everything it makes or changes."""
    startedAt: Time | None = None
    finishedAt: Time | None = None
    message: Message | None = None
    outputs: Annotated[dict[str, Message], Field(max_length=32)] = {}


class StageStatus(Model):
    """One stage of the run."""

    name: Short
    state: StageState
    attempt: int = 1
    startedAt: Time | None = None
    finishedAt: Time | None = None
    message: Message | None = None
    steps: Annotated[list[StepStatus], Field(max_length=20)] = []
    gates: Annotated[list[GateStatus], Field(max_length=20)] = []


class Timer(Model):
    """A clock of the run: exactly one of the two is set."""

    due: Time | None = None
    remaining: Annotated[float | None, WithJsonSchema({"type": "number"})] = None


class Entry(Model):
    """One line of the journal: an operation whose intent was written."""

    key: Short
    stage: Short
    step: Short
    subject: Short
    """What it changed: `target/NAME`, `configmap/NAME` or `job/NAME`."""


class Undo(Model):
    """One line of the rollback plan."""

    kind: Literal["Stop", "Restore", "Compensate"]
    stage: Short
    subject: Short
    """What it acts on: `target/NAME`, `configmap/NAME`, `secret/NAME`, `job/NAME`, or `step/NAME` of the compensations."""
    state: StepState
    key: Short | None = None
    message: Message | None = None
    outputs: Annotated[dict[str, Message], Field(max_length=32)] = {}


class Rollback(Model):
    """The undoing of a run."""

    cause: Literal["Gate", "Step", "Guard", "Superseded", "Aborted", "Person"]
    reason: Message
    gate: Short | None = None
    """The gate or guard that decided."""
    startedAt: Time
    then: Outcome = "RolledBack"
    """The outcome once the rollback is verified."""
    undo: Annotated[list[Undo], Field(max_length=500)] = []
    verify: Annotated[list[GateStatus], Field(max_length=20)] = []


class Run(Model):
    """One walk through the stages."""

    id: int
    """Counts the runs of this Release."""
    version: Short
    attempt: int = 1
    """Counts the runs of this version."""
    phase: Phase
    outcome: Outcome | None = None
    observe: bool = False
    """Evaluates everything and acts on nothing."""
    generation: int
    """`metadata.generation` of the spec that was pinned."""
    revision: Short
    """ControllerRevision with the pinned body and the snapshot of every target before the first change."""
    bodyHash: Short
    startedAt: Time
    finishedAt: Time | None = None
    timers: Annotated[dict[str, Timer], Field(max_length=16)] = {}
    held: Short | None = None
    """Why all clocks but those of the hold stand still."""
    preflight: Annotated[list[GateStatus], Field(max_length=20)] = []
    guards: Annotated[list[GateStatus], Field(max_length=20)] = []
    stages: Annotated[list[StageStatus], Field(max_length=20)] = []
    journal: Annotated[list[Entry], Field(max_length=500)] = []
    plan: Annotated[list[Short], Field(max_length=100)] = []
    """What a rollback from the last stage would do, computed before the first change."""
    rollback: Rollback | None = None
    reason: Message | None = None
    """Why the run ended as it did."""


class Rejected(Model):
    """A version that was rolled back; it runs again only by a Retry or under another name."""

    version: Short
    reason: Message
    gate: Short | None = None
    at: Time


class Past(Model):
    """One finished run."""

    id: int
    version: Short
    attempt: int = 1
    outcome: Outcome
    startedAt: Time
    finishedAt: Time
    reason: Message | None = None


class ReleaseStatus(Model):
    """What `kubectl get releases` and `kubectl describe` show."""

    observedGeneration: int = 0
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    state: Short | None = None
    """One word: where the Release stands."""
    stage: Short | None = None
    """Number and name of the stage, as `3/5 bug-fixes`."""
    message: Message | None = None
    live: Served | None = None
    lastGood: Served | None = None
    waitingFor: WaitingFor | None = None
    run: Run | None = None
    runs: int = 0
    """How many runs there have been."""
    retry: Short | None = None
    """The last token of the annotation `gatewright.dev/retry` that was answered."""
    rejected: Annotated[list[Rejected], Field(max_length=10)] = []
    history: Annotated[list[Past], Field(max_length=10)] = []


def dump(status: ReleaseStatus) -> dict[str, Any]:
    """The status as the API server stores it: what has its default is left out."""
    return status.model_dump(exclude_none=True, exclude_defaults=True)
