"""Procedures: what people do at any time, also when no run is under way.

A procedure is walked as the one stage of a run of its own, so that each of its steps has its key in
the status before it acts, and is followed as steps of a run are. The run stands nowhere: it is made
of the row in `status.procedures` for each pass.

    Run                 `start_procedure`    one write: the row, and the intent of its first step
    a guard has failed  `guard_procedures`      a row that is Asked; the next pass begins it
    the next passes     `advance_procedure`  step after step
    Approve ... Abort   `answer`             as in a stage

    Running --- its steps are done ---------------------------> Succeeded
    Running --- a step has failed ----> (Stopping its Job) ---> Failed
    Running --- Abort, or deletion ---> (Stopping its Job) ---> Aborted

Nothing is undone by itself: what takes a procedure back is run by a person (`undo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from gatewright.api.release import Procedure
from gatewright.api.status import (
    OPEN_PROCEDURES,
    ProcedureState,
    ProcedureStatus,
    ReleaseStatus,
    StepStatus,
)
from gatewright.core.interventions import questions
from gatewright.core.model.decision import Decision, Revision
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import clocks
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.operations import operations_of_step, stops_of_step
from gatewright.core.run.position import unfinished_step_index
from gatewright.core.run.procedure_obstacles import find_obstacle
from gatewright.core.run.procedure_run import (
    journal_of,
    procedure_under_way,
    run_of,
    view_of,
)
from gatewright.core.run.running_step import advance_step
from gatewright.core.run.stage_end import fail_stage, settle_stopping, stops_of
from gatewright.core.spec import procedures as written
from gatewright.core.spec.expand import UnknownReference, list_names

MOST_PROCEDURES = 5
"""Rows that a status keeps; only the latest keeps its steps."""
MOST_MESSAGE_CHARS = 300


def revisions_in_use(status: ReleaseStatus) -> set[str]:
    """Return the ControllerRevision that says what the procedure under way does."""
    row = procedure_under_way(status)
    return {row.revision} if row is not None and row.revision is not None else set()


def operations_to_follow(view: View, kept: Mapping[str, PinnedSpec | None]) -> list[Operation]:
    """Return what the procedure under way is at, and what stops its Jobs."""
    row = procedure_under_way(view.status)
    body = kept.get(row.revision or "") if row is not None else None
    if row is None or body is None:
        return []

    run = run_of(row, body)
    operations = stops_of(run)
    for number, step in enumerate(row.steps):
        if step.state == "Running":
            find = stops_of_step if step.skippedBy is not None else operations_of_step
            try:
                operations += find(view_of(view, run), body, run, 0, number)
            except UnknownReference:
                continue
    return operations


def wanted_body(view: View) -> PinnedSpec | None:
    """Return what the next Intervention would run; None where it runs nothing."""
    asked = _asked_row(view.status)
    if asked is not None and view.spec is not None:
        procedure = written.find_procedure(view.spec, asked.name)
        if procedure is not None:
            return written.pin_procedure(view.spec, view.status, procedure, undo=False, by="")

    act = view.next_intervention
    if act is None or act.action != "Run" or act.procedure is None or view.spec is None:
        return None

    procedure = written.find_procedure(view.spec, act.procedure)
    if procedure is None or (act.undo and not procedure.undo):
        return None
    return written.pin_procedure(view.spec, view.status, procedure, act.undo, act.by)


def _asked_row(status: ReleaseStatus) -> ProcedureStatus | None:
    """Return the row of a procedure that a guard asks for, and that has not begun."""
    row = procedure_under_way(status)
    return row if row is not None and row.state == "Asked" else None


# Start


def start_procedure(ctx: Context, act: Intervention) -> str:
    """Begin a procedure; return what is done. Raises Refused."""
    procedure = _find_wanted(ctx, act)
    _require_startable(ctx, act)
    _require_repeated(ctx, act, procedure)

    body = wanted_body(ctx.view)
    assert body is not None
    unknown = written.unknown_names(body)
    if unknown:
        raise Refused(f"nobody knows $({unknown[0]}) now, which procedure {procedure.name} needs")
    if ctx.seen.procedure_rival is not None:
        raise Refused(
            f"{ctx.seen.procedure_rival} is at work on what procedure {procedure.name} changes; "
            "wait for its end, or Abort that"
        )

    row = add_row(ctx, procedure.name, act.by, act.reason)
    row.undo, row.intervention = act.undo, act.name
    _begin(ctx, row, body)
    back = " is taken back" if act.undo else " begins"
    return f"procedure {procedure.name}{back}, as number {ctx.status.procedureRuns}"


def _find_wanted(ctx: Context, act: Intervention) -> Procedure:
    """Return the procedure that is named. Raises Refused."""
    obstacle = find_obstacle(ctx)
    if obstacle:
        raise Refused(obstacle)
    spec = ctx.view.spec
    assert spec is not None

    procedure = written.find_procedure(spec, act.procedure or "")
    if procedure is None:
        known = list_names([one.name for one in spec.procedures])
        raise Refused(f"there is no procedure {act.procedure} (known: {known})")
    if act.undo and not procedure.undo:
        raise Refused(f"procedure {procedure.name} does not say what takes it back (undo)")
    return procedure


def _require_startable(ctx: Context, act: Intervention) -> None:
    """Refuse where it is not said why, or another one is under way."""
    if not act.reason.strip():
        raise Refused("say why (reason): it is what others read later")

    other = procedure_under_way(ctx.status)
    if other is not None:
        raise Refused(
            f"procedure {other.name} by {other.by} is under way since {other.startedAt}; wait for "
            f"its end, or Abort it (kubectl release abort {ctx.view.name} --procedure {other.name})"
        )


def _require_repeated(ctx: Context, act: Intervention, procedure: Procedure) -> None:
    """Refuse where the sentence of the procedure is not repeated as it reads now."""
    spec = ctx.view.spec
    assert spec is not None
    if act.undo:
        return
    try:
        sentence = written.sentence_to_repeat(spec, ctx.status, procedure)
    except UnknownReference as error:
        raise Refused(f"what procedure {procedure.name} asks to confirm: {error}") from None

    if sentence is not None and act.confirmed != sentence:
        raise Refused(f'procedure {procedure.name} asks you to repeat (confirmed): "{sentence}"')


def add_row(ctx: Context, name: str, by: str, reason: str) -> ProcedureStatus:
    """Add the row of a procedure that is asked for."""
    status, number = ctx.status, ctx.status.procedureRuns + 1
    for older in status.procedures:
        older.steps = []
    row = ProcedureStatus(
        id=number,
        name=name,
        state="Asked",
        by=by,
        reason=reason[:MOST_MESSAGE_CHARS],
        startedAt=clocks.format_time(ctx.now),
    )
    status.procedures = [row, *status.procedures][:MOST_PROCEDURES]
    status.procedureRuns = number
    ctx.write_now()
    return row


def _begin(ctx: Context, row: ProcedureStatus, body: PinnedSpec) -> None:
    """Pin what a procedure does; its first step begins in this very pass."""
    revision = Revision.named(ctx.view, f"procedure-{row.id}", {"body": body.pinned()})
    ctx.decision.procedure_revision, row.revision = revision, revision.name
    row.state, row.startedAt = "Running", clocks.format_time(ctx.now)
    row.steps = [StepStatus(name=step.name, state="Pending") for step in body.spec.stages[0].steps]
    ctx.begun_procedure = body

    what = f"{row.name} is taken back" if row.undo else row.name
    ctx.record_event("ProcedureStarted", f"procedure {what} by {row.by}: {row.reason}")
    ctx.write_now()


def _begin_asked(ctx: Context, row: ProcedureStatus) -> bool:
    """Begin what a guard asks for; return whether it has begun, else it has ended or waits."""
    # What stands against it is found out before the next pass, where it is asked for in this one, a
    # run begins in it, or people have changed what a run has to itself.
    is_new = _asked_row(ctx.view.status) is None
    if is_new or ctx.decision.begins or ctx.view.next_intervention is not None:
        return False

    body = wanted_body(ctx.view)
    unknown = written.unknown_names(body) if body is not None else []
    why = find_obstacle(ctx)
    if not why and body is None:
        why = f"there is no procedure {row.name} in the spec as it is now"
    elif not why and unknown:
        why = f"nobody knows $({unknown[0]}) now"
    elif not why and ctx.seen.procedure_rival is not None:
        why = f"{ctx.seen.procedure_rival} is at work on what it changes"
    if why or body is None:
        _end(ctx, row, "Failed", why)
        return False

    _begin(ctx, row, body)
    return True


# While it is under way


def advance_procedure(ctx: Context) -> datetime | None:
    """Take the procedure under way further; return when its clock runs out."""
    row = procedure_under_way(ctx.status)
    if row is None:
        return None

    if row.state == "Asked" and not _begin_asked(ctx, row):
        return None
    _keep_release(ctx)
    body = ctx.begun_procedure or ctx.seen.kept.get(row.revision or "")
    if body is None:
        # It was looked for, and is gone.
        if (row.revision or "") in ctx.seen.kept:
            _end(ctx, row, "Failed", "what it was to do cannot be read any more")
        return None

    side = _side_of(ctx, row, body)
    if ctx.view.deleting and row.state == "Running":
        _stop(side, row, "the Release is being deleted")
    if row.state == "Running":
        _walk(side)
    _settle(ctx, side, row)
    return clocks.next_due(side.run, ctx.now) if row.state in OPEN_PROCEDURES else None


def answer(ctx: Context, act: Intervention) -> str:
    """Do what people ask of the procedure under way; return what was done. Raises Refused."""
    row = procedure_under_way(ctx.status)
    if row is None or row.name != act.procedure:
        under_way = f"{row.name} is" if row is not None else "none is"
        raise Refused(f"procedure {act.procedure} is not under way; {under_way}")
    body = ctx.seen.kept.get(row.revision or "")
    if body is None or row.state != "Running":
        raise Refused(f"procedure {row.name} is {row.state}; ask again in a moment")

    if act.action == "Abort":
        stop_procedure(ctx, row, f"aborted by {act.attribution}")
        return f"procedure {row.name} is aborted"

    side = _side_of(ctx, row, body)
    message = questions.ANSWERS[act.action](side, act)
    _take_over(ctx, side, row)
    _note_failure(side, row)
    return message


def stop_procedure(ctx: Context, row: ProcedureStatus, reason: str) -> None:
    """End the procedure under way, its Job first; nothing where it ends already."""
    body = ctx.begun_procedure or ctx.seen.kept.get(row.revision or "")
    if row.state != "Running" or body is None:
        return
    side = _side_of(ctx, row, body)
    _stop(side, row, reason)
    _take_over(ctx, side, row)
    _note_failure(side, row)


def _walk(side: Context) -> None:
    stage = side.run.stages[0]
    while side.run.phase == "Progressing":
        number = unfinished_step_index(stage)
        if number is None or not advance_step(side, 0, number):
            return


def _stop(side: Context, row: ProcedureStatus, reason: str) -> None:
    """End what is under way; a Job is stopped."""
    row.aborted, row.failure = True, reason[:MOST_MESSAGE_CHARS]
    fail_stage(side, 0, "Step", reason, pause=True)


def _settle(ctx: Context, side: Context, row: ProcedureStatus) -> None:
    """Say how far the procedure is, and end it where nothing of it goes on."""
    _note_failure(side, row)
    still_stopping = row.state == "Stopping" and settle_stopping(side)
    _take_over(ctx, side, row)

    if row.state == "Running" and unfinished_step_index(side.run.stages[0]) is not None:
        _set_message(row, _describe_wait(side))
    elif row.state == "Running":
        _end(ctx, row, "Succeeded", "")
    elif still_stopping:
        _set_message(row, f"{row.failure}; its Job is being stopped")
    else:
        _end(ctx, row, "Aborted" if row.aborted else "Failed", row.failure or "a step has failed")


def _note_failure(side: Context, row: ProcedureStatus) -> None:
    """Say that a procedure has failed, so that no step of it begins again."""
    if row.state == "Running" and side.run.phase == "Paused":
        row.state = "Stopping"
        reason = side.run.stages[0].message or "a step has failed"
        row.failure = row.failure or reason[:MOST_MESSAGE_CHARS]


def _describe_wait(side: Context) -> str:
    """Return what the step under way waits for, or says."""
    for question in questions.open_questions(side):
        return questions.describe_question(side, question)
    running = next((step for step in side.run.stages[0].steps if step.state == "Running"), None)
    return (running.message or f"step {running.name} is under way") if running is not None else ""


def _set_message(row: ProcedureStatus, message: str) -> None:
    row.message = message[:MOST_MESSAGE_CHARS] or None


def _end(ctx: Context, row: ProcedureStatus, state: ProcedureState, message: str) -> None:
    row.state, row.finishedAt = state, clocks.format_time(ctx.now)
    row.revision, row.timers, row.stopping = None, {}, []
    _set_message(row, message)
    for step in row.steps:
        step.message = (step.message or "")[:MOST_MESSAGE_CHARS] or None

    ending = f": {message}" if message else ""
    what = f"{row.name} (taken back)" if row.undo else row.name
    ctx.record_event(
        f"Procedure{state}",
        f"procedure {what} by {row.by} has {state.lower()}{ending}",
        warning=state != "Succeeded",
    )
    ctx.decision.prune_revisions = True
    # The finalizer stood for it alone: the pass after this write takes it away, as at rest.
    ctx.write_now()


def _keep_release(ctx: Context) -> None:
    """Keep the Release until its procedure has ended, as a run does."""
    decision = ctx.decision
    decision.remove_finalizer = False
    if not ctx.view.finalized and not ctx.view.deleting:
        decision.add_finalizer = True
        decision.deferrable = False


def _side_of(ctx: Context, row: ProcedureStatus, body: PinnedSpec) -> Context:
    """Return the context in which a procedure is walked."""
    run = run_of(row, body)
    status = ReleaseStatus(runs=run.id)
    status.run = run
    view = view_of(ctx.view, run)
    run.journal = journal_of(view, body, run)
    return Context(view, replace(ctx.seen, body=body), Decision(status), body)


def _take_over(ctx: Context, side: Context, row: ProcedureStatus) -> None:
    """Let the decision of a pass do what its procedure asks for."""
    run = side.run
    row.steps, row.timers, row.stopping = run.stages[0].steps, run.timers, run.stopping
    known = {operation.id for operation in ctx.decision.operations}
    ctx.decision.operations += [one for one in side.decision.operations if one.id not in known]
    if not side.decision.deferrable:
        ctx.write_now()
