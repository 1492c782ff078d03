"""Nobody asks for a version under another's name: `spec.requestedBy`, written by several users on a
real API server with the shipped policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.codegen import requesters
from tests.apiserver.people import People, told
from tests.harness.lab import RELEASES, Lab

pytestmark = pytest.mark.apiserver
FORGED = "nobody acts under another name"


@pytest.fixture(scope="module")
def people(laboratory: Lab) -> Iterator[People]:
    found = People(laboratory, laboratory.namespace().name, RELEASES, requesters.POLICY_NAME)
    yield found
    found.close()


def release(**changes: Any) -> dict[str, Any]:
    stages = [{"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}]
    spec: dict[str, Any] = {"version": "2.0", "suspend": True, "stages": stages}
    meta = {"generateName": "asked-"}
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": meta,
        "spec": spec | changes,
    }


def test_a_name_is_its_owners_alone(people: People) -> None:
    ana, ben = people.with_rights(), people.with_rights()
    own = people.name_of(ana)
    people.passes(ana, release(requestedBy=own))
    words = f'spec.requestedBy: "{own}" is not who asks ("{people.name_of(ben)}"); {FORGED}'
    assert requesters.POLICY_NAME in people.tells(ben, release(requestedBy=own), words)
    people.passes(ben, release())
    assert FORGED in told(
        lambda: people.lab.api.create(f"{people.path}?dryRun=All", release(requestedBy=own))
    )


def test_while_a_name_stands_there_its_owner_alone_changes_what_would_run(people: People) -> None:
    ana, ben = people.with_rights(), people.with_rights()
    own, other = people.name_of(ana), people.name_of(ben)
    people.passes(ana, release(requestedBy=own))
    name = ana.create(people.path, release(requestedBy=own))["metadata"]["name"]
    people.lab.wait(lambda: not people.changes(ben, name, {}), 10, "RBAC to know ben")

    # What is applied once more, and what no run pins, is no wish for anything.
    same = {"spec": {"requestedBy": own, "version": "2.0"}}
    for patch in (same, {"spec": {"suspend": False}}, {"metadata": {"labels": {"a": "b"}}}):
        assert people.changes(ben, name, patch) == ""

    stages = [{"name": "ship", "steps": [{"name": "other", "wait": "1s"}]}]
    for spec in ({"version": "3.0"}, {"stages": stages}, {"vars": {"a": "b"}}):
        assert FORGED in people.changes(ben, name, {"spec": spec})
        assert people.changes(ana, name, {"spec": spec}) == ""
        assert people.changes(ben, name, {"spec": {**spec, "requestedBy": other}}) == ""
        assert people.changes(ben, name, {"spec": {**spec, "requestedBy": None}}) == ""
    assert FORGED in people.changes(ben, name, {"spec": {"requestedBy": "eve"}})
