"""Release: the wanted version, and the stages that lead there."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from gatewright.api.base import (
    URL_PATTERN,
    Duration,
    Keyed,
    LongText,
    Model,
    Name,
    ObjectName,
    Text,
    Version,
)
from gatewright.api.checks import Check, FollowUp, Guard
from gatewright.api.notify import Notify
from gatewright.api.people import Approval
from gatewright.api.rules import AnyOf, AtApply, ExactlyOne, Rule, Together
from gatewright.api.steps import Step

VarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=40)]


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


class Window(Model):
    """Hours in which a run may start, again and again."""

    rrule: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """When it opens: a rule of RFC 5545 with FREQ=DAILY, WEEKLY, MONTHLY or YEARLY, and BYDAY,
    BYMONTHDAY, BYMONTH, BYHOUR, BYMINUTE, BYSETPOS, as `FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9`."""
    timeZone: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Whose local time that is, as `America/Mexico_City`."""
    duration: Duration
    """How long it is open; from 1m to 7d."""


MOST_PARTS = 500
"""Steps, gates and compensations of all stages together."""

# `core.spec.problems` names the step and the target.
DEPLOYS_KNOWN_TARGETS = AtApply(
    "!has(self.stages) || self.stages.all(s, "
    "!has(s.steps) || s.steps.all(step, !has(step.deploy) || "
    "step.deploy.targets.all(name, has(self.targets) && self.targets.exists(t, t.name == name))))",
    "a deploy step names a target that is not in spec.targets",
    path=".stages",
)
# `core.report.size` counts them.
HAS_FEW_PARTS = AtApply(
    "!has(self.stages) || self.stages.map(s, (has(s.steps) ? s.steps.size() : 0) "
    "+ (has(s.gates) ? s.gates.size() : 0) "
    "+ (has(s.rollback) && has(s.rollback.steps) ? s.rollback.steps.size() : 0)).sum() "
    f"<= {MOST_PARTS}",
    f"more than {MOST_PARTS} steps, gates and compensations; split the Release",
    path=".stages",
)


class Link(Model):
    """Where to read on."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """What is found there, as `dashboard`."""
    url: Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=1024)]
    """Its address."""


class About(Model):
    """Whose it is and what it is for; shown to people, and read by nothing else."""

    owner: Annotated[str, Field(max_length=253)] = ""
    """Whom to ask about it."""
    description: Text = ""
    """What it is for, in a sentence or two."""
    links: Annotated[list[Link], Field(max_length=10)] = []
    """Where to read on."""


class RunbookRef(Model):
    """The Runbook that says what a run does."""

    name: ObjectName
    """Name of a Runbook in the namespace of the Release."""


class ReleaseRequest(Model):
    """What is asked for: a version, and how the request is to be taken."""

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
    runbookRef: RunbookRef | None = None
    """The Runbook that says what a run does, in place of `stages` and everything beside them.
    `vars` then has values for its variables."""
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


class ReleaseBody(Model):
    """What a run does; it stands in a Release, or in the Runbook that the Release names."""

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
    """What a run does, in order."""
    rollback: ReleaseRollback = Field(default_factory=ReleaseRollback)
    """How a rollback is judged."""
    procedures: Annotated[list[Procedure], Field(max_length=10)] = []
    """What people may do at any time, one at a time."""
    followUps: Annotated[list[FollowUp], Field(max_length=20)] = []
    """What is left to do when a run has ended; it holds up nothing and rolls nothing back."""
    notify: Annotated[list[Notify], Field(max_length=10)] = []
    """Who is told what; an edit counts at once, also within a run."""


BODY_FIELDS: tuple[str, ...] = tuple(ReleaseBody.model_fields)
"""What stands in a Runbook, where a Release names one."""

_HAS_STAGES_OR_RUNBOOK = AtApply(
    "has(self.stages) || has(self.runbookRef)",
    "needs stages, or the Runbook that has them: give one of stages, runbookRef",
    path=".stages",
)
# `core.spec.runbooks` names the fields.
_HAS_ONE_BODY = AtApply(
    "!has(self.runbookRef) || !("
    + " || ".join(f"has(self.{field})" for field in BODY_FIELDS)
    + ")",
    "what a run does stands in the Runbook: leave out runbookRef, or all of "
    + ", ".join(BODY_FIELDS),
)


class ReleaseSpec(ReleaseBody, About, ReleaseRequest):
    """The wanted version, and the stages that lead there.

    One that names a Runbook has its fields, too, as soon as it was read (`core.spec.runbooks`).
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        DEPLOYS_KNOWN_TARGETS,
        HAS_FEW_PARTS,
        _HAS_STAGES_OR_RUNBOOK,
        _HAS_ONE_BODY,
    )
