"""What an operation works on: `KIND/NAME`, as the status, the journal and the snapshots write
it."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


def name_of_subject(subject: str) -> str:
    """Return the name of a subject, without its kind."""
    return subject.partition("/")[2]


def is_of_kind(subject: str, kind: SubjectKind) -> bool:
    """Return whether a subject is of a kind; one that nobody knows is of none.

    For whoever carries out that very kind. What a run does with a subject, its traits tell.
    """
    return subject.partition("/")[0] == kind


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
    versioned: bool
    """It has a version, and is what a Release serves: adopted, promoted, and compared at rest."""
    rolls_out: bool
    """A change goes on after it was written, as pods start. So it takes its time, and a step that
    has failed may have made it."""
    captures_config: bool
    """Configuration is captured with it, and returns before it."""
    stopped: bool
    """It may go on when its step was given up: a rollback stops it first."""
    is_content: bool
    """Its snapshot is content that others have written, and may be large."""
    copied: bool
    """Its snapshot names a copy, which is kept beside the run's record."""


_TARGET = SubjectTraits(
    journaled=True,
    restored=True,
    changed_alone=True,
    told_apart=True,
    versioned=True,
    rolls_out=True,
    captures_config=True,
    stopped=False,
    is_content=False,
    copied=False,
)
_CONFIG = SubjectTraits(
    journaled=True,
    restored=True,
    changed_alone=True,
    told_apart=True,
    versioned=False,
    rolls_out=False,
    captures_config=False,
    stopped=False,
    is_content=True,
    copied=False,
)
_CAPTURED_ONLY = replace(_CONFIG, changed_alone=False, told_apart=False, copied=True)
_STATE_ELSEWHERE = replace(_CONFIG, told_apart=False, is_content=False)
_DEED = SubjectTraits(
    journaled=True,
    restored=False,
    changed_alone=False,
    told_apart=False,
    versioned=False,
    rolls_out=False,
    captures_config=False,
    stopped=False,
    is_content=False,
    copied=False,
)
_JOB = replace(_DEED, stopped=True)
_QUESTION = replace(_DEED, journaled=False)
_UNKNOWN = replace(_QUESTION, restored=True)
"""Of what a newer operator has written into a status: its restore is planned, and says by its
failure that nobody here knows how."""


_STAGE_SEPARATOR = ":"


def stage_snapshot(stage: str, subject: str) -> str:
    """Return the name of the snapshot of a subject from before a stage has changed it.

    It is kept beside that from before the run, where an earlier stage has changed the subject.
    """
    return f"{stage}{_STAGE_SEPARATOR}{subject}"


def is_stage_snapshot(name: str) -> bool:
    """Return whether that is the name of one."""
    return _STAGE_SEPARATOR in name


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
        case "target":
            return _TARGET
        case "configmap":
            return _CONFIG
        case "secret":
            return _CAPTURED_ONLY
        case "flags":
            return _STATE_ELSEWHERE
        case "job":
            return _JOB
        case "action":
            return _DEED
        case "confirm" | "approval":
            return _QUESTION
        case unknown:
            assert_never(unknown)
