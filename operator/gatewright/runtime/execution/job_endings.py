"""What a Job without a report says at its end: outputs, or why it failed; and what one that hangs
said last.

A reason that its container gives on purpose goes first, as JSON in the termination message; then
any other message, and last the end of the log. Of a log only a masked end is repeated
(`core.masking`).

A Job whose time is over loses its pods at once, and with them their logs. So its pods are listened
to when its time is nearly over, and again when Kubernetes has told them to end; what was heard is
kept in memory until the end is told. It is words for people: an operator that was started meanwhile
has heard nothing, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.core.fair_memory import FairMemory
from gatewright.core.model import Progress
from gatewright.core.text import masking
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.targets import pods
from gatewright.runtime.execution import job_outputs, job_pods, job_reports
from gatewright.runtime.execution.job_pods import Pod

LOG_LINES, LOG_BYTES = 20, 16 * 1024
"""What is read of a log: its last lines, and no more than so many bytes of them."""
MAX_MESSAGE_LENGTH = 400
"""Characters of a reason that is given on purpose."""
LISTEN_INTERVAL_S = 4.0
"""Seconds after which the log of the same Job may be read once more."""
MAX_JOBS_REMEMBERED = 1024
"""Jobs whose last words are remembered; no namespace drives out those of another."""
_LOST = "unable to retrieve container logs for "
"""What the kubelet answers, as if it were the log, where the container is gone."""
_REASONS = ("failed", "error", "reason")
SILENT_MESSAGE = "its log is not shown (logs: Never)"
"""Stands for all that a Job with `logs: Never` has said."""
HELD_PREFIX = "last seen: "
"""Goes before what kept a Job's pods from getting on when somebody looked last."""


class LastWords:
    """What Jobs said last, by the UID of the Job; where there are too many, the fullest namespace
    loses its oldest."""

    def __init__(self) -> None:
        self._heard: FairMemory[str, tuple[str, float]] = FairMemory(MAX_JOBS_REMEMBERED)

    def keep(self, job: Mapping[str, Any], text: str) -> None:
        """Remember what was said, in place of what was said before; silence takes nothing away."""
        uid = _uid_of(job)
        self._heard.put(
            job["metadata"]["namespace"], uid, (text or self.said(uid), time.monotonic())
        )

    def forget_trouble(self, uid: str) -> None:
        """Nothing keeps the Job from getting on any more."""
        if self.said(uid).startswith(HELD_PREFIX):
            self._heard.pop(uid)

    def said(self, uid: str) -> str:
        """Return what was said last, if it is remembered."""
        known = self._heard.get(uid)
        return known[0] if known is not None else ""

    def is_fresh(self, uid: str) -> bool:
        """Return whether it was listened to only a moment ago."""
        known = self._heard.get(uid)
        return known is not None and time.monotonic() - known[1] < LISTEN_INTERVAL_S


LAST_WORDS = LastWords()


async def progress_of_end(
    cluster: Cluster,
    job: Mapping[str, Any],
    found: Sequence[Pod],
    state: Progress,
    quiet: bool = False,
) -> Progress:
    """Outputs or the reason of failure, from the pods of a Job that has ended.

    `quiet`: no word of it but outputs.
    """
    if state.state == "Succeeded":
        return _progress_of_published(job, found, quiet)
    pod = job_pods.newest_failed_pod(found)
    details = await describe_failed_pod(cluster, pod) if pod is not None else ""
    return Progress("Failed", f"{state.message}; {details}" if details else state.message)


async def describe_failed_pod(cluster: Cluster, pod: Pod) -> str:
    """Return how a pod that failed has ended, and what it said about that."""
    text = job_pods.speaking_container(pod).message
    why = job_pods.describe_exit(pod) or pods.describe_hindrance([pod])
    said = given_reason(text) or _last_words(text) or await log_end(cluster, pod)
    return "; ".join(part for part in (why, said) if part)


async def describe_hung_job(
    cluster: Cluster, job: Mapping[str, Any], pod: Pod | None, quiet: bool = False
) -> str:
    """Return what a Job said last whose time was over.

    Its pod may have left something behind, or is gone.
    """
    text = job_pods.speaking_container(pod).message if pod is not None else ""

    heard = LAST_WORDS.said(_uid_of(job))
    if quiet and not heard.startswith(HELD_PREFIX):
        return SILENT_MESSAGE

    said = (
        given_reason(text) or (heard if heard.startswith(HELD_PREFIX) else "") or _last_words(text)
    )
    if pod is None or said:
        return said or heard

    return await log_end(cluster, pod) or heard or job_pods.describe_exit(pod)


def given_reason(text: str) -> str:
    """A reason that a container gives on purpose, in one masked line."""
    said = job_outputs.object_of(text) or {}
    parts = [
        masking.join_lines(str(said[name]).splitlines()) for name in _REASONS if said.get(name)
    ]
    return masking.mask_beginning(_storable_text(": ".join(parts)), MAX_MESSAGE_LENGTH)


async def read_newest_log(cluster: Cluster, job: Mapping[str, Any], found: Sequence[Pod]) -> str:
    """Return what the newest pod that has not ended says now.

    What it said before where it cannot be asked.
    """
    uid = _uid_of(job)
    there = job_pods.newest_first(job_pods.active_pods(found))
    if there and not LAST_WORDS.is_fresh(uid):
        LAST_WORDS.keep(job, await log_end(cluster, there[0]))
    return LAST_WORDS.said(uid)


async def log_end(cluster: Cluster, pod: Pod) -> str:
    """Return the masked end of a pod's log; nothing is ever held up by a log that cannot be read."""
    if job_pods.is_silenced(pod):
        return SILENT_MESSAGE

    speaker = job_pods.speaking_container(pod)
    try:
        async with asyncio.timeout(job_reports.READ_TIMEOUT_S):
            text = await cluster.tail(
                f"{job_pods.log_path(pod, speaker.container)}&tailLines={LOG_LINES}", LOG_BYTES
            )
    except (Retryable, Permanent, TimeoutError):
        return ""

    words = _last_words(text) if not text.startswith(_LOST) else ""
    if words and not words.startswith(masking.LOG_END_MARK):
        words = f"{masking.LOG_END_MARK}{words}"

    return (
        words.replace(masking.LOG_END_MARK, f"{speaker.title} ran, and {masking.LOG_END_MARK}", 1)
        if speaker.title
        else words
    )


def _progress_of_published(job: Mapping[str, Any], found: Sequence[Pod], quiet: bool) -> Progress:
    """Return the end of a Job that completed: what it published, or why that cannot be known."""
    name, done = job["metadata"]["name"], job_pods.succeeded_pods(found)
    wanted = max(1, job.get("status", {}).get("succeeded") or 0)
    if len(done) < wanted:
        left = (
            f"of its {wanted} pods that succeeded {len(done)} are left"
            if wanted > 1
            else "its pod is gone"
        )
        return Progress("Succeeded", unread=f"what job {name} published cannot be read: {left}")

    text = next((said for pod in done if (said := job_pods.main_container(pod).message)), "")
    what = job_outputs.read_outputs(text)
    if what.unread:
        return Progress(
            "Succeeded", unread=f"what job {name} published cannot be read: {what.unread}"
        )

    words = (
        f"job {name}: {_quiet_refusal(what.refused) if quiet else what.refused}"
        if what.refused
        else ""
    )

    return Progress("Succeeded", words, outputs=what.outputs, notable=bool(words))


def _uid_of(job: Mapping[str, Any]) -> str:
    return str(job["metadata"].get("uid"))


def _quiet_refusal(refused: str) -> str:
    return "some outputs are left out, and which is not shown (logs: Never)" if refused else ""


def _last_words(text: str) -> str:
    """Return the end of what a container left.

    Several lines are its log, which the kubelet gives where there is no message.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    cut = (
        len(text.encode(errors="replace")) > job_outputs.MAX_TERMINATION_MESSAGE_BYTES - 4
    )  # the kubelet keeps the end of a longer message
    end = masking.mask_ending(_storable_text(masking.join_lines(lines)), cut)
    return f"{masking.LOG_END_MARK}{end}" if len(lines) > 1 and end else end


def _storable_text(line: str) -> str:
    """Text that a status can hold: no control characters, no half of a surrogate pair."""
    return "".join(char if char.isprintable() else " " for char in line)
