"""A run begins: its body is pinned, and what is there is recorded."""

from __future__ import annotations

from gatewright.api.status import Run
from gatewright.core.model import hash_spec
from gatewright.core.run import clocks
from gatewright.core.run.context import (
    Context,
    fresh_statuses,
)
from gatewright.core.run.pinning import (
    baseline_version,
    fresh_stages,
    revision_of,
    set_baseline,
)
from gatewright.core.run.rollback_plan import describe_plan
from gatewright.core.spec.pinned_spec import pin_spec


def start_run(ctx: Context) -> None:
    """Pin the body, take the snapshots, begin."""
    spec = ctx.view.spec
    assert spec is not None
    status = ctx.status
    number = status.runs + 1
    set_baseline(ctx)
    body = pin_spec(spec, number, status.lastGood.version if status.lastGood else None)
    revision = revision_of(ctx, body, number)
    ctx.decision.add_finalizer, ctx.decision.revision = True, revision

    # What was there before the first run: its snapshot is the run's own.
    for kept in (status.lastGood, status.live):
        if (
            kept is not None
            and kept.snapshot is None
            and kept.version == (status.lastGood or kept).version
        ):
            kept.snapshot = revision.name

    status.run = Run(
        id=number,
        version=spec.version,
        attempt=1 + sum(past.version == spec.version for past in status.history),
        phase="Preflight",
        observe=spec.mode == "Observe",
        generation=ctx.view.generation,
        revision=revision.name,
        bodyHash=body.hash(),
        specHash=hash_spec(spec),
        startedAt=clocks.format_time(ctx.now),
        preflight=fresh_statuses(spec.preflight),
        guards=fresh_statuses(spec.guards),
        stages=fresh_stages(body),
        plan=describe_plan(
            body,
            {
                name: sight.restore_hint
                for name, sight in ctx.seen.live_states.items()
                if sight.restore_hint
            },
        ),
        found=_found_version(ctx),
    )
    status.runs = number
    status.rejected = [item for item in status.rejected if item.version != spec.version]
    ctx.decision.prune_revisions = number > 1
    ctx.body_if_read = body
    ctx.record_event("Started", f"{spec.version}: run {number} with {len(spec.stages)} stages")
    ctx.write_now()


def _found_version(ctx: Context) -> str | None:
    """What is live before the run, where that is not the last good version: a rollback returns to
    it all the same."""
    good, last = ctx.status.lastGood, ctx.status.run
    if ctx.seen.inherited and last is not None:
        # Its rollback failed: what was live before it is what this run returns to as well.
        return last.found

    version, live = baseline_version(ctx.seen), ctx.status.live

    if good is None:
        return None
    if any(standing.difference for standing in ctx.seen.standings.values()):
        return version or "unknown"
    if live is None:  # a rollback had failed before: nobody has said since what is there
        return None if version == good.version else version or "unknown"

    # What was compared and does not differ is last good, whatever its images call it.
    compared = bool(ctx.seen.standings) and live.version == good.version
    return (
        version if not compared and version and good.version and version != good.version else None
    )
