"""The step kinds: one file a kind, and `STEPS`, the only list of them.

To add one, follow docs/development/steps.md: a field in `api.steps.Step` with its name in
`StepKindName`, a file here, a line in `STEPS`; where it has a kind of subject of its own, also that
one's answers in `core.subject` and a handler in `runtime.execution`. mypy and
`tests/unit/test_steps.py` name what is missing there; the page says who names the rest.

Read `kind.py` first: it has every question that is asked of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.release import Stage
from gatewright.api.steps import Step, StepKindName
from gatewright.core.steps.action import Act
from gatewright.core.steps.deploy import Deploy
from gatewright.core.steps.flags import SetFlags
from gatewright.core.steps.job import RunJob
from gatewright.core.steps.kind import StepKind, StepPoint
from gatewright.core.steps.people import AskApproval, AskConfirmation
from gatewright.core.steps.wait import Wait

__all__ = ["ACTION", "STEPS", "StepKind", "StepPoint", "changed_by", "kind_of"]

STEPS: Mapping[StepKindName, StepKind] = {
    "deploy": Deploy(),
    "job": RunJob(),
    "flags": SetFlags(),
    "wait": Wait(),
    "confirm": AskConfirmation(),
    "approval": AskApproval(),
}
ACTION: StepKind = Act()
"""What a step is that names a provider instead of a kind."""


def changed_by(stage: Stage, step: Step) -> list[str]:
    """Return the subjects that a step changes and a rollback returns to their snapshot."""
    return kind_of(step).changes(stage, step)


def kind_of(step: Step) -> StepKind:
    """Return the kind of a step. Raises KeyError for one that stands in the API and not in
    STEPS."""
    name = step.kind_name
    return ACTION if name is None else STEPS[name]
