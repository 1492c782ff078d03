"""What all draws share: a cluster, the operator on it, a record of every object's every version,
and who answers the gate.

A few acts meet everybody: a cordoned node, a killed operator. They are counted here, so that
whoever judges another draw knows when nobody could have acted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster import Cluster
from tests.cluster.audit import user_of
from tests.e2e import installing
from tests.e2e.saboteur import play
from tests.e2e.saboteur.draws import VERSIONS
from tests.harness.api import Api
from tests.harness.lab import poll
from tests.harness.loop import Background
from tests.harness.recording import Recording, unix

IMAGE = Path(__file__).parent / "image"
GATEWRIGHT = "/apis/gatewright.dev/v1alpha1"
RECORDED = {
    "namespaces": "/api/v1/namespaces",
    "releases": f"{GATEWRIGHT}/releases",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "jobs": "/apis/batch/v1/jobs",
    "pods": "/api/v1/pods",
    "configmaps": "/api/v1/configmaps",
    "secrets": "/api/v1/secrets",
    "leases": "/apis/coordination.k8s.io/v1/leases",
}
OPERATOR = f"system:serviceaccount:{installing.NAMESPACE}:gatewright"
LABEL = "saboteur"
TAKES_OVER = 4.0
"""Seconds from a taken Lease until everything was looked at once."""


@dataclass
class Disturbance:
    """An act that everybody feels."""

    what: str
    began: float
    ended: float | None = None
    deaf: bool = False
    """Whether no operator acts meanwhile."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the operator, as the audit log has it."""

    verb: str
    what: str
    code: int
    at: float

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete", "deletecollection")

    def __str__(self) -> str:
        return f"{self.verb} {self.what} -> {self.code}"


def images(cluster: Cluster) -> None:
    """Build and load what the pods run."""
    for version in VERSIONS:
        cluster.build_image(
            play.image(version), IMAGE / "Dockerfile", IMAGE, build_args={"VERSION": version}
        )


class Ground:
    """The cluster, and what is known about it."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self.cluster, self.background = cluster, background
        self.api = Api(background, cluster.kubeconfig, "saboteur")
        self.recording = Recording(background, self.api, RECORDED)
        self.gate = Gate(background, cluster.machine_address, self._is_rolled_back)
        self.disturbances: list[Disturbance] = []
        self._cordons, self._lock, self._killing = 0, threading.Lock(), threading.Lock()
        review = self.api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        self.person = str(review["status"]["userInfo"]["username"])

    def close(self) -> None:
        """End what was started here."""
        self.gate.close()
        self.api.close()

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Poll until a condition is true; its value. Raises Late."""
        return poll(
            condition, seconds, what, lambda: installing.logs(self.cluster)[-4000:], pause=0.1
        )

    def _is_rolled_back(self, namespace: str) -> bool:
        """Whether the bad version is on its way out: what made the gate fail is over then."""
        found = self.recording.newest("releases", namespace, play.RELEASE) or {}
        return bool(found.get("status", {}).get("run", {}).get("rollback"))

    # --- namespaces

    def clear(self) -> None:
        """Remove what an earlier saboteur has left."""
        self._cordon(False)
        self.cluster.kubectl("delete", "namespaces", "--selector", LABEL, "--wait=true")

    def forget(self, namespace: str) -> None:
        """Drop what was recorded of a namespace that is gone and judged."""
        known = self.recording.histories.known
        for key in [key for key in list(known) if key[1] == namespace]:
            del known[key]

    # --- what everybody feels

    @contextlib.contextmanager
    def disturbing(self, what: str, deaf: bool = False) -> Iterator[None]:
        """Note an act that everybody feels for as long as it lasts."""
        found = Disturbance(what, time.time(), deaf=deaf)
        self.disturbances.append(found)
        try:
            yield
        finally:
            found.ended = time.time()

    @contextlib.contextmanager
    def cordoned(self) -> Iterator[None]:
        """No pod finds a node."""
        with self._lock:
            self._cordons += 1
            if self._cordons == 1:
                self._cordon(True)
        try:
            with self.disturbing("the node is cordoned"):
                yield
        finally:
            with self._lock:
                self._cordons -= 1
                if not self._cordons:
                    self._cordon(False)

    def _cordon(self, on: bool) -> None:
        for node in self.api.get("/api/v1/nodes")["items"]:
            self.api.merge(
                f"/api/v1/nodes/{node['metadata']['name']}", {"spec": {"unschedulable": on or None}}
            )

    def kill_operator(self) -> None:
        """Kill the operator's pod at once; returns when another one has its Lease and has looked
        around."""
        with self._killing, self.disturbing("the operator is killed", deaf=True):
            before = self._holder()
            now = ("--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
            for name in installing.pods(self.cluster):
                self.cluster.kubectl(
                    "delete", "pod", name, "--namespace", installing.NAMESPACE, *now
                )
            self.wait(
                lambda: self._holder() not in ("", before),
                120,
                "another operator to take the Lease",
            )
            time.sleep(TAKES_OVER)

    def _holder(self) -> str:
        found = self.recording.newest("leases", installing.NAMESPACE, "gatewright") or {}
        return str(found.get("spec", {}).get("holderIdentity") or "")

    def calm_since(self) -> float:
        """Since when nobody was disturbed any more; now, where somebody is."""
        return max((item.ended or time.time() for item in list(self.disturbances)), default=0.0)

    def requests(self) -> dict[str, list[Request]]:
        """What the operator has asked of the API server, by namespace."""
        found: dict[str, list[Request]] = {}
        for event in self.cluster.audit_events():
            reference = event.get("objectRef", {})
            if user_of(event) == OPERATOR and reference.get("resource") != "leases":
                names = (
                    reference.get("resource", ""),
                    reference.get("subresource", ""),
                    reference.get("name", ""),
                )
                code = event.get("responseStatus", {}).get("code", 0)
                at = unix(event["requestReceivedTimestamp"])
                request = Request(event["verb"], "/".join(filter(None, names)), code, at)
                found.setdefault(reference.get("namespace", ""), []).append(request)
        return found


class Gate:
    """Answers the gate of each namespace: good, failing until the rollback has begun, or not at
    all."""

    def __init__(self, background: Background, address: str, over: Callable[[str], bool]) -> None:
        self._background, self._over = background, over
        self.modes: dict[str, str] = {}
        app = web.Application()
        app.router.add_get("/{namespace}/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        self.url = background.run(self._serve(address))

    async def _serve(self, address: str) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, address, 0).start()
        return f"http://{address}:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.Response:
        namespace = request.match_info["namespace"]
        mode = self.modes.get(namespace, "good")
        if mode == "silent":
            await asyncio.sleep(5)
        failing = mode == "failing" and not self._over(namespace)
        return web.json_response({"ok": not failing}, status=503 if failing else 200)

    def close(self) -> None:
        """Stop answering."""
        self._background.run(self._runner.cleanup())
