"""What is wrong with what users wrote, in sentences that name the path and say what would be right.

Three sources: pydantic's errors, turned into sentences by `explain`, the keys of providers, which
only the registry knows (`spec_problems`, `connection_problems`), and what the core finds
(`core.spec.problems`). `check_spec` asks all of them. `$(NAME)` may stand in any text of a
provider's configuration: what the spec itself knows (the version, `vars`) is put in before the
configuration is checked; text that holds what only a run knows is not judged before the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from gatewright.api.base import Keyed, quantity
from gatewright.api.checks import Check, FollowUp
from gatewright.api.connection import ConnectionSpec
from gatewright.api.jobs import Job
from gatewright.api.notify import Notify
from gatewright.api.people import Approval
from gatewright.api.release import ReleaseSpec, Target
from gatewright.api.steps import STEP_KINDS, Step
from gatewright.core.report import size
from gatewright.core.spec import procedures
from gatewright.core.spec.pinned_spec import variable_names
from gatewright.core.spec.problems import find_problems
from gatewright.ports import Permanent
from gatewright.providers import places, registry
from gatewright.providers.common import addresses, context
from gatewright.providers.config_problems import choose_provider, validate_config
from gatewright.providers.error_messages import (
    explain_errors,
    iter_explained,
    list_names,
    quote_value,
    suggest_name,
)
from gatewright.providers.units import LIMIT_MESSAGE, explain_misfit, unit_of

__all__ = [
    "check_spec",
    "connection_problems",
    "explain_errors",
    "iter_explained",
    "spec_problems",
]

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


def check_spec(raw: Any) -> tuple[ReleaseSpec | None, Iterator[str]]:
    """Return a spec, and everything that is wrong with it, one after the other.

    None where its fields' own shapes are wrong already.
    """
    try:
        spec = ReleaseSpec.model_validate(raw)
    except ValidationError as error:
        return None, iter_explained(error, "spec")

    problem = size.find_expansion_problem(spec)
    if problem is not None:
        return spec, iter([problem])
    return spec, itertools.chain(spec_problems(spec), find_problems(spec))


def spec_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Yield everything that is wrong with the providers of a spec, in its order, one after the
    other."""
    names = _known_names(spec)
    for index, target in enumerate(spec.targets):
        yield from _target_problems(f"spec.targets[{index}]", target, names)

    for path, step, stage_name in places.iter_steps(spec):
        yield from _step_problems(path, step, {**names, "stage": stage_name}, spec)
    for path, step, procedure in procedures.iter_steps(spec):
        yield from _step_problems(path, step, {**names, "stage": procedure}, spec)
    yield from _unapproved_problems(spec)

    for index, entry in enumerate(spec.notify):
        yield from _keyed_problems(f"spec.notify[{index}]", entry, registry.NOTIFIERS, names)
        yield from _notify_problems(f"spec.notify[{index}]", entry, spec)

    for path, check, stage in places.iter_checks(spec):
        known = names if stage is None else {**names, "stage": stage}
        yield from _check_problems(path, check, known)
    for index, follow_up in enumerate(spec.followUps):
        yield from _follow_up_problems(f"spec.followUps[{index}]", follow_up, names)


def use_default_settings() -> None:
    """Judge addresses by what holds where nothing is set: the operator's settings are not at
    hand."""
    context.install(context.ProviderContext())


def connection_problems(spec: Mapping[str, Any], namespace: str = "") -> list[str]:
    """Return everything that is wrong with the spec of a Connection; of a namespace: what is closed
    to that, too."""
    try:
        parsed = ConnectionSpec.model_validate(spec)
    except ValidationError as error:
        return explain_errors(error, "spec", spec, ConnectionSpec)

    configs = {key: connector.config for key, connector in registry.CONNECTIONS.items()}
    key, problems = choose_provider("spec", parsed, configs)
    if key is None:
        return problems

    raw = (parsed.model_extra or {})[key]
    config, wrong = validate_config(configs[key], raw, f"spec.{key}", {})
    problems += wrong

    url = getattr(config, "url", None)
    if isinstance(url, str):
        try:
            addresses.check_url(url, namespace)
        except Permanent as error:
            problems.append(f"spec.{key}.url: {error}")

    return problems


# --- each place by itself


def _known_names(spec: ReleaseSpec) -> dict[str, str]:
    return {"version": spec.version, "run": "1", **variable_names(spec)}


def _target_problems(path: str, target: Target, names: Mapping[str, str]) -> list[str]:
    problems = _keyed_problems(
        path, target, {**registry.TARGETS, **registry.EXTERNAL_TARGETS}, names
    )
    raw = (target.model_extra or {}).get("workload")
    if not isinstance(raw, Mapping) or raw.get("kind") != "StatefulSet":
        return problems

    if raw.get("drainTimeout") is not None:
        why = "its pods end before new ones are made"
        fault = f"has no effect on a StatefulSet: {why}"
        problems.append(f"{path}.workload.drainTimeout: {fault}; leave it out")
    return problems


def _step_problems(path: str, step: Step, names: Mapping[str, str], spec: ReleaseSpec) -> list[str]:
    return [
        *_job_problems(f"{path}.job", step.job),
        *_provider_problems(path, step, names, spec),
    ]


def _job_problems(path: str, job: Job | None) -> Iterator[str]:
    """Yield what is said beside a template, which is run as it is."""
    if job is None or job.image is not None:
        return
    owner = "fromCronJob" if job.fromCronJob is not None else "template"
    for name in _SHORT_JOB_FIELDS:
        if getattr(job, name):
            yield f"{path}.{name}: has no effect beside {owner}, which says all of it; put it there"


def _notify_problems(path: str, entry: Notify, spec: ReleaseSpec) -> Iterator[str]:
    if "Downtime" not in entry.events:
        for field in ("after", "health"):
            if field in entry.model_fields_set:
                yield f"{path}.{field}: has no effect without Downtime; add it to events"

    check_names = {check.name for check in (*spec.guards, *spec.rollback.verify)}
    for stage in spec.stages:
        check_names.update(check.name for check in stage.gates)

    for field, names in (("health", entry.health), ("checks", entry.checks)):
        for index, name in enumerate(names):
            if name not in check_names:
                hint = suggest_name(name, check_names)
                fault = f"{quote_value(name)} is no guard, gate or verification{hint}"
                yield f"{path}.{field}[{index}]: {fault}"


def _provider_problems(
    path: str, step: Step, names: Mapping[str, str], spec: ReleaseSpec
) -> list[str]:
    if step.model_extra:
        return _keyed_problems(path, step, registry.ACTIONS, names)
    if step.flags is None:
        return []
    if step.flags.model_extra:
        return _keyed_problems(f"{path}.flags", step.flags, registry.FLAGS, names)

    externals = {
        target.name
        for target in spec.targets
        if set(target.model_extra or {}) & set(registry.EXTERNAL_TARGETS)
    }
    if step.flags.target in externals:
        fault = f"{quote_value(step.flags.target)} has no containers"
        remedy = f"set its flags by its provider ({list_names(registry.FLAGS)})"
        return [f"{path}.flags.target: {fault}; {remedy}"]

    return []


def _unapproved_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Yield what cannot be undone, and nobody approves first."""
    for number, stage in enumerate(spec.stages):
        path = f"spec.stages[{number}]"
        yield from _unapproved_in(f"{path}.steps", stage.steps)
        yield from _unapproved_in(f"{path}.rollback.steps", stage.rollback.steps)

    for number, procedure in enumerate(spec.procedures):
        # Whoever approves has seen the procedure.
        if procedure.approval is None:
            yield from _unapproved_in(f"spec.procedures[{number}].steps", procedure.steps)
            yield from _unapproved_in(f"spec.procedures[{number}].undo", procedure.undo)


def _unapproved_in(path: str, steps: Sequence[Step]) -> Iterator[str]:
    for index, step in enumerate(steps):
        # Whoever approves has seen what comes after.
        if step.approval is not None:
            return

        for key in registry.NEEDS_APPROVAL.intersection(step.model_extra or {}):
            fault = "there is no way back from it, so somebody has to approve it"
            yield f"{path}[{index}].{key}: {fault}; put an approval step before it"


def _keyed_problems(
    path: str, keyed: Keyed, table: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    configs = {key: provider.config for key, provider in table.items()}
    key, problems = choose_provider(path, keyed, configs)
    if key is None:
        return problems

    raw = (keyed.model_extra or {})[key]
    _, wrong = validate_config(configs[key], raw, f"{path}.{key}", names)
    return problems + wrong


def _check_problems(path: str, check: Check, names: Mapping[str, str]) -> list[str]:
    configs = {**{key: gate.config for key, gate in registry.GATES.items()}, **_CORE_CHECKS}
    key, problems = choose_provider(path, check, configs)
    problems += _range_problems(path, check)
    if key is None:
        return problems

    raw = (check.model_extra or {})[key]
    config, wrong = validate_config(configs[key], raw, f"{path}.{key}", names)
    problems += wrong
    if isinstance(config, Job):
        problems += _job_problems(f"{path}.{key}", config)

    return problems + list(_limit_problems(path, check, key, config))


def _follow_up_problems(path: str, follow_up: FollowUp, names: Mapping[str, str]) -> list[str]:
    extra = list(follow_up.model_extra or {})
    acts = [key for key in extra if _does_something(key)]
    if acts:
        reason = "it is confirmed or measured, and does nothing by itself"
        remedy = "make it a step of a stage"
        return [f"{path}.{key}: is no follow-up: {reason}; {remedy}" for key in acts]

    if follow_up.confirm is None and not extra:
        return [f"{path}: needs exactly one of confirm, {list_names(registry.GATES)}; it has none"]
    if follow_up.confirm is None:
        return _check_problems(path, follow_up, names)
    if extra:
        return [f"{path}: has confirm and {list_names(extra)}; keep exactly one"]

    return [
        f"{path}.{name}: means nothing beside confirm, which is not measured"
        for name in _given_fields(follow_up)
    ]


def _does_something(key: str) -> bool:
    if key in _CORE_CHECKS or key in STEP_KINDS:
        return True
    # What can be done and measured is measured here.
    return key in registry.ACTIONS and key not in registry.GATES


def _range_problems(path: str, check: Check) -> list[str]:
    if check.max is None or check.min is None or quantity(check.min) <= quantity(check.max):
        return []
    return [f"{path}: min {check.min} is above max {check.max}; no value could pass"]


def _limit_problems(path: str, check: Check, key: str, config: BaseModel | None) -> Iterator[str]:
    """Yield where the limits do not fit what is measured."""
    if key in _CORE_CHECKS:
        for name in _given_fields(check):
            yield f"{path}.{name}: means nothing beside {key}, which is not measured"
        return

    given = (("max", check.max), ("min", check.min))
    limited = {name: limit for name, limit in given if limit is not None}

    need = getattr(config, "limits", registry.GATES[key].limits)
    if need == "required" and not limited:
        yield f"{path}: {key} {LIMIT_MESSAGE}"
    if need == "useless":
        way = "; add jsonPath or measure: Latency" if key == "http" else ""
        for name in limited:
            yield f"{path}.{name}: there is no number to compare{way}"
        return

    unit = unit_of(registry.GATES[key], config)
    for name, limit in limited.items():
        for why in explain_misfit(unit, limit):
            yield f"{path}.{name}: {why}"


def _given_fields(check: Check) -> list[str]:
    """List what is said of how a check is measured; what was left out has its default."""
    given: list[str] = []
    for name in _MEASURING_FIELDS:
        # `for` is a word of Python.
        own_name = "for_" if name == "for" else name
        if own_name in check.model_fields_set and getattr(check, own_name) is not None:
            given.append(name)
    return given
