"""The states of a run, of its stages and of its steps, as tables; only `move` changes one.

     spec.version changes
              |
              v
       +-----------+    new spec, Abort
       | Preflight | ---------------------------------------------> Superseded, Aborted
       +-----------+
              | checks pass
              v
      +-------------+   onFailure: Pause    +--------+
      | Progressing | --------------------> | Paused |
      |             | <-------------------- |        |
      +-------------+     Retry, Skip       +--------+
          |     | a step, a gate or a guard     | a guard fails,
          |     | fails, Rollback, Abort        | Rollback, Abort
          |     |                               v
          |     |                       +-------------+    an undo failed
          |     +---------------------> | RollingBack | --------------------+
          |                             +-------------+                     |
          | last stage                     ^        | everything undone     |
          v                                |        v                       v
       +-----------+    a guard fails,     |   +-----------+ verify fails
       | Guarding  | ----------------------+   | Verifying | -----------> RollbackFailed
       +-----------+    Rollback, Abort        +-----------+
              | guardFor                            | verify passes
              v                                     v
           Promoted                       RolledBack, Superseded, Aborted

Verifying leads back to RollingBack once, where others have overwritten what was returned.

A guard with `action: RollbackStage` leads to RollingBack, too (`core.run.stage_rollback`). When the
one stage is undone the run goes on without it, in Progressing. A guard that fails meanwhile, a
Rollback or an Abort turns the whole run around, which stays in RollingBack.

A run that has an outcome is in phase Done. One thing leads out of it: a person repeats what a
failed rollback has not undone. A rollback is never itself rolled back, and nothing leads from that
of a whole run to Promoted. A run that cannot be decided upon at all ends as RollbackFailed when
somebody aborts it: nobody knows what it has left behind. A run that only observes ends as Observed,
out of any phase of the way forward but Paused.

What people do (`core.interventions`) moves along the same lines: Retry and Skip lead out of Paused,
Promote ends a bake or the guarding early, Rollback and Abort turn around, Pause and Resume change
no phase. A rollback under way answers to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gatewright.api.status import GateStatus, Outcome, Run, StageStatus, StepStatus, Undo

PHASES: Mapping[str, frozenset[str]] = {
    "Preflight": frozenset({"Progressing", "Done"}),
    "Progressing": frozenset({"Paused", "Guarding", "RollingBack", "Done"}),
    "Paused": frozenset({"Progressing", "RollingBack", "Done"}),
    "Guarding": frozenset({"RollingBack", "Done"}),
    "RollingBack": frozenset({"Progressing", "Verifying", "Done"}),
    "Verifying": frozenset({"RollingBack", "Done"}),
    "Done": frozenset({"RollingBack"}),
}

STAGES: Mapping[str, frozenset[str]] = {
    "Pending": frozenset({"Running", "Skipped"}),
    "Running": frozenset({"Gating", "Passed", "Failed", "Skipped", "RolledBack"}),
    "Gating": frozenset({"Baking", "Passed", "Failed", "Skipped", "RolledBack"}),
    "Baking": frozenset({"Passed", "Failed", "Skipped", "RolledBack"}),
    "Passed": frozenset({"RolledBack"}),
    # A Retry runs it once more; a Skip does until its Job has stopped.
    "Failed": frozenset({"Running", "Skipped", "RolledBack"}),
    "Skipped": frozenset({"RolledBack"}),
    "RolledBack": frozenset(),
}

STEPS: Mapping[str, frozenset[str]] = {
    "Pending": frozenset({"Running", "Skipped", "Failed"}),
    "Running": frozenset({"Succeeded", "Failed", "Skipped"}),
    # A Retry does once more what others have changed since, or an edit changes; a rollback
    # returns once more what others have overwritten.
    "Succeeded": frozenset({"Pending"}),
    "Failed": frozenset({"Running", "Skipped", "Pending"}),
    "Skipped": frozenset({"Pending"}),
}

OUTCOMES: Mapping[str, frozenset[Outcome]] = {
    "Preflight": frozenset({"Superseded", "Aborted", "Observed"}),
    "Progressing": frozenset({"Promoted", "Observed", "RollbackFailed"}),
    "Paused": frozenset({"RollbackFailed"}),
    "Guarding": frozenset({"Promoted", "Observed", "RollbackFailed"}),
    "RollingBack": frozenset({"RollbackFailed", "RolledBack", "Superseded", "Aborted"}),
    "Verifying": frozenset({"RollbackFailed", "RolledBack", "Superseded", "Aborted"}),
}
"""From which phase a run may end how."""

_Stateful = TypeVar("_Stateful", Run, StageStatus, StepStatus, Undo)


class Forbidden(AssertionError):
    """A transition that no table allows; the pass is abandoned and nothing is written."""


def move(stateful: _Stateful, to: str) -> _Stateful:
    """Change the state of a run, a stage, a step or an undo. Raises Forbidden."""
    if isinstance(stateful, Run):
        _require_transition(PHASES, stateful.phase, to, f"run {stateful.id}")
        stateful.phase = to  # type: ignore[assignment]  # the table holds only valid phases
    elif isinstance(stateful, StageStatus):
        _require_transition(STAGES, stateful.state, to, f"stage {stateful.name}")
        stateful.state = to  # type: ignore[assignment]  # likewise
    else:
        name = stateful.subject if isinstance(stateful, Undo) else f"step {stateful.name}"
        _require_transition(STEPS, stateful.state, to, name)
        stateful.state = to  # type: ignore[assignment]  # likewise

    return stateful


def reopen(run: Run) -> None:
    """Lead a run whose rollback failed back into it. Raises Forbidden."""
    if run.outcome != "RollbackFailed":
        raise Forbidden(f"run {run.id} has ended {run.outcome}; only a failed rollback is repeated")
    move(run, "RollingBack")
    run.outcome = None


def end(run: Run, outcome: Outcome) -> None:
    """End a run. Raises Forbidden."""
    if outcome not in OUTCOMES.get(run.phase, frozenset()):
        raise Forbidden(f"run {run.id} cannot end {outcome} from {run.phase}")
    move(run, "Done")
    run.outcome = outcome


def _require_transition(table: Mapping[str, frozenset[str]], old: str, new: str, what: str) -> None:
    if new not in table[old]:
        raise Forbidden(f"{what}: {old} does not lead to {new}")


__all__ = ["OUTCOMES", "PHASES", "STAGES", "STEPS", "Forbidden", "GateStatus", "end", "move"]
