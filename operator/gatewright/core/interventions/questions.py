"""What waits for people, and how they answer it.

Approvals and manual steps, before the first stage and in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.api.people import Approval
from gatewright.api.status import GateStatus, StepStatus
from gatewright.api.steps import StepKindName
from gatewright.core.checks import judge
from gatewright.core.checks.active import preflight_set
from gatewright.core.interventions.expiry import drop_expired
from gatewright.core.interventions.stakes import describe_stakes
from gatewright.core.model.intervention import Intervention
from gatewright.core.run import clocks
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.stage_end import fail_current
from gatewright.core.run.step_end import end_step, fail_step
from gatewright.core.spec import edits
from gatewright.core.spec.expand import expand_references
from gatewright.core.spec.pinned_spec import names_at
from gatewright.core.steps import STEPS, kind_of
from gatewright.core.steps.people import question_of


@dataclass(slots=True)
class Question:
    """A step or a check that waits for people."""

    kind: StepKindName
    line: StepStatus | GateStatus
    stage: str | None
    config: Any
    index: int = 0
    again: bool = False
    """Whether it was answered before, for another body, outside of the stage under way."""

    def __str__(self) -> str:
        where = (
            f"step {self.line.name} of stage {self.stage}"
            if self.stage is not None
            else f"check {self.line.name}"
        )
        return f"{self.kind} {where}" if self.kind == "approval" else where


def open_questions(ctx: Context) -> list[Question]:
    """Return everything that people could answer now."""
    return [*_questions_of_checks(ctx), *_questions_of_steps(ctx)]


def first_unmet_check(ctx: Context) -> GateStatus | None:
    """Return a preflight check that does not pass yet and is no approval.

    People are asked last: nobody decides about what may yet end by itself.
    """
    for check, row in preflight_set(ctx.body, ctx.run).pairs():
        if check.provider[0] != "approval" and row.state != "Passing":
            return row
    return None


def unasked_approvals(ctx: Context) -> list[str]:
    """Return the approvals of preflight that nobody is asked for yet, as other checks come
    first."""
    if ctx.run.phase != "Preflight" or first_unmet_check(ctx) is None:
        return []
    return [
        row.name
        for check, row in preflight_set(ctx.body, ctx.run).pairs()
        if check.provider[0] == "approval" and row.state not in ("Passing", "Failed")
    ]


def describe_question(ctx: Context, question: Question) -> str:
    """Return what is asked of whom, and how it is answered."""
    edited = f", after an edit ({edits.summarize_edits(ctx.run.edits)})" if ctx.run.edits else ""
    name = question.line.name
    # Of a procedure the run has one stage, which has its name.
    of = f" --procedure {question.stage}" if ctx.run.kind == "Procedure" else ""
    if question.kind == "confirm":
        command = f"kubectl release confirm {ctx.view.name}{of}"
        instructions = question.config["instructions"]
        return f"step {name} waits for a person ({command}){edited}: {instructions}"

    what = f"step {name}" if question.stage is not None else f"preflight {name}"
    if question.again:
        stage = f" of stage {question.stage}" if question.stage is not None else ""
        what = f"{what}{stage} is asked again and"

    command = f"kubectl release approve {ctx.view.name}{of}"
    asked = f"{what} waits for a person: {_describe_approval(ctx, question)} ({command}){edited}"
    # Of a check that has been approved before, and is asked again.
    if isinstance(question.line, GateStatus) and question.line.window and question.line.message:
        asked = f"{asked}; {question.line.message}"
    return asked


def describe_stakes_of(ctx: Context, question: Question) -> str:
    """Return what whoever approves should know, to be added to a question; empty for others."""
    # Nothing returns what a procedure has done, and an Undo is the way back itself.
    if question.kind != "approval" or ctx.run.kind != "Release":
        return ""
    index = question.index if question.stage is not None else None
    return f"; {describe_stakes(ctx.body, ctx.run, index)}"


def _describe_approval(ctx: Context, question: Question) -> str:
    """Return who has to approve, and where several have to, how many have."""
    approval, approvers = Approval.model_validate(question.config), question.line.approvedBy
    who = f" by {' or '.join(approval.groups)}" if approval.groups else ""
    if approval.notBy is not None:
        requester = ctx.body.spec.requestedBy
        asked = f"{requester}, who has asked for it" if requester else "whoever has asked for it"
        who += f" (not by {asked})"
    if approval.expires is not None:
        who += f", good for {approval.expires}"
    if approval.count == 1:
        return f"approval{who}"

    names = f": {', '.join(approvers)}" if approvers else ""
    return f"approval{who} ({len(approvers)} of {approval.count}{names})"


def describe_place(ctx: Context) -> str:
    """Return where the run stands, for those who meant another place."""
    run = ctx.run
    index = current_stage_index(run)
    place = f"run {run.id} is {run.phase}"
    if run.phase not in ("Progressing", "Paused") or index is None:
        return place

    stage = run.stages[index]
    place += f", stage {stage.name} is {stage.state}"
    for step in stage.steps:
        if step.state == "Running":
            return f"{place}, step {step.name} is {step.state}"
    return place


def _questions_of_checks(ctx: Context) -> Iterator[Question]:
    run = ctx.run
    # Nobody is asked by a run that changes nothing.
    if run.phase not in ("Preflight", "Progressing") or run.observe:
        return
    if run.phase == "Preflight" and first_unmet_check(ctx) is not None:
        return

    for check, row in preflight_set(ctx.body, run).pairs():
        kind, raw = check.provider
        if kind == "approval" and row.state not in ("Passing", "Failed"):
            config = expand_references(raw, names_at(ctx.body, run, None))
            # The walk has begun: it was answered before, for another body.
            yield Question("approval", row, None, config, again=run.phase == "Progressing")


def _questions_of_steps(ctx: Context) -> Iterator[Question]:
    run, under_way = ctx.run, current_stage_index(ctx.run)
    if run.phase != "Progressing":
        return

    for index, stage in enumerate(run.stages):
        spec_stage = ctx.body.spec.stages[index]
        for line, spec_step in zip(stage.steps, spec_stage.steps, strict=True):
            if line.state != "Running" or not kind_of(spec_step).answered_by:
                continue

            raw = question_of(spec_step).model_dump()
            config = expand_references(raw, names_at(ctx.body, run, index))
            kind = spec_step.kind_name
            assert kind is not None
            yield Question(kind, line, stage.name, config, index, again=index != under_way)


def _find_question(ctx: Context, act: Intervention, kinds: tuple[str, ...]) -> Question:
    """Return the one question that an Intervention answers. Raises Refused."""
    questions = open_questions(ctx)
    unasked = unasked_approvals(ctx)
    if not questions and unasked:
        unmet = first_unmet_check(ctx)
        why = judge.describe(unmet) if unmet is not None else ""
        raise Refused(
            f"preflight {', '.join(unasked)} is asked when all other checks pass, and one does "
            f"not ({why}); answer when it is asked"
        )
    if not questions:
        raise Refused(f"nothing waits for a person: {describe_place(ctx)}")

    named = [question for question in questions if _names_question(act, question)]
    if not named:
        others = _list_questions(questions)
        raise Refused(f"what it names does not wait for a person; {others} does")

    fitting = [question for question in named if question.kind in kinds]
    if not fitting:
        instead = STEPS[named[0].kind].answered_by
        raise Refused(f"{named[0]} is answered by {instead} or Reject, not by {act.action}")
    # Nobody's answer is taken for something that they may not have meant.
    if len(fitting) > 1:
        raise Refused(f"it could mean {_list_questions(fitting)}; name one")

    return fitting[0]


def _names_question(act: Intervention, question: Question) -> bool:
    """Return whether an Intervention may mean a question: what it leaves out may be any."""
    name = question.line.name
    if question.stage is None:
        return act.stage is None and act.step is None and act.gate in (None, name)
    if act.gate is not None:
        return False
    return act.stage in (None, question.stage) and act.step in (None, name)


def _list_questions(questions: list[Question]) -> str:
    return ", ".join(map(str, questions))


def require_member(act: Intervention, groups: Sequence[str], what: str) -> None:
    """Require that whoever acts shows one of the groups, if there are any. Raises Refused."""
    if groups and not act.groups & set(groups):
        shown = ", ".join(sorted(act.groups)) or "none"
        asked = f"{what} asks for a member of {' or '.join(groups)}"
        raise Refused(f"{asked}; spec.groups shows {shown}")


def require_other_than_requester(
    ctx: Context, act: Intervention, approval: Approval, what: str
) -> None:
    """Require that whoever acts has not asked for the version, where `notBy` says so.

    Raises Refused.
    """
    requester, is_procedure = ctx.body.spec.requestedBy, ctx.run.kind == "Procedure"
    # Where nobody knows who has asked, it may be anybody; a procedure that a guard runs, nobody has
    # asked for.
    is_unknown = requester is None and not is_procedure
    if approval.notBy is not None and (is_unknown or requester == act.by):
        asked = "it" if is_procedure else f"{ctx.run.version} (spec.requestedBy)"
        raise Refused(
            f"{act.by} has asked for {asked}, and {what} asks for somebody else (notBy: Requester)"
        )


def _add_approval(ctx: Context, act: Intervention) -> str:
    question = _find_question(ctx, act, ("approval",))
    approval, line = Approval.model_validate(question.config), question.line
    require_member(act, approval.groups, str(question))
    require_other_than_requester(ctx, act, approval, str(question))
    drop_expired(ctx, line, approval)
    if act.by in line.approvedBy:
        needed = f"{approval.count} different people are needed"
        raise Refused(f"{act.by} has approved {question} already; {needed}")

    line.approvedBy = [*line.approvedBy, act.by]
    line.approvedAt = [*line.approvedAt, clocks.format_time(ctx.now)]
    who = f"approved by {', '.join(line.approvedBy)}"
    if len(line.approvedBy) < approval.count:
        line.message = f"{len(line.approvedBy)} of {approval.count}: {who}"[:1000]
        return f"{question}: {line.message}"

    _close_question(ctx, question, who)
    return f"{question} is {who}"


def _confirm_step(ctx: Context, act: Intervention) -> str:
    question = _find_question(ctx, act, ("confirm",))
    _close_question(ctx, question, f"confirmed by {act.attribution}")
    return f"{question} is confirmed"


def _close_question(ctx: Context, question: Question, message: str) -> None:
    if isinstance(question.line, StepStatus):
        end_step(ctx, question.line, {}, message[:1000])
    else:
        _settle_check(ctx, question.line, "Passing", message)


def _settle_check(ctx: Context, row: GateStatus, state: Any, message: str) -> None:
    row.state, row.since, row.message = state, clocks.format_time(ctx.now), message[:1000]


def _reject_question(ctx: Context, act: Intervention) -> str:
    question = _find_question(ctx, act, ("approval", "confirm"))
    message = f"rejected by {act.attribution}"

    # The question stays open for a Retry; what it would have let go on has failed.
    if question.again:
        question.line.message = message[:1000]
        question.line.approvedBy, question.line.approvedAt = [], []
        fail_current(ctx, "Step", f"{question}: {message}")
    elif isinstance(question.line, StepStatus):
        fail_step(ctx, question.index, question.line, message)
    else:
        _settle_check(ctx, question.line, "Failed", message)

    return f"{question} is rejected"


ANSWERS: Mapping[str, Callable[[Context, Intervention], str]] = {
    "Approve": _add_approval,
    "Reject": _reject_question,
    "Confirm": _confirm_step,
}
