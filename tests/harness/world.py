"""What a cluster has beside its API server: the real controllers, and a kubelet of ours where no
node runs.

Deployments and Jobs are acted on by the real kube-controller-manager. The pods it makes run
nowhere; our kubelet gives them the status that a node would report, as the pod's own environment
says:

    FAKE_EXIT=3          ends with this exit code (default 0)
    FAKE_SECONDS=0.5     runs that long first (default 0.02)
    FAKE_OUTPUT={...}    the termination message
    FAKE_WAITING=REASON  never starts: ImagePullBackOff, CreateContainerConfigError ...
    FAKE_HANG=1          never ends

What a test has put into `World.prints` for a word of the pod's Job or command is the container's
log.

A pod that is not of a Job becomes Ready and stays. Images whose tag is in `World.broken` cannot be
pulled.

The real job controller syncs once a second. Where hundreds of runs are to be made, `quick_jobs`
takes its place: the same pods, labels, conditions and counts, without the pause, and without
retries (backoffLimit is taken for 0).
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.harness.api import MERGE, STRATEGIC, Api, ApiError
from tests.harness.kubelet import Logs
from tests.harness.loop import Background

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
    "garbage-collector-controller",
)
Object = Mapping[str, Any]
JOB = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True)
class Ran:
    """A container of a Job that was started: the effect itself, whatever anybody says about it."""

    namespace: str
    job: str
    pod: str
    image: str
    command: tuple[str, ...]
    at: float


class World:
    """A kubelet for all pods of the API server."""

    def __init__(self, background: Background, api: Api, quick_jobs: bool = False) -> None:
        self._api = api
        self._background = background
        self.ran: list[Ran] = []
        self.broken: set[str] = set()
        """Tags that cannot be pulled."""
        self.prints: dict[tuple[str, str], str] = {}
        """By namespace and a word of the Job's name or command: what its container prints."""
        self.logs = Logs(background, api)
        self._begun: set[str] = set()
        self._jobs: set[str] = set()
        self._quick_jobs = quick_jobs
        background.run(self._open("/api/v1/pods", self._take))
        if quick_jobs:
            background.run(self._open("/apis/batch/v1/jobs", self._take_job))

    def runs(self, namespace: str, word: str = "") -> list[Ran]:
        """Containers of Jobs that were started in a namespace, those with a word in their command
        or Job name."""
        return [
            one
            for one in self.ran
            if one.namespace == namespace and word in " ".join((one.job, *one.command))
        ]

    def close(self) -> None:
        """Stop answering for the node."""
        self.logs.close()

    async def _open(self, path: str, take: Callable[[Object], None]) -> None:
        version = await self._list(path, take)
        self._background.keep(self._follow(path, take, version))

    async def _list(self, path: str, take: Callable[[Object], None]) -> str:
        found = await self._api.call("GET", path)
        for item in found["items"]:
            take(item)
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, path: str, take: Callable[[Object], None], version: str) -> None:
        while True:
            try:
                async for event in self._api.watch(path, version):
                    if event["type"] == "ERROR":
                        version = await self._list(path, take)
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        take(event["object"])
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

    def _take(self, pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            self._background.keep(self._remove(pod))
        elif meta["uid"] not in self._begun:
            self._begun.add(meta["uid"])
            self._background.keep(self._run(pod))

    async def _remove(self, pod: Mapping[str, Any]) -> None:
        """A kubelet confirms a deletion once the containers have ended."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._quietly("DELETE", _path(pod), body)

    async def _run(self, pod: Mapping[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        said = {item["name"]: item.get("value", "") for item in container.get("env", [])}
        image = container["image"]
        if image.rpartition(":")[2] in self.broken:
            said = {"FAKE_WAITING": "ImagePullBackOff"}
        if "FAKE_WAITING" in said:
            message = (
                f'Back-off pulling image "{image}"'
                if "Image" in said["FAKE_WAITING"]
                else "planted by a test"
            )
            state = {"waiting": {"reason": said["FAKE_WAITING"], "message": message}}
            await self._say(pod, "Pending", state, ready=False)
            return
        job = pod["metadata"].get("labels", {}).get(JOB)
        if job is None:
            await self._say(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
            return
        command = (*container.get("command", ()), *container.get("args", ()))
        self.ran.append(
            Ran(
                pod["metadata"]["namespace"],
                job,
                pod["metadata"]["name"],
                image,
                command,
                time.time(),
            )
        )
        seconds = float(said.get("FAKE_SECONDS", "0.02"))
        if seconds > 0.1 or "FAKE_HANG" in said:
            await self._say(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
        if "FAKE_HANG" in said:
            return
        words = " ".join((job, *command))
        for (namespace, word), text in self.prints.items():
            if namespace == pod["metadata"]["namespace"] and word in words:
                await self.logs.print(pod, text)
        await asyncio.sleep(seconds)
        code = int(said.get("FAKE_EXIT", "0"))
        ended = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "finishedAt": _now(),
        }
        if said.get("FAKE_OUTPUT"):
            ended["message"] = said["FAKE_OUTPUT"]
        await self._say(
            pod, "Succeeded" if code == 0 else "Failed", {"terminated": ended}, ready=False
        )
        if self._quick_jobs:
            await self._end_job(pod["metadata"]["namespace"], job, code)

    # In the job controller's place

    def _take_job(self, job: Object) -> None:
        uid = job["metadata"]["uid"]
        if job["spec"].get("suspend"):
            self._background.keep(self._suspend_job(job))
        elif uid not in self._jobs and not job.get("status", {}).get("conditions"):
            self._jobs.add(uid)
            self._background.keep(self._start_job(job))

    async def _start_job(self, job: Object) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        labels = {**template["metadata"].get("labels", {}), JOB: meta["name"]}
        own = {"generateName": f"{meta['name']}-", "labels": labels, "ownerReferences": [owner]}
        pod = {"metadata": {**template["metadata"], **own}, "spec": template["spec"]}
        await self._job_status(job, {"active": 1, "startTime": _now()})
        await self._quietly("POST", f"/api/v1/namespaces/{meta['namespace']}/pods", pod)

    async def _end_job(self, namespace: str, name: str, code: int) -> None:
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        try:
            job = await self._api.call("GET", path)
        except ApiError:
            return
        if job["spec"].get("suspend"):
            return
        kinds = ("SuccessCriteriaMet", "Complete") if code == 0 else ("FailureTarget", "Failed")
        reason = (
            {}
            if code == 0
            else {
                "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit",
            }
        )
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": _now(), **reason}
            for kind in kinds
        ]
        status: dict[str, Any] = {"active": 0, "conditions": conditions}
        status |= {"succeeded": 1, "completionTime": _now()} if code == 0 else {"failed": 1}
        await self._job_status(job, status)

    async def _suspend_job(self, job: Object) -> None:
        meta = job["metadata"]
        if any(item["type"] == "Suspended" for item in job.get("status", {}).get("conditions", ())):
            return
        query = f"labelSelector={JOB}%3D{meta['name']}"
        await self._quietly(
            "DELETE",
            f"/api/v1/namespaces/{meta['namespace']}/pods?{query}",
            {"gracePeriodSeconds": 0},
        )
        condition = {
            "type": "Suspended",
            "status": "True",
            "reason": "JobSuspended",
            "lastTransitionTime": _now(),
        }
        await self._job_status(job, {"active": 0, "startTime": None, "conditions": [condition]})

    async def _job_status(self, job: Object, status: Object) -> None:
        meta = job["metadata"]
        path = f"/apis/batch/v1/namespaces/{meta['namespace']}/jobs/{meta['name']}/status"
        await self._quietly(
            "PATCH", path, {"metadata": {"uid": meta["uid"]}, "status": status}, MERGE
        )

    async def _say(
        self, pod: Mapping[str, Any], phase: str, state: Mapping[str, Any], ready: bool
    ) -> None:
        container = pod["spec"]["containers"][0]
        truth = "True" if ready else "False"
        status = {
            "phase": phase,
            "startTime": _now(),
            "conditions": [
                {
                    "type": kind,
                    "status": truth if "Ready" in kind else "True",
                    "lastTransitionTime": _now(),
                }
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": 0,
                    "state": dict(state),
                }
            ],
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        await self._quietly("PATCH", _path(pod) + "/status", body)

    async def _quietly(self, method: str, path: str, body: Any, kind: str = "") -> None:
        """An object that is gone or was replaced meanwhile needs nothing."""
        default = STRATEGIC if method == "PATCH" else "application/json"
        try:
            await self._api.call(method, path, body, kind or default)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _path(pod: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
