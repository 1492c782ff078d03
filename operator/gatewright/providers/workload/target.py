"""`workload:` a Deployment or StatefulSet: its images and environment, and the ConfigMaps and
Secrets captured with it.

Its snapshot is the whole pod template. `restore` is three-way: what the run has set goes back, what
others changed stays; where nobody did, the template is the snapshot's to the letter, so that
Kubernetes returns to the very ReplicaSet that ran before. Every change is the whole new template,
computed here from the object as it was read, in one patch with the operation's key as an
annotation, under the precondition that the object is still that one.

    config.py           what a user writes
    wanted.py           what operations want, taken together
    template.py         what is wanted of a template, and where one differs
    applying.py         the new template, and the patch that brings it
    rollout.py          how far a rollout is
    comparing.py        what runs instead of what is wanted
    availability.py     whether what was deployed runs
    managers.py         who set what differs
    owned.py, pods.py   what its pods and Events say
    captured.py         what restarts pods when captured configuration has changed
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api import KEY
from gatewright.api.base import seconds
from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.permissions import AuthorPermission
from gatewright.ports import Access, Cluster, Conflict, NotFound, Trouble
from gatewright.providers.workload import (
    applying,
    availability,
    comparing,
    managers,
    owned,
    pods,
    rollout,
    template,
)
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.wanted import fields_of, wanted_fields


class Workload:
    """`ports.Target` for Deployments and StatefulSets."""

    config: ClassVar[type[BaseModel]] = WorkloadConfig
    access: ClassVar[Sequence[Access]] = (
        Access(
            "apps",
            ("deployments", "statefulsets"),
            ("get", "list", "watch", "patch"),
            "deploy, follow and restore",
        ),
        Access(
            "",
            ("pods",),
            ("list",),
            "say why a rollout is stuck, and whether what was deployed crashes",
        ),
        Access(
            "",
            ("pods",),
            ("delete",),
            "take broken pods of a withdrawn version out of a StatefulSet's way",
        ),
        Access("", ("events",), ("list",), "say why pods are not created, or do not start"),
    )
    author: ClassVar[Sequence[AuthorPermission]] = (
        AuthorPermission("patch", "apps", "deployments", ("name",), only=("kind", "Deployment")),
        AuthorPermission("patch", "apps", "statefulsets", ("name",), only=("kind", "StatefulSet")),
        # Their names are known only when they break.
        AuthorPermission("delete", "", "pods", only=("kind", "StatefulSet")),
        AuthorPermission("patch", "", "configmaps", ("config[].configMap",)),
        # A rollback writes it back.
        AuthorPermission("patch", "", "secrets", ("config[].secret",)),
    )

    def paths(self, namespace: str, config: WorkloadConfig) -> Sequence[str]:
        return [f"/apis/apps/v1/namespaces/{namespace}/{config.kind.lower()}s/{config.name}"]

    async def look(self, cluster: Cluster, namespace: str, config: WorkloadConfig) -> LiveState:
        try:
            workload = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            title = f"{config.kind} {config.name}"
            problem = f"there is no {title} in namespace {namespace}; create it first"
            return LiveState(None, problem=problem)

        live_template = workload["spec"]["template"]
        problem = _explain_unusable(live_template, config)
        if problem:
            return LiveState(None, problem=problem)

        matches = not template.list_differences(live_template, fields_of(config))
        progress = rollout.progress_of_rollout(workload, Operation("", "apply", ""), 0.0)
        complete = progress.state == "Succeeded"

        # Where all of its pods have the version, nothing is held.
        held = "" if matches and complete else rollout.explain_held_back(workload)
        if held:
            remedy = "set updateStrategy to RollingUpdate without a partition"
            return LiveState(None, problem=f"{held}; {remedy}")

        replicas = workload["spec"].get("replicas", 1)
        unready = ""
        if not complete:
            unready = await self._explain_incomplete(cluster, namespace, config, workload, progress)
        elif matches and replicas:
            # It may be taken over as it is: what its pods run decides.
            unready = await comparing.explain_unsound(
                cluster, namespace, workload, fields_of(config)
            )

        return LiveState(
            {"template": live_template, "uid": workload["metadata"]["uid"], "replicas": replicas},
            matches=matches,
            version=comparing.live_version(config, workload),
            unready=unready,
        )

    async def perform(
        self,
        cluster: Cluster,
        namespace: str,
        config: WorkloadConfig,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        path = self.paths(namespace, config)[0]
        for is_last in (False, False, True):
            workload = await _read_existing(cluster, path, config)
            new_template = await applying.template_for(
                cluster, namespace, workload, config, operation, snapshot
            )
            patch = applying.patch_for(workload, new_template, operation)

            try:
                changed = await cluster.patch(path, patch, "json")
                return await self._progress_of(
                    cluster, namespace, changed, config, operation, snapshot
                )
            except Conflict:
                # Its status was written meanwhile. What was known of it is forgotten, so it is
                # read again.
                if is_last:
                    raise

        raise AssertionError("unreachable")

    async def follow(
        self,
        cluster: Cluster,
        namespace: str,
        config: WorkloadConfig,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        try:
            workload = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            return Progress("Failed", _gone_message(config), missing=True)

        annotations = workload["metadata"].get("annotations") or {}
        if annotations.get(KEY) != operation.key:
            return Progress("Absent")

        return await self._progress_of(cluster, namespace, workload, config, operation, snapshot)

    async def compare(
        self,
        cluster: Cluster,
        namespace: str,
        config: WorkloadConfig,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
        window: float | None,
        closely: bool = False,
    ) -> Standing:
        path = self.paths(namespace, config)[0]
        wanted = wanted_fields(config, operations, snapshot)
        try:
            workload = await cluster.get(path)
        except NotFound:
            return Standing(difference=_gone_message(config))

        if workload["metadata"].get("deletionTimestamp"):
            leaving = f"{config.kind} {config.name} is being deleted; apply it again"
            return Standing(difference=leaving)

        difference = await managers.explain_difference(
            cluster,
            path,
            workload,
            lambda now: template.list_differences(now["spec"]["template"], wanted),
        )
        standing = Standing(difference=difference, version=comparing.live_version(config, workload))
        is_restored = any(operation.kind == "restore" for operation in operations)

        if workload["spec"].get("replicas", 1) == 0:
            # How many pods there are belongs to others, and a rollback leaves it to them.
            watched = None if is_restored else window
            return await comparing.judge_unwanted(
                cluster, path, workload, standing, snapshot, watched
            )
        if not difference and rollout.is_unseen(workload):
            return replace(standing, unknown="its controller has not seen the last change yet")
        if not difference:
            difference = await comparing.explain_still_running(cluster, namespace, workload, wanted)
        # What somebody else has put there is not watched.
        if difference or window is None:
            return replace(standing, difference=difference)

        differs = functools.partial(comparing.describe_instead, wanted=wanted)
        health = await availability.check_health(
            cluster, namespace, workload, window, datetime.now(UTC), differs, closely
        )
        return comparing.add_health(standing, workload, health, is_restored)

    async def trouble(
        self, cluster: Cluster, namespace: str, config: WorkloadConfig
    ) -> Trouble | None:
        workload = await cluster.get(self.paths(namespace, config)[0])
        every = await owned.list_pods(cluster, namespace, workload)
        listed = owned.current_pods(workload, every)

        hindrance = pods.find_hindrance_of(listed)
        if hindrance is not None:
            return hindrance
        refused = rollout.explain_refusal(workload)
        if refused:
            return Trouble(refused)

        # A StatefulSet has no condition that says why pods are missing; only its Events do.
        are_missing = len(listed) < workload["spec"].get("replicas", 1)
        if workload.get("kind") == "StatefulSet" and are_missing:
            hindrance = await owned.find_creation_trouble(cluster, namespace, workload)

        hindrance = hindrance or await owned.find_mount_trouble(cluster, namespace, listed)
        return hindrance or pods.find_unready(listed, datetime.now(UTC))

    async def _explain_incomplete(
        self,
        cluster: Cluster,
        namespace: str,
        config: WorkloadConfig,
        workload: Mapping[str, Any],
        progress: Progress,
    ) -> str:
        """Say how far a rollout is that others have begun, and what is in its way."""
        trouble = await self.trouble(cluster, namespace, config)
        cause = f" ({trouble.message})" if trouble else ""
        return f"{rollout.title_of(workload)}: {progress.message}{cause}"

    async def _progress_of(
        self,
        cluster: Cluster,
        namespace: str,
        workload: Mapping[str, Any],
        config: WorkloadConfig,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Return how far an operation is whose key the object carries.

        Raises Retryable, Permanent.
        """
        wanted = wanted_fields(config, [operation], snapshot)
        difference = await managers.explain_difference(
            cluster,
            self.paths(namespace, config)[0],
            workload,
            lambda now: comparing.list_lacking(now, wanted, operation),
        )
        if difference:
            return Progress("Running", difference, stuck=True, overwritten=True)
        # It has just been set right, which is not known here yet.
        if comparing.list_lacking(workload, wanted, operation):
            return Progress("Running", "the change has not been seen yet")

        progress = rollout.progress_of_rollout(workload, operation, seconds(config.drainTimeout))
        is_stateful = workload.get("kind") == "StatefulSet"
        # Pods of a StatefulSet came one after the other: the first may have crashed since it was
        # ready.
        if progress.state == "Succeeded" and not is_stateful:
            availability.record_complete(workload)
        if progress.state != "Succeeded" and is_stateful:
            progress = await applying.unblock_pods(
                cluster, namespace, workload, operation, progress
            )

        others = comparing.describe_foreign_changes(workload, config, operation, snapshot)
        if others and progress.state in ("Running", "Succeeded"):
            message = "; ".join(filter(None, (progress.message, others)))
            return replace(progress, message=message, notable=True)

        return progress


def _explain_unusable(live_template: template.Template, config: WorkloadConfig) -> str:
    """Say why a workload cannot be deployed at all; empty where it can."""
    title = f"{config.kind} {config.name}"
    large = template.explain_too_large(live_template)
    if large:
        return f"{title} {large}"

    present = template.containers_by_name(live_template)
    missing = sorted({*config.images, *config.env} - set(present))
    if missing:
        names = ", ".join(sorted(present))
        return f"{title} has no container {missing[0]} (it has: {names})"

    return ""


async def _read_existing(cluster: Cluster, path: str, config: WorkloadConfig) -> dict[str, Any]:
    try:
        return await cluster.get(path)
    except NotFound:
        raise NotFound(_gone_message(config)) from None


def _gone_message(config: WorkloadConfig) -> str:
    return f"{config.kind} {config.name} is gone; apply it again"
