"""What steps publish: what of it the status keeps, and when something needed is not there.

Status stays small whatever Jobs say, and nothing that somebody names is ever cut or left out: where
it does not fit, the step fails and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gatewright.api.jobs import Job
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import Run
from gatewright.api.steps import Step
from gatewright.core.model.operation import Operation, Progress
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
    """Return why a step that has ended well has failed all the same; None where it has not.

    Something names an output that nobody knows, or too much.
    """
    named = named_outputs(spec, stage, step.name) if unread or published else set()
    # What nothing names may stay unknown.
    if unread and (named or step.proof is not None):
        return f"{unread}; {', '.join(sorted(named)) or 'its proof'} is needed"

    for name in sorted(named):
        length = len(published.get(name, ""))
        if length > MOST_OUTPUT_CHARS:
            limit = f"at most {MOST_OUTPUT_CHARS} can be kept"
            return f"output {name} has {length} characters; {limit}"

    used = _used_bytes(run)
    size = sum(_written_bytes(published.get(name, "")) for name in named)
    if named and used + size > MOST_NAMED_BYTES:
        limit = f"at most {MOST_NAMED_BYTES} can be kept in a run"
        return f"its outputs have {size} bytes, with {used} of earlier steps; {limit}"

    return None


def select_kept(
    spec: ReleaseSpec, run: Run, stage: int, step: Step, published: Mapping[str, str]
) -> dict[str, str]:
    """Return everything that something names, and of the rest what fits.

    Nothing of the rest is kept where its Job is not to be repeated.
    """
    named = named_outputs(spec, stage, step.name) if published else set()
    kept = {name: published[name] for name in sorted(named & published.keys())}
    # What the spec does not name is not to be shown (`logs: Never`).
    if step.job is not None and step.job.is_quiet:
        return kept

    rest = {name: value for name, value in published.items() if name not in kept}
    room = max(0, MOST_OUTPUTS - len(kept))
    return kept | dict(list(select_shown(run, rest).items())[:room])


def merge_loud(operations: Sequence[Operation], progresses: Sequence[Progress]) -> dict[str, str]:
    """Return what operations have published, but for Jobs that are not to be repeated."""
    outputs: dict[str, str] = {}
    for operation, progress in zip(operations, progresses, strict=True):
        if not (isinstance(operation.config, Job) and operation.config.is_quiet):
            outputs |= progress.outputs
    return outputs


def select_shown(run: Run, published: Mapping[str, str]) -> dict[str, str]:
    """Return of what nothing names as much as fits, for people to read."""
    shown: dict[str, str] = {}
    room = MOST_UNNAMED_CHARS if _used_bytes(run) < CROWDED_BYTES else 0
    for name, value in published.items():
        if len(value) <= room and len(name) <= 100 and len(shown) < MOST_OUTPUTS:
            shown[name] = value
            room -= len(value)
    return shown


def _used_bytes(run: Run) -> int:
    """Return the bytes of all outputs that a run keeps."""
    outputs: list[Mapping[str, str]] = []
    for stage in run.stages:
        outputs += [step.outputs for step in stage.steps]
    if run.rollback is not None:
        outputs += [line.outputs for line in run.rollback.undo]

    return sum(sum(map(_written_bytes, published.values())) for published in outputs)


def _written_bytes(value: str) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
