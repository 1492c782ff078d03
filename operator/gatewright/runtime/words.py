"""What a Job without a report says at its end: outputs, or why it failed.

A reason that its container gives on purpose goes first, as JSON in the termination message; then any other message, and
last the end of the log. Of a log only a masked end is repeated (`core.masking`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.core import masking
from gatewright.core.model import Progress
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.targets import pods
from gatewright.runtime import reports

LINES, BYTES = 20, 16 * 1024
"""What is read of a log: its last lines, and no more than so many bytes of them."""


async def of_end(cluster: Cluster, namespace: str, found: Sequence[Mapping[str, Any]], state: Progress) -> Progress:
    """Outputs or the reason of failure, from the termination message of the last pod."""
    text = pods.termination_message(found)
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        report = None
    if state.state == "Failed":
        why = pods.trouble(found) or pods.exit_reason(found)
        parts = [report.get(name) for name in ("failed", "error", "reason")] if isinstance(report, dict) else []
        said = masking.masked(": ".join(str(part) for part in parts if part))[:400]
        said = said or _last_words(text) or _last_words(await _log(cluster, namespace, found))
        details = "; ".join(part for part in (why, said) if part)
        return Progress("Failed", f"{state.message}; {details}" if details else state.message)
    outputs = (
        {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in report.items()}
        if isinstance(report, dict)
        else {}
    )
    return Progress("Succeeded", outputs=outputs)


def _last_words(text: str) -> str:
    """The end of what a container left; several lines are its log, which the kubelet gives where there is no message."""
    lines = [line for line in text.splitlines() if line.strip()]
    end = masking.ended(masking.masked(masking.one_line(lines)))
    return f"{masking.MARK}{end}" if len(lines) > 1 else end


async def _log(cluster: Cluster, namespace: str, found: Sequence[Mapping[str, Any]]) -> str:
    """The end of the log of the newest pod that failed; a failure is never held up by a log that cannot be read."""
    pod = pods.newest_failed(found)
    if pod is None:
        return ""
    try:
        async with asyncio.timeout(reports.BRIEF):
            return await cluster.tail(f"{reports.log_path(namespace, pod)}&tailLines={LINES}", BYTES)
    except (Retryable, Permanent, TimeoutError):
        return ""
