"""What the saboteur acts on: a Release of five stages in compressed time, a Deployment, a
StatefulSet, their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.e2e.saboteur.draws import BROKEN, HALF, OLD, STAGES

RELEASE = "shop"
REPLICAS = 2
KINDS = {"web": "Deployment", "store": "StatefulSet"}
PLURALS = {"web": "deployments", "store": "statefulsets"}
SETTINGS, KEYS, FLAGS = "settings", "keys", "flags"
"""A ConfigMap and a Secret that are captured, and the ConfigMap whose flag the run sets."""
SETTING = {"GREETING": "hello"}
KEY = {"TOKEN": "first"}
FLAG = {"BETA": "off"}
WANTED = {"BETA": "on"}
COMPENSATION = "unmigrate"
_JOB = {"command": ["true"], "timeout": "60s"}

Object = dict[str, Any]


def image(version: str) -> str:
    """What containers of a version run."""
    return f"saboteur/shop:{version}"


def version_of(reference: str) -> str:
    """Which version an image is."""
    return reference.rpartition(":")[2]


def workload(name: str, version: str = OLD) -> Object:
    """`web` or `store`, as whoever owns it writes it."""
    labels = {"app": name}
    container = {
        "name": "app", "image": image(version), "env": [{"name": "ROLE", "value": name}],
        "envFrom": [{"configMapRef": {"name": SETTINGS}}, {"secretRef": {"name": KEYS}}],
    }  # fmt: skip
    pod: Object = {
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec: Object = {
        "minReadySeconds": 1,
        "replicas": REPLICAS,
        "selector": {"matchLabels": labels},
        "template": template,
    }
    if name == "store":
        spec |= {"serviceName": name}
    else:
        spec |= {
            "progressDeadlineSeconds": 30,
            "strategy": {"rollingUpdate": {"maxSurge": REPLICAS, "maxUnavailable": 0}},
        }
    return {"apiVersion": "apps/v1", "kind": KINDS[name], "metadata": {"name": name}, "spec": spec}


def configuration() -> list[tuple[str, Object]]:
    """Plural and body of what is there before the workloads."""
    return [
        ("configmaps", {"metadata": {"name": SETTINGS}, "data": SETTING}),
        ("configmaps", {"metadata": {"name": FLAGS}, "data": FLAG}),
        ("secrets", {"metadata": {"name": KEYS}, "stringData": KEY}),
    ]


def connection(url: str) -> Object:
    """Where the gate asks."""
    return _gatewright("Connection", "site", {"timeout": "1s", "http": {"url": url}})


def release(version: str) -> Object:
    """The Release."""
    return _gatewright("Release", RELEASE, {"version": version, **_spec(_patience(version))})


def intervention(action: str, by: str) -> Object:
    """A person acts."""
    body = _gatewright("Intervention", "", {"release": RELEASE, "action": action, "by": by})
    body["metadata"] = {"generateName": f"{action.lower()}-"}
    return body


def _gatewright(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def _patience(version: str) -> str:
    """How long a deploy may take: what starts does so on a busy machine, too; what does not is not
    waited for."""
    return "30s" if version in (BROKEN, HALF) else "90s"


def _spec(patience: str) -> Object:
    targets = [_target("web", [{"configMap": SETTINGS}]), _target("store", [{"secret": KEYS}])]
    health = {
        "name": "health",
        "http": {"path": "/health"},
        "interval": "1s",
        "failureThreshold": 2,
        "holdFor": "6s",
    }
    return {
        "targets": targets,
        "guards": [health],
        "guardFor": "5s",
        "stages": [_stage(name, health, patience) for name in STAGES],
        "rollback": {"within": "60s", "verify": [{**health, "name": "served"}]},
    }


def _target(name: str, captured: list[Object]) -> Object:
    described = {
        "kind": KINDS[name],
        "name": name,
        "images": {"app": image("$(version)")},
        "config": captured,
    }
    return {"name": name, "workload": described, "holdFor": "5s", "availability": {"for": "10s"}}


def _stage(name: str, health: Object, patience: str) -> Object:
    steps: dict[str, list[Object]] = {
        "migrate": [{"name": "migrate", "job": {"image": image("$(version)"), **_JOB}}],
        "web": [{"name": "web", "deploy": {"targets": ["web"], "timeout": patience}}],
        "store": [{"name": "store", "deploy": {"targets": ["store"], "timeout": patience}}],
        "flags": [
            {
                "name": "beta",
                "flags": {"configMap": FLAGS, "set": WANTED, "holdFor": "5s", "timeout": "20s"},
            }
        ],
        "finish": [{"name": "settle", "wait": "1s"}],
    }
    stage: Object = {
        "name": name,
        "steps": steps[name],
        "gates": [{**health, "name": "answers"}],
        "bake": "3s",
    }
    if name == "migrate":
        undone = {"name": COMPENSATION, "job": {"image": image("$(version)"), **_JOB}}
        stage["rollback"] = {"reach": "Release", "within": "90s", "steps": [undone]}
    return stage


__all__ = [
    "COMPENSATION",
    "FLAG",
    "FLAGS",
    "KEY",
    "KEYS",
    "KINDS",
    "PLURALS",
    "RELEASE",
    "REPLICAS",
    "SETTING",
    "SETTINGS",
    "WANTED",
    "configuration",
    "connection",
    "image",
    "intervention",
    "release",
    "version_of",
    "workload",
]
