"""Guards: when they count, what their silence does, and which of them ends the run.

before the first change   measured and said, so that whoever approves knows; nothing follows
breaching by then         `early`: it counts from the first completed deploy on, with a new row of samples; a hotfix
                          is rolled out because something breaches
silent for too long       `onHoldExpired`: Fail undoes the run; Pause lets a person decide; Notify says so, and the
                          clocks stand until there is an answer
"""

from __future__ import annotations

from gatewright.api.release import Guard
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.run.context import Pass, look

BAD = ("Breaching", "Failed")


def look_ahead(p: Pass) -> None:
    """Before anything is touched guards are only said."""
    look(p, "guards", p.body.spec.guards, p.run.guards)
    for row in p.run.guards:
        row.early = row.state in BAD


def asked_once(p: Pass) -> bool:
    """Whether every guard has had an answer, or has been silent for long enough to hold: only then is it known which of
    them breach already before the run changes anything."""
    return p.run.observe or all(row.state != "Unknown" for row in p.run.guards)


def count_guards(p: Pass) -> None:
    """Which guards do not count yet; and tell of those that only tell."""
    run = p.run
    for row in run.guards:
        if not run.journal:
            row.early = row.state in BAD
        elif row.early and row.state not in BAD:
            row.early = False
    for guard, row in _guards(p):
        if row.early:
            continue
        if row.state == "Failed" and guard.action == "Notify" and _just(p, row):
            p.note("GuardFailed", f"guard {judge.describe(row)} (action: Notify)", warning=True)
        if row.state == "Expired" and not row.acknowledged:
            say_or_pause(p, row, _silence(p, guard))


def failed_guard(p: Pass) -> GateStatus | None:
    """The first guard that undoes the run: by a breach, or by its silence where that is to count as a failure."""
    return next(
        (row for guard, row in _guards(p) if row.state == "Failed" and guard.action == "Rollback" and not row.early),
        None,
    )


def silent(p: Pass) -> GateStatus | None:
    """A guard that has been silent for longer than it may, while nothing follows from that by itself."""
    return next((row for guard, row in _guards(p) if row.state == "Expired" and guard.action == "Rollback"), None)


def let_go(p: Pass, guard: Guard, row: GateStatus) -> bool:
    """Whether a person has resumed the run although this guard is silent: it keeps nothing from going on until it answers."""
    return row.state == "Expired" and row.acknowledged and p.run.paused is None and _silence(p, guard) == "Pause"


def watch_on(p: Pass) -> None:
    """All stages have passed: what was let go in them is decided anew, by what counts from now on."""
    for guard, row in _guards(p):
        if row.acknowledged and _silence(p, guard) == "Notify":
            row.acknowledged = False


def say_or_pause(p: Pass, row: GateStatus, action: str) -> None:
    """A person decides, or is only told; either once."""
    if action == "Pause" and p.run.paused is None and p.run.phase in ("Walking", "Guarding"):
        p.run.paused = f"guard {judge.describe(row)}"[:1000]
        row.acknowledged = True  # once it was resumed it is not paused again for the same
        p.note("PausedByGuard", f"{p.run.version}: guard {judge.describe(row)}; a person decides", warning=True)
        p.firmly()
    elif action == "Notify":
        row.acknowledged = True
        text = "nothing is promoted and nothing undone until there is an answer"
        p.note("GuardSilent", f"{p.run.version}: guard {judge.describe(row)}; {text}", warning=True)
        p.firmly()


def _silence(p: Pass, guard: Guard) -> str:
    if guard.action == "Notify":
        return "Notify"
    return guard.onHoldExpired or ("Notify" if p.run.phase == "Guarding" else "Pause")


def _just(p: Pass, row: GateStatus) -> bool:
    """Whether a guard has failed in this very pass."""
    before = p.view.status.run
    return before is not None and next((g.state for g in before.guards if g.name == row.name), "") != "Failed"


def _guards(p: Pass) -> list[tuple[Guard, GateStatus]]:
    return list(zip(p.body.spec.guards, p.run.guards, strict=True))
