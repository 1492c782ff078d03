"""A Release as it stands: what a decision is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewright.api.release import ReleaseSpec
from gatewright.api.run import Run, RunbookUsed
from gatewright.api.status import ReleaseStatus
from gatewright.core.model.intervention import Intervention

MOST_UNREPORTED_ANSWERS = 15
"""How many answers a Release keeps for Interventions whose own status does not tell them yet."""
MOST_URGENT_ANSWERS = 4
"""How many more it keeps for those that overtake."""


@dataclass(frozen=True, slots=True)
class View:
    """A Release as it stands. `spec` is None where it cannot be read; `problems` says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ReleaseSpec | None
    status: ReleaseStatus
    problems: tuple[str, ...] = ()
    deleting: bool = False
    finalized: bool = False
    open_interventions: tuple[Intervention, ...] = ()
    """Interventions whose own status does not tell an answer yet, the oldest first.

    Of very many, the oldest that overtake and the oldest of the others."""
    labels: Mapping[str, str] | None = field(default_factory=dict)
    """None where there are more than are kept, so that nobody knows which."""
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was derived from this very view, and is asked for more than once in a pass."""
    runbook: RunbookUsed | None = None
    """The Runbook that the spec has its body from."""

    @property
    def run(self) -> Run | None:
        """The run under way, if any."""
        run = self.status.run
        return run if run is not None and run.outcome is None else None

    def is_edited_since(self, run: Run) -> bool:
        """Return whether the spec, or its Runbook, may say something else than what a run has
        pinned."""
        return self.generation != run.generation or self.runbook != run.runbook

    @property
    def next_intervention(self) -> Intervention | None:
        """The next Intervention to be answered: the oldest, but one that is urgent first.

        None while many answers have not reached their Interventions yet.
        """
        answered = {answer.uid for answer in self.status.interventions}
        fresh = [asked for asked in self.open_interventions if asked.uid not in answered]
        unreported = len(self.open_interventions) - len(fresh)

        urgent = next((asked for asked in fresh if asked.urgent), None)
        if urgent is not None and unreported < MOST_UNREPORTED_ANSWERS + MOST_URGENT_ANSWERS:
            return urgent
        if not fresh or unreported >= MOST_UNREPORTED_ANSWERS:
            return None
        return fresh[0]
