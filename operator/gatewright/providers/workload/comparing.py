"""What a workload has, or its pods run, instead of what is wanted; and what others did to it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import Cluster
from gatewright.providers.workload import availability, managers, owned, pods, rollout, template
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.template import Difference, TemplateFields
from gatewright.providers.workload.wanted import config_of, named_fields

CRASH_WINDOW_S = 60.0
"""Seconds for which a container that has crashed must have run before a version is taken over as it
is."""
MAX_NAMES_IN_MESSAGE = 5
"""Places that others have changed which a message names; of more only the number."""


def live_version(config: WorkloadConfig, workload: Mapping[str, Any]) -> str | None:
    """Return the tag of the live image, where it is the same repository as the wanted one."""
    present = template.containers_by_name(workload["spec"]["template"])
    for name, wanted_image in config.images.items():
        image = str(present.get(name, {}).get("image", "")).partition("@")[0]
        repository, _, tag = image.rpartition(":")
        wanted_repository = wanted_image.partition("@")[0].rpartition(":")[0]

        # With a slash in it, it is the end of `registry:5000/app`, an image without a tag.
        if repository and "/" not in tag and wanted_repository == repository:
            return tag

    return None


def list_lacking(
    workload: Mapping[str, Any], wanted: TemplateFields, operation: Operation
) -> list[Difference]:
    """List where the object has something else than an operation wants of it.

    The operation's mark of a restart counts as well.
    """
    live_template = workload["spec"]["template"]
    lacking = template.list_differences(live_template, wanted)
    mark = template.read_annotation(live_template, template.RESTART_ANNOTATION)
    if operation.restart and mark != operation.key:
        lost = f"has lost the annotation {template.RESTART_ANNOTATION}, which starts its pods anew"
        lacking.append(Difference(lost))

    return lacking


def describe_foreign_changes(
    workload: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> str:
    """Say what others have changed since the snapshot, which a restore leaves as it is.

    Raises Permanent.
    """
    # Nothing of others is left where the whole template goes back.
    own = config_of(operation, config)
    if operation.kind != "restore" or snapshot is None or own.restore == "Template":
        return ""

    changed = template.list_foreign_changes(
        workload["spec"]["template"], snapshot["template"], named_fields(operation, config)
    )
    if not changed:
        return ""

    more = len(changed) - MAX_NAMES_IN_MESSAGE
    rest = f" and {more} more" if more > 0 else ""
    return f"{', '.join(changed[:MAX_NAMES_IN_MESSAGE])}{rest} changed meanwhile; it stays"


async def explain_still_running(
    cluster: Cluster, namespace: str, workload: Mapping[str, Any], wanted: TemplateFields
) -> str:
    """Name a pod that runs something else than the template says; empty where there is none.

    The template was changed and changed back, and its pods have not followed: the rollout is
    paused, or a quota is full. Raises Retryable, Permanent.
    """
    if not rollout.is_mixed(workload):
        return ""

    for pod in await owned.list_pods(cluster, namespace, workload):
        instead = describe_instead(pod, wanted)
        if not instead or pods.is_leaving(pod):
            continue

        why = rollout.progress_of_rollout(workload, Operation("", "apply", ""), 0.0).message
        name = pod["metadata"]["name"]
        words = f"{rollout.title_of(workload)} is set right, but its pod {name} {instead}"
        return f"{words}: {why}" if why else words

    return ""


async def explain_unsound(
    cluster: Cluster, namespace: str, workload: Mapping[str, Any], wanted: TemplateFields
) -> str:
    """Say what its pods run instead, or how they crashed lately; empty where they run what it
    wants. Raises Retryable, Permanent."""
    differs = functools.partial(describe_instead, wanted=wanted)
    health = await availability.check_health(
        cluster, namespace, workload, CRASH_WINDOW_S, datetime.now(UTC), differs, closely=True
    )
    if health.trouble or not health.stray:
        return health.trouble
    return f"{rollout.title_of(workload)}: its {health.stray}"


async def judge_unwanted(
    cluster: Cluster,
    path: str,
    workload: Mapping[str, Any],
    standing: Standing,
    snapshot: Mapping[str, Any] | None,
    window: float | None,
) -> Standing:
    """Judge a workload of which no pod is wanted: as it was before, or is that new?"""
    title = rollout.title_of(workload)
    before = (snapshot or {}).get("replicas", 0)
    if not before or window is None:
        return replace(standing, remark=f"nobody runs it: {title} wants no pods")

    words = f"wants no pod any more: replicas is 0, it was {before}"
    gone = Difference(words, place=("f:spec", "f:replicas"))

    def list_gone(now: Mapping[str, Any]) -> list[Difference]:
        return [gone] if now["spec"].get("replicas", 1) == 0 else []

    trouble = await managers.explain_difference(cluster, path, workload, list_gone)
    # Somebody wants pods again by now.
    if not trouble:
        return standing

    now = datetime.now(UTC)
    return replace(standing, trouble=trouble, troubled_since=now, troubled_at=now)


def add_health(
    standing: Standing, workload: Mapping[str, Any], health: availability.Health, is_restored: bool
) -> Standing:
    """Return a standing with what the pods of a workload say."""
    stray = ""
    if health.stray:
        title = rollout.title_of(workload)
        stray = f"{title} is as wanted, but its {health.stray}; delete that pod"

    return replace(
        standing,
        difference=stray,
        trouble=health.trouble,
        troubled_since=health.since,
        troubled_at=health.at,
        rolled_out=_serves_since(workload, health) if is_restored else None,
    )


def _serves_since(workload: Mapping[str, Any], health: availability.Health) -> datetime | None:
    """Return since when it runs as it does: its rollout was complete, and one of its pods has been
    there from then on."""
    completed = rollout.completed_at(workload.get("status") or {}) or health.ready_at
    moments = (completed, health.ready_since)
    return max((moment for moment in moments if moment is not None), default=None)


def describe_instead(pod: Mapping[str, Any], wanted: TemplateFields) -> str:
    """Say what a pod runs instead of what is wanted; empty where it runs that."""
    differences = template.list_differences({"spec": pod["spec"]}, wanted.of_a_pod())
    return differences[0].words if differences else ""
