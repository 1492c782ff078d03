"""People who are asked: an approval, and a step that is done by hand."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gatewright.api.base import Duration, LongText, Model


class Approval(Model):
    """People who must say go; answered by Interventions."""

    groups: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] = []
    """Groups whose members may approve; empty: whoever RBAC lets approve."""
    count: Annotated[int, Field(ge=1, le=10)] = 1
    """How many different people must approve."""
    expires: Duration | None = None
    """How long an approval counts, at least 1m; it is asked again when by then the run has not left
    preflight, or the next step of the stage has not begun."""
    notBy: Literal["Requester"] | None = None
    """Requester: whoever `spec.requestedBy` names may not approve."""


class Confirm(Model):
    """A manual step that a person does and then confirms by an Intervention."""

    instructions: LongText
    """What the person has to do."""
