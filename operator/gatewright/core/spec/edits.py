"""What an edit has changed in a spec, in words for those who are asked again because of it. Names
only, never values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.release import ReleaseSpec
from gatewright.core.model import pinned_fields_of

MOST_EDITS = 20
"""Changes that a run keeps in words."""
MOST_EDITS_TOLD = 8
"""Changes that a question names."""
AND_MORE = "and more"
_JsonObject = Mapping[str, Any]


def describe_edits(before: ReleaseSpec, after: ReleaseSpec) -> list[str]:
    """What is different, each as `step migrate of stage database changed`; what would act comes
    first."""
    old, new = pinned_fields_of(before), pinned_fields_of(after)
    stages_before, stages_after = _by_name(old.pop("stages", ())), _by_name(new.pop("stages", ()))
    both = [name for name in stages_after if name in stages_before]
    found = [
        *(
            line
            for name in both
            for line in _edits_of_steps(name, stages_before[name], stages_after[name])
        ),
        *_edits_of_named("stage", "", stages_before, stages_after, inside=True),
        *_edits_of_named(
            "guard", "", _by_name(old.pop("guards", ())), _by_name(new.pop("guards", ()))
        ),
        *(
            line
            for name in both
            for line in _other_edits_of_stage(name, stages_before[name], stages_after[name])
        ),
    ]

    if both != [name for name in stages_before if name in stages_after]:
        found.append("order of stages changed")

    for field, kind in (
        ("preflight", "preflight check"),
        ("targets", "target"),
        ("followUps", "follow-up"),
    ):
        found += _edits_of_named(
            kind, "", _by_name(old.pop(field, ())), _by_name(new.pop(field, ()))
        )

    rollback = old.pop("rollback", {}), new.pop("rollback", {})
    checked, checks = (_by_name(one.pop("verify", ())) for one in rollback)
    found += _edits_of_named("verification", "", checked, checks)
    found += _edits_of_fields("rollback.", "", *rollback)
    found += _edits_of_fields("vars.", "", old.pop("vars", {}), new.pop("vars", {}))

    return [*found, *_edits_of_fields("", "", old, new)]


def merge_edits(known: Sequence[str], fresh: Iterable[str], most: int = MOST_EDITS) -> list[str]:
    """What a run has been told of so far, and what is new; bounded."""
    found = [line for line in dict.fromkeys([*fresh, *known]) if line != AND_MORE]
    more = AND_MORE in known or len(found) > most
    return [*found[: most - 1], AND_MORE] if more else found


def summarize_edits(lines: Sequence[str]) -> str:
    """The first changes, on one line."""
    shown = [line for line in lines[:MOST_EDITS_TOLD] if line != AND_MORE]
    return ", ".join(shown) + (f", {AND_MORE}" if len(shown) < len(lines) else "")


def _edits_of_steps(stage: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    where = f" of stage {stage}"
    yield from _edits_of_named(
        "step", where, _by_name(old.get("steps", ())), _by_name(new.get("steps", ()))
    )


def _other_edits_of_stage(stage: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    where = f" of stage {stage}"
    yield from _edits_of_named(
        "gate", where, _by_name(old.get("gates", ())), _by_name(new.get("gates", ()))
    )
    back = [dict(one.get("rollback", {})) for one in (old, new)]
    undone, undo = (_by_name(one.pop("steps", ())) for one in back)
    yield from _edits_of_named("compensation", where, undone, undo)
    yield from _edits_of_fields("rollback.", where, *back)
    lists = ("steps", "gates", "rollback")
    yield from _edits_of_fields(
        "", where, *({key: one[key] for key in one if key not in lists} for one in (old, new))
    )


def _edits_of_named(
    kind: str, where: str, old: _JsonObject, new: _JsonObject, inside: bool = False
) -> Iterator[str]:
    """`inside`: what has changed within those that both have is told elsewhere."""
    yield from (f"{kind} {name}{where} removed" for name in old if name not in new)
    yield from (f"{kind} {name}{where} added" for name in new if name not in old)

    if inside:
        return

    yield from (
        f"{kind} {name}{where} changed" for name in new if name in old and old[name] != new[name]
    )
    if [name for name in old if name in new] != [name for name in new if name in old]:
        yield f"order of {kind}s{where} changed"


def _edits_of_fields(prefix: str, where: str, old: _JsonObject, new: _JsonObject) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield f"{prefix}{name}{where} changed"


def _by_name(items: Iterable[_JsonObject]) -> dict[str, Any]:
    return {item["name"]: item for item in items}
