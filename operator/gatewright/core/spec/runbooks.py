"""A Release that names a Runbook becomes one that has its body.

The Release has a version, the name of the Runbook, and values for its variables. What comes out is
the JSON of a Release as it might have been written without a Runbook, so that nothing beyond this
module knows the difference:

    vars       defaults, and what the Release gives; of the types that the Runbook says
    limits,    `$(vars.NAME)` of a Duration or Quantity, where it is the whole text: those are
    times      judged for their form before a run, so they cannot wait for it
    use        the check of that name in `spec.checks`; what stands beside it goes before
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.api.base import quantity, seconds
from gatewright.api.checks import FollowUp, Guard
from gatewright.api.release import BODY_FIELDS
from gatewright.api.runbook import Variable
from gatewright.core.spec.expand import cut_middle, list_names

ABOUT_FIELDS = ("owner", "description")
"""Fields of which a Release's own goes before that of its Runbook."""
LATE_TYPES = ("Duration", "Quantity")
"""Types whose variables stand where nothing is put in later."""
WHOLE_REFERENCE = re.compile(r"\$\(vars\.([A-Za-z][A-Za-z0-9_]*)\)")
"""A text that is one reference to a variable, and nothing else."""
_WORD = re.compile(r"[A-Za-z0-9._/:@+-]{0,1024}")
_INTEGER = re.compile(r"-?\d{1,18}")
_MOST_VALUE_CHARS = 60
_MOST_LINKS = 10

_FIELDS_OF_CHECKS = frozenset(
    field.alias or name for model in (Guard, FollowUp) for name, field in model.model_fields.items()
)
"""What may stand beside `use`: what every check, guard or follow-up says of itself."""

RawSpec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filled:
    """The values of all variables of a Runbook, and what is wrong with those that were given."""

    values: Mapping[str, str]
    problems: tuple[str, ...]


def runbook_of(release: Any) -> str:
    """Return the name of the Runbook that a spec names; empty for none, or none that can be
    read."""
    reference = release.get("runbookRef") if isinstance(release, Mapping) else None
    name = reference.get("name") if isinstance(reference, Mapping) else None
    return name if isinstance(name, str) else ""


def own_body_fields(release: RawSpec) -> list[str]:
    """Return what a Release says by itself although its Runbook says it."""
    return [field for field in BODY_FIELDS if release.get(field) is not None]


def fill_variables(variables: Sequence[Variable], given: Mapping[str, Any], name: str) -> Filled:
    """Return the values of the variables of Runbook `name`, as a Release gives them."""
    known = {variable.name for variable in variables}
    problems = [
        f"spec.vars.{cut_middle(key, _MOST_VALUE_CHARS)}: Runbook {name} has no such variable; it "
        f"has {list_names(known)}"
        for key in given
        if key not in known
    ]

    values: dict[str, str] = {}
    for variable in variables:
        value = given.get(variable.name, variable.default)
        if value is None:
            about = f" ({variable.description})" if variable.description else ""
            problems.append(
                f"spec.vars.{variable.name}: is missing; Runbook {name} needs it{about}"
            )
            continue
        wrong = find_misfit(variable, value)
        if wrong:
            problems.append(f"spec.vars.{variable.name}: {wrong}")
        else:
            values[variable.name] = value

    return Filled(values, tuple(problems))


def find_misfit(variable: Variable, value: Any) -> str:
    """Return why a variable cannot have a value; empty where it can."""
    if isinstance(value, bool | int | float):
        written = json.dumps(value)
        return f'{written} is not text; write it in quotes: "{written}"'
    if not isinstance(value, str):
        return "is no text; give one value, in quotes"
    shown = f'"{cut_middle(value, _MOST_VALUE_CHARS)}"'
    if variable.values and value not in variable.values:
        return f"{shown} is not one of {list_names(variable.values)}"
    return "" if _IS_OF_TYPE[variable.type](value) else f"{shown} is not {_IN_WORDS[variable.type]}"


def find_faults(variables: Sequence[Variable]) -> Iterator[str]:
    """Yield what is wrong with the variables of a Runbook by themselves."""
    places: dict[str, int] = {}
    for index, variable in enumerate(variables):
        path = f"spec.vars[{index}]"
        if variable.name in places:
            other = f"spec.vars[{places[variable.name]}]"
            yield f'{path}.name: "{variable.name}" is already the name of {other}'
        places.setdefault(variable.name, index)

        typed = variable.model_copy(update={"values": []})
        for number, value in enumerate(variable.values):
            wrong = find_misfit(typed, value)
            if wrong:
                yield f"{path}.values[{number}]: {wrong}"
        if variable.default is not None:
            wrong = find_misfit(variable, variable.default)
            if wrong:
                yield f"{path}.default: {wrong}"


def merge_runbook(
    release: RawSpec, runbook: RawSpec, values: Mapping[str, str], late: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the spec of a Release with the body of its Runbook, and what is wrong with `use`.

    `late`: the values of variables that stand where nothing is put in later.
    """
    body = {field: runbook[field] for field in BODY_FIELDS if field in runbook}
    problems: list[str] = []
    body = _with_checks(body, _checks_by_name(runbook), problems)
    body = _put_in(body, late)

    merged = {name: value for name, value in release.items() if name not in BODY_FIELDS} | body
    merged["vars"] = dict(values)
    for field in ABOUT_FIELDS:
        merged[field] = release.get(field) or runbook.get(field) or ""
    merged["links"] = _merge_links(release.get("links") or [], runbook.get("links") or [])
    return merged, problems


def count_uses(runbook: RawSpec) -> int:
    """Return the bytes of JSON that checks written once add to a Runbook where they are used."""
    sizes = {name: len(json.dumps(check)) for name, check in _checks_by_name(runbook).items()}
    return sum(sizes.get(name, 0) for name in _names_used(runbook))


# --- parts


def _checks_by_name(runbook: RawSpec) -> dict[str, RawSpec]:
    return {
        check["name"]: check
        for check in runbook.get("checks") or ()
        if isinstance(check, Mapping) and isinstance(check.get("name"), str)
    }


def _with_checks(
    body: dict[str, Any], checks: Mapping[str, RawSpec], problems: list[str]
) -> dict[str, Any]:
    """Return a body in which each `use` is the check that it names."""

    def replace_use(path: str, entry: RawSpec) -> Any:
        name = entry["use"]
        wrong = _find_misuse(path, entry)
        if wrong:
            problems.append(wrong)
        elif name not in checks:
            shown = cut_middle(name, _MOST_VALUE_CHARS)
            known = list_names(checks)
            problems.append(f'{path}.use: "{shown}" is not in spec.checks, which has {known}')
        own = {key: value for key, value in entry.items() if key != "use"}
        return own if wrong or name not in checks else {**checks[name], **own}

    for path, holder, field in _check_lists(body):
        entries = holder[field]
        if not any(_is_use(entry) for entry in entries):
            continue
        holder[field] = [
            replace_use(f"{path}[{index}]", entry) if _is_use(entry) else entry
            for index, entry in enumerate(entries)
        ]
    return body


def _find_misuse(path: str, entry: RawSpec) -> str:
    """Return what is wrong with a check that uses another one; empty for nothing."""
    if not isinstance(entry["use"], str):
        return f"{path}.use: must be the name of a check in spec.checks, as use: health"
    if not entry.get("name"):
        return f"{path}.name: is missing; a check that uses another one has a name of its own"
    providers = [key for key in entry if key not in _FIELDS_OF_CHECKS and key != "use"]
    if providers:
        return f"{path}: has use and {list_names(providers)}; keep one of them"
    return ""


def _check_lists(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield each list of checks: its path, and where it can be replaced without touching what the
    Runbook itself holds."""
    for field in ("preflight", "guards", "followUps"):
        if isinstance(body.get(field), list):
            yield f"spec.{field}", body, field

    if isinstance(body.get("rollback"), Mapping):
        body["rollback"] = dict(body["rollback"])
        if isinstance(body["rollback"].get("verify"), list):
            yield "spec.rollback.verify", body["rollback"], "verify"

    if isinstance(body.get("stages"), list):
        body["stages"] = [
            dict(stage) if isinstance(stage, Mapping) else stage for stage in body["stages"]
        ]
        for number, stage in enumerate(body["stages"]):
            if isinstance(stage, dict) and isinstance(stage.get("gates"), list):
                yield f"spec.stages[{number}].gates", stage, "gates"


def _names_used(runbook: RawSpec) -> Iterator[str]:
    """Yield the name of a shared check as often as it is used."""
    for _, holder, field in _check_lists(dict(runbook)):
        for entry in holder[field]:
            if _is_use(entry) and isinstance(entry["use"], str):
                yield entry["use"]


def _is_use(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "use" in entry


def _put_in(value: Any, values: Mapping[str, str]) -> Any:
    """Return a JSON value with each text that is one reference, and nothing else, replaced.

    Names stay: what is called after a time has another name in each Release.
    """
    if not values:
        return value
    if isinstance(value, str):
        match = WHOLE_REFERENCE.fullmatch(value)
        return values.get(match[1], value) if match else value
    if isinstance(value, Mapping):
        return {
            key: entry if key == "name" else _put_in(entry, values) for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_put_in(entry, values) for entry in value]
    return value


def _merge_links(own: Any, shared: Any) -> Any:
    """Return the links of both, the Release's own before one of the same name."""
    if not isinstance(own, list) or not isinstance(shared, list):
        return own
    names = {link.get("name") for link in own if isinstance(link, Mapping)}
    others = [link for link in shared if not isinstance(link, Mapping) or link["name"] not in names]
    return [*own, *others][:_MOST_LINKS]


def _is_readable(value: str, read: Callable[[str], float]) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


_IS_OF_TYPE: Mapping[str, Callable[[str], bool]] = {
    "String": lambda value: True,
    "Word": lambda value: _WORD.fullmatch(value) is not None,
    "Integer": lambda value: _INTEGER.fullmatch(value) is not None,
    "Boolean": lambda value: value in ("true", "false"),
    "Duration": lambda value: _is_readable(value, seconds),
    "Quantity": lambda value: _is_readable(value, quantity),
}
_IN_WORDS: Mapping[str, str] = {
    "String": "a text",
    "Word": "a word (letters, digits and . _ / : @ + -)",
    "Integer": "a whole number (try 3)",
    "Boolean": "true or false",
    "Duration": "a duration (try 15m or 1h30m)",
    "Quantity": "a quantity (try 1%, 100ms, 2s or 80)",
}
