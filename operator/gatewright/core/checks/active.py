"""Which checks are watched in which phase of a run: the only place that says so.

What is measured, which Jobs are followed, what is judged and what may be announced all ask here. So
a check cannot be judged that nobody measures, nor measured for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gatewright.api.checks import Check, Guard
from gatewright.api.status import GateStatus, Run
from gatewright.core.model.pinned_spec import PinnedSpec

ONCE = ("job", "approval")
"""Keys of checks that are not measured: they end once, by a Job or by people."""
DATABASE_CHECK = "database"
"""Name of the check that asks people before an Undo returns the database."""
WATCHED_STAGE_STATES = ("Gating", "Baking")
"""States of a stage in which its gates are watched."""
CheckT_co = TypeVar("CheckT_co", bound=Check, covariant=True)


@dataclass(frozen=True, slots=True)
class CheckSet(Generic[CheckT_co]):
    """Checks of one place, each with its status line."""

    place: str
    """`preflight`, `guards`, `stages/NAME` or `verify`."""
    checks: Sequence[CheckT_co]
    rows: Sequence[GateStatus]
    stage: int | None = None
    """Index of the stage whose gates they are."""

    def first_failed_once(self) -> GateStatus | None:
        """Return the first line of a Job or an approval that has failed: nothing can mend it."""
        return next((row for check, row in self.pairs() if _has_failed_once(check, row)), None)

    def job_rows(self) -> list[GateStatus]:
        """Return the lines of Jobs."""
        return [row for check, row in self.pairs() if check.provider[0] == "job"]

    def pairs(self) -> Iterator[tuple[CheckT_co, GateStatus]]:
        """Yield each check with its line."""
        return zip(self.checks, self.rows, strict=True)


def _has_failed_once(check: Check, row: GateStatus) -> bool:
    return row.state == "Failed" and check.provider[0] in ONCE


def guard_set(body: PinnedSpec, run: Run) -> CheckSet[Guard]:
    """Return the guards of a run."""
    return CheckSet("guards", body.spec.guards, run.guards)


def preflight_set(body: PinnedSpec, run: Run) -> CheckSet[Check]:
    """Return the checks before anything is touched."""
    checks = body.spec.preflight
    if run.kind == "Undo":
        approval = body.spec.rollback.database.approval
        asked = approval.model_dump() if approval is not None else {}
        checks = [Check.model_validate({"name": DATABASE_CHECK, "approval": asked})]
    if run.observe:  # nothing is acted on: a Job is an act, and nobody is asked
        checks = [check for check in checks if check.provider[0] not in ONCE]
    names = {check.name for check in checks}
    return CheckSet("preflight", checks, [row for row in run.preflight if row.name in names])


def gate_set(body: PinnedSpec, run: Run, stage: int) -> CheckSet[Check]:
    """Return the gates of a stage."""
    status = run.stages[stage]
    return CheckSet(f"stages/{status.name}", body.spec.stages[stage].gates, status.gates, stage)


def verification_set(body: PinnedSpec, run: Run) -> CheckSet[Check]:
    """Return what has to pass before a rollback is called done."""
    assert run.rollback is not None
    return CheckSet("verify", body.spec.rollback.verify, run.rollback.verify)


def active_checks(body: PinnedSpec, run: Run, stage: int | None) -> Iterator[CheckSet[Check]]:
    """Yield what is watched now. `stage`: index of the stage that the run is at."""
    # Where one stage is undone the run itself goes on; what was promoted is not watched any more.
    goes_on = run.phase in ("Preflight", "Progressing", "Paused", "Guarding")
    goes_on = goes_on or (run.phase == "RollingBack" and run.stage_undone is not None)
    if goes_on and run.kind != "Undo":
        yield guard_set(body, run)
    if run.phase == "Preflight":
        yield preflight_set(body, run)
    if (
        run.phase == "Progressing"
        and stage is not None
        and run.stages[stage].state in WATCHED_STAGE_STATES
    ):
        yield gate_set(body, run, stage)
    if run.phase == "Verifying" and run.rollback is not None:
        yield verification_set(body, run)
