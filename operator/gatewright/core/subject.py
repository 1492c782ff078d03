"""What an operation works on: `KIND/NAME`, as the status, the journal and the snapshots write
it."""

from __future__ import annotations

from typing import Literal, get_args

SubjectKind = Literal[
    "target", "configmap", "secret", "flags", "job", "action", "confirm", "approval"
]
"""Kinds of subjects. Each has a handler (`runtime.execution.handlers.handler_of`)."""
_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)


def kind_of_subject(subject: str) -> SubjectKind:
    """Return the kind of a subject. Raises ValueError for one that nobody knows."""
    kind = subject.partition("/")[0]
    for known in _KINDS:
        if kind == known:
            return known
    raise ValueError(f"unknown kind of subject {subject!r} (known: {', '.join(_KINDS)})")
