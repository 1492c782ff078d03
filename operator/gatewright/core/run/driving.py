"""How far operations are together: those of a step, of a line of the rollback, of a stop.

`drive` looks at all of them and starts what was never started. Whoever drives decides what follows:
a step fails by its clock, a line of the rollback stops its Job first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gatewright.core.model.operation import Operation, Progress
from gatewright.core.run.context import Context

STOP_LIMIT_S = 120.0
"""Seconds within which a Job that is stopped must have ended."""
STILL_UNDER_WAY = "it is still under way"
"""What is said of operations that say nothing themselves."""


@dataclass(frozen=True, slots=True)
class Driven:
    """Operations with how far each of them is."""

    operations: Sequence[Operation]
    progress: Sequence[Progress]

    @property
    def succeeded(self) -> bool:
        """Whether all of them have; so it is where there are none."""
        return all(one.state == "Succeeded" for one in self.progress)

    @property
    def begun(self) -> bool:
        """Whether one of them may have done something."""
        return any(one.state not in ("Absent", "Refused") for one in self.progress)

    @property
    def hopeless(self) -> bool:
        """Whether one of them cannot end well, whatever time it has."""
        return any(one.hopeless for one in self.progress)

    @property
    def stuck(self) -> bool:
        """Whether something keeps one of them from ending."""
        return any(one.stuck for one in self.progress)

    @property
    def outputs(self) -> dict[str, str]:
        """What they have published."""
        published: dict[str, str] = {}
        for one in self.progress:
            published |= one.outputs
        return published

    @property
    def unread(self) -> str:
        """Why something that they have published cannot be known; empty where all of it is."""
        return next((one.unread for one in self.progress if one.unread), "")

    @property
    def message(self) -> str | None:
        """What people should know of them.

        That is what keeps one from ending, else what is notable although nothing is wrong.
        """
        stuck = next((one.message for one in self.progress if one.stuck), None)
        notable = (one.message for one in self.progress if one.notable and one.message)
        return (stuck or "; ".join(notable))[:1000] or None

    @property
    def reason(self) -> str:
        """What one of them says that has not ended well, for a failure by time."""
        unfinished = (one.message for one in self.progress if one.state != "Succeeded")
        return next(filter(None, unfinished), STILL_UNDER_WAY)

    @property
    def any_reason(self) -> str:
        """What one of them says, those that have ended well included."""
        return next((one.message for one in self.progress if one.message), STILL_UNDER_WAY)

    def first_in(self, *states: str) -> Progress | None:
        """Return the first that is in one of these states."""
        return next((one for one in self.progress if one.state in states), None)


def drive(
    ctx: Context,
    operations: Sequence[Operation],
    *,
    may_start: Callable[[Driven], bool],
    stage: str = "",
    step: str = "",
    begins: bool = False,
) -> Driven:
    """Return how far operations are, and start what is absent, if that is still wanted.

    `may_start` is asked once all are known. `begins`: they begin in this very pass, so nobody has
    looked for them yet. `stage` and `step` stand in the journal; without them nothing does.
    """
    progress = [Progress("Absent") if begins else ctx.progress(one) for one in operations]
    driven = Driven(operations, progress)
    if not driven.succeeded and may_start(driven):
        _start_absent(ctx, driven, stage, step)

    return driven


def _start_absent(ctx: Context, driven: Driven, stage: str, step: str) -> None:
    pairs: Iterable[tuple[Operation, Progress]] = zip(
        driven.operations, driven.progress, strict=True
    )
    for operation, progress in pairs:
        if progress.state == "Absent":
            ctx.perform(operation, stage, step)
