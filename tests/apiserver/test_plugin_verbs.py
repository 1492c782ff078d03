"""Every verb as people type it: `kubectl release VERB`, by the real kubectl, as three users with
different rights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatewright.codegen import rbac
from tests.apiserver.test_plugin_people import CONFIRM, GO, RBAC, Desk, state
from tests.cluster import assets
from tests.harness.lab import Lab
from tests.harness.scenarios import TARGET, deploy, gate, job, query, simple

pytestmark = pytest.mark.apiserver
ROLES = {"ana": rbac.RELEASER_ROLE, "ben": rbac.APPROVER_ROLE, "cem": f"{rbac.ROLE_NAME}-view"}
MAY = {
    "ana": frozenset(
        {
            "approve",
            "reject",
            "confirm",
            "retry",
            "skip",
            "promote",
            "pause",
            "resume",
            "abort",
            "rollback",
        }
    ),
    "ben": frozenset({"approve", "reject", "confirm"}),
    "cem": frozenset(),
}


class Terminal(Desk):
    """Where people type `kubectl release`."""

    scripts: Path

    def command(self, user: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        _, environment = super().command(user)
        environment["PATH"] = f"{self.scripts}:{environment['PATH']}"
        kubectl = str(assets.ensure(["kubectl"])["kubectl"])
        return [kubectl, "release", *arguments, "-n", self.site.name], environment

    def only_who_may(self, verb: str, *arguments: str) -> str:
        """Whoever may not is refused by the API server, in words that say why; then ana does it."""
        for user, allowed in MAY.items():
            if verb not in allowed:
                words = self.no(user, verb, "shop", *arguments)
                assert "Forbidden" in words, words
                wanted = (
                    'cannot create resource "interventions"'
                    if user == "cem"
                    else f"{user} may not {verb} release"
                )
                assert wanted in words, words
        out = self.ok("ana", verb, "shop", *arguments)
        assert f"release.gatewright.dev/shop {verb} accepted: " in out, out
        return out


@pytest.fixture
def terminal(lab: Lab, tmp_path: Path) -> Terminal:
    script = tmp_path / "kubectl-release"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewright.plugin "$@"\n')
    script.chmod(0o755)
    site = lab.namespace()
    site.deployment()
    lab.standin.number(query("errors", site.name), 0.001)
    for user, role in ROLES.items():
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        body = {"metadata": {"name": user}, "subjects": [subject], "roleRef": reference}
        lab.api.create(f"{RBAC}/namespaces/{site.name}/rolebindings", body)
    groups = {"ana": ["release-managers"]}
    made = Terminal(
        site, {user: lab.server.kubeconfig_for(user, groups.get(user, [])) for user in ROLES}
    )
    made.scripts = tmp_path
    return made


def test_every_verb_does_what_it_says_for_those_who_may(terminal: Terminal) -> None:
    site = terminal.site
    tested = job("tests", FAKE_EXIT="1")
    bake = {
        "name": "ship",
        "steps": [deploy()],
        "gates": [gate("errors", query("errors", site.name))],
        "bake": "1h",
    }
    stages = [
        {"name": "keys", "steps": [CONFIRM]},
        {"name": "tests", "steps": [tested], "onFailure": "Pause"},
        bake,
    ]
    site.apply({"version": "2.0.0", "targets": [TARGET], "preflight": [GO], "stages": stages})
    state(terminal, "WaitingForPerson")
    terminal.only_who_may("approve")
    site.until(lambda status: "step keys" in (status.get("waitingFor") or {}).get("message", ""))
    terminal.only_who_may("confirm", "--step", "keys", "--reason", "both rotated")
    state(terminal, "Paused")
    terminal.only_who_may("retry")
    site.until(
        lambda status: status["run"]["stages"][1]["attempt"] == 2 and status["state"] == "Paused"
    )
    terminal.only_who_may("skip", "--stage", "tests")
    state(terminal, "Baking")
    terminal.only_who_may("pause", "--reason", "lunch")
    state(terminal, "Suspended")
    terminal.only_who_may("resume")
    state(terminal, "Baking")
    for user in ROLES:  # who may see may see all of it
        why = " ".join(terminal.ok(user, "explain", "shop").split())
        assert "ship errors Passing 0.1% <= 1%" in why and "Pause by ana: lunch" in why
        assert "Baking" in terminal.ok(user, "status", "shop")
    terminal.only_who_may("promote")
    site.ended("Promoted")
    assert [line.split()[0] for line in site.run()["people"]] == [
        "Approve", "Confirm", "Retry", "Skip", "Pause", "Resume", "Promote",
    ]  # fmt: skip
    assert site.image() == "shop/web:2.0.0"

    site.change({"version": "3.0.0"})
    site.until(
        lambda status: status.get("state") == "WaitingForPerson" and status["run"]["id"] == 2
    )
    assert "is rejected" in terminal.only_who_may("reject", "--gate", "go", "--reason", "not today")
    site.ended("Aborted", run=2)
    terminal.ok("ana", "retry", "shop")
    site.until(
        lambda status: status.get("state") == "WaitingForPerson" and status["run"]["id"] == 3
    )
    terminal.only_who_may("abort")
    site.ended("Aborted", run=3)

    site.change({**simple(site.name, "4.0.0", bake="1h"), "preflight": None})
    site.until(lambda status: status.get("state") == "Baking" and status["run"]["id"] == 4)
    terminal.only_who_may("rollback", "--reason", "customers complain")
    site.ended("RolledBack", run=4)
    assert site.image() == "shop/web:2.0.0"
    site.clean()


def test_watching_by_kubectl_ends_with_the_run(terminal: Terminal) -> None:
    site = terminal.site
    site.apply(
        {
            "version": "2.0.0",
            "targets": [TARGET],
            "stages": [{"name": "ship", "steps": [CONFIRM, deploy()]}],
        }
    )
    state(terminal, "WaitingForPerson")
    command, environment = terminal.command(
        "cem", "status", "shop", "--watch", "--wait", "--timeout", "60s"
    )
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "WaitingForPerson" in watching.stdout.readline()
        terminal.ok("ben", "confirm", "shop")
        assert "Promoted" in watching.stdout.read().splitlines()[-1]
        assert watching.wait(30) == 0
