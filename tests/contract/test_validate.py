"""What users are told about what they wrote: where it is, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gatewright.api.base import docstrings
from gatewright.api.release import ReleaseSpec
from gatewright.api.steps import STEP_KINDS
from gatewright.providers import registry
from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.context import current
from gatewright.providers.units import unit_of
from gatewright.providers.validate import connection_problems, explain_errors, spec_problems
from tests.contract import cases, world

GATE = "spec.stages[0].gates[0]"
USELESS = "there is no number to compare; add jsonPath or measure: Latency"
QUERY = {"query": "up"}


def told(raw: Mapping[str, Any]) -> list[str]:
    """Everything that is said about a spec."""
    try:
        return list(spec_problems(ReleaseSpec.model_validate(raw)))
    except ValidationError as error:
        return explain_errors(error, "spec", raw)


def release(**fields: Any) -> dict[str, Any]:
    """A spec in order, with some fields of one's own."""
    return {
        "version": "2.4.0",
        "stages": [{"name": "a", "steps": [{"name": "x", "wait": "1s"}]}],
        **fields,
    }


def gated(check: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A spec with one gate."""
    return release(stages=[{"name": "a", "gates": [{"name": "g", **check}]}], **fields)


ALL = ", ".join(sorted([*registry.GATES, "approval", "job"]))
KNOWN = f"(known: {ALL}"
TARGETS = ", ".join(sorted([*registry.TARGETS, *registry.EXTERNAL_TARGETS]))
CONNECTED = ", ".join(sorted(registry.CONNECTIONS))
CHECKS: list[tuple[dict[str, Any], list[str]]] = [
    # providers
    ({"prometheus": QUERY, "max": "1%"}, []),
    ({"http": {"path": "/"}}, []),
    ({"sql": {"query": "select true"}}, []),
    ({"job": {"image": "k6"}}, []),
    ({"approval": {"count": 2}}, []),
    ({}, [f"{GATE}: has no provider; it needs exactly one of {ALL}"]),
    (
        {"promethus": QUERY},
        [f'{GATE}: unknown provider "promethus" {KNOWN}; did you mean prometheus?)'],
    ),
    ({"prom": QUERY}, [f'{GATE}: unknown provider "prom" {KNOWN}; did you mean prometheus?)']),
    ({"nosuch": QUERY}, [f'{GATE}: unknown provider "nosuch" {KNOWN})']),
    (
        {"prometheus": QUERY, "http": {"path": "/"}, "max": "1"},
        [f"{GATE}: has 2 providers (http, prometheus); keep exactly one"],
    ),
    (
        {"prometheus": QUERY, "max": "1", "fro": "5m"},
        [f'{GATE}: unknown field "fro" (did you mean for?)'],
    ),
    (
        {"failureTreshold": 3},
        [f'{GATE}: unknown field "failureTreshold" (did you mean failureThreshold?)'],
    ),
    # limits
    (
        {"prometheus": QUERY, "max": "1 percent"},
        [f'{GATE}.max: "1 percent" is not a quantity (try 1%)'],
    ),
    (
        {"prometheus": QUERY, "max": "100 ms"},
        [f'{GATE}.max: "100 ms" is not a quantity (try 100ms)'],
    ),
    (
        {"prometheus": QUERY, "max": "a lot"},
        [f'{GATE}.max: "a lot" is not a quantity (try 1%, 100ms, 2s or 80)'],
    ),
    (
        {"prometheus": QUERY, "max": 0.01},
        [f'{GATE}.max: 0.01 is not text; write it in quotes: "0.01"'],
    ),
    ({"prometheus": QUERY, "max": 0}, [f'{GATE}.max: 0 is not text; write it in quotes: "0"']),
    (
        {"prometheus": QUERY, "max": "1", "for": "5 minutes"},
        [f'{GATE}.for: "5 minutes" is not a duration (try 5m)'],
    ),
    (
        {"prometheus": QUERY, "max": "1", "for": "5%"},
        [f'{GATE}.for: "5%" is not a duration (try 30s, 15m or 1h30m)'],
    ),
    (
        {"prometheus": QUERY, "max": "1", "failureThreshold": 0},
        [f"{GATE}.failureThreshold: 0 is too small (at least 1)"],
    ),
    (
        {"prometheus": QUERY, "max": "1", "onNoData": "pass"},
        [f"{GATE}.onNoData: \"pass\" is not one of 'Hold' or 'Fail'"],
    ),
    (
        {"prometheus": QUERY},
        [f"{GATE}: prometheus measures a number: add max or min (max: 1%)"],
    ),
    (
        {"prometheus": QUERY, "max": "1", "min": "2"},
        [f"{GATE}: min 2 is above max 1; no value could pass"],
    ),
    ({"prometheus": QUERY, "max": "1s", "min": "100ms"}, []),
    (
        {"job": {"image": "k6"}, "max": "1"},
        [f"{GATE}.max: means nothing beside job, which is not measured"],
    ),
    (
        {"approval": {}, "for": "5m"},
        [f"{GATE}.for: means nothing beside approval, which is not measured"],
    ),
    # prometheus
    ({"prometheus": {"query": ""}, "max": "1"}, [f"{GATE}.prometheus.query: is empty"]),
    (
        {"prometheus": {"query": " \n"}, "max": "1"},
        [f"{GATE}.prometheus.query: is empty; write a query"],
    ),
    (
        {"prometheus": {"query": "x" * 9000}, "max": "1"},
        [f"{GATE}.prometheus.query: is longer than 8192 characters"],
    ),
    (
        {"prometheus": {"query": 1}, "max": "1"},
        [f'{GATE}.prometheus.query: 1 is not text; write it in quotes: "1"'],
    ),
    (
        {"prometheus": {"query": None}, "max": "1"},
        [f"{GATE}.prometheus.query: is empty; it must be text"],
    ),
    (
        {"prometheus": "up", "max": "1"},
        [f"{GATE}.prometheus: is plain text; it must be an object with connection, query"],
    ),
    ({"prometheus": None, "max": "1"}, [f"{GATE}.prometheus: is empty; it must be an object"]),
    (
        {"prometheus": {"query": "up", "conection": "x"}, "max": "1"},
        [f'{GATE}.prometheus: unknown field "conection" (did you mean connection?)'],
    ),
    (
        {"prometheus": {"query": "up", "connection": "A B"}, "max": "1"},
        [
            (
                f'{GATE}.prometheus.connection: "A B" is not a name (lower case, '
                "digits and -; try bug-fixes)"
            )
        ],
    ),
    # sql
    (
        {"sql": {"query": "select 1", "parameters": [1]}},
        [f'{GATE}.sql.parameters[0]: 1 is not text; write it in quotes: "1"'],
    ),
    (
        {"sql": {"query": "select 1", "parameters": "x"}},
        [f'{GATE}.sql.parameters: "x" is not a list'],
    ),
    (
        {"sql": {"query": "select 1", "parameters": ["x"] * 21}},
        [f"{GATE}.sql.parameters: has 21 items; at most 20 are allowed"],
    ),
    # http
    (
        {"http": {"path": "health"}},
        [f'{GATE}.http.path: "health" is not a path below the Connection\'s URL (try /health)'],
    ),
    (
        {"http": {"path": "/a/../b"}},
        [f'{GATE}.http.path: "/a/../b" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/..;/admin"}},
        [f'{GATE}.http.path: "/..;/admin" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/a/..;v=1/b"}},
        [f'{GATE}.http.path: "/a/..;v=1/b" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/%2e%2e;a=b/x"}},
        [f'{GATE}.http.path: "/%2e%2e;a=b/x" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/..%3b/x"}},
        [f'{GATE}.http.path: "/..%3b/x" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/%252e%252e/x"}},
        [f'{GATE}.http.path: "/%252e%252e/x" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/a%5c..%5cb"}},
        [f'{GATE}.http.path: "/a%5c..%5cb" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/..%20/x"}},
        [f'{GATE}.http.path: "/..%20/x" climbs by ".."; write the path in full'],
    ),
    (
        {"http": {"path": "/..%00/x"}},
        [
            (
                f'{GATE}.http.path: "/..%00/x" hides characters behind escapes; write each of '
                "them as it is, or once as %XX"
            )
        ],
    ),
    (
        {"http": {"path": "/%25252525252e/x"}},
        [
            (
                f'{GATE}.http.path: "/%25252525252e/x" hides characters behind escapes; write '
                "each of them as it is, or once as %XX"
            )
        ],
    ),
    (
        {"http": {"path": "/", "method": "get"}},
        [f"{GATE}.http.method: \"get\" is not one of 'GET' or 'HEAD' (did you mean GET?)"],
    ),
    (
        {"http": {"path": "/", "status": [600]}},
        [f"{GATE}.http.status[0]: 600 is too large (at most 599)"],
    ),
    (
        {"http": {"path": "/", "status": ["ok"]}},
        [f'{GATE}.http.status[0]: "ok" is not a whole number'],
    ),
    (
        {"http": {"path": "/", "status": []}},
        [f"{GATE}.http.status: is empty; it needs at least one item"],
    ),
    (
        {"http": {"path": "/", "equals": "ok"}},
        [f"{GATE}.http: equals needs jsonPath, which says what must be equal"],
    ),
    (
        {"http": {"path": "/", "jsonPath": "{.a}", "equals": "1"}},
        [f'{GATE}.http.jsonPath: "{{.a}}" is not a JSONPath (try $.a)'],
    ),
    (
        {"http": {"path": "/", "jsonPath": "status", "equals": "1"}},
        [f'{GATE}.http.jsonPath: "status" is not a JSONPath (try $.status)'],
    ),
    ({"http": {"path": "/"}, "max": "1s"}, [f"{GATE}.max: {USELESS}"]),
    (
        {"http": {"path": "/", "jsonPath": "$.a", "equals": "1"}, "min": "1"},
        [f"{GATE}.min: {USELESS}"],
    ),
    ({"http": {"path": "/", "jsonPath": "$.a"}, "min": "1"}, []),
    ({"http": {"path": "/", "jsonPath": "$.a"}}, []),
    ({"http": {"path": "/", "measure": "Latency"}, "max": "1s"}, []),
    (
        {"http": {"path": "/", "measure": "Latency"}},
        [f"{GATE}: http measures a number: add max or min (max: 1%)"],
    ),
    # job and approval, which core handles
    ({"job": {"imag": "k6"}}, [f'{GATE}.job: unknown field "imag" (did you mean image?)']),
    ({"job": {}}, [f"{GATE}.job: needs exactly one of image, fromCronJob, template; has none"]),
    ({"approval": {"count": 0}}, [f"{GATE}.approval.count: 0 is too small (at least 1)"]),
]


@pytest.mark.parametrize("check, sentences", CHECKS, ids=[str(check)[:70] for check, _ in CHECKS])
def test_checks(check: dict[str, Any], sentences: list[str]) -> None:
    assert told(gated(check)) == sentences


YES = {"name": "yes", "approval": {"groups": ["on-call"]}}
FLUSH = {"name": "flush", "upstash": {"flush": {"prefix": "a:"}}}
UNAPPROVED = (
    "upstash: there is no way back from it, so somebody has to approve it; put an "
    "approval step before it"
)
SPECS: list[tuple[dict[str, Any], list[str]]] = [
    ({"stges": []}, ['spec: unknown field "stges" (did you mean stages?)']),
    ({"version": 2}, ['spec.version: 2 is not text; write it in quotes: "2"']),
    (
        {"version": ".x"},
        ['spec.version: ".x" is not a version (letters, digits and . _ + -, as in 2.4.0)'],
    ),
    ({"suspend": "perhaps"}, ['spec.suspend: "perhaps" is not true or false']),
    ({"mode": "Dry"}, ["spec.mode: \"Dry\" is not one of 'Enforce' or 'Observe'"]),
    ({"stages": []}, ["spec.stages: is empty; it needs at least one item"]),
    ({"stages": {}}, ["spec.stages: is an object; it must be a list"]),
    (
        {"stages": [{"name": f"s{index}"} for index in range(21)]},
        ["spec.stages: has 21 items; at most 20 are allowed"],
    ),
    ({"stages": [{"steps": []}]}, ["spec.stages[0].name: is missing (Unique within the Release)"]),
    (
        {"stages": [{"name": "a", "bake": "15 minutes"}]},
        ['spec.stages[0].bake: "15 minutes" is not a duration (try 15m)'],
    ),
    (
        {"stages": [{"name": "a", "onFailure": "rollback"}]},
        [
            (
                "spec.stages[0].onFailure: \"rollback\" is not one of 'Rollback', 'Pause' or "
                "'Continue' (did you mean Rollback?)"
            )
        ],
    ),
    (
        {"stages": [{"name": "a", "steps": [{"name": "x"}]}]},
        [
            (
                f"spec.stages[0].steps[0]: needs exactly one of {', '.join(STEP_KINDS)} or a "
                "provider; has none"
            )
        ],
    ),
    (
        {"stages": [{"name": "a", "steps": [{"name": "x", "deploy": {"target": ["web"]}}]}]},
        [
            (
                "spec.stages[0].steps[0].deploy.targets: is missing (Names of targets, all "
                "changed at once)"
            ),
            'spec.stages[0].steps[0].deploy: unknown field "target" (did you mean targets?)',
        ],
    ),
    (
        {
            "stages": [
                {
                    "name": "a",
                    "steps": [{"name": "x", "job": {"image": "x", "env": [{"nam": "A"}]}}],
                }
            ]
        },
        [
            "spec.stages[0].steps[0].job.env[0].name: is missing (Name of the variable)",
            'spec.stages[0].steps[0].job.env[0]: unknown field "nam" (did you mean name?)',
        ],
    ),
    (
        {"targets": [{"name": "web"}]},
        [f"spec.targets[0]: has no provider; it needs exactly one of {TARGETS}"],
    ),
    (
        {"targets": [{"name": "web", "wrkload": {}}]},
        [f'spec.targets[0]: unknown provider "wrkload" (known: {TARGETS}; did you mean workload?)'],
    ),
    (
        {
            "targets": [
                {
                    "name": "web",
                    "workload": {"name": "web", "images": {"app": "web:$(version)"}, "replicas": 2},
                }
            ]
        },
        ['spec.targets[0].workload: unknown field "replicas"'],
    ),
    (
        {
            "targets": [
                {"name": "web", "workload": {"name": "web", "images": {"app": "web:$(version)"}}}
            ]
        },
        [],
    ),
    ({"stages": [{"name": "a", "steps": [YES, FLUSH]}]}, []),
    ({"stages": [{"name": "a", "steps": [YES, {"name": "w", "wait": "1m"}, FLUSH]}]}, []),
    ({"stages": [{"name": "a", "steps": [FLUSH]}]}, [f"spec.stages[0].steps[0].{UNAPPROVED}"]),
    ({"stages": [{"name": "a", "steps": [FLUSH, YES]}]}, [f"spec.stages[0].steps[0].{UNAPPROVED}"]),
    (
        {"stages": [{"name": "a", "steps": [YES]}, {"name": "b", "steps": [FLUSH]}]},
        [f"spec.stages[1].steps[0].{UNAPPROVED}"],
    ),
    (
        {"stages": [{"name": "a", "steps": [YES], "rollback": {"steps": [FLUSH]}}]},
        [f"spec.stages[0].rollback.steps[0].{UNAPPROVED}"],
    ),
]


@pytest.mark.parametrize("fields, sentences", SPECS, ids=[str(fields)[:70] for fields, _ in SPECS])
def test_specs(fields: dict[str, Any], sentences: list[str]) -> None:
    assert told(release(**fields)) == sentences


@pytest.mark.parametrize(
    "place, fields",
    [
        ("spec.preflight[0]", {"preflight": [{"name": "g", "nosuch": {}}]}),
        ("spec.guards[0]", {"guards": [{"name": "g", "nosuch": {}}]}),
        ("spec.rollback.verify[0]", {"rollback": {"verify": [{"name": "g", "nosuch": {}}]}}),
        ("spec.stages[1].gates[2]", None),
    ],
)
def test_every_place_is_looked_at(place: str, fields: dict[str, Any] | None) -> None:
    good = {"name": "h", "http": {"path": "/"}}
    gates = [good, good, {"name": "g", "nosuch": {}}]
    stages = [{"name": "a", "gates": [good]}, {"name": "b", "gates": gates}]
    assert told(release(**(fields or {"stages": stages}))) == [
        f'{place}: unknown provider "nosuch" {KNOWN})'
    ]


def test_everything_is_said_at_once() -> None:
    checks = [
        {"name": "a", "nosuch": {}},
        {"name": "b", "prometheus": {"query": " "}, "max": "1"},
        {"name": "c"},
    ]
    assert len(told(release(guards=checks, targets=[{"name": "web"}]))) == 4


# --- what has no effect, and limits that cannot be compared

STEP = "spec.stages[0].steps[0]"
UNTIMED = "timeout is for a provider's action; deploy, flags and job have their own"
OWN = {
    "deploy": {"targets": ["web"]},
    "job": {"image": "x"},
    "flags": {"configMap": "f", "set": {"a": "b"}},
}
WEB = {"name": "web", "workload": {"name": "web", "images": {"app": "web:$(version)"}}}


def stepped(step: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A spec with one step."""
    return release(
        stages=[{"name": "a", "steps": [{"name": "x", **step}]}], targets=[WEB], **fields
    )


@pytest.mark.parametrize("timeout", ["20s", "10m"], ids=["its own", "as long as the default"])
@pytest.mark.parametrize(
    "step",
    [
        *({kind: config} for kind, config in OWN.items()),
        {"wait": "1s"},
        {"confirm": {"instructions": "do it"}},
        {"approval": {}},
    ],
    ids=lambda step: next(iter(step)),
)
def test_a_time_that_nobody_keeps_is_refused(step: dict[str, Any], timeout: str) -> None:
    assert told(stepped({**step, "timeout": timeout})) == [f"{STEP}: {UNTIMED}"]
    assert told(stepped(step)) == []


def test_a_provider_s_action_and_a_compensation_have_a_time_of_their_own() -> None:
    mark = {"sentry": {"release": {"version": "1", "projects": ["web"]}}}
    assert told(stepped({**mark, "timeout": "20s"})) == []
    stages = [
        {
            "name": "a",
            "gates": [],
            "steps": [{"name": "x", "wait": "1s"}],
            "rollback": {
                "steps": [
                    {"name": "y", **mark, "timeout": "20s"},
                    {"name": "z", "job": {"image": "x"}, "timeout": "20s"},
                ]
            },
        }
    ]
    assert told(release(stages=stages)) == [f"spec.stages[0].rollback.steps[1]: {UNTIMED}"]


def test_what_was_left_out_does_not_look_as_if_it_were_given() -> None:
    raw = stepped({"job": {"image": "x"}}, guards=[{"name": "g", "http": {"path": "/"}}])
    raw["stages"][0]["gates"] = [{"name": "j", "job": {"image": "x"}}]
    spec = ReleaseSpec.model_validate(raw)
    again = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    assert [*spec_problems(spec), *spec_problems(ReleaseSpec.model_validate(again))] == []


LATENCY = {"http": {"path": "/", "measure": "Latency"}}
SENTRY = {"release": "a@1"}
PROJECT = {"project": "shop"}
LIMITS: list[tuple[dict[str, Any], str, list[str]]] = [
    (LATENCY, "500", ['"500" needs a unit (try 500ms or 2s)']),
    (LATENCY, "0", ['"0" needs a unit (try 500ms or 2s)']),
    (LATENCY, "1%", ['"1%" is a ratio, and a time is measured (try 500ms or 2s)']),
    (LATENCY, "500ms", []),
    ({"sentry": {**SENTRY, "p95": {}}}, "2", ['"2" needs a unit (try 500ms or 2s)']),
    ({"vercel": {**PROJECT, "duration": {}}}, "2", ['"2" needs a unit (try 500ms or 2s)']),
    ({"vercel": {**PROJECT, "lcp": {}}}, "2500", ['"2500" needs a unit (try 500ms or 2s)']),
    (
        {"vercel": {**PROJECT, "errorRatio": {}}},
        "100ms",
        ['"100ms" is a time, and a ratio is measured (try 1%)'],
    ),
    (
        {"vercel": {**PROJECT, "errorRatio": {}}},
        "5",
        ['"5" is more than all there is, and a ratio is measured (try 5%)'],
    ),
    (
        {"vercel": {**PROJECT, "errorRatio": {}}},
        "150%",
        ['"150%" is more than all there is, and a ratio is measured (try 100% or less)'],
    ),
    ({"vercel": {**PROJECT, "errorRatio": {}}}, "0.01", []),
    (
        {"sentry": {**SENTRY, "failureRatio": {}}},
        "1s",
        ['"1s" is a time, and a ratio is measured (try 1%)'],
    ),
    (
        {"sentry": {**SENTRY, "errors": {}}},
        "1%",
        ['"1%" is a ratio, and a number is measured (try 0 or 10)'],
    ),
    (
        {"sentry": {**SENTRY, "newIssues": {}}},
        "1m",
        ['"1m" is a time, and a number is measured (try 0 or 10)'],
    ),
    (
        {"redis": {"memory": {}}},
        "80",
        ['"80" is more than all there is, and a ratio is measured (try 80%)'],
    ),
    ({"upstash": {"hitRatio": {}}}, "1s", ['"1s" is a time, and a ratio is measured (try 1%)']),
    (
        {"sql": {"connections": {}}},
        "80",
        ['"80" is more than all there is, and a ratio is measured (try 80%)'],
    ),
    ({"sql": {"connections": {}}}, "80%", []),
    ({"sql": {"rls": {}}}, "1%", ['"1%" is a ratio, and a number is measured (try 0 or 10)']),
    ({"sql": {"blocked": {}}}, "0s", ['"0s" is a time, and a number is measured (try 0 or 10)']),
    ({"sql": {"query": "select now() - now()"}}, "1s", []),
    (
        {"github": {"repository": "a/b", "openIssues": {"labels": ["P0"]}}},
        "0s",
        ['"0s" is a time, and a number is measured (try 0 or 10)'],
    ),
    (
        {"supabase": {"project": "a" * 20, "advisors": {}}},
        "1%",
        ['"1%" is a ratio, and a number is measured (try 0 or 10)'],
    ),
    ({"prometheus": QUERY}, "1s", []),
    ({"prometheus": QUERY}, "80", []),
    ({"http": {"path": "/", "jsonPath": "$.a"}}, "1s", []),
    (
        {"http": {"path": "$(steps.a.outputs.path)", "measure": "Latency"}},
        "500",
        ['"500" needs a unit (try 500ms or 2s)'],
    ),
]


@pytest.mark.parametrize(
    "check, limit, sentences", LIMITS, ids=[f"{check} {limit}"[:70] for check, limit, _ in LIMITS]
)
def test_limits_fit_what_is_measured(
    check: dict[str, Any], limit: str, sentences: list[str]
) -> None:
    for name in ("max", "min"):
        assert told(gated({**check, name: limit})) == [
            f"{GATE}.{name}: {words}" for words in sentences
        ]


@pytest.mark.parametrize(
    "check",
    [
        {"openai": {}},
        {"ofrep": {"flag": "a", "users": ["b"]}},
        {"unleash": {"environment": "production", "flag": "a"}},
        {"launchdarkly": {"project": "p", "environment": "production", "flag": "a"}},
        {"vercel": {**PROJECT, "env": ["A"]}},
        {"github": {"repository": "a/b", "commit": "c", "checks": ["lint"]}},
        {"supabase": {"project": "a" * 20, "health": {}}},
        {"http": {"path": "$(steps.a.outputs.path)"}},
    ],
    ids=str,
)
def test_a_check_that_measures_nothing_is_not_compared(check: dict[str, Any]) -> None:
    (found,) = told(gated({**check, "max": "1%"}))
    assert found.startswith(f"{GATE}.max: there is no number to compare")


def test_every_gate_says_what_it_measures() -> None:
    for key, gate in registry.GATES.items():
        config = gate.config.model_validate(cases.GATES[key].config)
        unit, wanted = unit_of(gate, config), getattr(config, "limits", gate.limits)
        assert callable(getattr(gate, "unit", None)), f"give {type(gate).__name__} a `unit()`"
        assert (unit == "boolean") == (wanted == "useless"), (
            f"`{key}`: let `limits` of the configuration be `useless` where `unit()` is `boolean`, "
            f"and only there; they are {wanted} and {unit}"
        )


@pytest.mark.parametrize(
    "name",
    ["interval", "for", "onNoData", "onError", "holdFor", "onHoldExpired", "failureThreshold"],
)
@pytest.mark.parametrize("kind", ["job", "approval", "confirm"])
def test_nothing_is_said_of_measuring_what_is_not_measured(kind: str, name: str) -> None:
    value: Any = {
        "onNoData": "Hold",
        "onError": "Fail",
        "onHoldExpired": "Pause",
        "failureThreshold": 2,
    }.get(name, "10s")
    check = {
        "name": "g",
        {"job": "job", "approval": "approval"}.get(kind, "confirm"): {},
        name: value,
    }
    check |= {"job": {"image": "x"}} if kind == "job" else {}
    place = "preflight"
    if kind == "confirm":
        place, check = "followUps", check | {"confirm": {"instructions": "do it"}, "within": "1h"}
    expected = f"spec.{place}[0].{name}: means nothing beside {kind}, which is not measured"
    assert told(release(**{place: [check]})) == [expected]


JOBS = {
    "command": ["a"],
    "args": ["a"],
    "env": [{"name": "A", "value": "b"}],
    "serviceAccountName": "a",
    "envFrom": [{"secretRef": {"name": "a"}}],
    "resources": {"limits": {"cpu": "1"}},
}


@pytest.mark.parametrize("field", JOBS)
@pytest.mark.parametrize(
    "owner", [{"fromCronJob": "nightly"}, {"template": {"spec": {}}}], ids=["CronJob", "template"]
)
def test_a_job_that_lives_elsewhere_takes_nothing_of_the_short_form(
    owner: dict[str, Any], field: str
) -> None:
    (key,) = owner
    words = f"{field}: has no effect beside {key}, which says all of it; put it there"
    job = {**owner, field: JOBS[field]}
    assert told(stepped({"job": job})) == [f"{STEP}.job.{words}"]
    assert told(gated({"job": job})) == [f"{GATE}.job.{words}"]
    assert told(stepped({"job": {**owner, "retries": 2, "timeout": "5m"}})) == []


OTHERS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {
            "targets": [
                {
                    "name": "db",
                    "workload": {**WEB["workload"], "kind": "StatefulSet", "drainTimeout": "5s"},
                }
            ]
        },
        [
            "spec.targets[0].workload.drainTimeout: has no effect on a StatefulSet: its "
            "pods end before new ones are made; "
            "leave it out"
        ],
    ),
    ({"targets": [{"name": "db", "workload": {**WEB["workload"], "drainTimeout": "5s"}}]}, []),
    ({"targets": [{"name": "db", "workload": {**WEB["workload"], "kind": "StatefulSet"}}]}, []),
    (
        {
            "notify": [
                {"events": ["Started"], "slack": {"channel": "#a"}, "after": "1m", "health": ["up"]}
            ],
            "guards": [{"name": "up", "http": {"path": "/"}}],
        },
        [
            "spec.notify[0].after: has no effect without Downtime; add it to events",
            "spec.notify[0].health: has no effect without Downtime; add it to events",
        ],
    ),
    (
        {
            "notify": [
                {
                    "events": ["Downtime"],
                    "slack": {"channel": "#a"},
                    "after": "1m",
                    "health": ["up"],
                }
            ],
            "guards": [{"name": "up", "http": {"path": "/"}}],
        },
        [],
    ),
    (
        {
            "notify": [{"events": ["Downtime"], "slack": {"channel": "#a"}, "health": ["heatlh"]}],
            "guards": [{"name": "health", "http": {"path": "/"}}],
        },
        [
            (
                'spec.notify[0].health[0]: "heatlh" is no guard, gate or verification (did you '
                "mean health?)"
            )
        ],
    ),
    (
        {
            "preflight": [
                {
                    "name": "g",
                    "github": {
                        "repository": "a/b",
                        "openIssues": {"labels": ["P0"]},
                        "accept": ["skipped"],
                    },
                    "max": "0",
                }
            ]
        },
        ["spec.preflight[0].github: accept belongs to checks: issues have no conclusion"],
    ),
    (
        {
            "guards": [
                {
                    "name": "g",
                    "vercel": {"project": "p", "errorRatio": {}, "target": "preview"},
                    "max": "1%",
                }
            ]
        },
        ["spec.guards[0].vercel: target belongs to env: everything else is measured in production"],
    ),
    (
        {"guards": [{"name": "g", "http": {"path": "/", "connection": "$(steps.x.outputs.y)"}}]},
        [
            "spec.guards[0].http.connection: $(steps.x.outputs.y) is not known when a run "
            "finds its Connections, before its "
            "first change; use a variable"
        ],
    ),
]


@pytest.mark.parametrize(
    "fields, sentences", OTHERS, ids=[str(fields)[:70] for fields, _ in OTHERS]
)
def test_what_has_no_effect_is_refused(fields: dict[str, Any], sentences: list[str]) -> None:
    assert told(release(**fields)) == sentences


# --- references


REFERENCES: list[tuple[dict[str, Any], list[str]]] = [
    ({"http": {"path": "/api/$(version)/health"}}, []),
    ({"http": {"path": "$(vars.path)"}}, []),
    (
        {"http": {"path": "$(vars.wrong)"}},
        ["is not a path below the Connection's URL (try /health)"],
    ),
    ({"http": {"path": "$(steps.migrate.outputs.path)"}}, []),
    ({"http": {"path": "/$(stage)", "jsonPath": "$.v", "equals": "$(version)"}}, []),
    (
        {"sql": {"query": "select $(vars.key)"}},
        [".sql.query: may hold no $(...), which would be read as SQL; write $1 in its place"],
    ),
    ({"sql": {"query": "select $(steps.a.outputs.id)"}}, ["put it into `parameters`"]),
    ({"sql": {"query": "select $(nothing.of.this)"}}, ["put it into `parameters`"]),
    ({"sql": {"query": "select $$(vars.key)"}}, ["put it into `parameters`"]),
    ({"sql": {"query": "select $x$(a)$x$ = '$( b'"}}, ["put it into `parameters`"]),
    (
        {
            "sql": {"query": "select $1 + count(*) from a", "parameters": ["$(vars.key)"]},
            "max": "1",
        },
        [],
    ),
    (
        {
            "supabase": {
                "project": "abcdefghijklmnopqrst",
                "query": {"sql": "select '$(version)' = $1"},
            }
        },
        [".query.sql: may hold no $(...)"],
    ),
    (
        {
            "supabase": {
                "project": "abcdefghijklmnopqrst",
                "query": {"sql": "select $1", "parameters": ["$(version)"]},
            }
        },
        [],
    ),
    ({"http": {"path": "/", "jsonPath": "$.$(vars.key)", "equals": "1"}}, []),
    (
        {"http": {"path": "/", "jsonPath": "$.$(vars.bad)", "equals": "1"}},
        ['"$.a[" is not a JSONPath'],
    ),
    ({"prometheus": {"query": "sum(up{version='$(version)'})"}, "max": "1"}, []),
    ({"prometheus": {"query": "$(vars.empty)"}, "max": "1"}, [".prometheus.query: is empty"]),
    (
        {
            "sql": {
                "query": "select $1 = $2",
                "parameters": ["$(lastGood.version)", "$(steps.a.outputs.id)"],
            }
        },
        [],
    ),
    ({"http": {"path": "$(steps.a.outputs.path)", "status": [1]}}, ["status[0]: 1 is too small"]),
    ({"http": {"path": "$$(notaname)"}}, ["is not a path"]),
]


@pytest.mark.parametrize(
    "check, words", REFERENCES, ids=[str(check)[:70] for check, _ in REFERENCES]
)
def test_references(check: dict[str, Any], words: list[str]) -> None:
    names = {"path": "/health", "wrong": "health", "key": "a", "bad": "a[", "empty": ""}
    found = told(gated(check, vars=names))
    assert len(found) == len(words), found
    assert all(word in sentence for word, sentence in zip(words, found, strict=True)), found


# --- Connections


SECRET = {"secretRef": {"name": "access", "key": "token"}}
CONNECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"prometheus": {"url": "http://prometheus.monitoring.svc:9090"}}, []),
    (
        {
            "http": {"url": "https://foco.mx", "bearerToken": SECRET, "headers": {"X-Key": SECRET}},
            "timeout": "2s",
        },
        [],
    ),
    ({"postgres": {"url": SECRET}}, []),
    ({}, [f"spec: has no provider; it needs exactly one of {CONNECTED}"]),
    (
        {"prom": {}},
        [f'spec: unknown provider "prom" (known: {CONNECTED}; did you mean prometheus?)'],
    ),
    (
        {"http": {"url": "http://a"}, "prometheus": {"url": "http://b"}},
        ["spec: has 2 providers (http, prometheus); keep exactly one"],
    ),
    (
        {"http": {"url": "http://a"}, "timout": "5s"},
        ['spec: unknown field "timout" (did you mean timeout?)'],
    ),
    (
        {"http": {"url": "http://a"}, "timeout": "5 s"},
        ['spec.timeout: "5 s" is not a duration (try 5s)'],
    ),
    (
        {"http": {}},
        [
            (
                "spec.http.url: is missing (Base URL without credentials; paths of checks are "
                "appended to it)"
            )
        ],
    ),
    (
        {"http": {"url": "http://169.254.169.254/"}},
        [
            "spec.http.url: 169.254.169.254 is link-local, which Connections may not reach "
            "(the operator's setting --allow-address may except it)"
        ],
    ),
    (
        {"http": {"url": "http://a?b=c"}},
        [
            (
                "spec.http.url: the URL is a base: put queries into the paths of checks, "
                "secrets into headers"
            )
        ],
    ),
    (
        {"http": {"url": f"http://user:{world.TOKEN}@a"}},
        [
            'spec.http.url: "http://***@a" is not an http(s) URL without credentials '
            "(try http://prometheus.monitoring.svc:9090)"
        ],
    ),
    (
        {"http": {"url": "http://a", "bearerToken": world.TOKEN}},
        ["spec.http.bearerToken: is plain text; it must be an object with secretRef"],
    ),
    (
        {"postgres": {"url": f"postgresql://u:{world.PASSWORD_QUOTED}@h/d"}},
        ["spec.postgres.url: is plain text; it must be an object with secretRef"],
    ),
    (
        {"http": {"url": "http://a", "bearerToken": {"secretRef": world.TOKEN}}},
        ["spec.http.bearerToken.secretRef: is plain text; it must be an object with key, name"],
    ),
    (
        {"http": {"url": "http://a", "bearerToken": {"secretKeyRef": {}}}},
        [
            (
                "spec.http.bearerToken.secretRef: is missing (The Secret and the key that hold "
                "the value)"
            ),
            'spec.http.bearerToken: unknown field "secretKeyRef" (did you mean secretRef?)',
        ],
    ),
]


@pytest.mark.parametrize(
    "spec, sentences", CONNECTIONS, ids=[str(spec)[:60] for spec, _ in CONNECTIONS]
)
def test_connections(spec: dict[str, Any], sentences: list[str]) -> None:
    current().rules = AddressRules()
    found = connection_problems(spec)
    assert found == sentences
    world.assert_silent(*found)


# --- the registry


def test_the_registry_is_whole() -> None:
    assert {"prometheus", "http", "sql"} < set(registry.GATES)
    for table in (registry.EXTERNAL_TARGETS, registry.FLAGS, registry.ACTIONS, registry.NOTIFIERS):
        for key, provider in table.items():
            _assert_goes_through_a_connection(key, provider)
    for key, gate in registry.GATES.items():
        _assert_goes_through_a_connection(key, gate)
        _assert_described(key, gate.config)
    flushes = {
        key for key, action in registry.ACTIONS.items() if "flush" in action.config.model_fields
    }
    assert flushes, "no action has a field `flush`: this test looks for nothing"
    assert flushes <= registry.NEEDS_APPROVAL, (
        f"add {sorted(flushes - registry.NEEDS_APPROVAL)} to NEEDS_APPROVAL in "
        "providers/registry.py: what is flushed does not come back"
    )
    assert registry.ACTIONS.keys() >= registry.NEEDS_APPROVAL, (
        f"take {sorted(registry.NEEDS_APPROVAL - registry.ACTIONS.keys())} out of NEEDS_APPROVAL "
        "in providers/registry.py: there is no such action"
    )
    for key, connector in registry.CONNECTIONS.items():
        _assert_described(key, connector.config)


def _assert_goes_through_a_connection(key: str, provider: Any) -> None:
    made_by, model = type(provider).__name__, provider.config.__name__
    assert provider.connection in registry.CONNECTIONS, (
        f"add `{provider.connection}` to CONNECTIONS in providers/registry.py: "
        f"{made_by} (`{key}`) goes through it"
    )
    assert "connection" in provider.config.model_fields, (
        f"give {model} (`{key}`) the field `connection`, "
        "else the policy does not ask its author for `use`"
    )


def _assert_described(key: str, config: type[BaseModel]) -> None:
    silent = sorted(config.model_fields.keys() - docstrings(config).keys())
    assert not silent, (
        f"write a docstring below {', '.join(silent)} of {config.__name__} (`{key}`): "
        "the CRD and the reference take their text from it"
    )
