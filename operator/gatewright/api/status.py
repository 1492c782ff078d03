"""Status of a Release: what is live, where the run stands, and why.

Timers are kept as `due` (a point in time) while they tick and as `remaining` (seconds) while they
stand still, so that holds, human waits, suspension and operator downtime stop every clock in one
place (`core.timers`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from gatewright.api.base import Condition

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Short = Annotated[str, Field(max_length=320)]
"""Long enough for `configmap/` and the longest name of an object, and a word before it."""
Message = Annotated[str, Field(max_length=1024)]

Phase = Literal["Preflight", "Walking", "Paused", "Guarding", "RollingBack", "Verifying", "Done"]
Outcome = Literal["Promoted", "Superseded", "Aborted", "RolledBack", "RollbackFailed", "Observed"]
StageState = Literal[
    "Pending", "Running", "Gating", "Baking", "Passed", "Failed", "Skipped", "RolledBack"
]
StepState = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]
FollowUpState = Literal["Pending", "Done", "Failed", "Overdue"]
OPEN_FOLLOW_UPS: tuple[FollowUpState, ...] = ("Pending", "Overdue")
"""Not closed: a person may still answer."""
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


class Served(Model):
    """A version that is or was live, and the snapshot that brings it back."""

    version: Short = ""
    """The version; empty where it cannot be told from what is deployed."""
    snapshot: Short | None = None
    """Name of the ControllerRevision that holds every target's state."""
    since: Time | None = None
    """Since when it is or was live."""
    caveat: Message | None = None
    """What is to be known of it: it is not what was promoted, or nobody watched it to the end."""


class WaitingFor(Model):
    """Why nothing moves right now."""

    message: Message
    """One sentence: what, since when, who or what can unblock it, next look, deadline."""
    since: Time
    """Since when this is waited for."""


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
    early: bool = False
    """A guard that breached before the first change: it counts from the first completed deploy
    on."""
    window: int = 0
    """How often its samples were begun anew."""
    acknowledged: bool = False
    """A person has let the run go on although it is silent."""


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
    """Why it failed, who skipped it, or that it is overdue."""
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


class Run(Model):
    """One walk through the stages."""

    id: int
    """Counts the runs of this Release."""
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
    took: Short | None = None
    """How long it took, as `41m20s`; once it has ended."""
    timers: Annotated[dict[str, Timer], Field(max_length=16)] = {}
    """Its clocks, by what they are for."""
    held: Short | None = None
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
    people: Annotated[list[Message], Field(max_length=20)] = []
    """What people did in it, in order: `Skip by ana: known noise (stage beta is skipped)`."""


class Rejected(Model):
    """A version that was rolled back; it runs again only by a Retry or under another name."""

    version: Short
    """The rejected version."""
    reason: Message
    """Why it was rolled back."""
    gate: Short | None = None
    """The gate or guard that decided."""
    at: Time
    """When."""


class Past(Model):
    """One finished run."""

    id: int
    """Number of the run."""
    version: Short
    """The version it brought."""
    attempt: int = 1
    """Which run of this version it was."""
    outcome: Outcome
    """How it ended."""
    startedAt: Time
    """When it began."""
    finishedAt: Time
    """When it ended."""
    reason: Message | None = None
    """Why it ended so."""
    passedOver: Annotated[list[Short], Field(max_length=20)] = []
    """Stages that failed and were passed, by `onFailure: Continue`."""
    revision: Short | None = None
    """ControllerRevision with what it pinned, for as long as that is kept."""
    people: Annotated[list[Message], Field(max_length=20)] = []
    """What people did in it."""


class Unverified(Model):
    """A rollback failed: nobody knows whether what is served is sound. Nothing starts on it but by
    a person or a newer spec."""

    run: int
    """Number of the run."""
    version: Short
    """The version that was to be undone."""
    reason: Message
    """What could not be undone or verified."""
    subjects: Annotated[list[Short], Field(max_length=1000)] = []
    """What has to be returned or verified: the rollback of a later run ends this only if it returns
    all of it."""
    generation: int
    """The `metadata.generation` of the spec when it failed."""
    since: Time
    """Since when."""


class FollowUpStatus(Model):
    """What is left to do after a run, or was done."""

    run: int
    """Number of the run that it follows."""
    version: Short
    """The version of that run."""
    name: Short
    """Name of the follow-up."""
    state: FollowUpState
    """Overdue: its time is over, and nobody can say that it is done; a person still may."""
    dueAt: Time
    """When its time is over."""
    since: Time
    """When the state began."""
    message: Message | None = None
    """What is to be done, or what came of it."""
    by: Short | None = None
    """Who confirmed or rejected it."""
    gate: GateStatus | None = None
    """The verdict of one that is measured."""
    revision: Short | None = None
    """ControllerRevision that says what is measured, for as long as it is."""


class Answered(Model):
    """An Intervention that was answered: it stands here from the write that did what it asks
    for."""

    uid: Short
    """UID of the Intervention."""
    name: Short
    """Name of the Intervention."""
    action: Short
    """What it asked for."""
    by: Short
    """Who asked."""
    result: Literal["Accepted", "Refused"]
    """Accepted: done. Refused: nothing was done."""
    message: Message
    """What was done, or why nothing was."""
    run: int | None = None
    """Number of the run that it met."""
    specHash: Short | None = None
    """Hash of the spec that it was accepted for."""
    at: Time
    """When."""


class Notification(Model):
    """What somebody is still to be told."""

    id: Annotated[str, Field(max_length=320, pattern=r"^[0-9]+\.[A-Za-z]+")]
    """Run, event, and what it is about, as `3.StagePassed.bug-fixes.1`; repetitions have the
    same."""
    at: Time
    """When it happened."""
    text: Message = ""
    """Why."""
    to: Annotated[list[Short], Field(max_length=10)]
    """Who has not been told yet: the provider, and a hash of its configuration."""

    @property
    def run(self) -> int:
        """Number of the run."""
        return int(self.id.split(".")[0])

    @property
    def event(self) -> str:
        """What happened."""
        return self.id.split(".")[1]


class Thread(Model):
    """What was opened elsewhere for a run: a Slack message to be edited, an incident to be
    closed."""

    run: int
    """Number of the run."""
    to: Short
    """Who was told: the provider, and a hash of its configuration."""
    handle: Short
    """What the provider knows it by."""


class Downtime(Model):
    """Users are not served, as far as health checks tell."""

    since: Time
    """Since when."""
    run: int
    """The run in which it began."""
    check: Short
    """The check that failed first."""
    told: Annotated[list[Short], Field(max_length=10)] = []
    """Who has been told."""


class ReleaseStatus(Model):
    """What `kubectl get releases` and `kubectl describe` show."""

    observedGeneration: int = 0
    """The `metadata.generation` this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """`Ready`, `Reconciling`, `Stalled`, `Succeeded`, `RolledBack`, `Paused`, `Drifted`, as kstatus
    has them."""
    state: Short | None = None
    """One word: where the Release stands."""
    stage: Short | None = None
    """Number and name of the stage, as `3/5 bug-fixes`."""
    message: Message | None = None
    """Where the Release stands, in one sentence."""
    live: Served | None = None
    """What is served now; absent where that is not known."""
    lastGood: Served | None = None
    """What a rollback returns to."""
    unverified: Unverified | None = None
    """Stays until a version was promoted, a rollback was verified, or a person has said that it is
    good (Confirm)."""
    waitingFor: WaitingFor | None = None
    """Why nothing moves right now."""
    run: Run | None = None
    """The run under way, or the last one."""
    runs: int = 0
    """How many runs there have been."""
    followUps: Annotated[list[FollowUpStatus], Field(max_length=20)] = []
    """What is left to do after earlier runs, the latest first; what is closed goes when the next
    run has ended."""
    interventions: Annotated[list[Answered], Field(max_length=20)] = []
    """The latest answered Interventions; each stays at least until its own status tells the
    same."""
    rejected: Annotated[list[Rejected], Field(max_length=10)] = []
    """Versions that were rolled back, the latest first."""
    history: Annotated[list[Past], Field(max_length=10)] = []
    """Finished runs, the latest first."""
    notices: Annotated[list[Notification], Field(max_length=64)] = []
    """What somebody is still to be told, in order."""
    threads: Annotated[list[Thread], Field(max_length=20)] = []
    """What was opened elsewhere for runs that are not over."""
    downtime: Downtime | None = None
    """Since when users are not served; kept only where `notify` asks for Downtime."""


def dump(status: ReleaseStatus) -> dict[str, Any]:
    """Return the status as the API server stores it: what has its default is left out."""
    return status.model_dump(exclude_none=True, exclude_defaults=True)
