"""Whether what was deployed runs: what counts as trouble, since when, and what it costs to know."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.providers.workload import availability, comparing, target
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.target import Workload
from tests.unit.plain import DEPLOYMENT, NAMESPACE, PODS, Cluster, deployment, manager, template

WORKLOAD = Workload()
CONFIG = WorkloadConfig(name="web", images={"app": "shop/web:2.4.0"})
DEPLOY = Operation("1.a.b.1-x", "apply", "target/web", {"workload": CONFIG.model_dump()})
UIDS = (f"health-{number}" for number in itertools.count())
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WINDOW = 60.0
NEW, OLD = "5d9", "6c8"


class Clock(datetime):
    """It is always the same moment."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOW


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "datetime", Clock)
    monkeypatch.setattr(comparing, "datetime", Clock)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def before(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def pod(
    name: str,
    hashed: str = NEW,
    ready: bool = True,
    since: float = 300,
    began: float = 600,
    **app: Any,
) -> dict[str, Any]:
    """A pod of the Deployment; keywords are what the kubelet says of its container `app`."""
    image = "shop/web:2.4.0" if hashed == NEW else "shop/web:2.3.1"
    owner = {"kind": "ReplicaSet", "name": f"web-{hashed}", "controller": True, "uid": hashed}
    meta = {
        "labels": {"app": "web", "pod-template-hash": hashed},
        "annotations": {},
        "ownerReferences": [owner],
    }
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": ago(since)}
    said = {"name": "app", "image": image, "restartCount": 0, "state": {"running": {}}} | app
    return {
        "metadata": meta | {"name": name, "creationTimestamp": ago(began)},
        "spec": template(image)["spec"],
        "status": {
            "phase": "Running", "startTime": ago(began), "conditions": [condition],
            "containerStatuses": [said, {"name": "proxy", "state": {"running": {}}}],
        },
    }  # fmt: skip


def ended(seconds: float, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": ago(seconds)}}


def crashed(name: str, seconds: float, count: int = 1, **more: Any) -> dict[str, Any]:
    """One that runs again."""
    return pod(name, restartCount=count, lastState=ended(seconds), **more)


def looping(name: str, seconds: float, **more: Any) -> dict[str, Any]:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    return pod(
        name,
        ready=False,
        restartCount=4,
        state=waiting,
        lastState=ended(seconds, 137, "OOMKilled"),
        **more,
    )


def pending(name: str, **more: Any) -> dict[str, Any]:
    found = pod(
        name,
        ready=False,
        since=20,
        began=20,
        state={"waiting": {"reason": "ContainerCreating"}},
        **more,
    )
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
    }
    found["status"] |= {"phase": "Pending", "conditions": [unscheduled], "containerStatuses": []}
    return found


def gone(found: dict[str, Any]) -> dict[str, Any]:
    found["metadata"]["deletionTimestamp"] = ago(1)
    return found


def begun(found: dict[str, Any]) -> dict[str, Any]:
    """Its init container has failed once, and ended well."""
    well = {
        "name": "init",
        "restartCount": 1,
        "state": ended(20, 0, "Completed"),
        "lastState": ended(25),
    }
    found["status"]["initContainerStatuses"] = [well]
    return found


def of_job(found: dict[str, Any]) -> dict[str, Any]:
    found["metadata"]["ownerReferences"] = [
        {"kind": "Job", "name": "web-migrate", "controller": True}
    ]
    return found


def evicted(found: dict[str, Any]) -> dict[str, Any]:
    found["status"] |= {"phase": "Failed", "reason": "Evicted"}
    return found


def cluster_of(
    *pods: dict[str, Any], replicas: int = 3, available: int | None = None, **status: Any
) -> Cluster:
    found = deployment(next(UIDS), replicas=replicas, image="shop/web:2.4.0", **status)
    if available is not None:
        found["status"] |= {"availableReplicas": available, "readyReplicas": available}
    return Cluster(
        {DEPLOYMENT: found} | {f"{PODS}/{item['metadata']['name']}": item for item in pods}
    )


async def compare(
    cluster: Cluster, window: float | None = WINDOW, replicas: int = 3, closely: bool = False
) -> Standing:
    snapshot = {"template": template(), "uid": "any", "replicas": replicas}
    return await WORKLOAD.compare(cluster, NAMESPACE, CONFIG, [DEPLOY], snapshot, window, closely)


HEALTHY: dict[str, tuple[Cluster]] = {
    "all serve": (cluster_of(pod("a"), pod("b"), pod("c")),),
    "a crash before the window": (cluster_of(crashed("a", 90), pod("b"), available=2),),
    "an autoscaler's fresh pods are starting": (
        cluster_of(pod("a"), pod("b", ready=False, since=45, began=45), replicas=6, available=1),
    ),
    "an autoscaler's fresh pods wait for room": (
        cluster_of(pod("a"), pending("b"), replicas=6, available=1),
    ),
    "not ready for a moment": (cluster_of(pod("a"), pod("b", ready=False, since=20), available=2),),
    "a pod of the version before crashes": (
        cluster_of(pod("a"), looping("b", 5, hashed=OLD), available=2),
    ),
    "one that is going away crashes": (cluster_of(pod("a"), gone(looping("b", 5)), available=2),),
    "a Job's pod with the same label fails": (
        cluster_of(pod("a"), of_job(looping("b", 5)), available=2),
    ),
    "one whose init container has ended": (
        cluster_of(pod("a"), begun(pod("b", ready=False, since=20)), available=2),
    ),
    "one that was evicted long ago": (
        cluster_of(pod("a"), evicted(pod("b", ready=False, state=ended(90))), available=2),
    ),
}


@pytest.mark.parametrize("clusters", HEALTHY.values(), ids=HEALTHY)
async def test_no_trouble(clusters: tuple[Cluster]) -> None:
    assert await compare(*clusters) == Standing(version="2.4.0")


UNAVAILABLE = {"type": "Available", "status": "False", "lastTransitionTime": ago(40)}
LAST = f"it last ended with exit code 1 (Error) at {ago(30)}"
TROUBLE: dict[str, tuple[Cluster, str, float, float | None]] = {
    "a restart within the window": (
        cluster_of(pod("a"), crashed("b", 30, count=3), available=2),
        f"container app of pod b restarted 3 times; {LAST}",
        30,
        30,
    ),
    "a restart to which the counters are blind": (
        cluster_of(pod("a"), pod("b"), crashed("c", 30)),
        f"container app of pod c restarted 1 time; {LAST}",
        30,
        30,
    ),
    "crashes again and again": (
        cluster_of(pod("a"), looping("b", 15, since=25), available=2),
        "container app of pod b: the container crashes again and again (CrashLoopBackOff), "
        "restarted 4 times; "
        f"it last ended with exit code 137 (OOMKilled) at {ago(15)}",
        25,
        None,
    ),
    "between two crashes": (
        cluster_of(pod("a"), pod("b", ready=False, since=3, state=ended(3)), available=2),
        f"container app of pod b ended with exit code 1 (Error) at {ago(3)}",
        3,
        None,
    ),
    "an image that is not there any more": (
        cluster_of(
            pod("a"),
            pod(
                "b",
                ready=False,
                since=50,
                began=50,
                state={"waiting": {"reason": "ImagePullBackOff", "message": "no"}},
            ),
            available=2,
        ),
        "container app of pod b: the image cannot be pulled (ImagePullBackOff), no",
        50,
        None,
    ),
    "was ready, and is not for half a window": (
        cluster_of(pod("a"), pod("b", ready=False, since=40), available=2),
        f"pod b is not ready since {ago(40)}",
        40,
        None,
    ),
    "never ready within the time of a rollout": (
        cluster_of(pod("a"), pod("b", ready=False, since=700, began=700), available=2),
        f"pod b is not ready since {ago(700)}",
        700,
        None,
    ),
    "none is available": (
        cluster_of(pod("a", ready=False, since=20), available=0, conditions=[UNAVAILABLE]),
        "none of 3 replicas is available",
        20,
        None,
    ),
    "none is available, and it waits for room": (
        cluster_of(pending("a"), available=0, conditions=[UNAVAILABLE]),
        "none of 3 replicas is available; pod a cannot be scheduled: 0/3 nodes",
        40,
        None,
    ),
    "several": (
        cluster_of(crashed("a", 30), crashed("b", 20), crashed("c", 10)),
        f"container app of pod a restarted 1 time; {LAST}; container app of pod b "
        "restarted 1 time; "
        f"it last ended with exit code 1 (Error) at {ago(20)}; and 1 more",
        30,
        10,
    ),
    "one was evicted just now": (
        cluster_of(pod("a"), evicted(pod("b", ready=False, state=ended(12, 137))), available=2),
        f"container app of pod b ended with exit code 137 (Error) at {ago(12)}",
        12,
        12,
    ),
}


@pytest.mark.parametrize(("cluster", "words", "since", "last"), TROUBLE.values(), ids=TROUBLE)
async def test_trouble(cluster: Cluster, words: str, since: float, last: float | None) -> None:
    found = await compare(cluster)
    assert found.trouble == f"Deployment web: {words}"
    assert found.troubled_since == before(since)
    assert found.troubled_at == (NOW if last is None else before(last))
    assert (await compare(cluster, window=None)).trouble == ""


async def test_no_pod_is_wanted_any_more() -> None:
    cluster = cluster_of(replicas=0)
    scaled = manager("kubectl", "2026-01-01T10:00:00Z", "f:spec", "f:replicas", subresource="scale")
    cluster.objects[DEPLOYMENT]["metadata"]["managedFields"] = [scaled]
    words = (
        "Deployment web wants no pod any more: replicas is 0, it was 3 (set by kubectl at "
        "2026-01-01T10:00:00Z)"
    )
    assert (await compare(cluster)).trouble == words
    await compare(cluster)
    assert len(cluster.requests("managed")) == 1
    assert await compare(cluster, replicas=0) == Standing(
        version="2.4.0", remark="nobody runs it: Deployment web wants no pods"
    )


# --------------------------------------------------------------------------------------------------
# What it costs


async def test_what_is_good_and_stays_so_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 60)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    cluster = cluster_of(pod("a"), pod("b"), pod("c"))
    cluster.objects[DEPLOYMENT]["metadata"]["annotations"] = {"gatewright.dev/key": DEPLOY.key}
    assert (await WORKLOAD.follow(cluster, NAMESPACE, CONFIG, DEPLOY, None)).state == "Succeeded"
    for _ in range(5):
        await compare(cluster)
    assert cluster.requests("list") == []


async def test_after_a_restart_of_the_operator_the_pods_are_looked_at_once() -> None:
    cluster = cluster_of(pod("a"), pod("b"), pod("c"))
    for _ in range(5):
        await compare(cluster)
    assert len(cluster.requests("list")) == 1


async def test_a_crash_that_the_counters_do_not_tell_of_any_more_is_found() -> None:
    """The status was written when the pod went down and when it came back; only the latter was
    seen."""
    cluster = cluster_of(pod("a"), pod("b"), pod("c"))
    availability.record_complete(cluster.objects[DEPLOYMENT])
    assert (await compare(cluster)).trouble == ""
    cluster.objects[f"{PODS}/c"] = crashed("c", 10)
    cluster.change(DEPLOYMENT, readyReplicas=2, availableReplicas=2)
    cluster.change(DEPLOYMENT, readyReplicas=3, availableReplicas=3)
    for _ in range(3):
        assert "pod c restarted 1 time" in (await compare(cluster)).trouble
    assert len(cluster.requests("list")) == 1


async def test_while_something_is_wrong_pods_are_asked_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = cluster_of(pod("a"), looping("b", 15), available=2)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for seconds in (0.0, 0.5, 1.0, availability.LOOK_INTERVAL_S, 0.5):
        clock[0] += seconds
        await compare(cluster)
    assert len(cluster.requests("list")) == 2


async def test_what_somebody_else_has_put_there_is_not_watched() -> None:
    cluster = cluster_of(looping("b", 15), available=0)
    cluster.template(DEPLOYMENT)["spec"]["containers"][0]["image"] = "shop/web:hotfix"
    found = await compare(cluster)
    assert found.difference and not found.trouble and cluster.requests("list") == []


async def test_a_pod_that_others_have_made_run_something_else_is_a_difference() -> None:
    """`kubectl set image pod/web-1`: the template and all counters stay as they are."""
    edited, mutated, resized = crashed("web-1", 5), pod("web-2"), pod("web-3")
    images = (
        (edited, 2, "shop/web:2.3.1"),
        (mutated, 1, "mirror/web:2.4.0"),
        (resized, 2, "mirror/web:2.4.0"),
    )
    for item, generation, image in images:
        item["metadata"]["generation"] = generation
        item["spec"]["containers"][0]["image"] = image
    cluster = cluster_of(mutated, resized, edited)
    found = (await compare(cluster)).difference
    assert found.startswith(
        "Deployment web is as wanted, but its pod web-1 runs shop/web:2.3.1 instead of "
        "shop/web:2.4.0"
    )
    assert found.endswith("delete that pod")
    edited["spec"]["containers"][0]["image"] = "shop/web:2.4.0"
    cluster.change(DEPLOYMENT)
    assert (await compare(cluster)).difference == ""


async def test_what_no_controller_has_noticed_is_seen_where_an_end_hangs_on_it() -> None:
    one = pod("a")
    cluster = cluster_of(one, pod("b"), pod("c"))
    availability.record_complete(cluster.objects[DEPLOYMENT])
    one["status"]["containerStatuses"][0] |= {"restartCount": 1, "lastState": ended(5)}
    assert (await compare(cluster)).trouble == "" and not cluster.requests("list")
    assert (
        "container app of pod a restarted 1 time" in (await compare(cluster, closely=True)).trouble
    )


async def test_what_has_waited_long_to_be_started_again_has_not_run_meanwhile() -> None:
    again = crashed("b", 90, state={"running": {"startedAt": ago(2)}})
    found = await compare(cluster_of(pod("a"), again, available=2))
    assert "container app of pod b restarted 1 time" in found.trouble
    assert (found.troubled_since, found.troubled_at) == (before(90), before(2))


def manages(name: str, seconds: float) -> dict[str, Any]:
    """Who set the image of the container, and when."""
    fields: dict[str, Any] = {"f:spec": {"f:containers": {'k:{"name":"app"}': {"f:image": {}}}}}
    return {"manager": name, "operation": "Update", "time": ago(seconds), "fieldsV1": fields}


async def test_a_pod_is_edited_as_soon_as_somebody_sets_its_image() -> None:
    """The kubelet takes seconds to start the container anew: until then nothing but the pod's own
    spec tells."""
    edited, mutated = pod("web-1"), pod("web-2")
    for item, image in ((edited, "shop/web:2.3.1"), (mutated, "mirror/web:2.4.0")):
        item["metadata"] |= {
            "generation": 2,
            "managedFields": [manages("kube-controller-manager", 600)],
        }
        item["spec"]["containers"][0]["image"] = image
    assert (await compare(cluster_of(edited, mutated), closely=True)).difference == ""
    edited["metadata"]["managedFields"].append(manages("kubectl-patch", 1))
    found = (await compare(cluster_of(edited, mutated), closely=True)).difference
    assert "its pod web-1 runs shop/web:2.3.1 instead of shop/web:2.4.0" in found


def strayed() -> dict[str, Any]:
    found = pod("a")
    found["metadata"] |= {"generation": 2, "managedFields": [manages("kubectl-set", 20)]}
    found["spec"]["containers"][0]["image"] = "shop/web:hotfix"
    return found


UNSOUND: dict[str, tuple[dict[str, Any], str]] = {
    "a pod that others have made run something else": (
        strayed(),
        "its pod a runs shop/web:hotfix instead of",
    ),
    "one that has crashed and is up again": (crashed("a", 19, 2), "restarted 2 times"),
    "one that has waited long to be started again": (
        crashed("a", 300, 5, state={"running": {"startedAt": ago(10)}}),
        "restarted 5 times",
    ),
}


@pytest.mark.parametrize(("one", "words"), UNSOUND.values(), ids=UNSOUND)
async def test_what_does_not_run_soundly_is_not_taken_over(one: dict[str, Any], words: str) -> None:
    seen = await WORKLOAD.look(cluster_of(one, pod("b"), pod("c")), NAMESPACE, CONFIG)
    assert seen.matches and words in seen.unready


async def test_what_runs_soundly_is_taken_over_and_what_is_to_be_changed_costs_no_list_of_pods() -> (
    None
):
    cluster = cluster_of(crashed("a", 90), pod("b"), pod("c"))
    assert (await WORKLOAD.look(cluster, NAMESPACE, CONFIG)).unready == "" and len(
        cluster.requests("list")
    ) == 1
    cluster = cluster_of(pod("a"), replicas=0)
    assert (await WORKLOAD.look(cluster, NAMESPACE, CONFIG)).unready == "" and not cluster.requests(
        "list"
    )
    cluster = cluster_of(pod("a"))
    cluster.template(DEPLOYMENT)["spec"]["containers"][0]["image"] = "shop/web:2.3.1"
    assert not (await WORKLOAD.look(cluster, NAMESPACE, CONFIG)).matches and not cluster.requests(
        "list"
    )


@pytest.mark.parametrize(
    ("ages", "since"), [((2.0,), 2.0), ((2.0, 200.0), 120.0), ((1.0, 3.0), 3.0)]
)
async def test_it_serves_since_one_of_its_pods_is_there_all_the_time(
    ages: tuple[float, ...], since: float
) -> None:
    """Who deletes a pod that crashed has a fresh one, and a rollout that was complete long ago."""
    complete = {
        "type": "Progressing",
        "status": "True",
        "reason": "NewReplicaSetAvailable",
        "lastUpdateTime": ago(120),
    }
    listed = [pod(f"p{number}", since=age, began=age + 1) for number, age in enumerate(ages)]
    cluster = cluster_of(*listed, replicas=len(ages), conditions=[complete])
    restore = Operation("1.a.b.1-x", "restore", "target/web", {"workload": CONFIG.model_dump()})
    snapshot = {"template": cluster.template(DEPLOYMENT), "uid": "any", "replicas": len(ages)}
    found = await WORKLOAD.compare(cluster, NAMESPACE, CONFIG, [restore], snapshot, WINDOW, True)
    assert found.rolled_out == before(since)
