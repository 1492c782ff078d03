"""What all scenes share: a cluster, the operator on it as users install it, and a record of every
object's every version."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster
from tests.cluster.images import content_hash
from tests.e2e import installing
from tests.e2e.foco import install as foco
from tests.e2e.runbook import programs
from tests.harness.api import Api
from tests.harness.lab import Late, poll
from tests.harness.loop import Background
from tests.harness.recording import Recording

IMAGE = Path(__file__).parent / "image"
IMAGES = ("ops:2.4.0", "build:2.4.0", "load:2.4.0", "e2e:2.4.0", "e2e:2.3.1", "lighthouse:2.4.0")
"""What the sample calls the images of its Jobs."""
MIGRATIONS = ("good", "lossy")
GATEWRIGHT = "/apis/gatewright.dev/v1alpha1"
RECORDED = {
    "releases": f"{GATEWRIGHT}/releases",
    "connections": f"{GATEWRIGHT}/connections",
    "interventions": f"{GATEWRIGHT}/interventions",
    "jobs": "/apis/batch/v1/jobs",
    "pods": "/api/v1/pods",
    "events": "/apis/events.k8s.io/v1/events",
    "controllerrevisions": "/apis/apps/v1/controllerrevisions",
    "configmaps": "/api/v1/configmaps",
}
OURS = "runbook"
METRICS = (
    f"/api/v1/namespaces/{installing.NAMESPACE}/services/gatewright-metrics:metrics/proxy/metrics"
)


def images(cluster: Cluster) -> None:
    """Build and load what the Jobs run, under each name that the sample has for it."""
    base = _programs(cluster)
    for migration in MIGRATIONS:
        for name in IMAGES:
            arguments = {"MIGRATION": migration}
            tag = f"{repository(migration)}/{name}"
            cluster.build_image(tag, IMAGE / "Dockerfile", IMAGE, base=base, build_args=arguments)


def _programs(cluster: Cluster) -> str:
    """Tag of the image with the programs of others, which the images of the Jobs are built on."""
    base, context = cluster.base_image(foco.packages()), programs.folder()
    name = content_hash(programs.DOCKERFILE, context, base.rpartition(":")[2])
    tag = f"foco-runbook/programs:{name}"
    cluster.build_image(tag, programs.DOCKERFILE, context, base=base)
    return tag


def repository(migration: str) -> str:
    """Where the images with this migration are."""
    return f"foco-runbook/{migration}"


@dataclass(frozen=True)
class Ran:
    """A container of a Job that was started."""

    job: str
    command: tuple[str, ...]


class Ground:
    """The cluster, and what is known about it."""

    def __init__(self, cluster: Cluster, background: Background, directory: Path) -> None:
        self.cluster, self.background = cluster, background
        self.api = Api(background, cluster.kubeconfig, "test")
        self.recording = Recording(background, self.api, RECORDED)
        self._directory = directory
        self._following: dict[str, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        """End what was started here."""
        for process in self._following.values():
            process.terminate()
            process.wait(10)
        self.api.close()

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Poll until a condition is true; its value. Raises Late."""
        return poll(condition, seconds, what, lambda: self.log()[-4000:], pause=0.2)

    # --- the operator

    def listen(self) -> None:
        """Write down what the operator says, from each pod's first line to its last."""
        for name in installing.pods(self.cluster):
            if name not in self._following:
                command = [
                    self.cluster.kubectl_program(),
                    f"--kubeconfig={self.cluster.kubeconfig}",
                    "logs",
                    "--follow",
                ]
                with (self._directory / f"{name}.log").open("wb") as log:
                    self._following[name] = subprocess.Popen(
                        [*command, f"--namespace={installing.NAMESPACE}", name],
                        stdout=log,
                        stderr=subprocess.DEVNULL,
                    )

    def log(self) -> str:
        """All that was said so far."""
        return "".join(path.read_text() for path in sorted(self._directory.glob("*.log")))

    def metrics(self) -> str:
        """What /metrics shows now, or as soon as an operator runs again."""
        return str(
            self.wait(
                lambda: self.api.find(METRICS, (404, 500, 502, 503, 504)),
                120,
                "the operator's metrics",
            )
        )

    @contextlib.contextmanager
    def killed_now_and_then(self) -> Iterator[None]:
        """Kill the operator's pod, wherever it stands. Its successor waits for the Lease to end
        before it acts."""
        over = threading.Event()

        def kill() -> None:
            while not over.wait(random.uniform(40.0, 80.0)):
                for name in installing.pods(self.cluster):
                    now = ("--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
                    self.cluster.kubectl(
                        "delete", "pod", name, "--namespace", installing.NAMESPACE, *now
                    )
                self._running()
                self.listen()

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(120)

    def _running(self) -> None:
        arguments = (
            "rollout",
            "status",
            "deployment/gatewright",
            "--namespace",
            installing.NAMESPACE,
        )
        self.cluster.kubectl(*arguments, "--timeout", "120s")

    # --- namespaces

    def clear(self, wait: bool = True) -> None:
        """Remove the namespaces of all scenes."""
        self.cluster.kubectl(
            "delete", "namespaces", "--selector", f"test={OURS}", f"--wait={str(wait).lower()}"
        )

    def place(self, name: str) -> Place:
        """A fresh namespace, in which nothing may ask for more than production allows."""
        labels = {"test": OURS, "pod-security.kubernetes.io/enforce": "restricted"}
        self.api.create(
            "/api/v1/namespaces", {"metadata": {"name": f"{OURS}-{name}", "labels": labels}}
        )
        return Place(self, f"{OURS}-{name}")

    @functools.cached_property
    def kinds(self) -> str:
        """Everything that can be listed in a namespace, but for Secrets."""
        found = self.cluster.kubectl(
            "api-resources", "--namespaced", "--verbs=list", "--output=name"
        ).split()
        return ",".join(kind for kind in found if kind != "secrets")


class Place:
    """One namespace, with the Release `foco`."""

    def __init__(self, ground: Ground, name: str) -> None:
        self.ground, self.name = ground, name
        self._releases = f"{GATEWRIGHT}/namespaces/{name}/releases"

    # What users do

    def create(self, path: str, name: str, **fields: Any) -> None:
        """An object of the namespace; `path` is its API's and its plural's."""
        group, _, plural = path.rpartition("/")
        self.ground.api.create(
            f"{group}/namespaces/{self.name}/{plural}", {"metadata": {"name": name}, **fields}
        )

    def gatewright(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """A Connection or a Release."""
        plural = f"{GATEWRIGHT}/{kind.lower()}s"
        self.create(plural, name, apiVersion="gatewright.dev/v1alpha1", kind=kind, spec=spec)

    def change(self, patch: Mapping[str, Any]) -> None:
        """Merge into the Release's spec."""
        self.ground.api.merge(f"{self._releases}/foco", {"spec": patch})

    # What users see

    @property
    def status(self) -> Any:
        """The Release's newest status that was seen."""
        return (self.ground.recording.newest("releases", self.name, "foco") or {}).get(
            "status"
        ) or {}

    def condition(self, kind: str) -> Any:
        """One of its conditions."""
        return next(
            (item for item in self.status.get("conditions", ()) if item["type"] == kind), {}
        )

    def until(self, condition: Callable[[Any], Any], seconds: float, what: str) -> Any:
        """Wait until a condition holds for the status. Raises Late, with the status."""
        try:
            self.ground.wait(lambda: condition(self.status), seconds, what)
        except Late as error:
            raise Late(
                f"{error}\nstatus of {self.name}/foco:\n{yaml.safe_dump(dict(self.status))}"
            ) from None
        return self.status

    def runs(self, word: str) -> list[Ran]:
        """Containers of Jobs that were started, those with this in their command."""
        found = []
        for versions in self.ground.recording.of("pods", self.name).values():
            pod = versions[-1].body
            ran = Ran(_job(pod), tuple(pod["spec"]["containers"][0].get("command", ())))
            if any(_started(version.body) for version in versions) and word in " ".join(
                ran.command
            ):
                found.append(ran)
        return found

    def told(self) -> dict[str, str]:
        """All that can be read in the namespace without reading Secrets: what is there now, and
        what was there before."""
        now = self.ground.cluster.kubectl(
            "get", self.ground.kinds, "--namespace", self.name, "--output", "json"
        )
        before = {
            f"{resource} {name}": json.dumps([version.body for version in versions])
            for resource in RECORDED
            for name, versions in self.ground.recording.of(resource, self.name).items()
        }
        return {"the namespace": now, **before}


def _job(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", ""))


def _started(pod: Mapping[str, Any]) -> bool:
    states = [item.get("state", {}) for item in pod.get("status", {}).get("containerStatuses", ())]
    return any("running" in state or "terminated" in state for state in states)
