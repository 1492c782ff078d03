"""The whole runbook, on a real API server and against stand-ins of all its systems: once to Promoted, and once rolled back
from each of the five stages by what goes wrong there.

The runs are under way at the same time, each in a namespace and a world of its own, with one operator for all.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.e2e.runbook import sample
from tests.e2e.runbook import scene as scenes
from tests.e2e.runbook.scene import Scene
from tests.e2e.runbook.standins import FLAGS, NEW, OLD, PREFIX, SEEDS, postgres, standins
from tests.fakes.slack import emulated
from tests.harness.api import Api
from tests.harness.lab import Lab, everything, require

pytestmark = [pytest.mark.apiserver, pytest.mark.runbook]
SECONDS = 540.0
AT_ONCE = 4
STAGES = [stage["name"] for stage in sample.release()["spec"]["stages"]]


def nothing_happens(scene: Scene) -> None:
    """All is well."""


def policies_are_lost(scene: Scene) -> None:
    """The migration switches row level security off; the restore point has it on."""
    scene.foco.database.protect(not scene.ran("migrate") or bool(scene.foco.supabase.restores))


def errors_rise(scene: Scene) -> None:
    """Three of a hundred requests fail while the bug fixes are live."""
    scene.foco.sentry.failures = 3 if scene.foco.site.version().endswith("-fixes") else 0


def pages_are_slow(scene: Scene) -> None:
    """Pages load slowly while the optimizations are live."""
    scene.foco.slow_pages(scene.foco.site.version().endswith("-performance"))


def everybody_gets_the_beta(scene: Scene) -> None:
    """The flag is given to whoever asks, once it is on."""
    scene.foco.beta.flags["crico"]["*"] = scene.live.baked.get(FLAGS[1]) == "true"


def the_site_is_down(scene: Scene) -> None:
    """Nobody is served while the bug fixes are live."""
    scene.foco.site.down = scene.foco.site.version().endswith("-fixes")


WORLDS: dict[str, tuple[Callable[[Scene], None], dict[str, Any]]] = {
    "promoted": (nothing_happens, {}),
    "one": (policies_are_lost, {}),
    "two": (nothing_happens, {"revokes": False}),
    "three": (errors_rise, {}),
    "four": (pages_are_slow, {}),
    "five": (everybody_gets_the_beta, {}),
    "outage": (the_site_is_down, {}),
    "rejected": (nothing_happens, {"rejects": "rotate-keys"}),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(seeds=list(SEEDS.values()), arguments=["--log-level", "DEBUG"], quick_jobs=True) as started:
        started.operator.start()
        with killed_now_and_then(started) if everything() else contextlib.nullcontext():
            yield started
        assert not started.background.failures
        assert "Traceback" not in started.operator.log.read_text()


@contextlib.contextmanager
def killed_now_and_then(lab: Lab) -> Iterator[None]:
    """Kill the operator and start it again, wherever it stands (GATEWRIGHT_CRASH=all)."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(random.uniform(8.0, 20.0)):
            lab.operator.kill()
            lab.operator.reap()
            lab.operator.start()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.fixture(scope="module")
def played(lab: Lab, request: pytest.FixtureRequest) -> Iterator[dict[str, Scene]]:
    """The scenes that the chosen tests look at, all under way."""
    chosen = " ".join(item.name for item in request.session.items)
    with contextlib.ExitStack() as stack:
        ana = Api(lab.background, lab.server.kubeconfig_for(scenes.ANA, [scenes.MANAGERS]), scenes.ANA)
        stack.callback(ana.close)
        server, workspace = stack.enter_context(postgres()), stack.enter_context(emulated())
        found: dict[str, Scene] = {}
        # seconds stand for minutes here, so that one Release asks as often as thirty do otherwise; and all that they ask
        # are stand-ins in this very process
        turns = threading.Semaphore(AT_ONCE)
        for name in (name for name in WORLDS if f"_{name}" in chosen):
            foco = stack.enter_context(standins(lab.background, server, workspace, name))
            world, more = WORLDS[name]
            found[name] = Scene(lab.namespace(name), foco, ana, world=world, turns=turns, **more)
        for scene in found.values():
            scene.play(SECONDS)
        yield found
        for scene in found.values():
            scene.stop()


def rolled_back(scene: Scene, stage: str, gate: str) -> None:
    """What is true after every rollback: 2.3.1 is served and verified, 2.4.0 is rejected, and everybody was told so."""
    status = scene.wait("RolledBack", 3 * SECONDS)
    index = STAGES.index(stage)
    told = scene.stages()
    assert [told[name] for name in STAGES[index + 1 :]] == ["Pending"] * (4 - index)
    rejected = status["rejected"][0]
    assert (rejected["version"], rejected.get("gate")) == (NEW, gate), rejected
    assert status["live"]["version"] == status["lastGood"]["version"] == scene.foco.site.version() == OLD
    verified = {item["name"]: item["state"] for item in status["run"]["rollback"]["verify"]}
    assert verified == {"health": "Passing", "smoke": "Passing", "error-rate": "Passing"}
    assert [item["state"] for item in status["run"]["rollback"]["undo"] if item["state"] != "Succeeded"] == []
    ready = scene.site.condition("Ready", "foco")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert scene.slack("deployments")[-2:] == ["RollingBack", "RolledBack"]
    assert scene.slack("incidents")[:2] == ["StageFailed", "RollingBack"]
    assert scene.foco.pagerduty.open() == [], "nobody is paged for a rollback that works"
    assert scene.foco.statuspage.of("completed") and not scene.foco.statuspage.of("in_progress")
    assert scene.secrets_told == []


def built_again_with_new_keys(scene: Scene, *between: str) -> None:
    """2.3.1 is served by another deployment than before: the old one would have brought the old keys back."""
    assert scene.live.id != scene.before and scene.live.git is not None and scene.live.git["ref"] == f"v{OLD}"
    assert scene.live.baked["OPENAI_API_KEY"] == SEEDS["openai-new"]
    assert scene.live.baked["SUPABASE_SERVICE_ROLE_KEY"] == SEEDS["role-new"]
    assert not any(flag in scene.live.baked for flag in FLAGS)
    assert scene.foco.supabase.restores == [] and not scene.ran("rollback"), "the data is left alone"
    [record] = scene.foco.github.deployments
    assert [item["state"] for item in scene.foco.github.states[record["id"]]] == ["in_progress", *between, "failure"]


def versions(scene: Scene) -> Sequence[str]:
    """What was deployed, in order, by its Git ref."""
    made = sorted(scene.foco.vercel.deployments.values(), key=lambda item: item.created)
    return [str((item.git or {}).get("ref")) for item in made]


def test_promoted(played: dict[str, Scene]) -> None:
    scene = played["promoted"]
    status = scene.wait("Promoted", 3 * SECONDS)
    assert list(scene.stages().values()) == ["Passed"] * 5
    assert status["live"]["version"] == status["lastGood"]["version"] == scene.foco.site.version() == NEW
    assert scene.site.condition("Ready", "foco")["status"] == "True"
    assert len(json.dumps(status)) < 100 * 1024
    foco, live = scene.foco, scene.live
    assert versions(scene) == [
        f"v{OLD}", f"v{NEW}-security", f"v{NEW}-security", f"v{NEW}-fixes", f"v{NEW}-performance", f"v{NEW}", f"v{NEW}"
    ]  # fmt: skip
    assert [live.baked[flag] for flag in FLAGS] == ["true", "true"]
    assert live.baked["OPENAI_API_KEY"] == SEEDS["openai-new"]
    assert foco.supabase.restores == [] and list(foco.supabase.points.values()) == ["AVAILABLE"]
    assert sorted(foco.sentry.deploys) == [f"foco@{NEW}{word}" for word in ("", "-fixes", "-performance", "-security")]
    assert all(len(deploys) == 1 for deploys in foco.sentry.deploys.values())
    [record] = foco.github.deployments
    assert [item["state"] for item in foco.github.states[record["id"]]] == ["in_progress", "success"]
    assert foco.redis.do("KEYS", f"{PREFIX}*") == [] and foco.redis.do("GET", "foco:session:1") == b"kept"
    runs = {word: scene.ran(word) for word in ("backup", "migrate", "verify", "db lint", "rollback", "npm audit")}
    assert runs == {"backup": 1, "migrate": 1, "verify": 1, "db lint": 1, "rollback": 0, "npm audit": 1}
    assert scene.acted == [
        (name, "Accepted")
        for name in (
            "go-approval", "database-migration-review-migrations-confirm", "security-fixes-rotate-keys-confirm",
            "performance-flush-approved-approval", "beta-features-beta-users-confirm", "beta-features-feedback-confirm",
        )
    ]  # fmt: skip
    assert scene.slack("deployments")[0] == "Started" and scene.slack("deployments")[-2:] == ["Completed", "Promoted"]
    assert scene.slack("deployments").count("StagePassed") == 5 and scene.slack("incidents") == []
    # change events have no key at PagerDuty: who is killed between telling one and noting it tells it again
    assert foco.pagerduty.alerts == [] and (len(foco.pagerduty.changes) == 2 or everything())
    assert len(foco.statuspage.of("completed")) == 1 and not foco.statuspage.of("in_progress")
    assert scene.secrets_told == []


def test_stage_one_policies_are_lost(played: dict[str, Scene]) -> None:
    """Nothing was deployed: Vercel was not asked to change anything, and the database is at its restore point again."""
    scene = played["one"]
    rolled_back(scene, "database-migration", "rls-active")
    assert scene.live.id == scene.before and scene.foco.vercel.posts() == scene.queries
    [point] = scene.foco.supabase.points
    assert scene.foco.supabase.restores == [{"name": point}]
    [ran] = scene.site.lab.world.runs(scene.site.name, "rollback")
    assert ran.command == ("./scripts/database-migration-orchestrator.sh", "rollback", sample.BACKUP)
    assert scene.foco.github.deployments == [] and scene.foco.sentry.deploys == {}


def test_stage_two_the_old_key_still_works(played: dict[str, Scene]) -> None:
    scene = played["two"]
    rolled_back(scene, "security-fixes", "old-openai-key-revoked")
    built_again_with_new_keys(scene)


def test_stage_three_errors_rise(played: dict[str, Scene]) -> None:
    scene = played["three"]
    rolled_back(scene, "bug-fixes", "error-rate")
    built_again_with_new_keys(scene)


def test_stage_four_pages_are_slow(played: dict[str, Scene]) -> None:
    scene = played["four"]
    rolled_back(scene, "performance", "page-load")
    built_again_with_new_keys(scene)
    assert "GuardFailed" in scene.slack("monitoring"), "who watches is told before anybody decides"


def test_stage_five_everybody_gets_the_beta(played: dict[str, Scene]) -> None:
    """The flags are gone from Vercel as they were before, and from what is served."""
    scene = played["five"]
    rolled_back(scene, "beta-features", "crico-for-beta-users")
    built_again_with_new_keys(scene, "success")
    assert not {item["key"] for item in scene.foco.vercel.env.values()} & set(FLAGS)


def test_outage_the_guard_decides_and_customers_are_told(played: dict[str, Scene]) -> None:
    """Three failures of the health check roll back in the middle of a stage; who is not served reads about it."""
    scene = played["outage"]
    status = scene.wait("RolledBack", 3 * SECONDS)
    assert status["rejected"][0]["gate"] == "health" and status["run"]["rollback"]["cause"] == "Guard"
    assert scene.foco.site.version() == OLD
    built_again_with_new_keys(scene)
    [incident] = [item for item in scene.foco.statuspage.incidents.values() if not item["scheduled_for"]]
    told = [update["status"] for update in incident["updates"]]
    # a rollback that began before the five minutes were over is not told of: nothing is open yet that could be updated
    assert (told[0], told[-1]) == ("investigating", "resolved") and set(told[1:-1]) <= {"identified"}
    assert "We are investigating" in scene.foco.statuspage.told[0]
    assert "Restored" in scene.slack("incidents")
    assert [alert["open"] for alert in scene.foco.pagerduty.alerts if "Downtime" in alert["dedup_key"]] == [False]
    assert scene.secrets_told == []


def test_rejected_before_any_key_was_rotated(played: dict[str, Scene]) -> None:
    """The recorded deployment itself is served again, in seconds and without a build."""
    scene = played["rejected"]
    status = scene.wait("RolledBack", 3 * SECONDS)
    assert "ana" in status["rejected"][0]["reason"]
    assert scene.live.id == scene.before and versions(scene) == [f"v{OLD}", f"v{NEW}-security"]
    assert scene.foco.vercel.project["lastAliasRequest"]["type"] == "rollback"
    assert [(action, result) for action, result in scene.acted][-1] == (
        "security-fixes-rotate-keys-confirm",
        "Accepted",
    )
    assert scene.live.baked["OPENAI_API_KEY"] == SEEDS["openai-old"]
    assert scene.secrets_told == []
