"""Which objects a label selector means, as Kubernetes has it."""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.freeze import LabelRequirement, LabelSelector

MAX_LABELS = 32
MAX_LABEL_CHARS = 2048
"""Characters of labels and their values of one Release that are kept."""


def known_labels(labels: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return labels that are few; None for more than are kept, so that nobody takes them for all.

    Freezes select by them.
    """
    if labels is None or len(labels) > MAX_LABELS:
        return None
    used = sum(len(key) + len(value) for key, value in labels.items())
    return dict(labels) if used <= MAX_LABEL_CHARS else None


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Return whether a selector means an object with these labels; an empty one means all."""
    if any(labels.get(key) != value for key, value in selector.matchLabels.items()):
        return False
    return all(_meets(requirement, labels) for requirement in selector.matchExpressions)


def is_empty(selector: LabelSelector) -> bool:
    """Return whether a selector means every object, whatever its labels are."""
    return not selector.matchLabels and not selector.matchExpressions


def _meets(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
