"""What is live becomes last good."""

from __future__ import annotations

from typing import Any

from gatewright.api.status import Run, Served
from gatewright.core.model import Revision
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import (
    Context,
    finish_run,
    set_live,
)
from gatewright.core.spec.pinned_spec import has_subjects

IDLE_REMARK = "nobody ran it when it was promoted"


def set_live_when_observed(ctx: Context) -> None:
    """Say that the version is live, once it is: something may have been different when all stages
    were done."""
    run, live = ctx.run, ctx.status.live
    if (
        not run.observe
        and observed.all_as_wanted(ctx)
        and (live is None or live.version != run.version)
    ):
        set_live(ctx, Served(version=run.version))


def promote_run(ctx: Context, caveat: str = "") -> None:
    """What is live becomes last good, if it is what the run wants; a target that is gone keeps the
    run from ending."""
    sights = ctx.seen.live_states
    if not sights and has_subjects(ctx.body.spec):
        return
    if any(sight.problem for sight in sights.values()) or not observed.all_as_wanted(ctx):
        return

    run = ctx.run
    data = {
        "subjects": promoted_subjects(ctx),
        "snapshots": {name: sight.snapshot for name, sight in sights.items()},
    }
    revision = Revision.named(ctx.view, f"{run.id}-good", data)
    ctx.decision.revision = revision
    remarks = [
        item.remark.replace("nobody runs it", IDLE_REMARK, 1)
        for item in ctx.seen.standings.values()
        if item.remark
    ]
    words = "; ".join([*([caveat] if caveat else []), *remarks]) or None
    ctx.status.lastGood = Served(
        version=run.version,
        snapshot=revision.name,
        since=clocks.format_time(ctx.now),
        caveat=words[:1000] if words else None,
    )
    since = (ctx.status.live or Served()).since

    # Whether anybody runs it is looked at as long as it is live: only the record of the promotion
    # keeps that.
    ctx.status.live = ctx.status.lastGood.model_copy(
        update={"since": since, "caveat": caveat[:1000] or None}
    )
    ctx.status.unverified = None
    ctx.status.rejected = [item for item in ctx.status.rejected if item.version != run.version]
    finish_run(ctx, "Promoted", "; ".join([_describe_stages(run), *([words] if words else [])]))


def promoted_subjects(ctx: Context) -> dict[str, Any]:
    """What finds each target and what the run did to it: to see at rest whether it still is what
    was promoted."""
    return {
        holding.subject: {
            "config": holding.config,
            "changes": [{"kind": item.kind, "config": item.config} for item in holding.operations],
        }
        for holding in ctx.holdings()
        if holding.subject.startswith("target/")
    }


def _describe_stages(run: Run) -> str:
    skipped = [stage.name for stage in run.stages if stage.state == "Skipped"]
    failed = [stage.name for stage in run.stages if stage.state == "Failed"]
    steps = [
        f"{step.name} of {stage.name}"
        for stage in run.stages
        if stage.state == "Passed"
        for step in stage.steps
        if step.state == "Skipped"
    ]
    passed = len(run.stages) - len(skipped) - len(failed)
    whole = not skipped and not failed and not steps
    words = [
        f"all {passed} stages passed" if whole else f"{passed} of {len(run.stages)} stages passed"
    ]
    words += [f"failed and passed over: {', '.join(failed)}"] if failed else []
    words += [f"skipped: {', '.join(skipped)}"] if skipped else []
    words += [f"skipped steps: {', '.join(steps)}"] if steps else []

    return "; ".join(words)
