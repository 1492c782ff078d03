"""A step kind that is forgotten at one place is an error here, or one of types; never a step that
passes having done nothing."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from gatewright.api.base import docstrings
from gatewright.api.release import Stage, StageRollback
from gatewright.api.rules import Excludes
from gatewright.api.run import Difference, JournalEntry, Undo
from gatewright.api.steps import STEP_KINDS, Step, StepKindName
from gatewright.codegen import authors, rules
from gatewright.core import steps
from gatewright.core.model.operation import Operation
from gatewright.core.run import context, rollback_plan
from gatewright.core.steps import ACTION, STEPS, StepKind, StepPoint, kind_of
from gatewright.core.steps.flags import SetFlags
from gatewright.core.steps.kind import SubjectlessKind
from gatewright.core.steps.wait import Wait
from gatewright.core.subject import SubjectKind, kind_of_subject, traits_of
from gatewright.plugin import wording
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import EXTERNALS_BY_KIND
from tests.harness import oracle
from tests.unit.sim import World, spec

ROOT = Path(__file__).parents[2]
NAMED_BY_HAND = (
    "docs/concepts.md",
    "docs/development/glossary.md",
    "docs/development/steps.md",
    "docs/procedures.md",
    "tests/unit/model/specs.py",
    "tests/contract/test_validate.py",
)
"""Where each step kind is named by hand: pages, and tests that draw or list steps."""
COMMON_FIELDS = {"name", "timeout", "produces", "proof", "requires"}
"""Fields of a step that say nothing of what it does."""
EXAMPLES: dict[StepKindName, dict[str, Any] | str] = {
    "deploy": {"targets": ["web"]},
    "job": {"image": "shop/tools:1"},
    "flags": {"configMap": "flags", "set": {"VOICE": "on"}},
    "wait": "1m",
    "confirm": {"instructions": "Look at it."},
    "approval": {"groups": ["leads"]},
}


WALKED: list[dict[str, Any]] = [
    *({str(kind): config} for kind, config in EXAMPLES.items()),
    {"flags": {"target": "web", "container": "app", "set": {"VOICE": "on"}}},
    {"flags": {"launchdarkly": {"key": "voice"}}},
    {"sentry": {"release": "1"}},
]
"""Every example, other ways to write one, and an action."""
SUBJECTLESS_SUBJECTS = {"job", "action", "confirm", "approval"}
"""Kinds of subjects that no snapshot is returned of."""


def example(kind: StepKindName) -> Step:
    return Step.model_validate({"name": "it", kind: EXAMPLES[kind]})


def stage_of(world: World) -> Stage:
    spec = world.view().spec
    assert spec is not None
    return spec.stages[0]


def check_walk(written: dict[str, Any]) -> None:
    """Walk a stage of one step in the simulated world, let its gate fail, and follow the way
    back."""
    stage = {
        "name": "ship",
        "steps": [{"name": "it", **written}],
        "gates": [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1%"}],
        "bake": "10s",
    }
    world = World(spec=spec(stages=[stage]))
    step = stage_of(world).steps[0]
    kind = kind_of(step)

    world.settle()
    if kind.answered_by is not None:
        world.act(kind.answered_by, groups=frozenset({"leads"}))
    elif kind.ends_with_clock:
        world.jump(kind.clock(step) or 0.0)
    run = world.status.run
    assert run is not None
    assert run.stages[0].steps[0].state == "Succeeded", "the walk does not get past the step"

    done = list(world.performed)
    # An action uses a Connection; whoever opens that says who may (`codegen.uses`).
    if kind is not ACTION:
        check_permissions(kind, done)
    _check_operations(kind, step, stage_of(world), done)
    _check_answers(kind, step, stage_of(world), done)
    journal = {entry.subject for entry in run.journal}
    unwritten = {one.subject for one in done if one.kind != "ask"} - journal
    assert not unwritten, f"{unwritten} are not in the journal"

    world.gates["errors"] = "Failed"
    world.later(2)
    _check_way_back(world, {one.subject for one in done if one.kind != "ask"})


def check_permissions(kind: StepKind, done: list[Operation]) -> None:
    """Whatever is done is asked of the author; of a target that is deployed its provider says
    what."""
    asked_elsewhere = {
        one.subject
        for one in done
        if one.kind == "ask" or (kind.deploys and kind_of_subject(one.subject) == "target")
    }
    unasked = {one.subject for one in done} - asked_elsewhere
    assert kind.permissions or not unasked, f"nobody is asked for the right to change {unasked}"


def _check_operations(kind: StepKind, step: Step, stage: Stage, done: list[Operation]) -> None:
    assert done or not kind.acts, "a step that acts performs nothing"
    subjects = {one.subject for one in done}
    if isinstance(kind, SubjectlessKind):
        others = {one for one in subjects if kind_of_subject(one) not in SUBJECTLESS_SUBJECTS}
        assert not others, f"no rollback returns {others} of a SubjectlessKind"
        return

    changes = set(kind.changes(stage, step))
    assert subjects == changes, f"works on {subjects} and says that it changes {changes}"
    left = {one for one in changes if not traits_of(one).restored}
    assert not left, f"no rollback returns {left}; derive from SubjectlessKind"


def _check_answers(kind: StepKind, step: Step, stage: Stage, done: list[Operation]) -> None:
    """What it says of itself and of its subjects is what it does."""
    for one in done:
        fitting = _fitting_kinds(one.subject)
        assert one.kind in fitting, f"{one.kind} {one.subject}: it takes {' or '.join(fitting)}"
        is_stopped = traits_of(one.subject).stopped
        assert is_stopped == (one.kind == "job"), f"{one.subject}: only a job is `stopped`"
        assert one.since is not None, "an operation has no `since`: give it that of the point"

    kinds = {one.kind for one in done}
    assert kind.deploys == ("apply" in kinds), "`deploys` says whether it performs `apply`"
    assert kind.stoppable == ("job" in kinds), "`stoppable` says whether it performs `job`"
    assert not (kind.ends_with_clock and done), "what it does has not succeeded by time alone"

    changes, targets = kind.changes(stage, step), {f"target/{one}" for one in kind.targets(step)}
    for subject in changes:
        traits = traits_of(subject)
        assert traits.changed_alone, f"{subject}: a step changes it by itself (`changed_alone`)"
        assert traits.versioned == (subject in targets), f"{subject}: a target is `versioned`"
    is_held = kind.hold_for(step) is not None
    assert is_held or set(changes) <= targets, "`hold_for` does not say how long others may"


def _fitting_kinds(subject: str) -> tuple[str, ...]:
    """What a step may do to a subject. `restore` and `stop` are the core's own."""
    kinds = {"target": ("apply", "set"), "job": ("job",), "action": ("act",)}
    questions = {"confirm": ("ask",), "approval": ("ask",)}
    return (kinds | questions).get(kind_of_subject(subject), ("set",))


def _check_way_back(world: World, changed: set[str]) -> None:
    """Every subject with a state has been restored, to something, by what finds it."""
    run = world.status.run
    assert run is not None and run.outcome == "RolledBack", "there is no way back"
    restores = {one.subject: one for one in world.performed if one.kind == "restore"}
    wanted = {one for one in changed if kind_of_subject(one) not in SUBJECTLESS_SUBJECTS}
    assert set(restores) == wanted, f"restored are {set(restores)} instead of {wanted}"

    snapshots = world.data[run.revision]["snapshots"]
    for subject, restore in restores.items():
        assert snapshots.get(subject) is not None, f"{subject} has no snapshot"
        assert restore.config is not None, f"nothing finds {subject} for its restore"
        assert restore.changes, f"the restore of {subject} does not say what was changed"


def test_each_field_of_a_step_has_its_kind() -> None:
    fields = set(Step.model_fields) - COMMON_FIELDS
    assert fields == set(STEP_KINDS), "api/steps.py: the fields of Step, and StepKindName"
    assert set(STEPS) == set(STEP_KINDS), "core/steps/__init__.py: STEPS"
    assert set(EXAMPLES) == set(STEP_KINDS), "this file: EXAMPLES"


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
    check_clock(STEPS[kind], example(kind))


def check_clock(kind: StepKind, step: Step) -> None:
    clock = kind.clock(step)
    assert (clock is None) == (kind.answered_by is not None), "only people have no clock"
    assert clock is None or clock > 0, "its time is over before it begins"


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_one_that_says_it_acts_asks_its_author_or_deploys(kind: StepKindName) -> None:
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


@pytest.mark.parametrize("place", NAMED_BY_HAND)
def test_each_kind_is_named_where_people_and_tests_look_for_it(place: str) -> None:
    text = (ROOT / place).read_text()
    # In a test a kind stands as the key of a step; a word of a message is not enough.
    written = r'"{}":' if place.endswith(".py") else r"\b{}\b"
    forgotten = [name for name in STEP_KINDS if not re.search(written.format(name), text)]
    assert not forgotten, f"{place} does not name {forgotten}"


def test_each_kind_stands_in_a_sample() -> None:
    samples = "".join(file.read_text() for file in (ROOT / "manifests/samples").glob("*.yaml"))
    assert [name for name in STEP_KINDS if not re.search(rf"\b{name}:", samples)] == []


def test_the_oracle_looks_for_the_effect_of_each_kind_that_acts() -> None:
    """It judges by what the API server was asked, and reads no kind from the core."""
    text = inspect.getsource(oracle._step_done)
    assert [name for name, kind in STEPS.items() if kind.acts and f'"{name}"' not in text] == []


def test_the_messages_of_the_api_name_the_kinds_that_they_are_about() -> None:
    """They stand below the core, and cannot be made from STEPS."""
    timed = [name for name in STEPS if "timeout" in getattr(_model_of(name), "model_fields", {})]
    (untimed,) = [rule.message for rule in Step.rules if isinstance(rule, Excludes)]
    assert untimed is not None
    assert [name for name in timed if name not in untimed] == [], "the message of Step.rules"

    compensations = docstrings(StageRollback)["steps"]
    able = [name for name, kind in STEPS.items() if kind.compensates]
    unnamed = [name for name in able if name not in compensations]
    assert unnamed == [], "api/release.py: the docstring of StageRollback.steps"


def _model_of(kind: StepKindName) -> object:
    return next(iter(get_args(Step.model_fields[kind].annotation)), None)


@pytest.mark.parametrize("kind", get_args(SubjectKind))
def test_the_reference_says_which_subjects_a_status_names(kind: SubjectKind) -> None:
    traits = traits_of(f"{kind}/name")
    if traits.changed_alone:
        assert f"`{kind}/" in docstrings(Difference)["subject"]
        assert f"`{kind}/" in docstrings(JournalEntry)["subject"]
    if traits.restored:
        assert f"`{kind}/" in docstrings(Undo)["subject"]


@pytest.mark.parametrize("kind", get_args(SubjectKind))
def test_each_kind_of_subject_has_its_handler(kind: SubjectKind) -> None:
    assert handlers.handler_of(f"{kind}/name") is not None


ASKED_OF_HANDLERS = ("inspect", "start", "follow", "compare")
"""Of what is returned to a snapshot; a default refuses each of them."""


def unanswered(kind: SubjectKind) -> list[str]:
    """What the handler of a kind of subject leaves to the defaults, and is asked in every run."""
    handler = type(handlers.handler_of(f"{kind}/name"))
    if kind in EXTERNALS_BY_KIND and handler is handlers._ExternalHandler:
        return []
    if not traits_of(f"{kind}/name").restored:
        return []
    return [
        name
        for name in ASKED_OF_HANDLERS
        if getattr(handler, name) is getattr(handlers.Handler, name)
    ]


@pytest.mark.parametrize("kind", get_args(SubjectKind))
def test_what_is_returned_to_a_snapshot_has_a_whole_handler(kind: SubjectKind) -> None:
    """That it does the right thing only an API server tells."""
    assert unanswered(kind) == [], "its handler leaves that to `Handler`, which refuses it"


def test_an_empty_handler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "handler_of", lambda subject: handlers.Handler())
    assert unanswered("configmap") == list(ASKED_OF_HANDLERS)


def test_the_plugin_has_words_for_each_kind() -> None:
    """Without them it shows a step as if it were a provider's action."""
    assert {*wording._STEPS, "confirm"} == set(STEP_KINDS), "plugin/wording.py::_STEPS"


@pytest.mark.parametrize("kind", [name for name in STEP_KINDS if not STEPS[name].deploys])
def test_a_procedure_does_what_a_stage_does(kind: StepKindName) -> None:
    """It has no snapshot and no way back but what stands in its `undo`."""
    row = {"name": "by-hand", "steps": [{"name": "it", kind: EXAMPLES[kind]}]}
    back = {"undo": [{"name": "back", kind: EXAMPLES[kind]}]} if STEPS[kind].compensates else {}
    world = World(spec=spec(procedures=[row | back]))
    world.settle().later(120)
    world.performed.clear()
    world.act("Run", procedure="by-hand", reason="pages are slow")
    assert bool(world.performed) == (STEPS[kind].acts or STEPS[kind].answered_by is not None)
    assert world.status.procedures[0].state == ("Succeeded" if STEPS[kind].acts else "Running")


@pytest.mark.parametrize(
    ("subject", "found"), [("target/web", "web"), ("configmap/web", {"target": "web", "set": {}})]
)
def test_only_what_sets_in_a_target_is_found_by_it(
    subject: str, found: str | dict[str, Any]
) -> None:
    operation = Operation("1", "set", subject, {"target": "web", "set": {}})
    assert handlers.config_of(operation) == found


def test_a_subject_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind of subject 'route/web'"):
        kind_of_subject("route/web")


# --------------------------------------------------------------------------------------------------
# A walk and its way back


@pytest.mark.parametrize("written", WALKED, ids=lambda written: json.dumps(written)[1:30])
def test_a_walk_does_what_the_kind_says_and_leads_back(written: dict[str, Any]) -> None:
    check_walk(written)


class _NoOperations(SetFlags):
    def operations(self, point: StepPoint) -> list[Operation]:
        return []


class _NoChanges(SetFlags):
    def changes(self, stage: Stage, step: Step) -> list[str]:
        return []


class _NotLookedFor(SetFlags):
    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        return {}


class _NotFoundAgain(SetFlags):
    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        return dict.fromkeys(super().subjects(stage, step, names))


class _WorksOn(SetFlags):
    """It works on another subject than it says, or on one that no rollback returns."""

    def __init__(self, subject: str, says: str) -> None:
        self.subject, self.says = subject, says

    def changes(self, stage: Stage, step: Step) -> list[str]:
        return [self.says]

    def subjects(self, stage: Stage, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
        return {self.says: {}}

    def operations(self, point: StepPoint) -> list[Operation]:
        return [Operation(point.key, "set", self.subject, {"set": {}}, point.since)]


class _Does(SetFlags):
    """It does something of another kind, or says something else of itself."""

    def __init__(self, kind: Any = "set", **says: Any) -> None:
        self.kind, self.says = kind, says
        vars(self).update(says)

    def hold_for(self, step: Step) -> float | None:
        return None if "nothing_held" in self.says else super().hold_for(step)

    def operations(self, point: StepPoint) -> list[Operation]:
        since = None if "nothing_since" in self.says else point.since
        return [replace(one, kind=self.kind, since=since) for one in super().operations(point)]


class _NoPermissions(SetFlags):
    acts = False
    deploys = True
    permissions = ()  # type: ignore[assignment]  # SetFlags has one: that is the fault


class _DoesSilently(Wait):
    acts = False

    def operations(self, point: StepPoint) -> list[Operation]:
        return [Operation(point.key, "job", "job/it", {}, point.since)]


class _SubjectlessWithState(Wait):
    acts = True
    permissions = SetFlags.permissions

    def operations(self, point: StepPoint) -> list[Operation]:
        return [Operation(point.key, "set", "configmap/flags", {"set": {}}, point.since)]


@pytest.mark.parametrize(
    ("name", "planted", "message"),
    [
        ("flags", _NoOperations(), "performs nothing"),
        ("flags", _NoChanges(), "says that it changes set"),
        ("flags", _NotLookedFor(), "does not get past the step"),
        ("flags", _NotFoundAgain(), "nothing finds configmap/flags"),
        ("flags", _WorksOn("configmap/other", "configmap/flags"), "says that it changes"),
        ("flags", _WorksOn("confirm/it", "confirm/it"), "no rollback returns"),
        ("flags", _WorksOn("job/it", "job/it"), "no rollback returns"),
        ("flags", _Does("act"), "act configmap/flags: it takes set"),
        ("flags", _Does("job"), "job configmap/flags: it takes set"),
        ("flags", _Does("restore"), "restore configmap/flags: it takes set"),
        ("flags", _Does(deploys=True), "whether it performs `apply`"),
        ("flags", _Does(stoppable=True), "whether it performs `job`"),
        ("flags", _Does(ends_with_clock=True), "by time alone"),
        ("flags", _Does(nothing_held=True), "`hold_for` does not say"),
        ("flags", _Does(nothing_since=True), "no `since`"),
        ("flags", _NoPermissions(), "nobody is asked for the right to change {'configmap/flags'}"),
        ("wait", _DoesSilently(), "nobody is asked for the right to change {'job/it'}"),
        ("wait", _SubjectlessWithState(), "of a SubjectlessKind"),
    ],
)
def test_a_planted_kind_is_found(
    name: StepKindName, planted: StepKind, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, name, planted)
    with pytest.raises(AssertionError, match=message):
        check_walk({name: EXAMPLES[name]})


@pytest.mark.parametrize("lost", ["journaled", "restored"])
def test_a_subject_kind_with_a_wrong_answer_is_found(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a new kind of subject would have it that is forgotten in the table."""
    wrong = replace(traits_of("configmap/flags"), **{lost: False})
    for module in (context, rollback_plan):
        monkeypatch.setattr(module, "traits_of", lambda subject: wrong)
    message = {"journaled": "not in the journal", "restored": r"restored are set\(\)"}[lost]
    with pytest.raises(AssertionError, match=message):
        check_walk({"flags": EXAMPLES["flags"]})


@pytest.mark.parametrize("seconds", [0.0, -1.0, None])
def test_a_planted_clock_is_found(seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wait, "clock", lambda self, step: seconds)
    with pytest.raises(AssertionError, match=r"its time is over|only people"):
        check_clock(STEPS["wait"], example("wait"))


@pytest.mark.parametrize("kind", get_args(SubjectKind))
def test_what_is_restored_stands_in_the_journal(kind: SubjectKind) -> None:
    """A rollback reads the journal: what is not in it is never returned."""
    traits = traits_of(f"{kind}/name")
    assert traits.restored == (kind not in SUBJECTLESS_SUBJECTS)
    assert traits.journaled or not (traits.restored or traits.changed_alone or traits.told_apart)


def test_what_a_newer_operator_has_changed_is_not_passed_over() -> None:
    traits = traits_of("route/web")
    assert traits.restored and not traits.journaled


@pytest.mark.parametrize("folder", ["core", "runtime"])
def test_what_a_kind_of_subject_is_like_is_asked_of_the_table(folder: str) -> None:
    """A test of how a subject begins is forgotten when a new kind comes."""
    asked = re.compile(rf'(startswith|removeprefix)\(\(?f?"({"|".join(get_args(SubjectKind))})/')
    root = Path(handlers.__file__).parents[2]
    assert [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted((root / folder).rglob("*.py"))
        for line in path.read_text().splitlines()
        if asked.search(line)
    ] == [], "ask traits_of, or is_of_kind where that very kind is carried out"
