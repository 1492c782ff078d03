"""What a cluster has beside its API server: the real controllers, and a kubelet of ours where no node runs.

Deployments and Jobs are acted on by the real kube-controller-manager. The pods it makes run nowhere; our kubelet
gives them the status that a node would report, as the pod's own environment says:

    FAKE_EXIT=3          ends with this exit code (default 0)
    FAKE_SECONDS=0.5     runs that long first (default 0.02)
    FAKE_OUTPUT={...}    the termination message
    FAKE_WAITING=REASON  never starts: ImagePullBackOff, CreateContainerConfigError ...
    FAKE_HANG=1          never ends

A pod that is not of a Job becomes Ready and stays. Images whose tag is in `World.broken` cannot be pulled.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.harness.api import Api, ApiError
from tests.harness.loop import Background

CONTROLLERS = "deployment-controller,replicaset-controller,job-controller,garbage-collector-controller"
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

    def __init__(self, background: Background, api: Api) -> None:
        self._api = api
        self._background = background
        self.ran: list[Ran] = []
        self.broken: set[str] = set()
        """Tags that cannot be pulled."""
        self._begun: set[str] = set()
        version = background.run(self._list())
        background.spawn(self._follow(version))

    def runs(self, namespace: str, word: str = "") -> list[Ran]:
        """Containers of Jobs that were started in a namespace, those with a word in their command or Job name."""
        return [one for one in self.ran if one.namespace == namespace and word in " ".join((one.job, *one.command))]

    async def _list(self) -> str:
        found = await self._api.call("GET", "/api/v1/pods")
        for pod in found["items"]:
            self._take(pod)
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> None:
        while True:
            try:
                async for event in self._api.watch("/api/v1/pods", version):
                    if event["type"] == "ERROR":
                        version = await self._list()
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._take(event["object"])
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

    def _take(self, pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            self._background.loop.create_task(self._remove(pod))
        elif meta["uid"] not in self._begun:
            self._begun.add(meta["uid"])
            self._background.loop.create_task(self._run(pod))

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
            message = f'Back-off pulling image "{image}"' if "Image" in said["FAKE_WAITING"] else "planted by a test"
            state = {"waiting": {"reason": said["FAKE_WAITING"], "message": message}}
            await self._say(pod, "Pending", state, ready=False)
            return
        job = pod["metadata"].get("labels", {}).get(JOB)
        if job is None:
            await self._say(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
            return
        command = (*container.get("command", ()), *container.get("args", ()))
        self.ran.append(Ran(pod["metadata"]["namespace"], job, pod["metadata"]["name"], image, command, time.time()))
        seconds = float(said.get("FAKE_SECONDS", "0.02"))
        if seconds > 0.1 or "FAKE_HANG" in said:
            await self._say(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
        if "FAKE_HANG" in said:
            return
        await asyncio.sleep(seconds)
        code = int(said.get("FAKE_EXIT", "0"))
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": _now()}
        if said.get("FAKE_OUTPUT"):
            ended["message"] = said["FAKE_OUTPUT"]
        await self._say(pod, "Succeeded" if code == 0 else "Failed", {"terminated": ended}, ready=False)

    async def _say(self, pod: Mapping[str, Any], phase: str, state: Mapping[str, Any], ready: bool) -> None:
        container = pod["spec"]["containers"][0]
        truth = "True" if ready else "False"
        status = {
            "phase": phase,
            "startTime": _now(),
            "conditions": [
                {"type": kind, "status": truth if "Ready" in kind else "True", "lastTransitionTime": _now()}
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

    async def _quietly(self, method: str, path: str, body: Any) -> None:
        """A pod that is gone or was replaced meanwhile needs nothing."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        try:
            await self._api.call(method, path, body, kind)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _path(pod: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
