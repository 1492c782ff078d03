"""Steps of a stage: each is exactly one of the step kinds, or a provider's action."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, StringConstraints

from gatewright.api.base import Duration, Key, Keyed, Model, Name, ObjectName, Text
from gatewright.api.conditions import Written
from gatewright.api.jobs import Job
from gatewright.api.people import Approval, Confirm
from gatewright.api.rules import Excludes, OneProvider, Rule, Together


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
