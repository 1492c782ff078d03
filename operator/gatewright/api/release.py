"""Release: the wanted version, and the stages that lead there."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, StringConstraints

from gatewright.api.base import (
    Duration,
    Interval,
    Key,
    Keyed,
    LongText,
    Model,
    Name,
    ObjectName,
    Quantity,
    Text,
    Version,
)
from gatewright.api.conditions import Is, IsFalse, IsTrue, Missing, Written
from gatewright.api.jobs import Job
from gatewright.api.rules import (
    AnyOf,
    AtApply,
    ExactlyOne,
    Excludes,
    NotTogether,
    OneProvider,
    Rule,
    Together,
)

VarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=40)]


class Approval(Model):
    """People who must say go; answered by Interventions."""

    groups: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] = []
    """Groups whose members may approve; empty: whoever RBAC lets approve."""
    count: Annotated[int, Field(ge=1, le=10)] = 1
    """How many different people must approve."""
    expires: Duration | None = None
    """How long an approval counts; it is asked again when by then the run has not left preflight,
    or the next step of the stage has not begun."""
    notBy: Literal["Requester"] | None = None
    """Requester: whoever `spec.requestedBy` names may not approve."""


class Confirm(Model):
    """A manual step that a person does and then confirms by an Intervention."""

    instructions: LongText
    """What the person has to do."""


class Check(Keyed):
    """One question with a yes or no: a measured value against limits, a job, or an approval."""

    name: Name
    """Unique among its neighbours; it appears in status, messages and metrics."""
    max: Quantity | None = None
    """Largest value that is still good."""
    min: Quantity | None = None
    """Smallest value that is still good."""
    interval: Interval = "10s"
    """Time between two measurements; at least 1s."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """Fail only when every sample over this time breached, with no gap longer than three
    intervals."""
    failureThreshold: Annotated[int | None, Field(ge=1, le=100)] = None
    """Fail only after this many breaching samples in a row. With `for` both must hold."""
    onNoData: Literal["Hold", "Fail"] = "Hold"
    """What an empty answer or NaN means: clocks stop (Hold), or it counts as a breach (Fail). It is
    never a pass."""
    onError: Literal["Hold", "Fail"] = "Hold"
    """What a provider that does not answer means: clocks stop (Hold), or it counts as a breach
    (Fail)."""
    holdFor: Duration = "10m"
    """How long the check may hold before `onHoldExpired` counts."""
    onHoldExpired: Literal["Fail", "Pause", "Notify"] | None = None
    """What a hold longer than `holdFor` does. Fail: the check fails. Pause: a person decides.
    Notify: it is told, and the clocks stand until there is an answer. Left out: Fail for a gate;
    for a guard Pause during the stages, and Notify while Guarding."""


Severity = Literal["critical", "error", "warning", "info"]
"""How grave a fault is, in the words of those who page people; the gravest first."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class Guard(Check):
    """A check that is watched from the first change until `guardFor` after completion."""

    rules: ClassVar[tuple[Rule, ...]] = (
        NotTogether(
            IsTrue("atRest"),
            Is("action", "Rollback"),
            Missing("rollbackFor"),
            message="at rest a Rollback is for a time after promotion: give rollbackFor, or "
            "action: Notify",
        ),
        NotTogether(
            IsTrue("atRest"),
            Is("action", "Pause"),
            message="at rest there is no run to pause; give action: Notify, or leave out atRest",
        ),
        NotTogether(
            IsTrue("atRest"),
            Is("action", "RollbackStage"),
            message="at rest no stage is under way; give action: Notify, or leave out atRest",
        ),
        NotTogether(
            IsFalse("atRest"),
            "rollbackFor",
            message="rollbackFor is for a guard that is watched at rest; add atRest: true",
        ),
        NotTogether(
            Is("action", "Notify"),
            "rollbackFor",
            message="rollbackFor is for action: Rollback; leave it out",
        ),
    )

    action: Literal["Rollback", "RollbackStage", "Pause", "Notify"] = "Rollback"
    """What a failed guard does: undo the whole release; undo the stage under way alone, or the last
    one while Guarding; let a person decide; or only say so."""
    severity: Severity = "error"
    """How grave its fault is for whoever is told."""
    atRest: bool = False
    """Watched also when no run is under way, from the promotion on."""
    rollbackFor: Duration | None = None
    """How long after the promotion a failure at rest undoes it, with `action: Rollback`; after that
    it is only told."""


class DeployStep(Model):
    """Bring targets to a version."""

    targets: Annotated[list[Name], Field(min_length=1, max_length=10)]
    """Names of targets, all changed at once."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """Another version than the Release's, where a stage ships a build of its own; may hold
    `$(vars.NAME)`."""
    restart: bool = False
    """Start every pod anew, also where neither version nor captured configuration has changed."""
    timeout: Duration = "10m"
    """The step fails when the rollout has not completed by then."""


class FlagsStep(Keyed):
    """Set feature flags: keys of a ConfigMap, environment variables of a target's container, or
    those of a provider."""

    rules: ClassVar[tuple[Rule, ...]] = (
        OneProvider("configMap", "target"),
        Together(
            "set",
            "configMap",
            "target",
            message="set belongs to configMap and target, and they need it; a provider has its own",
        ),
        Together("container", "target", message="container belongs to target: give both or none"),
    )

    configMap: ObjectName | None = None
    """The ConfigMap that holds the flags."""
    target: Name | None = None
    """The target whose container gets the variables."""
    container: Name | None = None
    """The container, with `target`."""
    set: Annotated[dict[Key, Text], Field(max_length=64)] = {}
    """Flag names and their values, with `configMap` or `target`; a provider has its own."""
    holdFor: Duration = "10m"
    """How long the flags may be something else than the run wants, because others changed them,
    before the stage fails."""
    timeout: Duration = "10m"
    """The step fails when the change has not taken effect by then."""


class Proof(Model):
    """What the outputs of a step must say before the step has succeeded: `bytes`, `createdAt` and
    `tables`."""

    minBytes: Annotated[int, Field(ge=1)] = 1
    """Smallest size, in bytes: output `bytes`."""
    maxAge: Duration = "1h"
    """Longest time since it was made: output `createdAt`, RFC 3339."""
    contains: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=127)]], Field(max_length=64)
    ] = []
    """Tables that must be in it, as `public.tasks`: output `tables`, a JSON list or words."""


StepKindName = Literal["deploy", "job", "flags", "wait", "confirm", "approval"]
"""The fields of a step that say what it does; each has its kind in `core.steps.STEPS`."""
STEP_KINDS: tuple[StepKindName, ...] = get_args(StepKindName)


class Step(Keyed):
    """One action of a stage; exactly one of the step kinds, or a provider whose action it is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        OneProvider(*STEP_KINDS),
        Excludes(
            Written("timeout"),
            *STEP_KINDS,
            message="timeout is for a provider's action; deploy, flags and job have their own",
        ),
    )

    name: Name
    """Unique within the stage."""
    deploy: DeployStep | None = None
    """Bring targets to a version."""
    job: Job | None = None
    """Run a Job."""
    flags: FlagsStep | None = None
    """Set feature flags."""
    wait: Duration | None = None
    """Let time pass."""
    confirm: Confirm | None = None
    """Wait until a person confirms a manual step."""
    approval: Approval | None = None
    """Wait until people approve."""
    timeout: Duration = "10m"
    """The step fails when a provider's action has not ended by then; the other kinds have their
    own."""
    produces: Name | None = None
    """Name of what the step leaves behind; `requires` refers to it."""
    proof: Proof | None = None
    """What the step must publish to have succeeded: a backup that is empty, old or not whole is
    none."""
    requires: Annotated[list[Name], Field(max_length=10)] = []
    """What earlier steps must have produced in this run."""

    @property
    def kind_name(self) -> StepKindName | None:
        """The one step kind that is given; None where a provider's action is."""
        return next((kind for kind in STEP_KINDS if getattr(self, kind) is not None), None)

    @property
    def kind(self) -> str:
        """The one step kind that is given; a provider's key for its action."""
        return self.kind_name or self.provider[0]


class StageRollback(Model):
    """What undoes a stage beyond its targets, which return to their snapshot by themselves."""

    reach: Literal["Stage", "Release"] = "Stage"
    """Stage: only when this very stage fails. Release: whenever the release is unwound past it."""
    within: Duration | None = None
    """Time budget of this stage's rollback; exceeding it is said loudly."""
    steps: Annotated[list[Step], Field(max_length=10)] = []
    """Compensations, in order; jobs and flags."""


class When(Model):
    """What has to be so that a stage has anything to do."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("equals", "notEquals", "changed"),
        Together(
            "var",
            "equals",
            "notEquals",
            message="var goes with equals or notEquals, and they need it",
        ),
    )

    var: VarName | None = None
    """A variable of `spec.vars`."""
    equals: Text | None = None
    """The value that it must have."""
    notEquals: Text | None = None
    """The value that it must not have."""
    changed: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(max_length=16)
    ] = []
    """Paths of which one must have changed, as `spec.changedPaths` says; with one `**` for any
    folders and one `*` in each part. Where that is not given the stage runs."""


class Stage(Model):
    """Steps in order, then gates, then the bake."""

    rules: ClassVar[tuple[Rule, ...]] = (
        AnyOf("steps", "gates", message="has neither steps nor gates; give it something to do"),
    )

    name: Name
    """Unique within the Release."""
    when: When | None = None
    """The stage is skipped, and the reason said, where this is not so."""
    risk: Literal["Low", "Medium", "High"] = "Medium"
    """Shown wherever people decide."""
    expectedDuration: Duration | None = None
    """Overdue is shown; it never fails a stage by itself."""
    steps: Annotated[list[Step], Field(max_length=20)] = []
    """In order; each is exactly one of the step kinds."""
    gates: Annotated[list[Check], Field(max_length=20)] = []
    """The stage's success criteria, watched through the bake."""
    bake: Duration = "0s"
    """How long the gates must stay good after the steps are done; the clock stops while a gate
    holds."""
    onFailure: Literal["Rollback", "Pause", "Continue"] = "Rollback"
    """What a failed step or gate does. Pause: a person decides."""
    rollback: StageRollback = Field(default_factory=StageRollback)
    """What undoes this stage."""


class Procedure(Model):
    """What people may do at any time, with their identity and a record of it."""

    name: Name
    """Unique among procedures and stages."""
    description: Text = ""
    """What it is for, for whoever is on call."""
    approval: Approval | None = None
    """Who must approve before its first step."""
    confirm: LongText | None = None
    """What whoever runs it has to repeat, as `Everything since
    $(steps.backup.outputs.createdAt) is lost.`"""
    steps: Annotated[list[Step], Field(min_length=1, max_length=10)]
    """In order; all kinds but deploy."""
    undo: Annotated[list[Step], Field(max_length=10)] = []
    """What takes it back, when a person asks for that."""


class DatabaseRollback(Model):
    """What has to be before the database goes back with what was promoted."""

    approval: Approval | None = None
    """Who must approve a Rollback `withDatabase`; nothing is returned before."""


class ReleaseRollback(Model):
    """How a rollback is judged, and how far back one leads at rest."""

    keep: Annotated[int, Field(ge=0, le=10)] = 3
    """So many promoted versions can be undone when no run is under way, the latest first."""
    database: DatabaseRollback = Field(default_factory=DatabaseRollback)
    """When no run is under way: what has to be before the database goes back, too."""
    verify: Annotated[list[Check], Field(max_length=20)] = []
    """All must pass before RolledBack is said."""
    within: Duration = "10m"
    """Verification fails when it has not passed by then."""


class FollowUp(Check):
    """What is left to do when a run has ended: a person confirms it, or a gate is watched until its
    time is over."""

    rules: ClassVar[tuple[Rule, ...]] = (OneProvider("confirm", in_model=False),)

    within: Duration
    """How long after the end of the run it is due."""
    when: Literal["Promoted", "RolledBack", "Always"] = "Promoted"
    """After which end of a run. RolledBack: also where the rollback failed. Always: after every run
    that began a stage."""
    confirm: Confirm | None = None
    """What a person does and then confirms by an Intervention that names the follow-up."""
    interval: Interval = "5m"
    """Time between two measurements; at least 1s."""
    holdFor: Duration = "1h"
    """After this time on Hold the follow-up fails."""


class Availability(Model):
    """The guard that every target has from its first deploy on: whether what was deployed runs."""

    for_: Annotated[Duration, Field(alias="for")] = "1m"
    """How long a target may be unavailable, or go on crashing, before the guard fails."""
    action: Literal["Rollback", "Pause", "Notify"] = "Rollback"
    """What a failed guard does: undo the whole release, let a person decide, or only say so."""


class Target(Keyed):
    """One thing that has a version; exactly one provider key."""

    name: Name
    """Unique within the Release; deploy steps refer to it."""
    holdFor: Duration = "10m"
    """How long the target may be something else than the run wants, because others changed it,
    before the stage fails."""
    availability: Availability = Field(default_factory=Availability)
    """The built-in guard on what was deployed."""


Event = Literal[
    "Started",
    "StageStarted",
    "StagePassed",
    "StageFailed",
    "StageOverdue",
    "ApprovalNeeded",
    "GuardFailed",
    "GuardRecovered",
    "Hindered",
    "RollingBack",
    "Verifying",
    "RollbackOverdue",
    "RollbackHindered",
    "StageRolledBack",
    "RolledBack",
    "RollbackFailed",
    "Completed",
    "Promoted",
    "Superseded",
    "Aborted",
    "Observed",
    "Downtime",
    "Restored",
    "FollowUpDue",
    "FollowUpFailed",
    "ProcedureStarted",
    "ProcedureEnded",
    "ProcedureFailed",
]


class Notify(Keyed):
    """Who is told what; exactly one provider key."""

    events: Annotated[list[Event], Field(min_length=1, max_length=32)]
    """What is told. ApprovalNeeded: a person is waited for. Completed: the last stage passed;
    Promoted: the guards, too. GuardRecovered comes with GuardFailed."""
    severities: Annotated[list[Severity], Field(max_length=4)] = []
    """Tell only what is as grave as one of these; empty: all."""
    checks: Annotated[list[Name], Field(max_length=20)] = []
    """Tell only what is about one of these guards and gates; empty: all."""
    after: Duration = "5m"
    """How long users must have been without service before Downtime is told."""
    health: Annotated[list[Name], Field(max_length=20)] = []
    """Guards, gates and verifications whose failing is a Downtime; empty: every http check but
    those of latency."""


class Window(Model):
    """Hours in which a run may start, again and again."""

    rrule: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """When it opens: a rule of RFC 5545 with FREQ=DAILY, WEEKLY, MONTHLY or YEARLY, and BYDAY,
    BYMONTHDAY, BYMONTH, BYHOUR, BYMINUTE, BYSETPOS, as `FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9`."""
    timeZone: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Whose local time that is, as `America/Mexico_City`."""
    duration: Duration
    """How long it is open; at most 7d."""


MOST_PARTS = 500
"""Steps, gates and compensations of all stages together."""

# `core.spec.problems` names the step and the target.
_DEPLOYS_KNOWN_TARGETS = AtApply(
    "self.stages.all(s, !has(s.steps) || s.steps.all(step, !has(step.deploy) || "
    "step.deploy.targets.all(name, has(self.targets) && self.targets.exists(t, t.name == name))))",
    "a deploy step names a target that is not in spec.targets",
    path=".stages",
)
# `core.report.size` counts them.
_HAS_FEW_PARTS = AtApply(
    "self.stages.map(s, (has(s.steps) ? s.steps.size() : 0) + (has(s.gates) ? s.gates.size() : 0) "
    "+ (has(s.rollback) && has(s.rollback.steps) ? s.rollback.steps.size() : 0)).sum() "
    f"<= {MOST_PARTS}",
    f"more than {MOST_PARTS} steps, gates and compensations; split the Release",
    path=".stages",
)


class ReleaseSpec(Model):
    """The wanted version, and the stages that lead there."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _DEPLOYS_KNOWN_TARGETS,
        _HAS_FEW_PARTS,
    )

    version: Version
    """The version that should be live. Changing it starts a run."""
    requestedBy: Annotated[str, Field(min_length=1, max_length=320)] | None = None
    """Who asks for this version: the author's own user name, which admission compares; for
    approvals with `notBy`."""
    vars: Annotated[dict[VarName, Text], Field(max_length=64)] = {}
    """Values usable as `$(vars.NAME)`."""
    changedPaths: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=300)]],
            Field(max_length=1000),
        ]
        | None
    ) = None
    """What CI says has changed since the last version, as paths of the repository; for `when` of
    stages. Left out: nobody knows. Empty: nothing has."""
    suspend: bool = False
    """Pauses the walk; guards keep watching."""
    supersede: Literal["Queue", "Replace", "Reject"] = "Queue"
    """A new version while a run is under way: wait for its end, undo it first and then start, or
    ignore it."""
    mode: Literal["Enforce", "Observe"] = "Enforce"
    """Observe: evaluate everything, act on nothing."""
    adopt: Literal["First", "Always", "Never"] = "First"
    """When a version that every target already has becomes last good without a run. First: only
    while the Release has no history. Always: whenever it is so. Never: every version walks its
    stages."""
    windows: Annotated[list[Window], Field(max_length=10)] = []
    """When a run may start; empty: at any time. A run under way goes on, and a rollback waits for
    no window."""
    targets: Annotated[list[Target], Field(max_length=10)] = []
    """What "the deployment" is; every target is in the last-good snapshot."""
    preflight: Annotated[list[Check], Field(max_length=20)] = []
    """All pass before anything is touched."""
    guards: Annotated[list[Guard], Field(max_length=20)] = []
    """Watched from the first change until `guardFor` after completion."""
    guardFor: Duration = "0s"
    """How long guards go on after the last stage, before the version counts as last good."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=20)]
    """In order."""
    rollback: ReleaseRollback = Field(default_factory=ReleaseRollback)
    """How a rollback is judged."""
    procedures: Annotated[list[Procedure], Field(max_length=10)] = []
    """What people may do at any time, one at a time."""
    followUps: Annotated[list[FollowUp], Field(max_length=20)] = []
    """What is left to do when a run has ended; it holds up nothing and rolls nothing back."""
    notify: Annotated[list[Notify], Field(max_length=10)] = []
    """Who is told what; an edit counts at once, also within a run."""
