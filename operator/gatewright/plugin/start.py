"""When a run may start: the windows of a Release, and the Freezes in force that mean it.

The operator's own words and judgement; pure, but for `fetch_freezes`. `make_start` answers
programs, `start_lines` people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatewright.api.release import ReleaseSpec, Window
from gatewright.core.model.freeze import Freeze
from gatewright.core.run.closures import hotfix_command
from gatewright.core.spec import freezes, windows
from gatewright.core.spec.selectors import known_labels
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.show import Object, clean_text, cut_text

if TYPE_CHECKING:
    from gatewright.plugin.cluster import Cluster

Start = dict[str, Any]
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class KnownFreezes:
    """The Freezes of a namespace, as far as they are known."""

    of_namespace: Sequence[Freeze] = ()
    unknown: str = ""
    """Why nobody can tell whether one is in force."""


NOT_ASKED = KnownFreezes(unknown="no cluster was asked")


def fetch_freezes(cluster: Cluster, now: datetime) -> KnownFreezes:
    """Return the Freezes of the namespace; where you may not see them, why they are not known.

    Raises RequestFailed.
    """
    from gatewright.plugin.cluster import api_path

    try:
        objects = cluster.get(api_path("freezes", cluster.namespace))["items"]
    except RequestFailed as error:
        if error.code not in (403, 404):
            raise
        return KnownFreezes(unknown=str(error))

    left = [one for one in map(freezes.read_freeze, objects) if not freezes.is_over(one, now)]
    # The operator starts nothing where there are more than it keeps.
    if len(left) > freezes.MAX_PER_NAMESPACE:
        left.append(freezes.too_many())
    return KnownFreezes(left)


def make_start(spec: ReleaseSpec, release: Object, known: KnownFreezes, now: datetime) -> Start:
    """Return whether windows and Freezes let a run start now, and when they do.

    Raises BadRule, UnknownZone for windows that nobody can read.
    """
    meta, status = release.get("metadata") or {}, release.get("status") or {}
    labels = known_labels(meta.get("labels") or {})
    closing = freezes.in_force(known.of_namespace, meta.get("name", ""), labels, now)

    start: Start = {"windows": _judge_windows(spec.windows, now) if spec.windows else None}
    start["freezes"] = None if known.unknown else [_freeze_row(freeze) for freeze in closing]
    if known.unknown:
        start["freezesUnknown"] = known.unknown
        # What the operator has seen may be told all the same.
        if status.get("state") == "Frozen":
            start["freezesUnknown"] += f"; the operator says: {status.get('message')}"

    is_closed = bool(closing) or (start["windows"] is not None and not start["windows"]["open"])
    run = status.get("run") or {}
    if is_closed and not (run and not run.get("outcome")):
        start["hotfix"] = hotfix_command(meta.get("name", "NAME"))
    return start


def _judge_windows(given: Sequence[Window], now: datetime) -> dict[str, Any]:
    closing, opening = windows.open_until(given, now), windows.next_opening(given, now)
    waited_for = windows.describe_next_opening(given, now)
    message = f"none is open; a run waits for {waited_for}"
    if closing is not None:
        message = f"one is open until {windows.describe_time(*closing)}"
        message += f"; the next one opens at {windows.describe_time(*opening)}" if opening else ""

    times = {"until": closing, "next": opening}
    return {
        "open": closing is not None,
        **{name: _format_time(time[0]) for name, time in times.items() if time is not None},
        "message": message,
        "given": [describe_window(window) for window in given],
    }


def describe_window(window: Window) -> str:
    """Return when a window opens, and for how long."""
    return f"{window.rrule} in {window.timeZone}, for {window.duration}"


def _freeze_row(freeze: Freeze) -> dict[str, Any]:
    row = {
        "name": freeze.name,
        "by": freeze.by,
        "until": _format_time(freeze.until) if freeze.until is not None else None,
        "reason": freeze.reason,
        "message": freezes.describe_freeze(freeze),
    }
    return {name: value for name, value in row.items() if value is not None}


def _format_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def start_lines(start: Start) -> list[str]:
    """Return what people read of it."""
    lines: list[str] = []
    given = start["windows"]
    if given is None:
        lines.append("windows: none, any time will do")
    else:
        lines.append(f"windows: {given['message']}")
        lines += [f"  {window}" for window in given["given"]]

    if start["freezes"] is None:
        lines.append(f"Freezes: not known, {start['freezesUnknown']}")
    elif not start["freezes"]:
        lines.append("Freezes: none is in force")
    else:
        lines += [freeze["message"] for freeze in start["freezes"]]

    if start.get("hotfix"):
        lines.append(f"all the same by a hotfix: `{start['hotfix']}`")
    return [f"  {cut_text(clean_text(line), _LONGEST)}" for line in lines]
