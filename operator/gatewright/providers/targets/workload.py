"""`workload:` a Deployment or StatefulSet: its images and environment, and the ConfigMaps and Secrets captured with it.

Its snapshot is the whole pod template; `restore` puts that template back, so that Kubernetes returns to the very
ReplicaSet that ran before. An operation marks the object with its key in an annotation, in the same patch as the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from gatewright.api import KEY
from gatewright.api.base import Duration, Model, Name, ObjectName, Text, seconds
from gatewright.api.jobs import EnvName
from gatewright.core.model import Operation, Progress, Sight
from gatewright.ports import Access, Cluster, Conflict, NotFound, Permanent, Right
from gatewright.providers.targets import pods

Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]


class Captured(Model):
    """A ConfigMap or Secret whose content belongs to the target; exactly one of the two."""

    configMap: ObjectName | None = None
    """Name of a ConfigMap."""
    secret: ObjectName | None = None
    """Name of a Secret; only a hash of it is recorded, and an immutable copy is kept as a Secret."""

    @model_validator(mode="after")
    def _one(self) -> Captured:
        if (self.configMap is None) == (self.secret is None):
            raise ValueError("needs exactly one of configMap, secret")
        return self


class WorkloadConfig(Model):
    """A Deployment or StatefulSet in the Release's namespace."""

    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    """Kind of the workload."""
    name: ObjectName
    """Name of the workload."""
    images: Annotated[dict[Name, Image], Field(max_length=20)] = {}
    """Image by container; usually with `$(version)` as the tag."""
    env: Annotated[dict[Name, Annotated[dict[EnvName, Text], Field(max_length=64)]], Field(max_length=20)] = {}
    """Environment variables by container, set when the target is deployed."""
    config: Annotated[list[Captured], Field(max_length=20)] = []
    """ConfigMaps and Secrets that return to their content when the target is rolled back."""
    drainTimeout: Duration = "30s"
    """How long a complete Deployment waits for pods of the old version, which may still answer, to end; `0s`: not at all.
    Kubernetes tells their number (`status.terminatingReplicas`) from 1.35 on; before that nothing is waited for."""

    @model_validator(mode="after")
    def _something(self) -> WorkloadConfig:
        if not self.images and not self.env:
            raise ValueError("needs images or env: without them no version can be told")
        return self


class Workload:
    """`ports.Target` for Deployments and StatefulSets."""

    config: ClassVar[type[BaseModel]] = WorkloadConfig
    access: ClassVar[Sequence[Access]] = (
        Access(
            "apps", ("deployments", "statefulsets"), ("get", "list", "watch", "patch"), "deploy, follow and restore"
        ),
        Access("", ("pods",), ("list",), "say why a rollout is stuck"),
    )
    author: ClassVar[Sequence[Right]] = (
        Right("patch", "apps", "deployments", ("name",), only=("kind", "Deployment")),
        Right("patch", "apps", "statefulsets", ("name",), only=("kind", "StatefulSet")),
        Right("patch", "", "configmaps", ("config[].configMap",)),
        Right("patch", "", "secrets", ("config[].secret",)),  # a rollback writes it back
    )

    def paths(self, namespace: str, config: WorkloadConfig) -> Sequence[str]:
        return [f"/apis/apps/v1/namespaces/{namespace}/{config.kind.lower()}s/{config.name}"]

    async def look(self, cluster: Cluster, namespace: str, config: WorkloadConfig) -> Sight:
        try:
            found = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            return Sight(
                None, problem=f"there is no {config.kind} {config.name} in namespace {namespace}; create it first"
            )
        template = found["spec"]["template"]
        present = {item["name"]: item for item in _containers(template)}
        missing = sorted({*config.images, *config.env} - set(present))
        if missing:
            names = ", ".join(sorted(present))
            return Sight(None, problem=f"{config.kind} {config.name} has no container {missing[0]} (it has: {names})")
        return Sight(
            {"template": template, "uid": found["metadata"]["uid"]},
            matches=_matches(config, present),
            version=_version(config, present),
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
        for last in (False, False, True):
            found = await cluster.get(path)
            template = _wanted(found, config, operation, snapshot)
            # A patch that was delayed on its way must not arrive after a later one: each names the version it was made for.
            meta = {"annotations": {KEY: operation.key}, "resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                changed = await cluster.patch(path, {"metadata": meta, "spec": {"template": template}}, "strategic")
                return _state(changed, config)
            except Conflict:  # its status was written meanwhile; what was known of it is forgotten, so it is read again
                if last:
                    raise
        raise AssertionError("unreachable")

    async def follow(self, cluster: Cluster, namespace: str, config: WorkloadConfig, operation: Operation) -> Progress:
        try:
            found = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            return Progress("Failed", f"{config.kind} {config.name} is gone")
        if found["metadata"].get("annotations", {}).get(KEY) != operation.key:
            return Progress("Absent")
        return _state(found, config)

    async def trouble(self, cluster: Cluster, namespace: str, config: WorkloadConfig) -> str | None:
        """Why a rollout does not get on, if pods say so. Raises Retryable, Permanent."""
        found = await cluster.get(self.paths(namespace, config)[0])
        labels = found["spec"]["selector"].get("matchLabels", {})
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        return pods.trouble(await cluster.list(f"/api/v1/namespaces/{namespace}/pods", selector)) if selector else None


def _containers(template: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"].get("containers", [])


def _matches(config: WorkloadConfig, present: Mapping[str, Mapping[str, Any]]) -> bool:
    images = all(present[name].get("image") == image for name, image in config.images.items())
    return images and all(
        {item["name"]: item.get("value") for item in present[name].get("env", [])}.get(variable) == value
        for name, variables in config.env.items()
        for variable, value in variables.items()
    )


def _version(config: WorkloadConfig, present: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The tag of the live image, where it is the same repository as the wanted one."""
    for name, wanted in config.images.items():
        repository, _, tag = str(present[name].get("image", "")).rpartition(":")
        if repository and "/" not in tag and "@" not in repository and wanted.rpartition(":")[0] == repository:
            return tag
    return None


def _changed(
    found: Mapping[str, Any], images: Mapping[str, str], env: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """A strategic merge patch of the pod spec: lists merge by container and variable name."""
    change: dict[str, Any] = {}
    spec = found["spec"]["template"]["spec"]
    for group in ("initContainers", "containers"):
        for name in [item["name"] for item in spec.get(group, [])]:
            item: dict[str, Any] = {"name": name}
            if name in images:
                item["image"] = images[name]
            if name in env:
                item["env"] = [{"name": variable, "value": value} for variable, value in env[name].items()]
            if len(item) > 1:
                change.setdefault(group, []).append(item)
    changed = {item["name"] for items in change.values() for item in items}
    missing = sorted({*images, *env} - changed)
    if missing:
        raise Permanent(f"{found['metadata']['name']} has no container {missing[0]}")
    return change


def _wanted(
    found: Mapping[str, Any], config: WorkloadConfig, operation: Operation, snapshot: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The change of the pod template that an operation stands for. Raises Permanent."""
    if operation.kind == "set":
        env = {operation.config["container"]: operation.config["set"]}
        return {"spec": _changed(found, {}, env)}
    if operation.kind != "restore":
        return {"spec": _changed(found, config.images, config.env)}
    if snapshot is None:
        raise Permanent(f"there is no snapshot of {operation.subject}")
    if found["metadata"]["uid"] != snapshot["uid"]:
        name = found["metadata"]["name"]
        raise Permanent(f"{config.kind} {name} is not the one that the snapshot is of: it was deleted and made again")
    return {"$patch": "replace", **snapshot["template"]}


def _state(found: Mapping[str, Any], config: WorkloadConfig) -> Progress:
    """Whether a rollout is complete, as `kubectl rollout status` tells it, and the old version has stopped answering."""
    spec, status, meta = found["spec"], found.get("status", {}), found["metadata"]
    wanted = spec.get("replicas", 1)
    if wanted == 0:
        return Progress("Succeeded")  # no pod is wanted, so there is nothing to wait for
    if spec.get("paused"):
        return Progress("Running", f"{found['kind']} {meta['name']} is paused (kubectl rollout resume)", stuck=True)
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        return Progress("Running", "the change has not been seen yet")
    for condition in status.get("conditions", []):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Progress(
                "Failed", f"{found['kind']} {meta['name']}: {condition.get('message', 'progress deadline exceeded')}"
            )
    if found.get("kind") == "StatefulSet":
        return _stateful(wanted, status, spec)
    return _deployment(wanted, status, seconds(config.drainTimeout))


def _deployment(wanted: int, status: Mapping[str, Any], drain: float) -> Progress:
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return Progress("Running", f"{updated} of {wanted} replicas updated")
    if total > updated:
        return Progress("Running", f"{total - updated} old replicas are still there")
    if status.get("availableReplicas", 0) < wanted:
        return Progress("Running", f"{status.get('availableReplicas', 0)} of {wanted} replicas available")
    if _draining(status, drain):
        return Progress("Running", f"{status['terminatingReplicas']} old replicas are still ending")
    return Progress("Succeeded")


def _draining(status: Mapping[str, Any], drain: float) -> bool:
    """Whether pods that are going away may still answer: what is asked next must not meet the old version."""
    if not status.get("terminatingReplicas"):
        return False
    since = next(
        (
            item["lastUpdateTime"]
            for item in status.get("conditions", [])
            if item["type"] == "Progressing" and item.get("reason") == "NewReplicaSetAvailable"
        ),
        None,
    )
    return since is not None and datetime.now(UTC) - datetime.fromisoformat(since) < timedelta(seconds=drain)


def _stateful(wanted: int, status: Mapping[str, Any], spec: Mapping[str, Any]) -> Progress:
    partition = spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0)
    if spec.get("updateStrategy", {}).get("type") == "OnDelete":
        return Progress("Running", "updateStrategy OnDelete: delete the pods to go on", stuck=True)
    if status.get("updatedReplicas", 0) < wanted - partition or status.get("readyReplicas", 0) < wanted:
        return Progress("Running", f"{status.get('updatedReplicas', 0)} of {wanted - partition} replicas updated")
    if not partition and status.get("updateRevision") != status.get("currentRevision"):
        return Progress("Running", "the last replicas are becoming ready")
    return Progress("Succeeded")
