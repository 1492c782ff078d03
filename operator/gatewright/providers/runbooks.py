"""What is wrong with a Runbook, and with a Release that names one, in sentences that name the
path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from gatewright.api.release import BODY_FIELDS, About, ReleaseSpec
from gatewright.api.runbook import RunbookSpec, RunbookVariables, Variable
from gatewright.core.report import size
from gatewright.core.spec import runbooks
from gatewright.core.spec.expand import list_names
from gatewright.providers.error_messages import iter_explained
from gatewright.providers.validate import check_spec

_MISPLACED = re.compile(
    r'(?P<path>\S+): "(?P<text>[^"]*\$\([^"]*)" is not (?P<what>a duration|a quantity|an interval)'
)
_FIELD = re.compile(r"spec\.(\w+)")
_SAMPLES: Mapping[str, str] = {
    "String": "value",
    "Word": "value",
    "Integer": "1",
    "Boolean": "true",
    "Duration": "1m",
    "Quantity": "1",
}
"""What a variable without a default has where a Runbook is checked by itself."""
_SOME_RELEASE: Mapping[str, Any] = {"version": "1"}
_SOME_STAGE: Mapping[str, Any] = {"name": "any", "steps": [{"name": "any", "wait": "1s"}]}


class RunbookHead(RunbookVariables, About):
    """A Runbook without the body of a Release, which is judged when its variables have values."""


def check_release(
    release: Any, runbook: Mapping[str, Any], name: str
) -> tuple[ReleaseSpec | None, Iterator[str]]:
    """Return the spec of a Release with the body of Runbook `name`, and everything that is wrong
    with both.

    None where it cannot be read.
    """
    head, wrong = _read_head(runbook)
    merged, wrong = _resolve(release, runbook, head, wrong, name)
    if head is None or merged is None:
        return None, iter(wrong)

    spec, problems = check_spec(merged)
    return spec, _tell_whose(_with_hints(problems, head.vars), name)


def read_release(release: Any, runbook: Mapping[str, Any], name: str) -> ReleaseSpec | None:
    """Return the same spec where both were checked before; None where it cannot be read."""
    merged, _ = resolve_release(release, runbook, name)
    try:
        return ReleaseSpec.model_validate(merged) if merged is not None else None
    except ValidationError:
        return None


def resolve_release(
    release: Mapping[str, Any], runbook: Mapping[str, Any], name: str
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the JSON of a Release's spec with the body of Runbook `name`; None where it has none,
    and why."""
    return _resolve(release, runbook, *_read_head(runbook), name)


def problems_without_runbook(release: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield what is wrong with a Release whose Runbook is not at hand.

    What it gives to variables that nobody knows here is not judged.
    """
    own = runbooks.own_body_fields(release)
    if own:
        yield from _explain_own(own, name)
    else:
        yield from check_spec({**release, "stages": [_SOME_STAGE]})[1]


def _explain_own(own: Iterable[str], name: str) -> list[str]:
    remedy = "take it out here, or take out spec.runbookRef"
    return [f"spec.{field}: stands in Runbook {name}; {remedy}" for field in own]


def _resolve(
    release: Mapping[str, Any],
    runbook: Mapping[str, Any],
    head: RunbookHead | None,
    wrong: list[str],
    name: str,
) -> tuple[dict[str, Any] | None, list[str]]:
    own = runbooks.own_body_fields(release)
    if own:
        return None, _explain_own(own, name)
    if head is None:
        return None, [_of_runbook(name, problem) for problem in wrong]

    given = release.get("vars")
    filled = runbooks.fill_variables(head.vars, given if isinstance(given, Mapping) else {}, name)
    if filled.problems:
        return None, [*filled.problems]

    merged, wrong = _merge(release, runbook, head, filled.values)
    return merged, [_of_runbook(name, problem) for problem in wrong]


def runbook_problems(runbook: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Runbook by itself, whatever a Release may give."""
    head, wrong = _read_head(runbook)
    if head is None:
        yield from wrong
        return

    values = {variable.name: _sample_of(variable) for variable in head.vars}
    merged, wrong = _merge(_SOME_RELEASE, runbook, head, values)
    yield from wrong if merged is None else _with_hints(check_spec(merged)[1], head.vars)

    # Checks that nobody uses yet are judged, too.
    checks = {"preflight": runbook.get("checks") or [], "stages": [_SOME_STAGE]}
    merged, _ = _merge(_SOME_RELEASE, checks, head, values)
    for problem in check_spec(merged)[1] if merged is not None else ():
        yield problem.replace("spec.preflight", "spec.checks")


def _read_head(runbook: Mapping[str, Any]) -> tuple[RunbookHead | None, list[str]]:
    raw = {field: value for field, value in runbook.items() if field not in BODY_FIELDS}
    try:
        head = RunbookHead.model_validate(raw)
    except ValidationError as error:
        return None, list(iter_explained(error, "spec", RunbookSpec))

    problems = [*runbooks.find_faults(head.vars)]
    problems += [
        f"spec.checks[{index}].use: a check that others use cannot use one; write it out"
        for index, check in enumerate(runbook.get("checks") or ())
        if isinstance(check, Mapping) and "use" in check
    ]
    return (None, problems) if problems else (head, [])


def _merge(
    release: Mapping[str, Any],
    runbook: Mapping[str, Any],
    head: RunbookHead,
    values: Mapping[str, str],
) -> tuple[dict[str, Any] | None, list[str]]:
    added = runbooks.count_uses(runbook)
    if added > size.MOST_BYTES:
        used, most = added // 1024, size.MOST_BYTES // 1024
        fault = f"come to {used} KiB where they are used, at most {most} KiB"
        return None, [f"spec.checks: {fault}; make them shorter"]

    late_names = {variable.name for variable in head.vars if variable.type in runbooks.LATE_TYPES}
    late = {key: value for key, value in values.items() if key in late_names}
    merged, misused = runbooks.merge_runbook(release, runbook, values, late)
    if misused:
        return None, misused

    # Together they may be no more than a Release alone.
    problem = size.find_size_problem(merged, lambda: len(orjson.dumps(merged)))
    return (None, [problem]) if problem is not None else (merged, [])


def _with_hints(problems: Iterable[str], variables: Iterable[Variable]) -> Iterator[str]:
    """Yield problems; of a reference that stands where a limit or a time is judged, say why it
    could not be put in."""
    types = {variable.name: variable.type for variable in variables}
    for problem in problems:
        misplaced = _MISPLACED.match(problem)
        yield problem if misplaced is None else _explain_misplaced(problem, misplaced, types)


def _explain_misplaced(problem: str, found: re.Match[str], types: Mapping[str, str]) -> str:
    path, text, what = found["path"], found["text"], found["what"]
    whole = runbooks.WHOLE_REFERENCE.fullmatch(text)
    if whole is None:
        return f'{path}: "{text}" is not {what}; a variable must be the whole text: $(vars.NAME)'
    if whole[1] not in types:
        known = list_names(f"vars.{name}" for name in types)
        return f"{path}: {text} is not known here (known: {known})"
    kind = "Duration" if what != "a quantity" else "Quantity or Duration"
    return f"{path}: {text} is a {types[whole[1]]}; {what} needs a variable of type {kind}"


def _tell_whose(problems: Iterable[str], name: str) -> Iterator[str]:
    """Yield problems, with the Runbook before those of what stands in it."""
    for problem in problems:
        field = _FIELD.match(problem)
        in_runbook = field is not None and field[1] in BODY_FIELDS
        yield _of_runbook(name, problem) if in_runbook else problem


def _of_runbook(name: str, problem: str) -> str:
    return f"Runbook {name}: {problem}" if name else problem


def _sample_of(variable: Variable) -> str:
    if variable.default is not None:
        return variable.default
    return variable.values[0] if variable.values else _SAMPLES[variable.type]
