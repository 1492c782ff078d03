"""What is wrong with what users wrote, in sentences that name the path and say what would be right.

Two sources: pydantic's errors, turned into sentences by `explain`, and the keys of providers, which
only the registry knows (`problems`, `connection_problems`). `$(NAME)` may stand in any text of a
provider's configuration: what the spec itself knows (the version, `vars`) is put in before the
configuration is checked; text that holds what only a run knows is not judged before the run.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from gatewright.api.base import Keyed, quantity
from gatewright.api.connection import ConnectionSpec
from gatewright.api.jobs import Job
from gatewright.api.release import (
    STEP_KINDS,
    Approval,
    Check,
    FollowUp,
    Notify,
    ReleaseSpec,
    Step,
    Target,
)
from gatewright.core.spec.expand import expand_references, find_references
from gatewright.core.steps import kind_of
from gatewright.ports import Permanent
from gatewright.providers import places, registry
from gatewright.providers.common import addresses
from gatewright.providers.common.queries import REFERENCE_ERROR
from gatewright.providers.error_messages import (
    error_sentence,
    explain_errors,
    field_names,
    iter_explained,
    list_names,
    path_at,
    quote_value,
    suggest_name,
)
from gatewright.providers.units import explain_misfit, unit_of

__all__ = ["connection_problems", "explain_errors", "iter_explained", "spec_problems"]

_CORE_CHECKS: Mapping[str, type[BaseModel]] = {"job": Job, "approval": Approval}
"""Checks that are not measured: core handles them itself."""
_MEASURING_FIELDS = (
    "max",
    "min",
    "for",
    "failureThreshold",
    "interval",
    "onNoData",
    "onError",
    "holdFor",
    "onHoldExpired",
)
"""Fields of a check that say how it is measured."""
_SHORT_JOB_FIELDS = ("command", "args", "env", "envFrom", "serviceAccountName", "resources")
"""Fields of a Job that belong to its short form."""
_MAX_PROBLEMS = 50
"""Problems of one place that are put into words."""


def spec_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Everything that is wrong with the providers of a spec, in the order of the spec, one after
    the other."""
    names = _known_names(spec)
    for index, target in enumerate(spec.targets):
        yield from _target_problems(f"spec.targets[{index}]", target, names)
    for path, step, where in places.iter_steps(spec):
        yield from _step_problems(path, step, {**names, "stage": where}, spec)
    yield from _unapproved_problems(spec)
    for index, entry in enumerate(spec.notify):
        yield from _keyed_problems(f"spec.notify[{index}]", entry, registry.NOTIFIERS, names)
        yield from _notify_problems(f"spec.notify[{index}]", entry, spec)
    for path, check, stage in places.iter_checks(spec):
        yield from _check_problems(
            path, check, names if stage is None else {**names, "stage": stage}
        )
    for index, item in enumerate(spec.followUps):
        yield from _follow_up_problems(f"spec.followUps[{index}]", item, names)


def connection_problems(spec: Mapping[str, Any], namespace: str = "") -> list[str]:
    """Everything that is wrong with the spec of a Connection; of a namespace: what is closed to
    that, too."""
    try:
        parsed = ConnectionSpec.model_validate(spec)
    except ValidationError as error:
        return explain_errors(error, "spec", spec, ConnectionSpec)
    configs = {key: connector.config for key, connector in registry.CONNECTIONS.items()}
    key, found = _choose_provider("spec", parsed, configs)
    if key is None:
        return found
    raw = (parsed.model_extra or {})[key]
    config, wrong = _validate_config(configs[key], raw, f"spec.{key}", {})
    found += wrong
    url = getattr(config, "url", None)
    if isinstance(url, str):
        try:
            addresses.check_url(url, namespace)
        except Permanent as error:
            found.append(f"spec.{key}.url: {error}")
    return found


# --- each place by itself


def _known_names(spec: ReleaseSpec) -> dict[str, str]:
    return {"version": spec.version, "run": "1"} | {
        f"vars.{name}": value for name, value in spec.vars.items()
    }


def _target_problems(path: str, target: Target, names: Mapping[str, str]) -> list[str]:
    found = _keyed_problems(path, target, {**registry.TARGETS, **registry.EXTERNAL_TARGETS}, names)
    raw = (target.model_extra or {}).get("workload")
    if (
        isinstance(raw, Mapping)
        and raw.get("kind") == "StatefulSet"
        and raw.get("drainTimeout") is not None
    ):
        why = "its pods end before new ones are made"
        found.append(
            f"{path}.workload.drainTimeout: has no effect on a StatefulSet: {why}; leave it out"
        )
    return found


def _step_problems(path: str, step: Step, names: Mapping[str, str], spec: ReleaseSpec) -> list[str]:
    return [
        *_timeout_problems(path, step),
        *_job_problems(f"{path}.job", step.job),
        *_provider_problems(path, step, names, spec),
    ]


def _timeout_problems(path: str, step: Step) -> Iterator[str]:
    """A step's own time is for a provider's action; the other kinds have theirs."""
    if step.model_extra or "timeout" not in step.model_fields_set:
        return

    why = kind_of(step).why_untimed
    if why:
        yield f"{path}.timeout: has no effect beside {step.kind}, {why}; leave it out"
    else:
        yield (
            f"{path}.timeout: has no effect beside {step.kind}; move it there ({step.kind}.timeout)"
        )


def _job_problems(path: str, job: Job | None) -> Iterator[str]:
    """A template is run as it is."""
    if job is None or job.image is not None:
        return
    owner = "fromCronJob" if job.fromCronJob is not None else "template"
    for name in _SHORT_JOB_FIELDS:
        if getattr(job, name):
            yield f"{path}.{name}: has no effect beside {owner}, which says all of it; put it there"


def _notify_problems(path: str, entry: Notify, spec: ReleaseSpec) -> Iterator[str]:
    if "Downtime" not in entry.events:
        given = [name for name in ("after", "health") if name in entry.model_fields_set]
        yield from (
            f"{path}.{name}: has no effect without Downtime; add it to events" for name in given
        )
    stages = [check for stage in spec.stages for check in stage.gates]
    known = {check.name for check in (*spec.guards, *stages, *spec.rollback.verify)}
    for index, name in enumerate(entry.health):
        if name not in known:
            yield (
                f"{path}.health[{index}]: {quote_value(name)} is no guard, gate or "
                f"verification{suggest_name(name, known)}"
            )


def _provider_problems(
    path: str, step: Step, names: Mapping[str, str], spec: ReleaseSpec
) -> list[str]:
    if step.model_extra:
        return _keyed_problems(path, step, registry.ACTIONS, names)
    if step.flags is None:
        return []
    if step.flags.model_extra:
        return _keyed_problems(f"{path}.flags", step.flags, registry.FLAGS, names)
    hosted = {
        target.name
        for target in spec.targets
        if set(target.model_extra or {}) & set(registry.EXTERNAL_TARGETS)
    }
    if step.flags.target in hosted:
        return [
            f"{path}.flags.target: {quote_value(step.flags.target)} has no containers; set "
            "its flags by its provider "
            f"({list_names(registry.FLAGS)})"
        ]
    return []


def _unapproved_problems(spec: ReleaseSpec) -> Iterator[str]:
    """What cannot be undone, and nobody approves first."""
    for number, stage in enumerate(spec.stages):
        lists = (
            (f"spec.stages[{number}].steps", stage.steps),
            (f"spec.stages[{number}].rollback.steps", stage.rollback.steps),
        )
        for path, steps in lists:
            approved = False
            for index, step in enumerate(steps):
                approved = approved or step.approval is not None
                for key in registry.NEEDS_APPROVAL.intersection(step.model_extra or {}):
                    if not approved:
                        remedy = "put an approval step before it"
                        yield (
                            f"{path}[{index}].{key}: there is no way back from it, so somebody "
                            f"has to approve it; {remedy}"
                        )


def _keyed_problems(
    path: str, keyed: Keyed, table: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    configs = {key: provider.config for key, provider in table.items()}
    key, found = _choose_provider(path, keyed, configs)
    if key is None:
        return found
    return (
        found
        + _validate_config(configs[key], (keyed.model_extra or {})[key], f"{path}.{key}", names)[1]
    )


def _check_problems(path: str, check: Check, names: Mapping[str, str]) -> list[str]:
    configs = {**{key: gate.config for key, gate in registry.GATES.items()}, **_CORE_CHECKS}
    key, found = _choose_provider(path, check, configs)
    found += _range_problems(path, check)
    if key is None:
        return found
    config, wrong = _validate_config(
        configs[key], (check.model_extra or {})[key], f"{path}.{key}", names
    )
    found += wrong
    if isinstance(config, Job):
        found += _job_problems(f"{path}.{key}", config)
    return found + list(_limit_problems(path, check, key, config))


def _follow_up_problems(path: str, item: FollowUp, names: Mapping[str, str]) -> list[str]:
    extra = list(item.model_extra or {})
    acts = [
        key
        for key in extra
        if key in (*_CORE_CHECKS, *STEP_KINDS)
        or (key in registry.ACTIONS and key not in registry.GATES)
    ]
    if acts:
        remedy = (
            "it is confirmed or measured, and does nothing by itself; make it a step of a stage"
        )
        return [f"{path}.{key}: is no follow-up: {remedy}" for key in acts]
    if item.confirm is None and not extra:
        return [f"{path}: needs exactly one of confirm, {list_names(registry.GATES)}; it has none"]
    if item.confirm is None:
        return _check_problems(path, item, names)
    if extra:
        return [f"{path}: has confirm and {list_names(extra)}; keep exactly one"]
    return [
        f"{path}.{name}: means nothing beside confirm, which is not measured"
        for name in _given_fields(item)
    ]


def _choose_provider(
    path: str, keyed: Keyed, known: Mapping[str, Any]
) -> tuple[str | None, list[str]]:
    """The one provider key, if there is exactly one that is known; and what is wrong with the
    others."""
    extra = list(keyed.model_extra or {})
    providers = [key for key in extra if key in known]
    strangers = [key for key in extra if key not in known]
    if len(providers) > 1:
        return None, [
            f"{path}: has {len(providers)} providers ({list_names(providers)}); keep exactly one"
        ]
    fields = field_names(type(keyed))
    if providers:
        return providers[0], [
            f"{path}: unknown field {quote_value(key)}{suggest_name(key, fields)}"
            for key in strangers
        ]
    if not strangers:
        return None, [f"{path}: has no provider; it needs exactly one of {list_names(known)}"]
    return None, [_explain_stranger(path, key, fields, known) for key in strangers]


def _explain_stranger(path: str, key: str, fields: Iterable[str], known: Iterable[str]) -> str:
    if not difflib.get_close_matches(key, known) and difflib.get_close_matches(key, fields):
        return f"{path}: unknown field {quote_value(key)}{suggest_name(key, fields)}"
    near = suggest_name(key, known).removeprefix(" (").removesuffix(")")
    return (
        f"{path}: unknown provider {quote_value(key)} (known: "
        f"{list_names(known)}{near and f'; {near}'})"
    )


# --- the configuration of one provider


def _validate_config(
    model: type[BaseModel], raw: Any, where: str, names: Mapping[str, str]
) -> tuple[BaseModel | None, list[str]]:
    """The configuration, with what is known put in; and what is wrong with it, unknown text left
    out.

    None where something is wrong. Where only unknown text keeps it from being checked it is as good
    as it can be told.
    """
    found = dict.fromkeys(find_references(raw, where))
    unknown = {name: f"$({name})" for _, name in found if name not in names}
    open_paths = {spot for spot, name in found if name in unknown}
    value = expand_references(raw, {**names, **unknown}, where)
    named = (
        (spot, name) for spot, name in found if spot == f"{where}.connection" and name in unknown
    )
    late = [
        (
            f"{spot}: $({name[:100]}) is not known when a run finds its Connections, before "
            "its first change; use a variable"
        )
        for spot, name in itertools.islice(named, _MAX_PROBLEMS)
    ]
    late += _verbatim_problems(model, raw, where) if "$(" in str(raw) else []
    try:
        return model.model_validate(value), late
    except ValidationError as error:
        errors = (
            details
            for details in error.errors(include_url=False)
            if path_at(where, details["loc"]) not in open_paths
            and details["type"] != REFERENCE_ERROR
        )
        wrong = [
            error_sentence(details, where, model)
            for details in itertools.islice(errors, _MAX_PROBLEMS)
        ]
        known = model.model_construct(**value) if isinstance(value, dict) and not wrong else None
        return known, late + wrong


def _verbatim_problems(model: type[BaseModel], raw: Any, where: str) -> list[str]:
    """References that stand in a text as it is written, where what is put in for them would be read
    as a program."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        return [
            error_sentence(details, where, model)
            for details in found
            if details["type"] == REFERENCE_ERROR
        ]
    return []


def _range_problems(path: str, check: Check) -> list[str]:
    if (
        check.max is not None
        and check.min is not None
        and quantity(check.min) > quantity(check.max)
    ):
        return [f"{path}: min {check.min} is above max {check.max}; no value could pass"]
    return []


def _limit_problems(path: str, check: Check, key: str, config: BaseModel | None) -> Iterator[str]:
    """Whether the limits fit what is measured."""
    if key in _CORE_CHECKS:
        yield from (
            f"{path}.{name}: means nothing beside {key}, which is not measured"
            for name in _given_fields(check)
        )
        return
    wanted = getattr(config, "limits", registry.GATES[key].limits)
    limited = {
        name: limit for name, limit in (("max", check.max), ("min", check.min)) if limit is not None
    }
    if wanted == "required" and not limited:
        yield (
            f"{path}: {key} measures a number, which means nothing without a limit; add max or "
            'min (max: "1%")'
        )
    if wanted == "useless":
        way = "; add jsonPath or measure: Latency" if key == "http" else ""
        yield from (f"{path}.{name}: there is no number to compare{way}" for name in limited)
        return
    unit = unit_of(registry.GATES[key], config)
    yield from (
        f"{path}.{name}: {why}"
        for name, limit in limited.items()
        for why in explain_misfit(unit, limit)
    )


def _given_fields(check: Check) -> list[str]:
    """What is said of how a check is measured; what was left out has its default, and is not."""
    fields = {"for": "for_"}
    names = ((name, fields.get(name, name)) for name in _MEASURING_FIELDS)
    return [
        name
        for name, own in names
        if own in check.model_fields_set and getattr(check, own) is not None
    ]
