"""Argo CD's health of a Release in every state, by the generated script in a real Lua; no API
server is needed.

Argo CD runs scripts in a Lua 5.1 without the standard libraries but the base, table and package
ones, with the object as the global `obj`; every Lua that is here runs them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gatewright.codegen import health
from gatewright.core.report import (
    guarding_summary,
    holding_summary,
    rest_summary,
    run_summary,
)
from gatewright.core.run import rescue as core_rescue
from gatewright.runtime import rescue as runtime_rescue
from tests.golden import endings

ROOT = Path(__file__).resolve().parents[2]
ARGOCD = ROOT / "manifests" / "argocd"
LUAS = ("lua51", "lua54", "luajit21")

EXPECTED = {
    "preflight": "Progressing",
    "progressing": "Progressing",
    "baking": "Progressing",
    "holding": "Progressing",
    "rolling_back": "Progressing",
    "blocked": "Progressing",
    "no_room": "Progressing",
    "waiting_for_person": "Suspended",
    "waiting_for_approval": "Suspended",
    "suspended": "Suspended",
    "not_started": "Suspended",
    "frozen": "Suspended",
    "outside_window": "Suspended",
    "nothing_to_do": "Healthy",
    "paused": "Suspended",
    "observed": "Suspended",
    "guarding": "Healthy",
    "promoted": "Healthy",
    "followed_up": "Healthy",
    "skipped": "Healthy",
    "adopted": "Healthy",
    "rolled_back": "Degraded",
    "unproved": "Degraded",
    "rollback_failed": "Degraded",
    "aborted": "Degraded",
    "invalid_spec": "Degraded",
    "target_missing": "Progressing",
    "queued": "Progressing",
    "unconnected": "Progressing",
    "unadmitted": "Progressing",
    "unavailable": "Progressing",
    "changed_by_others": "Progressing",
    "silent_guard": "Healthy",
    "drifted": "Degraded",
}


def judge(script: str, obj: dict[str, Any], lua: str = "lua51") -> tuple[str, str]:
    """Status and message that Argo CD would show."""
    runtime = importlib.import_module(f"lupa.{lua}").LuaRuntime(unpack_returned_tuples=True)
    for library in ("string", "math", "os", "io", "debug"):
        runtime.globals()[library] = None
    runtime.globals()["obj"] = runtime.table_from(obj, recursive=True)
    found = runtime.execute(script)
    return found["status"], found["message"]


@pytest.fixture
def script() -> str:
    return (ARGOCD / "health.lua").read_text()


def test_every_ending_is_expected() -> None:
    assert set(EXPECTED) == set(endings.ENDINGS)


@pytest.mark.parametrize("lua", LUAS)
@pytest.mark.parametrize("name", EXPECTED)
def test_health_of_an_ending(script: str, name: str, lua: str) -> None:
    found = endings.kept(name)
    ready = next(item for item in found["status"]["conditions"] if item["type"] == "Ready")
    assert judge(script, found, lua) == (EXPECTED[name], ready["message"])


def test_a_release_that_nobody_has_looked_at_yet_is_progressing(script: str) -> None:
    fresh = {"metadata": {"generation": 1}, "spec": {}}
    assert judge(script, fresh)[0] == "Progressing"
    assert judge(script, fresh | {"status": {}})[0] == "Progressing"


def test_a_change_that_nobody_has_looked_at_yet_is_progressing(script: str) -> None:
    found = endings.kept("promoted")
    found["metadata"]["generation"] += 1
    assert judge(script, found)[0] == "Progressing"


@pytest.mark.parametrize(
    ("ready", "stalled", "expected"),
    [("True", None, "Healthy"), ("False", "True", "Degraded"), ("False", None, "Progressing")],
)
def test_a_reason_of_a_newer_version_is_judged_as_kstatus_does(
    script: str, ready: str, stalled: str | None, expected: str
) -> None:
    conditions_ = [{"type": "Ready", "status": ready, "reason": "SomethingNew", "message": "new"}]
    conditions_ += (
        [{"type": "Stalled", "status": stalled, "reason": "SomethingNew"}] if stalled else []
    )
    assert judge(script, {"metadata": {}, "status": {"conditions": conditions_}}) == (
        expected,
        "new",
    )


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [
        ("Ready", "True", "Healthy"),
        ("NotReady", "False", "Degraded"),
        ("InvalidSpec", "False", "Degraded"),
    ],
)
def test_health_of_a_connection(reason: str, status: str, expected: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": "401"}
    found = judge(
        (ARGOCD / "health-connection.lua").read_text(),
        {"metadata": {}, "status": {"conditions": [condition]}},
    )
    assert found == (expected, "401")


def test_argo_cds_settings_hold_the_same_scripts(script: str) -> None:
    data = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    inner = data["resource.customizations.health.gatewright.dev_Release"]
    assert inner == script.partition("\n")[2]
    assert set(data) == {
        f"resource.customizations.health.gatewright.dev_{kind}"
        for kind in ("Release", "Connection")
    }


def test_the_table_has_every_reason_that_the_core_gives_and_no_other() -> None:
    assert set(health.RELEASE_HEALTH) == {*_reasons(), *_ELSEWHERE}
    for reason, module in _ELSEWHERE.items():
        assert f'"{reason}"' in inspect.getsource(module)


def _reasons() -> Iterator[str]:
    """The third argument of each `Summary(...)` in `core.report`, where it is a word; and the
    words of variables."""
    for module in (guarding_summary, holding_summary, rest_summary, run_summary):
        for call in _summary_calls(module):
            reason = call.args[2]
            if isinstance(reason, ast.Constant):
                yield reason.value
            else:
                yield from _VARIABLE[ast.unparse(reason)]


def _summary_calls(module: ModuleType) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Summary":
            yield node


_ELSEWHERE = {
    "Queued": run_summary,
    "Ignored": run_summary,
    "CannotProceed": core_rescue,
    "StatusUnreadable": runtime_rescue,
}
"""Reasons that are not an argument of `Summary`, and where they stand."""

_VARIABLE = {
    "reason": ("TargetNotFound", "TargetUnfit"),
    "state": ("Gating", "Baking", "Breaching", "Holding"),  # what `_describe_gates` returns
    "run.outcome": ("Aborted", "Superseded"),
    "ending": ("RolledBack", "Rejected"),
}
