"""What a ConfigMap or Secret holds, what operations want it to hold, and where the two differ.
Pure.

    content   key -> (field, value); the field is `data` or `binaryData`, and a key never stands in both
    wanted    what the operations want, taken together in their order: single keys, or all there is (a whole restore)

A value is said only of a key that a run has set in a ConfigMap, and not if it looks like a secret;
of anything else, and of every Secret, the names of keys alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.core.model import Operation, fingerprint
from gatewright.core.text.masking import MOST_TEXT_CHARS, join_lines, mask_secrets
from gatewright.ports import Permanent
from gatewright.providers.error_messages import quote_value

CONTENT_FIELDS = ("data", "binaryData")
OWN_MANAGER = "gatewright"
"""Field manager of this operator: the API server takes it from the User-Agent."""
MAX_NAMES_IN_MESSAGE = 5
"""So many keys, or people, are named in one sentence."""

Content = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WantedContent:
    """What a ConfigMap or Secret is to hold."""

    keys: Mapping[str, tuple[str, str] | None]
    """Field and value by key; None for a key that must not be there."""
    whole: bool = False
    """No other key may be there."""
    told: frozenset[str] = frozenset()
    """Keys that the run has set, whose values may be said."""

    def differing_keys(self, have: Content) -> list[str]:
        """Keys that are not as they should be, in their order."""
        names = {*self.keys, *have} if self.whole else set(self.keys)
        return sorted(name for name in names if have.get(name) != self.keys.get(name))

    def change(self, have: Content) -> dict[str, dict[str, str | None]]:
        """A merge patch of `data` and `binaryData` that makes what is there what is wanted."""
        found: dict[str, dict[str, str | None]] = {}
        for name in self.differing_keys(have):
            if name in have:
                found.setdefault(have[name][0], {})[name] = None
            wanted = self.keys.get(name)
            if wanted is not None:
                found.setdefault(wanted[0], {})[name] = wanted[1]
        return found


def content_of(holder: Mapping[str, Any]) -> Content:
    """Return what an object, or a snapshot of one, holds."""
    return {
        name: (field, text)
        for field in CONTENT_FIELDS
        for name, text in (holder.get(field) or {}).items()
    }


def fields_of(have: Content) -> dict[str, dict[str, str]]:
    """Return the same as an object has it; a field without keys is left out."""
    found: dict[str, dict[str, str]] = {}
    for name, (field, text) in have.items():
        found.setdefault(field, {})[name] = text
    return found


def content_hash(kind: str, holder: Mapping[str, Any]) -> str:
    """128 bits over the content of a `configmap` or a `secret` (which has no binaryData)."""
    if kind == "secret":
        return fingerprint(holder.get("data") or {})
    return fingerprint({field: holder.get(field) or {} for field in CONTENT_FIELDS})


def fold_operations(
    operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> WantedContent:
    """Return what operations on a ConfigMap want, taken together in their order. Raises Permanent."""
    keys: dict[str, tuple[str, str] | None] = {}
    whole = False

    told: set[str] = set()
    for operation in operations:
        if operation.kind == "set":
            keys |= {name: ("data", text) for name, text in operation.config["set"].items()}
            told |= set(operation.config["set"])
            continue

        if operation.kind != "restore":
            raise Permanent(
                f"{operation.subject}: nobody knows how to {operation.kind} a ConfigMap"
            )
        if snapshot is None:
            raise Permanent(f"there is no snapshot of {operation.subject}")

        before, ours = content_of(snapshot), keys_set(operation.changes)
        told |= ours
        whole = whole or is_whole(operation)
        keys = dict(before) if whole else keys | {name: before.get(name) for name in ours}

    return WantedContent(keys, whole, frozenset(told))


def is_whole(operation: Operation) -> bool:
    """Return whether a `restore` returns all of the content: that of a captured ConfigMap or
    Secret."""
    return operation.subject.startswith("secret/") or bool(
        (operation.config or {}).get("captured", True)
    )


def keys_set(operations: Iterable[Operation]) -> set[str]:
    """Return the keys that operations have set."""
    return {
        name
        for operation in operations
        if operation.kind == "set"
        for name in operation.config["set"]
    }


# --------------------------------------------------------------------------------------------------
# Words


def describe_difference(subject: str, wanted: WantedContent, found: Mapping[str, Any]) -> str:
    """Return what an object that was read with its managed fields has instead, who made it so, and
    when; empty: nothing."""
    have = content_of(found)
    differing = wanted.differing_keys(have)
    if not differing:
        return ""

    told = [name for name in differing if name in wanted.told]
    parts = [
        _describe_key(name, have.get(name), wanted.keys.get(name))
        for name in told[:MAX_NAMES_IN_MESSAGE]
    ]
    parts += (
        [f"{len(told) - MAX_NAMES_IN_MESSAGE} more of its keys"]
        if len(told) > MAX_NAMES_IN_MESSAGE
        else []
    )
    others = [name for name in differing if name not in wanted.told]
    parts += [f"{list_names(others)} not as in its snapshot"] if others else []

    return f"{subject}: {'; '.join(parts)}{describe_managers(found, differing)}"


def list_names(names: Sequence[str]) -> str:
    """Names of keys in a row, not too many."""
    more = len(names) - MAX_NAMES_IN_MESSAGE
    return ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")


def describe_managers(found: Mapping[str, Any], keys: Iterable[str] | None = None) -> str:
    """Return who has set keys (None: anything) last and when, in parentheses, by an object's
    managed fields.

    Nobody owns a key that was taken away: then whoever wrote last, if that was after us.
    """
    entries = found["metadata"].get("managedFields") or []
    wanted = None if keys is None else set(keys)
    owned = ((entry, _owned_keys(entry)) for entry in entries)
    owners = [entry for entry, own in owned if own and (wanted is None or own & wanted)]
    strangers = [entry for entry in owners if entry.get("manager") != OWN_MANAGER]
    if strangers or owners:
        latest = sorted(strangers or owners, key=_time_of, reverse=True)[:MAX_NAMES_IN_MESSAGE]
        return f" (set by {', '.join(dict.fromkeys(_name_and_time(entry) for entry in latest))})"

    since = max(
        (_time_of(entry) for entry in entries if entry.get("manager") == OWN_MANAGER), default=""
    )
    later = [
        entry
        for entry in entries
        if entry.get("manager") != OWN_MANAGER and _time_of(entry) >= since
    ]

    return f" (last written by {_name_and_time(max(later, key=_time_of))})" if later else ""


def _describe_key(name: str, have: tuple[str, str] | None, wanted: tuple[str, str] | None) -> str:
    if wanted is None:
        return f"{name} is {_show_value(name, have)} and should not be there"
    return f"{name} is {_show_value(name, have)} instead of {_show_value(name, wanted)}"


def _show_value(name: str, item: tuple[str, str] | None) -> str:
    if item is None:
        return "missing"
    field, text = item
    if field != "data":
        return "binary content"
    line = join_lines(text[:MOST_TEXT_CHARS].splitlines())  # what is shown of it is far shorter
    return quote_value(line) if mask_secrets(f"{name}={line}") == f"{name}={line}" else "***"


def _owned_keys(entry: Mapping[str, Any]) -> set[str]:
    """Return the keys of content that a manager owns."""
    tree = entry.get("fieldsV1") or {}
    return {
        part.removeprefix("f:")
        for field in CONTENT_FIELDS
        for part in tree.get(f"f:{field}", {})
        if part.startswith("f:")
    }  # fmt: skip


def _time_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("time") or "")


def _name_and_time(entry: Mapping[str, Any]) -> str:
    name = join_lines([str(entry.get("manager") or "")]) or "somebody"
    return f"{name} at {_time_of(entry)}" if _time_of(entry) else name
