"""What keeps a workload from getting on, and how a StatefulSet is brought home."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from gatewright.api import KEY
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Permanent, Trouble
from gatewright.providers.workload import owned, pods
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.target import Workload
from tests.unit.plain import (
    DEPLOYMENT,
    EVENTS,
    NAMESPACE,
    PODS,
    STATEFULSET,
    Cluster,
    deployment,
    statefulset,
    template,
)

WORKLOAD = Workload()
UIDS = (f"set-{number}" for number in itertools.count())
WEB = WorkloadConfig(name="web", images={"app": "shop/web:2.4.0"})
DB = WorkloadConfig(kind="StatefulSet", name="db", images={"db": "shop/db:1.1"})


def pod(
    name: str, revision: str, ready: bool = False, owner: str = "", **more: Any
) -> dict[str, Any]:
    """A pod of the StatefulSet `owner`."""
    return {
        "metadata": {
            "name": name,
            "uid": f"pod-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "db", "controller-revision-hash": revision},
            "ownerReferences": [
                {"kind": "StatefulSet", "name": "db", "uid": owner, "controller": True}
            ],
        },
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}], **more},
    }


def cluster_of(
    *pods: dict[str, Any], image: str = "shop/db:1.0", key: str = "k", **status: Any
) -> Cluster:
    """A StatefulSet with an operation's key on it."""
    found = statefulset(next(UIDS), image=image, **status)
    found["metadata"]["annotations"] = {KEY: key}
    for item in pods:
        owner = item["metadata"]["ownerReferences"][0]
        owner["uid"] = owner["uid"] or found["metadata"]["uid"]
    return Cluster(
        {STATEFULSET: found} | {f"{PODS}/{item['metadata']['name']}": item for item in pods}
    )


BLOCKED: dict[str, Any] = {"updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}


def restore() -> Operation:
    return Operation("k", "restore", "target/db", {"workload": DB.model_dump()})


async def follow(cluster: Cluster, operation: Operation) -> Progress:
    snapshot = {"template": statefulset("x")["spec"]["template"], "uid": "x", "replicas": 3}
    return await WORKLOAD.follow(cluster, NAMESPACE, DB, operation, snapshot)


async def test_a_broken_pod_of_the_withdrawn_version_is_deleted_and_the_set_comes_home() -> None:
    cluster = cluster_of(
        pod("db-0", "db-a", ready=True), pod("db-1", "db-a"), pod("db-2", "db-b"), **BLOCKED
    )
    found = await follow(cluster, restore())
    words = "deleted pods of a withdrawn version that were not ready: db-2"
    assert found == Progress("Running", words, notable=True)
    assert cluster.requests("delete") == [f"delete {PODS}/db-2"]
    assert sorted(name for name in cluster.objects if "/pods/" in name) == [
        f"{PODS}/db-0",
        f"{PODS}/db-1",
    ]


def leaving(found: dict[str, Any]) -> dict[str, Any]:
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return found


def partitioned(cluster: Cluster) -> None:
    cluster.objects[STATEFULSET]["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 3


def unseen(cluster: Cluster) -> None:
    cluster.objects[STATEFULSET]["metadata"]["generation"] = 2


def unknown(cluster: Cluster) -> None:
    del cluster.objects[STATEFULSET]["status"]["updateRevision"]


def changed(cluster: Cluster) -> None:
    cluster.template(STATEFULSET)["spec"]["containers"][0]["image"] = "shop/db:hotfix"


def done(cluster: Cluster) -> None:
    cluster.change(STATEFULSET, updatedReplicas=3, readyReplicas=3)


@pytest.mark.parametrize(
    "act", [partitioned, unseen, unknown, changed, done], ids=lambda act: act.__name__
)
async def test_nothing_is_deleted_where_its_version_is_not_surely_withdrawn(
    act: Callable[[Cluster], None],
) -> None:
    cluster = cluster_of(pod("db-2", "db-b"), **BLOCKED)
    act(cluster)
    await follow(cluster, restore())
    assert cluster.requests("delete") == []


@pytest.mark.parametrize(
    "item",
    [
        pod("db-2", "db-b", ready=True),
        leaving(pod("db-2", "db-b")),
        pod("db-2", "db-a"),
        pod("x", "db-b", owner="other"),
    ],
    ids=["ready", "leaving", "of this version", "of another set"],
)
async def test_a_pod_that_is_none_of_the_broken_ones_stays(item: dict[str, Any]) -> None:
    cluster = cluster_of(item, **BLOCKED)
    assert (await follow(cluster, restore())).message == "2 of 3 replicas updated"
    assert cluster.requests("delete") == []


@pytest.mark.parametrize(
    "strategy",
    [{"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}],
    ids=["OnDelete", "partition"],
)
async def test_what_others_hold_back_comes_home_where_its_broken_pods_are_made_anew(
    strategy: dict[str, Any],
) -> None:
    cluster = cluster_of(pod("db-1", "db-a"), pod("db-2", "db-b"), **BLOCKED)
    cluster.objects[STATEFULSET]["spec"]["updateStrategy"] = strategy
    assert (await follow(cluster, restore())).state == "Running"
    assert cluster.requests("delete") == [f"delete {PODS}/db-2"]
    cluster.change(STATEFULSET, updatedReplicas=3, readyReplicas=2)
    assert (await follow(cluster, restore())).message == "2 of 3 replicas ready"
    cluster.change(STATEFULSET, updatedReplicas=3, readyReplicas=3)
    assert (await follow(cluster, restore())).state == "Succeeded", (
        "all of its pods have what is wanted"
    )


async def test_a_pods_successor_of_the_same_name_is_not_deleted() -> None:
    cluster = cluster_of(pod("db-2", "db-b"), **BLOCKED)
    listed = cluster.list

    async def late(*arguments: Any, **more: Any) -> list[dict[str, Any]]:
        found = await listed(*arguments, **more)
        cluster.objects[f"{PODS}/db-2"]["metadata"]["uid"] = "successor"
        return found

    cluster.list = late  # type: ignore[method-assign]
    await follow(cluster, restore())
    assert f"{PODS}/db-2" in cluster.objects


async def test_a_deploy_deletes_only_pods_of_a_version_between() -> None:
    """Those of the version that still serves are its controller's to replace."""
    three: dict[str, Any] = {"currentRevision": "db-a", "updateRevision": "db-c", **BLOCKED}
    cluster = cluster_of(pod("db-1", "db-a"), pod("db-2", "db-b"), image="shop/db:1.1", **three)
    await follow(cluster, Operation("k", "apply", "target/db", {"workload": DB.model_dump()}))
    assert cluster.requests("delete") == [f"delete {PODS}/db-2"]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (
            {"type": "OnDelete"},
            "has updateStrategy OnDelete: its pods keep their version until somebody deletes them",
        ),
        (
            {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
            (
                "has updateStrategy.rollingUpdate.partition 2: its pods below ordinal 2 never "
                "get the version"
            ),
        ),
    ],
    ids=["OnDelete", "partition"],
)
async def test_what_would_never_run_the_version_is_refused_up_front_and_said_later(
    strategy: dict[str, Any], words: str
) -> None:
    cluster = cluster_of(image="shop/db:1.1", updatedReplicas=1)
    cluster.objects[STATEFULSET]["spec"]["updateStrategy"] = strategy
    sight = await WORKLOAD.look(cluster, NAMESPACE, DB)
    remedy = "set updateStrategy to RollingUpdate without a partition"
    assert (sight.snapshot, sight.problem) == (None, f"StatefulSet db {words}; {remedy}")
    later = await follow(
        cluster, Operation("k", "apply", "target/db", {"workload": DB.model_dump()})
    )
    assert later == Progress("Running", f"StatefulSet db {words}", stuck=True)
    cluster.change(STATEFULSET, updatedReplicas=3)
    assert (await WORKLOAD.look(cluster, NAMESPACE, DB)).problem is None, (
        "all of its pods have the version already"
    )


# --------------------------------------------------------------------------------------------------
# What keeps it from getting on


def event(kind: str, name: str, uid: str, reason: str, at: str, message: str) -> dict[str, Any]:
    about = {"kind": kind, "name": name, "uid": uid}
    return {
        "metadata": {},
        "involvedObject": about,
        "reason": reason,
        "lastTimestamp": at,
        "message": message,
    }


def tell(cluster: Cluster, *events: dict[str, Any]) -> None:
    cluster.objects |= {f"{EVENTS}/{number}": item for number, item in enumerate(events)}


QUOTA = (
    'create Pod db-2 in StatefulSet db failed error: pods "db-2" is forbidden: exceeded quota: '
    "small"
)


async def test_pods_that_a_statefulset_cannot_create_are_said_in_the_words_of_its_events() -> None:
    cluster = cluster_of(
        pod("db-0", "db-a", ready=True), pod("db-1", "db-a", ready=True), **BLOCKED
    )
    uid = cluster.objects[STATEFULSET]["metadata"]["uid"]
    tell(
        cluster,
        event(
            "StatefulSet",
            "db",
            uid,
            "SuccessfulDelete",
            "2026-01-01T10:00:00Z",
            "delete Pod db-2 successful",
        ),
        event("StatefulSet", "db", uid, "FailedCreate", "2026-01-01T10:00:01Z", QUOTA),
        event("StatefulSet", "db", uid, "Unrelated", "2026-01-01T10:00:03Z", "something else"),
        event(
            "StatefulSet",
            "other",
            "o",
            "SuccessfulCreate",
            "2026-01-01T10:00:02Z",
            "create Pod other-0",
        ),
        event(
            "StatefulSet",
            "db",
            "an earlier one",
            "SuccessfulCreate",
            "2026-01-01T10:00:02Z",
            "create Pod db-2",
        ),
    )
    found = await WORKLOAD.trouble(cluster, NAMESPACE, DB)
    assert found == Trouble(f"StatefulSet db cannot create pods: {QUOTA}")
    tell(
        cluster,
        event(
            "StatefulSet", "db", uid, "SuccessfulCreate", "2026-01-01T10:00:05Z", "create Pod db-2"
        ),
    )
    cluster.objects[f"{EVENTS}/0"]["lastTimestamp"] = "2026-01-01T10:00:05Z"
    assert await WORKLOAD.trouble(cluster, NAMESPACE, DB) is None


async def test_events_are_not_asked_for_where_all_pods_are_there() -> None:
    cluster = cluster_of(*(pod(f"db-{number}", "db-a", ready=True) for number in range(3)))
    assert await WORKLOAD.trouble(cluster, NAMESPACE, DB) is None
    assert cluster.requests(f"list {EVENTS}") == []


def of_web(name: str, hashed: str, at: str, image: str, **status: Any) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": f"web-{hashed}", "controller": True}
    meta = {
        "name": name,
        "uid": f"pod-{name}",
        "creationTimestamp": at,
        "ownerReferences": [owner],
        "labels": {"app": "web", "pod-template-hash": hashed},
    }
    return {"metadata": meta, "spec": template(image)["spec"], "status": status}


def web(*pods: dict[str, Any]) -> Cluster:
    found = {DEPLOYMENT: deployment(next(UIDS), image="shop/web:2.4.0", availableReplicas=1)}
    return Cluster(found | {f"{PODS}/{item['metadata']['name']}": item for item in pods})


def unscheduled() -> dict[str, Any]:
    said = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    return {"phase": "Pending", "conditions": [said]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "app", "image": "shop/web:2.4.0", "state": state}],
    }


async def test_only_a_pod_of_the_template_that_is_wanted_now_keeps_it_from_getting_on() -> None:
    """After a restore the newest pod is one of the withdrawn version."""
    cluster = web(
        of_web("a", "5d9", "2026-01-01T00:00:00Z", "shop/web:2.4.0"),
        of_web("b", "6c8", "2026-01-01T00:01:00Z", "shop/web:2.5.0", **unscheduled()),
    )
    assert await WORKLOAD.trouble(cluster, NAMESPACE, WEB) is None
    cluster.objects[f"{PODS}/a"]["status"] = unscheduled()
    assert await WORKLOAD.trouble(cluster, NAMESPACE, WEB) == Trouble(
        "pod a cannot be scheduled: 0/3 nodes are available"
    )


async def test_a_pod_that_cannot_start_is_said_in_the_words_of_its_events() -> None:
    creating = of_web(
        "a", "5d9", "2026-01-01T00:00:00Z", "shop/web:2.4.0", **waiting("ContainerCreating")
    )
    cluster = web(creating)
    assert await WORKLOAD.trouble(cluster, NAMESPACE, WEB) is None
    words = 'MountVolume.SetUp failed for volume "keys": secret "keys" not found'
    tell(
        cluster,
        event("Pod", "a", "pod-a", "Scheduled", "2026-01-01T10:00:00Z", "assigned"),
        event("Pod", "a", "pod-a", "FailedMount", "2026-01-01T10:00:01Z", words),
        event("Pod", "a", "pod-a", "Unrelated", "2026-01-01T10:00:02Z", "something else"),
        event("Pod", "a", "another", "FailedMount", "2026-01-01T10:00:02Z", "something else"),
    )
    assert await WORKLOAD.trouble(cluster, NAMESPACE, WEB) == Trouble(
        f"pod a cannot start (FailedMount): {words}"
    )


async def test_where_a_webhook_has_rewritten_images_the_newest_pods_count() -> None:
    cluster = web(
        of_web("a", "6c8", "2026-01-01T00:00:00Z", "mirror/web:2.3.1", **unscheduled()),
        of_web(
            "b", "5d9", "2026-01-01T00:01:00Z", "mirror/web:2.4.0", **waiting("CrashLoopBackOff")
        ),
    )
    found = await WORKLOAD.trouble(cluster, NAMESPACE, WEB)
    assert found is not None and "CrashLoopBackOff" in found.message and not found.hopeless


def test_few_pods_of_few_versions_are_compared_with_a_template() -> None:
    class Counted(dict[str, Any]):
        reads = 0

        def get(self, key: str, default: Any = None) -> Any:
            Counted.reads += key == "spec"
            return super().get(key, default)

    made = [
        Counted(
            of_web(
                f"{version}-{number}",
                f"h{version}",
                f"2026-01-01T00:{version:02}:00Z",
                f"shop/web:{version}",
            )
        )
        for version in range(30)
        for number in range(20)
    ]
    found = web().objects[DEPLOYMENT]
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "shop/web:25"
    assert {pods.hash_of(pod) for pod in owned.current_pods(found, made)} == {"h25"}
    assert Counted.reads <= 50, "some of the latest versions alone"


@pytest.mark.parametrize("kind", ["variables", "containers"])
async def test_a_template_that_is_too_large_is_refused_before_it_is_deployed(kind: str) -> None:
    cluster = web()
    containers = cluster.objects[DEPLOYMENT]["spec"]["template"]["spec"]["containers"]
    if kind == "variables":
        containers[0]["env"] = [{"name": f"V{number}"} for number in range(2001)]
        words = "has 2001 environment variables (containers[].env), at most 2000"
    else:
        containers += [{"name": f"c{number}", "image": "a"} for number in range(199)]
        words = "has 201 containers, at most 200"
    sight = await WORKLOAD.look(cluster, NAMESPACE, WEB)
    assert sight.snapshot is None and sight.problem is not None
    assert sight.problem.startswith(f"Deployment web {words}; ")
    with pytest.raises(Permanent, match=re.escape(words)):
        operation = Operation("k", "apply", "target/web", {"workload": WEB.model_dump()})
        await WORKLOAD.perform(cluster, NAMESPACE, WEB, operation, None)
    (containers[0].pop("env") if kind == "variables" else containers.pop())
    assert (await WORKLOAD.look(cluster, NAMESPACE, WEB)).problem is None


def test_every_kind_of_selector_can_be_asked_for() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "NotIn", "values": ["yes"]},
        {"key": "app", "operator": "Exists"},
        {"key": "canary", "operator": "DoesNotExist"},
    ]
    found = {"spec": {"selector": {"matchLabels": {"app": "web"}, "matchExpressions": expressions}}}
    assert owned.selector_of(found) == "app=web,tier in (a,b),old notin (yes),app,!canary"
    assert owned.selector_of({"spec": {}}) == ""


async def test_what_is_to_be_taken_over_and_does_not_run_is_said_with_the_reason() -> None:
    waiting: dict[str, Any] = {
        "containerStatuses": [{"name": "db", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    }
    cluster = cluster_of(
        pod("db-0", "db-a", **waiting), image="shop/db:1.1", readyReplicas=2, updatedReplicas=3
    )
    found = await WORKLOAD.look(cluster, NAMESPACE, DB)
    assert found.matches and "CrashLoopBackOff" in found.unready


async def test_of_the_pods_that_its_selector_matches_only_its_own_are_kept() -> None:
    other = pod("x", "new", owner="other")
    found = cluster_of(pod("db-0", "new"), other, pod("y", "new", owner="other"))
    kept: list[int] = []

    class Counted(Cluster):
        async def list(self, *args: Any, **more: Any) -> list[dict[str, Any]]:
            listed = await super().list(*args, **more)
            kept.append(len(listed))
            return listed

    cluster = Counted(found.objects)
    own = await owned.list_pods(cluster, NAMESPACE, cluster.objects[STATEFULSET])
    assert [item["metadata"]["name"] for item in own] == ["db-0"] and kept == [1]
