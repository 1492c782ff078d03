"""The report that a Job's container leaves behind: where it is looked for, and what it makes of the Job's end.

A Job that failed stays failed, whatever its report says; the report names the first test. A Job that completed has
failed after all where its report is bad, missing, cut off or not understood.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from gatewright.api.jobs import JobReport
from gatewright.core.model import Progress
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import Finding, Format, Malformed, plain
from gatewright.providers.targets import pods
from gatewright.runtime.kube import path

LIMIT = 2**20
"""Bytes of a log that are read, its last ones."""
MOST = 8
"""Pods of one Job whose reports are read."""
BRIEF = 5.0
"""Seconds that the report of a Job that failed anyway may take."""
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
Pod = Mapping[str, Any]


class Missing(Exception):
    """There is no report that could be judged; the message says what is the matter with it."""


async def completed(
    cluster: Cluster, namespace: str, report: JobReport, job: Mapping[str, Any], found: Sequence[Pod]
) -> Progress:
    """The end of a Job that completed. Raises Retryable."""
    format_ = REPORTS[report.format]
    try:
        finding = await _finding(cluster, namespace, report, _succeeded(job, found))
    except Missing as error:
        return Progress("Failed", f"its {format_.title} {error}")
    words = f"{format_.title}: {finding.words}"
    if not finding.good:
        return Progress("Failed", f"{words}; the exit code was 0")
    return Progress("Succeeded", words, outputs={**finding.outputs, **_given(format_, found, finding)})


async def failed(cluster: Cluster, namespace: str, report: JobReport, message: str, found: Sequence[Pod]) -> Progress:
    """The end of a Job that failed: never held up by a log that cannot be read."""
    format_ = REPORTS[report.format]
    ended = "; ".join(part for part in (message, _why(format_, found), *_said(found)) if part)
    try:
        async with asyncio.timeout(BRIEF):
            finding = await _finding(cluster, namespace, report, _last(found))
    except Missing as error:
        return Progress("Failed", f"{ended}; its {format_.title} {error}")
    except (Retryable, TimeoutError) as error:
        return Progress("Failed", f"{ended}; its {format_.title} could not be read: {str(error) or 'time-out'}")
    if finding.good:
        return Progress("Failed", f"{ended}; its {format_.title} is good all the same: {finding.words}")
    return Progress("Failed", f"{format_.title}: {finding.words}; {ended}")


async def _finding(cluster: Cluster, namespace: str, report: JobReport, found: Sequence[Pod]) -> Finding:
    """What the reports of all these pods say together. Raises Missing, Retryable."""
    format_ = REPORTS[report.format]
    documents: list[Any] = []
    for pod in found:
        documents += await _documents(cluster, namespace, format_, report.from_, pod)
    try:
        return await asyncio.to_thread(format_.judge, documents, getattr(report, report.format))
    except Malformed as error:
        raise Missing(f"is not understood: {error}") from None


async def _documents(cluster: Cluster, namespace: str, format_: Format, source: str | None, pod: Pod) -> list[Any]:
    name, ended = _container(pod)
    # After a failure the kubelet may put the end of the log into the message, which is less than the log itself.
    both = ("TerminationMessage", "Log") if not ended.get("exitCode") else ("Log", "TerminationMessage")
    problems: list[str] = []
    for place in (source,) if source else both:
        try:
            text = str(ended.get("message") or "")
            if place == "Log":
                text = await cluster.tail(_log(namespace, pod, name), LIMIT)
            documents = await asyncio.to_thread(format_.documents, text)
        except Malformed as error:
            problems.append(f"is not understood: {error}")
        except Permanent as error:
            problems.append(f"cannot be read: {error}")
        else:
            if documents:
                return documents
    raise Missing(problems[0] if problems else f"is missing: there is none in {_places(source, name)}")


def _places(source: str | None, container: str) -> str:
    places = {"TerminationMessage": "the termination message", "Log": f"the last {LIMIT >> 20} MiB of the log"}
    return f"{places[source] if source else ' or '.join(places.values())} of container {container}"


def log_path(namespace: str, pod: Pod) -> str:
    """Path of the log of the container that a person would mean."""
    return _log(namespace, pod, _container(pod)[0])


def _log(namespace: str, pod: Pod, container: str) -> str:
    return f"{path('v1', 'pods', namespace, pod['metadata']['name'], 'log')}?{urlencode({'container': container})}"


def _container(pod: Pod) -> tuple[str, Mapping[str, Any]]:
    """The container that a person would mean, and how it ended; empty where it has not. Raises nothing."""
    meta, containers = pod["metadata"], pod["spec"]["containers"]
    wanted = (meta.get("annotations") or {}).get(DEFAULT_CONTAINER)
    name = str(wanted if any(item["name"] == wanted for item in containers) else containers[0]["name"])
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == name:
            return name, status.get("state", {}).get("terminated", {})
    return name, {}


def _succeeded(job: Mapping[str, Any], found: Sequence[Pod]) -> list[Pod]:
    """The pods that made the Job complete; one alone would tell half of a test run that was split. Raises Missing."""
    done = [pod for pod in found if pod.get("status", {}).get("phase") == "Succeeded"]
    wanted = max(1, job.get("status", {}).get("succeeded") or 0)
    if len(done) < wanted:
        raise Missing(f"is missing: of {wanted} pods that succeeded {len(done)} are left")
    if len(done) > MOST:
        raise Missing(f"is not read from more than {MOST} pods, and {len(done)} succeeded")
    return sorted(done, key=lambda pod: str(pod["metadata"]["name"]))


def _last(found: Sequence[Pod]) -> list[Pod]:
    """The newest pod whose container has ended. Raises Missing."""
    ended = [pod for pod in found if _container(pod)[1]]
    if not ended:
        raise Missing("is missing: no pod is left whose container has run to its end")
    return [max(ended, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))]


def _why(format_: Format, found: Sequence[Pod]) -> str | None:
    """How the last container ended, with what the exit code means to the program."""
    words = pods.trouble(found) or pods.exit_reason(found)
    codes = [int(_container(pod)[1].get("exitCode", 0)) for pod in found]
    meant = [format_.exits[code] for code in codes if code in format_.exits]
    return f"{words} ({meant[-1]})" if words and meant else words


def _message(found: Sequence[Pod]) -> dict[str, Any]:
    """The JSON object of the termination message, if that is what it is."""
    try:
        said = json.loads(pods.termination_message(found))
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _said(found: Sequence[Pod]) -> list[str]:
    """A reason that the container gives on purpose."""
    said = _message(found)
    return [plain(said[key]) for key in ("failed", "error", "reason") if isinstance(said.get(key), str)]


def _given(format_: Format, found: Sequence[Pod], finding: Finding) -> dict[str, str]:
    """Outputs that the container publishes beside its report; the report's own numbers cannot be replaced."""
    said = _message(found)
    try:
        if not said or format_.documents(json.dumps(said)):
            return {}
    except Malformed:
        return {}
    return {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in said.items()
        if key not in finding.outputs
    }
