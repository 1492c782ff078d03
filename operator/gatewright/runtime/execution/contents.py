"""What a ConfigMap or Secret holds, what operations want it to hold, and where the two differ. Pure.

    content   key -> (field, value); the field is `data` or `binaryData`, and a key never stands in both
    wanted    what the operations want, taken together in their order: single keys, or all there is (a whole restore)

A value is said only of a key that a run has set in a ConfigMap, and not if it looks like a secret; of anything else,
and of every Secret, the names of keys alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.core.model import Operation, fingerprint
from gatewright.core.text.masking import MOST_TEXT_CHARS, join_lines, mask_secrets
from gatewright.ports import Permanent
from gatewright.providers.error_messages import quoted

FIELDS = ("data", "binaryData")
OURS = "gatewright"
"""Field manager of this operator: the API server takes it from the User-Agent."""
SAID = 5
"""So many keys, or people, are named in one sentence."""

Content = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a ConfigMap or Secret is to hold."""

    keys: Mapping[str, tuple[str, str] | None]
    """Field and value by key; None for a key that must not be there."""
    whole: bool = False
    """No other key may be there."""
    told: frozenset[str] = frozenset()
    """Keys that the run has set, whose values may be said."""

    def differing(self, have: Content) -> list[str]:
        """Keys that are not as they should be, in their order."""
        names = {*self.keys, *have} if self.whole else set(self.keys)
        return sorted(name for name in names if have.get(name) != self.keys.get(name))

    def change(self, have: Content) -> dict[str, dict[str, str | None]]:
        """A merge patch of `data` and `binaryData` that makes what is there what is wanted."""
        found: dict[str, dict[str, str | None]] = {}
        for name in self.differing(have):
            if name in have:
                found.setdefault(have[name][0], {})[name] = None
            wanted = self.keys.get(name)
            if wanted is not None:
                found.setdefault(wanted[0], {})[name] = wanted[1]
        return found


def content(holder: Mapping[str, Any]) -> Content:
    """What an object, or a snapshot of one, holds."""
    return {name: (field, text) for field in FIELDS for name, text in (holder.get(field) or {}).items()}


def fields(have: Content) -> dict[str, dict[str, str]]:
    """The same as an object has it; a field without keys is left out."""
    found: dict[str, dict[str, str]] = {}
    for name, (field, text) in have.items():
        found.setdefault(field, {})[name] = text
    return found


def content_hash(kind: str, holder: Mapping[str, Any]) -> str:
    """128 bits over the content of a `configmap` or a `secret` (which has no binaryData)."""
    if kind == "secret":
        return fingerprint(holder.get("data") or {})
    return fingerprint({field: holder.get(field) or {} for field in FIELDS})


def fold(operations: Sequence[Operation], snapshot: Mapping[str, Any] | None) -> Wanted:
    """What operations on a ConfigMap want, taken together in their order. Raises Permanent."""
    keys: dict[str, tuple[str, str] | None] = {}
    whole = False
    told: set[str] = set()
    for operation in operations:
        if operation.kind == "set":
            keys |= {name: ("data", text) for name, text in operation.config["set"].items()}
            told |= set(operation.config["set"])
            continue
        if operation.kind != "restore":
            raise Permanent(f"{operation.subject}: nobody knows how to {operation.kind} a ConfigMap")
        if snapshot is None:
            raise Permanent(f"there is no snapshot of {operation.subject}")
        before, ours = content(snapshot), keys_set(operation.changes)
        told |= ours
        whole = whole or is_whole(operation)
        keys = dict(before) if whole else keys | {name: before.get(name) for name in ours}
    return Wanted(keys, whole, frozenset(told))


def is_whole(operation: Operation) -> bool:
    """Whether a `restore` returns all of the content: that of a captured ConfigMap or Secret."""
    return operation.subject.startswith("secret/") or bool((operation.config or {}).get("captured", True))


def keys_set(operations: Iterable[Operation]) -> set[str]:
    """The keys that operations have set."""
    return {name for operation in operations if operation.kind == "set" for name in operation.config["set"]}


# ---------------------------------------------------------------------------------------------------------------
# Words


def difference(subject: str, wanted: Wanted, found: Mapping[str, Any]) -> str:
    """What an object that was read with its managed fields has instead, who made it so, and when; empty: nothing."""
    have = content(found)
    differing = wanted.differing(have)
    if not differing:
        return ""
    told = [name for name in differing if name in wanted.told]
    parts = [_instead(name, have.get(name), wanted.keys.get(name)) for name in told[:SAID]]
    parts += [f"{len(told) - SAID} more of its keys"] if len(told) > SAID else []
    others = [name for name in differing if name not in wanted.told]
    parts += [f"{listed(others)} not as in its snapshot"] if others else []
    return f"{subject}: {'; '.join(parts)}{who(found, differing)}"


def listed(names: Sequence[str]) -> str:
    """Names of keys in a row, not too many."""
    more = len(names) - SAID
    return ", ".join(names[:SAID]) + (f" and {more} more" if more > 0 else "")


def who(found: Mapping[str, Any], keys: Iterable[str] | None = None) -> str:
    """Who has set keys (None: anything) last and when, in parentheses, by an object's managed fields.

    Nobody owns a key that was taken away: then whoever wrote last, if that was after us.
    """
    entries = found["metadata"].get("managedFields") or []
    wanted = None if keys is None else set(keys)
    owned = ((entry, _owned(entry)) for entry in entries)
    owners = [entry for entry, own in owned if own and (wanted is None or own & wanted)]
    strangers = [entry for entry in owners if entry.get("manager") != OURS]
    if strangers or owners:
        latest = sorted(strangers or owners, key=_time, reverse=True)[:SAID]
        return f" (set by {', '.join(dict.fromkeys(_signed(entry) for entry in latest))})"
    since = max((_time(entry) for entry in entries if entry.get("manager") == OURS), default="")
    later = [entry for entry in entries if entry.get("manager") != OURS and _time(entry) >= since]
    return f" (last written by {_signed(max(later, key=_time))})" if later else ""


def _instead(name: str, have: tuple[str, str] | None, wanted: tuple[str, str] | None) -> str:
    if wanted is None:
        return f"{name} is {_shown(name, have)} and should not be there"
    return f"{name} is {_shown(name, have)} instead of {_shown(name, wanted)}"


def _shown(name: str, item: tuple[str, str] | None) -> str:
    if item is None:
        return "missing"
    field, text = item
    if field != "data":
        return "binary content"
    line = join_lines(text[:MOST_TEXT_CHARS].splitlines())  # what is shown of it is far shorter
    return quoted(line) if mask_secrets(f"{name}={line}") == f"{name}={line}" else "***"


def _owned(entry: Mapping[str, Any]) -> set[str]:
    """The keys of content that a manager owns."""
    tree = entry.get("fieldsV1") or {}
    return {
        part.removeprefix("f:")
        for field in FIELDS
        for part in tree.get(f"f:{field}", {})
        if part.startswith("f:")
    }  # fmt: skip


def _time(entry: Mapping[str, Any]) -> str:
    return str(entry.get("time") or "")


def _signed(entry: Mapping[str, Any]) -> str:
    name = join_lines([str(entry.get("manager") or "")]) or "somebody"
    return f"{name} at {_time(entry)}" if _time(entry) else name
