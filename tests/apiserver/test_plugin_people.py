"""`kubectl release` as ana and ben run it: against a real API server, a real operator, the shipped
roles and policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from gatewright.codegen import rbac
from tests.cluster import assets
from tests.cluster.paths import CHECKOUT
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import TARGET, deploy, gate, job, query, simple

pytestmark = pytest.mark.apiserver
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CONFIRM = {"name": "keys", "confirm": {"instructions": "Rotate the keys."}}
GO = {"name": "go", "approval": {"groups": ["release-managers"]}}


@dataclass
class Desk:
    """A namespace, and the terminals of those who work on it."""

    site: Site
    configs: dict[str, Path]

    def command(self, user: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        python = [sys.executable, "-m", "gatewright.plugin"]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.site.lab.server.directory),
            "KUBECONFIG": str(self.configs[user]),
            "PYTHONPATH": str(CHECKOUT / "operator"),
        }
        return [*python, *arguments, "-n", self.site.name], environment

    def run(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(user, *arguments)
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=CHECKOUT / "tests",
        )

    def ok(self, user: str, *arguments: str) -> str:
        done = self.run(user, *arguments)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def no(self, user: str, *arguments: str, code: int = 1) -> str:
        done = self.run(user, *arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr


@pytest.fixture
def desk(lab: Lab) -> Desk:
    site = lab.namespace()
    site.deployment()
    lab.standin.number(query("errors", site.name), 0.001)
    for user, role in (("ana", rbac.RELEASER_ROLE), ("ben", rbac.APPROVER_ROLE)):
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        body = {"metadata": {"name": user}, "subjects": [subject], "roleRef": reference}
        lab.api.create(f"{RBAC}/namespaces/{site.name}/rolebindings", body)
    users = {"ana": ["release-managers"], "ben": []}
    configs = {user: lab.server.kubeconfig_for(user, groups) for user, groups in users.items()}
    return Desk(site, configs | {"admin": lab.server.kubeconfig})


def state(desk: Desk, *states: str) -> None:
    desk.site.until(lambda status: status.get("state") in states)


def test_people_take_a_release_through(desk: Desk) -> None:
    site = desk.site
    site.apply(
        {
            "version": "2.0.0",
            "targets": [TARGET],
            "preflight": [GO],
            "stages": [
                {"name": "keys", "steps": [CONFIRM]},
                {
                    "name": "ship",
                    "steps": [deploy()],
                    "gates": [gate("errors", query("errors", site.name))],
                    "bake": "60s",
                },
            ],
        }
    )
    state(desk, "WaitingForPerson")
    assert "approval by release-managers" in desk.ok("ben", "status", "shop")
    refused = desk.no("ben", "approve", "shop")
    assert "approve refused: approval check go asks for a member of release-managers" in refused
    assert "approve accepted: approval check go is approved by ana" in desk.ok(
        "ana", "approve", "shop"
    )
    site.until(lambda status: "keys" in (status.get("waitingFor") or {}).get("message", ""))
    assert "ben may not skip release shop" in desk.no("ben", "skip", "shop")
    assert "is answered by Confirm or Reject" in desk.no("ben", "approve", "shop")
    assert "confirm accepted" in desk.ok(
        "ben", "confirm", "shop", "--step", "keys", "--reason", "rotated"
    )
    state(desk, "Baking")
    why = desk.ok("ana", "explain", "shop")
    why = " ".join(why.split())
    for words in (
        "ship errors Passing 0.1% <= 1% 0.9%",
        "restore target/web",
        "ship deploy target/web 1.ship.deploy.1-",
        "Confirm by ben: rotated",
    ):
        assert words in why, why
    assert "promote accepted" in desk.ok("ana", "promote", "shop", "--wait", "--timeout", "30s")
    assert site.image() == "shop/web:2.0.0"
    assert "no run is under way" in desk.no("ana", "abort", "shop")
    assert "# This would undo 2.0.0 (run 1), and return to 1.0.0:" in desk.ok(
        "ana", "rollback", "shop", "--dry-run"
    )
    table = desk.ok("ana", "status").splitlines()
    assert table[0].split()[:3] == ["NAME", "VERSION", "LIVE"]
    assert table[1].split()[:4] == ["shop", "2.0.0", "2.0.0", "2.0.0"]


def test_people_act_on_the_spec_that_they_have_looked_at(desk: Desk) -> None:
    site = desk.site
    smoke = {"name": "ship", "steps": [job("smoke", FAKE_EXIT="1"), deploy()], "onFailure": "Pause"}
    site.apply({"version": "2.0.0", "targets": [TARGET], "preflight": [GO], "stages": [smoke]})
    state(desk, "WaitingForPerson")
    first = site.run()["specHash"]
    assert f"Spec hash:  {first}" in desk.ok("ana", "explain", "shop")
    assert f"is approved by ana (specHash {first})" in desk.ok("ana", "approve", "shop")
    state(desk, "Paused")
    site.change({"stages": [smoke | {"steps": [job("smoke"), deploy()]}]})
    site.until(lambda status: "the spec was edited" in status["message"])
    refused = desk.no("ana", "retry", "shop", "--spec-hash", first)
    assert "the Release was edited since it was looked at: its spec has specHash" in refused
    accepted = desk.ok("ana", "retry", "shop")
    second = site.run()["specHash"]
    assert (
        second != first
        and f"its edit counts now: step smoke of stage ship changed (specHash {second})" in accepted
    )
    state(desk, "WaitingForPerson")
    assert "Edited:     step smoke of stage ship changed" in desk.ok("ana", "status", "shop")
    assert "edited since" in desk.no("ana", "approve", "shop", "--spec-hash", first)
    assert f"is approved by ana (specHash {second})" in desk.ok("ana", "approve", "shop")
    site.ended("Promoted")


def test_exit_codes_tell_scripts_how_it_went(desk: Desk) -> None:
    site = desk.site
    site.apply(simple(site.name, bake="60s"))
    state(desk, "Baking")
    assert desk.no("ana", "status", "shop", "--wait", "--timeout", "1s", code=3) == ""
    assert "not over yet" in desk.no("ana", "pause", "shop", "--wait", "--timeout", "2s", code=3)
    assert desk.no("ana", "resume", "shop", "--run", "9").endswith(
        "it is meant for run 9; the latest is run 1\n"
    )
    desk.ok("ana", "resume", "shop")
    out = desk.ok("ana", "rollback", "shop", "--reason", "customers complain", "--wait")
    assert "RolledBack: Rollback by ana: customers complain" in out
    assert desk.run("ana", "status", "shop", "--wait").returncode == 1
    assert (
        json.loads(desk.ok("ana", "status", "shop", "-o", "json"))["status"]["state"]
        == "RolledBack"
    )
    assert desk.ok("ana", "status", "-o", "name") == "release.gatewright.dev/shop\n"
    retried = desk.run("ana", "retry", "shop", "--wait", "--timeout", "3s")
    assert retried.returncode == 3, retried
    assert "run 2 is not over yet" in retried.stderr
    out = desk.run("ana", "abort", "shop", "--wait")
    assert (out.returncode, "Aborted: aborted by ana" in out.stdout) == (0, True), out


def test_what_is_not_there_and_who_may_not(desk: Desk) -> None:
    assert 'releases.gatewright.dev "nothing" not found' in desk.no("ana", "approve", "nothing")
    assert "No releases found in namespace" in desk.run("ana", "status").stderr
    assert "NotFound" in desk.no("ana", "status", "nothing", "--wait")
    assert "Forbidden" in desk.no("ana", "status", "-A")
    assert "No releases found" in desk.run("admin", "status", "-A").stderr or desk.ok(
        "admin", "status", "-A"
    )


def test_an_administrator_acts_as_somebody_else_only_by_impersonation(desk: Desk) -> None:
    site = desk.site
    site.apply(
        {
            "version": "2.0.0",
            "targets": [TARGET],
            "preflight": [GO],
            "stages": [{"name": "ship", "steps": [deploy()]}],
        }
    )
    state(desk, "WaitingForPerson")
    ben = ("--as", "ben", "--as-group", "release-managers", "--as-group", "system:authenticated")
    dry = yaml.safe_load(desk.ok("admin", "approve", "shop", "--dry-run", *ben))
    assert (dry["spec"]["by"], dry["spec"]["groups"]) == ("ben", ["release-managers"])
    assert site.status()["state"] == "WaitingForPerson", "a dry run does nothing"
    assert "approved by ben" in desk.ok("admin", "approve", "shop", *ben)
    site.ended("Promoted")


def test_nobody_is_there_to_answer(desk: Desk) -> None:
    site = desk.site
    site.apply(simple(site.name, bake="60s"))
    state(desk, "Baking")
    site.lab.operator.stop()
    try:
        assert "is the operator there?" in desk.no(
            "ana", "pause", "shop", "--timeout", "1s", code=3
        )
        assert "created" in desk.ok("ana", "resume", "shop", "--no-wait")
    finally:
        site.lab.operator.start()
    site.lab.wait(
        lambda: (
            [line.partition(" by")[0] for line in site.run().get("people", ())]
            == ["Pause", "Resume"]
        ),
        15,
        "both",
    )
    desk.ok("ana", "abort", "shop")
    site.ended("Aborted")


def test_watching_tells_each_change_once(desk: Desk) -> None:
    site = desk.site
    command, environment = desk.command(
        "ana", "status", "shop", "--watch", "--wait", "--timeout", "60s"
    )
    site.apply(
        {
            "version": "2.0.0",
            "targets": [TARGET],
            "stages": [{"name": "ship", "steps": [CONFIRM, deploy()]}],
        }
    )
    state(desk, "WaitingForPerson")
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT / "tests"
    ) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert "WaitingForPerson" in first
        desk.ok("ana", "confirm", "shop")
        rest = watching.stdout.read().splitlines()
        assert watching.wait(30) == 0
    assert "Promoted" in rest[-1]
    told = [line.partition("   ")[2] for line in (first.strip(), *rest)]
    assert all(before != after for before, after in pairwise(told))


def test_kubectl_finds_it_as_its_plugin(desk: Desk, tmp_path: Path) -> None:
    desk.site.apply(simple(desk.site.name, "1.0.0"))
    state(desk, "Promoted")
    script = tmp_path / "kubectl-release"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewright.plugin "$@"\n')
    script.chmod(0o755)
    _, environment = desk.command("ana")
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    kubectl = str(assets.ensure(["kubectl"])["kubectl"])
    done = subprocess.run(
        [kubectl, "release", "status", "shop", "-n", desk.site.name],
        env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "State:      Promoted" in done.stdout


def test_kubectl_completes_names_of_releases_through_it(desk: Desk, tmp_path: Path) -> None:
    desk.site.apply(simple(desk.site.name, "1.0.0"))
    script = tmp_path / "kubectl_complete-release"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewright.plugin.completing "$@"\n')
    plugin = tmp_path / "kubectl-release"
    plugin.write_text("#!/bin/sh\n")
    for program in (script, plugin):
        program.chmod(0o755)
    _, environment = desk.command("ana")
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    kubectl = str(assets.ensure(["kubectl"])["kubectl"])

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            [kubectl, "__complete", "release", *words],
            env=environment, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
        )  # fmt: skip
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert completed("appr") == ["approve", ":4"]
    assert completed("approve", "-n", desk.site.name, "s") == ["shop", ":4"]
