"""The way back at rest: a run of kind Undo returns what promoted runs have changed.

A promoted run leaves a record of what it did, beside the snapshots from before its first change.
Undoing it is then the very rollback that it would have had while it was under way: as wide as what
it did, with what others changed since left alone and named. To go back further, the records of
several runs are taken together: each subject returns to the oldest of its snapshots, and what all
of them did to it goes back with it.

    promotion           `keep_promoted`     a line in `status.kept`, `spec.rollback.keep` of them
    Rollback at rest    `undo_choice`       which of them lie between now and what is asked for
                        `start_undo`        one write: the run, its plan as intents
    a guard at rest     `roll_back_by_guard`    the same for the latest of them, by itself
    the next pass                           restores, side by side

The database stays as it is: compensations run only where a person has asked for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from gatewright.api.status import (
    GateStatus,
    Kept,
    Run,
    Served,
    StepStatus,
    Undo,
)
from gatewright.core.checks import at_rest, judge
from gatewright.core.checks.active import DATABASE_CHECK, preflight_set
from gatewright.core.model.decision import Revision
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import clocks
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.operations import compensation_of, done_by_body, subjects_of
from gatewright.core.run.pinning import make_revision
from gatewright.core.run.procedure_in_way import end_procedure_in_way
from gatewright.core.run.procedure_obstacles import (
    procedure_in_way,
)
from gatewright.core.run.procedures import stop_procedure
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.rollback_end import reject_version
from gatewright.core.run.rollback_plan import plan_rollback, with_captured
from gatewright.core.run.run_end import finish_run
from gatewright.core.run.undo_choice import choose_undone
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.core.subject import name_of_subject, traits_of

RECORD_FIELD = "run"
"""Field of a promotion's ControllerRevision that says what the run did."""
MOST_PLAN_LINES = 40
MOST_COMPENSATIONS = 20
_UNRECORDED = {
    "preflight",
    "guards",
    "availability",
    "differences",
    "plan",
    "people",
    "timers",
    "reason",
    "rollback",
}
"""What nobody needs of a run to undo it."""


# Promotion


def record_of_run(run: Run) -> dict[str, Any]:
    """Return what has to be known of a run so that it can be undone later."""
    record = run.model_dump(exclude=_UNRECORDED, exclude_none=True, exclude_defaults=True)
    for stage in record.get("stages", ()):
        stage.pop("gates", None)
        stage.pop("message", None)
        for step in stage.get("steps", ()):
            step.pop("message", None)
    return record


def keep_promoted(ctx: Context, before: Served | None, record: str) -> None:
    """Note that the run can be undone; `before`: what was last good until now."""
    run, most = ctx.run, ctx.body.spec.rollback.keep
    lines = plan_rollback(ctx.body, run, ())
    compensations = [line for line in lines if line.kind == "Compensate"]

    kept = Kept(
        run=run.id,
        version=run.version,
        at=clocks.format_time(ctx.now),
        before=before or Served(),
        revision=run.revision,
        record=record,
        plan=_describe_restores(lines),
        compensations=[_describe_compensation(line) for line in compensations][:MOST_COMPENSATIONS],
        atRest=at_rest.names_to_keep(ctx),
        backupAt=_oldest_backup(ctx.body, run, compensations),
    )
    ctx.status.kept = [kept, *ctx.status.kept][:most]


def _describe_restores(lines: Iterable[Undo]) -> list[str]:
    plan = [f"restore {line.subject}" for line in lines if line.kind == "Restore"]
    return plan if len(plan) <= MOST_PLAN_LINES else [*plan[: MOST_PLAN_LINES - 1], "..."]


def _describe_compensation(line: Undo) -> str:
    name = name_of_subject(line.subject)
    missing = f" ({line.message})" if line.state == "Skipped" and line.message else ""
    return f"run {name} of {line.stage}{missing}"[:320]


def _oldest_backup(body: PinnedSpec, run: Run, compensations: Iterable[Undo]) -> str | None:
    """Return when the oldest of what compensations require was made; None where they require
    nothing that the run has made."""
    required: set[str] = set()
    for line in compensations:
        _, step = compensation_of(body, line)
        required.update(step.requires)

    times = []
    for stage, row in zip(body.spec.stages, run.stages, strict=True):
        for step, step_row in zip(stage.steps, row.steps, strict=True):
            if step.produces in required:
                times += [_made_at(step_row)]
    return min(filter(None, times), default=None)


def _made_at(step: StepStatus) -> str | None:
    """Return when what a step has produced was made: as it says itself, or at the latest when it
    began."""
    made_at = step.outputs.get("createdAt", "").strip()
    try:
        return clocks.format_time(clocks.parse_time(made_at))
    except ValueError:
        return step.startedAt


# Start


@dataclass(frozen=True, slots=True)
class _Promoted:
    """A promoted run: what it pinned, what it did, and what was there before."""

    body: PinnedSpec
    run: Run
    snapshots: Mapping[str, Any]
    pinned: Mapping[str, Any]
    """Content of the ControllerRevision that it has pinned."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why promoted runs are undone: a person has asked for it, or a guard at rest has failed."""

    kind: Literal["Person", "Guard"]
    reason: str
    guard: str | None = None
    database: bool = False
    """Whether compensations run: only a person asks for that."""


def start_undo(ctx: Context, act: Intervention) -> str:
    """Begin to undo promoted runs; return what is done. Raises Refused, NotYet."""
    if ctx.view.deleting:
        raise Refused("the Release is being deleted; what it has promoted stays")
    undone = choose_undone(ctx.status, act)
    if act.with_database and not act.reason.strip():
        raise Refused("with the database goes what was written since; say why (reason)")
    promoted = [_read_promoted(ctx, kept) for kept in undone]
    newest = promoted[0]
    end_procedure_in_way(ctx, act, _subjects_returned(promoted))
    if ctx.seen.rival is not None:
        raise Refused(
            f"release {ctx.seen.rival} has one of its targets; wait for the end of its run, or "
            "Abort that"
        )

    if len(promoted) > 1:
        newest = _take_together(ctx.view, promoted)
        connections = newest.pinned.get("connections", {})
        ctx.decision.revision = make_revision(
            ctx, ctx.status.runs + 1, newest.body, newest.snapshots, connections
        )
    else:
        ctx.decision.taken_up = Revision(undone[0].revision, newest.pinned)

    reason = f"Rollback by {act.attribution}"
    _begin(ctx, undone, newest, _Cause("Person", reason, database=act.with_database))
    if ctx.run.phase == "Preflight":
        return "the way back waits for an approval of the database; nothing is returned before"
    target = undone[-1].before.version or "what was there before"
    database = f", the database included ({_describe_loss(undone[0])})" if act.with_database else ""
    versions = ", ".join(kept.version for kept in undone)
    verb = "is" if len(undone) == 1 else "are"
    return f"{versions} {verb} undone{database}; {target} is returned to"


def roll_back_by_guard(ctx: Context) -> bool:
    """Undo the latest promotion where a guard at rest has failed in its time.

    Return whether it is: the record of what it did is read before that is decided, and a procedure
    that is at work on the same is ended.
    """
    row = at_rest.guard_to_roll_back(ctx.view, ctx.status.atRest)
    if row is None or ctx.status.runs != ctx.view.status.runs:
        return False
    # Another Release has one of the targets: the guard goes on failing until that run has ended.
    if ctx.seen.rival is not None:
        return False

    latest = ctx.status.kept[0]
    if any(name not in ctx.seen.records for name in (latest.record, latest.revision)):
        return True

    try:
        promoted = _read_promoted(ctx, latest)
    except Refused as refusal:
        # Once: nobody can read it the next time either.
        row.rollbackUntil = None
        message = f"guard {judge.describe(row)}; nothing is undone: {refusal}"
        guard = f"{at_rest.EVENT_PREFIX}{row.name}"
        ctx.record_event("RollbackRefused", message, warning=True, guard=guard)
        return False

    procedure = procedure_in_way(ctx, _subjects_returned([promoted]))
    if procedure is not None:
        stop_procedure(ctx, procedure, f"guard {judge.describe(row)}; what it changes is returned")
        return False

    ctx.decision.taken_up = Revision(latest.revision, promoted.pinned)
    _begin(ctx, [latest], promoted, _Cause("Guard", f"guard {judge.describe(row)}", row.name))
    return True


def _subjects_returned(promoted: Iterable[_Promoted]) -> set[str]:
    """Return everything that an Undo may change."""
    return {subject for one in promoted for subject in subjects_of(one.body)}


def _describe_loss(kept: Kept) -> str:
    steps = "; ".join(kept.compensations) or "nothing is run for it"
    if kept.backupAt is None:
        return steps
    return f"{steps}; what was written since {kept.backupAt} is lost"


def _begin(ctx: Context, undone: Sequence[Kept], newest: _Promoted, cause: _Cause) -> None:
    status, number = ctx.status, ctx.status.runs + 1
    revision = ctx.decision.run_revision
    assert revision is not None
    ctx.decision.begins = ctx.decision.prune_revisions = True

    status.run = newest.run.model_copy(
        update={
            "id": number,
            "kind": "Undo",
            "undoes": [kept.run for kept in undone],
            "undoneSince": newest.run.startedAt,
            "database": cause.database,
            "phase": "Preflight",
            "preflight": [],
            "outcome": None,
            "revision": revision.name,
            "generation": ctx.view.generation,
            "startedAt": clocks.format_time(ctx.now),
            "finishedAt": None,
            "duration": None,
        }
    )
    status.runs = number
    ctx.body_if_read = newest.body
    ctx.record_event("Started", f"{undone[0].version}: run {number} undoes it")

    if cause.database and newest.body.spec.rollback.database.approval is not None:
        row = GateStatus(name=DATABASE_CHECK, state="Unknown", since=status.run.startedAt)
        status.run.preflight, status.run.reason = [row], cause.reason[:1000]
        return
    _return(ctx, cause)


def await_approval(ctx: Context) -> None:
    """Begin to return what was promoted once people have approved; end where they have said no."""
    checks = preflight_set(ctx.body, ctx.run)
    evaluate_checks(ctx, checks)
    failed = checks.first_failed_once()
    if failed is not None:
        why = f"approval of the database: {failed.message}; nothing was touched"
        finish_run(ctx, "Aborted", why)
    elif judge.all_passing(checks.rows):
        # Only a person asks for the database.
        _return(ctx, _Cause("Person", ctx.run.reason or "Rollback", database=True))


def _return(ctx: Context, cause: _Cause) -> None:
    """Return what was promoted; what it returns to is last good again.

    A failed Undo says by itself that nobody knows.
    """
    status, run = ctx.status, ctx.run
    undone = [kept for kept in status.kept if kept.run in run.undoes]
    status.lastGood = undone[-1].before.model_copy()
    status.kept = [kept for kept in status.kept if kept.run not in run.undoes]

    run.reason = None
    # What was promoted has been watched to its end.
    run.phase = "Guarding"
    at_rest.stand_by(ctx)
    begin_rollback(ctx, cause.kind, cause.reason, gate=cause.guard)
    _reject_older(ctx, undone)


def _reject_older(ctx: Context, undone: Sequence[Kept]) -> None:
    """Let no version that is undone with the latest one start again by itself.

    The latest is rejected at the end, as after any rollback.
    """
    # What is returned to may be called as one of them, and is what is wanted then.
    returned_to = undone[-1].before.version
    for kept in reversed(undone[1:]):
        if kept.version not in (undone[0].version, returned_to):
            reject_version(ctx, kept.version)


def _read_promoted(ctx: Context, kept: Kept) -> _Promoted:
    """Return what is known of a promoted run. Raises Refused."""
    record, pinned = (ctx.seen.records.get(name) for name in (kept.record, kept.revision))
    for content in (record, pinned):
        if not isinstance(content, Mapping):
            raise Refused(
                f"run {kept.run} cannot be undone: {content or 'its record was not read'}"
            )

    assert isinstance(record, Mapping) and isinstance(pinned, Mapping)
    try:
        run = Run.model_validate(record[RECORD_FIELD])
        return _Promoted(unpin_spec(pinned["body"]), run, pinned["snapshots"], pinned)
    except (ValidationError, KeyError, TypeError) as error:
        raise Refused(
            f"run {kept.run} cannot be undone: its record cannot be read ({type(error).__name__})"
        ) from None


def _take_together(view: View, promoted: Sequence[_Promoted]) -> _Promoted:
    """Return runs, the latest first, as one that did what all of them did. Raises Refused."""
    newest = promoted[0]
    snapshots, earlier, journal = dict(newest.snapshots), list(newest.body.earlier), []
    known = {entry.subject for entry in newest.run.journal}

    for older in promoted[1:]:
        try:
            earlier = [*done_by_body(view, older.body, older.run), *earlier]
        except UnknownReference as error:
            raise Refused(f"run {older.run.id} cannot be undone: {error}") from None

        for entry in older.run.journal:
            # What a Job or an action did is left to compensations.
            if not traits_of(entry.subject).restored:
                continue
            # What was there before the oldest change is what is returned to.
            for subject in with_captured(older.body, entry.subject):
                if subject in older.snapshots:
                    older_snapshot = older.snapshots[subject]
                    snapshots[subject] = _oldest_record(older_snapshot, snapshots.get(subject))
            if entry.subject not in known:
                known.add(entry.subject)
                journal.append(entry)

    body = replace(newest.body, earlier=tuple(earlier), memo={})
    run = newest.run.model_copy(update={"journal": [*journal, *newest.run.journal]})
    return _Promoted(body, run, snapshots, newest.pinned)


def _oldest_record(older: Any, newer: Any) -> Any:
    """Return what is returned to: the older snapshot; of a flag that only the newer one has, that.

    Flags are recorded one by one, and each run may have set others.
    """
    if not isinstance(older, Mapping) or not isinstance(newer, Mapping):
        return older

    first, last = older.get("flags"), newer.get("flags")
    if not isinstance(first, Mapping) or not isinstance(last, Mapping):
        return older
    return {**older, "flags": {**last, **first}}
