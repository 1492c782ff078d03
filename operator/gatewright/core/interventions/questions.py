"""What waits for people, and how they answer it: approvals and manual steps, before the first stage
and in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.api.release import Approval, StepKindName
from gatewright.api.status import GateStatus, StepStatus
from gatewright.core.model import Intervention
from gatewright.core.run import clocks
from gatewright.core.run.context import Context, Refused
from gatewright.core.run.running_step import end_step, fail_step
from gatewright.core.run.stage_end import current_stage_index, fail_current
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
    """Everything that people could answer now."""
    return [*_questions_of_checks(ctx), *_questions_of_steps(ctx)]


def describe_question(ctx: Context, asked: Question) -> str:
    """What is asked of whom, and how it is answered."""
    after = f", after an edit ({edits.summarize_edits(ctx.run.edits)})" if ctx.run.edits else ""
    if asked.kind == "confirm":
        how = f"kubectl release confirm {ctx.view.name}"
        return (
            f"step {asked.line.name} waits for a person ({how}){after}: "
            f"{asked.config['instructions']}"
        )

    wanted, have = Approval.model_validate(asked.config), asked.line.approvedBy
    who = f" by {' or '.join(wanted.groups)}" if wanted.groups else ""
    count = (
        f" ({len(have)} of {wanted.count}{': ' + ', '.join(have) if have else ''})"
        if wanted.count > 1
        else ""
    )
    what = f"step {asked.line.name}" if asked.stage is not None else f"preflight {asked.line.name}"

    if asked.again:
        what += (
            f" of stage {asked.stage}" if asked.stage is not None else ""
        ) + " is asked again and"

    return (
        f"{what} waits for a person: approval{who}{count} (kubectl release approve "
        f"{ctx.view.name}){after}"
    )


def describe_place(ctx: Context) -> str:
    """Where the run stands, for those who meant another place."""
    run = ctx.run
    index = current_stage_index(run)
    if run.phase in ("Walking", "Paused") and index is not None:
        stage = run.stages[index]
        step = next(
            (
                f", step {step.name} is {step.state}"
                for step in stage.steps
                if step.state == "Running"
            ),
            "",
        )
        return f"run {run.id} is {run.phase}, stage {stage.name} is {stage.state}{step}"

    return f"run {run.id} is {run.phase}"


def _questions_of_checks(ctx: Context) -> Iterator[Question]:
    run = ctx.run
    if run.phase not in ("Preflight", "Walking") or run.observe:
        return

    checks = {check.name: check for check in ctx.body.spec.preflight}

    for row in run.preflight:
        kind, config = checks[row.name].provider if row.name in checks else ("", None)
        if kind == "approval" and row.state not in ("Passing", "Failed"):
            yield Question(
                "approval",
                row,
                None,
                expand_references(config, names_at(ctx.body, run, None)),
                again=run.phase == "Walking",
            )


def _questions_of_steps(ctx: Context) -> Iterator[Question]:
    run, under_way = ctx.run, current_stage_index(ctx.run)
    if run.phase != "Walking":
        return

    for index, (stage, wanted) in enumerate(zip(run.stages, ctx.body.spec.stages, strict=True)):
        for line, step in zip(stage.steps, wanted.steps, strict=True):
            if line.state == "Running" and kind_of(step).answered_by:
                asked = question_of(step).model_dump()
                config = expand_references(asked, names_at(ctx.body, run, index))
                assert step.kind_name is not None
                yield Question(
                    step.kind_name, line, stage.name, config, index, again=index != under_way
                )


def _find_question(ctx: Context, act: Intervention, kinds: tuple[str, ...]) -> Question:
    """The one thing that an act answers."""
    everything = open_questions(ctx)
    if not everything:
        raise Refused(f"nothing waits for a person: {describe_place(ctx)}")

    named = [asked for asked in everything if _names_question(act, asked)]
    if not named:
        raise Refused(
            f"what it names does not wait for a person; {_list_questions(everything)} does"
        )

    fitting = [asked for asked in named if asked.kind in kinds]
    if not fitting:
        instead = STEPS[named[0].kind].answered_by
        raise Refused(f"{named[0]} is answered by {instead} or Reject, not by {act.action}")

    if len(fitting) > 1:
        raise Refused(f"it could mean {_list_questions(fitting)}; name one")

    return fitting[0]


def _names_question(act: Intervention, asked: Question) -> bool:
    if asked.stage is None:
        return act.stage is None and act.step is None and act.gate in (None, asked.line.name)
    return (
        act.gate is None
        and act.stage in (None, asked.stage)
        and act.step in (None, asked.line.name)
    )


def _list_questions(asked: list[Question]) -> str:
    return ", ".join(map(str, asked))


def require_member(act: Intervention, groups: Sequence[str], what: str) -> None:
    """That whoever acts shows one of the groups, if there are any. Raises Refused."""
    if groups and not act.groups & set(groups):
        shown = ", ".join(sorted(act.groups)) or "none"
        raise Refused(
            f"{what} asks for a member of {' or '.join(groups)}; spec.groups shows {shown}"
        )


def _add_approval(ctx: Context, act: Intervention) -> str:
    asked = _find_question(ctx, act, ("approval",))
    wanted, line = Approval.model_validate(asked.config), asked.line
    require_member(act, wanted.groups, str(asked))

    if act.by in line.approvedBy:
        raise Refused(
            f"{act.by} has approved {asked} already; {wanted.count} different people are needed"
        )

    line.approvedBy = [*line.approvedBy, act.by]
    who = f"approved by {', '.join(line.approvedBy)}"

    if len(line.approvedBy) < wanted.count:
        line.message = f"{len(line.approvedBy)} of {wanted.count}: {who}"[:1000]
        return f"{asked}: {line.message}"

    _close_question(ctx, asked, who)
    return f"{asked} is {who}"


def _confirm_step(ctx: Context, act: Intervention) -> str:
    asked = _find_question(ctx, act, ("confirm",))
    _close_question(ctx, asked, f"confirmed by {act.attribution}")
    return f"{asked} is confirmed"


def _close_question(ctx: Context, asked: Question, message: str) -> None:
    if isinstance(asked.line, StepStatus):
        end_step(ctx, asked.line, {}, message[:1000])
    else:
        _settle_check(ctx, asked.line, "Passing", message)


def _settle_check(ctx: Context, row: GateStatus, state: Any, message: str) -> None:
    row.state, row.since, row.message = state, clocks.format_time(ctx.now), message[:1000]


def _reject_question(ctx: Context, act: Intervention) -> str:
    asked = _find_question(ctx, act, ("approval", "confirm"))
    message = f"rejected by {act.attribution}"

    if asked.again:  # the question stays open for a Retry; what it would have let go on has failed
        asked.line.message, asked.line.approvedBy = message[:1000], []
        fail_current(ctx, "Step", f"{asked}: {message}")
    elif isinstance(asked.line, StepStatus):
        fail_step(ctx, asked.index, asked.line, message)
    else:
        _settle_check(ctx, asked.line, "Failed", message)

    return f"{asked} is rejected"


ANSWERS: Mapping[str, Callable[[Context, Intervention], str]] = {
    "Approve": _add_approval,
    "Reject": _reject_question,
    "Confirm": _confirm_step,
}
