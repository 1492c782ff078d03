"""A Retry pins an edited spec: what it may change of a run that is under way, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gatewright.api.release import Stage
from gatewright.api.status import Run
from gatewright.core.interventions.approvals import altered_approval, ask_again
from gatewright.core.model.pinned_spec import PinnedSpec, hash_spec
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.operations import done_by_body, operations_of_step, subjects_of
from gatewright.core.run.pinning import fresh_stages, make_revision, may_undo_stages
from gatewright.core.run.procedure_obstacles import procedure_in_way
from gatewright.core.run.rollback_plan import describe_plan, restore_hints
from gatewright.core.spec.edits import describe_edits, merge_edits
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.spec.stage_conditions import is_unmet
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by
from gatewright.core.subject import name_of_subject, traits_of


def lost_subjects(ctx: Context, body: PinnedSpec) -> list[str]:
    """Return what the run has changed and an edited body does not know any more.

    Nobody could return it.
    """
    changed = {entry.subject for entry in ctx.run.journal if traits_of(entry.subject).changed_alone}
    return sorted(changed - set(subjects_of(body)))


def pin_again(ctx: Context, index: int) -> str:
    """Let an edit count from a Retry on; return why it does not, where it does not."""
    run, spec = ctx.run, ctx.view.spec
    # Nothing was edited, or another version is wanted: that is no edit of this run.
    if spec is None or not ctx.view.is_edited_since(run) or spec.version != run.version:
        return ""
    if ctx.view.problems:
        return f"the edited spec is invalid: {ctx.view.problems[0]}"
    # Nobody knows whether the author was asked for the rights that the edit uses.
    if ctx.seen.doubt:
        return ctx.seen.doubt

    # An edit of what counts at once (`notify`, `suspend`) leaves the pinned body as it is.
    body = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if body.hash() == run.bodyHash:
        return ""

    reason = _reason_to_ignore(ctx, body, index)
    if reason:
        return reason

    _pin_edited(ctx, body, index)
    return ""


def _reason_to_ignore(ctx: Context, body: PinnedSpec, index: int) -> str:
    """Return why an edited body cannot count within the run; empty where it can.

    What the run has done already has to be what the body says, or nobody could undo it.
    """
    old, new = ctx.body.spec.stages[: index + 1], body.spec.stages[: index + 1]
    # The journal and the compensations know them by these names.
    if [_stage_names(stage) for stage in old] != [_stage_names(stage) for stage in new]:
        return "its stages up to the failed one, or their steps, have other names"

    lost = lost_subjects(ctx, body)
    if lost:
        return f"it does not know {', '.join(lost)} any more, which this run has changed"

    if may_undo_stages(body) and not may_undo_stages(ctx.body) and ctx.run.journal:
        return (
            "it adds action: RollbackStage, and what each stage found was not recorded from the "
            "beginning"
        )

    added = set(subjects_of(body)) - set(subjects_of(ctx.body))
    procedure = procedure_in_way(ctx, added)
    if procedure is not None:
        return f"procedure {procedure.name} is at work on what it adds"

    recaptured = _targets_captured_otherwise(ctx, body)
    # Of what is captured anew there is no snapshot from before the first change.
    if recaptured:
        target = f"target {recaptured[0]}"
        return f"it captures other configuration with {target}, which this run has changed"

    try:
        done = [
            (stage.name, steps_done_otherwise(ctx, ctx.body, body, place))
            for place, stage in enumerate(body.spec.stages[:index])
        ]
        approval = altered_approval(ctx.run, ctx.body, body, index)
    except UnknownReference as error:
        return str(error)

    for stage, steps in done:
        if steps:
            step = f"step {steps[0]} of stage {stage}"
            return f"it changes what {step} has set already, and that stage is over"
    beginning = _stage_with_something_to_do(ctx, body, index)
    if beginning:
        return f"stage {beginning} was skipped, and by the edit it would have had something to do"
    if approval:
        return f"it changes {approval}, which people have been asked for already"
    return ""


def _stage_with_something_to_do(ctx: Context, body: PinnedSpec, index: int) -> str:
    """Return a stage that was skipped by its `when`, and by an edited body would not have been.

    What comes after it may rely on what it would have done.
    """
    for row, stage in zip(ctx.run.stages[:index], body.spec.stages, strict=False):
        names = {**body.names, "stage": stage.name}
        if row.unmet is not None and not is_unmet(body.spec, stage, names):
            return row.name
    return ""


def _targets_captured_otherwise(ctx: Context, body: PinnedSpec) -> list[str]:
    """Return changed targets with which an edited body captures other configuration."""
    return [
        name
        for name in _targets_with_config(ctx.run)
        if captured_configs(body, name).keys() != captured_configs(ctx.body, name).keys()
    ]


def _pin_edited(ctx: Context, body: PinnedSpec, index: int) -> None:
    """Let the run go on by an edited body; a rollback undoes what it did by the old one, too."""
    run, spec, before = ctx.run, body.spec, ctx.body
    body = replace(body, earlier=done_by_body(ctx.view, before, run))

    revision = make_revision(ctx, run.id, body, ctx.snapshots(), ctx.pinned_connections())
    ctx.decision.revision = revision
    run.revision, run.bodyHash, run.generation = revision.name, body.hash(), ctx.view.generation
    run.specHash, run.runbook = hash_spec(spec), ctx.view.runbook

    run.stages = run.stages[: index + 1] + fresh_stages(body)[index + 1 :]
    known = {row.name: row.faultSince for row in run.guards}
    run.guards = fresh_statuses(spec.guards)
    for row in run.guards:
        row.faultSince = known.get(row.name)
    run.plan = describe_plan(body, restore_hints(run.plan))
    run.edits = merge_edits(run.edits, describe_edits(before.spec, spec))

    ctx.body_if_read = body
    ask_again(ctx, before, index)


def steps_done_otherwise(
    ctx: Context, before: PinnedSpec, after: PinnedSpec, index: int
) -> list[str]:
    """Return the names of begun steps of a stage that have set something else than is wanted now.

    `after` is the edited body that says so. Raises UnknownReference.
    """
    names = []
    for number, step in enumerate(ctx.run.stages[index].steps):
        stages = (before.spec.stages[index], after.spec.stages[index])
        if step.attempt == 0 or not any(changed_by(stage, stage.steps[number]) for stage in stages):
            continue

        was, now = (_effects_of_step(ctx, body, index, number) for body in (before, after))
        if was != now:
            names.append(step.name)

    return names


def _targets_with_config(run: Run) -> list[str]:
    """Return the names of what was changed and may have configuration captured with it."""
    return [
        name_of_subject(entry.subject)
        for entry in run.journal
        if traits_of(entry.subject).captures_config
    ]


def _effects_of_step(
    ctx: Context, body: PinnedSpec, index: int, number: int
) -> list[tuple[str, str, Any]]:
    operations = operations_of_step(ctx.view, body, ctx.run, index, number)
    return [(operation.kind, operation.subject, operation.config) for operation in operations]


def _stage_names(stage: Stage) -> tuple[str, list[str]]:
    return stage.name, [step.name for step in stage.steps]
