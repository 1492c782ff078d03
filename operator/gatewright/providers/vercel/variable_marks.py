"""Marks of flags in the comments of variables, and which variables have changed in earnest.

A flag that this run has set, or that was set back to what it was, is no change that counts: the
recorded deployment has it as it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.ports import OpenConnection
from gatewright.providers.common import rest
from gatewright.providers.vercel import connection as vercel

_MARK = re.compile(r" ?\[gatewright (set|restored) (\S+) was (\d+)(?: at (\d+))?(?: from (\d+))?\]")
_PROMPT_MS = 60_000.0
"""Milliseconds between writing a mark and `updatedAt`; later the variable was changed again, by
somebody else."""
_MAX_COMMENT_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Mark:
    """What the comment of a variable says about flags: `[gatewright set 7-3f2a1c was
    1790000000000]`."""

    kind: str
    run: str
    was: float
    """When the value was changed before Gatewright set it, in Vercel's milliseconds; 0: there was
    no such variable."""
    at: float = 0.0
    """When it was set back."""
    begun: float = 0.0
    """When it was set, of one that was set back."""

    def text(self, comment: str) -> str:
        """Return the comment with this mark in place of an earlier one."""
        at = f" at {self.at:.0f}" if self.at else ""
        begun = f" from {self.begun:.0f}" if self.begun else ""
        mark = f"[gatewright {self.kind} {self.run} was {self.was:.0f}{at}{begun}]"
        plain = _MARK.sub("", comment or "")[: _MAX_COMMENT_LENGTH - len(mark) - 1]
        return f"{plain} {mark}".strip()


def mark_of(variable: Mapping[str, Any]) -> Mark | None:
    """Return the mark of a variable, if it has one."""
    match = _MARK.search(str(variable.get("comment") or ""))
    if match:
        return Mark(match[1], match[2], float(match[3]), float(match[4] or 0), float(match[5] or 0))
    return None


def value_since(variable: Mapping[str, Any], built: float = 0.0) -> float:
    """Return since when a variable has its value, in Vercel's milliseconds.

    One that was set back has it since before that, but not for a deployment that was built in
    between.
    """
    at, mark = vercel.updated_at(variable), mark_of(variable)
    if mark is None or mark.kind != "restored":
        return at
    # Changed again since, by somebody who has left the mark where it was.
    if abs(at - mark.at) > _PROMPT_MS:
        return at

    was_built_between = mark.begun and mark.begun <= built < at
    return at if was_built_between else mark.was


@dataclass(frozen=True, slots=True)
class VariableChanges:
    """What has become of production's variables since a moment."""

    reason: str
    """Why the recorded deployment cannot simply come back; empty where nothing counts."""
    pending: tuple[str, ...]
    """Flags that the runs have set since, and not set back yet."""
    had: tuple[str, ...]
    """Flags that the runs had set before, and not set back yet: what is brought back has them."""
    newest: float
    """The last change that counts, in Vercel's milliseconds."""


def compare_variables(
    link: OpenConnection,
    variables: vercel.Variables,
    snapshot: Mapping[str, Any],
    since: float,
    runs: Collection[str],
) -> VariableChanges:
    """Compare the variables with what was recorded; what `runs` have set counts apart."""
    changed: list[str] = []
    pending: list[str] = []
    had: list[str] = []
    newest = since
    built = float(snapshot["createdAt"])
    for variable in (*variables.own, *variables.shared):
        key, at, mark = str(variable.get("key")), value_since(variable, built), mark_of(variable)
        is_set_by_run = mark is not None and mark.kind == "set" and mark.run in runs
        if is_set_by_run and at > built:
            pending.append(key)
        elif is_set_by_run:
            had.append(key)
        elif at > since:
            changed.append(key)
            newest = max(newest, at)

    # One that was removed and made anew is told as changed.
    removed = [key for key in _removed_keys(variables, snapshot) if key not in changed]
    reasons = [f"{list_names(link, changed)} changed"] if changed else []
    reasons += [f"{list_names(link, removed)} removed"] if removed else []
    # What cannot be seen may have changed.
    reasons += [variables.unseen] if variables.unseen else []
    return VariableChanges("; ".join(reasons), tuple(pending), tuple(had), newest)


def _removed_keys(variables: vercel.Variables, snapshot: Mapping[str, Any]) -> list[str]:
    present = {variable.get("id") for variable in (*variables.own, *variables.shared)}
    recorded = snapshot.get("env") or []
    return [str(key) for key, identity, _ in recorded if identity not in present]


def list_names(link: OpenConnection, names: list[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    shown_names = [rest.repeatable_text(link, name) or "a variable" for name in sorted(names)[:3]]
    shown = ", ".join(shown_names)
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
