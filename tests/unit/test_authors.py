"""What the operator writes for a Release, its author is asked about: nothing that writes can be
forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gatewright.api import GROUP
from gatewright.api.base import Model
from gatewright.api.jobs import Job
from gatewright.codegen import authors, crds, openers, schema, uses
from gatewright.codegen import standing as standing_
from gatewright.codegen.__main__ import main
from gatewright.core.permissions import AuthorPermission
from gatewright.core.steps import STEPS
from gatewright.core.steps.job import CREATE_JOBS
from gatewright.ports import Access
from gatewright.providers import registry
from gatewright.runtime import permissions

WRITES = {"create", "update", "patch", "delete", "deletecollection"}
OWN = {
    ("apps", "controllerrevisions"): "bodies and snapshots that the operator keeps for itself",
    ("events.k8s.io", "events"): "what it tells",
    ("batch", "jobs", "patch"): "Jobs that it has made: suspended, let go",
    (
        "",
        "secrets",
        "create",
    ): "the copy of a captured Secret, owned by the Release; and one that was deleted in a run",
    ("", "secrets", "delete"): "copies of captured Secrets that no kept snapshot needs",
    (
        "",
        "configmaps",
        "create",
    ): "one that was deleted in a run, as it was: its author may change it as long as it is there",
}
"""What the operator writes on its own account, and what it is."""
READ = (
    "job.fromCronJob",
    "secretKeyRef.name",
    "configMapKeyRef.name",
    "secretRef.name",
    "configMapRef.name",
)
"""Fields that name what a Job reads: whoever may create Jobs reads it by them."""
CHECK = 350_000
NODES = crds.nodes_of_body()


def writes(items: Iterable[Access]) -> Iterator[tuple[str, str, str]]:
    """Group, resource and verb of everything that is written in the namespaces of Releases."""
    for item in items:
        for resource in item.resources:
            yield from ((item.group, resource, verb) for verb in item.verbs if verb in WRITES)


def forgotten(
    items: Iterable[Access], rights: Iterable[AuthorPermission]
) -> list[tuple[str, str, str]]:
    """What is written, is not the operator's own, and is asked of nobody."""
    asked = {(right.group, right.resource, right.verb) for right in rights}
    own = {key for key in writes(items) if key in OWN or key[:2] in OWN or key[0] == GROUP}
    return [key for key in writes(items) if key not in asked | own]


def standing(model: str) -> list[str]:
    return [path for path, node in NODES.items() if node.get(schema.MODEL_NOTE) == model]


@pytest.mark.parametrize("key", registry.TARGETS)
def test_what_a_target_writes_is_asked_of_the_author(key: str) -> None:
    target = registry.TARGETS[key]
    assert forgotten(target.access, target.author) == [], (
        f"{key}: say in `author` what is asked for these"
    )


def test_what_the_shell_writes_is_asked_of_the_author() -> None:
    assert (
        forgotten(
            (*permissions.RELEASE_ACCESS, *permissions.CAPTURE_ACCESS),
            (right for _, right in authors.author_rights()),
        )
        == []
    )


def unable(rights: Iterable[AuthorPermission]) -> list[tuple[str, str, str]]:
    """What authors are asked for because the operator writes it for them, and it may not."""
    able = set(writes((*permissions.RELEASE_ACCESS, *permissions.CAPTURE_ACCESS)))
    wanted = [(right.group, right.resource, right.verb) for right in rights]
    return [key for key in wanted if key[2] in WRITES and key not in able]


def test_what_a_step_asks_of_its_author_the_operator_may_write() -> None:
    assert unable(right for kind in STEPS.values() for _, right in kind.permissions) == []
    assert unable([AuthorPermission("patch", "x.io", "routes")]) == [("x.io", "routes", "patch")]


def test_a_target_that_says_nothing_is_found() -> None:
    item = Access("apps", ("daemonsets",), ("get", "patch"), "deploy")
    assert forgotten([item], []) == [("apps", "daemonsets", "patch")]
    assert forgotten([item], [AuthorPermission("patch", "apps", "deployments", ("name",))]) == [
        ("apps", "daemonsets", "patch")
    ]
    assert forgotten([item], [AuthorPermission("patch", "apps", "daemonsets", ("name",))]) == []


def test_every_field_that_names_an_object_is_asked_for_or_only_read() -> None:
    release = dict(schema.walk_schema(crds.schemas_of(crds.RELEASE)[0], "spec"))
    named = {
        path
        for path, node in {**NODES, **release}.items()
        if node.get(schema.TEXT_NOTE, {}).get("what") == "the name of an object"
    }
    named |= {path for path, node in NODES.items() if "[-a-z0-9.]*" in node.get("pattern", "")}
    asked = {
        f"{path}.{field}"
        for model, right in authors.author_rights()
        for path in standing(model)
        for field in right.fields
    }
    asked.add(f"spec.runbookRef.{uses.USE_RUNBOOK.fields[0]}")
    assert {path for path in named - asked if not path.endswith(READ)} == set()


@pytest.mark.parametrize("model", sorted({model for model, _ in authors.author_rights()}))
def test_every_place_of_a_model_is_looked_at(model: str) -> None:
    text = {item["name"]: item["expression"] for item in authors.policy_spec()["variables"]}[
        model[0].lower() + model[1:]
    ]
    assert standing(model)
    assert text.count("'of'") == len(standing(model))


def test_a_place_in_three_lists_is_refused() -> None:
    with pytest.raises(schema.Unsupported, match="one list or two"):
        standing_.cel_standing("spec.a[].b[].c[].job", {})


def test_names_that_do_not_stand_side_by_side_are_refused() -> None:
    with pytest.raises(schema.Unsupported, match="make them two rights"):
        standing_.cel_lines(
            "Job", AuthorPermission("patch", "", "secrets", ("name", "config[].secret")), {}
        )


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (AuthorPermission("patch", "", "x", ("cofigMap",)), "Job: .* has no field 'cofigMap'"),
        (AuthorPermission("patch", "", "x", ("report.nme",)), "has no field 'nme'"),
        (AuthorPermission("patch", "", "x", ("env.name",)), "another kind of field at 'env'"),
        (AuthorPermission("patch", "", "x", ("image[].name",)), "another kind of field"),
        (AuthorPermission("patch", "", "x", ("image",), only=("knd", "A")), "no field 'knd'"),
    ],
)
def test_a_field_that_the_model_does_not_have_is_refused(
    right: AuthorPermission, message: str
) -> None:
    with pytest.raises(schema.Unsupported, match=message):
        standing_.cel_lines("Job", right, NODES)


def test_a_model_that_stands_nowhere_is_refused() -> None:
    with pytest.raises(schema.Unsupported, match="stands nowhere"):
        standing_.cel_lines("Route", AuthorPermission("patch", "", "routes", ("name",)), NODES)


def test_a_right_for_the_model_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(STEPS["wait"]), "permissions", ((Job, CREATE_JOBS),))
    with pytest.raises(schema.Unsupported, match=r"step kind wait: .* where Job stands"):
        authors.policy_spec()


@pytest.mark.parametrize("part", [authors, openers, uses], ids=lambda part: part.POLICY_NAME)
def test_the_questions_leave_room_in_the_budget_for_the_rest(part: ModuleType) -> None:
    """More kinds of rights mean fewer names that are asked for one by one (`MAX_NAMES_ASKED`): the
    API server refuses everybody where the budget is exceeded.

    A named right for a verb and a resource that are asked for already costs nothing more; every
    other right costs one question (`CHECK`). Where a new one no longer fits: ask for one of those
    that are there, if it covers what is done. Else lower `MAX_NAMES_ASKED`: names beyond it are
    asked for together, without a name. It may not be less than `maxItems` of `spec.targets` (the
    next test), so that is lowered with it, and Releases with more targets are refused. The rest of
    the 10,000,000 is for the variables; that it is enough for those of the longest Release is seen
    on a real API server (`tests/apiserver/test_release_admission.py`)."""
    asked = [
        item for item in part.policy_spec()["validations"] if "authorizer" in item["expression"]
    ]
    most = authors.MAX_QUESTIONS if part is authors else 6_000_000 // CHECK
    assert 0 < len(asked) <= most


def test_a_kind_with_a_right_of_its_own_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a step that shifts traffic has it: nobody has to lower how many targets there may be."""
    route = AuthorPermission("patch", "gateway.networking.k8s.io", "httproutes", ("configMap",))
    kind = STEPS["flags"]
    monkeypatch.setattr(
        type(kind), "permissions", (*kind.permissions, (kind.permissions[0][0], route))
    )
    assert any("httproutes" in item["expression"] for item in authors.policy_spec()["validations"])
    test_the_questions_leave_room_in_the_budget_for_the_rest(authors)


def test_what_there_are_few_of_stands_first_and_is_asked_for_by_name() -> None:
    """Of a target either a Deployment or a StatefulSet is patched: nothing of them is left over."""
    few = authors.few_rights()
    assert [right.resource for right in few] == ["deployments", "statefulsets"]
    named = [right for _, right in authors.author_rights() if right.fields]
    assert named[: len(few)] == few
    spec = authors.policy_spec()
    (rest,) = [item for item in spec["validations"] if "authorizer" not in item["expression"]]
    left = [item for item in spec["validations"] if "wanted10.exists" in item["expression"]]
    for head in ("patch,,configmaps,", "patch,,secrets,", "impersonate,,serviceaccounts,"):
        assert head in rest["expression"]
        assert len([item for item in left if head in item["expression"]]) == 1
    # One question each for what there may be more of than names are asked for.
    others = {(right.verb, right.group, right.resource) for right in named[len(few) :]}
    assert len(left) == len(others) and "deployments" not in rest["expression"]


@pytest.mark.parametrize("table", ["GATES", "EXTERNAL_TARGETS", "FLAGS", "ACTIONS", "NOTIFIERS"])
def test_a_provider_that_cannot_name_its_connection_is_refused(
    table: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its author would use it unasked."""

    class Nameless(Model):
        """It has no field `connection`."""

    provider = type("Provider", (), {"config": Nameless, "connection": "http"})()
    monkeypatch.setitem(getattr(registry, table), "nameless", provider)
    with pytest.raises(uses.UnnamedConnection, match=r"Nameless \(`nameless`\): add the field"):
        uses.policy_spec()

    assert main(["--root", str(tmp_path)]) == 1
    assert "Nameless (`nameless`): add the field `connection" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_each_target_is_asked_for_by_name() -> None:
    assert NODES["spec.targets"]["maxItems"] <= authors.MAX_NAMES_ASKED
