"""People act on real runs: an Intervention moves the run once, however often the operator dies, and
says what came of it.

The operator is a real process behind the proxy; ana and ben have certificates of their own and the
shipped roles, and the shipped admission policy is in force.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from gatewright.codegen import rbac
from tests.apiserver.people import People
from tests.harness.api import Api
from tests.harness.lab import Lab, Site, everything
from tests.harness.proxy import POSITIONS, Call, Fault, Position
from tests.harness.scenarios import TARGET, deploy, gate, job, query, simple

pytestmark = pytest.mark.apiserver
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MADE = "/apis/gatewright.dev/v1alpha1/namespaces/{}/interventions"
GUARD = gate("guard", "guard", "5%")
CONFIRM = {"name": "keys", "confirm": {"instructions": "Rotate the keys."}}


@dataclass
class Crew:
    """A laboratory with the policy in force, and two people who may act in it."""

    lab: Lab
    people: dict[str, Api]

    def site(self) -> Site:
        made = self.lab.namespace()
        made.deployment()
        self.lab.standin.number(query("errors", made.name), 0.001)
        for user, role in (("ana", rbac.RELEASER_ROLE), ("ben", rbac.RELEASER_ROLE)):
            subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
            reference = {
                "kind": "ClusterRole",
                "name": role,
                "apiGroup": "rbac.authorization.k8s.io",
            }
            body = {"metadata": {"name": user}, "subjects": [subject], "roleRef": reference}
            self.lab.api.create(f"{RBAC}/namespaces/{made.name}/rolebindings", body)
        return made

    def act(self, site: Site, by: str, action: str, name: str | None = None, **more: Any) -> str:
        """Make an Intervention; its name."""
        name = name or f"{by}-{action.lower()}-{next(_numbers)}"
        spec = {"release": "shop", "action": action, "by": more.pop("act_as", by), **more}
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": "Intervention",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.lab.wait(lambda: self._made(site, by, body), 10, "the role binding to be known")
        return name

    def _made(self, site: Site, by: str, body: dict[str, Any]) -> bool:
        from tests.harness.api import ApiError

        try:
            self.people[by].create(MADE.format(site.name), body)
        except ApiError as error:
            if error.status == 403:  # the binding is a moment old
                return False
            raise
        return True

    def answer(self, site: Site, name: str, seconds: float = 10) -> dict[str, Any]:
        """What an Intervention's own status says, once it does."""
        path = f"{MADE.format(site.name)}/{name}"
        found = self.lab.wait(
            lambda: self.lab.api.get(path).get("status") or {}, seconds, f"an answer to {name}"
        )
        return dict(found)

    def done(self, site: Site, by: str, action: str, **more: Any) -> dict[str, Any]:
        found = self.answer(site, self.act(site, by, action, **more))
        assert found["result"] == "Accepted", found
        return found

    def refused(self, site: Site, by: str, action: str, **more: Any) -> str:
        found = self.answer(site, self.act(site, by, action, **more))
        assert found["result"] == "Refused", found
        return str(found["message"])


_numbers = itertools.count(1)


@pytest.fixture
def crew(lab: Lab) -> Iterator[Crew]:
    people = {
        user: Api(lab.background, lab.server.kubeconfig_for(user, groups), user)
        for user, groups in (("ana", ["release-managers"]), ("ben", ["release-managers", "dev"]))
    }
    yield Crew(lab, people)
    for api in people.values():
        api.close()


def state_is(*states: str) -> Callable[[Any], Any]:
    """a Release in one of some states"""
    return lambda status: status.get("state") in states


def staged(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "stages": [{"name": "ship", "steps": list(steps)}],
        **more,
    }


def test_a_manual_step_waits_for_ana(crew: Crew) -> None:
    site = crew.site()
    site.apply(staged(CONFIRM, deploy()))
    site.until(state_is("WaitingForPerson"))
    said = crew.done(site, "ana", "Confirm", run=1, reason="both rotated")
    assert said["message"] == "step keys of stage ship is confirmed"
    assert said["run"] == 1
    status = site.ended("Promoted")
    assert status["run"]["stages"][0]["steps"][0]["message"] == "confirmed by ana: both rotated"
    assert status["history"][0]["people"] == [
        "Confirm by ana: both rotated (step keys of stage ship is confirmed)"
    ]
    site.clean()
    assert site.quiet(1.5) == [], "nothing is told twice"


def test_two_of_a_group_say_go(crew: Crew) -> None:
    site = crew.site()
    go = {"name": "go", "approval": {"groups": ["release-managers"], "count": 2}}
    site.apply(staged(deploy(), preflight=[go]))
    site.until(state_is("WaitingForPerson"))
    assert "asks for a member of release-managers" in crew.refused(site, "ben", "Approve")
    assert "spec.groups shows dev" in crew.refused(site, "ben", "Approve", groups=["dev"])
    assert "1 of 2" in crew.done(site, "ana", "Approve", groups=["release-managers"])["message"]
    assert "has approved" in crew.refused(site, "ana", "Approve", groups=["release-managers"])
    assert site.image() == "shop/web:1.0.0"
    crew.done(site, "ben", "Approve", groups=["release-managers"], gate="go")
    status = site.ended("Promoted")
    assert status["run"]["preflight"][0]["message"] == "approved by ana, ben"
    site.clean()


def test_ana_takes_it_back(crew: Crew) -> None:
    site = crew.site()
    site.apply(simple(site.name, bake="60s"))
    site.until(state_is("Baking"))
    crew.done(site, "ana", "Rollback", reason="customers complain")
    status = site.ended("RolledBack")
    assert site.image() == "shop/web:1.0.0"
    assert status["rejected"][0]["reason"] == "Rollback by ana: customers complain"
    site.clean()
    assert "as run 2" in crew.done(site, "ben", "Retry", run=1)["message"]
    site.until(lambda status: (status.get("run") or {}).get("id") == 2)
    assert "meant for run 1; the latest is run 2" in crew.refused(site, "ana", "Abort", run=1)
    site.until(state_is("Baking"))
    crew.done(site, "ana", "Promote")
    site.ended("Promoted", run=2)
    assert "no run is under way" in crew.refused(site, "ana", "Abort")


def test_a_job_that_is_skipped_is_stopped_first(crew: Crew) -> None:
    site = crew.site()
    site.apply(staged(job("migrate", FAKE_SECONDS="60"), deploy()))
    site.until(
        lambda status: [one for one in site.jobs("migrate") if one.get("status", {}).get("active")]
    )
    crew.done(site, "ana", "Skip", step="migrate")
    status = site.ended("Promoted")
    assert status["run"]["stages"][0]["steps"][0]["state"] == "Skipped"
    assert [one["spec"]["suspend"] for one in site.jobs("migrate")] == [True]


def test_pause_resume_abort(crew: Crew) -> None:
    site = crew.site()
    site.apply(simple(site.name, bake="3s"))
    site.until(state_is("Baking"))
    crew.done(site, "ana", "Pause", reason="lunch")
    status = site.until(state_is("Suspended"))
    assert "paused by ana: lunch" in status["message"]
    crew.done(site, "ben", "Resume")
    site.until(state_is("Baking"))
    crew.done(site, "ben", "Abort")
    status = site.ended("Aborted")
    assert site.image() == "shop/web:1.0.0"
    assert "rejected" not in status
    site.clean()


def test_a_release_that_is_not_there_is_said_to_be_so(crew: Crew) -> None:
    site = crew.site()
    assert "there is no Release shop" in crew.refused(site, "ana", "Approve")


def test_what_was_asked_while_nobody_acted_is_answered_in_order(crew: Crew) -> None:
    site = crew.site()
    site.apply(staged(CONFIRM, deploy()))
    site.until(state_is("WaitingForPerson"))
    crew.lab.operator.stop()
    names = [crew.act(site, "ana", "Confirm"), crew.act(site, "ben", "Reject")]
    crew.lab.operator.start()
    assert [crew.answer(site, name)["result"] for name in names] == ["Accepted", "Refused"]
    site.ended("Promoted")
    site.clean()


# --------------------------------------------------------------------------------------------------
# What was approved is what runs


GO = {"name": "go", "approval": {"groups": ["release-managers"]}}
ACTS = [(verb, "gatewright.dev", "releases", "") for verb in ("retry", "approve", "skip")]
WRITES = [
    ("create", "batch", "jobs", ""),
    ("get", "apps", "deployments", "web"),
    ("patch", "apps", "deployments", "web"),
]


@pytest.mark.parametrize("place", ["preflight", "stage", "before"])
def test_nobody_runs_another_body_under_what_ana_has_approved(crew: Crew, place: str) -> None:
    """Mallory may write the Release, repeat it, and approve; but is no release manager."""
    site = crew.site()
    people = People(crew.lab, site.name)
    try:
        mallory = people.with_rights(*ACTS, *WRITES, also=("interventions",))
        crew.people["mallory"], user = mallory, people.name_of(mallory)
        asked, smoke = job("smoke", FAKE_EXIT="1"), [GO] if place == "stage" else []
        spec = staged(
            *smoke, asked, deploy(), preflight=[GO] if place == "preflight" else [], guards=[GUARD]
        )
        spec["stages"][0]["onFailure"] = "Pause"
        if place == "before":
            spec["stages"].insert(0, {"name": "ask", "steps": [GO]})
        crew.lab.standin.number(query("guard", site.name), 0.001)
        spec["guards"] = [GUARD | {"prometheus": {"query": query("guard", site.name)}}]
        site.apply(spec)
        site.until(state_is("WaitingForPerson"))
        shown = {"groups": ["release-managers"], "specHash": site.run()["specHash"]}
        assert crew.done(site, "ana", "Approve", **shown)["specHash"] == shown["specHash"]
        site.until(state_is("Paused"))

        evil = deepcopy(spec["stages"])
        next(step for step in evil[-1]["steps"] if step["name"] == "smoke")["job"] = job("evil")[
            "job"
        ]
        assert crew.lab.wait(
            lambda: _edited(site, mallory, {"stages": evil, "guards": []}),
            10,
            "RBAC to know mallory",
        )
        said = crew.done(site, "mallory", "Retry", act_as=user)
        assert (
            "its edit counts now: step smoke of stage ship changed, guard guard removed"
            in said["message"]
        )
        status = site.until(state_is("WaitingForPerson"))
        words = "after an edit (step smoke of stage ship changed, guard guard removed)"
        assert words in status["waitingFor"]["message"]
        crew.refused(site, "mallory", "Approve", act_as=user)
        assert "edited since it was looked at" in crew.refused(site, "ana", "Approve", **shown)
        assert site.quiet(1.5) == []
        assert ("evil",) not in [one.command for one in site.lab.world.runs(site.name)]

        crew.done(site, "ben", "Approve", **(shown | {"specHash": site.run()["specHash"]}))
        status = site.ended("Promoted")
        assert [one.command for one in site.lab.world.runs(site.name)] == [("smoke",), ("evil",)]
        by = [line.partition(" (")[0] for line in status["run"]["people"]]
        assert by == ["Approve by ana", f"Retry by {user}", "Approve by ben"]
        site.clean()
    finally:
        people.close()


def _edited(site: Site, api: Api, patch: dict[str, Any]) -> bool:
    from tests.harness.api import ApiError

    try:
        api.merge(site.path("shop"), {"spec": patch})
    except ApiError as error:
        if error.status not in (403, 422):  # RBAC is a moment old
            raise
        return False
    return True


# --------------------------------------------------------------------------------------------------
# Killed at each write that an Intervention causes


def answers_in(site: Site, nth: int) -> Callable[[Call], bool]:
    """The nth write of this namespace that answers somebody: in the Release's status, or in the
    Intervention's own."""
    seen: set[int] = set()

    def when(call: Call) -> bool:
        if not call.writes or f"/namespaces/{site.name}/" not in call.path:
            return False
        answers = call.resource == "releases/status" and b'"interventions"' in call.body
        if not (answers or call.resource == "interventions/status"):
            return False
        seen.add(call.serial)
        return len(seen) == nth

    return when


POINTS = [(number, POSITIONS[number % 3]) for number in range(1, 9)]
EVERY = [(number, position) for number in range(1, 9) for position in POSITIONS]


@pytest.mark.parametrize(("number", "position"), EVERY if everything() else POINTS)
def test_killed_while_people_are_answered_each_act_counts_once(
    crew: Crew, number: int, position: Position
) -> None:
    site = crew.site()
    go = {"name": "go", "approval": {"count": 2}}
    site.apply(staged(CONFIRM, deploy(), job("smoke"), preflight=[go]))
    site.until(state_is("WaitingForPerson"))
    fault = Fault(answers_in(site, number), "kill", position)
    with crew.lab.proxy.fault(fault):
        names = [
            crew.act(site, "ana", "Approve"),
            crew.act(site, "ana", "Approve"),
            crew.act(site, "ben", "Approve"),
        ]
        _until_restarted(crew, lambda: _waits_for(site, "step keys"))
        names.append(crew.act(site, "ben", "Confirm"))
        _until_restarted(
            crew, lambda: site.run().get("outcome") and _all_answered(crew, site, names)
        )
    assert fault.used == 1, "nothing was killed"
    status = site.ended("Promoted", 30)
    said = [crew.answer(site, name) for name in names]
    assert [item["result"] for item in said] == ["Accepted", "Refused", "Accepted", "Accepted"]
    assert status["run"]["preflight"][0]["approvedBy"] == ["ana", "ben"]
    assert [line.partition(" (")[0] for line in status["run"]["people"]] == [
        "Approve by ana", "Approve by ben", "Confirm by ben",
    ]  # fmt: skip
    assert [one.command for one in site.lab.world.runs(site.name)] == [("smoke",)]
    site.clean()


@pytest.mark.parametrize(
    ("number", "position"), [(n, where) for n in (1, 2) for where in POSITIONS]
)
def test_killed_in_the_middle_of_a_rollback_that_ana_asked_for(
    crew: Crew, number: int, position: Position
) -> None:
    site = crew.site()
    site.apply(simple(site.name, bake="60s"))
    site.until(state_is("Baking"))
    fault = Fault(answers_in(site, number), "kill", position)
    with crew.lab.proxy.fault(fault):
        name = crew.act(site, "ana", "Rollback")
        _until_restarted(
            crew, lambda: site.run().get("outcome") and _all_answered(crew, site, [name])
        )
    assert fault.used == 1, "nothing was killed"
    status = site.ended("RolledBack", 30)
    assert site.image() == "shop/web:1.0.0"
    assert len(status["run"]["people"]) == len(status["history"]) == 1
    assert crew.answer(site, name)["result"] == "Accepted"
    site.clean()


def _waits_for(site: Site, words: str) -> bool:
    return words in (site.status().get("waitingFor") or {}).get("message", "")


def _all_answered(crew: Crew, site: Site, names: list[str]) -> bool:
    return all(crew.lab.api.get(f"{MADE.format(site.name)}/{name}").get("status") for name in names)


def _until_restarted(crew: Crew, condition: Callable[[], Any]) -> None:
    """Wait for a condition; a killed operator is started again meanwhile."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, crew.lab.operator.tail(25)
        if crew.lab.proxy.killed.is_set() and not crew.lab.operator.alive:
            crew.lab.operator.reap()
            crew.lab.operator.start(wait=False)
        time.sleep(0.02)
