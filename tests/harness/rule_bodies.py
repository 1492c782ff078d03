"""Bodies for every model that has rules: what it must have, and what it may have.

From them come bodies that keep a rule and bodies that break it, for the unit tests and for those on
an API server. A new model with rules needs a line in `EXAMPLES`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from gatewright.api.conditions import Place
from gatewright.api.rules import Rule
from gatewright.codegen import crds, rules, schema

Body = dict[str, Any]
MOST_GIVEN = 4
"""Optional fields of a body, at most: what rules look at beside each other."""


@dataclass(frozen=True)
class Example:
    """The bodies of a model."""

    must: Body = field(default_factory=dict)
    """The fields that it always has."""
    may: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What its other fields may be, as far as rules look at them."""


SECRET = {"secretRef": {"name": "keys", "key": "token"}}
RUNS = {"image": "tools"}
TIMING = {"window": "5m"}
PROJECT = "abcdefghijklmnopqrst"

EXAMPLES: Mapping[str, Example] = {
    "ReleaseSpec": Example(
        {"version": "1.0", "stages": [{"name": "ship", "steps": [{"name": "w", "wait": "1s"}]}]}
    ),
    "RunbookSpec": Example({"stages": [{"name": "ship", "steps": [{"name": "w", "wait": "1s"}]}]}),
    "Target": Example({"name": "web"}),
    "When": Example(
        {}, {"var": ("db",), "equals": ("", "a"), "notEquals": ("b",), "changed": ([], ["db/**"])}
    ),
    "Smoke": Example({"path": "/"}, {"jsonPath": ("$.a",), "equals": ("ok", "")}),
    "WorkloadConfig": Example(
        {"name": "web"}, {"images": ({}, {"app": "web:1"}), "env": ({}, {"app": {"A": "b"}})}
    ),
    "Captured": Example(
        {}, {"configMap": ("settings",), "secret": ("keys",), "restore": ("Always",)}
    ),
    "Check": Example({"name": "calm"}),
    "Guard": Example(
        {"name": "calm", "action": "Notify", "atRest": True},
        {
            "action": ("Rollback", "RollbackStage", "Pause", "Run"),
            "atRest": (False,),
            "rollbackFor": ("1h",),
            "procedure": ("clear-cache",),
        },
    ),
    "FollowUp": Example(
        {"name": "calm", "within": "1h"}, {"confirm": ({"instructions": "Look."},)}
    ),
    "Notify": Example({"events": ["Started"]}),
    "GithubCheck": Example(
        {"repository": "acme/shop"},
        {
            "commit": ("main",),
            "checks": (["test"],),
            "accept": ([], ["neutral"]),
            "openIssues": ({"labels": ["bug"]},),
        },
    ),
    "HttpCheck": Example(
        {"path": "/"},
        {
            "method": ("GET", "HEAD"),
            "measure": ("Answer", "Latency"),
            "jsonPath": ("$.a",),
            "equals": ("ok", ""),
        },
    ),
    "Job": Example(
        {},
        {
            "image": ("tools",),
            "fromCronJob": ("nightly",),
            "template": ({}, {"spec": {"containers": []}}),
        },
    ),
    "EnvVar": Example(
        {"name": "A"},
        {"value": ("b", ""), "valueFrom": ({"secretKeyRef": {"name": "keys", "key": "a"}},)},
    ),
    "EnvSource": Example(
        {},
        {
            "secretKeyRef": ({"name": "keys", "key": "a"},),
            "configMapKeyRef": ({"name": "settings", "key": "a"},),
        },
    ),
    "EnvFrom": Example(
        {}, {"secretRef": ({"name": "keys"},), "configMapRef": ({"name": "settings"},)}
    ),
    "JobReport": Example(
        {}, {name: ({},) for name in ("playwright", "k6", "lighthouse", "npmAudit", "junit")}
    ),
    "OfrepCheck": Example({"flag": "voice"}, {"users": ([], ["ada"]), "others": ([], ["alan"])}),
    "RedisCheck": Example({}, {"hitRatio": ({},), "memory": ({},)}),
    "UpstashCheck": Example({}, {"hitRatio": ({},), "memory": ({},)}),
    "SentryCheck": Example(
        {"release": "shop@1"},
        {name: ({},) for name in ("errors", "failureRatio", "p95", "newIssues")},
    ),
    "SqlCheck": Example(
        {},
        {
            "query": ("select 1",),
            "parameters": ([], ["a"]),
            "rls": ({},),
            "connections": ({},),
            "slowQueries": ({"over": "1s"},),
            "blocked": ({},),
        },
    ),
    "SupabaseCheck": Example(
        {"project": PROJECT},
        {
            "advisors": ({},),
            "backups": ({"maxAge": "1d"},),
            "health": ({},),
            "query": ({"sql": "select 1"},),
            "apiKeys": ({"name": "web", "newerThan": "1h"},),
        },
    ),
    "AdvisorsQuestion": Example(
        {}, {"level": ("WARN",), "names": ([], ["rls_disabled_in_public"])}
    ),
    "VercelCheck": Example(
        {"project": "shop"},
        {
            "env": (["A"],),
            "target": ("production", "preview"),
            "newerThan": ("1h",),
            "errorRatio": ({},),
            "duration": (TIMING,),
            "lcp": (TIMING,),
        },
    ),
    "Stage": Example(
        {"name": "ship"},
        {
            "steps": ([], [{"name": "wait", "wait": "1s"}]),
            "gates": ([], [{"name": "seen", "http": {"path": "/"}}]),
        },
    ),
    "Step": Example(
        {"name": "go"},
        {
            "deploy": ({"targets": ["web"]},),
            "job": (RUNS,),
            "flags": ({"configMap": "flags", "set": {"A": "b"}},),
            "wait": ("1s",),
            "confirm": ({"instructions": "Look."},),
            "approval": ({},),
            "timeout": ("10m", "5m"),
        },
    ),
    "FlagsStep": Example(
        {},
        {
            "configMap": ("flags",),
            "target": ("web",),
            "container": ("app",),
            "set": ({}, {"A": "b"}),
        },
    ),
    "GithubAction": Example(
        {"repository": "acme/shop"},
        {
            "deployment": ({"environment": "production", "ref": "main"},),
            "workflow": ({"file": "smoke.yml", "ref": "main"},),
        },
    ),
    "Workflow": Example(
        {"file": "smoke.yml", "ref": "main"},
        {
            "inputs": ({}, {"operation": "a"}, {"key": "a"}),
            "keyInput": ("operation", "key"),
        },
    ),
    "SupabaseAction": Example(
        {"project": PROJECT},
        {
            "restorePoint": ({"name": "before"},),
            "undo": ({"name": "before"},),
            "restorePitr": ({"to": "2026-11-22T08:30:00Z"},),
        },
    ),
    "ConnectionSpec": Example(),
    "OfrepAccess": Example(
        {"url": "http://flags"}, {"bearerToken": (SECRET,), "apiKey": (SECRET,)}
    ),
    "VercelAccess": Example({"token": SECRET}, {"teamId": ("team_1",), "slug": ("acme",)}),
    "LabelRequirement": Example(
        {"key": "team", "operator": "Exists"},
        {"operator": ("In", "NotIn", "DoesNotExist"), "values": ([], ["web"])},
    ),
    "InterventionSpec": Example(
        {"release": "shop", "by": "ana"},
        {
            "action": ("Approve", "Confirm", "Retry", "Pause", "Reject", "Rollback", "Hotfix"),
            "stage": ("ship",),
            "step": ("go",),
            "gate": ("calm",),
            "followUp": ("log",),
            "specHash": ("0" * 32,),
            "to": ("2.3.1",),
            "toRun": (3,),
            "withDatabase": (True,),
            "procedure": ("clear-cache",),
            "undo": (True,),
            "confirmed": ("everything is lost",),
            "reason": ("data is broken",),
        },
    ),
}


@dataclass(frozen=True)
class RuledPlace:
    """A model with rules at a place of a CRD."""

    kind: crds.Kind
    path: str
    node: schema.Schema
    place: Place

    @property
    def model(self) -> type[BaseModel]:
        """The model."""
        return self.place.model

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Its rules, as they read there."""
        declared: tuple[Rule, ...] = getattr(self.model, "rules", ())
        return tuple(rule.at(self.place) for rule in declared)

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """What its optional fields may be."""
        own = EXAMPLES[self.model.__name__].may
        there = {name: own[name] for name in own if self.place.has_field(name)}
        providers = self.place.providers
        return there | {key: (least(self.node["properties"][key]),) for key in providers}

    @property
    def must(self) -> Body:
        """The fields that it always has."""
        return EXAMPLES[self.model.__name__].must

    def bodies(self, most: int = 2) -> Iterator[Body]:
        """Every body with at most so many optional fields, and the one with all."""
        options = self.options
        counts = [*range(min(most, len(options)) + 1), len(options)]
        for names in itertools.chain(*(itertools.combinations(options, n) for n in counts)):
            for values in itertools.product(*(options[name] for name in names)):
                yield self.must | dict(zip(names, values, strict=True))

    def with_defaults(self, body: Body) -> Body:
        """The body as the API server sees it: with the defaults that the CRD has."""
        judged = {f"spec.{field}".replace("[]", "") for field in self.kind.judged}
        path = self.path.replace("[]", "")
        defaults = {
            name: item["default"]
            for name, item in self.node["properties"].items()
            if "default" in item and f"{path}.{name}" not in judged
        }
        return defaults | body


def least(node: schema.Schema, name: str = "") -> Any:
    """The least that a schema takes, as far as its structure goes."""
    if "enum" in node:
        return node["enum"][0]
    match node["type"]:
        case "object":
            model = node.get(schema.CLASS_NOTE)
            if model is not None and model.__name__ in EXAMPLES:
                return dict(EXAMPLES[model.__name__].must)
            fields = node.get("properties", {})
            return {field: least(fields[field], field) for field in node.get("required", ())}
        case "array":
            return [least(node["items"])] if node.get("minItems") else []
        case "string" if node.get("format") == "date-time":
            return "2026-01-07T08:00:00Z"
        case "string":
            return "http://flags" if name == "url" else "abc"
        case "boolean":
            return False
        case _:
            return node.get("minimum", 1)


@functools.cache
def _nodes_of(kind: str) -> Mapping[str, schema.Schema]:
    (known,) = (one for one in crds.KINDS if one.name == kind)
    return dict(schema.walk_schema(crds.schemas_of(known)[0], "spec"))


def object_with(where: RuledPlace, body: Body) -> Body:
    """An object whose structure is right, and that has a body at a place."""
    nodes = _nodes_of(where.kind.name)
    found: Body = {"apiVersion": "gatewright.dev/v1alpha1", "kind": where.kind.name}
    found["metadata"] = {"name": "one", "namespace": "default"}

    holder, path = found, ""
    for part in where.path.split("."):
        path = f"{path}.{part}" if path else part
        value = dict(body) if path == where.path else least(nodes[path])
        name = part.removesuffix("[]")
        holder[name] = [value] if part != name else value
        holder = value

    return found


def ruled_places() -> Iterator[RuledPlace]:
    """Every place of a model that has rules."""
    for kind in crds.KINDS:
        for path, node in _nodes_of(kind.name).items():
            model = node.get(schema.CLASS_NOTE)
            if model is None or not getattr(model, "rules", ()):
                continue
            providers = tuple(node.get(schema.PROVIDERS_NOTE, ()))
            place = Place(model, providers, rules.meaningless_fields(path))
            yield RuledPlace(kind, path, node, place)
