"""Which stages of a spec have nothing to do (`when`), in the operator's own judgement. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.release import ReleaseSpec, Stage
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.stage_conditions import Judged, judge_condition
from gatewright.plugin.show import Object
from gatewright.plugin.wording import cut


def judge_stages(spec: ReleaseSpec, names: Mapping[str, str]) -> dict[str, Judged | None]:
    """Return what the condition of each stage comes to, for those that have one.

    None where only a run will know. `names`: what `$(...)` stands for, as far as it is known now.
    """
    return {
        stage.name: _judge_stage(spec, stage, {**names, "stage": stage.name})
        for stage in spec.stages
        if stage.when is not None
    }


def is_left_out(judged: Judged | None) -> bool:
    """Return whether a run would go past the stage."""
    return judged is not None and judged.state == "Unmet"


def _judge_stage(spec: ReleaseSpec, stage: Stage, names: Mapping[str, str]) -> Judged | None:
    if stage.when is None:
        return None
    try:
        return judge_condition(spec, stage.when, names)
    except UnknownReference:
        return None


def describe_condition(when: Object) -> str:
    """Return what has to be so that a stage has anything to do."""
    if when.get("equals") is not None:
        return cut(f"variable {when['var']} is {when['equals'] or 'empty'}")
    if when.get("notEquals") is not None:
        return cut(f"variable {when['var']} is not {when['notEquals'] or 'empty'}")
    return cut(f"something has changed in {', '.join(when.get('changed') or ())}")


def describe_consequence(judged: Judged | None) -> str:
    """Return what a run does with the stage, and why."""
    if judged is None:
        return "the run decides: what it is compared with is not known before"
    does = "left out" if is_left_out(judged) else "goes ahead"
    return f"{does}: {judged.reason}"
