"""A Release that names a Runbook has its body; what is wrong with either is said with its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from gatewright.core.report import size
from gatewright.providers.runbooks import check_release, runbook_problems
from gatewright.runtime.runbooks import MAX_PER_NAMESPACE, Runbooks
from gatewright.runtime.tracked import TrackedRelease, TrackedReleases

HEALTH = {"name": "web-health", "http": {"path": "/healthz"}, "failureThreshold": 3}
RUNBOOK: dict[str, Any] = {
    "owner": "platform",
    "description": "How the shop is released.",
    "links": [{"name": "dashboard", "url": "https://grafana.example.com/d/shop"}],
    "vars": [
        {"name": "tag", "type": "Word"},
        {"name": "limit", "type": "Quantity", "default": "1%"},
        {"name": "bake", "type": "Duration", "default": "15m"},
        {"name": "region", "values": ["mx", "us"], "default": "mx"},
    ],
    "checks": [HEALTH],
    "targets": [
        {
            "name": "web",
            "workload": {
                "kind": "Deployment",
                "name": "web",
                "images": {"app": "shop/web:$(vars.tag)"},
            },
        }
    ],
    "guards": [{"name": "health", "use": "web-health", "interval": "30s", "action": "Pause"}],
    "stages": [
        {
            "name": "ship",
            "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}],
            "gates": [
                {"name": "healthy", "use": "web-health"},
                {"name": "errors", "prometheus": {"query": "errors"}, "max": "$(vars.limit)"},
            ],
            "bake": "$(vars.bake)",
        }
    ],
    "rollback": {"verify": [{"name": "healthy", "use": "web-health"}]},
}
RELEASE: dict[str, Any] = {"version": "2.0", "runbookRef": {"name": "web"}, "vars": {"tag": "v2"}}


def runbook(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(RUNBOOK) | changes


def release(**changes: Any) -> dict[str, Any]:
    return RELEASE | changes


def problems(raw: dict[str, Any], body: dict[str, Any] | None = None) -> list[str]:
    return list(check_release(raw, runbook() if body is None else body, "web")[1])


def test_a_release_of_five_lines_has_the_body_of_its_runbook() -> None:
    spec, wrong = check_release(release(), runbook(), "web")
    assert list(wrong) == [] and spec is not None
    assert spec.vars == {"tag": "v2", "limit": "1%", "bake": "15m", "region": "mx"}
    assert spec.owner == "platform" and [link.name for link in spec.links] == ["dashboard"]
    (stage,) = spec.stages
    assert stage.bake == "15m" and [gate.max for gate in stage.gates] == [None, "1%"]


def test_what_stands_beside_use_goes_before_the_check() -> None:
    spec, _ = check_release(release(), runbook(), "web")
    assert spec is not None
    (guard,) = spec.guards
    assert (guard.name, guard.interval, guard.failureThreshold) == ("health", "30s", 3)
    assert guard.action == "Pause" and guard.provider == ("http", {"path": "/healthz"})
    assert spec.stages[0].gates[0].provider == spec.rollback.verify[0].provider == guard.provider


def test_values_of_the_release_go_before_defaults() -> None:
    spec, _ = check_release(release(vars={"tag": "v2", "limit": "3%", "bake": "1h"}), runbook(), "")
    assert spec is not None
    assert (spec.stages[0].bake, spec.stages[0].gates[1].max) == ("1h", "3%")


def test_the_own_words_of_a_release_go_before_those_of_its_runbook() -> None:
    links = [{"name": "dashboard", "url": "https://own"}, {"name": "ticket", "url": "https://t"}]
    raw = release(owner="shop", links=links)
    spec, _ = check_release(raw, runbook(), "web")
    assert spec is not None
    assert spec.owner == "shop" and spec.description == "How the shop is released."
    assert [link.url for link in spec.links] == ["https://own", "https://t"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "spec.vars.tag: is missing; Runbook web needs it"),
        ({"tag": "a b"}, 'spec.vars.tag: "a b" is not a word (letters, digits and . _ / : @ + -)'),
        ({"tag": "$(steps.x.outputs.y)"}, "is not a word"),
        ({"tag": "v2", "limit": "1 percent"}, '"1 percent" is not a quantity (try 1%'),
        ({"tag": "v2", "bake": "soon"}, 'spec.vars.bake: "soon" is not a duration'),
        ({"tag": "v2", "region": "eu"}, 'spec.vars.region: "eu" is not one of mx, us'),
        ({"tag": 2}, 'spec.vars.tag: 2 is not text; write it in quotes: "2"'),
        ({"tag": True}, 'spec.vars.tag: true is not text; write it in quotes: "true"'),
        ({"tag": ["v2"]}, "spec.vars.tag: is no text; give one value, in quotes"),
        (
            {"tag": "v2", "limt": "1%"},
            "spec.vars.limt: Runbook web has no such variable; it has bake, limit, region, tag",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused(given: dict[str, str], message: str) -> None:
    (problem,) = problems(release(vars=given))
    assert message in problem


@pytest.mark.parametrize("kind", ["Integer", "Boolean", "Duration", "Quantity", "Word"])
def test_a_value_of_a_type_that_is_put_in_at_once_names_nothing(kind: str) -> None:
    """Else a Release could reach what only a run knows, at a place that is judged before."""
    body = runbook(vars=[{"name": "tag", "type": kind}])
    assert "spec.vars.tag" in problems(release(vars={"tag": "$(version)"}), body)[0]


def test_a_release_that_says_what_its_runbook_says_is_refused() -> None:
    raw = release(guardFor="1h", stages=[])
    assert problems(raw) == [
        "spec.guardFor: stands in Runbook web; take it out here, or take out spec.runbookRef",
        "spec.stages: stands in Runbook web; take it out here, or take out spec.runbookRef",
    ]


def test_what_is_wrong_in_the_runbook_says_that_it_is_there() -> None:
    body = runbook(guards=[{"name": "health", "use": "web-helth"}])
    (problem,) = problems(release(), body)
    assert problem == (
        'Runbook web: spec.guards[0].use: "web-helth" is not in spec.checks, which has web-health'
    )
    body = runbook(targets=[])
    assert problems(release(), body)[0].startswith("Runbook web: spec.stages[0].steps[0]")


def test_what_is_wrong_in_the_release_says_nothing_of_the_runbook() -> None:
    (problem,) = problems(release(supersede="Later"))
    assert problem.startswith("spec.supersede:")


def test_a_reference_to_a_variable_that_nobody_declares_is_refused() -> None:
    body = runbook()
    body["targets"][0]["workload"]["images"]["app"] = "shop/web:$(vars.tags)"
    assert "$(vars.tags)" in problems(release(), body)[0]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            {"name": "x", "use": "web-health", "http": {"path": "/other"}},
            "spec.guards[0]: has use and http; keep one of them",
        ),
        ({"use": "web-health"}, "spec.guards[0].name: is missing; a check that uses another one"),
        ({"name": "x", "use": {"check": "web-health"}}, "spec.guards[0].use: must be the name of"),
        ({"name": "x", "use": None}, "spec.guards[0].use: must be the name of a check"),
    ],
)
def test_a_use_that_is_none_is_refused(check: dict[str, Any], message: str) -> None:
    (problem,) = problems(release(), runbook(guards=[check]))
    assert problem.startswith(f"Runbook web: {message}")


@pytest.mark.parametrize(
    ("bake", "message"),
    [
        ("$(vars.bak)", "$(vars.bak) is not known here (known: vars.bake, vars.limit, vars.region"),
        ("$(vars.tag)", "$(vars.tag) is a Word; a duration needs a variable of type Duration"),
        ("1h$(vars.bake)", '"1h$(vars.bake)" is not a duration; a variable must be the whole text'),
    ],
)
def test_a_variable_that_is_no_time_is_said_to_be_none(bake: str, message: str) -> None:
    body = runbook()
    body["stages"][0]["bake"] = bake
    (problem,) = problems(release(), body)
    assert problem.startswith(f"Runbook web: spec.stages[0].bake: {message}")
    assert message in next(runbook_problems(body))


def test_no_time_is_put_into_a_name() -> None:
    body = runbook()
    body["stages"][0]["name"] = "$(vars.bake)"
    assert "is not a name" in problems(release(), body)[0]


def test_use_in_a_release_of_its_own_is_no_provider() -> None:
    stage = {"name": "ship", "gates": [{"name": "healthy", "use": "web-health"}]}
    _, _, (problem,) = TrackedRelease.of(stored({"version": "1", "stages": [stage]})).parsed()
    assert problem.startswith('spec.stages[0].gates[0]: unknown provider "use"')


def test_checks_that_come_to_too_much_are_refused_before_they_are_put_in() -> None:
    big = {"name": "web-health", "prometheus": {"query": "x" * 200_000}, "max": "1"}
    gates = [{"name": f"g{number}", "use": "web-health"} for number in range(20)]
    stages = [{**runbook()["stages"][0], "gates": gates}]
    (problem,) = problems(release(), runbook(checks=[big], stages=stages))
    assert problem.startswith("Runbook web: spec.checks: come to 4298 KiB")


def test_a_release_and_its_runbook_have_the_size_of_one_spec() -> None:
    stages = copy.deepcopy(runbook()["stages"])
    stages[0]["gates"] += [
        {"name": f"g{number}", "prometheus": {"query": "x" * 8000}, "max": "1"}
        for number in range(18)
    ]
    body = runbook(stages=stages, description="")
    raw = release(changedPaths=["a" * 300] * 500)
    assert len(json.dumps(body)) < size.MOST_BYTES
    (problem,) = problems(raw, body)
    assert "Runbook web: spec: has " in problem and "at most 256 KiB" in problem


# --- a Runbook by itself


def test_a_runbook_is_judged_by_itself() -> None:
    assert list(runbook_problems(runbook())) == []


def test_a_check_that_nobody_uses_is_judged_too() -> None:
    body = runbook(checks=[HEALTH, {"name": "errors", "prometheus": {"query": "errors"}}])
    (problem,) = runbook_problems(body)
    assert problem.startswith("spec.checks[1]: prometheus measures a number")


def test_a_default_of_another_type_is_refused() -> None:
    body = runbook(vars=[{"name": "tag", "type": "Integer", "default": "two"}])
    assert list(runbook_problems(body)) == [
        'spec.vars[0].default: "two" is not a whole number (try 3)'
    ]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            [{"name": "tag"}, {"name": "tag", "type": "Integer"}],
            'spec.vars[1].name: "tag" is already the name of spec.vars[0]',
        ),
        (
            [{"name": "tag", "type": "Duration", "values": ["15m", "long"]}],
            'spec.vars[0].values[1]: "long" is not a duration (try 15m or 1h30m)',
        ),
    ],
)
def test_variables_that_contradict_themselves_are_refused(
    variables: list[dict[str, Any]], problem: str
) -> None:
    assert list(runbook_problems(runbook(vars=variables))) == [problem]


def test_a_check_that_others_use_uses_none() -> None:
    body = runbook(checks=[HEALTH, {"name": "other", "use": "web-health"}])
    (problem,) = runbook_problems(body)
    assert problem.startswith("spec.checks[1].use: a check that others use cannot use one")


def test_two_shared_checks_of_one_name_are_told_where_they_stand() -> None:
    (problem,) = runbook_problems(runbook(checks=[HEALTH, HEALTH]))
    assert problem.startswith(
        'spec.checks[1].name: "web-health" is already the name of spec.checks[0]'
    )


def test_an_unknown_field_of_a_runbook_is_named() -> None:
    assert "owners" in next(runbook_problems(runbook(owners="me")))


# --- what is known of Runbooks


def stored(spec: dict[str, Any], kind: str = "Release", name: str = "shop") -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name, "uid": f"{kind}-{name}", "resourceVersion": "1"}
    return {"kind": kind, "metadata": {**meta, "generation": 1}, "spec": spec}


def of_runbook(spec: dict[str, Any], generation: int = 1, name: str = "web") -> dict[str, Any]:
    body = stored(spec, "Runbook", name)
    body["metadata"]["generation"] = generation
    return body


def tracked(runbooks: Runbooks, spec: dict[str, Any] | None = None) -> TrackedRelease:
    releases = TrackedReleases(runbooks)
    releases["shop", "shop"] = TrackedRelease.of(stored(release() if spec is None else spec))
    return releases["shop", "shop"]


def test_a_runbook_that_is_not_there_is_named_and_may_come() -> None:
    runbooks = Runbooks()
    entry = tracked(runbooks)
    view = entry.view()
    assert view.spec is None and view.runbook is None
    assert view.problems == (
        "spec.runbookRef.name: there is no Runbook web in this namespace; create it, or name "
        "another one",
    )

    assert runbooks.event("ADDED", of_runbook(runbook()))
    assert entry.names_runbook("web")
    entry.forget_check()
    view = entry.view()
    assert view.problems == () and view.spec is not None and len(view.spec.stages) == 1
    assert view.runbook is not None and view.runbook.generation == 1


def test_an_edited_runbook_is_another_body_of_the_same_generation() -> None:
    runbooks = Runbooks()
    runbooks.event("ADDED", of_runbook(runbook()))
    entry = tracked(runbooks)
    before = entry.view()
    assert not runbooks.event("MODIFIED", of_runbook(runbook()))

    assert runbooks.event("MODIFIED", of_runbook(runbook(guardFor="1h"), generation=2))
    entry.forget_check()
    after = entry.view()
    assert after.generation == before.generation and after.runbook != before.runbook
    assert after.spec is not None and after.spec.guardFor == "1h"


def test_a_release_whose_models_were_dropped_is_read_again_with_its_runbook() -> None:
    runbooks = Runbooks()
    runbooks.event("ADDED", of_runbook(runbook()))
    entry = tracked(runbooks)
    assert entry.view().spec is not None
    entry.rest()
    again = entry.view()
    assert again.spec is not None and again.spec.stages[0].bake == "15m" and again.problems == ()


def test_more_runbooks_than_are_kept_are_said_to_be_too_many() -> None:
    runbooks = Runbooks()
    for number in range(MAX_PER_NAMESPACE + 1):
        runbooks.event("ADDED", of_runbook(runbook(), name=f"r{number}"))
    assert runbooks.left_out
    entry = tracked(runbooks, release(runbookRef={"name": f"r{MAX_PER_NAMESPACE}"}))
    assert "the namespace has more than 32" in entry.view().problems[0]
    assert runbooks.forget_vanished([("shop", "r1")]) and not runbooks.left_out


def test_a_runbook_that_is_too_deep_is_said_to_be() -> None:
    runbooks = Runbooks()
    deep: Any = "x"
    for _ in range(size.MOST_LEVELS + 2):
        deep = [deep]
    runbooks.event("ADDED", of_runbook(runbook(preflight=deep)))
    assert "nested more than" in tracked(runbooks).view().problems[0]
