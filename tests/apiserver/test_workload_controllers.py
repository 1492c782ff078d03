"""`workload:` beside the real controllers: which ReplicaSet comes back, how a StatefulSet comes
home, what a quota says.

No node runs anything: pods are ready as soon as they are there, but those of the broken image never
are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio import client, config

from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Conflict
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.target import Workload
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from tests.cluster import ApiServer

pytestmark = pytest.mark.apiserver
NAMESPACE = "default"
WORKLOAD = Workload()
BROKEN = "shop/web:broken"
CONTROLLERS = [
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "garbage-collector-controller",
]


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    from tests.cluster.paths import Unavailable

    try:
        api = ApiServer()
        api.start()
        api.add_controller_manager(CONTROLLERS)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield api
    api.stop()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    configuration = client.Configuration()
    await config.load_kube_config(
        config_file=str(server.kubeconfig), client_configuration=configuration
    )
    found = Kube(client.ApiClient(configuration))
    yield found
    await found.close()


def manifest(kind: str, name: str, replicas: int, **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    containers = [{"name": "app", "image": "shop/web:1"}]
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, **more}
    spec["template"] = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def plural(kind: str) -> str:
    return f"{kind.lower()}s"


async def pods(kube: Kube, name: str) -> list[dict[str, Any]]:
    return await kube.list(api_path("v1", "pods", NAMESPACE), f"app={name}")


async def run_pods(kube: Kube, name: str) -> None:
    """What a node would report: everything is ready but the broken image."""
    for pod in await pods(kube, name):
        image = pod["spec"]["containers"][0]["image"]
        ready = "False" if image == BROKEN else "True"
        if pod["status"].get("phase") == "Running" or pod["metadata"].get("deletionTimestamp"):
            continue
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        condition = {"type": "Ready", "status": ready, "lastTransitionTime": now}
        said = {
            "name": "app",
            "image": image,
            "imageID": "",
            "ready": ready == "True",
            "restartCount": 0,
        }
        status = {"phase": "Running", "startTime": now, "conditions": [condition]}
        status["containerStatuses"] = [said | {"state": {"running": {"startedAt": now}}}]
        await kube.patch(
            api_path("v1", "pods", NAMESPACE, pod["metadata"]["name"], "status"),
            {"status": status},
            "merge",
        )


class Target:
    """One workload, and what is done with it."""

    def __init__(self, kube: Kube, kind: str, name: str) -> None:
        self.kube, self.name = kube, name
        self.path = api_path("apps/v1", plural(kind), NAMESPACE, name)
        self.config = {"kind": kind, "name": name}

    def checked(self, image: str) -> WorkloadConfig:
        return WorkloadConfig.model_validate({**self.config, "images": {"app": image}})

    async def until(self, wanted: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + 40
        while not await wanted():
            assert time.monotonic() < deadline, (
                f"waited in vain for {what}: {await self.kube.get(self.path)}"
            )
            await run_pods(self.kube, self.name)
            await asyncio.sleep(0.2)

    async def observed(self) -> None:
        """The controller has seen the change; no pod has begun yet."""

        async def seen() -> bool:
            found = await self.kube.get(self.path)
            return bool(
                found["status"].get("observedGeneration") == found["metadata"]["generation"]
            )

        deadline = time.monotonic() + 20
        while not await seen():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def complete(self) -> None:
        async def done() -> bool:
            spec, status = (
                (found := await self.kube.get(self.path))["spec"],
                found.get("status", {}),
            )
            return bool(
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("updatedReplicas") == status.get("readyReplicas") == spec["replicas"]
            )

        await self.until(done, "the first version")

    async def follow(self, operation: Operation, image: str, snapshot: Any = None) -> Progress:
        return await WORKLOAD.follow(self.kube, NAMESPACE, self.checked(image), operation, snapshot)

    async def perform(self, operation: Operation, image: str, snapshot: Any = None) -> None:
        """As a pass does it: again where the controller has written the status at each try."""

        async def done() -> bool:
            try:
                await WORKLOAD.perform(
                    self.kube, NAMESPACE, self.checked(image), operation, snapshot
                )
            except Conflict:
                return False
            return True

        await self.until(done, f"{operation.key} to be written")

    async def succeeds(
        self, operation: Operation, image: str, snapshot: Any = None
    ) -> list[Progress]:
        seen: list[Progress] = []

        async def done() -> bool:
            seen.append(await self.follow(operation, image, snapshot))
            assert seen[-1].state in ("Running", "Succeeded"), seen[-1]
            return seen[-1].state == "Succeeded"

        await self.until(done, f"success; last {seen[-1:]}")
        return seen


async def test_a_deployment_whose_deadline_has_passed_comes_back_to_the_very_replica_set(
    kube: Kube,
) -> None:
    web = Target(kube, "Deployment", "web")
    more = {"strategy": {"type": "Recreate"}, "progressDeadlineSeconds": 3}
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "web", 1, **more)
    )
    await web.complete()
    snapshot = (await WORKLOAD.look(kube, NAMESPACE, web.checked("shop/web:1"))).snapshot
    sets = api_path("apps/v1", "replicasets", NAMESPACE)
    (first,) = [item["metadata"]["name"] for item in await kube.list(sets, "app=web")]
    deploy = Operation("1.a.b.1-x", "apply", "target/web", since=datetime.now(UTC).isoformat())
    await web.perform(deploy, BROKEN)

    async def late() -> bool:
        return "timed out" in (await web.follow(deploy, BROKEN)).message

    await web.until(late, "the deadline to pass")
    again = Operation("1.a.b.2-x", "apply", "target/web", since=datetime.now(UTC).isoformat())
    await web.perform(again, "shop/web:2")
    await web.observed()
    progress = await web.follow(again, "shop/web:2")
    assert (progress.state, progress.stuck) == ("Running", False), progress
    since = datetime.now(UTC).isoformat()
    restore = Operation(
        "1.rollback.0-x", "restore", "target/web", since=since, changes=(deploy, again)
    )
    await web.perform(restore, BROKEN, snapshot)
    await web.observed()
    assert not (await web.follow(restore, BROKEN, snapshot)).stuck
    await web.succeeds(restore, BROKEN, snapshot)
    running = [item for item in await kube.list(sets, "app=web") if item["spec"]["replicas"]]
    assert [item["metadata"]["name"] for item in running] == [first]


async def test_a_statefulset_with_a_broken_pod_comes_home(kube: Kube) -> None:
    db = Target(kube, "StatefulSet", "db")
    await kube.create(
        api_path("apps/v1", "statefulsets", NAMESPACE), manifest("StatefulSet", "db", 2)
    )
    await db.complete()
    snapshot = (await WORKLOAD.look(kube, NAMESPACE, db.checked("shop/web:1"))).snapshot
    deploy = Operation("1.a.b.1-x", "apply", "target/db")
    await db.perform(deploy, BROKEN)

    async def broken() -> bool:
        found = [
            pod for pod in await pods(kube, "db") if pod["spec"]["containers"][0]["image"] == BROKEN
        ]
        return bool(found) and found[0]["status"].get("phase") == "Running"

    await db.until(broken, "the broken pod")
    restore = Operation("1.rollback.0-x", "restore", "target/db", changes=(deploy,))
    await db.perform(restore, BROKEN, snapshot)
    seen = await db.succeeds(restore, BROKEN, snapshot)
    assert "deleted pods of a withdrawn version that were not ready: db-1" in [
        progress.message for progress in seen
    ]
    images = {pod["spec"]["containers"][0]["image"] for pod in await pods(kube, "db")}
    assert images == {"shop/web:1"} and snapshot is not None
    assert (await kube.get(db.path))["spec"]["template"] == snapshot["template"]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_quota_is_said_in_its_own_words_within_seconds(kube: Kube, kind: str) -> None:
    name = f"small-{kind.lower()}"
    await kube.create(
        api_path("v1", "resourcequotas", NAMESPACE),
        {"metadata": {"name": name}, "spec": {"hard": {"pods": "0"}}},
    )
    quota = api_path("v1", "resourcequotas", NAMESPACE, name)
    none = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
    await kube.patch(f"{quota}/status", none, "merge")  # by the controller that is not here
    target = Target(kube, kind, name)
    try:
        await kube.create(api_path("apps/v1", plural(kind), NAMESPACE), manifest(kind, name, 1))

        async def said() -> bool:
            found = await WORKLOAD.trouble(kube, NAMESPACE, target.checked("shop/web:1"))
            return (
                found is not None
                and f"exceeded quota: {name}" in found.message
                and not found.hopeless
            )

        await target.until(said, "the words of the quota")
    finally:
        await kube.delete(quota)
