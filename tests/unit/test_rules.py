"""The rules between fields: what the operator refuses and what the API server refuses by CEL is the
same, for bodies that keep a rule and bodies that break it."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gatewright.api import base, checks, connection, intervention, jobs, release, steps
from gatewright.api.conditions import Place
from gatewright.api.release import MOST_PARTS
from gatewright.api.rules import AtApply, OneProvider, Rule
from gatewright.codegen import crds, rules, schema
from gatewright.providers import registry
from gatewright.providers.units import LIMIT_MESSAGE, UNIT_MESSAGE
from gatewright.runtime.parse import spec_of
from tests.harness.cel import CelError, compile_cel, evaluate
from tests.harness.rule_bodies import EXAMPLES, MOST_GIVEN, Body, RuledPlace, ruled_places

PLACES = {
    where.path if where.kind is crds.RELEASE else f"{where.kind.name} {where.path}": where
    for where in ruled_places()
}


def _read_freely(model: type[BaseModel], body: Body) -> BaseModel:
    """The model, whatever its own rules say."""
    free: type[BaseModel] = type(f"Free{model.__name__}", (model,), {"rules": ()})
    return free.model_validate(copy.deepcopy(body))


def _distinct() -> dict[str, RuledPlace]:
    """A place for each model that reads differently."""
    found: dict[Any, tuple[str, RuledPlace]] = {}
    for name, where in PLACES.items():
        key = (where.model, where.place.providers, frozenset(where.place.left_out))
        found.setdefault(key, (name, where))
    return dict(found.values())


DISTINCT = _distinct()


@st.composite
def bodies(draw: st.DrawFn, where: RuledPlace) -> Body:
    """A body with some of the optional fields."""
    options = where.options
    if not options:
        return dict(where.must)
    names = draw(st.lists(st.sampled_from(sorted(options)), unique=True, max_size=MOST_GIVEN))
    return where.must | {name: draw(st.sampled_from(options[name])) for name in names}


def _action(body: Body) -> Body:
    return {"action": "Approve", **body} if "by" in body else body


@pytest.mark.parametrize("where", DISTINCT.values(), ids=DISTINCT)
def test_pydantic_and_cel_judge_alike(where: RuledPlace) -> None:
    verdicts: dict[str, set[bool]] = {}
    compiled = [(rule, compile_cel(rule.cel(where.place))) for rule in where.rules]
    declared = where.model.rules  # type: ignore[attr-defined]

    # More are drawn where more may stand beside each other.
    examples = 300 if len(declared) < 8 else 1_200

    @settings(deadline=None, max_examples=examples, derandomize=True, database=None)
    @given(bodies(where))
    def judge(body: Body) -> None:
        body = _action(body)
        read = _read_freely(where.model, body)
        for rule, (at_place, cel) in zip(declared, compiled, strict=True):
            if isinstance(rule, AtApply):
                continue
            kept = rule.holds(read)
            assert cel({"self": where.with_defaults(body)}) is kept, (at_place.message, body)
            verdicts.setdefault(rule.message, set()).add(kept)

        broken = [rule for rule in declared if rule.in_model and not rule.holds(read)]
        assert _refusal(where.model, body) == (broken[0].explain(read) if broken else "")

    judge()
    assert {message: {True, False} for message in verdicts} == verdicts, "each is kept and broken"


def _refusal(model: type[BaseModel], body: Body) -> str:
    """What the model says of a body; nothing where it takes it."""
    try:
        model.model_validate(copy.deepcopy(body))
    except ValidationError as error:
        (details,) = error.errors()
        return str(details["ctx"]["error"])
    return ""


def test_every_model_with_rules_has_examples() -> None:
    assert {where.model.__name__ for where in PLACES.values()} == set(EXAMPLES)


@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)
def test_the_crd_has_every_rule_of_a_model_with_its_message(where: RuledPlace) -> None:
    written = [(rule["rule"], rule["message"]) for rule in where.node["x-kubernetes-validations"]]
    for rule in where.rules:
        there = (rule.cel(where.place), rule.message) in written
        assert there is rule.at_apply, rule.message


@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)
def test_a_rule_names_only_fields_that_stand_there(where: RuledPlace) -> None:
    """The API server compiles a rule against the schema: a field that is not there is an error."""
    fields = {**dict.fromkeys(where.node["properties"], "x")}
    for rule in where.node["x-kubernetes-validations"]:
        for name in _names_after_self(rule["rule"]):
            assert name in fields, rule["rule"]


def _names_after_self(cel: str) -> list[str]:
    return re.findall(r"\bself\.(\w+)", cel)


def test_the_rules_that_only_the_operator_judges_are_known() -> None:
    """A mistake that `kubectl apply` does not tell; each of them could be told by CEL."""
    silent = {
        (where.model.__name__, rule.message.partition(":")[0])
        for where in PLACES.values()
        for rule in where.rules
        if not rule.at_apply
    }
    assert silent == {
        ("GithubCheck", "accept belongs to checks"),
        ("VercelCheck", "target belongs to env"),
        ("Captured", "restore belongs to secret"),
    }


def _own_validators() -> set[str]:
    models: set[type[BaseModel]] = {
        value
        for module in (base, connection, intervention, jobs, release)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel)
    }
    for kind in crds.KINDS:
        for _, node in schema.walk_schema(crds.schemas_of(kind)[0], "spec"):
            models |= {node[schema.CLASS_NOTE]} if schema.CLASS_NOTE in node else set()
    return {
        model.__name__
        for model in models
        if set(model.__pydantic_decorators__.model_validators) - {"_keep_rules"}
    }


def test_a_validator_across_fields_is_a_rule_unless_cel_cannot_say_it() -> None:
    assert _own_validators() == {"OfrepCheck"}, "declare it as a rule: docs/development/rules.md"


# --------------------------------------------------------------------------------------------------
# Rules that the operator judges beside the models


def _spec(**parts: Any) -> Body:
    stage = {"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}
    return {"version": "1.0", "stages": [stage], **parts}


def _keeps(rule: Rule, model: type[BaseModel], spec: Body) -> bool:
    return bool(evaluate(rule.cel(Place(model)), self=spec))


def _release_rule(words: str) -> Rule:
    return next(rule for rule in release.ReleaseSpec.rules if words in rule.message)


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(
    st.lists(st.sampled_from(["web", "db"]), unique=True),
    st.lists(st.sampled_from(["web", "db"]), unique=True, min_size=1),
)
def test_a_deploy_names_targets_that_there_are(known: list[str], named: list[str]) -> None:
    workload = {"name": "web", "images": {"app": "a"}}
    targets = [{"name": name, "workload": {**workload, "name": name}} for name in known]
    stages = [{"name": "ship", "steps": [{"name": "go", "deploy": {"targets": named}}]}]
    spec = _spec(stages=stages) | ({"targets": targets} if targets else {})

    problems = spec_of(spec)[1]
    kept = not any("is not in spec.targets" in problem for problem in problems)
    rule = _release_rule("is not in spec.targets")
    assert _keeps(rule, release.ReleaseSpec, spec) is kept is (set(named) <= set(known))


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("part", ["steps", "gates", "rollback"])
def test_a_release_has_so_many_parts_and_no_more(part: str, more: int) -> None:
    steps = [{"name": f"s{number}", "wait": "1s"} for number in range(20)]
    stages: list[Body] = [{"name": f"stage-{number}", "steps": steps} for number in range(20)]
    undo = [{"name": f"u{number}", "job": {"image": "a"}} for number in range(5)]
    gates = [{"name": f"g{number}", "http": {"path": "/"}} for number in range(6)]
    for stage in stages:
        stage["rollback"] = {"steps": undo}
    if part == "steps":
        stages[0]["rollback"] = {"steps": [*undo, {"name": "more", "job": {"image": "a"}}]}
        stages[1]["steps"] = steps if more else steps[:19]
    if more and part == "gates":
        stages[0]["gates"] = gates[:1]
    if more and part == "rollback":
        stages[0]["rollback"] = {"steps": [*undo, {"name": "more", "job": {"image": "a"}}]}

    spec = _spec(stages=stages)
    kept = not any("steps, gates and compensations" in one for one in spec_of(spec)[1])
    rule = _release_rule(f"more than {MOST_PARTS}")
    assert _keeps(rule, release.ReleaseSpec, spec) is kept is (not more)


@pytest.mark.parametrize("changed", [False, True])
def test_an_intervention_stays_as_it_is(changed: bool) -> None:
    rule = next(rule for rule in intervention.InterventionSpec.rules if isinstance(rule, AtApply))
    after = {"release": "shop", "action": "Pause" if changed else "Abort"}
    cel = rule.cel(Place(intervention.InterventionSpec))
    before = {"release": "shop", "action": "Abort"}
    assert evaluate(cel, self=after, oldSelf=before) is not changed


CHECKS = [path for path, where in PLACES.items() if issubclass(where.model, checks.Check)]


def _gate_bodies() -> list[tuple[str, Body]]:
    """(key, configuration) of every gate, as far as it passes its own rules."""
    found: list[tuple[str, Body]] = []
    for path, where in PLACES.items():
        head, _, key = path.rpartition(".")
        if head != "spec.stages[].gates[]" or key not in registry.GATES:
            continue
        for body in where.bodies():
            if not _refusal(where.model, body):
                found.append((key, body))
    others: Mapping[str, Body] = {
        "prometheus": {"query": "up"},
        "openai": {"models": ["gpt"]},
        "unleash": {"flag": "voice", "environment": "production"},
    }
    return found + list(others.items())


@pytest.mark.parametrize("limits", [{}, {"max": "1"}, {"min": "1s"}, {"max": "5%", "min": "1ms"}])
def test_a_number_has_a_limit_and_the_limit_of_a_latency_a_unit(limits: Body) -> None:
    where = PLACES["spec.stages[].gates[]"]
    written = {
        rule["message"]: compile_cel(rule["rule"])
        for rule in where.node["x-kubernetes-validations"]
    }
    seen: set[tuple[bool, bool]] = set()

    for key, config in _gate_bodies():
        gate = {"name": "one", key: config, **limits}
        problems = spec_of(_spec(stages=[{"name": "ship", "gates": [gate]}]))[1]
        unlimited = any(LIMIT_MESSAGE in problem for problem in problems)
        model: Any = PLACES.get(f"spec.stages[].gates[].{key}")
        full = {**gate, key: model.with_defaults(config) if model else config}
        assert written[LIMIT_MESSAGE]({"self": full}) is not unlimited, gate

        if config.get("measure") == "Latency":
            wrong = any(UNIT_MESSAGE in problem or "is a ratio" in problem for problem in problems)
            unit = written[f"the limit of a latency {UNIT_MESSAGE}"]({"self": full})
            assert unit is not wrong, gate
            seen.add((unlimited, wrong))

    assert seen


def test_a_place_of_checks_has_the_rules_of_limits() -> None:
    assert len([path for path in CHECKS if not path.startswith("Runbook ")]) == 5
    assert "Runbook spec.checks[]" in CHECKS
    for path in CHECKS:
        messages = [rule["message"] for rule in PLACES[path].node["x-kubernetes-validations"]]
        assert LIMIT_MESSAGE in messages, path


# --------------------------------------------------------------------------------------------------
# One message


def test_no_message_is_declared_twice() -> None:
    """Two models may have a rule of the same words only where it is the same rule."""
    rules_by_message: dict[str, set[int]] = {}
    for where in PLACES.values():
        for rule in where.model.rules:  # type: ignore[attr-defined]
            if not isinstance(rule, OneProvider) and not rule.message.startswith("needs exactly"):
                rules_by_message.setdefault(rule.message, set()).add(id(rule))
    assert [message for message, rules in rules_by_message.items() if len(rules) > 1] == []


# --------------------------------------------------------------------------------------------------
# The evaluator


@pytest.mark.parametrize(
    ("cel", "value"),
    [
        ("has(self.a) || has(self.b) && self.b.size() > 0", True),
        ("(has(self.a) || has(self.b)) && self.b.size() > 1", False),
        ("[has(self.a), has(self.b), has(self.c)].exists_one(x, x)", True),
        ("self.word in ['x', 'y'] ? 1 : 2", 1),
        ("!(self.word in self.map) && 'a$(b'.contains('$(')", True),
        ("self.b.all(one, one.matches(r'^\\d$')) && self.b.exists(one, one == '2')", False),
        ("self.missing == 1 || true", True),
        ("[1, 2].map(one, one + 1).sum() <= 5", True),
    ],
)
def test_what_the_rules_use_of_cel_is_evaluated(cel: str, value: Any) -> None:
    assert evaluate(cel, self={"b": ["1"], "word": "x", "map": {}}) == value


@pytest.mark.parametrize("cel", ["self.missing == 1", "has(self.no.more)", "1 @ 2", "self.b 1"])
def test_what_cel_would_call_an_error_is_one(cel: str) -> None:
    with pytest.raises(CelError):
        evaluate(cel, self={"b": []})


def test_a_rule_that_means_nothing_at_a_place_is_not_written_there() -> None:
    names = rules.meaningless_fields("spec.stages[].rollback.steps[]")
    assert "wait" in names
    place = Place(steps.Step, ("redis",), names)
    kinds, timeout = (rule.at(place).cel(place) for rule in steps.Step.rules)
    assert kinds == "[has(self.job), has(self.flags), has(self.redis)].exists_one(x, x)"
    assert timeout == "!has(self.timeout) || !(has(self.job) || has(self.flags))"


def test_whatever_takes_providers_wants_exactly_one() -> None:
    """A model with rules of its own must not lose the one that it inherits."""
    found = [base.Keyed]
    for model in found:
        found += model.__subclasses__()
    ours = [model for model in found if model.__module__.startswith("gatewright.api")]
    assert len(ours) > 6
    lost = [model.__name__ for model in ours if not any(map(_wants_one_provider, model.rules))]
    assert lost == []


def _wants_one_provider(rule: Rule) -> bool:
    return isinstance(rule, OneProvider)
