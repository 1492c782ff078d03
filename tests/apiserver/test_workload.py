"""`workload:` on a real API server: what it sees, what it changes, what comes back."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config

from gatewright.api import KEY
from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Conflict, Permanent
from gatewright.providers.workload import applying
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.target import Workload
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from tests.cluster import ApiServer

pytestmark = pytest.mark.apiserver
NAMESPACE = "default"
WORKLOAD = Workload()


@pytest.fixture(scope="module")
def server() -> Any:
    from tests.cluster.paths import Unavailable

    try:
        api = ApiServer()
        api.start()
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


def manifest(kind: str, name: str, replicas: int = 0) -> dict[str, Any]:
    text = f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{note: before}}}}
    spec:
      initContainers: [{{name: init, image: "shop/init:1.0"}}]
      containers:
      - {{name: app, image: "shop/web:1.0", env: [{{name: A, value: "1"}}, {{name: B, value: "2"}}]}}
      - {{name: proxy, image: "shop/proxy:7"}}
"""
    found: dict[str, Any] = yaml.safe_load(text)
    if kind == "StatefulSet":
        found["spec"]["serviceName"] = name
    return found


def target(kind: str, name: str) -> WorkloadConfig:
    images = {"app": "shop/web:2.0", "init": "shop/init:2.0"}
    return WorkloadConfig.model_validate(
        {"kind": kind, "name": name, "images": images, "env": {"app": {"A": "9"}}}
    )


def object_path(kind: str, name: str) -> str:
    return api_path("apps/v1", f"{kind.lower()}s", NAMESPACE, name)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_deploy_changes_what_it_names_and_a_restore_brings_the_template_back(
    kube: Kube, kind: str
):
    name = f"web-{kind.lower()}"
    await kube.create(api_path("apps/v1", f"{kind.lower()}s", NAMESPACE), manifest(kind, name))
    wanted = target(kind, name)
    before = await WORKLOAD.look(kube, NAMESPACE, wanted)
    assert before.problem is None and not before.matches and before.version == "1.0"

    deploy = Operation("1.a.b.1-x", "apply", "target/web", {})
    assert (await WORKLOAD.follow(kube, NAMESPACE, wanted, deploy, None)).state == "Absent"
    assert (await WORKLOAD.perform(kube, NAMESPACE, wanted, deploy, None)).state == "Succeeded"
    found = await kube.get(object_path(kind, name))
    containers = {item["name"]: item for item in found["spec"]["template"]["spec"]["containers"]}
    assert (
        containers["app"]["image"] == "shop/web:2.0"
        and containers["proxy"]["image"] == "shop/proxy:7"
    )
    assert containers["app"]["env"] == [{"name": "A", "value": "9"}, {"name": "B", "value": "2"}]
    assert found["metadata"]["annotations"][KEY] == deploy.key
    assert (await WORKLOAD.follow(kube, NAMESPACE, wanted, deploy, None)).state == "Succeeded"
    after = await WORKLOAD.look(kube, NAMESPACE, wanted)
    assert after.matches and after.version == "2.0"

    flags = Operation("1.a.c.1-x", "set", "target/web", {"container": "app", "set": {"NEW": "on"}})
    await WORKLOAD.perform(kube, NAMESPACE, wanted, flags, None)
    extra = [{"op": "add", "path": "/spec/template/metadata/annotations/later", "value": "x"}]
    await kube.patch(object_path(kind, name), extra, "json")

    restore = Operation("1.rollback.0-x", "restore", "target/web", {}, changes=(deploy, flags))
    progress = await WORKLOAD.perform(kube, NAMESPACE, wanted, restore, before.snapshot)
    assert (
        progress.message == "metadata.annotations[later] changed meanwhile; it stays"
        and progress.notable
    )
    found = await kube.get(object_path(kind, name))
    assert before.snapshot is not None
    template = copy.deepcopy(before.snapshot["template"])
    template["metadata"]["annotations"]["later"] = "x"
    assert found["spec"]["template"] == template

    whole = wanted.model_copy(update={"restore": "Template"})
    await WORKLOAD.perform(kube, NAMESPACE, whole, restore, before.snapshot)
    assert (await kube.get(object_path(kind, name)))["spec"]["template"] == before.snapshot[
        "template"
    ]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_variable_from_a_secret_is_set_and_the_template_returns_to_the_letter(
    kube: Kube, kind: str
) -> None:
    name = f"from-{kind.lower()}"
    body = manifest(kind, name)
    app = body["spec"]["template"]["spec"]["containers"][0]
    app["env"].insert(
        0, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
    )
    await kube.create(api_path("apps/v1", f"{kind.lower()}s", NAMESPACE), body)
    wanted = target(kind, name).model_copy(
        update={"env": {"app": {"KEY": "plain", "EMPTY": ""}, "proxy": {"D": "1"}}}
    )
    before = (await WORKLOAD.look(kube, NAMESPACE, wanted)).snapshot
    deploy = Operation("1.a.b.1-x", "apply", "target/web", {}, restart=True)
    assert (await WORKLOAD.perform(kube, NAMESPACE, wanted, deploy, None)).state == "Succeeded"
    found = (await kube.get(object_path(kind, name)))["spec"]["template"]
    assert found["spec"]["containers"][0]["env"][0] == {"name": "KEY", "value": "plain"}
    assert await WORKLOAD.compare(kube, NAMESPACE, wanted, [deploy], before, 60.0) == Standing(
        version="2.0", remark=f"nobody runs it: {kind} {name} wants no pods"
    )
    back = Operation("1.rollback.0-x", "restore", "target/web", {}, changes=(deploy,))
    progress = await WORKLOAD.perform(kube, NAMESPACE, wanted, back, before)
    assert before is not None and progress == Progress("Succeeded")
    assert (await kube.get(object_path(kind, name)))["spec"]["template"] == before["template"]


async def test_who_set_another_image_is_known_from_managed_fields(
    kube: Kube, server: ApiServer
) -> None:
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "drifts")
    )
    wanted, full = target("Deployment", "drifts"), object_path("Deployment", "drifts")
    deploy = Operation("1.a.b.1-x", "apply", "target/web", {})
    await WORKLOAD.perform(kube, NAMESPACE, wanted, deploy, None)
    assert (await WORKLOAD.compare(kube, NAMESPACE, wanted, [deploy], None, None)).difference == ""
    images = {
        "containers": [
            {"name": "app", "image": "shop/web:hotfix", "env": [{"name": "A", "value": "8"}]}
        ]
    }
    await kube.patch(
        f"{full}?fieldManager=by-hand", {"spec": {"template": {"spec": images}}}, "strategic"
    )
    said = (await WORKLOAD.compare(kube, NAMESPACE, wanted, [deploy], None, None)).difference
    by = "container app; set by by-hand at "
    assert said.startswith(f"Deployment drifts runs shop/web:hotfix instead of shop/web:2.0 ({by}")
    assert f"has another value of the variable A ({by}" in said
    gone = [{"op": "remove", "path": "/spec/template/spec/initContainers"}]
    await kube.patch(f"{full}?fieldManager=other-hand", gone, "json")
    said = (await WORKLOAD.compare(kube, NAMESPACE, wanted, [deploy], None, None)).difference
    assert said.startswith("Deployment drifts has no container init")
    # Whoever takes something away owns nothing, and nobody says that it was another.
    assert "other-hand" not in said


async def test_a_patch_for_an_older_object_is_refused(kube: Kube) -> None:
    await kube.create(api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "late"))
    full = object_path("Deployment", "late")
    old = await kube.get(full)
    await kube.patch(full, {"metadata": {"labels": {"seen": "yes"}}}, "merge")
    wanted = old["spec"]["template"] | {"metadata": {"labels": {"app": "late"}}}
    patch = applying.patch_for(old, wanted, Operation("k", "apply", "target/web"))
    with pytest.raises(Conflict):
        await kube.patch(full, patch, "json")


async def test_what_is_not_there_is_said(kube: Kube):
    missing = await WORKLOAD.look(kube, NAMESPACE, target("Deployment", "nowhere"))
    assert "there is no Deployment nowhere in namespace default" in (missing.problem or "")
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "other")
    )
    wrong = WorkloadConfig.model_validate({"name": "other", "images": {"main": "shop/web:2.0"}})
    seen = await WORKLOAD.look(kube, NAMESPACE, wrong)
    assert "has no container main (it has: app, init, proxy)" in (seen.problem or "")


async def test_another_object_of_the_same_name_is_restored_as_wide_as_the_change(kube: Kube):
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "again")
    )
    wanted = target("Deployment", "again")
    before = await WORKLOAD.look(kube, NAMESPACE, wanted)
    await kube.delete(object_path("Deployment", "again"))
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "again")
    )
    await WORKLOAD.perform(
        kube, NAMESPACE, wanted, Operation("1.a.b.1-x", "apply", "target/web", {}), None
    )
    restore = Operation("1.rollback.0-x", "restore", "target/web", {})
    assert await WORKLOAD.perform(kube, NAMESPACE, wanted, restore, before.snapshot) == Progress(
        "Succeeded"
    )
    assert not (await WORKLOAD.look(kube, NAMESPACE, wanted)).matches


async def test_a_rollout_is_followed_as_kubectl_does(kube: Kube):
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "rolling", replicas=2)
    )
    wanted = target("Deployment", "rolling")
    deploy = Operation("1.a.b.1-x", "apply", "target/web", {})
    assert (await WORKLOAD.perform(kube, NAMESPACE, wanted, deploy, None)).state == "Running"
    generation = (await kube.get(object_path("Deployment", "rolling")))["metadata"]["generation"]

    async def status(**fields: Any) -> str:
        full = object_path("Deployment", "rolling") + "/status"
        await kube.patch(full, {"status": {"observedGeneration": generation, **fields}}, "merge")
        progress = await WORKLOAD.follow(kube, NAMESPACE, wanted, deploy, None)
        return f"{progress.state} {progress.message}".strip()

    assert await status(replicas=2, updatedReplicas=1) == "Running 1 of 2 replicas updated"
    assert await status(replicas=3, updatedReplicas=2) == "Running 1 old replicas are still there"
    two = {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}
    assert await status(**two, availableReplicas=1) == "Running 1 of 2 replicas available"
    assert await status(**two, availableReplicas=2) == "Succeeded"
    now = datetime.now(UTC)
    ending = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    ending["lastUpdateTime"] = now.isoformat(timespec="seconds")
    words = "1 old replicas are still ending"
    assert await status(terminatingReplicas=1, conditions=[ending]) == f"Running {words}"
    ending["lastUpdateTime"] = (now - timedelta(seconds=40)).isoformat(timespec="seconds")
    assert await status(conditions=[ending]) == "Succeeded"
    ending["lastUpdateTime"] = now.isoformat(timespec="seconds")
    assert await status(conditions=[ending]) == f"Running {words}"
    assert await status(terminatingReplicas=0) == "Succeeded"
    late = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "timed out",
    }
    assert (await status(updatedReplicas=1, conditions=[late])).startswith(
        "Running Deployment rolling: timed out"
    )


async def test_a_workload_without_the_container_is_refused_before_it_is_changed(kube: Kube):
    await kube.create(
        api_path("apps/v1", "deployments", NAMESPACE), manifest("Deployment", "strict")
    )
    wrong = WorkloadConfig.model_validate({"name": "strict", "images": {"main": "shop/web:2.0"}})
    with pytest.raises(Permanent, match="there is no container main"):
        await WORKLOAD.perform(
            kube, NAMESPACE, wrong, Operation("k", "apply", "target/web", {}), None
        )
    found = await kube.get(object_path("Deployment", "strict"))
    assert [item["name"] for item in found["spec"]["template"]["spec"]["containers"]] == [
        "app",
        "proxy",
    ]
