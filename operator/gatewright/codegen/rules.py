"""What the API server can refuse beyond types, as CEL.

The rules of the models (`gatewright.api.rules`) are written here for each place of a model; what is
added is what only the registry of providers knows: which keys may stand at a place, and which
checks measure a number. The operator checks all of it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from gatewright.api.checks import Check
from gatewright.api.conditions import Condition, Place
from gatewright.api.jobs import Job
from gatewright.api.people import Approval
from gatewright.api.rules import Rule
from gatewright.api.steps import STEP_KINDS
from gatewright.core.steps import STEPS
from gatewright.providers.registry import GATES
from gatewright.providers.units import LIMIT_MESSAGE, UNIT_MESSAGE

CelRule = dict[str, Any]

CHECK_JOB = {"job": Job}
CHECK_APPROVAL = {"approval": Approval}

COMPENSATION_KINDS = tuple(sorted(name for name, kind in STEPS.items() if kind.compensates))
_COMPENSATION_PLACES = ("spec.stages[].rollback.steps[]", "spec.procedures[].undo[]")
_PROCEDURE_PLACE = "spec.procedures[].steps[]"
_SET_PLACES = (
    "spec.stages[].steps[].deploy.targets",
    "spec.stages[].steps[].requires",
    *(f"{place}.requires" for place in _COMPENSATION_PLACES),
    _PROCEDURE_PLACE + ".requires",
)
ROOT_RULES: Mapping[str, list[CelRule]] = {
    "Release": [
        {
            "rule": "self.metadata.name.size() <= 63",
            "message": (
                "metadata.name is at most 63 characters long, because everything that "
                "belongs to it carries it as a label"
            ),
        },
    ],
    "Connection": [],
    "Intervention": [],
    "Freeze": [],
    "Runbook": [],
}


def model_rules(
    model: type[BaseModel], path: str, providers: Mapping[str, type[BaseModel]]
) -> Iterator[CelRule]:
    """Yield the rules of a model at a place, where these providers may stand in it."""
    place = Place(model, tuple(providers), meaningless_fields(path))
    declared: tuple[Rule, ...] = getattr(model, "rules", ())
    for rule in declared:
        if rule.at_apply:
            yield _write_rule(rule.at(place), place)

    if issubclass(model, Check):
        yield from _limit_rules(providers)


def meaningless_fields(path: str) -> set[str]:
    """Return the fields that a model has, but not at this place.

    Only jobs, flags and actions can compensate, and a procedure brings no version.
    """
    if path in _COMPENSATION_PLACES:
        return {*STEP_KINDS, "proof"} - set(COMPENSATION_KINDS)
    if path == _PROCEDURE_PLACE:
        return {"deploy"}
    return set()


def is_set(path: str) -> bool:
    """Return whether a list of words may name each word only once."""
    return path in _SET_PLACES


def _write_rule(rule: Rule, place: Place) -> CelRule:
    written = {"rule": rule.cel(place), "message": rule.message}
    return written | {"fieldPath": rule.path} if rule.path else written


def _limit_rules(providers: Mapping[str, type[BaseModel]]) -> Iterator[CelRule]:
    """Yield that a number has a limit, and the limit of a latency a unit.

    `providers.validate` judges both, and more, when it knows what a gate measures.
    """
    if "http" in providers:
        limits = ("max", "min")
        united = " && ".join(f"(!has(self.{x}) || self.{x}.matches('[smhd)]$'))" for x in limits)
        yield {
            "rule": f"!has(self.http) || self.http.measure != 'Latency' || {united}",
            "message": f"the limit of a latency {UNIT_MESSAGE}",
        }

    numbers = " || ".join(_cel_measured_numbers(providers))
    if numbers:
        rule = f"has(self.max) || has(self.min) || !({numbers})"
        yield {"rule": rule, "message": LIMIT_MESSAGE}


def _cel_measured_numbers(providers: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    """Yield CEL for each provider that measures a number: that the check is one of those."""
    for key in sorted(GATES.keys() & providers.keys()):
        model = providers[key]
        condition: Condition | None = getattr(model, "needs_limit", None)
        if condition is not None:
            yield f"has(self.{key}) && {condition.cel(Place(model), f'self.{key}')}"
        elif GATES[key].limits == "required":
            yield f"has(self.{key})"
