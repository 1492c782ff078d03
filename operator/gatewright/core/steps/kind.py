"""What a step kind answers: every question that the core asks of a step, so that none can be
forgotten.

A kind is one file beside this one and one line in `STEPS`. It knows the step as it is written, and
what a run knows when the step begins; it keeps no state and decides nothing about the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.release import Stage
from gatewright.api.steps import Step
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.permissions import AuthorPermission


@dataclass(frozen=True, slots=True)
class StepPoint:
    """A step at the moment when an attempt of it begins."""

    view: View
    body: PinnedSpec
    stage: Stage
    step: Step
    key: str
    """The key of the attempt: everything that is made or changed carries it."""
    since: str | None
    """When the attempt began, RFC 3339; None where it has not begun yet."""
    names: Mapping[str, str]
    """What `$(...)` stands for here."""


class StepKind(ABC):
    """One kind of step."""

    acts: ClassVar[bool]
    """Whether it does something to the world. Only then it may be what brings a version."""
    compensates: ClassVar[bool]
    """Whether a rollback may run it, under `spec.stages[].rollback.steps`."""
    stoppable: ClassVar[bool] = False
    """Whether it goes on by itself once it was started, so that whoever skips it has to wait for it
    to stop."""
    skippable: ClassVar[bool] = True
    """Whether a person may pass it over while it runs: what it goes on doing is stopped, or
    returned by a rollback."""
    publishes: ClassVar[bool] = False
    """Whether it has outputs, which a `proof` may be asked of."""
    deploys: ClassVar[bool] = False
    """Whether it brings targets to a version."""
    ends_with_clock: ClassVar[bool] = False
    """Whether it has succeeded, not failed, when its time is over."""
    answered_by: ClassVar[Literal["Approve", "Confirm"] | None] = None
    """The Intervention that ends it, where it waits for people."""
    permissions: ClassVar[Sequence[tuple[type[BaseModel], AuthorPermission]]] = ()
    """What the author of a Release must be allowed, by the model that stands for it in the spec."""

    @abstractmethod
    def clock(self, step: Step) -> float | None:
        """Return the seconds after which it has ended, one way or the other; None while it waits
        for people."""

    @abstractmethod
    def changes(self, stage: Stage, step: Step) -> list[str]:
        """Return the subjects that it changes and a rollback returns to their snapshot; from the
        spec alone."""

    @abstractmethod
    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        """Return what it changes and is no target, each with the configuration that finds it."""

    @abstractmethod
    def early_config(self, step: Step) -> dict[str, Any]:
        """Return what is needed before the step begins, to record what it is to change; by the
        field of the step that it stands in. Outputs of steps are not known then."""

    @abstractmethod
    def hold_for(self, step: Step) -> float | None:
        """Return the seconds for which others may have changed what it has set; None where the
        target says that, or nothing is set."""

    @abstractmethod
    def targets(self, step: Step) -> list[str]:
        """Return the names in `spec.targets` that it needs."""

    @abstractmethod
    def operations(self, point: StepPoint) -> list[Operation]:
        """Return what it does. Raises UnknownReference."""


class SubjectlessKind(StepKind):
    """One that changes nothing which has a snapshot to return to. What it does, a rollback leaves
    to the stage's compensations."""

    def changes(self, stage: Stage, step: Step) -> list[str]:
        return []

    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        return {}

    def early_config(self, step: Step) -> dict[str, Any]:
        return {}

    def hold_for(self, step: Step) -> float | None:
        return None

    def targets(self, step: Step) -> list[str]:
        return []
