"""The run under way, or the last one: its phase, its stages and steps, its clocks and its undoing.

Timers are kept as `due` (a point in time) while they tick and as `remaining` (seconds) while they
stand still, so that holds, human waits, suspension and operator downtime stop every clock in one
place (`core.run.clocks`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Short = Annotated[str, Field(max_length=320)]
"""Long enough for `configmap/` and the longest name of an object, and a word before it."""
Message = Annotated[str, Field(max_length=1024)]

Phase = Literal[
    "Preflight", "Progressing", "Paused", "Guarding", "RollingBack", "Verifying", "Done"
]
Outcome = Literal["Promoted", "Superseded", "Aborted", "RolledBack", "RollbackFailed", "Observed"]
StageState = Literal[
    "Pending", "Running", "Gating", "Baking", "Passed", "Failed", "Skipped", "RolledBack"
]
StepState = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]
GateState = Literal["Unknown", "Passing", "Breaching", "Holding", "Expired", "Failed"]


class Model(BaseModel):
    """A part of a status. What a newer operator wrote and this one does not know stays where it
    is."""

    model_config = ConfigDict(
        extra="allow",
        defer_build=True,
        populate_by_name=True,
        json_schema_extra=lambda schema: schema.pop("additionalProperties", None),
    )


class GateStatus(Model):
    """One check's verdict; written when it changes, not when it is measured."""

    name: Short
    """Name of the check."""
    state: GateState
    """Unknown until the first answer; Holding while there is none, Expired once that has lasted
    longer than `holdFor`."""
    value: Short | None = None
    """The value that decided, in the unit of the limit."""
    limit: Short | None = None
    """The limits it is compared with."""
    margin: Short | None = None
    """How far the value was from the limit; negative in breach."""
    since: Time | None = None
    """When the state began."""
    message: Message | None = None
    """The answer in words."""
    approvedBy: Annotated[list[Short], Field(max_length=10)] = []
    """Who has approved so far."""
    approvedAt: Annotated[list[Time], Field(max_length=10)] = []
    """When each of them did."""
    early: bool = False
    """A guard that breached before the first change: it counts from the first completed deploy
    on."""
    window: int = 0
    """How often its samples were begun anew, or an approval has expired."""
    acknowledged: bool = False
    """A person has let the run go on although it is silent, or fails."""
    faultSince: Time | None = None
    """Since when people know of a guard that it fails or is silent; it has not passed since."""


class Difference(Model):
    """Something that the run has changed is not what the run wants."""

    subject: Short
    """What it is: `target/NAME`, `configmap/NAME` or `flags/STAGE.STEP`."""
    message: Message
    """What it has instead, and who made it so."""
    since: Time
    """Since when this is seen."""


class StepStatus(Model):
    """One step of a stage."""

    name: Short
    """Name of the step."""
    state: StepState
    """How far it is."""
    attempt: int = 0
    """How often it was started."""
    key: Short | None = None
    """Key of the operation: stands here before the operation starts, and on everything it makes or
    changes."""
    startedAt: Time | None = None
    """When this attempt began."""
    finishedAt: Time | None = None
    """When this attempt ended."""
    message: Message | None = None
    """Why it failed, what keeps it from ending, what people should know of it, or who answered
    it."""
    outputs: Annotated[dict[str, Message], Field(max_length=32)] = {}
    """What it published, for `$(steps.NAME.outputs.KEY)`."""
    approvedBy: Annotated[list[Short], Field(max_length=10)] = []
    """Who has approved so far."""
    approvedAt: Annotated[list[Time], Field(max_length=10)] = []
    """When each of them did."""
    skippedBy: Short | None = None
    """Who skips it; until it is Skipped, what it had started is being stopped."""


class StageStatus(Model):
    """One stage of the run."""

    name: Short
    """Name of the stage."""
    state: StageState
    """How far it is."""
    attempt: int = 1
    """Counts the Retries of this stage."""
    startedAt: Time | None = None
    """When the stage began."""
    finishedAt: Time | None = None
    """When the stage passed or failed."""
    message: Message | None = None
    """Why it failed, who skipped it, that it is overdue, or why it runs although nobody knows
    whether it has to."""
    unmet: Message | None = None
    """Why its `when` was not met, so that it was skipped."""
    skippedBy: Short | None = None
    """Who skips it; until it is Skipped, what it had started is being stopped."""
    steps: Annotated[list[StepStatus], Field(max_length=20)] = []
    """Its steps, in order."""
    gates: Annotated[list[GateStatus], Field(max_length=20)] = []
    """Its gates' verdicts."""


class Timer(Model):
    """A clock of the run: exactly one of the two is set."""

    due: Time | None = None
    """When it runs out, while it ticks."""
    remaining: Annotated[float | None, WithJsonSchema({"type": "number"})] = None
    """Seconds left, while it stands still."""


class JournalEntry(Model):
    """One line of the journal: an operation whose intent was written."""

    key: Short
    """Key of the operation."""
    stage: Short
    """The stage that wanted it."""
    step: Short
    """The step that wanted it."""
    subject: Short
    """What it changed: `target/NAME`, `configmap/NAME`, `flags/STAGE.STEP`, `action/STEP` or
    `job/NAME`."""


class Undo(Model):
    """One line of the rollback plan."""

    kind: Literal["Stop", "Restore", "Compensate"]
    """Stop a running Job, return something to its snapshot, or run a compensation of the stage."""
    stage: Short
    """The stage that is undone."""
    subject: Short
    """What it acts on: `target/NAME`, `configmap/NAME`, `secret/NAME`, `flags/STAGE.STEP`,
    `job/NAME`, `step/NAME` (a compensation)."""
    state: StepState
    """How far it is."""
    key: Short | None = None
    """Key of the operation."""
    message: Message | None = None
    """Why it failed or was skipped, what keeps it from ending, or which way it takes."""
    startedAt: Time | None = None
    """When this try began."""
    due: Time | None = None
    """When this try has failed if it has not ended."""
    stopping: bool = False
    """Its time is over, and it is being stopped."""
    unended: bool = False
    """It may still be going on: nothing that comes after it is started."""
    again: bool = False
    """It was looked at, or returned, once more after the compensations."""
    tries: int = 0
    """How often it was made once more because what it had set in was returned once more."""
    restart: bool = False
    """Its pods start anew: configuration that is captured with it could only be returned after
    it."""
    outputs: Annotated[dict[str, Message], Field(max_length=32)] = {}
    """What a compensation published."""


class Rollback(Model):
    """The undoing of a run."""

    cause: Literal["Gate", "Step", "Guard", "Difference", "Superseded", "Aborted", "Person"]
    """What kind of thing decided."""
    reason: Message
    """What decided, in words."""
    gate: Short | None = None
    """The gate or guard that decided."""
    stage: Short | None = None
    """The one stage that is undone; the run goes on without it."""
    startedAt: Time
    """When the rollback began."""
    then: Outcome = "RolledBack"
    """The outcome once the rollback is verified."""
    attempt: int = 1
    """Counts the tries: a person may repeat what was not undone."""
    setAgain: bool = False
    """It is repeated, and what compensations have set has still to be set again."""
    undo: Annotated[list[Undo], Field(max_length=1000)] = []
    """What is undone, in order."""
    verify: Annotated[list[GateStatus], Field(max_length=20)] = []
    """Verdicts of `spec.rollback.verify`."""


class RunbookUsed(Model):
    """A Runbook as it was when it was read."""

    name: Short
    """Its name."""
    uid: Short
    """Tells it from another one of that name."""
    generation: int
    """Its `metadata.generation`."""


class Run(Model):
    """One walk through the stages, or the way back from versions that were promoted."""

    id: int
    """Counts the runs of this Release."""
    kind: Literal["Release", "Undo", "Procedure"] = "Release"
    """Release: brings a version. Undo: returns what promoted runs have changed. Procedure: never
    stands here; a procedure is walked as a run of its own."""
    undoes: Annotated[list[int], Field(max_length=10)] = []
    """With kind Undo: numbers of the runs that it undoes, the latest first."""
    undoneSince: Time | None = None
    """With kind Undo: when the latest of these began. What it has made elsewhere is marked with its
    number and that."""
    database: bool = True
    """Whether its rollback runs compensations; those of an Undo only if a person has asked for
    them."""
    version: Short
    """The version it brings."""
    attempt: int = 1
    """Counts the runs of this version."""
    phase: Phase
    """Where it stands."""
    outcome: Outcome | None = None
    """How it ended; absent while it is under way."""
    observe: bool = False
    """Evaluates everything and acts on nothing."""
    generation: int
    """`metadata.generation` of the spec that was pinned."""
    runbook: RunbookUsed | None = None
    """The Runbook whose body was pinned with it."""
    revision: Short
    """ControllerRevision with the pinned body and the snapshot of every target before the first
    change."""
    bodyHash: Short
    """Hash of the pinned body."""
    specHash: Short | None = None
    """Hash of the spec in it: tells, when the run has ended, whether the spec was edited since."""
    startedAt: Time
    """When it began."""
    finishedAt: Time | None = None
    """When it ended."""
    duration: Short | None = None
    """How long it took, as `41m20s`; once it has ended."""
    timers: Annotated[dict[str, Timer], Field(max_length=16)] = {}
    """Its clocks, by what they are for."""
    holdReason: Short | None = None
    """Why all clocks but those of the hold stand still."""
    preflight: Annotated[list[GateStatus], Field(max_length=20)] = []
    """Verdicts of `spec.preflight`."""
    guards: Annotated[list[GateStatus], Field(max_length=20)] = []
    """Verdicts of `spec.guards`."""
    availability: Annotated[list[GateStatus], Field(max_length=10)] = []
    """Verdicts of the built-in guards, by target; only those that do not pass."""
    differences: Annotated[list[Difference], Field(max_length=100)] = []
    """What others have made of things that the run has changed."""
    deployed: bool = False
    """Whether a deploy has completed: guards that breached before the first change count from then
    on."""
    stages: Annotated[list[StageStatus], Field(max_length=20)] = []
    """Its stages, in order."""
    journal: Annotated[list[JournalEntry], Field(max_length=1000)] = []
    """Every operation whose intent was written, in order; a rollback reads it backwards."""
    stopping: Annotated[list[JournalEntry], Field(max_length=50)] = []
    """Jobs of a failed stage that may still run: nothing else starts before they have stopped."""
    plan: Annotated[list[Short], Field(max_length=100)] = []
    """What a rollback from the last stage would do, computed before the first change."""
    rollback: Rollback | None = None
    """The undoing of this run, once it has begun."""
    reason: Message | None = None
    """Why the run ended as it did."""
    paused: Message | None = None
    """Who has paused it by an Intervention, and why; or which guard has."""
    pausedStage: Short | None = None
    """The stage whose failure a person decides about."""
    found: Short | None = None
    """What was live before the first change, where that was not the last good version."""
    edits: Annotated[list[Short], Field(max_length=20)] = []
    """What edits that a Retry has taken up have changed: `step migrate of stage db changed`."""
    changedSince: Short | None = None
    """The version that was promoted before, which `changes` compares with."""
    changes: Annotated[list[Short], Field(max_length=20)] = []
    """What the spec has changed since that version, by name, for those who approve."""
    people: Annotated[list[Message], Field(max_length=20)] = []
    """What people did in it, in order: `Skip by ana: known noise (stage beta is skipped)`."""

    @property
    def stage_undone(self) -> str | None:
        """The one stage that is being undone while the run itself goes on."""
        return self.rollback.stage if self.rollback is not None else None

    @property
    def is_returning(self) -> bool:
        """Whether the whole run is undone."""
        return self.rollback is not None and self.rollback.stage is None
