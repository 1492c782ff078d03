"""What a Job without a report says at its end: outputs, or why it failed.

One that hangs is told by what it said last.

A reason that its container gives on purpose goes first, as JSON in the termination message; then
any other message, and last the end of the log. Of a log only a masked end is repeated
(`core.text.masking`).

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
from gatewright.core.model.operation import Progress
from gatewright.core.text import masking
from gatewright.core.text.lines import printable_text
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.workload import pods
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
    """What Jobs said last, by the UID of the Job.

    Where there are too many, the fullest namespace loses its oldest.
    """

    def __init__(self) -> None:
        self._heard: FairMemory[str, tuple[str, float]] = FairMemory(MAX_JOBS_REMEMBERED)

    def keep(self, job: Mapping[str, Any], words: str) -> None:
        """Remember what was said, in place of what was said before; silence takes nothing away."""
        uid = _uid_of(job)
        kept = (words or self.said(uid), time.monotonic())
        self._heard.put(job["metadata"]["namespace"], uid, kept)

    def forget_trouble(self, uid: str) -> None:
        """Forget what has kept a Job from getting on, and does not any more."""
        if self.said(uid).startswith(HELD_PREFIX):
            self._heard.pop(uid)

    def said(self, uid: str) -> str:
        """Return what was said last, if it is remembered."""
        heard = self._heard.get(uid)
        return heard[0] if heard is not None else ""

    def is_fresh(self, uid: str) -> bool:
        """Return whether it was listened to only a moment ago."""
        heard = self._heard.get(uid)
        return heard is not None and time.monotonic() - heard[1] < LISTEN_INTERVAL_S


LAST_WORDS = LastWords()


async def progress_of_end(
    cluster: Cluster,
    job: Mapping[str, Any],
    all_pods: Sequence[Pod],
    state: Progress,
    quiet: bool = False,
) -> Progress:
    """Return outputs or the reason of failure, from the pods of a Job that has ended.

    `quiet`: no word of it but outputs.
    """
    if state.state == "Succeeded":
        return _progress_of_published(job, all_pods, quiet)

    pod = job_pods.newest_failed_pod(all_pods)
    details = await describe_failed_pod(cluster, pod) if pod is not None else ""
    return Progress("Failed", f"{state.message}; {details}" if details else state.message)


async def describe_failed_pod(cluster: Cluster, pod: Pod) -> str:
    """Return how a pod that failed has ended, and what it said about that."""
    message = job_pods.speaking_container(pod).message
    ending = job_pods.describe_exit(pod) or pods.describe_hindrance([pod])
    words = given_reason(message) or _last_words(message) or await log_end(cluster, pod)
    return "; ".join(part for part in (ending, words) if part)


async def describe_hung_job(
    cluster: Cluster, job: Mapping[str, Any], pod: Pod | None, quiet: bool = False
) -> str:
    """Return what a Job said last whose time was over.

    Its pod may have left something behind, or is gone.
    """
    message = job_pods.speaking_container(pod).message if pod is not None else ""

    heard = LAST_WORDS.said(_uid_of(job))
    was_held = heard.startswith(HELD_PREFIX)
    if quiet and not was_held:
        return SILENT_MESSAGE

    # What kept its pods from getting on says more than the end of a log.
    words = given_reason(message) or (heard if was_held else "") or _last_words(message)
    if pod is None or words:
        return words or heard

    return await log_end(cluster, pod) or heard or job_pods.describe_exit(pod)


def given_reason(message: str) -> str:
    """Return a reason that a container gives on purpose, in one masked line."""
    published = job_outputs.object_of(message) or {}
    given = [str(published[name]) for name in _REASONS if published.get(name)]
    reason = ": ".join(masking.join_lines(text.splitlines()) for text in given)
    return masking.mask_beginning(printable_text(reason), MAX_MESSAGE_LENGTH)


async def read_newest_log(cluster: Cluster, job: Mapping[str, Any], all_pods: Sequence[Pod]) -> str:
    """Return what the newest pod that has not ended says now.

    What it said before where it cannot be asked.
    """
    uid = _uid_of(job)
    there = job_pods.newest_first(job_pods.active_pods(all_pods))
    # The kubelet is not asked for the same log with each look.
    if there and not LAST_WORDS.is_fresh(uid):
        LAST_WORDS.keep(job, await log_end(cluster, there[0]))
    return LAST_WORDS.said(uid)


async def log_end(cluster: Cluster, pod: Pod) -> str:
    """Return the masked end of a pod's log; empty where it cannot be read."""
    if job_pods.is_silenced(pod):
        return SILENT_MESSAGE

    speaker = job_pods.speaking_container(pod)
    path = f"{job_pods.log_path(pod, speaker.container)}&tailLines={LOG_LINES}"
    try:
        async with asyncio.timeout(job_reports.READ_TIMEOUT_S):
            end = await cluster.tail(path, LOG_BYTES)
    except (Retryable, Permanent, TimeoutError):
        # Nothing is ever held up by a log that cannot be read.
        return ""

    words = _last_words(end) if not end.startswith(_LOST) else ""
    if words and not words.startswith(masking.LOG_END_MARK):
        words = f"{masking.LOG_END_MARK}{words}"

    if not speaker.title:
        return words

    mark = f"{speaker.title} ran, and {masking.LOG_END_MARK}"
    return words.replace(masking.LOG_END_MARK, mark, 1)


def _progress_of_published(
    job: Mapping[str, Any], all_pods: Sequence[Pod], quiet: bool
) -> Progress:
    """Return the end of a Job that completed: what it published, or why that cannot be known."""
    name, done = job["metadata"]["name"], job_pods.succeeded_pods(all_pods)
    unread = f"what job {name} published cannot be read"

    needed = max(1, job.get("status", {}).get("succeeded") or 0)
    if len(done) < needed:
        rest = f"of its {needed} pods that succeeded {len(done)} are left"
        return Progress(
            "Succeeded", unread=f"{unread}: {rest if needed > 1 else 'its pod is gone'}"
        )

    published = job_outputs.read_outputs(job_pods.newest_message(done))
    if published.unread:
        return Progress("Succeeded", unread=f"{unread}: {published.unread}")

    message = ""
    if published.refused:
        refused = _quiet_refusal(published.refused) if quiet else published.refused
        message = f"job {name}: {refused}"

    return Progress("Succeeded", message, outputs=published.outputs, notable=bool(message))


def _uid_of(job: Mapping[str, Any]) -> str:
    return str(job["metadata"].get("uid"))


def _quiet_refusal(refused: str) -> str:
    return "some outputs are left out, and which is not shown (logs: Never)" if refused else ""


def _last_words(left: str) -> str:
    """Return the end of what a container left.

    Several lines are its log, which the kubelet gives where there is no message.
    """
    lines = [line for line in left.splitlines() if line.strip()]
    # The kubelet keeps the end of a longer message.
    size = len(left.encode(errors="replace"))
    is_cut = size > job_outputs.MAX_TERMINATION_MESSAGE_BYTES - 4
    end = masking.mask_ending(printable_text(masking.join_lines(lines)), is_cut)
    return f"{masking.LOG_END_MARK}{end}" if len(lines) > 1 and end else end
