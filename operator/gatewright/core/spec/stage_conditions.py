"""Whether a stage has anything to do: its `when`, judged by what the spec itself says.

    when: {var: migrations, equals: none}      the value of a variable
    when: {changed: [db/**]}                   paths that CI says have changed (`spec.changedPaths`)

Without `spec.changedPaths` nobody knows what has changed, and what is not known skips nothing.

A pattern has at most one `**` and one `*` in each part of its path, so that a match costs no more
than its text is long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gatewright.api.release import ReleaseSpec, Stage, When
from gatewright.core.spec.expand import UnknownReference, expand_references, list_names

ANY_PARTS = "**"
MOST_PATTERNS_TOLD = 3
_SPECIAL = "?[]{}\\"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a condition comes to, and why."""

    state: Literal["Met", "Unmet", "Unknown"]
    reason: str


def judge_condition(spec: ReleaseSpec, when: When, names: Mapping[str, str]) -> Judged:
    """Return what a condition comes to. Raises UnknownReference."""
    if when.var is not None:
        return _judge_variable(spec, when, when.var, names)
    return _judge_paths(spec, when.changed)


def is_unmet(spec: ReleaseSpec, stage: Stage, names: Mapping[str, str]) -> bool:
    """Return whether a stage will be passed over, as far as that is known before it begins."""
    if stage.when is None:
        return False
    try:
        return judge_condition(spec, stage.when, names).state == "Unmet"
    except UnknownReference:
        return False


def find_problems(spec: ReleaseSpec) -> Iterator[str]:
    """Yield what is wrong with conditions and with the paths that they are compared with."""
    for index, stage in enumerate(spec.stages):
        path = f"spec.stages[{index}].when"
        if stage.when is None:
            continue
        if stage.when.var is not None and stage.when.var not in spec.vars:
            known = f"known: {list_names(spec.vars)}"
            yield f'{path}.var: "{stage.when.var}" is not in spec.vars ({known})'
        for number, pattern in enumerate(stage.when.changed):
            problem = _problem_of_path(pattern) or _problem_of_pattern(pattern)
            if problem:
                yield f"{path}.changed[{number}]: {problem}"

    for number, changed in enumerate(spec.changedPaths or ()):
        problem = _problem_of_path(changed)
        if problem:
            yield f"spec.changedPaths[{number}]: {problem}"


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is meant by a pattern."""
    parts, wanted = path.split("/"), pattern.split("/")
    if ANY_PARTS not in wanted:
        return len(parts) == len(wanted) and _all_match(wanted, parts)

    place = wanted.index(ANY_PARTS)
    before, after = wanted[:place], wanted[place + 1 :]
    if len(parts) < len(before) + len(after):
        return False
    last = parts[len(parts) - len(after) :]
    return _all_match(before, parts[: len(before)]) and _all_match(after, last)


def _judge_variable(spec: ReleaseSpec, when: When, name: str, names: Mapping[str, str]) -> Judged:
    value = spec.vars[name]
    if when.equals is not None:
        wanted = expand_references(when.equals, names)
        if value == wanted:
            return Judged("Met", f"variable {name} is what it is to be")
        return Judged("Unmet", f"variable {name} is not what `when` asks for")

    excluded = expand_references(when.notEquals, names)
    if value != excluded:
        return Judged("Met", f"variable {name} is something else")
    return Judged("Unmet", f"variable {name} is what `when` rules out")


def _judge_paths(spec: ReleaseSpec, patterns: Sequence[str]) -> Judged:
    shown = ", ".join(patterns[:MOST_PATTERNS_TOLD])
    if len(patterns) > MOST_PATTERNS_TOLD:
        shown += f" and {len(patterns) - MOST_PATTERNS_TOLD} more"

    if spec.changedPaths is None:
        reason = f"nobody knows whether {shown} has changed: spec.changedPaths is not given"
        return Judged("Unknown", reason)
    for path in spec.changedPaths:
        if any(matches(pattern, path) for pattern in patterns):
            return Judged("Met", f"{path} has changed")
    return Judged("Unmet", f"nothing has changed in {shown} (spec.changedPaths)")


def _all_match(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    return all(map(_part_matches, patterns, parts))


def _part_matches(pattern: str, part: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == part
    is_long_enough = len(part) >= len(before) + len(after)
    return is_long_enough and part.startswith(before) and part.endswith(after)


def _problem_of_path(path: str) -> str:
    """Return why a path could never be compared with others; empty where it can."""
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        return (
            f'"{path[:100]}" is no path within the repository; write it as git does, without a '
            "leading / or ./ (db/schema.sql)"
        )
    return ""


def _problem_of_pattern(pattern: str) -> str:
    parts = pattern.split("/")
    if parts.count(ANY_PARTS) > 1 or any(
        part.count("*") > 1 for part in parts if part != ANY_PARTS
    ):
        return (
            f'"{pattern}" has too many *; a pattern has one ** at most, and one * in each part '
            "(db/**, **/migrations/*.sql)"
        )
    if any(char in pattern for char in _SPECIAL):
        return f'"{pattern}" may hold only * and ** besides the path; write two patterns'
    return ""
