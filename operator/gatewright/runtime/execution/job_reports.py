"""The report that a Job's container leaves behind: where it is, and what it makes of the Job's end.

A Job that failed stays failed, whatever its report says; the report names the first test. A Job
that completed has failed after all where its report is bad, missing, cut off or not understood.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gatewright.api.jobs import JobReport
from gatewright.core.model.operation import Progress
from gatewright.core.text import masking
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.common.concurrency import NamespaceThreads
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import (
    MAX_TEXT_LENGTH,
    Finding,
    Format,
    MalformedReport,
    plain_line,
)
from gatewright.providers.workload import pods
from gatewright.runtime.execution import job_outputs, job_pods
from gatewright.runtime.execution.job_outputs import Published
from gatewright.runtime.execution.job_pods import Pod

MAX_REPORT_BYTES = 2**20
"""Bytes of a log that are read, its last ones."""
MAX_PODS = 8
"""Pods of one Job whose reports are read."""
READ_TIMEOUT_S = 5.0
"""Seconds that the report of a Job that failed anyway may take."""

_threads = NamespaceThreads("report", 2)


class ReportMissing(Exception):
    """There is no report that could be judged; the message says what is the matter with it."""


async def progress_of_completed(
    cluster: Cluster,
    report: JobReport,
    job: Mapping[str, Any],
    all_pods: Sequence[Pod],
    quiet: bool = False,
) -> Progress:
    """Return the end of a Job that completed; `quiet`: of its report the numbers alone are told.

    Raises Retryable.
    """
    format_ = REPORTS[report.format]

    try:
        done = _require_succeeded(job, all_pods)
        finding = await _judge_reports(cluster, report, done)
    except ReportMissing as error:
        return Progress("Failed", f"its {format_.title} {error}")

    message = f"{format_.title}: {_words_of(finding, quiet)}"

    # The report decides, not the exit code.
    if not finding.good:
        return Progress("Failed", f"{message}; the exit code was 0")

    # Beside the report a container may publish outputs of its own.
    more = _published_beside(format_, done, finding)
    if more.refused:
        message += f"; {'some outputs are left out' if quiet else more.refused}"

    outputs = {**finding.outputs, **more.outputs}
    return Progress("Succeeded", message, outputs=outputs, notable=bool(more.refused))


async def progress_of_failed(
    cluster: Cluster, report: JobReport, message: str, all_pods: Sequence[Pod], quiet: bool = False
) -> Progress:
    """Return the end of a Job that failed: never held up by a log that cannot be read.

    `quiet` as for one that completed.
    """
    format_ = REPORTS[report.format]
    silenced = [job_pods.silence_pod(pod) for pod in all_pods] if quiet else all_pods
    pod = job_pods.newest_failed_pod(silenced)
    reasons = (message, _explain_failure(format_, pod), *_given_reasons(pod))
    ended = "; ".join(reason for reason in reasons if reason)

    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            finding = await _judge_reports(cluster, report, _require_ended(all_pods))
    except ReportMissing as error:
        return Progress("Failed", f"{ended}; its {format_.title} {error}")
    except (Retryable, TimeoutError) as error:
        unread = str(error) or "time-out"
        return Progress("Failed", f"{ended}; its {format_.title} could not be read: {unread}")

    words = _words_of(finding, quiet)

    if finding.good:
        return Progress("Failed", f"{ended}; its {format_.title} is good all the same: {words}")

    return Progress("Failed", f"{format_.title}: {words}; {ended}")


def _words_of(finding: Finding, quiet: bool) -> str:
    """Return what a report says; of one that is not to be repeated, the numbers alone."""
    if not quiet:
        return masking.mask_secrets(finding.words)

    names = [name for name in ("passed", "failed") if name in finding.outputs]
    counts = ", ".join(f"{finding.outputs[name]} {name}" for name in names)
    return f"{counts or ('it is good' if finding.good else 'it is bad')} (logs: Never)"


async def _judge_reports(cluster: Cluster, report: JobReport, all_pods: Sequence[Pod]) -> Finding:
    """Return what the reports of all these pods say together. Raises ReportMissing, Retryable."""
    format_ = REPORTS[report.format]

    documents: list[Any] = []
    for pod in all_pods:
        documents += await _read_documents(cluster, format_, report.from_, pod)

    config = getattr(report, report.format)
    namespace = str(all_pods[0]["metadata"].get("namespace", ""))
    try:
        return await _threads.run(namespace, lambda: format_.judge(documents, config))
    except MalformedReport as error:
        raise ReportMissing(f"is not understood: {error}") from None


async def _read_documents(
    cluster: Cluster, format_: Format, source: str | None, pod: Pod
) -> list[Any]:
    first = job_pods.main_container(pod)
    namespace = str(pod["metadata"].get("namespace", ""))

    places = (source,) if source else _places_of(first)
    problems: list[str] = []
    for place in places:
        try:
            text = first.message
            if place == "Log":
                text = await cluster.tail(job_pods.log_path(pod, first.container), MAX_REPORT_BYTES)
            documents = await _threads.run(namespace, partial(format_.documents, text))
        except MalformedReport as error:
            problems.append(f"is not understood: {error}")
        except Permanent as error:
            problems.append(f"cannot be read: {error}")
        else:
            if documents:
                return documents

    if problems:
        raise ReportMissing(problems[0])

    raise ReportMissing(f"is missing: there is none in {_describe_places(source, first.container)}")


def _places_of(container: job_pods.SpeakingContainer) -> tuple[str, str]:
    """Return where a report is looked for, the best place first."""
    # After a failure the kubelet may put the end of the log into the message, which is less than
    # the log itself.
    if container.ended.get("exitCode"):
        return "Log", "TerminationMessage"
    return "TerminationMessage", "Log"


def _describe_places(source: str | None, container: str) -> str:
    places = {
        "TerminationMessage": "the termination message",
        "Log": f"the last {MAX_REPORT_BYTES >> 20} MiB of the log",
    }
    return f"{places[source] if source else ' or '.join(places.values())} of container {container}"


def _require_succeeded(job: Mapping[str, Any], all_pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods that made the Job complete.

    One alone would tell half of a test run that was split. Raises ReportMissing.
    """
    done = job_pods.succeeded_pods(all_pods)
    needed = max(1, job.get("status", {}).get("succeeded") or 0)
    if len(done) < needed:
        raise ReportMissing(f"is missing: of {needed} pods that succeeded {len(done)} are left")
    if len(done) > MAX_PODS:
        raise ReportMissing(
            f"is not read from more than {MAX_PODS} pods, and {len(done)} succeeded"
        )

    return sorted(done, key=lambda pod: str(pod["metadata"]["name"]))


def _require_ended(all_pods: Sequence[Pod]) -> list[Pod]:
    """Return the newest pod whose main container has ended. Raises ReportMissing."""
    ended = [pod for pod in job_pods.newest_first(all_pods) if job_pods.main_container(pod).ended]
    if not ended:
        raise ReportMissing("is missing: no pod is left whose container has run to its end")
    return ended[:1]


def _explain_failure(format_: Format, pod: Pod | None) -> str | None:
    """Return how the pod that failed has ended.

    What the exit code of its main container means to the program stands beside it.
    """
    if pod is None:
        return None

    words = job_pods.describe_exit(pod) or pods.describe_hindrance([pod])
    meant = format_.exits.get(int(job_pods.main_container(pod).ended.get("exitCode", 0)))
    return f"{words} ({meant})" if words and meant else words


def _given_reasons(pod: Pod | None) -> list[str]:
    """Return a reason that the container gives on purpose."""
    if pod is None:
        return []

    published = job_outputs.object_of(job_pods.speaking_container(pod).message) or {}
    keys = ("failed", "error", "reason")
    reasons = [published[key] for key in keys if isinstance(published.get(key), str)]

    return [
        masking.mask_beginning(plain_line(reason, len(reason)), MAX_TEXT_LENGTH)
        for reason in reasons
    ]


def _published_beside(format_: Format, all_pods: Sequence[Pod], finding: Finding) -> Published:
    """Return outputs that the container publishes beside its report.

    The report's own numbers cannot be replaced.
    """
    published = job_outputs.object_of(job_pods.newest_message(all_pods))

    # What is itself a report is no outputs.
    try:
        if not published or format_.documents(json.dumps(published)):
            return Published()
    except (MalformedReport, RecursionError):
        return Published()

    own = {key: value for key, value in published.items() if key not in finding.outputs}
    return job_outputs.bound_outputs(own)
