"""The whole runbook, on a real cluster and against stand-ins of all its systems: once to Promoted,
and once rolled back from each of the five stages by what goes wrong there.

The operator runs from its own image as `kubectl apply -k manifests/` installs it, the runbook's
Jobs are pods, and the stand-ins are in this process. The runs are under way at the same time, each
in a namespace and a world of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e import installing, main_job
from tests.e2e.foco import install as foco_install
from tests.e2e.runbook import ground as grounds
from tests.e2e.runbook import sample
from tests.e2e.runbook import scene as scenes
from tests.e2e.runbook.database import COLUMNS, PROTECTED, postgres
from tests.e2e.runbook.ground import Ground
from tests.e2e.runbook.scene import Scene
from tests.e2e.runbook.seeds import SEEDS
from tests.e2e.runbook.standins import FLAGS, NEW, OLD, PREFIX, standins
from tests.fakes.slack import emulated
from tests.harness.api import Api
from tests.harness.lab import everything
from tests.harness.loop import Background

pytestmark = pytest.mark.e2e
SECONDS = 900.0
LIFE = ("investigating", "identified", "monitoring", "resolved")
"""Of an incident on the status page."""
STAGES = [stage["name"] for stage in sample.release()["spec"]["stages"]]


def nothing_happens(scene: Scene) -> None:
    """All is well."""


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
    """Nobody is served any more once the bug fixes are live and tested: a test that runs meanwhile
    would fail, too."""
    stages = scene.place.status["run"].get("stages") or [{}] * len(STAGES)
    tested = [step["state"] for step in stages[2].get("steps", ())] == ["Succeeded"] * 3
    site = scene.foco.site
    site.down = site.version() != OLD and (
        site.down or (tested and site.version().endswith("-fixes"))
    )


WORLDS: dict[str, tuple[Callable[[Scene], None], dict[str, Any]]] = {
    "promoted": (nothing_happens, {}),
    "one": (nothing_happens, {"migration": "lossy"}),
    "two": (nothing_happens, {"revokes": False}),
    "three": (errors_rise, {}),
    "four": (pages_are_slow, {}),
    "five": (everybody_gets_the_beta, {}),
    "outage": (the_site_is_down, {}),
    "rejected": (nothing_happens, {"rejects": "rotate-keys"}),
}


@pytest.fixture(scope="module")
def ground(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    # what the main job has left running takes its share of the machine
    foco_install.uninstall(cluster, main_job.NAMESPACE)
    installing.image(cluster)
    grounds.images(cluster)
    installing.by_kustomize(cluster, ["--log-level=DEBUG"])
    with Background() as background:
        made = Ground(cluster, background, tmp_path_factory.mktemp("operator"))
        try:
            made.clear()
            made.listen()
            with made.killed_now_and_then() if everything() else contextlib.nullcontext():
                yield made
            assert not background.failures
            assert "Traceback" not in made.log()
            made.clear(wait=False)
        finally:
            made.close()


@pytest.fixture(scope="module")
def played(ground: Ground, request: pytest.FixtureRequest) -> Iterator[dict[str, Scene]]:
    """The scenes that the chosen tests look at, all under way."""
    chosen = " ".join(item.name for item in request.session.items)
    address = ground.cluster.machine_address
    with contextlib.ExitStack() as stack:
        ana = Api(
            ground.background,
            ground.cluster.kubeconfig_for(scenes.ANA, [scenes.MANAGERS, scenes.ON_CALL]),
            scenes.ANA,
        )
        stack.callback(ana.close)
        server, workspace = stack.enter_context(postgres(address)), stack.enter_context(emulated())
        found: dict[str, Scene] = {}
        for name in (name for name in WORLDS if f"_{name}" in chosen):
            foco = stack.enter_context(
                standins(ground.background, address, server, workspace, name)
            )
            world, more = WORLDS[name]
            found[name] = Scene(ground.place(name), foco, ana, world=world, **more)
        for scene in found.values():
            scene.play(SECONDS)
        yield found
        for name, scene in found.items():
            scene.stop()
            print(f"{name}: {scene.took:.0f}s")


def rolled_back(scene: Scene, stage: str, gate: str) -> None:
    """What is true after every rollback: 2.3.1 is served and verified, 2.4.0 is rejected, and
    everybody was told so."""
    status = scene.wait("RolledBack", 3 * SECONDS)
    index = STAGES.index(stage)
    told = scene.stages()
    assert [told[name] for name in STAGES[index + 1 :]] == ["Pending"] * (4 - index)
    rejected = status["rejected"][0]
    assert (rejected["version"], rejected.get("gate")) == (NEW, gate), rejected
    assert (
        status["live"]["version"]
        == status["lastGood"]["version"]
        == scene.foco.site.version()
        == OLD
    )
    verified = {item["name"]: item["state"] for item in status["run"]["rollback"]["verify"]}
    assert verified == {"health": "Passing", "smoke": "Passing", "error-rate": "Passing"}
    assert [
        item["state"] for item in status["run"]["rollback"]["undo"] if item["state"] != "Succeeded"
    ] == []
    ready = scene.place.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert scene.slack("deployments")[-2:] == ["RollingBack", "RolledBack"]
    assert scene.slack("incidents")[:2] == ["StageFailed", "RollingBack"]
    assert scene.foco.pagerduty.open() == [], "nobody is paged for a rollback that works"
    assert scene.foco.statuspage.of("completed") and not scene.foco.statuspage.of("in_progress")
    assert scene.secrets_told == []


def built_again_with_new_keys(scene: Scene, *between: str) -> None:
    """2.3.1 is served by another deployment than before: the old one would have brought the old
    keys back."""
    assert (
        scene.live.id != scene.before
        and scene.live.git is not None
        and scene.live.git["ref"] == f"v{OLD}"
    )
    assert scene.live.baked["OPENAI_API_KEY"] == SEEDS["openai-new"]
    assert scene.live.baked["SUPABASE_SERVICE_ROLE_KEY"] == SEEDS["role-new"]
    assert not any(flag in scene.live.baked for flag in FLAGS)
    assert scene.foco.supabase.restores == [] and not scene.ran("rollback"), (
        "the data is left alone"
    )
    [record] = scene.foco.github.deployments
    assert [item["state"] for item in scene.foco.github.states[record["id"]]] == [
        "in_progress",
        *between,
        "failure",
    ]


def versions(scene: Scene) -> Sequence[str]:
    """What was deployed, in order, by its Git ref."""
    made = sorted(scene.foco.vercel.deployments.values(), key=lambda item: item.created)
    return [str((item.git or {}).get("ref")) for item in made]


def test_promoted(played: dict[str, Scene]) -> None:
    scene = played["promoted"]
    status = scene.wait("Promoted", 3 * SECONDS)
    assert list(scene.stages().values()) == ["Passed"] * 5
    assert (
        status["live"]["version"]
        == status["lastGood"]["version"]
        == scene.foco.site.version()
        == NEW
    )
    assert scene.place.condition("Ready")["status"] == "True"
    assert len(json.dumps(status)) < 100 * 1024
    foco, live = scene.foco, scene.live
    assert versions(scene) == [
        f"v{OLD}",
        f"v{NEW}-security",
        f"v{NEW}-security",
        f"v{NEW}-fixes",
        f"v{NEW}-performance",
        f"v{NEW}",
        f"v{NEW}",
    ]
    assert [live.baked[flag] for flag in FLAGS] == ["true", "true"]
    assert live.baked["OPENAI_API_KEY"] == SEEDS["openai-new"]
    assert foco.supabase.restores == [] and list(foco.supabase.points.values()) == ["AVAILABLE"]
    assert (
        foco.database.ask(COLUMNS) == "id workspace title priority"
        and foco.database.ask(PROTECTED) is True
    )
    assert sorted(foco.sentry.deploys) == [
        f"foco@{NEW}{word}" for word in ("", "-fixes", "-performance", "-security")
    ]
    assert all(len(deploys) == 1 for deploys in foco.sentry.deploys.values())
    [record] = foco.github.deployments
    assert [item["state"] for item in foco.github.states[record["id"]]] == [
        "in_progress",
        "success",
    ]
    assert (
        foco.redis.do("KEYS", f"{PREFIX}*") == []
        and foco.redis.do("GET", "foco:session:1") == b"kept"
    )
    runs = {
        word: scene.ran(word)
        for word in ("backup", "migrate", "verify", "db lint", "rollback", "npm audit")
    }
    assert runs == {
        "backup": 1,
        "migrate": 1,
        "verify": 1,
        "db lint": 1,
        "rollback": 0,
        "npm audit": 1,
    }
    assert scene.acted == [
        (name, "Accepted")
        for name in (
            "go-approval",
            "database-migration-review-migrations-confirm",
            "security-fixes-rotate-keys-confirm",
            "performance-flush-approved-approval",
            "beta-features-beta-users-confirm",
            "beta-features-feedback-confirm",
        )
    ]
    assert scene.slack("deployments")[0] == "Started" and scene.slack("deployments")[-2:] == [
        "Completed",
        "Promoted",
    ]
    assert scene.slack("deployments").count("StagePassed") == 5 and scene.slack("incidents") == []
    # change events have no key at PagerDuty: who is killed between telling one and noting it tells
    # it again
    assert foco.pagerduty.alerts == [] and (len(foco.pagerduty.changes) == 2 or everything())
    assert len(foco.statuspage.of("completed")) == 1 and not foco.statuspage.of("in_progress")
    assert scene.secrets_told == []


def test_slow_pages_the_cache_is_cleared_when_nothing_is_being_released(
    played: dict[str, Scene],
) -> None:
    """P2: by prefix, and once somebody on call has approved."""
    scene = played["promoted"]
    scene.wait("Promoted", 3 * SECONDS)
    redis = scene.foco.redis
    redis.do("SET", "foco:cache:page", "wrong")
    redis.do("SET", "foco:session:ana", "kept")
    row = scene.run_procedure("clear-cache", [scenes.ON_CALL], SECONDS)
    assert (row["state"], row["by"]) == ("Succeeded", "ana"), row
    assert redis.do("EXISTS", "foco:cache:page") == 0
    assert redis.do("EXISTS", "foco:session:ana") == 1
    status = scene.place.status
    assert status["live"]["version"] == NEW and status["runs"] == 1, "no run"


def test_broken_data_the_database_is_restored_when_nothing_is_being_released(
    played: dict[str, Scene],
) -> None:
    """P0: whoever runs it has read what will be lost, and a release manager has approved."""
    scene = played["promoted"]
    scene.wait("Promoted", 3 * SECONDS)
    [backup] = scene.foco.backups.kept
    steps = [step for stage in scene.ended["run"]["stages"] for step in stage["steps"]]
    made = next(step["outputs"]["createdAt"] for step in steps if step["name"] == "backup")
    row = scene.run_procedure(
        "restore-database",
        [scenes.MANAGERS],
        SECONDS,
        confirmed=f"Everything that was written since {made} is lost.",
    )
    assert row["state"] == "Succeeded", row
    assert scene.place.runs("rollback")[-1].command[-1] == backup
    assert scene.foco.database.ask(COLUMNS) == "id workspace title", "as before the migration"


def test_promoted_and_taken_back_when_nothing_is_being_released(played: dict[str, Scene]) -> None:
    """P0: production is down after a good release. The data stays, and no old key comes back."""
    scene = played["promoted"]
    scene.wait("Promoted", 3 * SECONDS)
    jobs = {word: scene.ran(word) for word in ("backup", "migrate", "rollback", "npm audit")}

    status = scene.take_back("P0: nobody can log in", SECONDS)
    run = status["run"]
    assert run["outcome"] == "RolledBack", run.get("reason")
    assert (run["undoes"], run["rollback"]["reason"]) == (
        [1],
        "Rollback by ana: P0: nobody can log in",
    )
    assert scene.foco.site.version() == status["live"]["version"] == OLD
    assert status["rejected"][0]["version"] == NEW
    assert {item["state"] for item in run["rollback"]["verify"]} == {"Passing"}
    # Keys were rotated in the run: the old deployment would have brought the old ones back.
    assert scene.live.baked["OPENAI_API_KEY"] == SEEDS["openai-new"]
    assert not any(flag in scene.live.baked for flag in FLAGS)
    assert scene.foco.supabase.restores == []
    assert jobs == {word: scene.ran(word) for word in jobs}, "no stage and no compensation"
    assert scene.secrets_told == []


def test_stage_one_policies_are_lost(played: dict[str, Scene]) -> None:
    """Nothing was deployed: Vercel was not asked to change anything, and the database is as it was
    before."""
    scene = played["one"]
    rolled_back(scene, "database-migration", "rls-active")
    assert scene.live.id == scene.before and scene.foco.vercel.posts() == scene.queries
    [point] = scene.foco.supabase.points
    assert scene.foco.supabase.restores == [{"name": point}]
    [ran], [backup] = scene.place.runs("rollback"), scene.foco.backups.kept
    assert ran.command == ("./scripts/database-migration-orchestrator.sh", "rollback", backup)
    # what the stand-in of Supabase says it has restored it has not: the script has
    assert scene.foco.database.ask(PROTECTED) is True
    assert scene.foco.database.ask(COLUMNS) == "id workspace title"
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
    """A guard of P0 rolls back while a stage bakes; who is not served reads about it.

    Nobody being served breaches both, and in shortened times both are breached for as long.
    """
    scene = played["outage"]
    status = scene.wait("RolledBack", 3 * SECONDS)
    assert status["rejected"][0]["gate"] in {"health", "uptime"}
    assert status["run"]["rollback"]["cause"] == "Guard"
    assert scene.foco.site.version() == OLD
    built_again_with_new_keys(scene)
    [incident] = [
        item for item in scene.foco.statuspage.incidents.values() if not item["scheduled_for"]
    ]
    told = [update["status"] for update in incident["updates"]]
    # whoever is told late is told of the rollback at once
    assert (
        told == [status for status in LIFE if status in told]
        and told[-1] == "resolved"
        and len(told) > 1
    )
    assert scene.foco.statuspage.told
    assert "Restored" in scene.slack("incidents")
    assert [
        alert["open"] for alert in scene.foco.pagerduty.alerts if "Downtime" in alert["dedup_key"]
    ] == [False]
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
