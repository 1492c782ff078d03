"""A namespace with the sample in it, its stand-ins, and ana, who does what the runbook leaves to
people."""

from __future__ import annotations

import base64
import itertools
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gatewright.codegen import rbac
from tests.e2e.runbook import ground, sample
from tests.e2e.runbook.ground import Place
from tests.e2e.runbook.seeds import SEEDS
from tests.e2e.runbook.standins import NEW, OLD, Foco
from tests.fakes.vercel import Deployment
from tests.harness.api import Api, ApiError
from tests.harness.lab import Late

MADE = "/apis/gatewright.dev/v1alpha1/namespaces/{}/interventions"
ANA, MANAGERS, ON_CALL = "ana", "release-managers", "on-call"
STAGES = sample.release()["spec"]["stages"]
SECRETS: Mapping[str, Mapping[str, str]] = {
    "vercel": {"token": "vercel", "bypass": "bypass"},
    "supabase": {"token": "supabase"},
    "github": {"token": "github"},
    "sentry": {"token": "sentry"},
    "site": {"token": "site"},
    "upstash": {"token": "upstash"},
    "openai": {"apiKey": "openai-old"},
    "openai-before-rotation": {"apiKey": "openai-old"},
    "beta-users": {"token": "beta"},
    "slack": {"token": "slack"},
    "pagerduty": {"routingKey": "pagerduty"},
    "statuspage": {"apiKey": "statuspage"},
}
"""Secrets that the sample names: seeds by key."""


@dataclass
class Scene:
    """One Release `foco`, from 2.3.1 to 2.4.0 and, maybe, back."""

    place: Place
    foco: Foco
    ana: Api
    migration: str = "good"
    """Which one the images bring."""
    revokes: bool = True
    """Whether ana revokes the old key when she rotates it."""
    rejects: str = ""
    """A manual step that ana rejects."""
    world: Callable[[Scene], None] = lambda scene: None
    """What the world does about what is served now; called again and again."""
    ended: Any = None
    failure: BaseException | None = None
    acted: list[tuple[str, str]] = field(default_factory=list)
    """What ana did, and with which answer."""
    took: float = 0.0
    """Seconds from the change of the version until everybody was told of the end."""
    before: str = ""
    """Id of the production deployment before the run."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _thread: threading.Thread | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    def set_up(self) -> None:
        """Connections, Secrets, rights, and the Release at the version that is live."""
        for name, keys in SECRETS.items():
            self._secret(name, {key: SEEDS[seed] for key, seed in keys.items()})
        self._secret("database", {"url": self.foco.database.url})
        store = {
            "BACKUP_STORE_URL": self.foco.urls["backups"],
            "BACKUP_STORE_TOKEN": SEEDS["backups"],
        }
        self._secret("database-owner", {"DATABASE_URL": self.foco.database.owners_url, **store})
        self._registry()
        for name, spec in sample.connections().items():
            self.place.gatewright(
                "Connection", name, sample.pointed(spec, self.foco.urls.get(name))
            )
        subject = {"kind": "User", "name": ANA, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {
            "kind": "ClusterRole",
            "name": rbac.RELEASER_ROLE,
            "apiGroup": "rbac.authorization.k8s.io",
        }
        bindings = "/apis/rbac.authorization.k8s.io/v1/rolebindings"
        self.place.create(bindings, ANA, subjects=[subject], roleRef=reference)
        spec = sample.shortened(sample.release()["spec"])
        spec = sample.led(spec, self.foco.urls["site"], ground.repository(self.migration))
        self.place.gatewright("Release", "foco", spec | {"version": OLD})
        self.place.until(
            lambda status: (status.get("lastGood") or {}).get("version") == OLD,
            120,
            f"{OLD} as last good",
        )

    def _secret(self, name: str, data: Mapping[str, str]) -> None:
        self.place.create("/api/v1/secrets", name, stringData=data)

    def _registry(self) -> None:
        """A Service for the registry of packages that the images name: Jobs reach it as they would
        reach a company's."""
        url, name = urllib.parse.urlsplit(self.foco.urls["npm"]), "npm-registry"
        self.place.create("/api/v1/services", name, spec={"ports": [{"name": "http", "port": 80}]})
        slice_ = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [url.hostname]}],
            "ports": [{"name": "http", "port": url.port}],
        }
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.place.name}/endpointslices"
        self.place.ground.api.create(path, slice_)

    def play(self, seconds: float) -> None:
        """Ask for 2.4.0 and stay until the end of the run, in the background."""
        self._thread = threading.Thread(target=self._play, args=(seconds,), daemon=True)
        self._thread.start()

    def wait(self, outcome: str, seconds: float) -> Any:
        """The status at the end."""
        assert self._thread is not None
        self._thread.join(seconds)
        if self.failure is not None:
            raise self.failure
        assert self.ended is not None, f"not over: {yaml.safe_dump(dict(self.place.status))}"
        run = self.ended["run"]
        assert run["outcome"] == outcome, f"{run['outcome']} ({run.get('reason')}), not {outcome}"
        return self.ended

    def take_back(self, reason: str, seconds: float) -> Any:
        """Ask for the way back when no run is under way; the status at the end of that."""
        self._intervene("take-back", "Rollback", reason)

        def is_over(status: Any) -> bool:
            run = status["run"]
            return run.get("kind") == "Undo" and bool(run.get("outcome"))

        return self.place.until(is_over, seconds, "the end of the way back")

    def run_procedure(self, name: str, groups: list[str], seconds: float, **more: Any) -> Any:
        """Run a procedure and approve it, as ana; its row at the end."""
        reason = "as the runbook says"
        self._intervene(f"run-{name}", "Run", reason, procedure=name, **more)
        self._wait_for_procedure(
            lambda row: "waits for a person" in row.get("message", ""), seconds, f"{name} to ask"
        )
        self._intervene(f"approve-{name}", "Approve", reason, procedure=name, groups=groups)
        return self._wait_for_procedure(
            lambda row: row.get("finishedAt"), seconds, f"the end of {name}"
        )

    def _wait_for_procedure(
        self, condition: Callable[[Any], Any], seconds: float, what: str
    ) -> Any:
        def holds(status: Any) -> bool:
            return bool(condition((status.get("procedures") or [{}])[0]))

        return self.place.until(holds, seconds, what)["procedures"][0]

    def stop(self) -> None:
        """End what is still under way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(30)

    def _play(self, seconds: float) -> None:
        try:
            self.set_up()
            self.before = self.live.id
            self.place.change({"version": NEW})
            began = time.monotonic()
            while not self._turn(self.place.status):
                if time.monotonic() > began + seconds or self._stopped.wait(0.2):
                    raise Late(yaml.safe_dump(dict(self.place.status)))
            self.ended = self.place.until(
                lambda status: not status.get("notices"), 60, "everybody to be told"
            )
            self.took = time.monotonic() - began
        except BaseException as error:
            self.failure = error

    def _turn(self, status: Any) -> bool:
        """Do what is to be done now; whether the run is over."""
        run = status.get("run") or {}
        if run.get("version") != NEW:
            return False
        self.world(self)
        if run.get("outcome"):
            return True
        for kind, where in self._asked(run):
            self._answer(kind, where)
        return False

    def _asked(self, run: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
        """What waits for a person now: the kind, and where."""
        if run["phase"] == "Preflight":
            others = [item for item in run["preflight"] if item["name"] != "go"]
            if others and all(item["state"] == "Passing" for item in others):
                return [("approval", {"gate": "go"})]
            return []
        found = []
        for told, stage in zip(run.get("stages", ()), STAGES, strict=True):
            for step, asked in zip(told["steps"], stage["steps"], strict=True):
                if step["state"] == "Running" and told["state"] == "Running":
                    kind = next((kind for kind in ("approval", "confirm") if kind in asked), None)
                    found += (
                        [(kind, {"stage": stage["name"], "step": step["name"]})] if kind else []
                    )
        return found

    def _answer(self, kind: str, where: dict[str, str]) -> None:
        name = "-".join([*where.values(), kind])
        if any(done == name for done, _ in self.acted):
            return
        if where.get("step") == "rotate-keys" and where["step"] != self.rejects:
            self._rotate()
        action = "Approve" if kind == "approval" else "Confirm"
        if where.get("step", "") == self.rejects != "":
            action = "Reject"
        groups = {"groups": [MANAGERS]} if kind == "approval" else {}
        try:
            path = self._intervene(name, action, "as the runbook says", **where, **groups)
        except ApiError as error:
            if error.status == 403:  # the role binding is a moment old
                return
            raise
        shared = self.place.ground
        said = shared.wait(lambda: shared.api.get(path).get("status"), 90, f"an answer to {path}")
        self.acted.append((name, said["result"]))

    def _intervene(self, name: str, action: str, reason: str, **spec: Any) -> str:
        """Let ana act; the path of what she has made."""
        own = f"{name}-{next(self._numbers)}"
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Intervention",
            "metadata": {"name": own},
            "spec": {"release": "foco", "action": action, "by": ANA, "reason": reason, **spec},
        }
        made = MADE.format(self.place.name)
        self.ana.create(made, body)
        return f"{made}/{own}"

    def _rotate(self) -> None:
        self.foco.rotate(revoke=self.revokes)
        path = f"/api/v1/namespaces/{self.place.name}/secrets/openai"
        self.place.ground.api.merge(path, {"stringData": {"apiKey": SEEDS["openai-new"]}})

    # --- what a test asks afterwards

    @property
    def secrets_told(self) -> list[str]:
        """Where seeds stand that should not: the operator's log, all objects but Secrets, messages,
        metrics."""
        texts = {"messages": self.foco.messages, **self.place.told()}
        texts |= {
            "metrics": self.place.ground.metrics(),
            "the operator's log": self.place.ground.log(),
        }
        forms = {
            name: (value, base64.b64encode(value.encode()).decode().rstrip("="))
            for name, value in SEEDS.items()
        }
        return [
            f"{seed} in {where}"
            for where, text in texts.items()
            for seed, values in forms.items()
            if any(value in text for value in values)
        ]

    @property
    def live(self) -> Deployment:
        """What the production domains lead to."""
        assert self.foco.vercel.live is not None
        return self.foco.vercel.live

    def stages(self) -> dict[str, str]:
        """States of the stages."""
        return {item["name"]: item["state"] for item in self.ended["run"]["stages"]}

    @property
    def queries(self) -> list[str]:
        """POSTs to Vercel that only ask."""
        return [post for post in self.foco.vercel.posts() if post == "POST /v2/observability/query"]

    def ran(self, word: str) -> int:
        """How many containers ran with this in their command."""
        return len(self.place.runs(word))

    def slack(self, channel: str) -> list[str]:
        """Events that a channel was told in threads, in order."""
        known = {channel, self.foco.channel_id(channel)}
        told = [
            body
            for method, body in self.foco.slack.calls
            if method == "chat.postMessage" and body["channel"] in known
        ]
        return [str(body["text"]).split("*")[1] for body in told if body.get("thread_ts")]
