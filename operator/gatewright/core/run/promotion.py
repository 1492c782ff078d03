"""What is live becomes last good."""

from __future__ import annotations

from typing import Any

from gatewright.api.status import Run, Served
from gatewright.core.checks import at_rest
from gatewright.core.model.decision import Revision
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import Context
from gatewright.core.run.rollback_plan import stages_undone
from gatewright.core.run.run_end import finish_run, known_live, set_live
from gatewright.core.run.undo import RECORD_FIELD, keep_promoted, record_of_run
from gatewright.core.spec.pinned_spec import has_subjects
from gatewright.core.spec.targets import captured_configs
from gatewright.core.subject import name_of_subject, traits_of

IDLE_REMARK = "nobody ran it when it was promoted"


def set_live_when_observed(ctx: Context) -> None:
    """Say that the version is live, once it is.

    Something may have been different when all stages were done.
    """
    run, live = ctx.run, known_live(ctx.status)
    if run.observe or not observed.all_as_wanted(ctx):
        return
    if live is None or live.version != run.version:
        set_live(ctx, Served(version=run.version))


def describe_undeployed(ctx: Context) -> str:
    """Return which targets have kept their version, as only stages with nothing to do deploy them.

    Empty for none.
    """
    run, spec = ctx.run, ctx.body.spec
    if all(row.unmet is not None for row in run.stages):
        return "nothing was changed: no stage had anything to do"

    left: dict[str, str] = {}
    deployed: set[str] = set()
    for row, stage in zip(run.stages, spec.stages, strict=True):
        names = {name for step in stage.steps if step.deploy for name in step.deploy.targets}
        if row.unmet is None:
            deployed |= names
        else:
            left |= {name: stage.name for name in sorted(names) if name not in left}

    return "; ".join(
        f"target {name} was not deployed: stage {stage} had nothing to do"
        for name, stage in left.items()
        if name not in deployed
    )


def promote_run(ctx: Context, caveat: str = "") -> None:
    """Let what is live become last good, if it is what the run wants.

    A target that is gone keeps the run from ending.
    """
    run, live_states = ctx.run, ctx.seen.live_states
    # Each pass writes one revision: first what the run has pinned, then what was promoted.
    if ctx.decision.revision is not None:
        return
    # Nobody has looked at it yet.
    if not live_states and has_subjects(ctx.body.spec):
        return
    if any(live_state.problem for live_state in live_states.values()):
        return
    # What is promoted has to be what runs.
    if not observed.all_as_wanted(ctx):
        return

    snapshots = {subject: live_state.snapshot for subject, live_state in live_states.items()}
    data = {
        "subjects": promoted_subjects(ctx),
        "snapshots": snapshots,
        RECORD_FIELD: record_of_run(run),
    }
    revision = Revision.named(ctx.view, f"{run.id}-good", data)
    ctx.decision.revision = revision

    keep_promoted(ctx, ctx.status.lastGood, revision.name)
    caveats = "; ".join([*filter(None, [caveat]), *_remarks(ctx)])
    ctx.status.lastGood = Served(
        version=run.version,
        snapshot=revision.name,
        since=clocks.format_time(ctx.now),
        caveat=caveats[:1000] or None,
    )

    # Whether anybody runs it is looked at as long as it is live: only the record of the promotion
    # keeps that.
    since = (known_live(ctx.status) or Served()).since
    live_caveat = caveat[:1000] or None
    ctx.status.live = ctx.status.lastGood.model_copy(update={"since": since, "caveat": live_caveat})
    ctx.status.unverified = None
    at_rest.begin_promoted(ctx)
    ctx.status.rejected = [other for other in ctx.status.rejected if other.version != run.version]
    finish_run(ctx, "Promoted", "; ".join(filter(None, [_describe_stages(run), caveats])))


def _remarks(ctx: Context) -> list[str]:
    """Return what people should know of what is promoted although nothing is wrong."""
    return [
        standing.remark.replace("nobody runs it", IDLE_REMARK, 1)
        for standing in ctx.seen.standings.values()
        if standing.remark
    ]


def promoted_subjects(ctx: Context) -> dict[str, Any]:
    """Return what finds each target and what the run did to it, and what is captured with it.

    By that it is seen at rest whether it still is what was promoted.
    """
    subjects = {}
    for holding in ctx.holdings():
        if not traits_of(holding.subject).versioned:
            continue
        changes = [
            {"kind": operation.kind, "config": operation.config} for operation in holding.operations
        ]
        subjects[holding.subject] = {"config": holding.config, "changes": changes}
        captured = captured_configs(ctx.body, name_of_subject(holding.subject))
        subjects |= {name: {"config": config, "changes": []} for name, config in captured.items()}
    return subjects


def _describe_stages(run: Run) -> str:
    skipped = [stage.name for stage in run.stages if stage.state == "Skipped"]
    failed = [stage.name for stage in run.stages if stage.state == "Failed"]
    undone = stages_undone(run)
    steps: list[str] = []
    for stage in run.stages:
        if stage.state == "Passed":
            names = [step.name for step in stage.steps if step.state == "Skipped"]
            steps += [f"{name} of {stage.name}" for name in names]

    passed = len(run.stages) - len(skipped) - len(failed) - len(undone)
    if not skipped and not failed and not steps and not undone:
        return f"all {passed} stages passed"

    parts = [f"{passed} of {len(run.stages)} stages passed"]
    if failed:
        parts.append(f"failed and passed over: {', '.join(failed)}")
    if skipped:
        parts.append(f"skipped: {', '.join(skipped)}")
    if undone:
        parts.append(f"undone alone: {', '.join(undone)}")
    if steps:
        parts.append(f"skipped steps: {', '.join(steps)}")
    return "; ".join(parts)
