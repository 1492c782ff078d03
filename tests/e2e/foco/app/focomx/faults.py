"""What is wrong with a version, and where that is said.

A fault belongs to a version, not to a pod: `{"2.5.0": {"errorRate": 0.2}}` makes 2.5.0 bad wherever
it runs and leaves 2.4.0 alone, so putting the old version back really does cure it. Three sources,
the first that speaks wins:

1. the admin port (`PUT /faults`), at once and for this process only;
2. the file `FAULTS_FILE` (a mounted ConfigMap), looked at once a second;
3. the environment variable `FAULTS`.

A file that cannot be understood leaves the last good one in force: a typo must not cure a version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What is wrong with one version; the default is nothing."""

    error_rate: float = 0.0
    """Share of requests (0 to 1) answered with 500."""
    latency_ms: float = 0.0
    """Milliseconds added to every request."""
    fail_health: bool = False
    """`/api/health` answers 503."""
    fail_task_creation: bool = False
    """`POST /api/tasks` answers 500."""
    after: float = 0.0
    """Seconds after the start of the process before the fault shows."""
    when_flag: str | None = None
    """The fault shows only while this feature flag is on: a bug in code that a flag switches on."""
    routes: tuple[str, ...] = ()
    """Routes that `errorRate` and `latencyMs` touch; empty means all that users call."""

    def active(self, uptime: float, flags: Mapping[str, bool]) -> bool:
        return uptime >= self.after and (self.when_flag is None or flags.get(self.when_flag, False))


NONE = Fault()
_NAMES = {
    "errorRate": "error_rate",
    "latencyMs": "latency_ms",
    "failHealth": "fail_health",
    "failTaskCreation": "fail_task_creation",
    "after": "after",
    "whenFlag": "when_flag",
    "routes": "routes",
}


def parse(text: str) -> dict[str, Fault]:
    """Faults by version; raises ValueError for anything that is not understood."""
    data = json.loads(text or "{}")
    if not isinstance(data, dict):
        raise ValueError("faults must be an object of versions")
    return {version: _fault(version, value) for version, value in data.items()}


def _fault(version: str, value: Any) -> Fault:
    if not isinstance(value, dict):
        raise ValueError(f"{version}: a fault is an object")
    unknown = sorted(set(value) - set(_NAMES))
    if unknown:
        raise ValueError(f"{version}: unknown {', '.join(unknown)}; known are {', '.join(_NAMES)}")
    values: dict[str, Any] = {
        _NAMES[key]: tuple(v) if key == "routes" else v for key, v in value.items()
    }
    fault = Fault(**values)
    if not 0 <= fault.error_rate <= 1:
        raise ValueError(f"{version}: errorRate is a share between 0 and 1")
    return fault


@dataclass
class Share:
    """Says yes to an exact share of the calls: a rate of 0.2 is every fifth call, not a dice
    roll."""

    debt: float = 0.0

    def hit(self, rate: float) -> bool:
        # Rounded, because ten times 0.1 must come to one whole failure.
        self.debt = round(self.debt + rate, 9) if rate else 0.0
        if self.debt < 1:
            return False
        self.debt -= 1
        return True


@dataclass
class Faults:
    """The fault of one version, from whichever source speaks."""

    version: str
    path: Path | None = None
    environment: str = ""
    problem: str | None = None
    """Why the file is not in force, if it is not."""
    _from_file: dict[str, Fault] | None = None
    _override: dict[str, Fault] | None = None
    _environment: dict[str, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._environment = parse(self.environment)
        self.reload()

    def reload(self) -> None:
        """Read the file again; called once a second."""
        try:
            self._from_file = (
                parse(self.path.read_text()) if self.path and self.path.is_file() else None
            )
            self.problem = None
        except (OSError, ValueError, TypeError) as error:
            self.problem = str(error)

    def override(self, text: str | None) -> None:
        """Switch at once; None gives the word back to the file."""
        self._override = None if text is None else parse(text)

    def current(self) -> Fault:
        for source in (self._override, self._from_file, self._environment):
            if source is not None:
                return source.get(self.version, NONE)
        return NONE

    def describe(self) -> dict[str, Any]:
        fault = self.current()
        return {"version": self.version, "problem": self.problem} | {
            k: getattr(fault, v) for k, v in _NAMES.items()
        }
