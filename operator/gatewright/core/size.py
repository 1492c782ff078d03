"""Status stays small: under 100 KiB whatever a spec, its Jobs and the people around it say.

Most statuses are far below that, and are left as they are. A large one is folded, what is read least first, until it
fits: what people did in old runs, the details of stages that are over, then long messages. Nothing that a decision is made
of goes: states, attempts, outputs that something names, the journal, the rollback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from gatewright.api.status import GateStatus, ReleaseStatus, StageStatus, dump

LIMIT = 92_000
"""Bytes of JSON that a status may have. Kubernetes itself and the write around it add some."""
SMALL = 30_000
"""A status that cannot have more is not measured."""
OVER = ("Passed", "Skipped", "RolledBack")


def fit(status: ReleaseStatus) -> None:
    """Fold a status until it fits."""
    if _at_most(status) <= SMALL:
        return
    for fold in FOLDS:
        if _measured(status) <= LIMIT:
            return
        fold(status)


def _at_most(status: ReleaseStatus) -> int:
    """More bytes than a status has, counted without writing it out."""
    texts = sum(len(text) for text in _texts(status))
    run = status.run
    rows = 0
    if run is not None:
        rows = sum(1 + len(stage.steps) + len(stage.gates) for stage in run.stages) + len(run.journal) + len(run.plan)
        rows += len(run.guards) + len(run.preflight) + len(run.people)
    rows += len(status.history) + len(status.notices) + len(status.interventions) + len(status.followUps)
    return texts + rows * 450


def _texts(status: ReleaseStatus) -> Iterator[str]:
    run = status.run
    if run is not None:
        yield from run.people
        for stage in run.stages:
            yield from (step.message or "" for step in stage.steps)
            yield from (row.message or "" for row in stage.gates)
            yield from (value for step in stage.steps for value in step.outputs.values())
    yield from (line for past in status.history for line in (past.reason or "", *past.people))
    yield from (notice.text for notice in status.notices)
    yield from (answered.message for answered in status.interventions)


def _measured(status: ReleaseStatus) -> int:
    return len(json.dumps(dump(status), separators=(",", ":"), ensure_ascii=False).encode())


# --- the folds, what is read least first


def _old_people(status: ReleaseStatus) -> None:
    for past in status.history:
        past.people = [line[:80] for line in past.people[-2:]]
        past.reason = (past.reason or "")[:200] or None


def _closed(status: ReleaseStatus) -> None:
    status.notices = [notice.model_copy(update={"text": notice.text[:120]}) for notice in status.notices]
    for answered in status.interventions:
        answered.message = answered.message[:120]
    for row in status.followUps:
        row.message = (row.message or "")[:120] or None
    for rejected in status.rejected:
        rejected.reason = rejected.reason[:200]


def _details_of_stages_that_are_over(status: ReleaseStatus) -> None:
    for stage in _stages(status):
        if stage.state not in OVER:
            continue
        for row in stage.gates:
            row.message = row.value = row.limit = row.margin = row.since = None
        for step in stage.steps:
            step.message = step.startedAt = step.finishedAt = step.key = None


def _long_messages(longest: int) -> Callable[[ReleaseStatus], None]:
    def cut(status: ReleaseStatus) -> None:
        for row in _rows(status):
            row.message = (row.message or "")[:longest] or None
        for stage in _stages(status):
            stage.message = (stage.message or "")[: 2 * longest] or None
            for step in stage.steps:
                step.message = (step.message or "")[:longest] or None
        for condition in status.conditions:
            condition.message = condition.message[: 4 * longest]
        run = status.run
        if run is not None:
            run.people = [line[: 2 * longest] for line in run.people]
            run.plan = [line[: 2 * longest] for line in run.plan]

    return cut


def _limits(status: ReleaseStatus) -> None:
    for row in _rows(status):
        row.limit = row.margin = None


def _times(status: ReleaseStatus) -> None:
    for row in _rows(status):
        if row.state == "Passing":
            row.since = row.value = None


def _plan(status: ReleaseStatus) -> None:
    if status.run is not None:
        status.run.plan = status.run.plan[:20]
        status.run.people = status.run.people[-5:]


def _stages(status: ReleaseStatus) -> list[StageStatus]:
    return status.run.stages if status.run is not None else []


def _rows(status: ReleaseStatus) -> list[GateStatus]:
    run = status.run
    if run is None:
        return []
    verify = run.rollback.verify if run.rollback is not None else []
    return [*run.preflight, *run.guards, *run.availability, *verify, *(row for one in run.stages for row in one.gates)]


FOLDS: tuple[Callable[[ReleaseStatus], None], ...] = (
    _old_people,
    _closed,
    _details_of_stages_that_are_over,
    _long_messages(200),
    _plan,
    _long_messages(80),
    _limits,
    _times,
    _long_messages(20),
)
