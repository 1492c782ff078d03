"""`workload:` a Deployment or StatefulSet: its images and environment, and the ConfigMaps and
Secrets captured with it.

Its snapshot is the whole pod template. `restore` is three-way: what the run has set goes back, what
others changed stays; where nobody did, the template is the snapshot's to the letter, so that
Kubernetes returns to the very ReplicaSet that ran before. Every change is the whole new template,
computed here from the object as it was read, in one patch with the operation's key as an
annotation, under the precondition that the object is still that one.

    template.py       what is wanted of a template, and where one differs
    rollout.py        how far a rollout is
    availability.py   whether what was deployed runs
    managers.py       who set what differs
    owned.py, pods.py what its pods and Events say
    captured.py       what restarts pods when captured configuration has changed
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from gatewright.api import KEY
from gatewright.api.base import Duration, Model, Name, ObjectName, Text, seconds
from gatewright.api.jobs import EnvName
from gatewright.core.memory import Memory
from gatewright.core.model import LiveState, Operation, Progress, Standing
from gatewright.core.permissions import AuthorPermission
from gatewright.ports import (
    Access,
    Cluster,
    Conflict,
    NotFound,
    Permanent,
    Trouble,
)
from gatewright.providers.workload import (
    availability,
    captured,
    managers,
    owned,
    pods,
    rollout,
    template,
)
from gatewright.providers.workload.template import Difference, TemplateFields

Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]
CRASH_WINDOW_S = 60.0
"""Seconds for which a container that has crashed must have run before a version is taken over as it
is."""
MAX_NAMES_IN_MESSAGE = 5
"""Places that others have changed which a message names; of more only the number."""


class Captured(Model):
    """A ConfigMap or Secret whose content belongs to the target; exactly one of the two."""

    configMap: ObjectName | None = None
    """Name of a ConfigMap."""
    secret: ObjectName | None = None
    """Name of a Secret; only a hash of it is recorded, and an immutable copy is kept as a
    Secret."""
    restore: Literal["Always"] | None = None
    """With `secret`: Always returns it in a rollback even if somebody changed it during the run.
    Left out: it then stays."""

    @model_validator(mode="after")
    def _require_one(self) -> Captured:
        if (self.configMap is None) == (self.secret is None):
            raise ValueError("needs exactly one of configMap, secret")
        if self.restore is not None and self.secret is None:
            raise ValueError("restore belongs to secret: a ConfigMap always returns")
        return self


class WorkloadConfig(Model):
    """A Deployment or StatefulSet in the Release's namespace."""

    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    """Kind of the workload."""
    name: ObjectName
    """Name of the workload."""
    images: Annotated[dict[Name, Image], Field(max_length=20)] = {}
    """Image by container; usually with `$(version)` as the tag."""
    env: Annotated[
        dict[Name, Annotated[dict[EnvName, Text], Field(max_length=64)]], Field(max_length=20)
    ] = {}
    """Environment variables by container, set when the target is deployed."""
    config: Annotated[list[Captured], Field(max_length=20)] = []
    """ConfigMaps and Secrets that return to their content when the target is rolled back."""
    restore: Literal["Change", "Template"] = "Change"
    """What a rollback puts back: `Change` what the run has set (images, variables), so that what
    others changed meanwhile, such as resources or a sidecar, stays and is named; `Template` the
    whole pod template from before the first change."""
    drainTimeout: Duration = "30s"
    """How long a complete Deployment waits for pods of the old version, which may still answer, to
    end; `0s`: not at all. Kubernetes tells their number (`status.terminatingReplicas`) from 1.35
    on; before that nothing is waited for."""

    @model_validator(mode="after")
    def _require_version(self) -> WorkloadConfig:
        if not self.images and not self.env:
            raise ValueError("needs images or env: without them no version can be told")
        return self


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
        AuthorPermission(
            "delete", "", "pods", only=("kind", "StatefulSet")
        ),  # their names are known only when they break
        AuthorPermission("patch", "", "configmaps", ("config[].configMap",)),
        AuthorPermission("patch", "", "secrets", ("config[].secret",)),  # a rollback writes it back
    )

    def paths(self, namespace: str, config: WorkloadConfig) -> Sequence[str]:
        return [f"/apis/apps/v1/namespaces/{namespace}/{config.kind.lower()}s/{config.name}"]

    async def look(self, cluster: Cluster, namespace: str, config: WorkloadConfig) -> LiveState:
        try:
            found = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            return LiveState(
                None,
                problem=(
                    f"there is no {config.kind} {config.name} in namespace {namespace}; create "
                    "it first"
                ),
            )
        large = template.explain_too_large(found["spec"]["template"])
        if large:
            return LiveState(None, problem=f"{config.kind} {config.name} {large}")
        present = template.containers_by_name(found["spec"]["template"])
        missing = sorted({*config.images, *config.env} - set(present))
        if missing:
            names = ", ".join(sorted(present))
            return LiveState(
                None,
                problem=(
                    f"{config.kind} {config.name} has no container {missing[0]} (it has: {names})"
                ),
            )
        matches = not template.list_differences(found["spec"]["template"], _fields_of(config))
        rolled_out = rollout.progress_of_rollout(found, Operation("", "apply", ""), 0.0)
        held = rollout.explain_held_back(found)
        if held and not (
            matches and rolled_out.state == "Succeeded"
        ):  # all of its pods have the version: nothing is held
            return LiveState(
                None, problem=f"{held}; set updateStrategy to RollingUpdate without a partition"
            )
        unready = ""
        if rolled_out.state != "Succeeded":
            said = await self.trouble(cluster, namespace, config)
            unready = f"{rollout.title_of(found)}: {rolled_out.message}" + (
                f" ({said.message})" if said else ""
            )
        elif matches and found["spec"].get(
            "replicas", 1
        ):  # it may be taken over as it is: what its pods run decides
            unready = await _explain_unsound(cluster, namespace, found, _fields_of(config))
        return LiveState(
            {
                "template": found["spec"]["template"],
                "uid": found["metadata"]["uid"],
                "replicas": found["spec"].get("replicas", 1),
            },
            matches=matches,
            version=_live_version(config, found),
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
        for last in (False, False, True):
            found = await _read_existing(cluster, path, config)
            wanted = await _template_for(cluster, namespace, found, config, operation, snapshot)
            try:
                changed = await cluster.patch(path, _patch_for(found, wanted, operation), "json")
                return await self._progress_of(
                    cluster, namespace, changed, config, operation, snapshot
                )
            # its status was written meanwhile; what was known of it is forgotten, so it is read
            # again
            except Conflict:
                if last:
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
            found = await cluster.get(self.paths(namespace, config)[0])
        except NotFound:
            return Progress("Failed", _gone_message(config), missing=True)
        if (found["metadata"].get("annotations") or {}).get(KEY) != operation.key:
            return Progress("Absent")
        return await self._progress_of(cluster, namespace, found, config, operation, snapshot)

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
        wanted = _wanted_fields(config, operations, snapshot)
        try:
            found = await cluster.get(path)
        except NotFound:
            return Standing(difference=_gone_message(config))
        if found["metadata"].get("deletionTimestamp"):
            return Standing(
                difference=f"{config.kind} {config.name} is being deleted; apply it again"
            )
        difference = await managers.explain_difference(
            cluster,
            path,
            found,
            lambda now: template.list_differences(now["spec"]["template"], wanted),
        )
        standing = Standing(difference=difference, version=_live_version(config, found))
        if found["spec"].get("replicas", 1) == 0:
            if any(item.kind == "restore" for item in operations):
                # How many pods there are belongs to others, and a rollback leaves it to them.
                window = None
            return await self._judge_unwanted(cluster, path, found, standing, snapshot, window)
        if not difference and rollout.is_unseen(found):
            return replace(standing, unknown="its controller has not seen the last change yet")
        difference = difference or await _explain_still_running(cluster, namespace, found, wanted)
        standing = replace(standing, difference=difference)
        if difference or window is None:  # what somebody else has put there is not watched
            return standing
        differs = functools.partial(_describe_instead, wanted=wanted)
        seen = await availability.check_health(
            cluster, namespace, found, window, datetime.now(UTC), differs, closely
        )
        stray = (
            f"{rollout.title_of(found)} is as wanted, but its {seen.stray}; delete that pod"
            if seen.stray
            else ""
        )
        restored = any(item.kind == "restore" for item in operations)
        return replace(
            standing,
            difference=stray,
            trouble=seen.trouble,
            troubled_since=seen.since,
            troubled_at=seen.at,
            rolled_out=_serves_since(found, seen) if restored else None,
        )

    async def trouble(
        self, cluster: Cluster, namespace: str, config: WorkloadConfig
    ) -> Trouble | None:
        found = await cluster.get(self.paths(namespace, config)[0])
        listed = owned.current_pods(found, await owned.list_pods(cluster, namespace, found))
        said = pods.find_hindrance_of(listed)
        if said is not None:
            return said
        refused = rollout.explain_refusal(found)
        if refused:
            return Trouble(refused)
        if found.get("kind") == "StatefulSet" and len(listed) < found["spec"].get("replicas", 1):
            said = await owned.find_creation_trouble(cluster, namespace, found)
        said = said or await owned.find_mount_trouble(cluster, namespace, listed)
        return said or pods.find_unready(listed, datetime.now(UTC))

    async def _progress_of(
        self,
        cluster: Cluster,
        namespace: str,
        found: Mapping[str, Any],
        config: WorkloadConfig,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """How far an operation is whose key the object carries. Raises Retryable, Permanent."""
        wanted = _wanted_fields(config, [operation], snapshot)
        difference = await managers.explain_difference(
            cluster,
            self.paths(namespace, config)[0],
            found,
            lambda now: _list_lacking(now, wanted, operation),
        )
        if difference:
            return Progress("Running", difference, stuck=True, overwritten=True)
        # It has just been set right, which is not known here yet.
        if _list_lacking(found, wanted, operation):
            return Progress("Running", "the change has not been seen yet")
        progress = rollout.progress_of_rollout(found, operation, seconds(config.drainTimeout))
        stateful = found.get("kind") == "StatefulSet"
        if progress.state == "Succeeded":
            # Its pods came one after the other: the first may have crashed since it was ready.
            if not stateful:
                availability.record_complete(found)
        elif stateful:
            progress = await _unblock_pods(cluster, namespace, found, operation, progress)
        others = _describe_foreign_changes(found, config, operation, snapshot)
        if others and progress.state in ("Running", "Succeeded"):
            return replace(
                progress, message="; ".join(filter(None, (progress.message, others))), notable=True
            )
        return progress

    async def _judge_unwanted(
        self,
        cluster: Cluster,
        path: str,
        found: Mapping[str, Any],
        standing: Standing,
        snapshot: Mapping[str, Any] | None,
        window: float | None,
    ) -> Standing:
        """No pod is wanted: as it was before, or is that new?"""
        before = (snapshot or {}).get("replicas", 0)
        if not before or window is None:
            return replace(
                standing, remark=f"nobody runs it: {rollout.title_of(found)} wants no pods"
            )
        gone = Difference(
            f"wants no pod any more: replicas is 0, it was {before}", place=("f:spec", "f:replicas")
        )
        words = await managers.explain_difference(
            cluster, path, found, lambda now: [gone] if now["spec"].get("replicas", 1) == 0 else []
        )
        now = datetime.now(UTC)
        return (
            replace(standing, trouble=words, troubled_since=now, troubled_at=now)
            if words
            else standing
        )


# --------------------------------------------------------------------------------------------------
# What is wanted


def _wanted_fields(
    config: WorkloadConfig, operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> TemplateFields:
    """What operations want of the template, taken together in their order. Raises Permanent."""
    wanted = TemplateFields()
    for operation in operations:
        if operation.kind != "restore":
            wanted.take(*_values_set_by(operation, config))
        elif snapshot is None:
            raise Permanent(f"there is no snapshot of {operation.subject}")
        elif _config_of(operation, config).restore == "Template":
            wanted.go_back_whole(snapshot["template"])
        else:
            wanted.go_back(_named_fields(operation, config), snapshot["template"])
    return wanted


def _values_set_by(
    operation: Operation, config: WorkloadConfig
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]:
    """Images and variables that `apply` or `set` sets. Raises Permanent."""
    if operation.kind == "apply":
        own = _config_of(operation, config)
        return own.images, own.env
    if operation.kind == "set":
        return {}, {operation.config["container"]: operation.config["set"]}
    raise Permanent(f'a workload knows no operation "{operation.kind}"')


def _named_fields(operation: Operation, config: WorkloadConfig) -> TemplateFields:
    """What a restore puts back: what the run has set, and what the target names. Raises
    Permanent."""
    named = _fields_of(_config_of(operation, config))
    for change in operation.changes:
        named.take(*_values_set_by(change, config))
    return named


def _fields_of(config: WorkloadConfig) -> TemplateFields:
    fields = TemplateFields()
    fields.take(config.images, config.env)
    return fields


def _config_of(operation: Operation, config: WorkloadConfig) -> WorkloadConfig:
    """An operation's own configuration: its images may be another version's. Raises Permanent."""
    raw = operation.config
    if operation.kind == "set" and isinstance(raw, Mapping):
        raw = raw.get("target")
    if isinstance(raw, WorkloadConfig):
        return raw
    return (
        _parse_cached(orjson.dumps(raw["workload"]))
        if isinstance(raw, Mapping) and "workload" in raw
        else config
    )


_parsed_once: Memory[bytes, WorkloadConfig] = Memory(4 * 1024 * 1024, most=1024)
"""By the bytes of their texts: a configuration takes some three times as much."""


def _parse_cached(text: bytes) -> WorkloadConfig:
    return _parsed_once.get(text, lambda: _parse_config(text), lambda _: len(text))


def _parse_config(text: bytes) -> WorkloadConfig:
    try:
        return WorkloadConfig.model_validate(orjson.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise Permanent(f"workload.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _list_lacking(
    found: Mapping[str, Any], wanted: TemplateFields, operation: Operation
) -> list[Difference]:
    """Where the object has something else than an operation wants of it, its mark of a restart
    included."""
    lacking = template.list_differences(found["spec"]["template"], wanted)
    if (
        operation.restart
        and template.read_annotation(found["spec"]["template"], template.RESTART_ANNOTATION)
        != operation.key
    ):
        lacking.append(
            Difference(
                f"has lost the annotation {template.RESTART_ANNOTATION}, which starts its pods anew"
            )
        )
    return lacking


def _describe_foreign_changes(
    found: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> str:
    """What others have changed since the snapshot, which a restore leaves as it is. Raises
    Permanent."""
    own = _config_of(operation, config)
    if operation.kind != "restore" or snapshot is None or own.restore == "Template":
        return ""
    found_places = template.list_foreign_changes(
        found["spec"]["template"], snapshot["template"], _named_fields(operation, config)
    )
    more = len(found_places) - MAX_NAMES_IN_MESSAGE
    places = ", ".join(found_places[:MAX_NAMES_IN_MESSAGE]) + (
        f" and {more} more" if more > 0 else ""
    )
    return f"{places} changed meanwhile; it stays" if places else ""


def _live_version(config: WorkloadConfig, found: Mapping[str, Any]) -> str | None:
    """The tag of the live image, where it is the same repository as the wanted one."""
    present = template.containers_by_name(found["spec"]["template"])
    for name, wanted in config.images.items():
        image = str(present.get(name, {}).get("image", "")).partition("@")[0]
        repository, _, tag = image.rpartition(":")
        if (
            repository
            and "/" not in tag
            and wanted.partition("@")[0].rpartition(":")[0] == repository
        ):
            return tag
    return None


def _gone_message(config: WorkloadConfig) -> str:
    return f"{config.kind} {config.name} is gone; apply it again"


# --------------------------------------------------------------------------------------------------
# What is done


async def _read_existing(cluster: Cluster, path: str, config: WorkloadConfig) -> dict[str, Any]:
    try:
        return await cluster.get(path)
    except NotFound:
        raise NotFound(_gone_message(config)) from None


async def _template_for(
    cluster: Cluster,
    namespace: str,
    found: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    """The template that an operation stands for. Raises Retryable, Permanent."""
    now: Mapping[str, Any] = found["spec"]["template"]
    try:
        if operation.kind == "restore":
            wanted = _wanted_fields(config, [operation], snapshot)
            assert snapshot is not None
            result = (
                dict(wanted.whole)
                if wanted.whole is not None
                else template.restore_template(
                    now, snapshot["template"], _named_fields(operation, config)
                )
            )
            if operation.restart:
                template.put_annotation(result, template.RESTART_ANNOTATION, operation.key)
            return result
        if large := template.explain_too_large(now):
            raise Permanent(large)
        result = template.change_template(now, _wanted_fields(config, [operation], snapshot))
    except Permanent as error:
        raise Permanent(f"{rollout.title_of(found)}: {error}") from None
    if operation.kind == "apply":
        if operation.restart:
            template.put_annotation(result, template.RESTART_ANNOTATION, operation.key)
        await _mark_config(cluster, namespace, now, result, _config_of(operation, config))
    return result


async def _mark_config(
    cluster: Cluster,
    namespace: str,
    now: Mapping[str, Any],
    result: dict[str, Any],
    config: WorkloadConfig,
) -> None:
    """Say on the template what captured configuration its pods start with; a mark that was never
    there is no change of it, and restarts nothing by itself. Raises Retryable, Permanent."""
    before = template.read_annotation(now, template.CONFIG_ANNOTATION)
    if not config.config or (before is None and result == now):
        return
    references = [
        ("configmaps", item.configMap) if item.configMap else ("secrets", item.secret or "")
        for item in config.config
    ]
    template.put_annotation(
        result,
        template.CONFIG_ANNOTATION,
        await captured.captured_hash(cluster, namespace, references),
    )


def _patch_for(
    found: Mapping[str, Any], wanted: Mapping[str, Any], operation: Operation
) -> list[dict[str, Any]]:
    """A JSON patch: the template, the operation's key, and the version that both were made for.

    A patch that was delayed on its way must not arrive after a later one. A strategic merge patch
    could not do it: it refuses a value where there is a `valueFrom`.
    """
    meta = found["metadata"]
    # what others have noted there is not known in full, and stays
    key = {
        "op": "add",
        "path": f"/metadata/annotations/{KEY.replace('/', '~1')}",
        "value": operation.key,
    }
    first = {"op": "add", "path": "/metadata/annotations", "value": {KEY: operation.key}}
    body = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        first if meta.get("annotations") is None else key,
    ]
    if wanted != found["spec"]["template"]:
        body.append({"op": "replace", "path": "/spec/template", "value": wanted})
    return body


async def _explain_still_running(
    cluster: Cluster, namespace: str, found: Mapping[str, Any], wanted: TemplateFields
) -> str:
    """Pods that run something else than the template says: it was changed and changed back, and
    they have not followed (the rollout is paused, a quota is full). Raises Retryable, Permanent."""
    if not rollout.is_mixed(found):
        return ""
    for pod in await owned.list_pods(cluster, namespace, found):
        instead = _describe_instead(pod, wanted)
        if instead and not pods.is_leaving(pod):
            why = rollout.progress_of_rollout(found, Operation("", "apply", ""), 0.0).message
            words = (
                f"{rollout.title_of(found)} is set right, but its pod "
                f"{pod['metadata']['name']} {instead}"
            )
            return f"{words}: {why}" if why else words
    return ""


async def _explain_unsound(
    cluster: Cluster, namespace: str, found: Mapping[str, Any], wanted: TemplateFields
) -> str:
    """What its pods run instead, or how they crashed lately; empty where they run what it wants.
    Raises Retryable, Permanent."""
    differs = functools.partial(_describe_instead, wanted=wanted)
    seen = await availability.check_health(
        cluster, namespace, found, CRASH_WINDOW_S, datetime.now(UTC), differs, closely=True
    )
    return seen.trouble or (f"{rollout.title_of(found)}: its {seen.stray}" if seen.stray else "")


def _serves_since(found: Mapping[str, Any], seen: availability.Health) -> datetime | None:
    """Since when it runs as it does: its rollout was complete, and one of its pods has been there
    from then on."""
    known = (rollout.completed_at(found.get("status") or {}) or seen.ready_at, seen.ready_since)
    return max((moment for moment in known if moment is not None), default=None)


def _describe_instead(pod: Mapping[str, Any], wanted: TemplateFields) -> str:
    """What a pod runs instead of what is wanted; empty where it runs that."""
    found = template.list_differences({"spec": pod["spec"]}, wanted.of_a_pod())
    return found[0].words if found else ""


async def _unblock_pods(
    cluster: Cluster,
    namespace: str,
    found: Mapping[str, Any],
    operation: Operation,
    progress: Progress,
) -> Progress:
    """Delete pods that keep a StatefulSet from coming home: its controller waits for each pod to be
    ready, also for one whose version is withdrawn and never will be. Raises Retryable,
    Permanent."""
    status = found.get("status") or {}
    living = {status.get("updateRevision")} | (
        set() if operation.kind == "restore" else {status.get("currentRevision")}
    )
    if rollout.is_unseen(found) or None in living or progress.state != "Running":
        return progress
    first = rollout.first_updated(found)  # one below it would come back as it is
    broken = [
        pod["metadata"]
        for pod in await owned.list_pods(cluster, namespace, found)
        if not pods.is_leaving(pod)
        and not pods.is_ready(pod)
        and pods.hash_of(pod) not in {None, *living}
        if pods.ordinal_of(pod) >= first
    ]
    for meta in broken:
        with contextlib.suppress(Conflict):  # its successor has the name already
            await cluster.delete(
                f"/api/v1/namespaces/{namespace}/pods/{meta['name']}", uid=meta["uid"]
            )
    if not broken:
        return progress
    names = ", ".join(sorted(meta["name"] for meta in broken))
    return Progress(
        "Running", f"deleted pods of a withdrawn version that were not ready: {names}", notable=True
    )
