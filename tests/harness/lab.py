"""Everything together: API server, controllers, kubelet, stand-ins, recordings, proxy, and the
operator itself.

with Lab() as lab:
    site = lab.namespace()
    lab.operator.start()
    site.apply(release)
    site.until(ended, 20)
    site.examine().violations
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from gatewright.api.base import DURATION_PATTERN, INTERVAL_PATTERN
from gatewright.runtime.admission_trials import ALL_TRIALS, Trial
from tests.cluster import ApiServer, Unavailable, assets
from tests.cluster.apiserver import AuditLevel
from tests.cluster.paths import CHECKOUT
from tests.harness.api import Api, ApiError
from tests.harness.loop import Background
from tests.harness.operator import Operator
from tests.harness.oracle import OPERATOR, Evidence, Report, Violation, examine, quiet
from tests.harness.proxy import Proxy
from tests.harness.recording import WATCHED, Audit, Leaks, Recording, Write
from tests.harness.standin import StandIn
from tests.harness.world import CONTROLLERS, World

RELEASES = "/apis/gatewright.dev/v1alpha1/namespaces/{}/releases"
RUNBOOKS = "/apis/gatewright.dev/v1alpha1/namespaces/{}/runbooks"
CONNECTIONS = "/apis/gatewright.dev/v1alpha1/namespaces/{}/connections"
INTERVENTIONS = "/apis/gatewright.dev/v1alpha1/namespaces/{}/interventions"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmission"
PLURALS = {
    "ValidatingAdmissionPolicy": f"{ADMISSION}policies",
    "ValidatingAdmissionPolicyBinding": f"{ADMISSION}policybindings",
}
Object = Mapping[str, Any]
ARGUMENTS = (
    "--all-namespaces",
    "--lease-namespace",
    "default",
    "--allow-address",
    "127.0.0.1",
    "--fastest-interval",
    "100ms",
    "--measurements-per-second",
    "1000",
)
QUICK = (INTERVAL_PATTERN, DURATION_PATTERN)
"""Tests measure more often than the shipped CRD lets anybody: an interval is any duration here."""


class Late(AssertionError):
    """What was waited for did not come; the message shows how things stand."""


def poll(
    condition: Callable[[], Any], seconds: float, what: str, log: Callable[[], str], pause: float
) -> Any:
    """Poll until a condition is true; its value. Raises Late, with what the operator has said."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Late(f"waited {seconds:g}s in vain for {what}; operator log:\n{log()}")
        time.sleep(pause)


class Lab:
    """One API server for many tests, one namespace for each. The operator is not started by
    itself."""

    def __init__(
        self,
        *,
        audit_level: AuditLevel = "RequestResponse",
        direct: bool = False,
        quick_jobs: bool = False,
        policy: bool = True,
        capture: bool = True,
        arguments: Sequence[str] = (),
        seeds: Sequence[str] = (),
        watched: Mapping[str, str] = WATCHED,
    ) -> None:
        """`watched`: what is recorded, by resource and API path."""
        self._stack = contextlib.ExitStack()
        self._audit_level, self._direct, self._quick_jobs = audit_level, direct, quick_jobs
        self._policy, self._capture, self._watched = policy, capture, watched
        self._arguments = list(arguments)
        self.leaks = Leaks(seeds) if seeds else None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _open(self, stack: contextlib.ExitStack) -> None:
        self.server = stack.enter_context(ApiServer(audit_level=self._audit_level))
        ours = ("job-controller",) if self._quick_jobs else ()
        self.server.add_controller_manager([name for name in CONTROLLERS if name not in ours])
        self.background = stack.enter_context(Background())
        self.api = Api(self.background, self.server.kubeconfig, "test")
        stack.callback(self.api.close)
        self.install()
        self.recording = Recording(self.background, self.api, self._watched)
        kubelet = Api(
            self.background, self.server.kubeconfig_for("kubelet", ["system:masters"]), "kubelet"
        )
        stack.callback(kubelet.close)
        self.world = World(self.background, kubelet, self._quick_jobs)
        stack.callback(self.world.close)
        self.standin = StandIn(self.background)
        stack.callback(self.standin.close)
        self.audit = Audit(self.server.audit_log)
        self.proxy, self.operator = self._replica(stack, 0)

    @contextlib.contextmanager
    def second(self) -> Iterator[tuple[Proxy, Operator]]:
        """Another replica of the operator, with a proxy of its own; not started."""
        with contextlib.ExitStack() as stack:
            yield self._replica(stack, 1)

    def _replica(self, stack: contextlib.ExitStack, number: int) -> tuple[Proxy, Operator]:
        identity = self.server.kubeconfig_for(OPERATOR, [])
        proxy = Proxy(self.background, identity, self.server.directory)
        stack.callback(proxy.close)
        operator = Operator(
            identity if self._direct else proxy.kubeconfig,
            self.server.directory,
            proxy=None if self._direct else proxy,
            arguments=[*ARGUMENTS, *self._arguments],
            # A container that is restarted in its pod keeps the name.
            environment={"POD_NAME": f"gatewright-{number}"},
            number=number,
        )
        stack.callback(operator.close)
        return proxy, operator

    def install(self) -> None:
        """The generated CRDs, the shipped rights for the operator's user, and the shipped admission
        policies."""
        documents = [
            item
            for path in sorted((CHECKOUT / "crds").glob("gatewright.dev_*.yaml"))
            for item in yaml.safe_load_all(path.read_text().replace(*QUICK))
        ]
        for crd in documents:
            self.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        for path in (RELEASES, RUNBOOKS, CONNECTIONS, INTERVENTIONS):
            self._served(path.format("default"))
        self._grant()
        if self._policy:
            self.admit()

    def admit(self) -> None:
        """The shipped admission policies, in force: they count a moment after they were made."""
        for path in sorted((CHECKOUT / "manifests" / "admission").glob("*.yaml")):
            for item in _documents(path):
                plural = PLURALS.get(item["kind"])
                if plural and self.api.find(f"{plural}/{item['metadata']['name']}") is None:
                    self.api.create(plural, item)
        self.wait(
            lambda: self.admits() and self.asks_authors(),
            30,
            "the admission policies to be in force",
        )

    def withdraw(self, keep: str = "") -> None:
        """Take all of them away, but for one that is kept, and wait until that counts."""
        for plural in PLURALS.values():
            for item in self.api.get(plural)["items"]:
                if item["metadata"]["name"] != keep:
                    self.api.delete(f"{plural}/{item['metadata']['name']}")
        self.wait(
            lambda: bool(keep) or not self.admits(), 30, "the policy on Interventions to be gone"
        )
        self.wait(lambda: not self.asks_authors(), 30, "the policies on authors to be gone")

    def asks_authors(self, namespace: str = "default") -> bool:
        """Whether every policy on authors refuses what it must; those on changes count with the
        same policy."""
        return all(
            self._refuses(namespace, trial) for trial in ALL_TRIALS if trial.create is not None
        )

    def _refuses(self, namespace: str, trial: Trial) -> bool:
        where = f"/apis/{trial.version}/namespaces/{namespace}/{trial.plural}?dryRun=All"
        try:
            self.api.create(where, trial.create or {})
        except ApiError as error:
            return trial.refusal in str(error)
        return False

    def admits(self, namespace: str = "default") -> bool:
        """Whether somebody who acts under another name is refused in a namespace."""
        spec = {"release": "any", "action": "Abort", "by": "somebody-else"}
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Intervention",
            "metadata": {"generateName": "forged-"},
            "spec": spec,
        }
        try:
            self.api.create(f"{INTERVENTIONS.format(namespace)}?dryRun=All", body)
        except ApiError as error:
            return "nobody acts under another name" in str(error)
        return False

    def _served(self, path: str) -> None:
        """A new kind is first unknown, then refused for a moment while its storage starts."""
        self.wait(
            lambda: self.api.find(path, (404, 429, 503)) is not None, 20, f"{path} to be served"
        )

    def _grant(self) -> None:
        """Exactly the shipped rules, for a user instead of a ServiceAccount: what they leave out
        cannot be done here either."""
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        paths = {"ClusterRole": f"{rbac}/clusterroles", "Role": f"{rbac}/namespaces/default/roles"}
        paths |= {
            f"{kind}Binding": path.replace("roles", "rolebindings") for kind, path in paths.items()
        }
        subject = {"kind": "User", "name": OPERATOR, "apiGroup": "rbac.authorization.k8s.io"}
        for folder in (
            "rbac/cluster",
            "rbac/common",
            *(["capture/cluster"] if self._capture else []),
        ):
            for path in sorted((CHECKOUT / "manifests" / folder).glob("*.yaml")):
                for item in _documents(path):
                    if item["kind"] in paths:
                        item["metadata"].pop("namespace", None)  # this operator's own is `default`
                        bound = {"subjects": [subject]} if "roleRef" in item else {}
                        self.api.create(paths[item["kind"]], item | bound)

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Poll until a condition is true; its value. Raises Late."""
        return poll(condition, seconds, what, self._log, pause=0.01)

    def _log(self) -> str:
        return self.operator.tail(25) if hasattr(self, "operator") else "not started"

    def namespace(self, name: str | None = None) -> Site:
        """A fresh namespace with a Connection to the stand-in."""
        site = Site(self, name or f"t{next(self._numbers)}")
        self.api.create("/api/v1/namespaces", {"metadata": {"name": site.name}})
        provider = {"prometheus": {"url": self.standin.url}}
        site.connection("prometheus", {"timeout": "2s", **provider})
        return site

    def leases(self) -> list[Write]:
        """Writes of Leases by the operator."""
        return [
            one for one in self.audit.read() if one.resource == "leases" and one.user == OPERATOR
        ]


def _documents(path: Path) -> Iterator[Any]:
    return (
        item
        for item in yaml.safe_load_all(path.read_text())
        if isinstance(item, dict) and "kind" in item
    )


class Site:
    """One namespace, and what a test does there."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.began = time.time()

    # What users do

    def connection(self, name: str, spec: Object) -> None:
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Connection",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.lab.api.create(CONNECTIONS.format(self.name), body)

    def deployment(self, name: str = "web", version: str = "1.0.0", replicas: int = 1) -> None:
        """A Deployment whose container `app` runs `shop/NAME:VERSION`."""
        self.lab.api.create(
            f"/apis/apps/v1/namespaces/{self.name}/deployments", deployment(name, version, replicas)
        )

    def configmap(self, name: str, data: Mapping[str, str]) -> None:
        self.lab.api.create(
            f"/api/v1/namespaces/{self.name}/configmaps", {"metadata": {"name": name}, "data": data}
        )

    def secret(self, name: str, data: Mapping[str, str]) -> None:
        self.lab.api.create(
            f"/api/v1/namespaces/{self.name}/secrets",
            {"metadata": {"name": name}, "stringData": data},
        )

    def apply(self, spec: Object, name: str = "shop") -> None:
        """Create the Release."""
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.lab.api.create(self.path(), body)

    def change(self, patch: Object, name: str = "shop") -> None:
        """Merge into spec."""
        self.lab.api.merge(self.path(name), {"spec": patch})

    def annotate(self, key: str, value: str, name: str = "shop") -> None:
        self.lab.api.merge(self.path(name), {"metadata": {"annotations": {key: value}}})

    def delete(self, name: str = "shop") -> None:
        self.lab.api.delete(self.path(name))

    def path(self, name: str = "") -> str:
        return RELEASES.format(self.name) + (f"/{name}" if name else "")

    # What users see

    def release(self, name: str = "shop") -> Any:
        """The newest version that the watch delivered; None where there is none."""
        return self.lab.recording.newest("releases", self.name, name)

    def status(self, name: str = "shop") -> Any:
        found = self.release(name)
        return (found or {}).get("status") or {}

    def run(self, name: str = "shop") -> Any:
        return self.status(name).get("run") or {}

    def condition(self, kind: str, name: str = "shop") -> Any:
        return next(
            (item for item in self.status(name).get("conditions", ()) if item["type"] == kind), {}
        )

    def image(self, name: str = "web") -> str:
        found = self.lab.api.get(f"/apis/apps/v1/namespaces/{self.name}/deployments/{name}")
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    def data(self, name: str) -> Any:
        return self.lab.api.get(f"/api/v1/namespaces/{self.name}/configmaps/{name}").get("data", {})

    def jobs(self, word: str = "") -> list[Any]:
        found = self.lab.api.get(f"/apis/batch/v1/namespaces/{self.name}/jobs")["items"]
        return [item for item in found if word in item["metadata"]["name"]]

    def events(self) -> list[Any]:
        return list(
            self.lab.api.get(f"/apis/events.k8s.io/v1/namespaces/{self.name}/events")["items"]
        )

    def until(
        self, condition: Callable[[Any], Any], seconds: float = 20, name: str = "shop"
    ) -> Any:
        """Wait until a condition holds for the Release's status. Raises Late, with the status."""
        try:
            self.lab.wait(
                lambda: condition(self.status(name)),
                seconds,
                getattr(condition, "__doc__", "") or "a status",
            )
        except Late as error:
            raise Late(
                f"{error}\nstatus of {self.name}/{name}:\n{yaml.safe_dump(dict(self.status(name)))}"
            ) from None
        return self.status(name)

    def ended(
        self, outcome: str, seconds: float = 20, name: str = "shop", run: int | None = None
    ) -> Any:
        """Wait for the end of a run, finalizer and all, and for this very outcome."""

        def over(status: Any) -> bool:
            """the end of the run"""
            latest = status.get("run") or {}
            over = bool(latest.get("outcome")) and run in (None, latest.get("id"))
            meta = (self.release(name) or {}).get("metadata", {})
            return over and not meta.get("finalizers")

        status = self.until(over, seconds, name)
        got, reason = status["run"]["outcome"], status["run"].get("reason")
        assert got == outcome, f"ended {got} ({reason}), not {outcome}"
        return status

    # What the oracle sees

    def writes(self) -> list[Write]:
        return self.lab.audit.of(self.name)

    def evidence(self, *, ended: bool = True) -> Evidence:
        self._settle()
        recording = self.lab.recording
        followed = ("deployments", "configmaps", "jobs", "runbooks")
        objects = {(resource, name): versions for resource in followed
                   for name, versions in recording.of(resource, self.name).items()}  # fmt: skip
        server = self.lab.server
        logs = [server.audit_log, self.lab.operator.log]
        return Evidence(
            namespace=self.name,
            releases=recording.of("releases", self.name),
            objects=objects,
            writes=self.writes(),
            leases=self.lab.leases(),
            answers=[one for one in self.lab.standin.given if one.at >= self.began],
            leaks=self.lab.leaks.read(logs) if self.lab.leaks else None,
            ended=ended,
        )

    def examine(self, *, ended: bool = True) -> Report:
        return examine(self.evidence(ended=ended))

    def clean(self, *, ended: bool = True) -> Report:
        """The oracle's report, which must be clean."""
        report = self.examine(ended=ended)
        assert not report.violations, str(report)
        return report

    def quiet(self, seconds: float) -> list[Violation]:
        """What the operator writes in the next seconds; a moment is left for what is on its way."""
        time.sleep(0.5)
        since = time.time()
        time.sleep(seconds)
        return quiet([one for one in self.writes() if not one.resource.startswith("events")], since)

    def _settle(self) -> None:
        """Until the watch has told what the API server has: a mark of our own comes back through
        both records."""
        mark = f"mark-{time.monotonic_ns()}"
        self.lab.api.create(
            f"/api/v1/namespaces/{self.name}/configmaps", {"metadata": {"name": mark}}
        )
        self.lab.wait(
            lambda: self.lab.recording.newest("configmaps", self.name, mark), 10, "the watch"
        )
        self.lab.wait(
            lambda: any(one.name == mark for one in self.lab.audit.read()), 10, "the audit log"
        )
        newest = {
            name: int(item["metadata"]["resourceVersion"])
            for kind, path in (("releases", self.path()),)
            for item in self.lab.api.get(path)["items"]
            for name in [item["metadata"]["name"]]
        }
        self.lab.wait(
            lambda: all(
                int(self.release(name)["metadata"]["resourceVersion"]) >= rv
                for name, rv in newest.items()
            ),
            10,
            "the watch of Releases",
        )


def deployment(name: str, version: str, replicas: int) -> dict[str, Any]:
    """A Deployment with one container."""
    labels = {"app": name}
    container = {"name": "app", "image": f"shop/{name}:{version}"}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }


def require() -> None:
    """Skip, with the reason, where this machine cannot have an API server."""
    try:
        assets.ensure([*assets.TIERS["api"], "kube-controller-manager"])
    except Unavailable as reason:
        pytest.skip(str(reason))


def everything() -> bool:
    """Whether the long form of a test is asked for (GATEWRIGHT_CRASH=all)."""
    return os.environ.get("GATEWRIGHT_CRASH") == "all"
