"""The rules between fields as the API server judges them: for each place, bodies that keep a rule
and bodies that break it, and the message of the model at the path of the mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gatewright.codegen import crds
from tests.cluster import ApiServer, Unavailable
from tests.cluster.processes import wait_until
from tests.harness.cel import evaluate
from tests.harness.rule_bodies import Body, RuledPlace, least, object_with, ruled_places

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
API = "/apis/gatewright.dev/v1alpha1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """An API server with the CRDs and nothing else."""
    started = ApiServer()
    try:
        started.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        for kind in crds.KINDS:
            path = ROOT / "crds" / f"gatewright.dev_{kind.plural}.yaml"
            started.request("POST", DEFINITIONS, yaml.safe_load(path.read_text()))
        assert wait_until(lambda: all(_is_served(started, kind) for kind in crds.KINDS), 60)
        yield started
    finally:
        started.stop()


def _is_served(server: ApiServer, kind: crds.Kind) -> bool:
    try:
        server.request("GET", f"{API}/{kind.plural}")
    except RuntimeError:
        return False
    return True


def _refusal(server: ApiServer, kind: crds.Kind, item: Body) -> str:
    """What the API server says; nothing where it takes the object."""
    path = f"{API}/namespaces/default/{kind.plural}?dryRun=All&fieldValidation=Strict"
    try:
        server.request("POST", path, item)
    except RuntimeError as refused:
        return str(refused).replace('\\"', '"')
    return ""


def _distinct() -> Iterator[RuledPlace]:
    """A place for each model that reads differently: the text of the others is the same."""
    seen = set()
    for where in ruled_places():
        key = (where.model, where.place.providers, frozenset(where.place.left_out))
        if key not in seen:
            seen.add(key)
            yield where


@pytest.mark.parametrize("where", list(_distinct()), ids=lambda where: where.path)
def test_a_rule_is_judged_as_the_operator_does_it(server: ApiServer, where: RuledPlace) -> None:
    at = where.path.replace("[]", "[0]")
    needed = least(where.node)
    rules = [
        rule for rule in where.rules if rule.at_apply and "oldSelf" not in rule.cel(where.place)
    ]

    for body in where.bodies(most=2):
        action = {"action": "Approve"} if where.kind is crds.INTERVENTION else {}
        body = action | needed | body
        refusal = _refusal(server, where.kind, object_with(where, body))
        assert "Required value" not in refusal, "only its rules are looked at"
        assert "unknown field" not in refusal

        for rule in rules:
            told = f"{at}{rule.path}: Invalid value: {rule.message}" in refusal.replace(
                '"object": ', ""
            )
            kept = evaluate(rule.cel(where.place), self=where.with_defaults(body))
            assert told is not kept, (rule.message, body, refusal)
