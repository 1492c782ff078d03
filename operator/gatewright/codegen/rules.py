"""What the API server can refuse beyond types: CEL rules, as one table beside the models they come
from.

Each rule repeats a validator of `gatewright.api` or a check of `core.body` that needs nothing but
the object itself, so that a mistake is told at `kubectl apply`; the operator checks all of it
again. A rule's cost is estimated from the limits of everything around it (20 stages of 20 steps of
64 variables), so texts deep inside a Job keep their pattern, which costs nothing, and only the
words that people get wrong are judged in CEL, with a message that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gatewright.api import base, intervention
from gatewright.api.jobs import REPORT_FORMATS, Job
from gatewright.api.release import STEP_KINDS, Approval
from gatewright.core.report import size
from gatewright.core.steps import STEPS
from gatewright.providers.registry import GATES

Rule = dict[str, Any]

CHECK_JOB = {"job": Job}
CHECK_APPROVAL = {"approval": Approval}


def exactly_one(keys: Iterable[str]) -> Rule:
    """Exactly one of the keys is given."""
    names = sorted(keys)
    if len(names) == 1:
        return {"rule": f"has(self.{names[0]})", "message": f"needs {names[0]}"}
    given = ", ".join(f"has(self.{name})" for name in names)
    return {
        "rule": f"[{given}].exists_one(given, given)",
        "message": f"needs exactly one of {', '.join(names)}",
    }


def provider_rules(providers: Mapping[str, type[BaseModel]], path: str) -> list[Rule]:
    """Exactly one provider; and limits, where a number without them would mean nothing."""
    own = _BESIDE_PROVIDERS.get(path.rpartition(".")[2], ())
    found = [
        exactly_one([*providers, *(name for name in own if name not in meaningless_fields(path))])
    ]
    if path.endswith("steps[]"):
        found.append(
            _timeout_rule([name for name in STEP_KINDS if name not in meaningless_fields(path)])
        )
    if path in CHECK_PLACES:
        found += [_LATENCY] if "http" in providers else []
        measured = sorted(
            key for key in providers if key in GATES and GATES[key].limits == "required"
        )
        found += [_limit_rule(key, f"!has(self.{key})") for key in measured]
        found += [
            _limit_rule(key, unless) for key, unless in _LIMITED_WHEN.items() if key in providers
        ]
    return found


def _timeout_rule(kinds: Iterable[str]) -> Rule:
    given = " || ".join(f"has(self.{kind})" for kind in sorted(kinds))
    return {
        "rule": f"!has(self.timeout) || !({given})",
        "message": "timeout is for a provider's action; deploy, flags and job have their own",
    }


_LATENCY: Rule = {
    "rule": "!has(self.http) || self.http.measure != 'Latency' || "
    "(!has(self.max) || self.max.matches('[smhd]$')) && (!has(self.min) || "
    "self.min.matches('[smhd]$'))",
    "message": "the limit of a latency needs a unit (try 500ms or 2s)",
}

_BESIDE_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "steps[]": STEP_KINDS,
    "flags": ("configMap", "target"),
    "followUps[]": ("confirm",),
}
"""Where one of the model's own fields may stand in a provider's place."""

CHECK_PLACES = (
    "spec.preflight[]",
    "spec.guards[]",
    "spec.stages[].gates[]",
    "spec.rollback.verify[]",
    "spec.followUps[]",
)

REPEATED_PLACES = (
    "spec.preflight[]",
    "spec.guards[]",
    "spec.rollback.verify[]",
    "spec.followUps[]",
    "spec.stages[].rollback.steps[]",
)
"""Places of providers that are described, and judged in words, at another place: gates and steps of
stages."""

_LIMITED_WHEN: Mapping[str, str] = {
    "http": "!has(self.http) || self.http.measure != 'Latency'",
    "github": "!has(self.github) || !has(self.github.openIssues)",
    "sql": "!has(self.sql) || has(self.sql.query)",
    "supabase": "!has(self.supabase) || !has(self.supabase.advisors)",
    "vercel": "!has(self.vercel) || has(self.vercel.env)",
}
"""Providers that measure a number only sometimes, and when they do not."""


def _limit_rule(key: str, unless: str) -> Rule:
    return {
        "rule": f"{unless} || has(self.max) || has(self.min)",
        "message": f"{key} measures a number: add max or min (max: 1%)",
    }


# --------------------------------------------------------------------------------------------------
# Models


def _only_rule(field: str, actions: Iterable[str]) -> Rule:
    """A field of an Intervention that only some actions have."""
    names = ", ".join(f"'{action}'" for action in actions)
    words = ", ".join(actions)
    return {
        "rule": f"!has(self.{field}) || self.action in [{names}]",
        "message": f"{field} goes with {words}",
    }


COMPENSATION_KINDS = tuple(sorted(name for name, kind in STEPS.items() if kind.compensates))
_COMPENSATION_PLACE = "spec.stages[].rollback.steps[]"

_RULES_BY_MODEL: Mapping[str, list[Rule]] = {
    "EnvSource": [exactly_one(["configMapKeyRef", "secretKeyRef"])],
    "EnvVar": [
        {
            "rule": "!(has(self.value) && has(self.valueFrom))",
            "message": "has both value and valueFrom; keep one",
        }
    ],
    "EnvFrom": [exactly_one(["configMapRef", "secretRef"])],
    "Job": [exactly_one(["fromCronJob", "image", "template"])],
    "JobReport": [exactly_one(REPORT_FORMATS)],
    "FlagsStep": [
        {
            "rule": (
                "(has(self.configMap) || has(self.target)) == (has(self.set) && size(self.set) > 0)"
            ),
            "message": (
                "set belongs to configMap and target, and they need it; a provider has its own"
            ),
        },
        {
            "rule": "has(self.target) == has(self.container)",
            "message": "container belongs to target: give both or none",
        },
    ],
    "Stage": [
        {
            "rule": (
                "(has(self.steps) && size(self.steps) > 0) || (has(self.gates) && "
                "size(self.gates) > 0)"
            ),
            "message": "has neither steps nor gates; give it something to do",
        },
    ],
    "HttpCheck": [
        {
            "rule": "!has(self.equals) || has(self.jsonPath)",
            "message": "equals needs jsonPath, which says what must be equal",
        },
        {
            "rule": "self.measure != 'Latency' || !has(self.jsonPath)",
            "message": "measure: Latency and jsonPath are two questions; make them two checks",
        },
        {
            "rule": "self.method != 'HEAD' || !has(self.jsonPath)",
            "message": "jsonPath needs a body, which HEAD does not have; use method: GET",
        },
    ],
    "SqlCheck": [
        exactly_one(["query", "rls", "connections", "slowQueries", "blocked"]),
        {
            "rule": "!has(self.parameters) || has(self.query)",
            "message": "parameters belong to query",
        },
        {
            "rule": "!has(self.query) || !self.query.contains('$(')",
            "message": "query holds $(...); use parameters",
        },
    ],
    "SupabaseQuery": [
        {"rule": "!self.sql.contains('$(')", "message": "sql holds $(...); use parameters"}
    ],
    "GithubCheck": [
        exactly_one(["checks", "openIssues"]),
        {
            "rule": "has(self.checks) == has(self.commit)",
            "message": "checks are those of a commit: give both or none",
        },
    ],
    "GithubAction": [
        exactly_one(["deployment", "workflow"]),
        {
            "rule": "!has(self.workflow) || !has(self.workflow.inputs) || "
            "!(self.workflow.keyInput in self.workflow.inputs)",
            "message": "the input named by keyInput gets the operation's key; name another",
        },
    ],
    "SentryCheck": [exactly_one(["errors", "failureRatio", "newIssues", "p95"])],
    "VercelAccess": [
        {
            "rule": "!(has(self.teamId) && has(self.slug))",
            "message": "has both teamId and slug; keep one",
        },
    ],
    "VercelCheck": [
        exactly_one(["duration", "env", "errorRatio", "lcp"]),
        {
            "rule": "!has(self.newerThan) || has(self.env)",
            "message": "newerThan belongs to env: which variables must have been changed",
        },
    ],
    "Smoke": [
        {
            "rule": "!has(self.equals) || has(self.jsonPath)",
            "message": "equals needs jsonPath, which says what must be equal",
        },
    ],
    "AdvisorsQuestion": [
        {
            "rule": "!(has(self.level) && has(self.names))",
            "message": "level and names are two ways to choose; keep one",
        },
    ],
    "SupabaseCheck": [exactly_one(["advisors", "backups", "health", "query", "apiKeys"])],
    "SupabaseAction": [exactly_one(["restorePoint", "undo", "restorePitr"])],
    "Captured": [exactly_one(["configMap", "secret"])],
    "InterventionSpec": [
        {
            "rule": "self == oldSelf",
            "message": "an Intervention cannot be changed; make another one",
        },
        _only_rule("stage", intervention.OF_STAGE),
        _only_rule("step", intervention.OF_STEP),
        _only_rule("gate", intervention.OF_GATE),
        _only_rule("followUp", intervention.OF_FOLLOW_UP),
        _only_rule("specHash", intervention.OF_SPEC),
        {
            "rule": (
                "!has(self.followUp) || !(has(self.stage) || has(self.step) || has(self.gate) "
                "|| has(self.specHash))"
            ),
            "message": "followUp names all that is meant; leave out stage, step, gate and specHash",
        },
    ],
    "RedisCheck": [exactly_one(["hitRatio", "memory"])],
    "UpstashCheck": [exactly_one(["hitRatio", "memory"])],
    "OfrepCheck": [
        {
            "rule": (
                "(has(self.users) && size(self.users) > 0) || (has(self.others) && "
                "size(self.others) > 0)"
            ),
            "message": "needs users or others: whom to evaluate the flag for",
        },
    ],
    "OfrepAccess": [
        {
            "rule": "!(has(self.bearerToken) && has(self.apiKey))",
            "message": "has both bearerToken and apiKey; keep one",
        },
    ],
    "WorkloadConfig": [
        {
            "rule": (
                "(has(self.images) && size(self.images) > 0) || (has(self.env) && "
                "size(self.env) > 0)"
            ),
            "message": "needs images or env: without them no version can be told",
        },
    ],
    "ReleaseSpec": [
        {
            "rule": "self.stages.all(stage, !has(stage.steps) || stage.steps.all(step, "
            "!has(step.deploy) || "
            "step.deploy.targets.all(name, has(self.targets) && "
            "self.targets.exists(target, target.name == name))))",
            "message": "a deploy step names a target that is not in spec.targets",
            "fieldPath": ".stages",
        },
        {
            "rule": "self.stages.map(stage, (has(stage.steps) ? size(stage.steps) : 0) + "
            "(has(stage.gates) ? "
            "size(stage.gates) : 0) + (has(stage.rollback) && has(stage.rollback.steps) ? "
            "size(stage.rollback.steps) : 0))"
            f".sum() <= {size.MOST_PARTS}",
            "message": (
                f"more than {size.MOST_PARTS} steps, gates and compensations; split the Release"
            ),
            "fieldPath": ".stages",
        },
    ],
}


def model_rules(name: str, path: str) -> list[Rule]:
    """The rules of a model at a place."""
    return list(_RULES_BY_MODEL.get(name, []))


def meaningless_fields(path: str) -> set[str]:
    """Fields that a model has, but not at this place: only jobs, flags and actions can
    compensate."""
    return (
        {*STEP_KINDS, "proof"} - set(COMPENSATION_KINDS) if path == _COMPENSATION_PLACE else set()
    )


_SET_PLACES = (
    "spec.stages[].steps[].deploy.targets",
    "spec.stages[].steps[].requires",
    _COMPENSATION_PLACE + ".requires",
)


def is_set(path: str) -> bool:
    """Whether a list of words may name each word only once."""
    return path in _SET_PLACES


ROOT_RULES: Mapping[str, list[Rule]] = {
    "Release": [
        {
            "rule": "self.metadata.name.size() <= 63",
            "message": (
                "metadata.name is at most 63 characters long, because everything that "
                "belongs to it carries it as a label"
            ),
        },
    ],
    "Connection": [],
    "Intervention": [],
}

# --------------------------------------------------------------------------------------------------
# Texts


@dataclass(frozen=True, slots=True)
class TextRule:
    """A text that is judged in CEL, so that its message can say what would be right."""

    what: str
    hint: str
    rule: Rule | None
    """None where the pattern itself has to do."""


_TEXTS: Mapping[str, tuple[str, str]] = {
    base.BOUNDED_DURATION_PATTERN: ("a duration", "at most 90d; try 30s, 15m or 1h30m"),
    base.TIMEOUT_PATTERN: ("a time-out", "at most 60s; try 5s or 500ms"),
    base.INTERVAL_PATTERN: ("an interval", "at least 1s; try 10s or 1m"),
    base.QUANTITY_PATTERN: ("a quantity", "try 1%, 100ms, 2s or 80"),
    base.NAME_PATTERN: ("a name", "lower case letters, digits and -, as in bug-fixes"),
    base.VERSION_PATTERN: ("a version", "letters, digits and . _ + -, as in 2.4.0"),
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": (
        "the name of an object",
        "lower case letters, digits, - and .",
    ),
    r"^https?://[^\s@]+$": (
        "an http(s) URL without credentials",
        "try http://prometheus.monitoring.svc:9090",
    ),
}
_TOO_DEEP = ("env[]", "envFrom[]")
"""So many of these may stand in one Release that judging their texts in CEL would be over the
budget."""


def text_rule(pattern: str, path: str, expanded: bool) -> TextRule | None:
    """The rule for a known pattern of the language; None where the pattern itself says enough."""
    if (
        pattern not in _TEXTS
        or path.startswith("status")
        or any(part in path for part in _TOO_DEEP)
    ):
        return None
    what, hint = _TEXTS[pattern]
    # For each text of each provider, a rule has four times the bytes.
    if expanded and path.startswith(REPEATED_PLACES):
        return TextRule(what, hint, None)
    rule = {
        "rule": f"self.matches({_raw_string(or_reference(pattern) if expanded else pattern)})",
        "messageExpression": f"'\"' + self + '\" is not {what} ({hint})'",
    }
    return TextRule(what, hint, rule)


def or_reference(pattern: str) -> str:
    """The pattern, or any text with `$(...)` in it, which is judged once that was put in."""
    return pattern if re.search(pattern, "$(version)") else rf"{pattern}|\$\("


def key_rules(names: Mapping[str, Any]) -> list[Rule]:
    """The rule for the keys of a map: CRDs have no patternProperties."""
    limits = [f"key.size() <= {names['maxLength']}"] if "maxLength" in names else []
    limits += [f"key.matches({_raw_string(names['pattern'])})"] if "pattern" in names else []
    if not limits:
        return []
    words = [f"is at most {names['maxLength']} characters long"] if "maxLength" in names else []
    words += [f"is of the form {names['pattern']}"] if "pattern" in names else []
    return [
        {
            "rule": f"self.all(key, {' && '.join(limits)})",
            "message": f"each key {' and '.join(words)}",
        }
    ]


def _raw_string(pattern: str) -> str:
    """A CEL raw string."""
    assert "'" not in pattern
    return f"r'{pattern}'"
