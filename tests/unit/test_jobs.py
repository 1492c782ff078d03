"""How far a Job is: what is told at its end, why it does not get on, and when nothing of it runs
any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from gatewright.api import API_VERSION, KEY, RESULT
from gatewright.api.jobs import Job
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import (
    Conflict,
    Keep,
    NotFound,
    Permanent,
    Retryable,
    Trouble,
    keep_whole_object,
)
from gatewright.runtime.execution import job_endings, job_outputs, job_stops, jobs
from gatewright.runtime.execution.job_pods import DEFAULT_CONTAINER
from gatewright.runtime.execution.job_spec import job_spec
from tests.unit.test_reports import SECRET, VIEW, Cluster

DEADLINE = {
    "reason": "DeadlineExceeded",
    "message": "Job was active longer than specified deadline",
}
QUOTA = (
    'Error creating: pods "foco-smoke-x" is forbidden: exceeded quota: none, requested: '
    "pods=1, used: pods=0"
)
NOBODY = (
    'Error creating: pods "foco-smoke-" is forbidden: error looking up service account '
    'shop/nope: "nope" not found'
)
MOUNT = 'MountVolume.SetUp failed for volume "v" : secret "nope" not found'
HUNG = (
    "job foco-smoke did not end within 20s (DeadlineExceeded); look for what it waits for, or "
    "give it a longer timeout"
)
LOCK = "waiting for lock 1\nwaiting for lock 2\n"
HEARD = "its log ends: waiting for lock 1 / waiting for lock 2"


class World(Cluster):
    """The same Job before its end, or on the way to it."""

    def __init__(self, *conditions: Mapping[str, Any], **status: Any) -> None:
        super().__init__()
        self.job["status"] = {
            "conditions": [{"status": "True", **item} for item in conditions],
            **status,
        }
        self.job["metadata"]["generation"] = 2
        self.gone = False
        self.patches: list[tuple[str, Any]] = []
        self.made: list[Mapping[str, Any]] = []
        self.refusal: Exception | None = None
        self.blind: Exception | None = None

    def lives(self, log: str | Exception = "", phase: str = "Running", **more: Any) -> World:
        """A pod that has not ended."""
        self.pod(log, **more)
        self.pods[-1]["status"] = {
            "phase": phase,
            "containerStatuses": [
                {"name": "job", "image": "shop/smoke:1", "state": {"running": {}}}
            ],
        }
        return self

    def state(
        self, state: Mapping[str, Any], name: str = "job", kind: str = "containerStatuses"
    ) -> World:
        """What a container of the last pod does."""
        statuses = self.pods[-1]["status"].setdefault(kind, [])
        statuses[:] = [item for item in statuses if item["name"] != name]
        statuses.append({"name": name, "image": f"shop/{name}:1", "state": dict(state)})
        return self

    def leaves(self, seconds: float = 30.0, node: str = "node-1") -> World:
        """The last pod was told to end, and has so many seconds for that."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        self.pods[-1]["metadata"]["deletionTimestamp"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.pods[-1]["spec"]["nodeName"] = node
        return self

    def event(
        self, reason: str, message: str, kind: str = "Job", second: int = 0, **more: Any
    ) -> World:
        about = self.job if kind == "Job" else self.pods[-1]
        meta = about["metadata"]
        told = {"lastTimestamp": f"2026-01-01T00:00:{second:02}Z", "type": "Warning"} | more
        involved = {"kind": kind, "name": meta["name"], "uid": meta.get("uid")}
        self.events.append(
            {"reason": reason, "message": message, "involvedObject": involved, **told}
        )
        return self

    async def get(self, path: str) -> dict[str, Any]:
        if self.gone:
            raise NotFound("no such job")
        return await super().get(path)

    async def list(
        self, path: str, selector: str = "", fields: str = "", *, keep: Keep = keep_whole_object
    ) -> list[dict[str, Any]]:
        if self.blind is not None and path.endswith("/events"):
            raise self.blind
        return await super().list(path, selector, fields, keep=keep)

    async def patch(self, path: str, body: Any, kind: str) -> dict[str, Any]:
        self.patches.append((path.rpartition("/")[2], body))
        return self.job

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        self.made.append(body)
        return dict(body)


def wanted(kind: Literal["job", "stop"] = "job", **job: Any) -> Operation:
    config = (
        Job.model_validate({"image": "shop/smoke:1", "timeout": "20s", **job})
        if kind == "job"
        else None
    )
    return Operation("1.smoke.test.1-abc", kind, "job/foco-smoke", config)


async def follow(world: Cluster, **job: Any) -> Progress:
    return await jobs.follow_job(world, VIEW, wanted(**job))


async def trouble(world: Cluster, **job: Any) -> Trouble | None:
    return await jobs.job_trouble(world, VIEW, wanted(**job))


async def stop(world: Cluster) -> Progress:
    return await job_stops.stop_job(world, VIEW, wanted("stop"))


async def stopped(world: Cluster) -> Progress:
    return await job_stops.follow_stop(world, VIEW, wanted("stop"))


def complete(**status: Any) -> World:
    return World({"type": "Complete"}, succeeded=1, **status)


def hanging(kind: str = "FailureTarget") -> World:
    return World({"type": kind, **DEADLINE}, failed=1)


# --------------------------------------------------------------------------------------------------
# What a Job publishes


async def test_what_a_pod_that_is_gone_has_published_is_not_known() -> None:
    found = await follow(complete())
    assert found.state == "Succeeded"
    assert found.unread == "what job foco-smoke published cannot be read: its pod is gone"


async def test_of_several_pods_one_that_is_gone_may_have_published_it() -> None:
    world = World({"type": "Complete"}, succeeded=2).pod(message='{"id": "a"}')
    found = await follow(world)
    assert (found.outputs, "of its 2 pods that succeeded 1 are left" in found.unread) == ({}, True)


async def test_the_pod_of_an_earlier_job_of_the_same_name_is_not_read() -> None:
    world = complete().pod(message='{"id": "a"}')
    world.pods[0]["metadata"]["ownerReferences"][0]["uid"] = "another"
    found = await follow(world)
    assert (found.outputs, "its pod is gone" in found.unread) == ({}, True)


@pytest.mark.parametrize(
    ("message", "outputs", "unread"),
    [
        ("", {}, ""),
        ("all done", {}, ""),
        ('["a"]', {}, ""),
        ('{"id": "b-1", "rows": 3}', {"id": "b-1", "rows": "3"}, ""),
        (
            '{"id": "b-1", "rows": ',
            {},
            "its termination message of 22 bytes looks like a JSON object and is none",
        ),
        (' {"a": "' + "x" * 4000, {}, "looks like a JSON object and is none"),
        ("x" * 4093 + '"}\n', {}, "of 4096 bytes looks like a JSON object and is none"),
        ('{"a":' + "[" * 4000, {}, "looks like a JSON object and is none"),
    ],
)
async def test_a_message_that_was_cut_is_not_taken_for_none(
    message: str, outputs: dict[str, str], unread: str
) -> None:
    found = await follow(complete().pod(message=message))
    assert (found.state, found.outputs) == ("Succeeded", outputs)
    assert unread in found.unread and bool(unread) == bool(found.unread)


async def test_a_value_is_whole_or_not_there() -> None:
    said = {"id": "b-1", "log": "x" * 1001, "half": "\ud800", "last": "y" * 1000}
    found = await follow(complete().pod(message=json.dumps(said)))
    assert found.outputs == {"id": "b-1", "last": "y" * 1000}
    assert found.notable
    assert (
        "output 'log' is left out: it has 1001 characters, and at most 1000 are kept"
        in found.message
    )
    assert "output 'half' is left out: it is not text" in found.message


async def test_more_outputs_than_are_kept_are_named() -> None:
    said = json.dumps({f"k{n}": n for n in range(40)})
    found = await follow(complete().pod(message=said))
    assert list(found.outputs) == [f"k{n}" for n in range(job_outputs.MAX_KEYS)]
    assert "output 'k32' is left out: only 32 outputs of a Job are kept" in found.message
    assert found.message.endswith("; and 3 more")


async def test_outputs_beside_a_report_have_the_same_bounds() -> None:
    world = complete().pod('{"metrics": {}}', message=json.dumps({"id": "b-1", "log": "x" * 1001}))
    xml = '<testsuite tests="1"><testcase name="a"/></testsuite>'
    world.logs["foco-smoke-0"] = xml
    found = await follow(world, report={"junit": {}})
    assert found.outputs["id"] == "b-1" and "log" not in found.outputs
    assert "output 'log' is left out" in found.message


@pytest.mark.parametrize("other", ["init", "sidecar", "beside"])
async def test_only_the_main_container_publishes(other: str) -> None:
    world = complete().pod()
    pod = world.pods[0]
    ended = {"terminated": {"exitCode": 0, "message": '{"id": "wrong"}'}}
    if other == "beside":
        pod["spec"]["containers"].append({"name": other})
        world.state(ended, other)
    else:
        pod["spec"]["initContainers"] = [
            {"name": other, **({"restartPolicy": "Always"} if other == "sidecar" else {})}
        ]
        world.state(ended, other, "initContainerStatuses")
    found = await follow(world)
    assert (found.state, found.outputs, found.unread) == ("Succeeded", {}, "")


async def test_the_main_container_is_the_annotated_one() -> None:
    world = complete().pod(metadata={"annotations": {DEFAULT_CONTAINER: "app"}})
    world.pods[0]["spec"]["containers"] = [{"name": "proxy"}, {"name": "app"}]
    world.state({"terminated": {"exitCode": 0, "message": '{"id": "wrong"}'}}, "proxy")
    world.state({"terminated": {"exitCode": 0, "message": '{"id": "right"}'}}, "app")
    assert (await follow(world)).outputs == {"id": "right"}


async def test_a_pod_that_failed_before_another_succeeded_publishes_nothing() -> None:
    world = complete().pod(age=60).pod(message='{"id": "wrong"}', code=1)
    assert await follow(world) == Progress("Succeeded")


async def test_a_job_that_completed_is_over_when_its_last_pod_is() -> None:
    """Before Kubernetes 1.31 a Job could be complete while pods that were not needed any more were
    still ending."""
    found = await follow(complete().pod(message='{"id": "a"}').lives().leaves())
    assert (found.state, found.stuck, found.outputs) == ("Running", False, {})
    assert (
        "job foco-smoke is complete, but its pod foco-smoke-1 on node node-1 is still ending"
        in found.message
    )


# --------------------------------------------------------------------------------------------------
# A Job that failed


async def test_an_init_container_that_failed_is_named_and_heard() -> None:
    world = World({"type": "Failed", "reason": "BackoffLimitExceeded"}).pod(
        "no database\nat all\n", code=1
    )
    world.pods[0]["spec"]["initContainers"] = [{"name": "wait"}]
    world.state({"waiting": {"reason": "PodInitializing"}})
    world.state({"terminated": {"exitCode": 3, "reason": "Error"}}, "wait", "initContainerStatuses")
    found = await follow(world)
    assert found.message.endswith(
        "init container wait: exit code 3; init container wait ran, and its log ends: no "
        "database / at all"
    )
    assert "container=wait&" in world.read[0]


async def test_another_container_that_failed_is_named() -> None:
    world = World({"type": "Failed", "reason": "BackoffLimitExceeded"}).pod(code=1)
    world.pods[0]["spec"]["containers"].append({"name": "proxy"})
    world.state({"terminated": {"exitCode": 0}})
    world.state({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "proxy")
    assert (await follow(world)).message.endswith("container proxy: OOMKilled, exit code 137")


async def test_a_pod_that_was_evicted_is_named() -> None:
    world = World({"type": "Failed", "reason": "BackoffLimitExceeded"}).pod(code=1)
    world.pods[0]["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on memory",
    }
    assert (await follow(world)).message.endswith(
        "pod foco-smoke-0: Evicted: The node was low on memory"
    )


async def test_a_pod_that_was_drained_says_so() -> None:
    world = World({"type": "Failed", "reason": "BackoffLimitExceeded"}).pod(code=143)
    moved = {"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}
    world.pods[0]["status"]["conditions"] = [moved]
    assert (
        "Kubernetes ended pod foco-smoke-0: Eviction API: evicting; exit code 143"
        in (await follow(world)).message
    )


FORGED: dict[str, dict[str, Any]] = {
    "no controller": {"ownerReferences": [{"kind": "Job", "uid": "job", "controller": False}]},
    "older than its Job": {"creationTimestamp": "2020-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
async def test_a_pod_that_somebody_else_has_made_says_nothing(forged: dict[str, Any]) -> None:
    world = complete().pod(message='{"id": "forged"}')
    world.job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    found = {**forged}
    for owner in found.get("ownerReferences", ()):
        owner["uid"] = world.job["metadata"]["uid"]
    world.pods[0]["metadata"] |= found
    said = await follow(world)
    assert (said.outputs, "its pod is gone" in said.unread) == ({}, True)


async def test_a_job_that_is_older_than_its_step_is_somebody_elses() -> None:
    world = complete().pod(message='{"id": "forged"}')
    step = replace(wanted(), since="2026-01-01T12:00:00Z")
    for made, theirs in (
        ("2026-01-01T11:58:00Z", True),
        ("2026-01-01T11:59:30Z", False),
        ("2026-01-01T12:00:01Z", False),
    ):
        world.job["metadata"]["creationTimestamp"] = made
        found = await jobs.follow_job(world, VIEW, step)
        assert ("somebody else has made it" in found.message) == theirs, made
        assert found.state == ("Failed" if theirs else "Succeeded")


async def test_a_job_that_the_release_does_not_control_is_not_its_own() -> None:
    world = complete()
    world.job["metadata"]["ownerReferences"][0]["controller"] = False
    assert "of another owner is in the way" in (await follow(world)).message


async def test_the_pods_of_another_owner_s_job_are_not_repeated() -> None:
    world = World({"type": "Failed"}).pod(message="theirs", code=1)
    world.job["metadata"]["ownerReferences"] = []
    found = await follow(world)
    assert (found.state, found.message) == (
        "Failed",
        "a Job foco-smoke of another owner is in the way; delete or rename it",
    )


async def test_a_job_that_has_failed_is_not_over_while_a_pod_of_it_runs() -> None:
    """So it is before Kubernetes 1.31: what comes next must not run beside it."""
    world = (
        World({"type": "Failed", "reason": "BackoffLimitExceeded"})
        .pod("a\nb", code=1, age=9)
        .lives()
        .leaves()
    )
    found = await follow(world)
    assert (found.state, found.stuck, found.hopeless) == ("Running", True, True)
    assert "its pod foco-smoke-1 on node node-1 is still ending" in found.message
    assert found.message.endswith("exit code 1; its log ends: a / b")
    del world.pods[-1]
    assert (await follow(world)).state == "Failed"


async def test_a_deleted_job_is_not_over_while_a_pod_of_it_runs() -> None:
    world = World().lives("one\ntwo\n")
    world.job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = await follow(world)
    assert (found.state, found.hopeless) == ("Running", True)
    assert (
        "was deleted before its result was read; its pod foco-smoke-0 has not ended yet"
        in found.message
    )
    world.pods.clear()
    found = await follow(world, report={"junit": {}})
    assert (found.state, "was deleted before its result was read" in found.message) == (
        "Failed",
        True,
    )


# --------------------------------------------------------------------------------------------------
# A Job that hangs


async def test_a_job_whose_time_is_over_says_its_limit_its_last_words_and_what_to_do() -> None:
    """Kubernetes says that it will fail when it tells its pods to end; then they can still be
    heard."""
    world = hanging().lives(LOCK).leaves()
    found = await follow(world)
    assert (found.state, found.stuck, found.hopeless) == ("Running", True, True)
    assert found.message.startswith(f"{HUNG}; its pod foco-smoke-0 on node node-1 is still ending")
    assert found.message.endswith(HEARD)
    assert await trouble(world) == Trouble(found.message, hopeless=True)


async def test_the_last_words_outlive_the_pod() -> None:
    world = hanging().lives(LOCK).leaves()
    await follow(world)
    world.pods.clear()
    world.job["status"]["conditions"].append({"type": "Failed", "status": "True", **DEADLINE})
    assert await follow(world) == Progress("Failed", f"{HUNG}; {HEARD}")
    found = await follow(world, report={"junit": {}})
    assert found.message.startswith(f"{HUNG}; {HEARD}; its JUnit report is missing")


async def test_a_job_is_listened_to_when_its_time_is_nearly_over() -> None:
    """A container that ends at the first signal takes its log with it before anybody sees that its
    time is over."""
    world = World().lives(LOCK)
    world.job["status"]["startTime"] = (datetime.now(UTC) - timedelta(seconds=5)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert await trouble(world) is None
    assert await trouble(world) is None
    assert len(world.read) == 1, "once in a while is enough"
    world.pods.clear()
    world.job["status"]["conditions"] = [{"type": "Failed", "status": "True", **DEADLINE}]
    assert (await follow(world)).message == f"{HUNG}; {HEARD}"


async def test_a_job_that_has_time_is_not_listened_to() -> None:
    world = World().lives(LOCK)
    world.job["spec"]["activeDeadlineSeconds"] = 1800
    world.job["status"]["startTime"] = datetime.now(UTC).isoformat()
    assert await trouble(world) is None
    assert world.read == []


@pytest.mark.parametrize("log", [Retryable("no route to host"), NotFound("gone"), ""])
async def test_where_nobody_heard_it_that_is_said(log: str | Exception) -> None:
    world = hanging().lives(log).leaves()
    await follow(world)
    world.pods.clear()
    assert (
        await follow(world)
    ).message == f"{HUNG}; no pod of it is left, and the end of its log is gone with it"


async def test_a_pod_that_failed_before_the_one_that_hung_does_not_speak_for_it() -> None:
    world = hanging("Failed").pod("old\nwords", code=1, age=60)
    assert "gone with it" in (await follow(world)).message
    world.pod("last\nwords", code=143).leaves()
    assert (await follow(world)).message == f"{HUNG}; its log ends: last / words"


@pytest.mark.parametrize(
    ("message", "log", "told"),
    [
        ('{"failed": "pid 7 holds the lock"}', "a\nb", "pid 7 holds the lock"),
        ("c\nd", "a\nb", "its log ends: c / d"),
        ("", "a\nb", "its log ends: a / b"),
        ("", "unable to retrieve container logs for containerd://ddf4", HEARD),
        ("", Permanent("gone"), HEARD),
    ],
)
async def test_what_it_left_behind_is_told_and_else_what_was_heard(
    message: str, log: str | Exception, told: str
) -> None:
    world = hanging().lives(LOCK).leaves()
    await follow(world)
    world.pods.clear()
    world.pod(log, message, code=137).leaves()
    world.logs["foco-smoke-0"] = log
    assert (await follow(world)).message == f"{HUNG}; {told}"


async def test_what_kept_it_from_starting_is_more_than_how_its_pod_was_ended() -> None:
    world = waiting("ImagePullBackOff", "no such host")
    found = await trouble(world)
    assert found is not None
    world.job["status"]["conditions"] = [{"type": "Failed", "status": "True", **DEADLINE}]
    world.pods.clear()
    world.pod(
        message="The container could not be located when the pod was terminated", code=137
    ).leaves()
    assert (await follow(world)).message == f"{HUNG}; last seen: {found.message}"


async def test_what_is_heard_is_masked_and_bounded() -> None:
    world = hanging().lives(f"connecting with password={SECRET}\nstill\n").leaves()
    found = await follow(world)
    assert SECRET not in found.message and "password=***" in found.message
    world = hanging().lives(f"password={'x' * 3000} " + "ok " * 400).leaves()
    found = await follow(world)
    assert "xx" not in found.message and len(found.message) < 1000


async def test_an_init_container_that_hangs_is_named() -> None:
    world = hanging().lives("no database\n").leaves()
    world.pods[0]["spec"]["initContainers"] = [{"name": "wait"}]
    world.state({"waiting": {"reason": "PodInitializing"}}).state(
        {"running": {}}, "wait", "initContainerStatuses"
    )
    assert (await follow(world)).message.endswith(
        "init container wait ran, and its log ends: no database"
    )


async def test_what_kept_it_from_starting_is_remembered_to_its_end_and_forgotten_when_it_starts() -> (
    None
):
    world = World().event("FailedCreate", QUOTA)
    assert await trouble(world) == Trouble(f"job foco-smoke gets no pod: {QUOTA}")
    world.events.clear()
    world.job["status"]["conditions"] = [{"type": "Failed", "status": "True", **DEADLINE}]
    assert (
        await follow(world)
    ).message == f"{HUNG}; last seen: job foco-smoke gets no pod: {QUOTA}"
    world.job["status"]["conditions"] = []
    world.lives()
    assert await trouble(world) is None
    assert job_endings.LAST_WORDS.said(world.job["metadata"]["uid"]) == ""


async def test_an_event_says_why_it_never_had_a_pod() -> None:
    world = (
        hanging("Failed")
        .event("FailedCreate", NOBODY)
        .event("DeadlineExceeded", "too long", second=9)
    )
    assert (await follow(world)).message == f"{HUNG}; job foco-smoke gets no pod: {NOBODY}"


def test_few_jobs_are_remembered() -> None:
    memory = job_endings.LastWords()
    for number in range(job_endings.MAX_JOBS_REMEMBERED + 10):
        memory.keep({"metadata": {"namespace": "shop", "uid": str(number)}}, "word")
    assert (memory.said("9"), memory.said("10")) == ("", "word")


# --------------------------------------------------------------------------------------------------
# Why a Job does not get on


def waiting(reason: str, message: str = "") -> World:
    return World().lives(phase="Pending").state({"waiting": {"reason": reason, "message": message}})


@pytest.mark.parametrize(
    ("world", "told", "hopeless"),
    [
        (World().event("FailedCreate", QUOTA), f"job foco-smoke gets no pod: {QUOTA}", False),
        (World().event("FailedCreate", NOBODY), f"job foco-smoke gets no pod: {NOBODY}", False),
        (
            World()
            .event("SuccessfulCreate", "Created pod", type="Normal")
            .event("FailedCreate", QUOTA, second=5),
            f"job foco-smoke gets no pod: {QUOTA}",
            False,
        ),
        (
            World().pod(code=1).event("FailedCreate", QUOTA),
            f"job foco-smoke gets no pod: {QUOTA}",
            False,
        ),
        (World(), "job foco-smoke has no pod yet, and no Event says why", False),
        (
            waiting("InvalidImageName", "couldn't parse"),
            "the image name is not valid (InvalidImageName)",
            True,
        ),
        (waiting("ErrImageNeverPull"), "may not be pulled (ErrImageNeverPull)", True),
        (
            waiting("CreateContainerConfigError", 'secret "db" not found'),
            ': secret "db" not found',
            True,
        ),
        (
            waiting("CreateContainerConfigError", "failed to sync secret cache: timed out"),
            "failed to sync",
            False,
        ),
        (
            waiting("ErrImagePull", "rpc error: code = NotFound desc = x: not found"),
            "cannot be pulled",
            True,
        ),
        (
            waiting("ImagePullBackOff", "Back-off: code = NotFound desc = x"),
            "cannot be pulled",
            True,
        ),
        (waiting("ImagePullBackOff", 'Back-off pulling image "x"'), "cannot be pulled", False),
        (
            waiting("ErrImagePull", "dial tcp: lookup registry.shop: no such host"),
            "no such host",
            False,
        ),
        (waiting("CrashLoopBackOff"), "crashes again and again", False),
    ],
)
async def test_why_it_does_not_start(world: World, told: str, hopeless: bool) -> None:
    found = await trouble(world)
    assert found is not None
    assert (told in found.message, found.hopeless) == (True, hopeless), found


async def test_a_pod_that_cannot_be_scheduled() -> None:
    world = World().lives(phase="Pending")
    said = {
        "type": "PodScheduled",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    world.pods[0]["status"] = {"phase": "Pending", "conditions": [said]}
    found = await trouble(world)
    assert found == Trouble(f"pod foco-smoke-0 cannot be scheduled: {said['message']}")


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([("FailedMount", MOUNT, 1, "Warning")], MOUNT),
        (
            [("Scheduled", "assigned", 0, "Normal"), ("Pulling", "Pulling image x", 0, "Normal")],
            "Pulling image x",
        ),
        ([("Scheduled", "assigned", 0, "Normal"), ("FailedMount", MOUNT, 0, "Warning")], MOUNT),
        ([("FailedMount", MOUNT, 1, "Warning"), ("Pulled", "there", 2, "Normal")], None),
        ([], None),
    ],
)
async def test_a_pod_that_waits_for_its_node_says_for_what(
    events: list[tuple[str, str, int, str]], told: str | None
) -> None:
    world = waiting("ContainerCreating")
    world.pods[0]["spec"]["nodeName"] = "node-1"
    for reason, message, second, kind in events:
        world.event(reason, message, "Pod", second, type=kind)
    found = await trouble(world)
    assert found == (Trouble(f"pod foco-smoke-0 has not started yet: {told}") if told else None)


async def test_an_event_of_an_earlier_job_of_the_same_name_is_not_repeated() -> None:
    world = World().event("FailedCreate", QUOTA)
    world.events[0]["involvedObject"]["uid"] = "another"
    assert "no Event says why" in str(await trouble(world))


async def test_a_pod_that_was_made_after_all_is_no_trouble() -> None:
    world = World().lives().event("FailedCreate", QUOTA)
    assert await trouble(world) is None


async def test_events_that_may_not_be_read_are_not_passed_over_in_silence() -> None:
    world = World()
    world.blind = Permanent("GET events: 403 forbidden")
    found = await trouble(world)
    assert found == Trouble(
        "job foco-smoke has no pod that runs, and why cannot be read: GET events: 403 forbidden"
    )


async def test_a_suspended_job_is_said_to_be() -> None:
    world = World()
    world.job["spec"]["suspend"] = True
    found = await trouble(world)
    assert found is not None and found.message.startswith(
        "job foco-smoke is suspended, so it has no pod"
    )


@pytest.mark.parametrize("code", [0, 3])
async def test_another_container_that_does_not_end_is_named(code: int) -> None:
    world = World().lives()
    world.pods[0]["spec"] = {
        "restartPolicy": "Never",
        "containers": [{"name": "job"}, {"name": "proxy"}],
    }
    world.state({"terminated": {"exitCode": code}}).state({"running": {}}, "proxy")
    found = await trouble(world)
    assert found is not None and not found.hopeless
    assert found.message.startswith(
        f"container job has ended (exit code {code}), but container proxy still runs"
    )
    assert "restartPolicy Always" in found.message


async def test_a_node_that_is_lost_is_named() -> None:
    found = await trouble(World().lives().leaves(-60))
    assert found is not None and not found.hopeless
    assert found.message.startswith("its pod foco-smoke-0 on node node-1 should have ended by ")
    assert found.message.endswith("kubectl delete pod foco-smoke-0 --namespace shop --force")
    assert await trouble(World().lives().leaves(20)) is None


async def test_there_is_no_trouble_with_what_ended_or_is_another_s() -> None:
    assert await trouble(complete().pod()) is None
    world = World()
    world.gone = True
    assert await trouble(world) is None
    world = World()
    world.job["metadata"]["ownerReferences"] = []
    assert await trouble(world) is None


# --------------------------------------------------------------------------------------------------
# Stopping one


async def test_a_running_job_is_suspended_and_has_stopped_when_its_pods_have() -> None:
    world = World(active=1).lives()
    assert (await stop(world)).state == "Running"
    assert world.patches == [("foco-smoke", {"spec": {"suspend": True}})]
    assert (await stopped(world)).state == "Absent"
    world.job["spec"]["suspend"] = True
    assert (
        await stopped(world)
    ).message == "job foco-smoke is stopped, but its pod foco-smoke-0 has not ended yet"
    world.leaves()
    assert "node node-1 is still ending" in (await stopped(world)).message
    world.pods.clear()
    found = await stopped(world)
    assert (found.state, "its controller has not said so yet" in found.message) == ("Running", True)
    world.job["status"] = {"conditions": [{"type": "Suspended", "status": "True"}], "active": 1}
    assert (await stopped(world)).state == "Running"
    world.job["status"]["active"] = 0
    assert (await stopped(world)).state == "Succeeded"


async def test_a_job_whose_controller_has_not_looked_yet_has_not_stopped() -> None:
    """It may be about to make a pod: nothing in its status is not the same as no pod."""
    world = World()
    world.job["spec"]["suspend"] = True
    world.job["status"] = {}
    assert (await stopped(world)).state == "Running"
    world.job["metadata"]["generation"] = 1
    assert (await stopped(world)).state == "Succeeded", "it was made suspended, so it never ran"


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
async def test_a_job_that_has_ended_has_stopped_when_its_pods_have(kind: str) -> None:
    world = World({"type": kind}).lives().leaves()
    for found in (await stop(world), await stopped(world)):
        assert (found.state, found.stuck) == ("Running", False)
        assert "its pod foco-smoke-0 on node node-1 is still ending" in found.message
    world.pods[0]["status"]["phase"] = "Failed"
    assert ((await stop(world)).state, (await stopped(world)).state) == ("Succeeded", "Succeeded")
    assert world.patches == []


@pytest.mark.parametrize("kind", ["FailureTarget", "SuccessCriteriaMet"])
async def test_a_job_that_is_about_to_end_is_left_to_end(kind: str) -> None:
    world = World({"type": kind}).lives().leaves()
    assert ((await stop(world)).state, (await stopped(world)).state) == ("Running", "Running")
    assert world.patches == []
    world.pods.clear()
    assert (
        await stopped(world)
    ).message == "job foco-smoke has no pod; its controller has not said so yet"
    world.job["status"]["conditions"].append({"type": "Failed", "status": "True"})
    assert (await stopped(world)).state == "Succeeded"


async def test_a_pod_on_a_lost_node_is_named_with_what_to_do() -> None:
    world = World({"type": "Failed", **DEADLINE}).lives().leaves(-120)
    world.pods[0]["status"]["phase"] = "Unknown"
    found = await stopped(world)
    assert (found.state, found.stuck) == ("Running", True)
    for part in ("pod foco-smoke-0", "node node-1", "--force"):
        assert part in found.message


async def test_where_there_is_none_its_name_is_taken_once_its_pods_have_ended() -> None:
    world = World().lives()
    world.gone = True
    assert (await stopped(world)).state == "Running"
    world.pods.clear()
    assert (await stopped(world)).state == "Absent"
    assert (await stop(world)).state == "Running"
    (made,) = world.made
    assert (made["metadata"]["name"], made["spec"]["suspend"]) == ("foco-smoke", True)
    world.refusal = Conflict("it exists")
    assert (await stop(world)).state == "Absent"


async def test_of_a_name_that_is_another_s_our_own_pods_count() -> None:
    world = World(active=1).lives()
    world.job["metadata"]["ownerReferences"] = []
    assert ((await stop(world)).state, (await stopped(world)).state) == ("Succeeded", "Succeeded")
    world.pods[0]["metadata"]["annotations"] = {KEY: wanted().key}
    assert ((await stop(world)).state, (await stopped(world)).state) == ("Running", "Running")
    assert world.patches == []


async def test_a_job_that_is_being_deleted_is_let_go_and_waited_for() -> None:
    world = World().lives()
    world.job["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [RESULT, "example.com/keep"],
    }
    assert (await stopped(world)).state == "Absent"
    assert (await stop(world)).state == "Running"
    assert world.patches == [("foco-smoke", {"metadata": {"finalizers": ["example.com/keep"]}})]
    world.job["metadata"]["finalizers"] = ["example.com/keep"]
    found = await stopped(world)
    assert (found.state, found.message) == (
        "Running",
        "job foco-smoke is being deleted, and waits for its finalizers example.com/keep",
    )


# --------------------------------------------------------------------------------------------------
# What is made


async def test_the_main_container_is_marked_before_anything_is_injected() -> None:
    made = await job_spec(World(), VIEW, wanted().config, "key")
    assert made["template"]["metadata"]["annotations"] == {DEFAULT_CONTAINER: "job", KEY: "key"}
    template = {"spec": {"containers": [{"name": "app"}, {"name": "proxy"}]}}
    config = Job.model_validate({"template": template})
    made = await job_spec(World(), VIEW, config, "key")
    assert made["template"]["metadata"]["annotations"][DEFAULT_CONTAINER] == "app"
    own = {"metadata": {"annotations": {DEFAULT_CONTAINER: "proxy"}}, **template}
    made = await job_spec(World(), VIEW, Job.model_validate({"template": own}), "key")
    assert made["template"]["metadata"]["annotations"][DEFAULT_CONTAINER] == "proxy"
    assert template == {"spec": {"containers": [{"name": "app"}, {"name": "proxy"}]}}


@pytest.mark.parametrize(
    "template", [{"metadata": None}, {"spec": None}, {"spec": {"containers": None}}, {}]
)
async def test_a_template_that_is_not_one_is_left_to_the_api_server_to_refuse(
    template: Any,
) -> None:
    made = await job_spec(World(), VIEW, Job.model_validate({"template": template}), "key")
    assert made["template"]["metadata"]["annotations"] == {KEY: "key"}
    assert "containers" not in made["template"]["spec"] or template["spec"]["containers"] is None


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ({"metadata": "x"}, "template.metadata"),
        ({"spec": []}, "template.spec"),
        ({"metadata": {"labels": "x"}}, "template.metadata.labels"),
    ],
)
async def test_a_template_of_another_shape_is_refused_with_its_path(
    template: Any, where: str
) -> None:
    with pytest.raises(Permanent, match=f"job.{where} is not an object"):
        await job_spec(World(), VIEW, Job.model_validate({"template": template}), "key")


# --------------------------------------------------------------------------------------------------
# Anybody may give his pods and Events the label of a Job


class Seen(World):
    """Remembers what was kept of its lists."""

    async def list(self, *args: Any, **more: Any) -> list[dict[str, Any]]:
        self.kept = await super().list(*args, **more)
        return self.kept


def crowded(*conditions: Mapping[str, Any]) -> Seen:
    """A Job with one pod, and many large ones of others that have its label."""
    world = Seen(*conditions)
    world.pod("", code=1)
    for _ in range(20):
        world.pod("")
        world.pods[-1]["metadata"]["ownerReferences"] = [{"uid": "other", "controller": True}]
    for pod in world.pods:
        pod["metadata"]["labels"] = pod["metadata"]["annotations"] = {
            f"l{n}": "x" * 60 for n in range(1000)
        }
        pod["spec"]["containers"][0]["env"] = [
            {"name": f"E{n}", "value": "x" * 1000} for n in range(500)
        ]
        pod["spec"]["volumes"] = [{"name": "v" * 50_000}]
    return world


@pytest.mark.parametrize("ask", [follow, trouble])
async def test_of_pods_that_carry_its_label_only_its_own_are_kept_and_little_of_them(
    ask: Callable[[Cluster], Coroutine[Any, Any, Progress | Trouble | None]],
) -> None:
    world = crowded({"type": "Failed", "reason": "BackoffLimitExceeded"})
    found = await ask(world)
    if ask is follow:
        assert isinstance(found, Progress)
        assert found.state == "Failed" and "exit code 1" in found.message
    assert len(world.kept) == 1 and len(json.dumps(world.kept)) < 2_000


async def test_pods_that_have_ended_keep_no_memory_while_a_job_is_stopped() -> None:
    world = crowded({"type": "Failed"})
    world.lives()
    assert (await stopped(world)).state == "Running"
    assert len(world.kept) == 1 and len(json.dumps(world.kept)) < 2_000


async def test_jobs_that_carry_the_label_of_a_release_are_let_go_only_if_they_are_its_own() -> None:
    owner = {"apiVersion": API_VERSION, "kind": "Release", "uid": VIEW.uid, "controller": True}
    metadata: dict[str, Any] = {
        "name": "a",
        "namespace": "shop",
        "finalizers": [RESULT],
        "labels": {"x": "y" * 10_000},
        "ownerReferences": [owner],
    }
    own = {"metadata": metadata}
    other = {"metadata": metadata | {"name": "b", "ownerReferences": []}}

    class Jobs(Seen):
        async def list(
            self,
            path: str,
            selector: str = "",
            fields: str = "",
            *,
            keep: Keep = keep_whole_object,
        ) -> list[dict[str, Any]]:
            self.kept = [kept for job in (own, other) if (kept := keep(job)) is not None]
            return self.kept

    world = Jobs()
    await jobs.release_jobs(world, VIEW)
    assert world.patches == [("a", {"metadata": {"finalizers": []}})]
    assert len(json.dumps(world.kept)) < 200


async def test_of_events_little_is_kept() -> None:
    world = Seen()
    world.event("FailedCreate", QUOTA + "x" * 1_000_000, note="y" * 1_000_000)
    found = await trouble(world)
    assert found is not None and "exceeded quota" in found.message
    assert len(json.dumps(world.kept)) < 20_000
