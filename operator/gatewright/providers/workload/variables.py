"""Environment variables of a container: put, restored and compared.

A template may name a variable several times, and later variables may refer to earlier ones. So each
keeps its place, and the last of a name counts. Values are in no message: what others have set may
be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Items = tuple[Mapping[str, Any], ...]
"""A variable as the template has it: one item, or none; the API server lets several of one name
pass."""
_KINDS = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}


def items_by_name(env: Sequence[Mapping[str, Any]] | None) -> dict[str, Items]:
    """Return the items of each name: there may be thousands of names, and thousands of one."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for variable in env or ():
        by_name.setdefault(variable["name"], []).append(variable)
    return {name: tuple(items) for name, items in by_name.items()}


def is_same(now: Items, wanted: Items) -> bool:
    """Return whether a variable is as wanted.

    The last item of a name counts; the API server leaves out an empty value.
    """
    if not now or not wanted:
        return not now and not wanted

    live, last_wanted = now[-1], wanted[-1]
    has_same_source = live.get("valueFrom") == last_wanted.get("valueFrom")
    return has_same_source and (live.get("value") or "") == (last_wanted.get("value") or "")


def put(container: dict[str, Any], wanted: Mapping[str, Items]) -> None:
    """Put each in the place of what it replaces, else at the end: later variables may refer to
    earlier ones."""
    if not wanted:
        return

    left, env = dict(wanted), []
    for variable in container.get("env") or []:
        if variable["name"] not in wanted:
            env.append(variable)
        else:
            env += map(dict, left.pop(variable["name"], ()))

    for items in left.values():
        env += map(dict, items)
    container["env"] = env


def restore(
    container: dict[str, Any], had: Sequence[Mapping[str, Any]] | None, names: set[str]
) -> None:
    """Put variables of these names back as they were, in the places where they were; the others
    stay as they are."""
    container["env"] = _restored_env(container.get("env") or [], had or [], names)
    # An empty list is not the same as none.
    if not container["env"] and had is None:
        del container["env"]


def _restored_env(
    env: Sequence[Mapping[str, Any]], had: Sequence[Mapping[str, Any]], names: set[str]
) -> list[Any]:
    others = [variable for variable in env if variable["name"] not in names]
    other_before = [variable for variable in had if variable["name"] not in names]
    # Where nobody has changed the others, the list is the snapshot's to the letter.
    if others == other_before:
        return [dict(variable) for variable in had]
    return _merge_in_order(others, had, names)


def _merge_in_order(
    others: Sequence[Any], had: Sequence[Mapping[str, Any]], names: set[str]
) -> list[Any]:
    """Merge the others with those of `had` that have these names, each behind the last of all that
    stood before it."""
    ends = {variable["name"]: index + 1 for index, variable in enumerate(others)}
    result: list[Any] = []
    place = 0
    for variable in had:
        if variable["name"] in names:
            result.append(dict(variable))
        elif ends.get(variable["name"], 0) > place:
            result += others[place : ends[variable["name"]]]
            place = ends[variable["name"]]

    return [*result, *others[place:]]


def describe_difference(name: str, now: Items, wanted: Items) -> tuple[str, tuple[str, ...]]:
    """Say how a variable differs, and the part of it that somebody set; no words where it does
    not."""
    if is_same(now, wanted):
        return "", ()
    if not now:
        return f"has no variable {name}", ()
    if not wanted:
        return f"has the variable {name}, which was not there before", ()

    live_source, wanted_source = _describe_source(now[-1]), _describe_source(wanted[-1])
    if "valueFrom" in now[-1]:
        words = f"takes the variable {name} from {live_source} instead of {wanted_source}"
        return words, ("f:valueFrom",)
    if "valueFrom" in wanted[-1]:
        words = f"has a plain value of the variable {name} instead of one from {wanted_source}"
        return words, ("f:value",)

    return f"has another value of the variable {name}", ("f:value",)


def _describe_source(variable: Mapping[str, Any]) -> str:
    source = variable.get("valueFrom")
    if not source:
        return "a plain value"

    kind, reference = next(iter(source.items()))
    words: str = _KINDS.get(kind, kind.removesuffix("Ref"))
    if "name" in reference and "key" in reference:
        return f"{words} {reference['name']}[{reference['key']}]"
    return words
