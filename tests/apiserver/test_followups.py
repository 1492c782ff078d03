"""What is left to do after a run, on a real API server: it outlives the run, the operator's death
and the next run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.codegen import rbac
from gatewright.core.run import clocks
from tests.harness.api import Api, ApiError
from tests.harness.lab import INTERVENTIONS, Lab, Site
from tests.harness.receiver import Receiver
from tests.harness.scenarios import query, simple

pytestmark = pytest.mark.apiserver
RBAC = "/apis/rbac.authorization.k8s.io/v1"
REVISIONS = "/apis/apps/v1/namespaces/{}/controllerrevisions"


@dataclass
class Scene:
    """A namespace, somebody who is told, and ana, who may confirm."""

    site: Site
    receiver: Receiver
    ana: Api

    def confirm(self, name: str, **more: Any) -> dict[str, Any]:
        """Ana confirms; what came of it."""
        lab, path = self.site.lab, INTERVENTIONS.format(self.site.name)
        action = more.pop("action", "Confirm")
        spec = {"release": "shop", "action": action, "by": "ana", "followUp": name, **more}
        meta = {"name": f"{action.lower()}-{name}"}
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Intervention",
            "metadata": meta,
            "spec": spec,
        }

        def made() -> bool:
            try:
                self.ana.create(path, body)
            except ApiError as error:
                if error.status == 403:  # the binding is a moment old
                    return False
                raise
            return True

        lab.wait(made, 10, "the role binding to be known")
        found = lab.wait(
            lambda: lab.api.get(f"{path}/{meta['name']}").get("status"),
            10,
            f"an answer to {meta['name']}",
        )
        return dict(found)

    def plugin(self, *arguments: str) -> str:
        """What `kubectl release` prints for ana."""
        lab = self.site.lab
        command = [sys.executable, "-m", "gatewright.plugin", *arguments, "-n", self.site.name]
        command += ["--kubeconfig", str(lab.server.kubeconfig_for("ana", []))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def rows(self) -> dict[str, Any]:
        return {
            f"{row['run']}/{row['name']}": row for row in self.site.status().get("followUps", ())
        }

    def states(self) -> dict[str, str]:
        return {name: row["state"] for name, row in self.rows().items()}

    def until(self, seconds: float = 20, **wanted: str) -> dict[str, Any]:
        """Wait for states, by name; the rows."""

        def reached(status: Any) -> bool:
            """follow-ups in their states"""
            found = {row["name"]: row["state"] for row in status.get("followUps", ())}
            return all(found.get(name.replace("_", "-")) == state for name, state in wanted.items())

        self.site.until(reached, seconds)
        return self.rows()

    def told(self) -> list[str]:
        """Events of the notices; a crash may have repeated one, under its id."""
        return [identity.split("_")[2] for identity in dict.fromkeys(self.receiver.ids(self.site))]

    def reasons(self) -> list[str]:
        return [
            item["reason"] for item in self.site.events() if item["reason"].startswith("FollowUp")
        ]


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    site = lab.namespace()
    site.deployment()
    receiver = Receiver(lab.background)
    ana = Api(lab.background, lab.server.kubeconfig_for("ana", []), "ana")
    subject = {"kind": "User", "name": "ana", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {
        "kind": "ClusterRole",
        "name": rbac.APPROVER_ROLE,
        "apiGroup": "rbac.authorization.k8s.io",
    }
    binding = {"metadata": {"name": "ana"}, "subjects": [subject], "roleRef": reference}
    lab.api.create(f"{RBAC}/namespaces/{site.name}/rolebindings", binding)
    site.secret("hooks", {"key": "a signing key of some length"})
    access = {
        "url": f"{receiver.url}/{site.name}",
        "secret": {"secretRef": {"name": "hooks", "key": "key"}},
    }
    site.connection("hooks", {"timeout": "2s", "webhook": access})
    lab.standin.number(query("errors", site.name), 0.001)
    lab.standin.number(query("after", site.name), 0.001)
    yield Scene(site, receiver, ana)
    ana.close()
    receiver.close()


def spec(scene: Scene, *items: dict[str, Any], **more: Any) -> dict[str, Any]:
    notify = [{"events": ["FollowUpDue", "FollowUpFailed"], "webhook": {"connection": "hooks"}}]
    return simple(scene.site.name, followUps=list(items), notify=notify, **more)


def task(name: str, within: str = "1h", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "within": within,
        "confirm": {"instructions": f"Do {name} for $(version)."},
        **more,
    }


def watched(scene: Scene, name: str, within: str, asked: str = "after") -> dict[str, Any]:
    found = {"query": query(asked, scene.site.name)}
    return {"name": name, "within": within, "interval": "500ms", "prometheus": found, "max": "1%"}


def test_they_outlive_the_run_a_crash_and_the_next_run(scene: Scene) -> None:
    site, lab = scene.site, scene.site.lab
    site.apply(spec(scene, task("log", "8s"), task("review"), watched(scene, "errors-day", "1h")))
    site.ended("Promoted")
    assert set(scene.states()) == {"1/log", "1/review", "1/errors-day"}
    revision = scene.rows()["1/errors-day"]["revision"]

    # its time ends while no operator is there
    lab.operator.kill()
    lab.operator.reap()
    over = clocks.parse_time(scene.rows()["1/log"]["dueAt"])
    lab.wait(lambda: datetime.now(UTC) > over + timedelta(seconds=0.2), 10, "the end of its time")
    lab.operator.start()
    scene.until(log="Overdue")
    lab.wait(lambda: scene.told() == ["FollowUpDue"], 10, "the notice")
    assert (
        scene.receiver.bodies[0]["data"]["text"]
        == "follow-up log of 2.0.0 is overdue: Do log for 2.0.0."
    )
    lab.wait(lambda: set(scene.reasons()) == {"FollowUpDue"}, 10, "the Event")
    ready = site.condition("Ready")
    assert (ready["status"], ready["reason"]) == (
        "True",
        "Promoted",
    ) and "follow-up log of run 1" in ready["message"]

    # the next run begins, without any of them in its spec; what is measured after the first one
    # stays pinned
    site.change({"version": "2.1.0", "followUps": [], **_bake("60s")})
    site.until(lambda status: status.get("state") == "Baking")
    names = {item["metadata"]["name"] for item in lab.api.get(REVISIONS.format(site.name))["items"]}
    assert revision in names and site.run()["id"] == 2

    # an older one is confirmed, another one fails, and the run does not care
    said = scene.plugin("confirm", "shop", "--follow-up", "review", "--reason", "they like it")
    assert "accepted: follow-up review of run 1 is confirmed" in said
    done = scene.until(review="Done")["1/review"]
    assert (done["by"], done["message"]) == ("ana", "confirmed by ana: they like it")
    assert (
        "confirmed by ana: they like it"
        in scene.plugin("status", "shop").partition("Follow-ups:")[2]
    )
    lab.standin.number(query("after", site.name), 0.5)
    failed = scene.until(errors_day="Failed")["1/errors-day"]
    assert failed["message"] == "50% > 1%" and "revision" not in failed
    lab.wait(lambda: scene.told() == ["FollowUpDue", "FollowUpFailed"], 10, "the second notice")
    assert site.run()["phase"] == "Progressing" and site.image() == "shop/web:2.1.0"

    # what is overdue can still be done
    assert scene.confirm("log")["result"] == "Accepted"
    assert scene.until(log="Done")["1/log"]["message"] == "confirmed by ana"
    again = scene.confirm("log", action="Reject")
    assert again["result"] == "Refused" and "already" in again["message"]
    assert site.quiet(2) == [], "nothing is written while nothing changes"
    site.clean(ended=False)


def _bake(length: str) -> dict[str, Any]:
    stage = simple("any", bake=length)["stages"][0]
    return {"stages": [{**stage, "gates": []}]}


def test_what_is_measured_is_done_only_by_an_answer(scene: Scene) -> None:
    """One passes to its end, one has no data; nothing is written in between, and nobody holds the
    Release."""
    site = scene.site
    site.lab.standin.empty(query("nothing", site.name))
    silent = watched(scene, "silent", "15s", "nothing")
    site.apply(spec(scene, watched(scene, "calm", "15s"), silent, task("review")))
    site.ended("Promoted")

    def heard(status: Any) -> bool:
        """a first answer of each"""
        found = {
            row["name"]: (row.get("gate") or {}).get("state") for row in status.get("followUps", ())
        }
        return found == {"calm": "Passing", "silent": "Holding", "review": None}

    site.until(heard)
    before = site.release()["metadata"]["resourceVersion"]
    asked = site.lab.standin.asked(query("after", site.name))
    site.lab.wait(
        lambda: site.lab.standin.asked(query("after", site.name)) >= asked + 3,
        10,
        "three more answers",
    )
    assert (
        scene.states()["1/calm"] == "Pending"
        and site.release()["metadata"]["resourceVersion"] == before
    )
    rows = scene.until(calm="Done", silent="Overdue")
    assert (
        "passed when its time was over" in rows["1/calm"]["message"]
        and "no data" in rows["1/silent"]["message"]
    )
    site.lab.wait(lambda: scene.told() == ["FollowUpDue"], 10, "the notice")
    site.until(lambda status: not status.get("notices"))
    asked = site.lab.standin.asked(query("after", site.name))
    assert site.quiet(1.5) == [] and site.lab.standin.asked(query("after", site.name)) == asked
    assert scene.states()["1/review"] == "Pending" and not site.release()["metadata"].get(
        "finalizers"
    )
    site.clean()
