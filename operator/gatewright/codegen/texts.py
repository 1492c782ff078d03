"""Texts of a known form: CEL rules in place of patterns, whose messages say what would be right.

A pattern costs nothing, and a rule's cost is estimated from the limits of everything around it (20
stages of 20 steps of 64 variables). So texts deep inside a Job keep their pattern, and only the
words that people get wrong are judged in CEL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api.base import TEXT_FORMS, TextForm
from gatewright.codegen.rules import CelRule

REPEATED_PLACES = (
    "spec.preflight[]",
    "spec.checks[]",
    "spec.guards[]",
    "spec.rollback.verify[]",
    "spec.followUps[]",
    "spec.stages[].rollback.steps[]",
    "spec.procedures[].steps[]",
    "spec.procedures[].undo[]",
)
"""Places of providers that are described, and judged in words, at another place: gates and steps of
stages."""
_TOO_DEEP = ("env[]", "envFrom[]")
"""So many of these may stand in one Release that judging their texts in CEL would be over the
budget."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """A text that is judged in CEL, so that its message can say what would be right."""

    form: TextForm
    rule: CelRule | None
    """None where the pattern itself has to do."""


def text_rule(pattern: str, path: str, expanded: bool) -> TextRule | None:
    """Return the rule for a known pattern of the language; None where the pattern itself says
    enough."""
    form = TEXT_FORMS.get(pattern)
    if form is None or not form.judged_in_words or path.startswith("status"):
        return None
    if any(part in path for part in _TOO_DEEP):
        return None
    # For each text of each provider and Job, a rule has four times the bytes.
    if _is_deep_in_repeated(path):
        return TextRule(form, None)

    rule = {
        "rule": f"self.matches({_raw_string(or_reference(pattern) if expanded else pattern)})",
        "messageExpression": f"'\"'+self+'\" is not {form}'",
    }
    return TextRule(form, rule)


def _is_deep_in_repeated(path: str) -> bool:
    """Return whether a text belongs to what stands in a repeated place, not to the place itself."""
    return any(
        path.startswith(f"{place}.") and "." in path.removeprefix(f"{place}.")
        for place in REPEATED_PLACES
    )


def or_reference(pattern: str) -> str:
    """Return the pattern, or any text with `$(...)` in it, which is judged once that was put in."""
    return pattern if re.search(pattern, "$(version)") else rf"{pattern}|\$\("


def key_rules(names: Mapping[str, Any]) -> list[CelRule]:
    """Return the rule for the keys of a map: CRDs have no patternProperties."""
    limits: list[str] = []
    words: list[str] = []
    if "maxLength" in names:
        limits.append(f"key.size() <= {names['maxLength']}")
        words.append(f"has at most {names['maxLength']} characters")
    if "pattern" in names:
        limits.append(f"key.matches({_raw_string(names['pattern'])})")
        words.append(f"matches {names['pattern']}")
    if not limits:
        return []

    return [
        {
            "rule": f"self.all(key, {' && '.join(limits)})",
            "message": f"each key {' and '.join(words)}",
        }
    ]


def _raw_string(pattern: str) -> str:
    """Return a CEL raw string."""
    assert "'" not in pattern
    return f"r'{pattern}'"
