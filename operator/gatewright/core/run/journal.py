"""The journal of a run: what it has begun to change, one line each."""

from __future__ import annotations

from gatewright.api.status import JournalEntry, Run, StageStatus
from gatewright.core.subject import traits_of


def fold_journal(run: Run, stage: StageStatus) -> None:
    """Keep of a passed stage one line for each thing it changed: none of its Jobs can still run."""
    changes: dict[str, JournalEntry] = {}
    jobs: list[JournalEntry] = []

    for entry in run.journal:
        if entry.stage != stage.name:
            continue
        if traits_of(entry.subject).stopped:
            jobs.append(entry)
        else:
            changes[entry.subject] = entry

    others = [entry for entry in run.journal if entry.stage != stage.name]
    # One line stays in any case: an empty journal says that nothing was changed (`guards`).
    run.journal = others + (list(changes.values()) or jobs[-1:])
