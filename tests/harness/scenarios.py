"""Releases that tests run, small enough to be over in a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class _Fixed(dict[str, Any]):
    """What many tests share: who wants another one makes it anew (`TARGET | {...}`)."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"{key} is shared by many tests; make a copy")


TARGET = _Fixed(name="web", workload=_Fixed(name="web", images=_Fixed(app="shop/web:$(version)")))
INTERVAL = "300ms"
BAKE = "400ms"


def query(name: str, namespace: str) -> str:
    """A query of one namespace's own, so that scenarios do not share answers."""
    return f'{name}{{namespace="{namespace}"}}'


def gate(name: str, asked: str, limit: str = "1%", **more: Any) -> dict[str, Any]:
    """A gate of the stand-in Prometheus."""
    return {
        "name": name,
        "prometheus": {"query": asked},
        "max": limit,
        "interval": INTERVAL,
        **more,
    }


def env(**values: str) -> list[dict[str, str]]:
    """What the kubelet of `world` is told."""
    return [{"name": name, "value": value} for name, value in values.items()]


def job(name: str, command: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A job step; keywords starting with FAKE_ go into its environment, the others into the job."""
    fake = {key: more.pop(key) for key in list(more) if key.startswith("FAKE_")}
    outer = {key: more.pop(key) for key in list(more) if key in ("produces", "requires")}
    body = {"image": f"shop/{name}:$(version)", "command": list(command) or [name], **more}
    return {"name": name, "job": body | ({"env": env(**fake)} if fake else {}), **outer}


def deploy(name: str = "deploy", **more: Any) -> dict[str, Any]:
    return {"name": name, "deploy": {"targets": ["web"], **more}}


def five(namespace: str, version: str = "2.0.0") -> dict[str, Any]:
    """The runbook in small: migration, then a deployment in four further stages, flags, gates and
    bakes.

    Stages 2 to 4 ship builds of their own, as stages of the runbook do; the last one is the version
    itself.
    """
    errors, latency = query("errors", namespace), query("latency", namespace)
    return {
        "version": version,
        "vars": {"commit": "8f3c2e1"},
        "targets": [TARGET],
        "guards": [gate("guard-errors", errors, "5%")],
        "guardFor": "300ms",
        "stages": [
            {
                "name": "migration",
                "risk": "High",
                "steps": [
                    job("backup", produces="backup", FAKE_OUTPUT='{"id": "b-1"}'),
                    job(
                        "migrate",
                        ["migrate", "$(version)", "$(steps.backup.outputs.id)"],
                        requires=["backup"],
                    ),
                ],
                "rollback": {
                    "reach": "Release",
                    "steps": [
                        job(
                            "restore",
                            ["restore", "$(steps.backup.outputs.id)"],
                            requires=["backup"],
                        )
                    ],
                },
            },
            {
                "name": "security",
                "steps": [deploy(version="$(version)-rc1")],
                "gates": [gate("errors", errors)],
                "bake": BAKE,
            },
            {
                "name": "fixes",
                "steps": [deploy(version="$(version)-rc2"), job("smoke")],
                "gates": [gate("errors", errors), gate("latency", latency, "500ms")],
                "bake": BAKE,
            },
            {
                "name": "performance",
                "steps": [deploy(version="$(version)-rc3")],
                "gates": [gate("latency", latency, "500ms")],
            },
            {
                "name": "features",
                "steps": [
                    deploy(),
                    {
                        "name": "flags",
                        "flags": {"configMap": "web-flags", "set": {"VOICE": "true"}},
                    },
                ],
                "gates": [gate("errors", errors)],
                "bake": BAKE,
            },
        ],
        "rollback": {"within": "30s"},
    }


def simple(namespace: str, version: str = "2.0.0", bake: str = BAKE, **more: Any) -> dict[str, Any]:
    """One stage: deploy, one gate, a short bake."""
    stage = {
        "name": "ship",
        "steps": [deploy()],
        "gates": [gate("errors", query("errors", namespace))],
        "bake": bake,
    }
    return {"version": version, "targets": [TARGET], "stages": [stage], **more}


def crash_success(namespace: str) -> dict[str, Any]:
    """Five stages with every kind of effect, as few seconds as may be."""
    errors = query("errors", namespace)
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "guards": [gate("guard", errors, "5%")],
        "guardFor": "100ms",
        "stages": [
            {"name": "migration", "steps": [job("migrate", ["migrate", "$(version)"])]},
            {
                "name": "security",
                "steps": [deploy(version="$(version)-rc1")],
                "gates": [gate("errors", errors)],
                "bake": "200ms",
            },
            {"name": "fixes", "steps": [deploy(version="$(version)-rc2")]},
            {
                "name": "performance",
                "steps": [deploy(version="$(version)-rc3")],
                "gates": [gate("errors", errors)],
            },
            {
                "name": "features",
                "steps": [
                    deploy(),
                    {"name": "flags", "flags": {"configMap": "web-flags", "set": {"VOICE": "on"}}},
                ],
            },
        ],
    }


def crash_undo(namespace: str) -> dict[str, Any]:
    """What is promoted at once, with flags, deployment and a database that can go back."""
    spec = crash_rollback(namespace)
    migration, _, fixes, *_ = spec["stages"]
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "guardFor": "100ms",
        "stages": [migration, {"name": "fixes", "steps": fixes["steps"]}],
        "rollback": spec["rollback"],
    }


def crash_rollback(namespace: str) -> dict[str, Any]:
    """The gate of the third stage is in breach: flags and deployment go back, the database is
    restored, a Job verifies."""
    errors, broken = query("errors", namespace), query("broken", namespace)
    flags = {
        "name": "flags",
        "flags": {"configMap": "web-flags", "set": {"VOICE": "on", "NEW": "1"}},
    }
    restore = {
        "reach": "Release",
        "steps": [job("restore", ["restore", "$(version)"], requires=["backup"])],
    }
    steps = [
        job("backup", produces="backup"),
        job("migrate", ["migrate", "$(version)"], requires=["backup"]),
    ]
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "guards": [gate("guard", errors, "5%")],
        "stages": [
            {"name": "migration", "steps": steps, "rollback": restore},
            {
                "name": "security",
                "steps": [deploy(version="$(version)-rc1")],
                "gates": [gate("errors", errors)],
            },
            {
                "name": "fixes",
                "steps": [flags, deploy()],
                "gates": [gate("broken", broken)],
                "bake": "1s",
            },
            {"name": "performance", "steps": [deploy()]},
            {"name": "features", "steps": [deploy()]},
        ],
        "rollback": {
            "verify": [{"name": "smoke", "job": {"image": "shop/smoke:1", "command": ["smoke"]}}],
            "within": "60s",
        },
    }


def crash_stage(namespace: str) -> dict[str, Any]:
    """The beta fails for as long as its flag is on: its stage is undone alone, back to the build of
    the stage before it, and the release goes on to its end."""
    errors = query("errors", namespace)
    flags = {"name": "flags", "flags": {"configMap": "web-flags", "set": {"VOICE": "on"}}}
    beta = gate("beta", query("beta", namespace), failureThreshold=2, action="RollbackStage")
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "guards": [gate("guard", errors, "5%"), beta],
        "guardFor": "100ms",
        "stages": [
            {"name": "base", "steps": [deploy(version="$(version)-rc1")]},
            {
                "name": "beta",
                "steps": [job("announce"), deploy(version="$(version)-rc2"), flags],
                "gates": [gate("errors", errors)],
                "bake": "10m",
                "rollback": {"steps": [job("tidy")]},
            },
            {"name": "final", "steps": [deploy(), job("smoke")]},
        ],
    }


def crash_at_rest(namespace: str) -> dict[str, Any]:
    """What `crash_undo` promotes, with a guard that undoes it when it fails at rest."""
    uptime = gate("uptime", query("uptime", namespace), failureThreshold=2)
    return crash_undo(namespace) | {"guards": [uptime | {"atRest": True, "rollbackFor": "1h"}]}
