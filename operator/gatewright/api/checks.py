"""Questions with a yes or no: checks, guards, and what is left to do when a run has ended."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from gatewright.api.base import Duration, Interval, Keyed, Name, Quantity
from gatewright.api.conditions import Is, IsFalse, IsTrue, Missing
from gatewright.api.people import Confirm
from gatewright.api.rules import Needs, NotTogether, OneProvider, OnlyWith, Rule


class Check(Keyed):
    """One question with a yes or no: a measured value against limits, a job, or an approval."""

    name: Name
    """Unique among its neighbours; it appears in status, messages and metrics."""
    max: Quantity | None = None
    """Largest value that is still good."""
    min: Quantity | None = None
    """Smallest value that is still good."""
    interval: Interval = "10s"
    """Time between two measurements; at least 1s."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """Fail only when every sample over this time breached, with no gap longer than three
    intervals."""
    failureThreshold: Annotated[int | None, Field(ge=1, le=100)] = None
    """Fail only after this many breaching samples in a row. With `for` both must hold."""
    onNoData: Literal["Hold", "Fail"] = "Hold"
    """What an empty answer or NaN means: clocks stop (Hold), or it counts as a breach (Fail). It is
    never a pass."""
    onError: Literal["Hold", "Fail"] = "Hold"
    """What a provider that does not answer means: clocks stop (Hold), or it counts as a breach
    (Fail)."""
    holdFor: Duration = "10m"
    """How long the check may hold before `onHoldExpired` counts."""
    onHoldExpired: Literal["Fail", "Pause", "Notify"] | None = None
    """What a hold longer than `holdFor` does. Fail: the check fails. Pause: a person decides.
    Notify: it is told, and the clocks stand until there is an answer. Left out: Fail for a gate;
    for a guard Pause during the stages, and Notify while Guarding."""


Severity = Literal["critical", "error", "warning", "info"]
"""How grave a fault is, in the words of those who page people; the gravest first."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class Guard(Check):
    """A check that is watched from the first change until `guardFor` after completion."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Check.rules,
        NotTogether(
            IsTrue("atRest"),
            Is("action", "Rollback"),
            Missing("rollbackFor"),
            message="at rest a Rollback is for a time after promotion: give rollbackFor, or "
            "action: Notify",
        ),
        NotTogether(
            IsTrue("atRest"),
            Is("action", "Pause"),
            message="at rest there is no run to pause; give action: Notify, or leave out atRest",
        ),
        NotTogether(
            IsTrue("atRest"),
            Is("action", "RollbackStage"),
            message="at rest no stage is under way; give action: Notify, or leave out atRest",
        ),
        NotTogether(
            IsFalse("atRest"),
            "rollbackFor",
            message="rollbackFor is for a guard that is watched at rest; add atRest: true",
        ),
        NotTogether(
            Is("action", "Notify"),
            "rollbackFor",
            message="rollbackFor is for action: Rollback; leave it out",
        ),
        NotTogether(
            Is("action", "Run"),
            "rollbackFor",
            message="rollbackFor is for action: Rollback; a procedure undoes nothing by itself",
        ),
        Needs(
            Is("action", "Run"),
            "procedure",
            message="action: Run needs procedure: the name of one in spec.procedures",
        ),
        OnlyWith("procedure", "action", ("Run",)),
    )

    action: Literal["Rollback", "RollbackStage", "Pause", "Run", "Notify"] = "Rollback"
    """What a failed guard does: undo the whole release; undo the stage under way alone, or the last
    one while Guarding; let a person decide; run a procedure; or only say so."""
    procedure: Name | None = None
    """The procedure to run, with `action: Run`."""
    severity: Severity = "error"
    """How grave its fault is for whoever is told."""
    atRest: bool = False
    """Watched also when no run is under way, from the promotion on."""
    rollbackFor: Duration | None = None
    """How long after the promotion a failure at rest undoes it, with `action: Rollback`; after that
    it is only told."""


class FollowUp(Check):
    """What is left to do when a run has ended: a person confirms it, or a gate is watched until its
    time is over."""

    rules: ClassVar[tuple[Rule, ...]] = (OneProvider("confirm", in_model=False),)

    within: Duration
    """How long after the end of the run it is due."""
    when: Literal["Promoted", "RolledBack", "Always"] = "Promoted"
    """After which end of a run. RolledBack: also where the rollback failed. Always: after every run
    that began a stage."""
    confirm: Confirm | None = None
    """What a person does and then confirms by an Intervention that names the follow-up."""
    interval: Interval = "5m"
    """Time between two measurements; at least 1s."""
    holdFor: Duration = "1h"
    """After this time on Hold the follow-up fails."""
