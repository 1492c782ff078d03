"""The report that a Job's container leaves behind: where it is looked for, and what it makes of the
Job's end.

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
from gatewright.core.model import Progress
from gatewright.core.text import masking
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.connections.concurrency import NamespaceThreads
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import (
    MAX_TEXT_LENGTH,
    Finding,
    Format,
    MalformedReport,
    plain_line,
)
from gatewright.providers.targets import pods
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
    found: Sequence[Pod],
    quiet: bool = False,
) -> Progress:
    """Return the end of a Job that completed; `quiet`: of its report the numbers alone are told.

    Raises Retryable.
    """
    format_ = REPORTS[report.format]

    try:
        done = _require_succeeded(job, found)
        finding = await _judge_reports(cluster, report, done)
    except ReportMissing as error:
        return Progress("Failed", f"its {format_.title} {error}")

    words = f"{format_.title}: {_words_of(finding, quiet)}"

    if not finding.good:
        return Progress("Failed", f"{words}; the exit code was 0")

    more = _published_beside(format_, done, finding)
    if more.refused:
        words = f"{words}; {'some outputs are left out' if quiet else more.refused}"

    outputs = {**finding.outputs, **more.outputs}
    return Progress("Succeeded", words, outputs=outputs, notable=bool(more.refused))


async def progress_of_failed(
    cluster: Cluster, report: JobReport, message: str, found: Sequence[Pod], quiet: bool = False
) -> Progress:
    """Return the end of a Job that failed: never held up by a log that cannot be read.

    `quiet` as for one that completed.
    """
    format_ = REPORTS[report.format]
    pod = job_pods.newest_failed_pod(
        [job_pods.silence_pod(one) for one in found] if quiet else found
    )
    ended = "; ".join(
        part for part in (message, _explain_failure(format_, pod), *_given_reasons(pod)) if part
    )

    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            finding = await _judge_reports(cluster, report, _require_ended(found))
    except ReportMissing as error:
        return Progress("Failed", f"{ended}; its {format_.title} {error}")
    except (Retryable, TimeoutError) as error:
        return Progress(
            "Failed", f"{ended}; its {format_.title} could not be read: {str(error) or 'time-out'}"
        )

    if finding.good:
        return Progress(
            "Failed",
            f"{ended}; its {format_.title} is good all the same: {_words_of(finding, quiet)}",
        )

    return Progress("Failed", f"{format_.title}: {_words_of(finding, quiet)}; {ended}")


def _words_of(finding: Finding, quiet: bool) -> str:
    """Return what a report says; of one that is not to be repeated how many have passed and failed."""
    if not quiet:
        return masking.mask_secrets(finding.words)
    counts = [
        f"{finding.outputs[name]} {name}"
        for name in ("passed", "failed")
        if name in finding.outputs
    ]
    return f"{', '.join(counts) or ('it is good' if finding.good else 'it is bad')} (logs: Never)"


async def _judge_reports(cluster: Cluster, report: JobReport, found: Sequence[Pod]) -> Finding:
    """Return what the reports of all these pods say together. Raises Missing, Retryable."""
    format_ = REPORTS[report.format]

    documents: list[Any] = []
    for pod in found:
        documents += await _read_documents(cluster, format_, report.from_, pod)

    try:
        namespace = str(found[0]["metadata"].get("namespace", ""))
        return await _threads.run(
            namespace, lambda: format_.judge(documents, getattr(report, report.format))
        )
    except MalformedReport as error:
        raise ReportMissing(f"is not understood: {error}") from None


async def _read_documents(
    cluster: Cluster, format_: Format, source: str | None, pod: Pod
) -> list[Any]:
    first = job_pods.main_container(pod)
    # After a failure the kubelet may put the end of the log into the message, which is less than
    # the log itself.
    both = (
        ("TerminationMessage", "Log")
        if not first.ended.get("exitCode")
        else ("Log", "TerminationMessage")
    )
    problems: list[str] = []
    for place in (source,) if source else both:
        try:
            text = first.message
            if place == "Log":
                text = await cluster.tail(job_pods.log_path(pod, first.container), MAX_REPORT_BYTES)
            documents = await _threads.run(
                str(pod["metadata"].get("namespace", "")), partial(format_.documents, text)
            )
        except MalformedReport as error:
            problems.append(f"is not understood: {error}")
        except Permanent as error:
            problems.append(f"cannot be read: {error}")
        else:
            if documents:
                return documents

    raise ReportMissing(
        problems[0]
        if problems
        else f"is missing: there is none in {_describe_places(source, first.container)}"
    )


def _describe_places(source: str | None, container: str) -> str:
    places = {
        "TerminationMessage": "the termination message",
        "Log": f"the last {MAX_REPORT_BYTES >> 20} MiB of the log",
    }
    return f"{places[source] if source else ' or '.join(places.values())} of container {container}"


def _require_succeeded(job: Mapping[str, Any], found: Sequence[Pod]) -> list[Pod]:
    """Return the pods that made the Job complete.

    One alone would tell half of a test run that was split. Raises Missing.
    """
    done = job_pods.succeeded_pods(found)
    wanted = max(1, job.get("status", {}).get("succeeded") or 0)
    if len(done) < wanted:
        raise ReportMissing(f"is missing: of {wanted} pods that succeeded {len(done)} are left")
    if len(done) > MAX_PODS:
        raise ReportMissing(
            f"is not read from more than {MAX_PODS} pods, and {len(done)} succeeded"
        )

    return sorted(done, key=lambda pod: str(pod["metadata"]["name"]))


def _require_ended(found: Sequence[Pod]) -> list[Pod]:
    """Return the newest pod whose main container has ended. Raises Missing."""
    ended = [pod for pod in job_pods.newest_first(found) if job_pods.main_container(pod).ended]
    if not ended:
        raise ReportMissing("is missing: no pod is left whose container has run to its end")
    return ended[:1]


def _explain_failure(format_: Format, pod: Pod | None) -> str | None:
    """Return how the pod that failed has ended, with what the exit code of its main container means
    to the program."""
    if pod is None:
        return None
    words = job_pods.describe_exit(pod) or pods.describe_hindrance([pod])
    meant = format_.exits.get(int(job_pods.main_container(pod).ended.get("exitCode", 0)))
    return f"{words} ({meant})" if words and meant else words


def _given_reasons(pod: Pod | None) -> list[str]:
    """A reason that the container gives on purpose."""
    said = (
        job_outputs.object_of(job_pods.speaking_container(pod).message) if pod is not None else None
    )
    given = (
        [said[key] for key in ("failed", "error", "reason") if isinstance(said.get(key), str)]
        if said
        else []
    )

    return [masking.mask_beginning(plain_line(text, len(text)), MAX_TEXT_LENGTH) for text in given]


def _published_beside(format_: Format, found: Sequence[Pod], finding: Finding) -> Published:
    """Outputs that the container publishes beside its report.

    The report's own numbers cannot be replaced.
    """
    text = next(
        (
            text
            for pod in job_pods.newest_first(found)
            if (text := job_pods.main_container(pod).message)
        ),
        "",
    )
    said = job_outputs.object_of(text)
    try:
        if not said or format_.documents(json.dumps(said)):
            return Published()
    except (MalformedReport, RecursionError):
        return Published()

    return job_outputs.bound_outputs(
        {key: value for key, value in said.items() if key not in finding.outputs}
    )
