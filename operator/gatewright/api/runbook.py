"""Runbook: what a run does, written once for all Releases that name it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, RootModel

from gatewright.api.base import Model, Name, Text
from gatewright.api.checks import Check
from gatewright.api.release import DEPLOYS_KNOWN_TARGETS, HAS_FEW_PARTS, About, ReleaseBody, VarName
from gatewright.api.rules import Rule


class Variable(Model):
    """One value that a Release gives, or may give, by `spec.vars`."""

    name: VarName
    """What `$(vars.NAME)` names."""
    type: Literal["String", "Word", "Integer", "Boolean", "Duration", "Quantity"] = "String"
    """What its value has to be. String: any text. Word: letters, digits and `. _ / : @ + -`, so
    that it is safe in a command. Integer: a whole number. Boolean: `true` or `false`. Duration: as
    `15m`. Quantity: as `1%`, `100ms` or `80`."""
    default: Text | None = None
    """Its value where a Release gives none. Without a default every Release has to give one."""
    values: Annotated[list[Text], Field(max_length=32)] = []
    """The only values that it may have."""
    description: Text = ""
    """What it is for."""


class CheckUse(RootModel[Name]):
    """The name of a check in `spec.checks` that this one is; what stands beside it goes before."""


class RunbookVariables(Model):
    """What a Runbook has beside the body of a Release."""

    vars: Annotated[list[Variable], Field(max_length=64)] = []
    """The variables that the body names as `$(vars.NAME)`."""
    checks: Annotated[list[Check], Field(max_length=20)] = []
    """Checks that are written once: a check, gate, guard, verification or follow-up with `use` and
    the name of one of them is that."""


class RunbookSpec(ReleaseBody, RunbookVariables, About):
    """What a run does, for every Release that names this Runbook."""

    rules: ClassVar[tuple[Rule, ...]] = (DEPLOYS_KNOWN_TARGETS, HAS_FEW_PARTS)
