"""A step kind that is forgotten at one place is an error here, or one of types; never a step that
passes having done nothing."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

from gatewright.api.release import STEP_KINDS, Stage, Step, StepKindName
from gatewright.codegen import authors, rules
from gatewright.core import steps
from gatewright.core.steps import ACTION, STEPS, StepKind, kind_of
from gatewright.core.subject import SubjectKind, kind_of_subject
from gatewright.runtime.execution import handlers

COMMON_FIELDS = {"name", "timeout", "produces", "proof", "requires"}
"""Fields of a step that say nothing of what it does."""
EXAMPLES: dict[StepKindName, dict[str, Any]] = {
    "deploy": {"targets": ["web"]},
    "job": {"image": "shop/tools:1"},
    "flags": {"configMap": "flags", "set": {"VOICE": "on"}},
    "wait": "1m",  # type: ignore[dict-item]  # its whole configuration is a duration
    "confirm": {"instructions": "Look at it."},
    "approval": {"groups": ["leads"]},
}


def example(kind: StepKindName) -> Step:
    return Step.model_validate({"name": "it", kind: EXAMPLES[kind]})


def test_each_field_of_a_step_has_its_kind() -> None:
    assert set(STEP_KINDS) == set(Step.model_fields) - COMMON_FIELDS == set(STEPS) == set(EXAMPLES)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_a_step_is_of_the_kind_that_it_names(kind: StepKindName) -> None:
    assert kind_of(example(kind)) is STEPS[kind]


def test_a_provider_is_an_action() -> None:
    step = Step.model_validate({"name": "it", "sentry": {"release": "1"}})
    assert (step.kind_name, kind_of(step)) == (None, ACTION)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_what_it_changes_can_be_found_again(kind: StepKindName) -> None:
    """A rollback returns what stands in `changes`, and finds it by `subjects`, or as a target."""
    step = example(kind)
    stage = Stage(name="ship", steps=[step])
    known = {
        *STEPS[kind].subjects(stage, step, {}),
        *(f"target/{n}" for n in STEPS[kind].targets(step)),
    }
    assert set(STEPS[kind].changes(stage, step)) <= known
    assert all(kind_of_subject(subject) for subject in known)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_one_that_waits_for_people_has_no_clock_and_the_others_have(kind: StepKindName) -> None:
    waits = STEPS[kind].answered_by is not None
    assert (STEPS[kind].clock(example(kind)) is None) == waits


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_one_that_acts_asks_its_author_or_says_who_does(kind: StepKindName) -> None:
    """Deploys ask by their targets' providers; what has no permission at all may do nothing."""
    asked = bool(STEPS[kind].permissions) or STEPS[kind].deploys
    assert asked == STEPS[kind].acts


def test_every_permission_is_in_the_policy() -> None:
    wanted = [(model.__name__, one) for kind in STEPS.values() for model, one in kind.permissions]
    assert set(wanted) <= set(authors.author_rights())


def test_only_what_compensates_stands_in_the_schema_of_compensations() -> None:
    assert set(rules.COMPENSATION_KINDS) == {
        name for name, kind in STEPS.items() if kind.compensates
    }


def test_the_other_kinds_of_the_package_are_in_the_list() -> None:
    """A file beside the others, and not in STEPS: it would never run."""
    classes = {
        kind
        for module in vars(steps).values()
        if inspect.ismodule(module) and module.__name__.startswith(steps.__name__)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, StepKind) and not inspect.isabstract(kind)
        if not kind.__name__.startswith("_")
    }
    assert classes == {type(kind) for kind in (*STEPS.values(), ACTION)}


@pytest.mark.parametrize("kind", get_args(SubjectKind))
def test_each_kind_of_subject_has_its_handler(kind: SubjectKind) -> None:
    assert handlers.handler_of(f"{kind}/name") is not None


def test_a_subject_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind of subject 'route/web'"):
        kind_of_subject("route/web")
