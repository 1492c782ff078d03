"""The CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from gatewright.api import GROUP, VERSION
from gatewright.api.connection import ConnectionSpec, ConnectionStatus
from gatewright.api.freeze import FreezeSpec
from gatewright.api.intervention import InterventionSpec, InterventionStatus
from gatewright.api.release import ReleaseSpec
from gatewright.api.runbook import CheckUse, RunbookSpec
from gatewright.api.status import ReleaseStatus
from gatewright.codegen import rules, schema
from gatewright.providers import registry


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; `wide` ones only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False

    def printer_column(self) -> dict[str, Any]:
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            column["description"] = self.description
        if self.wide:
            column["priority"] = 1
        return column


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API group."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel] | None
    """None where the operator has nothing to say of it."""
    variants: Mapping[str, Mapping[str, type[BaseModel]]]
    columns: tuple[Column, ...]
    repeated: Mapping[str, str] = field(default_factory=dict)
    """Places whose fields are described at another place, which comes second."""
    optional: tuple[str, ...] = ()
    """Fields that the model requires, and an object may leave out: another object has them."""
    expanded: bool = False
    """Every text may hold `$(...)`, and is judged for its form when that was put in."""
    judged: tuple[str, ...] = ()
    """Fields that mean nothing beside some others. The API server does not fill them in: who gave
    one is refused, and who did not must not look as if they had."""


def _configs_of(table: Mapping[str, Any]) -> dict[str, type[BaseModel]]:
    return {key: provider.config for key, provider in table.items()}


def _below_each(places: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    for place in places:
        yield from (f"{place}.{name}" for name in names)


CHECKS = ("preflight", "guards", "stages.gates", "rollback.verify", "followUps")
GATES = _configs_of(registry.GATES)
TARGETS = _configs_of(registry.TARGETS) | _configs_of(registry.EXTERNAL_TARGETS)
FLAGS = _configs_of(registry.FLAGS)
ACTIONS = _configs_of(registry.ACTIONS)
NOTIFIERS = _configs_of(registry.NOTIFIERS)
CONNECTIONS = _configs_of(registry.CONNECTIONS)

_LIMITS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties")
_REPEATED_IN_BODY: Mapping[str, str] = {
    **{f"spec.{place}": "spec.stages.gates" for place in CHECKS if place != "stages.gates"},
    "spec.stages.gates.job": "spec.stages.steps.job",
    "spec.stages.rollback.steps": "spec.stages.steps",
    "spec.procedures.steps": "spec.stages.steps",
    "spec.procedures.undo": "spec.stages.steps",
}
REPEATED: Mapping[str, str] = {
    **_REPEATED_IN_BODY,
    "status.run.preflight": "status.run.stages.gates",
    "status.run.guards": "status.run.stages.gates",
    "status.run.availability": "status.run.stages.gates",
    "status.run.rollback.verify": "status.run.stages.gates",
    "status.followUps.gate": "status.run.stages.gates",
    "status.procedures.steps": "status.run.stages.steps",
    "status.procedures.stopping": "status.run.journal",
    "status.run.stopping": "status.run.journal",
}
"""`kubectl apply` keeps the whole definition in an annotation, and annotations end at 256 KiB. So
what stands at several places is described at one."""

_JUDGED = (
    *_below_each(CHECKS, ("interval", "onNoData", "onError", "holdFor")),
    "stages.steps.timeout",
    "stages.rollback.steps.timeout",
    "procedures.steps.timeout",
    "procedures.undo.timeout",
    "notify.after",
    "targets.workload.drainTimeout",
)
_USE: dict[str, type[BaseModel]] = {"use": CheckUse}
"""In a Runbook each check may be one that is written once."""


def _variants_of_body(
    use: dict[str, type[BaseModel]],
) -> dict[str, Mapping[str, type[BaseModel]]]:
    """Return which providers may stand at each place of what a run does."""
    return {
        "spec.targets[]": TARGETS,
        "spec.preflight[]": {**GATES, **rules.CHECK_JOB, **rules.CHECK_APPROVAL, **use},
        "spec.guards[]": {**GATES, **use},
        "spec.stages[].gates[]": {**GATES, **rules.CHECK_JOB, **use},
        "spec.rollback.verify[]": {**GATES, **rules.CHECK_JOB, **use},
        "spec.followUps[]": {**GATES, **use},
        "spec.stages[].steps[]": ACTIONS,
        "spec.stages[].steps[].flags": FLAGS,
        "spec.stages[].rollback.steps[]": ACTIONS,
        "spec.stages[].rollback.steps[].flags": FLAGS,
        "spec.procedures[].steps[]": ACTIONS,
        "spec.procedures[].steps[].flags": FLAGS,
        "spec.procedures[].undo[]": ACTIONS,
        "spec.procedures[].undo[].flags": FLAGS,
        "spec.notify[]": NOTIFIERS,
    }


RELEASE = Kind(
    name="Release",
    repeated=REPEATED,
    # What stands in a Runbook must not look as if the Release had said it.
    judged=(*_JUDGED, "guardFor"),
    optional=("stages",),
    plural="releases",
    short="rls",
    description="The wanted version, and the stages that lead there.",
    spec=ReleaseSpec,
    status=ReleaseStatus,
    variants=_variants_of_body({}),
    columns=(
        Column("Version", ".spec.version", description="The version that should be live."),
        Column("Live", ".status.live.version", description="The version that is served."),
        Column(
            "Last-Good",
            ".status.lastGood.version",
            description="The version a rollback returns to.",
        ),
        Column("Stage", ".status.stage", description="Number and name of the stage."),
        Column("State", ".status.state", description="Where the Release stands."),
        Column(
            "Waiting-For", ".status.waitingFor.message", description="Why nothing moves right now."
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column(
            "Started",
            ".status.run.startedAt",
            "date",
            "Since when the run is under way.",
            wide=True,
        ),
        Column(
            "Duration",
            ".status.run.duration",
            description="How long the finished run took.",
            wide=True,
        ),
        Column(
            "Message",
            ".status.message",
            description="Where the Release stands, in one sentence.",
            wide=True,
        ),
    ),
)

CONNECTION = Kind(
    name="Connection",
    plural="connections",
    short="conn",
    description=(
        "One external system: where it is, and whose Secret opens it. Releases name it and "
        "hold no URLs or tokens."
    ),
    spec=ConnectionSpec,
    status=ConnectionStatus,
    variants={"spec": CONNECTIONS},
    columns=(
        Column(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            description="Whether it answers.",
        ),
        Column(
            "Reason",
            '.status.conditions[?(@.type=="Ready")].reason',
            description="Why, in one word.",
        ),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            description="Why, in words.",
            wide=True,
        ),
    ),
)

INTERVENTION = Kind(
    name="Intervention",
    plural="interventions",
    short="itv",
    description=(
        "One human act on a Release. It cannot be changed and acts once; together they are "
        "the audit log."
    ),
    spec=InterventionSpec,
    status=InterventionStatus,
    variants={},
    columns=(
        Column("Release", ".spec.release", description="The Release it is about."),
        Column("Action", ".spec.action", description="What is to be done."),
        Column("By", ".spec.by", description="Who acts."),
        Column("Run", ".status.run", "integer", "Number of the run that it met."),
        Column("Result", ".status.result", description="Accepted, Refused, or nothing yet."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Reason", ".spec.reason", description="Why, in the words of who acts.", wide=True),
        Column(
            "Message",
            ".status.message",
            description="What was done, or why nothing was.",
            wide=True,
        ),
    ),
)

FREEZE = Kind(
    name="Freeze",
    plural="freezes",
    short="frz",
    description=(
        "While one is in force no run of its Releases starts; a run under way goes on, and a "
        "rollback waits for nothing."
    ),
    spec=FreezeSpec,
    status=None,
    variants={},
    columns=(
        Column("Until", ".spec.until", description="When it ends."),
        Column("By", ".spec.by", description="Who freezes."),
        Column("Reason", ".spec.reason", description="Why."),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)

RUNBOOK = Kind(
    name="Runbook",
    plural="runbooks",
    short="rb",
    description=(
        "What a run does, written once. A Release names it and has only a version and values for "
        "its variables."
    ),
    spec=RunbookSpec,
    status=None,
    repeated={**_REPEATED_IN_BODY, "spec.checks": "spec.stages.gates"},
    expanded=True,
    judged=(
        *_JUDGED,
        *_below_each(("checks",), ("interval", "onNoData", "onError", "holdFor")),
    ),
    variants={
        **_variants_of_body(_USE),
        "spec.checks[]": GATES | rules.CHECK_JOB,
    },
    columns=(
        Column("Owner", ".spec.owner", description="Whom to ask about it."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Description", ".spec.description", description="What it is for.", wide=True),
    ),
)

KINDS = (RELEASE, RUNBOOK, CONNECTION, INTERVENTION, FREEZE)


def schemas_of(kind: Kind) -> tuple[schema.Schema, ...]:
    """Return spec and status, if there is one, with the notes that the reference reads."""
    spec = schema.structural_schema(kind.spec, "spec", kind.variants, kind.expanded)
    if kind.optional:
        spec["required"] = [name for name in spec["required"] if name not in kind.optional]
    if kind.status is None:
        return (spec,)
    return spec, schema.structural_schema(kind.status, "status", {})


def nodes_of_body() -> dict[str, schema.Schema]:
    """Return every place of what a run does, in a Release or a Runbook, with its schema."""
    return dict(schema.walk_schema(schemas_of(RUNBOOK)[0], "spec"))


def definition_of(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    spec, *status = (schema.without_notes(part) for part in schemas_of(kind))
    parts = {"spec": spec} | ({"status": status[0]} if status else {})
    root: schema.Schema = {"properties": parts}
    for place, described in kind.repeated.items():
        _describe_elsewhere(_node_at(root, place), _node_at(root, described), described)
    for place in kind.judged:
        _drop_default(spec, place)
    for part in status:
        _drop_limits(part)

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["gatewright"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}} if status else {},
                    "additionalPrinterColumns": [
                        column.printer_column() for column in kind.columns
                    ],
                    "schema": {"openAPIV3Schema": _root_schema(kind, spec, status)},
                }
            ],
        },
    }


def _node_at(node: schema.Schema, place: str) -> schema.Schema:
    for name in place.split("."):
        node = node["properties"][name]
        node = node.get("items", node)
    return node


def _drop_default(node: schema.Schema, place: str) -> None:
    """Let the API server not fill in the default of a field.

    The operator knows it, and the reference tells it.
    """
    owner, _, name = place.rpartition(".")
    holder = _node_at(node, owner) if owner else node
    del holder["properties"][name]["default"]


def _describe_elsewhere(node: schema.Schema, described: schema.Schema, place: str) -> None:
    """Leave out the words of fields that have the same ones at another place, and name that."""
    for name, value in node["properties"].items():
        there = described["properties"].get(name)
        own = value.get("description")
        _drop_descriptions(value)
        # Of a field that stands only here, or means something else here, nobody else tells.
        if own is not None and (there is None or there.get("description") != own):
            node["properties"][name] = {"description": own} | value

    node["description"] = f"{node['description']} Fields: see {place}."


def _drop_limits(node: Any) -> None:
    """Let the API server not bound what the operator alone writes, and bounds by itself."""
    if isinstance(node, dict):
        for limit in _LIMITS:
            if not isinstance(node.get(limit), dict):
                node.pop(limit, None)
        for inner in node.values():
            _drop_limits(inner)


def _drop_descriptions(value: Any) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("description"), str):
            del value["description"]
        for inner in value.values():
            _drop_descriptions(inner)


def _root_schema(kind: Kind, spec: schema.Schema, status: Sequence[schema.Schema]) -> schema.Schema:
    root: schema.Schema = {"description": kind.description, "type": "object", "required": ["spec"]}
    if rules.ROOT_RULES[kind.name]:
        root["x-kubernetes-validations"] = list(rules.ROOT_RULES[kind.name])

    root["properties"] = {
        "apiVersion": {"description": f"{GROUP}/{VERSION}.", "type": "string"},
        "kind": {"description": f"{kind.name}.", "type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    for part in status:
        root["properties"]["status"] = part
    return root
