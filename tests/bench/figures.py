"""How figures are printed."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies; the nearest one that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def spread(values: Sequence[float], unit: str) -> str:
    """Median, 90th and 99th percentile, largest."""
    p50, p90, p99 = (percentile(values, share) for share in (0.5, 0.9, 0.99))
    return (
        f"p50 {p50:.1f} {unit}, p90 {p90:.1f}, p99 {p99:.1f}, max {max(values):.1f} "
        f"(n={len(values)})"
    )
