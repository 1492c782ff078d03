"""A Deployment as a target: what it wants, what it has, and what comes back."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.api import KEY
from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import NotFound, Permanent
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.target import Workload
from gatewright.providers.workload.template import CONFIG_ANNOTATION, RESTART_ANNOTATION
from tests.unit.plain import (
    APP,
    DEPLOYMENT,
    NAMESPACE,
    PODS,
    Cluster,
    deployment,
    manager,
    template,
)

WORKLOAD = Workload()
SUBJECT = "target/web"
UIDS = (f"uid-{number}" for number in itertools.count())
NEW, OLD = "shop/web:2.4.0", "shop/web:2.3.1"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/keys"
SETTINGS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/settings"


def raw(image: str = NEW, **more: Any) -> dict[str, Any]:
    return {"workload": {"name": "web", "images": {"app": image}, **more}}


def checked(config: dict[str, Any]) -> WorkloadConfig:
    return WorkloadConfig.model_validate(config["workload"])


def apply(config: dict[str, Any] | None = None, key: str = "1.a.b.1-x", **more: Any) -> Operation:
    return Operation(key, "apply", SUBJECT, config or raw(), **more)


def flags(key: str = "1.a.c.1-x", **values: str) -> Operation:
    return Operation(key, "set", SUBJECT, {"target": raw(), "container": "app", "set": values})


def restore(*changes: Operation, config: dict[str, Any] | None = None, **more: Any) -> Operation:
    return Operation("1.rollback.0-x", "restore", SUBJECT, config or raw(), changes=changes, **more)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster({DEPLOYMENT: deployment(next(UIDS))})


async def perform(cluster: Cluster, operation: Operation, snapshot: Any = None) -> Progress:
    config = operation.config["target"] if operation.kind == "set" else operation.config
    return await WORKLOAD.perform(cluster, NAMESPACE, checked(config), operation, snapshot)


async def follow(cluster: Cluster, operation: Operation, snapshot: Any = None) -> Progress:
    config = operation.config["target"] if operation.kind == "set" else operation.config
    return await WORKLOAD.follow(cluster, NAMESPACE, checked(config), operation, snapshot)


async def compare(cluster: Cluster, *operations: Operation, snapshot: Any = None) -> Standing:
    found = cluster.objects.get(DEPLOYMENT)
    if (
        found is not None
        and found["status"]["observedGeneration"] != found["metadata"]["generation"]
    ):
        complete(cluster)
    return await WORKLOAD.compare(cluster, NAMESPACE, checked(raw()), operations, snapshot, None)


async def look(cluster: Cluster) -> Any:
    return (await WORKLOAD.look(cluster, NAMESPACE, checked(raw()))).snapshot


def app(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["spec"]["containers"][0]
    return found


def complete(cluster: Cluster) -> None:
    """The rollout gets to its end."""
    cluster.change(
        DEPLOYMENT, observedGeneration=cluster.objects[DEPLOYMENT]["metadata"]["generation"]
    )


# --------------------------------------------------------------------------------------------------
# To change it


async def test_a_deploy_changes_what_it_names_and_is_marked(cluster: Cluster) -> None:
    assert (await follow(cluster, apply())).state == "Absent"
    assert (await perform(cluster, apply())).state == "Running"
    wanted = template()
    app(wanted)["image"] = NEW
    found = cluster.objects[DEPLOYMENT]
    assert found["spec"]["template"] == wanted
    assert found["metadata"]["annotations"] == {KEY: apply().key}
    complete(cluster)
    assert (await follow(cluster, apply())).state == "Succeeded"


async def test_a_change_that_was_computed_from_an_older_object_is_computed_again(
    cluster: Cluster,
) -> None:
    cluster.interrupt = lambda: app(cluster.template(DEPLOYMENT)).update(
        resources={"limits": {"cpu": "1"}}
    )
    await perform(cluster, apply())
    assert app(cluster.objects[DEPLOYMENT]["spec"]["template"])["resources"] == {
        "limits": {"cpu": "1"}
    }


@pytest.mark.parametrize(
    "operation",
    [apply(raw(env={"app": {"TOKEN": "plain", "B": ""}})), flags(TOKEN="plain", B="")],
    ids=["apply", "set"],
)
async def test_a_variable_with_a_source_gets_a_value_and_returns_to_its_source(
    cluster: Cluster, operation: Operation
) -> None:
    before = await look(cluster)
    await perform(cluster, operation)
    env = app(cluster.objects[DEPLOYMENT]["spec"]["template"])["env"]
    assert [item["name"] for item in env] == ["A", "TOKEN", "URL", "B"]
    assert env[1] == {"name": "TOKEN", "value": "plain"}
    del env[3]["value"]  # the API server leaves out what is empty
    complete(cluster)
    assert (await follow(cluster, operation)).state == "Succeeded"
    await perform(cluster, restore(operation), before)
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == template()


async def test_a_workload_that_is_gone_is_said_with_what_helps(cluster: Cluster) -> None:
    del cluster.objects[DEPLOYMENT]
    with pytest.raises(NotFound, match="Deployment web is gone; apply it again"):
        await perform(cluster, apply())
    assert (await follow(cluster, apply())).message == "Deployment web is gone; apply it again"
    assert (await compare(cluster, apply())).difference == "Deployment web is gone; apply it again"


async def test_a_container_that_is_not_there_is_named(cluster: Cluster) -> None:
    with pytest.raises(
        Permanent, match=r"Deployment web: there is no container main \(there are: app, proxy\)"
    ):
        await perform(cluster, apply({"workload": {"name": "web", "images": {"main": NEW}}}))
    assert cluster.patches == []


async def test_an_unknown_operation_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(Permanent, match='no operation "act"'):
        await perform(cluster, Operation("k", "act", SUBJECT, raw()))


# --------------------------------------------------------------------------------------------------
# Restarts


async def test_a_restart_is_a_mark_on_the_template_and_has_to_be_there(cluster: Cluster) -> None:
    again = apply(raw(OLD), restart=True)
    await perform(cluster, again)
    annotations = cluster.objects[DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {RESTART_ANNOTATION: again.key}
    complete(cluster)
    assert (await follow(cluster, again)).state == "Succeeded"
    del cluster.template(DEPLOYMENT)["metadata"]["annotations"]
    lost = await follow(cluster, again)
    assert lost.stuck and f"has lost the annotation {RESTART_ANNOTATION}" in lost.message


def captured() -> dict[str, Any]:
    return raw(OLD, config=[{"secret": "keys"}, {"configMap": "settings"}])


def keep(cluster: Cluster, version: str = "5", **data: str) -> None:
    meta = {"uid": "s", "resourceVersion": version}
    cluster.objects[SECRET] = {"metadata": meta, "data": {"token": "hunter2"}}
    cluster.objects[SETTINGS] = {"metadata": meta, "data": data}


async def mark(cluster: Cluster, config: dict[str, Any] | None = None) -> tuple[str | None, bool]:
    """What stands for captured configuration after a deploy, and whether pods restart."""
    before = copy.deepcopy(cluster.objects[DEPLOYMENT]["spec"]["template"])
    await perform(cluster, apply(config or captured()))
    after = cluster.objects[DEPLOYMENT]["spec"]["template"]
    return (after["metadata"].get("annotations") or {}).get(CONFIG_ANNOTATION), before != after


async def test_a_redeploy_restarts_pods_where_captured_configuration_has_changed(
    cluster: Cluster,
) -> None:
    keep(cluster, A="1")
    assert await mark(cluster) == (None, False)  # the first mark alone restarts nothing
    first, restarts = await mark(cluster, raw(NEW, config=captured()["workload"]["config"]))
    assert first and restarts
    again = raw(NEW, config=captured()["workload"]["config"])
    assert await mark(cluster, again) == (first, False)
    keep(cluster, version="6", A="1")
    rotated, restarts = await mark(cluster, again)
    assert rotated not in (None, first) and restarts
    keep(cluster, version="6", A="2")
    changed, restarts = await mark(cluster, again)
    assert changed not in (None, first, rotated) and restarts
    del cluster.objects[SETTINGS]
    assert (await mark(cluster, again))[1]


async def test_the_mark_tells_nothing_of_a_secrets_content(cluster: Cluster) -> None:
    """The same mark for other content: whoever reads it cannot try out guesses."""
    keep(cluster)
    config = raw(NEW, config=[{"secret": "keys"}])
    one, _ = await mark(cluster, config)
    cluster.objects[SECRET]["data"] = {"token": "another"}
    assert await mark(cluster, config) == (one, False)
    assert "hunter2" not in json.dumps(cluster.patches)


# --------------------------------------------------------------------------------------------------
# To bring it back


async def test_where_nobody_else_changed_anything_the_template_is_the_snapshots_to_the_letter(
    cluster: Cluster,
) -> None:
    keep(cluster)
    before = await look(cluster)
    deploy = apply(
        raw(NEW, env={"app": {"A": "9"}, "proxy": {"DEBUG": "1"}}, config=[{"secret": "keys"}]),
        restart=True,
    )
    await perform(cluster, deploy)
    await perform(cluster, flags(TOKEN="x", VOICE="on"))
    back = restore(deploy, flags(TOKEN="x", VOICE="on"), config=deploy.config)
    progress = await perform(cluster, back, before)
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == before["template"] == template()
    assert not progress.notable
    complete(cluster)
    assert await follow(cluster, back, before) == Progress("Succeeded")


def limits(template: dict[str, Any]) -> None:
    app(template)["resources"] = {"limits": {"memory": "1Gi"}}


def sidecar(template: dict[str, Any]) -> None:
    template["spec"]["containers"].append({"name": "agent", "image": "shop/agent:1"})


def variable(template: dict[str, Any]) -> None:
    app(template)["env"].insert(0, {"name": "ZONE", "value": "a"})


def restarted(template: dict[str, Any]) -> None:
    template["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/restartedAt"] = "now"


def node(template: dict[str, Any]) -> None:
    template["spec"]["nodeSelector"] = {"disk": "fast"}


def label(template: dict[str, Any]) -> None:
    template["metadata"]["labels"]["tier"] = "front"


def less(template: dict[str, Any]) -> None:
    del template["spec"]["containers"][1]


BESIDE = {
    limits: "containers[app].resources",
    sidecar: "containers[agent]",
    variable: "containers[app].env[ZONE]",
    restarted: "metadata.annotations[kubectl.kubernetes.io/restartedAt]",
    node: "nodeSelector",
    label: "metadata.labels[tier]",
    less: "containers[proxy]",
}


@pytest.mark.parametrize(
    ("act", "place"), BESIDE.items(), ids=lambda item: getattr(item, "__name__", "")
)
async def test_what_others_changed_stays_and_is_named(
    cluster: Cluster, act: Callable[[dict[str, Any]], None], place: str
) -> None:
    before = await look(cluster)
    deploy = apply(raw(env={"app": {"TOKEN": "x", "B": "2"}}))
    await perform(cluster, deploy)
    act(cluster.template(DEPLOYMENT))
    back = restore(deploy, config=deploy.config)
    progress = await perform(cluster, back, before)
    wanted = template()
    act(wanted)
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == wanted
    assert progress.notable and progress.message.endswith(f"{place} changed meanwhile; it stays")
    assert (await compare(cluster, back, snapshot=before)).difference == ""
    complete(cluster)
    assert await follow(cluster, back, before) == Progress(
        "Succeeded", f"{place} changed meanwhile; it stays", notable=True
    )


async def test_variables_return_to_where_others_refer_to_them(cluster: Cluster) -> None:
    before = await look(cluster)
    await perform(cluster, flags(TOKEN="x"))
    env = app(cluster.template(DEPLOYMENT))["env"]
    del env[1]
    env.append({"name": "ZONE", "value": "a"})
    await perform(cluster, restore(flags(TOKEN="x")), before)
    found = app(cluster.objects[DEPLOYMENT]["spec"]["template"])["env"]
    assert [item["name"] for item in found] == ["A", "TOKEN", "URL", "ZONE"]


async def test_the_whole_template_comes_back_where_that_is_wanted(cluster: Cluster) -> None:
    before = await look(cluster)
    config = raw(restore="Template")
    await perform(cluster, apply(config))
    for act in BESIDE:
        act(cluster.template(DEPLOYMENT))
    progress = await perform(cluster, restore(apply(config), config=config), before)
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == before["template"]
    assert not progress.notable
    sidecar(cluster.template(DEPLOYMENT))
    standing = await compare(cluster, restore(config=config), snapshot=before)
    assert standing.difference == "Deployment web has another containers[agent] than its snapshot"


async def test_an_object_that_was_made_again_is_restored_as_wide_as_the_change(
    cluster: Cluster,
) -> None:
    before = await look(cluster)
    cluster.objects[DEPLOYMENT] = deployment(next(UIDS), image=NEW)
    limits(cluster.template(DEPLOYMENT))
    await perform(cluster, restore(apply()), before)
    found = app(cluster.objects[DEPLOYMENT]["spec"]["template"])
    assert (found["image"], found["resources"]) == (OLD, {"limits": {"memory": "1Gi"}})


async def test_a_container_that_others_took_away_is_not_put_back(cluster: Cluster) -> None:
    before = await look(cluster)
    cluster.template(DEPLOYMENT)["spec"]["containers"] = [{"name": "main", "image": NEW}]
    with pytest.raises(Permanent, match="there is no container app"):
        await perform(cluster, restore(apply()), before)


async def test_without_a_snapshot_nothing_is_restored(cluster: Cluster) -> None:
    with pytest.raises(Permanent, match="there is no snapshot of target/web"):
        await perform(cluster, restore(apply()))


# --------------------------------------------------------------------------------------------------
# How far it is


async def test_an_operation_has_succeeded_only_if_the_object_has_what_it_wanted(
    cluster: Cluster,
) -> None:
    await perform(cluster, apply())
    complete(cluster)
    app(cluster.template(DEPLOYMENT))["image"] = OLD
    place = (*APP, "f:image")
    cluster.objects[DEPLOYMENT]["metadata"]["managedFields"] = [
        manager("gatewright", "2026-01-01T09:00:00Z", *APP, "f:env"),
        manager("kubectl-rollout", "2026-01-01T10:00:00Z", *place),
        manager(
            "kube-controller-manager", "2026-01-01T11:00:00Z", "f:status", subresource="status"
        ),
    ]
    words = (
        f"Deployment web runs {OLD} instead of {NEW} (container app; set by kubectl-rollout at "
        "2026-01-01T10:00:00Z)"
    )
    assert await follow(cluster, apply()) == Progress(
        "Running", words, stuck=True, overwritten=True
    )
    assert (await compare(cluster, apply())).difference == words
    assert len(cluster.requests("managed")) == 1  # once for each state of the object


def condition(
    kind: str, reason: str, at: str, status: str = "False", message: str = "said"
) -> dict[str, Any]:
    times = {"lastUpdateTime": at, "lastTransitionTime": at}
    return {"type": kind, "status": status, "reason": reason, "message": message, **times}


LATE = "ProgressDeadlineExceeded"


@pytest.mark.parametrize(
    ("kind", "since", "state", "stuck"),
    [
        ("apply", None, "Running", True),
        ("apply", "2026-01-01T09:59:00Z", "Running", True),
        ("apply", "2026-01-01T09:59:59.500000+00:00", "Running", False),
        ("apply", "2026-01-01T10:00:00Z", "Running", False),
        ("restore", "2026-01-01T10:05:00Z", "Running", False),
        ("restore", "2026-01-01T09:59:00Z", "Running", True),
    ],
)
async def test_a_progress_deadline_that_is_older_than_the_operation_decides_nothing(
    cluster: Cluster, kind: str, since: str | None, state: str, stuck: bool
) -> None:
    before = await look(cluster)
    operation = apply(since=since) if kind == "apply" else restore(apply(), since=since)
    await perform(cluster, operation, before)
    late = condition("Progressing", LATE, "2026-01-01T10:00:00Z", message="timed out")
    cluster.change(DEPLOYMENT, availableReplicas=1, conditions=[late])
    complete(cluster)
    found = await follow(cluster, operation, before)
    words = "Deployment web: timed out" if stuck else "1 of 3 replicas available"
    assert (found.state, found.stuck, found.message) == (state, stuck, words)
    cluster.change(DEPLOYMENT, availableReplicas=3)
    assert (await follow(cluster, operation, before)).state == "Succeeded"


@pytest.mark.parametrize(
    "said",
    [
        condition(
            "ReplicaFailure",
            "FailedCreate",
            "2026-01-01T10:00:00Z",
            "True",
            "exceeded quota: small",
        ),
        condition(
            "Progressing",
            "ReplicaSetCreateError",
            "2026-01-01T10:00:00Z",
            "False",
            "exceeded quota: small",
        ),
    ],
    ids=["pods", "replica sets"],
)
async def test_pods_that_cannot_be_created_are_waited_for_in_the_api_servers_own_words(
    cluster: Cluster, said: dict[str, Any]
) -> None:
    await perform(cluster, apply())
    late = condition("Progressing", LATE, "2026-01-01T10:00:00Z")
    cluster.change(DEPLOYMENT, updatedReplicas=0, conditions=[said, late])
    complete(cluster)
    words = "Deployment web cannot create pods: exceeded quota: small"
    assert await follow(cluster, apply()) == Progress("Running", words, stuck=True)
    found = await WORKLOAD.trouble(cluster, NAMESPACE, checked(raw()))
    assert found is not None and (found.message, found.hopeless) == (words, False)


async def test_old_pods_that_are_still_ending_are_waited_for(cluster: Cluster) -> None:
    await perform(cluster, apply())
    now = datetime.now(UTC)
    done = condition(
        "Progressing", "NewReplicaSetAvailable", now.isoformat(timespec="seconds"), "True"
    )
    cluster.change(DEPLOYMENT, terminatingReplicas=1, conditions=[done])
    complete(cluster)
    assert (await follow(cluster, apply())).message == "1 old replicas are still ending"
    earlier = (now - timedelta(minutes=1)).isoformat(timespec="seconds")
    cluster.change(DEPLOYMENT, conditions=[done | {"lastUpdateTime": earlier}])
    assert (await follow(cluster, apply())).state == "Succeeded"


# --------------------------------------------------------------------------------------------------
# What it is, beside what is wanted


def image(template: dict[str, Any]) -> None:
    app(template)["image"] = "shop/web:hotfix"


def other_value(template: dict[str, Any]) -> None:
    app(template)["env"][3]["value"] = "hunter2"


def from_secret(template: dict[str, Any]) -> None:
    del app(template)["env"][3]["value"]
    app(template)["env"][3]["valueFrom"] = {"secretKeyRef": {"name": "others", "key": "voice"}}


def from_field(template: dict[str, Any]) -> None:
    del app(template)["env"][3]["value"]
    app(template)["env"][3]["valueFrom"] = {"fieldRef": {"fieldPath": "metadata.name"}}


def no_variable(template: dict[str, Any]) -> None:
    del app(template)["env"][3]


def renamed(template: dict[str, Any]) -> None:
    app(template)["name"] = "main"


DIFFERENT = {
    image: f"runs shop/web:hotfix instead of {NEW} (container app; set by kubectl at T)",
    other_value: "has another value of the variable VOICE (container app; set by kubectl at T)",
    from_secret: "takes the variable VOICE from Secret others[voice] instead of a plain value "
    "(container app; set by kubectl at T)",
    from_field: (
        "takes the variable VOICE from field instead of a plain value (container app; set "
        "by kubectl at T)"
    ),
    no_variable: "has no variable VOICE (container app; the last to set anything was kubectl at T)",
    renamed: "has no container app (the last to set anything was kubectl at T)",
}


@pytest.mark.parametrize(
    ("act", "words"), DIFFERENT.items(), ids=lambda item: getattr(item, "__name__", "")
)
async def test_a_difference_is_said_with_who_made_it(
    cluster: Cluster, act: Callable[[dict[str, Any]], None], words: str
) -> None:
    for operation in (apply(), flags(VOICE="on")):
        await perform(cluster, operation)
    assert await compare(cluster, apply(), flags(VOICE="on")) == Standing(version="2.4.0")
    assert cluster.requests("managed") == []
    act(cluster.template(DEPLOYMENT))
    variable = (*APP, "f:env", 'k:{"name":"VOICE"}')
    set_by = [
        *(manager("kubectl", "T", *place) for place in ((*APP, "f:image"), (*variable, "f:value")))
    ]
    set_by += [
        manager("kubectl", "T", *variable, "f:valueFrom"),
        manager("gatewright", "S", *APP, "f:name"),
    ]
    cluster.objects[DEPLOYMENT]["metadata"]["managedFields"] = set_by
    standing = await compare(cluster, apply(), flags(VOICE="on"))
    assert standing.difference == f"Deployment web {words}"
    assert "hunter2" not in standing.difference
    again = await compare(cluster, apply(), flags(VOICE="on"))
    assert again == standing and len(cluster.requests("managed")) == 1


def a_pod(name: str, image: str, owner: str = "web-1") -> dict[str, Any]:
    """A pod of the Deployment's ReplicaSet `owner`."""
    labels = {"app": "web", "pod-template-hash": owner.rpartition("-")[2]}
    owners = [{"kind": "ReplicaSet", "name": owner, "uid": "rs", "controller": True}]
    spec = template(image)["spec"]
    app({"spec": spec})["env"] = [{"name": "VOICE", "value": "on"}]
    return {
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        "spec": spec,
        "status": {},
    }


MIXED = {
    "another image": (a_pod("web-1-a", "shop/web:3.0"), True),
    "the wanted one, started by a restart": (a_pod("web-1-a", NEW), False),
    "of another owner": (a_pod("web-1-a", "shop/web:3.0", owner="others-1"), False),
}


@pytest.mark.parametrize(("pod", "told"), MIXED.values(), ids=MIXED)
async def test_a_template_that_was_set_right_again_is_not_what_runs(
    cluster: Cluster, pod: dict[str, Any], told: bool
) -> None:
    """Its rollout is paused, or a quota is full: the pods of the template in between go on
    serving."""
    await perform(cluster, apply())
    cluster.objects[f"{PODS}/web-1-a"] = pod
    assert (await compare(cluster, apply())).difference == "", (
        "all pods are counted as those of the template"
    )
    assert cluster.requests("list") == []
    cluster.change(DEPLOYMENT, updatedReplicas=2)
    found = await compare(cluster, apply())
    words = "is set right, but its pod web-1-a runs shop/web:3.0 instead of"
    assert (words in found.difference) is told and found.unknown == ""


async def test_counters_of_an_older_template_tell_nothing(cluster: Cluster) -> None:
    await perform(cluster, apply())
    found = await WORKLOAD.compare(cluster, NAMESPACE, checked(raw()), [apply()], None, None)
    assert found.unknown == "its controller has not seen the last change yet"


async def test_a_paused_rollout_that_is_complete_has_succeeded(cluster: Cluster) -> None:
    snapshot = await look(cluster)
    await perform(cluster, apply())
    await perform(cluster, restore(), snapshot)
    cluster.objects[DEPLOYMENT]["spec"]["paused"] = True
    complete(cluster)
    assert (await follow(cluster, restore(), snapshot)).state == "Succeeded"
    cluster.change(DEPLOYMENT, updatedReplicas=0)
    assert "is paused" in (await follow(cluster, restore(), snapshot)).message


@pytest.mark.parametrize("whole", [False, True])
async def test_a_restore_may_start_pods_anew(cluster: Cluster, whole: bool) -> None:
    snapshot = await look(cluster)
    await perform(cluster, apply())
    config = raw()
    config["workload"]["restore"] = "Template" if whole else "Change"
    anew = replace(restore(), restart=True, config=config)
    await perform(cluster, anew, snapshot)
    complete(cluster)
    assert cluster.template(DEPLOYMENT)["metadata"]["annotations"][RESTART_ANNOTATION] == anew.key
    assert (await follow(cluster, anew, snapshot)).state == "Succeeded"
    assert (
        await compare(cluster, replace(anew, restart=False), snapshot=snapshot)
    ).difference == ""


@pytest.mark.parametrize("act", BESIDE, ids=lambda act: act.__name__)
async def test_what_others_own_is_no_difference(
    cluster: Cluster, act: Callable[[dict[str, Any]], None]
) -> None:
    await perform(cluster, apply())
    act(cluster.template(DEPLOYMENT))
    cluster.objects[DEPLOYMENT]["spec"]["replicas"] = 7
    assert (await compare(cluster, apply())).difference == ""


async def test_a_digest_that_a_policy_has_put_behind_the_tag_is_no_difference(
    cluster: Cluster,
) -> None:
    await perform(cluster, apply())
    app(cluster.template(DEPLOYMENT))["image"] = f"{NEW}@sha256:{'0' * 64}"
    assert await compare(cluster, apply()) == Standing(version="2.4.0")
    assert (await look(cluster)) is not None and cluster.requests("managed") == []


async def test_operations_are_taken_together_in_their_order(cluster: Cluster) -> None:
    before = await look(cluster)
    first, second = apply(raw("shop/web:2.4.0-rc1")), apply(raw(NEW))
    await perform(cluster, second)
    assert (await compare(cluster, first, second)).difference == ""
    assert "instead of shop/web:2.4.0-rc1" in (await compare(cluster, second, first)).difference
    back = restore(first, second)
    assert (
        f"runs {NEW} instead of {OLD}"
        in (await compare(cluster, second, back, snapshot=before)).difference
    )
    assert (await compare(cluster, back, second, snapshot=before)).difference == ""


async def test_a_restore_stands_for_the_snapshot_in_all_that_it_puts_back(cluster: Cluster) -> None:
    before = await look(cluster)
    back = restore(flags(VOICE="on"))
    assert (await compare(cluster, back, snapshot=before)).difference == ""
    await perform(cluster, flags(VOICE="on", TOKEN="x"))
    standing = await compare(cluster, restore(flags(VOICE="on", TOKEN="x")), snapshot=before)
    assert (
        "has a plain value of the variable TOKEN instead of one from Secret keys[token]"
        in standing.difference
    )
    assert "has the variable VOICE, which was not there before" in standing.difference
    at_rest = await compare(cluster, restore(), snapshot=before)
    assert at_rest.difference == ""  # at rest the fields of the target count


async def test_many_differences_are_counted(cluster: Cluster) -> None:
    await perform(cluster, flags(A="x", B="x", C="x", D="x", E="x"))
    app(cluster.template(DEPLOYMENT))["env"] = []
    assert (await compare(cluster, flags(A="x", B="x", C="x", D="x", E="x"))).difference == (
        "Deployment web has no variable A (container app); has no variable B (container app); "
        "has no variable C (container app); and 2 more"
    )


async def test_nobody_runs_what_wants_no_pods(cluster: Cluster) -> None:
    cluster.objects[DEPLOYMENT]["spec"]["replicas"] = 0
    assert (
        await compare(cluster, apply(raw(OLD)))
    ).remark == "nobody runs it: Deployment web wants no pods"


# --------------------------------------------------------------------------------------------------
# Before a run


async def test_the_snapshot_holds_the_template_the_object_and_how_many_pods_it_wants(
    cluster: Cluster,
) -> None:
    found = cluster.objects[DEPLOYMENT]
    sight = await WORKLOAD.look(cluster, NAMESPACE, checked(raw()))
    assert sight.snapshot == {
        "template": template(),
        "uid": found["metadata"]["uid"],
        "replicas": 3,
    }
    assert (sight.matches, sight.version, sight.problem) == (False, "2.3.1", None)
    assert (await WORKLOAD.look(cluster, NAMESPACE, checked(raw(OLD)))).matches
