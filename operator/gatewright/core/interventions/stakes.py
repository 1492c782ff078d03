"""What is at stake: what whoever is asked for an approval should know before the answer.

The risk, how it would be undone, and what the spec has changed since the last version. Names only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gatewright.api.release import Stage
from gatewright.api.status import Run
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.spec import edits

RISKS = ("High", "Medium", "Low")
"""The gravest first."""
MOST_STAKES_CHARS = 500
MOST_STAGES_TOLD = 3
MOST_PLAN_LINES_TOLD = 4


def describe_stakes(body: PinnedSpec, run: Run, stage: int | None = None) -> str:
    """Return risk, plan and changes on one line; `stage`: the stage whose step asks."""
    asking = body.spec.stages if stage is None else [body.spec.stages[stage]]
    stakes = [_describe_risk(asking), *_describe_plan(run), *_describe_changes(body, run)]
    return _cut("; ".join(stakes))


def _describe_risk(stages: Sequence[Stage]) -> str:
    risk = next(risk for risk in RISKS if any(stage.risk == risk for stage in stages))
    names = [stage.name for stage in stages if stage.risk == risk]
    return f"risk {risk} ({_list_first(names, MOST_STAGES_TOLD)})"


def _describe_plan(run: Run) -> Iterator[str]:
    if run.plan:
        yield f"a rollback would {_list_first(run.plan, MOST_PLAN_LINES_TOLD)}"


def _describe_changes(body: PinnedSpec, run: Run) -> Iterator[str]:
    last_good = body.names.get("lastGood.version")
    if run.changedSince is None and last_good is not None:
        yield f"what the spec has changed since {last_good} is not known"
    if run.changedSince is None:
        return

    changes = edits.summarize_edits(run.changes) or "nothing but the version"
    yield f"changed since {run.changedSince}: {changes}"


def _list_first(words: Sequence[str], most: int) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"{', '.join(words[:most])}{more}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_STAKES_CHARS else f"{text[: MOST_STAKES_CHARS - 4]} ..."
