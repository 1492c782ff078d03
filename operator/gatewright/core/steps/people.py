"""`confirm` and `approval`: wait until people have answered."""

from __future__ import annotations

from gatewright.api.people import Approval, Confirm
from gatewright.api.steps import Step
from gatewright.core.model.operation import Operation
from gatewright.core.spec.expand import expand_references
from gatewright.core.steps.kind import StepPoint, SubjectlessKind


class _Question(SubjectlessKind):
    """People take the time that they need, so nothing fails by time."""

    acts = False
    compensates = False

    def clock(self, step: Step) -> float | None:
        return None

    def operations(self, point: StepPoint) -> list[Operation]:
        asked = question_of(point.step).model_dump(mode="json")
        subject = f"{point.step.kind}/{point.step.name}"
        return [
            Operation(point.key, "ask", subject, expand_references(asked, point.names), point.since)
        ]


class AskConfirmation(_Question):
    """A person does something by hand, and says so."""

    answered_by = "Confirm"


class AskApproval(_Question):
    """People say that the run may go on."""

    answered_by = "Approve"


def question_of(step: Step) -> Approval | Confirm:
    """Return what a step asks people."""
    question = step.approval or step.confirm
    assert question is not None
    return question
