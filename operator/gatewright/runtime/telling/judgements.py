"""What is said of a Connection, and how its `Ready` condition says it.

`observedGeneration` is the generation that was judged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from gatewright.core.run.clocks import format_time

Place = tuple[str, str]
"""Namespace and name of a Connection."""
Reason = Literal["Ready", "NotReady", "InvalidSpec"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of one generation of a Connection."""

    generation: int
    reason: Reason
    message: str

    def says_same(self, other: Judgement | None) -> bool:
        """Return whether both say the same, numbers in their words apart.

        How long an answer took is no news.
        """
        return other is not None and self._comparable() == other._comparable()

    def _comparable(self) -> tuple[int, Reason, str]:
        return self.generation, self.reason, _without_numbers(self.message)


def status_with(body: Mapping[str, Any], judgement: Judgement) -> dict[str, Any]:
    """Return the status that says a judgement."""
    old = _ready_condition(body)
    status = "True" if judgement.reason == "Ready" else "False"
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else None
    condition = {
        "type": "Ready",
        "status": status,
        "reason": judgement.reason,
        "message": judgement.message[:1000],
        "lastTransitionTime": since or format_time(datetime.now(UTC))[:19] + "Z",
        "observedGeneration": judgement.generation,
    }

    return {"conditions": [condition], "observedGeneration": judgement.generation}


def written_judgement(body: Mapping[str, Any]) -> Judgement | None:
    """Return the judgement that the API server holds."""
    old = _ready_condition(body)
    if old is None or old.get("reason") not in ("Ready", "NotReady", "InvalidSpec"):
        return None
    generation = int(old.get("observedGeneration", 0))
    return Judgement(generation, old["reason"], str(old.get("message", "")))


def _ready_condition(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == "Ready"), None)


def generation_of(body: Mapping[str, Any]) -> int:
    """Return the generation of a Connection."""
    return int(body["metadata"].get("generation", 0))


def _without_numbers(message: str) -> str:
    return re.sub(r"\d+", "0", message[:1000])
