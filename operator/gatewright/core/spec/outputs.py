"""What steps publish: what of it is kept in the status, and when something that is needed is not
there.

Status stays small whatever Jobs say, and nothing that somebody names is ever cut or left out: where
it does not fit, the step fails and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gatewright.api.jobs import Job
from gatewright.api.release import ReleaseSpec, Step
from gatewright.api.status import Run
from gatewright.core.model import Operation, Progress
from gatewright.core.spec.pinned_spec import named_outputs

MOST_OUTPUTS = 32
"""Most outputs of a step."""
MOST_OUTPUT_CHARS = 1000
"""Most characters of an output."""
MOST_NAMED_BYTES = 12_000
"""Most bytes of all outputs of a run that something names, as they are written."""
MOST_UNNAMED_CHARS = 400
"""Most characters of the outputs of a step that nothing names: they are kept for people to read."""
CROWDED_BYTES = 3_000
"""From so many bytes of outputs in a run on only what something names is kept."""


def find_problem(
    spec: ReleaseSpec, run: Run, stage: int, step: Step, published: Mapping[str, str], unread: str
) -> str | None:
    """Why a step that has ended well has failed all the same: something names an output that nobody
    knows, or too much."""
    named = named_outputs(spec, stage, step.name) if unread or published else set()
    if unread and (named or step.proof is not None):
        return f"{unread}; {', '.join(sorted(named)) or 'its proof'} is needed"

    long = next(
        (name for name in sorted(named) if len(published.get(name, "")) > MOST_OUTPUT_CHARS), None
    )
    if long is not None:
        return (
            f"output {long} has {len(published[long])} characters; at most {MOST_OUTPUT_CHARS} "
            "can be kept"
        )

    used = _used_bytes(run)
    size = sum(_written_bytes(published.get(name, "")) for name in named)

    if named and used + size > MOST_NAMED_BYTES:
        return (
            f"its outputs have {size} bytes, with {used} of earlier steps; at most "
            f"{MOST_NAMED_BYTES} can be kept in a run"
        )

    return None


def select_kept(
    spec: ReleaseSpec, run: Run, stage: int, step: Step, published: Mapping[str, str]
) -> dict[str, str]:
    """Everything that something names, and of the rest what fits; nothing of the rest where its Job
    is not to be repeated."""
    named = named_outputs(spec, stage, step.name) if published else set()
    found = {name: published[name] for name in sorted(named & published.keys())}

    if step.job is not None and step.job.is_quiet:
        return found

    rest = {name: value for name, value in published.items() if name not in found}
    return found | dict(list(select_shown(run, rest).items())[: max(0, MOST_OUTPUTS - len(found))])


def merge_loud(operations: Sequence[Operation], found: Sequence[Progress]) -> dict[str, str]:
    """What operations have published, but for Jobs that are not to be repeated."""
    told: dict[str, str] = {}
    for operation, progress in zip(operations, found, strict=True):
        if not (isinstance(operation.config, Job) and operation.config.is_quiet):
            told |= progress.outputs
    return told


def select_shown(run: Run, published: Mapping[str, str]) -> dict[str, str]:
    """Of what nothing names as much as fits, for people to read."""
    found: dict[str, str] = {}
    room = MOST_UNNAMED_CHARS if _used_bytes(run) < CROWDED_BYTES else 0
    for name, value in published.items():
        if len(value) <= room and len(name) <= 100 and len(found) < MOST_OUTPUTS:
            found[name] = value
            room -= len(value)
    return found


def _used_bytes(run: Run) -> int:
    """Bytes of all outputs that a run keeps."""
    steps = [each.outputs for one in run.stages for each in one.steps]
    lines = [line.outputs for line in run.rollback.undo] if run.rollback is not None else []
    return sum(
        _written_bytes(value) for published in (*steps, *lines) for value in published.values()
    )


def _written_bytes(value: str) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
