"""What an edit has changed in a spec, in words for those who are asked again because of it.

Names only, never values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.release import ReleaseSpec
from gatewright.core.model.pinned_spec import pinned_fields_of

MOST_EDITS = 20
"""Changes that a run keeps in words."""
MOST_EDITS_TOLD = 8
"""Changes that a question names."""
AND_MORE = "and more"
LISTS_BESIDE_STAGES = (
    ("preflight", "preflight check"),
    ("targets", "target"),
    ("followUps", "follow-up"),
)
"""Lists of a spec, each with what one of it is called; stages and guards are told before them."""
_JsonObject = Mapping[str, Any]


def describe_edits(before: ReleaseSpec, after: ReleaseSpec) -> list[str]:
    """Return what is different, each as `step migrate of stage database changed`.

    What would act comes first.
    """
    old, new = pinned_fields_of(before), pinned_fields_of(after)
    old_stages, new_stages = _by_name(old.pop("stages", ())), _by_name(new.pop("stages", ()))
    old_guards, new_guards = _by_name(old.pop("guards", ())), _by_name(new.pop("guards", ()))
    both = [name for name in new_stages if name in old_stages]

    # A question names only the first few, so what would act comes first.
    lines: list[str] = []
    for name in both:
        lines += _edits_of_steps(name, old_stages[name], new_stages[name])
    lines += _edits_of_named("stage", "", old_stages, new_stages, inside=True)
    lines += _edits_of_named("guard", "", old_guards, new_guards)
    for name in both:
        lines += _other_edits_of_stage(name, old_stages[name], new_stages[name])
    if both != [name for name in old_stages if name in new_stages]:
        lines.append("order of stages changed")

    for field, kind in LISTS_BESIDE_STAGES:
        old_list, new_list = _by_name(old.pop(field, ())), _by_name(new.pop(field, ()))
        lines += _edits_of_named(kind, "", old_list, new_list)

    lines += _edits_of_rollback(old.pop("rollback", {}), new.pop("rollback", {}))
    lines += _edits_of_fields("vars.", "", old.pop("vars", {}), new.pop("vars", {}))
    lines += _edits_of_fields("", "", old, new)
    return lines


def _edits_of_rollback(old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    """Yield what has changed in `spec.rollback`: its checks first."""
    old_checks, new_checks = _by_name(old.get("verify", ())), _by_name(new.get("verify", ()))
    yield from _edits_of_named("verification", "", old_checks, new_checks)
    yield from _edits_of_fields("rollback.", "", _without(old, "verify"), _without(new, "verify"))


def merge_edits(known: Sequence[str], fresh: Iterable[str], most: int = MOST_EDITS) -> list[str]:
    """Return what a run has been told of so far, and what is new; bounded."""
    lines = [line for line in dict.fromkeys([*fresh, *known]) if line != AND_MORE]
    more = AND_MORE in known or len(lines) > most
    return [*lines[: most - 1], AND_MORE] if more else lines


def summarize_edits(lines: Sequence[str]) -> str:
    """Return the first changes, on one line."""
    shown = [line for line in lines[:MOST_EDITS_TOLD] if line != AND_MORE]
    return ", ".join(shown) + (f", {AND_MORE}" if len(shown) < len(lines) else "")


def _edits_of_steps(stage: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    old_steps, new_steps = _by_name(old.get("steps", ())), _by_name(new.get("steps", ()))
    yield from _edits_of_named("step", f" of stage {stage}", old_steps, new_steps)


def _other_edits_of_stage(stage: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    """Yield what has changed in a stage besides its steps: gates, compensations, fields."""
    where = f" of stage {stage}"
    old_gates, new_gates = _by_name(old.get("gates", ())), _by_name(new.get("gates", ()))
    yield from _edits_of_named("gate", where, old_gates, new_gates)

    old_back, new_back = old.get("rollback", {}), new.get("rollback", {})
    old_steps, new_steps = _by_name(old_back.get("steps", ())), _by_name(new_back.get("steps", ()))
    yield from _edits_of_named("compensation", where, old_steps, new_steps)
    yield from _edits_of_fields(
        "rollback.", where, _without(old_back, "steps"), _without(new_back, "steps")
    )

    lists = ("steps", "gates", "rollback")
    yield from _edits_of_fields("", where, _without(old, *lists), _without(new, *lists))


def _edits_of_named(
    kind: str, where: str, old: _JsonObject, new: _JsonObject, inside: bool = False
) -> Iterator[str]:
    """Yield what has changed in a list whose items have names.

    `inside`: what has changed within those that both have is told elsewhere.
    """
    yield from (f"{kind} {name}{where} removed" for name in old if name not in new)
    yield from (f"{kind} {name}{where} added" for name in new if name not in old)
    if inside:
        return

    both = [name for name in new if name in old]
    yield from (f"{kind} {name}{where} changed" for name in both if old[name] != new[name])
    if both != [name for name in old if name in new]:
        yield f"order of {kind}s{where} changed"


def _edits_of_fields(prefix: str, where: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield f"{prefix}{name}{where} changed"


def _without(fields: _JsonObject, *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _by_name(entries: Iterable[_JsonObject]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in entries}
