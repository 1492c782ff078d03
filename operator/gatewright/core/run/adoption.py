"""Taking over a version that is live already, without a run."""

from __future__ import annotations

from gatewright.api.status import Served
from gatewright.core.model.decision import Revision
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.operations import subjects_of
from gatewright.core.run.run_end import set_live
from gatewright.core.spec.pinned_spec import pin_spec


def adopt_version(ctx: Context) -> None:
    """Take over a version that every target has already: it is live, and last good."""
    spec = ctx.view.spec
    assert spec is not None

    subjects = subjects_of(pin_spec(spec, ctx.status.runs, None))
    # No run has done anything to it: at rest it is compared with its snapshot alone.
    data = {
        "subjects": {
            name: {"config": config, "changes": []}
            for name, config in subjects.items()
            if name in ctx.seen.live_states
        },
        "snapshots": {
            name: live_state.snapshot for name, live_state in ctx.seen.live_states.items()
        },
    }
    revision = Revision.named(ctx.view, f"{ctx.status.runs}-good", data)
    ctx.decision.revision = revision

    served = Served(version=spec.version, snapshot=revision.name, since=clocks.format_time(ctx.now))
    ctx.status.lastGood = served
    # What runs did before was changed by others since: nobody could tell the one from the other.
    ctx.status.kept = []
    ctx.status.atRest = []
    ctx.status.rejected = [other for other in ctx.status.rejected if other.version != spec.version]
    set_live(ctx, served)

    ctx.decision.remove_finalizer = ctx.view.finalized
    ctx.record_event("Adopted", f"{spec.version} is live on every target already")
    ctx.write_now()
