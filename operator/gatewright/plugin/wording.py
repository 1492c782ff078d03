"""What a check or a step of a spec is, in a few words; a spec as JSON has it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatewright.core.spec.expand import UnknownReference, expand_references, find_references
from gatewright.plugin.show import MAX_CELL_LENGTH, Object, clean_text, cut_text

_LONGEST_DESCRIPTION = 1024
_NO_PROVIDERS = ("proof", "set")
"""Maps of a check or a step that are no provider."""


def known_names(release: Object, run: int | None = None) -> dict[str, str]:
    """Return what `$(...)` stands for, as far as a Release itself tells."""
    spec, status = release.get("spec") or {}, release.get("status") or {}
    last_good = (status.get("lastGood") or {}).get("version")
    variables = {f"vars.{name}": str(value) for name, value in (spec.get("vars") or {}).items()}

    names = {"version": str(spec.get("version", "")), **variables}
    names |= {"lastGood.version": str(last_good)} if last_good else {}
    return names | ({"run": str(run)} if run else {})


def resolve_known(spec: Object, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a spec with what is known put in; what only a run will know stays as it is."""
    unknown = {name: f"$({name})" for _, name in find_references(spec) if name not in names}
    try:
        resolved = {
            field: value if field == "vars" else expand_references(value, {**unknown, **names})
            for field, value in spec.items()
        }
    except UnknownReference:
        return dict(spec)  # it is too long with everything put in

    # Each stage knows its own name.
    resolved["stages"] = [
        expand_references(stage, {**unknown, **names, "stage": stage["name"]})
        for stage in spec.get("stages") or ()
    ]
    return resolved


def provider_of(entry: Object) -> str:
    """Return the provider key of a check or step: providers are its only maps."""
    for key, value in entry.items():
        if isinstance(value, Mapping) and key not in _NO_PROVIDERS:
            return str(key)
    return ""


def describe_check(check: Object, longest: int = MAX_CELL_LENGTH) -> str:
    """Return what is asked, and what is good."""
    if "approval" in check:
        return describe_approval(check["approval"] or {})
    if "confirm" in check:
        return describe_confirm(check["confirm"] or {}, longest)

    words = [provider_of(check) or "nothing"]
    words += [f">= {check['min']}"] if check.get("min") is not None else []
    words += [f"<= {check['max']}"] if check.get("max") is not None else []
    words += [f"for {check['for']}"] if check.get("for") else []
    words += [f"{check['failureThreshold']} in a row"] if check.get("failureThreshold") else []
    return " ".join(words)


def describe_step(step: Object, longest: int = MAX_CELL_LENGTH) -> str:
    """Return what a step does."""
    if step.get("confirm") is not None:
        return describe_confirm(step["confirm"], longest)
    for kind, describe in _STEPS.items():
        if step.get(kind) is not None:
            return describe(step[kind])

    provider = provider_of(step)
    details = step.get(provider)
    action = next(iter(details), "") if isinstance(details, Mapping) else ""
    return f"{provider}: {action}" if action else provider or "nothing"


def describe_approval(approval: Object) -> str:
    """Return who has to say go."""
    groups = ", ".join(approval.get("groups") or ())
    count = approval.get("count", 1)
    who = f"a member of {groups}" if groups else "whoever may approve"
    return f"approval by {f'{count} people: {who}' if count > 1 else who}"


def describe_procedure(procedure: Object) -> dict[str, Any]:
    """Return what a procedure is for, who approves it, and what it asks to be repeated."""
    approval = procedure.get("approval")
    row = {
        "name": procedure["name"],
        "description": cut(procedure.get("description") or "", _LONGEST_DESCRIPTION),
        "approval": describe_approval(approval) if approval is not None else None,
        "confirm": procedure.get("confirm"),
        "undo": bool(procedure.get("undo")),
    }
    return {name: value for name, value in row.items() if value is not None}


def procedure_command(release: str) -> str:
    """Return what a person types to run a procedure."""
    return f"kubectl release run {release or 'RELEASE'} NAME --reason WHY"


def describe_confirm(confirm: Object, longest: int = MAX_CELL_LENGTH) -> str:
    """Return what a person does by hand."""
    return f"by hand: {cut(confirm.get('instructions', ''), longest)}"


def cut(text: Any, longest: int = MAX_CELL_LENGTH) -> str:
    """Return a text on one line, not too long."""
    return cut_text(" ".join(clean_text(text).split()), longest)


def _describe_deploy(deploy: Object) -> str:
    to = f" to {deploy['version']}" if deploy.get("version") else ""
    restart = ", every pod anew" if deploy.get("restart") else ""
    return f"deploy {', '.join(deploy.get('targets') or ())}{to}{restart}"


def _describe_job(job: Object) -> str:
    if job.get("fromCronJob"):
        return f"job of CronJob {job['fromCronJob']}"
    return f"job {job['image']}" if job.get("image") else "job"


def _describe_flags(flags: Object) -> str:
    names = ", ".join(flags.get("set") or ())
    where = f"ConfigMap {flags['configMap']}" if flags.get("configMap") else ""
    where = f"target {flags['target']}" if flags.get("target") else where
    return f"flags of {where or provider_of(flags)}{f': {names}' if names else ''}"


def _describe_wait(wait: Any) -> str:
    return f"wait {wait}"


_STEPS: Mapping[str, Callable[[Any], str]] = {
    "deploy": _describe_deploy,
    "job": _describe_job,
    "flags": _describe_flags,
    "wait": _describe_wait,
    "approval": describe_approval,
}
"""The step kinds of `core.steps`, but for `confirm`; all others are a provider's action."""
