"""Every place of a Release that goes through a Connection is found, with its path."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.providers import registry
from gatewright.providers.connections_used import ConnectionUse, connections_used
from tests.contract import cases

WAIT = {"name": "wait", "wait": "1s"}
HTTP = {"name": "h", "http": {"path": "/"}}


def used(**fields: Any) -> list[tuple[str, str, str | None]]:
    raw = {
        "version": "2.0",
        "vars": {"conn": "main"},
        "stages": [{"name": "a", "steps": [WAIT]}],
        **fields,
    }
    body = pin_spec(ReleaseSpec.model_validate(raw), 1, None)
    return [(use.path, use.kind, use.name) for use in connections_used(body)]


@pytest.mark.parametrize(
    ("fields", "path", "kind"),
    [
        (
            {"targets": [{"name": "s", "vercel": {"project": "p"}}]},
            "spec.targets[0].vercel",
            "vercel",
        ),
        ({"preflight": [HTTP]}, "spec.preflight[0].http", "http"),
        ({"guards": [HTTP]}, "spec.guards[0].http", "http"),
        ({"rollback": {"verify": [HTTP]}}, "spec.rollback.verify[0].http", "http"),
        ({"followUps": [{**HTTP, "within": "1h"}]}, "spec.followUps[0].http", "http"),
        (
            {"notify": [{"events": ["Started"], "slack": {"channel": "#a"}}]},
            "spec.notify[0].slack",
            "slack",
        ),
        (
            {"stages": [{"name": "a", "steps": [WAIT]}, {"name": "b", "gates": [HTTP]}]},
            "spec.stages[1].gates[0].http",
            "http",
        ),
        (
            {"stages": [{"name": "a", "gates": [{"name": "q", "sql": {"query": "select 1"}}]}]},
            "spec.stages[0].gates[0].sql",
            "postgres",
        ),
        (
            {
                "stages": [
                    {
                        "name": "a",
                        "steps": [{"name": "x", "wait": "1s"}, {"name": "s", "sentry": {}}],
                    }
                ]
            },
            "spec.stages[0].steps[1].sentry",
            "sentry",
        ),
        (
            {"stages": [{"name": "a", "steps": [{"name": "f", "flags": {"unleash": {}}}]}]},
            "spec.stages[0].steps[0].flags.unleash",
            "unleash",
        ),
        (
            {
                "stages": [
                    {
                        "name": "a",
                        "steps": [WAIT],
                        "rollback": {"steps": [{"name": "u", "supabase": {}}]},
                    }
                ]
            },
            "spec.stages[0].rollback.steps[0].supabase",
            "supabase",
        ),
    ],
)
def test_every_place_is_found(fields: dict[str, Any], path: str, kind: str) -> None:
    assert used(**fields) == [(path, kind, None)]


def test_names_are_those_of_the_run() -> None:
    gates = [
        {"name": "a", "http": {"path": "/", "connection": "site"}},
        {"name": "b", "http": {"path": "/", "connection": "$(vars.conn)"}},
        {"name": "c", "http": {"path": "/", "connection": "$(stage)"}},
        {"name": "d", "http": {"path": "/", "connection": "$(steps.x.outputs.y)"}},
    ]
    found = used(stages=[{"name": "beta", "gates": gates}])
    assert [name for _, _, name in found] == ["site", "main", "beta", "$(steps.x.outputs.y)"]


def test_what_needs_no_connection_uses_none() -> None:
    workload = {"name": "w", "workload": {"name": "w", "images": {"app": "a:$(version)"}}}
    stages = [
        {
            "name": "a",
            "steps": [
                {"name": "d", "deploy": {"targets": ["w"]}},
                {"name": "j", "job": {"image": "x"}},
                {"name": "f", "flags": {"configMap": "f", "set": {"a": "b"}}},
            ],
            "gates": [{"name": "j", "job": {"image": "x"}}],
        }
    ]
    assert used(targets=[workload], stages=stages) == []


@pytest.mark.parametrize("key", sorted(registry.GATES))
def test_every_gate_is_known(key: str) -> None:
    check = {"name": "g", key: {**cases.GATES[key].config, "connection": "mine"}}
    found = connections_used(
        pin_spec(
            ReleaseSpec.model_validate(
                {"version": "1", "guards": [check], "stages": [{"name": "a", "steps": [WAIT]}]}
            ),
            1,
            None,
        )
    )
    assert found == [ConnectionUse(f"spec.guards[0].{key}", registry.GATES[key].connection, "mine")]
