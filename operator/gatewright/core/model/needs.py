"""What has to be known before a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewright.api.checks import Check
from gatewright.core.checks.window import Rule
from gatewright.core.model.holding import Holding
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec


@dataclass(frozen=True, slots=True)
class Measure:
    """A check that is to be asked at its interval."""

    path: str
    check: Check
    provider: str
    config: Any
    rule: Rule
    breaching_since: str | None = None
    """Since when its status line says Breaching; to rebuild its window after a restart."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be known before the next decision.

    Subjects map to the configuration that finds them.
    """

    body: bool = False
    live_states: Mapping[str, Any] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()
    measures: tuple[Measure, ...] = ()
    holdings: tuple[Holding, ...] = ()
    snapshots: bool = False
    """Whether what the run has recorded may be recorded anew.

    It is with another snapshot, or with an edited body."""
    connections: bool = False
    """Whether a run may begin now, so that its Connections have to be found."""
    records: tuple[str, ...] = ()
    """ControllerRevisions of promoted runs that somebody asks to be undone."""
    procedure: PinnedSpec | None = None
    """What a procedure pins that somebody asks for: whether another run is at work on the same is
    found out."""
    author: bool = False
    """Whether the spec may begin to count now.

    Its author must have been asked for the rights it uses."""
