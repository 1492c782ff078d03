"""From models to structural schemas, to RBAC, to files: each rule of the way by itself."""

from __future__ import annotations

import copy
import difflib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from gatewright.api.base import Duration, Keyed, Model, Name, Quantity
from gatewright.api.checks import Check
from gatewright.api.release import ReleaseSpec
from gatewright.api.steps import FlagsStep, Step
from gatewright.codegen import crds, files, rbac, reference, rules, schema
from gatewright.codegen.__main__ import main
from gatewright.ports import Access
from gatewright.providers import registry
from gatewright.runtime import permissions

ROOT = Path(__file__).resolve().parents[2]
generated = functools.cache(files.generated_files)
Short = Annotated[str, Field(max_length=10)]


class Inner(Model):
    """An inner thing."""

    name: Name
    """Its name."""


class Everything(Model):
    """All that a model may hold."""

    ref: Inner
    """A reference."""
    maybe: Inner | None = None
    """A reference that may be absent."""
    many: Annotated[list[Inner], Field(max_length=3)] = []
    """Named things."""
    words: Annotated[list[Short], Field(max_length=3)] = []
    """Words."""
    table: Annotated[
        dict[Annotated[str, Field(pattern="^[a-z]+$", max_length=5)], Short], Field(max_length=4)
    ] = {}
    """A map."""
    only: Literal["one"] = "one"
    """One choice."""
    choice: Literal["a", "b"] = "a"
    """A choice."""
    above: Annotated[int, Field(gt=0, lt=10)] = 1
    """A number."""
    numbers: Annotated[list[int], Field(max_length=3)] = [1]
    """Numbers."""
    flag: bool = False
    """A flag."""
    time: Duration = "5m"
    """A duration."""


def convert(
    model: type[BaseModel], variants: schema.Variants | None = None, path: str = "spec"
) -> dict[str, Any]:
    return schema.without_notes(schema.structural_schema(model, path, variants or {}))


def test_references_and_nullable_unions_are_folded() -> None:
    found = convert(Everything)["properties"]
    assert found["ref"]["properties"]["name"]["type"] == "string"
    assert found["ref"]["description"] == "A reference.", (
        "the field's own words win over the model's"
    )
    assert found["maybe"]["type"] == "object"
    assert "anyOf" not in json.dumps(found)


def test_titles_and_empty_defaults_are_dropped_and_others_kept() -> None:
    found = convert(Everything)
    assert "title" not in json.dumps(found)
    defaults = {
        name: item["default"] for name, item in found["properties"].items() if "default" in item
    }
    assert defaults == {"only": "one", "choice": "a", "above": 1, "time": "5m", "numbers": [1]}


def test_const_is_an_enum_and_exclusive_limits_are_inclusive() -> None:
    found = convert(Everything)["properties"]
    assert found["only"]["enum"] == ["one"]
    assert (found["above"]["minimum"], found["above"]["maximum"]) == (1, 9)


def test_lists_say_how_they_merge() -> None:
    found = convert(Everything)["properties"]
    assert found["many"]["x-kubernetes-list-type"] == "map"
    assert found["many"]["x-kubernetes-list-map-keys"] == ["name"]
    # Atomic, as any list that says nothing.
    assert "x-kubernetes-list-type" not in found["words"]
    in_status = convert(Everything, path="status")["properties"]["many"]
    assert "x-kubernetes-list-type" not in in_status


def test_keys_of_a_map_are_judged_by_a_rule() -> None:
    found = convert(Everything)["properties"]["table"]
    assert found["additionalProperties"] == {"type": "string", "maxLength": 10}
    (rule,) = found["x-kubernetes-validations"]
    assert rule["rule"] == "self.all(key, key.size() <= 5 && key.matches(r'^[a-z]+$'))"


def test_words_of_the_language_say_what_would_be_right() -> None:
    found = convert(Everything)["properties"]["time"]
    assert "pattern" not in found
    assert "try 15m or 1h30m" in found["x-kubernetes-validations"][0]["messageExpression"]


def test_status_has_patterns_nowhere_and_no_defaults() -> None:
    found = json.dumps(convert(Everything, path="status"))
    assert "messageExpression" not in found
    assert "default" not in found


class Question(Keyed):
    """A keyed model."""

    name: Name
    """Its name."""
    max: Quantity | None = None
    """A limit."""


def test_a_keyed_model_gets_the_providers_of_its_place() -> None:
    found = convert(Question, {"spec": {"inner": Inner, "other": Inner}})
    assert list(found["properties"]) == ["name", "max", "inner", "other"]
    assert found["required"] == ["name"]
    assert found["x-kubernetes-validations"] == [
        {
            "rule": "has(self.inner) != has(self.other)",
            "message": "needs exactly one of inner, other",
        }
    ]


def test_a_keyed_model_at_an_unknown_place_is_refused() -> None:
    with pytest.raises(schema.Unsupported, match="spec: which providers are allowed here"):
        convert(Question)


def test_texts_of_a_provider_may_hold_references_and_those_of_a_connection_may_not() -> None:
    found = convert(Question, {"spec.x": {"inner": Inner}}, "spec.x")["properties"]["inner"][
        "properties"
    ]["name"]
    assert found["x-kubernetes-validations"][0]["rule"].endswith(r"|\$\(')")
    found = convert(Question, {"spec": {"inner": Inner}})["properties"]["inner"]["properties"][
        "name"
    ]
    assert r"\$\(" not in found["x-kubernetes-validations"][0]["rule"]


class Endless(Model):
    """Contains itself."""

    again: Endless | None = None
    """Itself."""


class Union(Model):
    """Two types."""

    value: int | Short
    """Either."""


class Unbounded(Model):
    """No limit."""

    text: str
    """Any text."""


class UnboundedList(Model):
    """No limit."""

    items: list[Short]
    """Any number."""


class Anything(Model):
    """A map of anything."""

    items: Annotated[dict[str, Any], Field(max_length=3)]
    """Any values."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Endless, "spec.again: Endless contains itself"),
        (Union, "spec.value: a union of 2 types"),
        (Unbounded, "spec.text: a string without maxLength"),
        (UnboundedList, "spec.items: an array without maxItems"),
        (Anything, "spec.items: a map of anything"),
    ],
)
def test_what_a_crd_cannot_express_is_refused(model: type[BaseModel], message: str) -> None:
    with pytest.raises(schema.Unsupported, match=message):
        convert(model)


# --------------------------------------------------------------------------------------------------
# The CRDs


def _everything(kind: crds.Kind) -> Iterator[tuple[str, schema.Schema]]:
    for root, part in zip(("spec", "status"), crds.schemas_of(kind), strict=False):
        yield from schema.walk_schema(part, root)


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_every_field_has_a_description(kind: crds.Kind) -> None:
    silent = [
        path
        for path, node in _everything(kind)
        if "description" not in node and not path.endswith(("[]", "{}"))
    ]
    assert silent == []


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_everything_has_an_upper_limit(kind: crds.Kind) -> None:
    limits = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}
    free = [
        path
        for path, node in _everything(kind)
        if limits.get(node["type"], "type") not in node
        and not {"enum", "format", "properties", "x-kubernetes-preserve-unknown-fields"} & set(node)
    ]
    assert free == []


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_the_keys_of_every_map_have_an_upper_limit(kind: crds.Kind) -> None:
    maps = [
        (path, node)
        for path, node in _everything(kind)
        if path[:4] == "spec" and "additionalProperties" in node
    ]
    long = [
        path
        for path, node in maps
        if "key.size() <= " not in json.dumps(node.get("x-kubernetes-validations", []))
    ]
    assert long == []


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_what_is_free_in_form_is_known(kind: crds.Kind) -> None:
    """The schema cannot bound it; the operator measures the spec that holds it (`core.size`)."""
    free = {
        path for path, node in _everything(kind) if "x-kubernetes-preserve-unknown-fields" in node
    }
    jobs = {
        "preflight[]",
        "stages[].gates[]",
        "rollback.verify[]",
        "stages[].steps[]",
        "stages[].rollback.steps[]",
        "procedures[].steps[]",
        "procedures[].undo[]",
    }
    places = {"Release": jobs, "Runbook": jobs | {"checks[]"}}.get(kind.name, set())
    fields = ("resources", "template")
    assert free == {f"spec.{place}.job.{field}" for place in places for field in fields}


def _most(node: schema.Schema) -> int:
    """Characters of JSON that the schema admits."""
    if "enum" in node:
        return max(len(json.dumps(value)) for value in node["enum"])
    match node["type"]:
        case "string":
            return int(node.get("maxLength", 40)) + 2
        case "array":
            return int(node["maxItems"]) * (_most(node["items"]) + 1) + 2
        case "object" if "additionalProperties" in node:
            return int(node["maxProperties"]) * (_most(node["additionalProperties"]) + 256) + 2
        case "object":
            return (
                sum(
                    _most(item) + len(name) + 4 for name, item in node.get("properties", {}).items()
                )
                + 2
            )
        case _:
            return 24


@pytest.mark.parametrize("kind", [crds.CONNECTION, crds.INTERVENTION], ids=lambda kind: kind.name)
def test_the_schema_alone_keeps_connections_and_interventions_small(kind: crds.Kind) -> None:
    """Exactly one provider stands in a Connection; all of them together are more than any."""
    assert _most(crds.schemas_of(kind)[0]) < 64 * 1024


def test_every_check_takes_exactly_the_providers_of_its_place() -> None:
    nodes = dict(_everything(crds.RELEASE))
    gates = sorted(registry.GATES)
    assert nodes["spec.guards[]"][schema.PROVIDERS_NOTE] == gates
    assert nodes["spec.stages[].gates[]"][schema.PROVIDERS_NOTE] == sorted([*gates, "job"])
    assert nodes["spec.rollback.verify[]"][schema.PROVIDERS_NOTE] == sorted([*gates, "job"])
    assert nodes["spec.preflight[]"][schema.PROVIDERS_NOTE] == sorted([*gates, "job", "approval"])
    assert nodes["spec.targets[]"][schema.PROVIDERS_NOTE] == sorted(
        [*registry.TARGETS, *registry.EXTERNAL_TARGETS]
    )
    assert nodes["spec.stages[].steps[]"][schema.PROVIDERS_NOTE] == sorted(registry.ACTIONS)
    assert nodes["spec.stages[].steps[].flags"][schema.PROVIDERS_NOTE] == sorted(registry.FLAGS)
    connections = dict(_everything(crds.CONNECTION))
    assert connections["spec"][schema.PROVIDERS_NOTE] == sorted(registry.CONNECTIONS)


def test_only_jobs_flags_and_actions_compensate() -> None:
    nodes = dict(_everything(crds.RELEASE))
    fields = set(nodes["spec.stages[].rollback.steps[]"]["properties"])
    assert fields == {
        "name",
        "produces",
        "requires",
        "timeout",
        *rules.COMPENSATION_KINDS,
        *registry.ACTIONS,
    }


def test_no_field_of_a_provider_hides_one_of_the_check() -> None:
    """A provider key that is also a field's name could never be told apart."""
    fields = {field.alias or name for name, field in Check.model_fields.items()} | {"action"}
    assert (
        fields & {*registry.GATES, *registry.TARGETS, *registry.EXTERNAL_TARGETS, "job", "approval"}
        == set()
    )
    assert set(Step.model_fields) & set(registry.ACTIONS) == set()
    assert set(FlagsStep.model_fields) & set(registry.FLAGS) == set()
    assert set(ReleaseSpec.model_fields) & {"metadata", "status"} == set()


def test_columns_read_fields_that_exist() -> None:
    for kind in crds.KINDS:
        known = {path for path, _ in _everything(kind)} | {"metadata.creationTimestamp"}
        for column in kind.columns:
            path = column.path.removeprefix(".").partition("[?")[0]
            assert path in known, column


# --------------------------------------------------------------------------------------------------
# RBAC


def test_nothing_is_asked_for_by_wildcard_and_secrets_are_never_listed() -> None:
    for item in (*rbac.release_access(), *rbac.own_namespace_access(), *rbac.api_server_access()):
        assert "*" not in (item.group, *item.resources, *item.verbs)
        assert item.why
        if "secrets" in item.resources:
            assert not {"list", "watch", "deletecollection"} & set(item.verbs)


def test_a_wildcard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        permissions, "RELEASE_ACCESS", (Access("apps", ("*",), ("get",), "everything"),)
    )
    with pytest.raises(rbac.Wildcard):
        rbac.release_access()


def test_targets_are_given_what_they_declare() -> None:
    for target in registry.TARGETS.values():
        for item in target.access:
            assert item in rbac.release_access()


def test_both_modes_have_the_same_rules() -> None:
    roles = [
        yaml.safe_load(generated()[f"manifests/rbac/{mode}/role.yaml"])
        for mode in ("cluster", "namespaced")
    ]
    assert [role["kind"] for role in roles] == ["ClusterRole", "Role"]
    assert roles[0]["rules"] == roles[1]["rules"] == rbac.rule_objects(rbac.release_access())


# --------------------------------------------------------------------------------------------------
# Files


def test_what_is_generated_is_up_to_date() -> None:
    assert files.stale_paths(ROOT, generated()) == [], "run make generate"


def test_generating_twice_gives_the_same() -> None:
    assert files.generated_files() == generated()


def test_every_generated_file_says_so() -> None:
    for path, text in generated().items():
        assert files.NOTICE in text.splitlines()[0], path


def _changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


def test_a_change_of_one_field_changes_its_lines_alone() -> None:
    """Who reads the diff of a CRD sees which field it is."""
    before = crds.definition_of(crds.KINDS[0])
    after = copy.deepcopy(before)
    spec = after["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["version"]["maxLength"] = 77
    changed = _changed_lines(files.to_schema_yaml(before), files.to_schema_yaml(after))
    assert [line[:1] + line[1:].lstrip() for line in changed] == [
        "-maxLength: 63",
        "+maxLength: 77",
    ]


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_the_file_of_a_kind_says_what_the_kind_is(kind: crds.Kind) -> None:
    document = crds.definition_of(kind)
    assert yaml.safe_load(files.to_schema_yaml(document)) == document


def test_check_tells_and_writes_nothing_and_write_repairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    changed = tmp_path / "crds" / "gatewright.dev_releases.yaml"
    changed.write_text(changed.read_text() + "# edited by hand\n")
    orphan = tmp_path / "docs" / "reference" / "gone.md"
    orphan.write_text(f"<!-- {files.NOTICE} -->\n")
    by_hand = tmp_path / "docs" / "reference" / "own.md"
    by_hand.write_text("# Written by a person\n")
    capsys.readouterr()

    assert main(["--root", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err
    assert "crds/gatewright.dev_releases.yaml is not up to date" in told
    assert "docs/reference/gone.md is not up to date" in told
    assert changed.read_text().endswith("# edited by hand\n")

    assert main(["--root", str(tmp_path)]) == 0
    assert not changed.read_text().endswith("# edited by hand\n")
    assert not orphan.exists()
    assert by_hand.exists()
    assert main(["--root", str(tmp_path), "--check"]) == 0


# --------------------------------------------------------------------------------------------------
# The reference


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_the_reference_has_every_field_and_every_link_leads_somewhere(kind: crds.Kind) -> None:
    page = reference.kind_page(kind)
    sections = {
        line.removeprefix("## ").lower() for line in page.splitlines() if line.startswith("## ")
    }
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= sections
    for path, _ in _everything(kind):
        name = path.rstrip("[]{}").rpartition(".")[2]
        assert f"`{name}`" in page, path


def test_the_reference_gives_type_default_limits_and_sentence() -> None:
    page = reference.kind_page(crds.RELEASE)
    assert (
        "| `holdFor` | duration | `10m` | at most 90d; try 15m or 1h30m, at most 20 "
        "characters "
        "| How long the check may hold before `onHoldExpired` counts. |" in page
    )
    assert "| `stages` | list of [Stage](#stage) |" in page
    assert "`approval` | [Approval](#approval) |" in page


def test_two_models_of_one_name_are_refused() -> None:
    one = {"type": "object", schema.MODEL_NOTE: "Config", "properties": {"a": {"type": "string"}}}
    other = {
        "type": "object",
        schema.MODEL_NOTE: "Config",
        "properties": {"a": {"type": "integer"}},
    }
    with pytest.raises(reference.AmbiguousModel, match="rename one"):
        reference._sections_of([("spec.a", one), ("spec.b", other)])


@pytest.mark.parametrize("kind", [crds.RELEASE, crds.RUNBOOK], ids=lambda kind: kind.name)
def test_what_is_refused_by_its_presence_is_not_filled_in(kind: crds.Kind) -> None:
    schemas = crds.definition_of(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for place in kind.judged:
        assert "default" not in crds._node_at(schemas, f"spec.{place}"), place


def test_the_reference_tells_what_counts_when_a_field_is_left_out() -> None:
    page = reference.kind_page(crds.RELEASE)
    assert "| `drainTimeout` | duration | `30s` |" in page


@pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
def test_plain_apply_can_carry_every_definition(kind: crds.Kind) -> None:
    """`kubectl apply` keeps it in an annotation, and all annotations together end at 256 KiB."""
    written = json.dumps(crds.definition_of(kind), separators=(",", ":"))
    assert len(written.encode()) < 250_000
