"""What an operation works on: `KIND/NAME`, as the status, the journal and the snapshots write
it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never, get_args

SubjectKind = Literal[
    "target", "configmap", "secret", "flags", "job", "action", "confirm", "approval"
]
"""Kinds of subjects. Each has its traits (`_traits_of_kind`) and a handler
(`runtime.execution.handlers.handler_of`)."""
_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)


def kind_of_subject(subject: str) -> SubjectKind:
    """Return the kind of a subject. Raises ValueError for one that nobody knows."""
    kind = subject.partition("/")[0]
    for known in _KINDS:
        if kind == known:
            return known
    raise ValueError(f"unknown kind of subject {subject!r} (known: {', '.join(_KINDS)})")


@dataclass(frozen=True, slots=True)
class SubjectTraits:
    """What a run does with subjects of a kind. No answer has a default: each kind gives its own."""

    journaled: bool
    """Its changes stand in the journal, which a rollback reads backwards."""
    restored: bool
    """A rollback returns it to its snapshot. What a Job or an action did is left to
    compensations."""
    changed_alone: bool
    """A step changes it by itself, so that an edit of the spec may lose it. A Secret changes and
    returns with its target alone."""
    told_apart: bool
    """What a compensation has set in it since its restore can be told from what the restore has
    brought. Of flags elsewhere nobody can tell."""


_STATE_IN_CLUSTER = SubjectTraits(
    journaled=True, restored=True, changed_alone=True, told_apart=True
)
_CAPTURED_ONLY = SubjectTraits(journaled=True, restored=True, changed_alone=False, told_apart=False)
_STATE_ELSEWHERE = SubjectTraits(
    journaled=True, restored=True, changed_alone=True, told_apart=False
)
_DEED = SubjectTraits(journaled=True, restored=False, changed_alone=False, told_apart=False)
_QUESTION = SubjectTraits(journaled=False, restored=False, changed_alone=False, told_apart=False)
_UNKNOWN = SubjectTraits(journaled=False, restored=True, changed_alone=False, told_apart=False)
"""Of what a newer operator has written into a status: its restore is planned, and says by its
failure that nobody here knows how."""


def traits_of(subject: str) -> SubjectTraits:
    """Return what a run does with a subject; also with one of a kind that nobody knows."""
    try:
        kind = kind_of_subject(subject)
    except ValueError:
        return _UNKNOWN
    return _traits_of_kind(kind)


def _traits_of_kind(kind: SubjectKind) -> SubjectTraits:
    """Return the traits of a kind; mypy names the one that is forgotten."""
    match kind:
        case "target" | "configmap":
            return _STATE_IN_CLUSTER
        case "secret":
            return _CAPTURED_ONLY
        case "flags":
            return _STATE_ELSEWHERE
        case "job" | "action":
            return _DEED
        case "confirm" | "approval":
            return _QUESTION
        case unknown:
            assert_never(unknown)
