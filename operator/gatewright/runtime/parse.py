"""From an object as the API server has it to a View: problems become sentences, nothing raises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from gatewright.api import FINALIZER
from gatewright.api.release import ReleaseSpec
from gatewright.api.run import RunbookUsed
from gatewright.api.status import ReleaseStatus
from gatewright.core.model.view import View
from gatewright.core.report import size
from gatewright.core.spec.expand import cut_middle
from gatewright.core.spec.runbooks import runbook_of
from gatewright.providers import validate
from gatewright.providers.runbooks import check_release, read_release
from gatewright.runtime.cluster import wire
from gatewright.runtime.cluster.outline import Unreadable, UnreadSpec
from gatewright.runtime.runbooks import WatchedRunbook

MAX_PROBLEMS = 20
"""So many are kept in words; that there are more says one without."""
MAX_PROBLEM_LENGTH = 500
"""Characters of a problem."""

RENAMED_PHASES = {"Walking": "Progressing"}
"""Phases of a run as older operators wrote them."""
RENAMED_RUN_FIELDS = {"held": "holdReason", "took": "duration"}
"""Fields of a run as older operators wrote them."""
UNKNOWN_HOLD = "held by an older operator"
"""Why clocks stand still where the reason is lost; the next decision finds the true one."""

FindRunbook = Callable[[str], WatchedRunbook | None]
"""Returns a Runbook of the namespace by its name."""


@dataclass(slots=True)
class WrittenSpec:
    """A spec as it was written.

    It is kept as text, because what it is read into takes ten times the memory and more.
    """

    generation: int = 0
    text: bytes = b"{}"
    problems: tuple[str, ...] | None = None
    """None while it was not checked."""
    measured: bool = True
    """Whether it is known to be small and flat enough."""
    runbook: str = ""
    """The Runbook that it names, once it was checked."""
    used: RunbookUsed | None = None
    """The Runbook that it was checked with."""

    def read(self, find: FindRunbook) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
        """Return the model, and everything that is wrong with it.

        What was checked before is not checked again. `find` knows the Runbooks of the namespace.
        """
        if self.problems is None:
            return self._check(find)
        if self.runbook:
            return self._read_with(orjson.loads(self.text), find(self.runbook)), self.problems

        spec = ReleaseSpec.model_validate(orjson.loads(self.text)) if self.text else None
        return spec, self.problems

    def forget_check(self) -> None:
        """Have it checked anew, since its Runbook is another one."""
        self.problems, self.used = None, None

    def _check(self, find: FindRunbook) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
        raw = self._raw()

        if self.problems is not None:
            return None, self.problems

        self.runbook = runbook_of(raw)
        if self.runbook:
            return self._check_with(raw, find(self.runbook))

        spec, self.problems = spec_of(raw)
        if spec is None:
            # Nobody can make anything of its text.
            self.text = b""

        return spec, self.problems

    def _check_with(
        self, raw: Any, runbook: WatchedRunbook | None
    ) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
        """Return the model with the body of its Runbook, and what is wrong with both.

        Its text stays, whatever is wrong: the Runbook may be mended.
        """
        if runbook is None:
            self.used = None
            fault = f"there is no Runbook {self.runbook} in this namespace"
            self.problems = (f"spec.runbookRef.name: {fault}; create it, or name another one",)
            return None, self.problems

        self.used = runbook.used
        body, unread = runbook.read()
        if unread:
            self.problems = (f"Runbook {self.runbook}: {unread}",)
            return None, self.problems

        spec, messages = check_release(raw, body, self.runbook)
        self.problems = _first_problems(messages)
        return spec, self.problems

    def _read_with(self, raw: Any, runbook: WatchedRunbook | None) -> ReleaseSpec | None:
        """Return the model with the body of a Runbook that it was checked with before."""
        body, unread = runbook.read() if runbook is not None else ({}, "it is gone")
        return None if unread else read_release(raw, body, self.runbook)

    def _raw(self) -> Any:
        """Return the spec as JSON has it.

        One that was not measured yet, is, and may turn out to be too large or too deep.
        """
        if self.measured:
            return orjson.loads(self.text)

        try:
            raw = wire.decode_json(self.text)
        except Unreadable:
            self.text, self.problems = b"", (size.nested_too_deep(),)
            return None

        self.text, self.problems = _measured(raw)
        self.measured = True

        return raw


def written_spec_of(obj: Mapping[str, Any]) -> WrittenSpec:
    """Return the spec of an object that was read.

    Of one that is too large or too deep nothing is kept but why.

    One that is still text is measured when it is used: much of what is told of an object does not
    concern its spec.
    """
    generation, raw = int(obj["metadata"].get("generation", 0)), obj.get("spec") or {}
    if not isinstance(raw, UnreadSpec):
        return WrittenSpec(generation, *_measured(raw))

    problem = size.too_much(raw.size, 0)
    if problem is not None:
        return WrittenSpec(generation, b"", (problem,))
    return WrittenSpec(generation, raw.text, measured=False)


def _measured(raw: Any) -> tuple[bytes, tuple[str, ...] | None]:
    """Return a spec as text, or why it is too large or too deep."""
    text = b""

    def count_bytes() -> int:
        nonlocal text
        text = orjson.dumps(raw)
        return len(text)

    problem = size.find_size_problem(raw, count_bytes)
    return (text, None) if problem is None else (b"", (problem,))


def spec_of(raw: Any) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
    """Return a spec and everything that is wrong with it."""
    spec, messages = validate.check_spec(raw)
    return spec, _first_problems(messages)


def _first_problems(problems: Iterable[str]) -> tuple[str, ...]:
    """Return as many problems as anybody reads; the others are not even put into words."""
    first = itertools.islice(problems, MAX_PROBLEMS + 1)
    messages = tuple(cut_middle(problem, MAX_PROBLEM_LENGTH) for problem in first)
    return messages if len(messages) <= MAX_PROBLEMS else (*messages[:MAX_PROBLEMS], "")


def status_of(raw: Any) -> ReleaseStatus | None:
    """Return a status; None where somebody has made it unreadable."""
    try:
        return ReleaseStatus.model_validate(_with_current_names(raw or {}))
    except ValidationError:
        return None


def _with_current_names(raw: Any) -> Any:
    """Return a status with its run in the words of today; an older operator wrote other ones."""
    run = raw.get("run") if isinstance(raw, dict) else None
    if not isinstance(run, dict):
        return raw

    renamed = {name: value for name, value in run.items() if name not in RENAMED_RUN_FIELDS}
    for old, new in RENAMED_RUN_FIELDS.items():
        if old in run:
            renamed.setdefault(new, run[old])

    phase = run.get("phase")
    if isinstance(phase, str):
        renamed["phase"] = RENAMED_PHASES.get(phase, phase)

    # The API server drops `held` as soon as the CRD does not have it. Clocks that stand still for
    # no reason would never tick again.
    if not renamed.get("holdReason") and _has_stopped_clock(run.get("timers")):
        renamed["holdReason"] = UNKNOWN_HOLD

    return {**raw, "run": renamed}


def _has_stopped_clock(timers: Any) -> bool:
    if not isinstance(timers, dict):
        return False
    return any(
        isinstance(timer, dict) and timer.get("remaining") is not None for timer in timers.values()
    )


def view_of(
    obj: Mapping[str, Any],
    spec: ReleaseSpec | None,
    problems: tuple[str, ...],
    status: ReleaseStatus,
    runbook: RunbookUsed | None = None,
) -> View:
    """Return the Release as it stands."""
    meta = obj["metadata"]
    return View(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        spec=spec,
        status=status,
        problems=problems,
        runbook=runbook,
        deleting="deletionTimestamp" in meta,
        finalized=FINALIZER in meta.get("finalizers", []),
        labels=meta.get("labels", {}),
    )
