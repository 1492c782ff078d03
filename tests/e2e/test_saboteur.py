"""The saboteur's short list, on a real cluster; and its oracle, which must see each broken promise
in a told story."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import Cluster
from tests.e2e import main_job
from tests.e2e.foco import install as foco_install
from tests.e2e.saboteur import acts, many, play, story
from tests.e2e.saboteur.draws import ACTS, CHOSEN, HOTFIX, NEW, OLD, PHASES, Draw, draw
from tests.e2e.saboteur.ground import Ground, Request
from tests.e2e.saboteur.oracle import examine
from tests.e2e.saboteur.records import JOB
from tests.e2e.saboteur.site import Report, judge_requests
from tests.e2e.saboteur.story import ENDED, Story, run


@pytest.fixture(scope="module")
def ground(cluster: Cluster) -> Iterator[Ground]:
    # what the main job has left running takes its share of the machine
    foco_install.uninstall(cluster, main_job.NAMESPACE)
    with many.made_ready(cluster) as made:
        yield made
        assert not made.background.failures


@pytest.mark.e2e
def test_whatever_others_do(ground: Ground) -> None:
    """Each act once, each phase at least once; a violation shows its seed and its timeline."""
    reports = many.play(ground, CHOSEN, print)
    bad = [report for report in reports if report.violations]
    assert not bad, "\n".join(str(report) for report in bad)
    assert [str(report) for report in reports if report.missed] == []


def test_the_short_list_has_every_act_and_every_phase() -> None:
    drawn = [draw(seed) for seed in CHOSEN]
    assert sorted(item.act for item in drawn) == sorted(ACTS)
    assert {item.phase for item in drawn} == set(PHASES)


def test_every_act_can_be_done() -> None:
    assert set(acts.ACTIONS) == set(ACTS)
    assert {draw(seed).act for seed in range(300)} == set(ACTS)


# --- the oracle


@pytest.mark.parametrize("told", [story.promoted, story.rolled_back])
def test_nothing_is_found_in_a_good_story(told: Callable[[], Story]) -> None:
    assert examine(told().case()) == []


def _undone(told: Story) -> None:
    told.workload(30, "web", OLD)


def _gone(told: Story) -> None:
    told.workload(30, "store", NEW, gone=True)


def _unset(told: Story) -> None:
    told.config(30, play.FLAGS, play.FLAG)


def _passed_over(told: Story) -> None:
    told.workload(17, "web", HOTFIX)
    told.workload(29, "web", NEW, "web.2")


def _crashing(told: Story) -> None:
    told.pod(20, "web-1", {"app": "web"}, play.image(NEW), containerStatuses=story.crashed())


def _sidecar_lost_on_the_way(told: Story) -> None:
    told.draw = draw_of("sidecar")


def _changed_at_rest(told: Story) -> None:
    told.workload(45, "web", OLD)


def _promoted_after_all(told: Story) -> None:
    told.release(29, NEW, "False", run("RollingBack", rollback=story.BACK), live=OLD, lastGood=OLD)


def _good_too_early(told: Story) -> None:
    told.release(29, NEW, "Unknown", run("Progressing", passed=3), live=OLD, lastGood=NEW)


def _ready_for_another(told: Story) -> None:
    told.release(29, NEW, "True", run("Progressing", passed=3), live=OLD, lastGood=OLD)


def _two_jobs(told: Story) -> None:
    told.job(11.5, "shop-migrate-again", "migrate.1")
    told.pod(11.6, "again", {JOB: "shop-migrate-again"}, phase="Succeeded")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_undone, ["I10", "I13"]),
        (_gone, ["I10", "I13"]),
        (_unset, ["I10"]),
        (_passed_over, ["I10"]),
        (_crashing, ["I10"]),
        (_sidecar_lost_on_the_way, ["I10"]),
        (_changed_at_rest, ["I13"]),
        (_promoted_after_all, ["I3"]),
        (_good_too_early, ["I3"]),
        (_ready_for_another, ["I13"]),
        (_two_jobs, ["I1"]),
    ],
)
def test_a_spoiled_promotion_is_seen(spoil: Callable[[Story], None], found: list[str]) -> None:
    told = story.promoted()
    spoil(told)
    assert sorted({*_kinds(examine(told.case()))}) == found


def test_a_change_in_the_moment_of_the_write_is_nobodys_fault() -> None:
    told = story.promoted()
    told.workload(ENDED - 1.5, "web", OLD)
    told.workload(ENDED + 3, "web", NEW)
    assert examine(told.case()) == []


def _not_back(told: Story) -> None:
    told.workload(38, "web", NEW)


def _hotfix_lost(told: Story) -> None:
    told.workload(11.9, "web", HOTFIX)


def _resources_lost(told: Story) -> None:
    told.draw = draw_of("resources")


def _sidecar_lost(told: Story) -> None:
    told.draw = draw_of("sidecar")


def _memory_changed(told: Story) -> None:
    told.workload(39, "web", OLD, "web.back", resources={"requests": {"memory": "1Gi"}})


def _flag_stays(told: Story) -> None:
    told.config(35, play.FLAGS, play.WANTED)


def _settings_lost(told: Story) -> None:
    told.config(22, play.SETTINGS, play.SETTING, gone=True)


def _old_key_back(told: Story) -> None:
    told.draw = draw_of("rotate-secret")
    told.config(22, play.KEYS, acts.ROTATED)
    told.config(35, play.KEYS, play.KEY)


def _others_flag_lost(told: Story) -> None:
    told.draw = draw_of("flip-flag")


def _compensated_too_early(told: Story) -> None:
    told.job(33.5, "shop-unmigrate-early", "unmigrate.2")


def _compensated_beside_pods(told: Story) -> None:
    told.pod(20, "store-0", {"app": "store"}, play.image(NEW))


def _compensated_beside_the_job(told: Story) -> None:
    told.job(36, "shop-migrate-late", "migrate.2")
    told.pod(36.1, "late", {JOB: "shop-migrate-late"})


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_not_back, ["I13", "I2"]),
        (_hotfix_lost, ["I11", "I2"]),
        (_resources_lost, ["I2"]),
        (_sidecar_lost, ["I2"]),
        (_memory_changed, ["I2"]),
        (_flag_stays, ["I2"]),
        (_settings_lost, ["I2"]),
        (_old_key_back, ["I2"]),
        (_others_flag_lost, ["I2"]),
        (_compensated_too_early, ["I11"]),
        (_compensated_beside_pods, ["I11"]),
        (_compensated_beside_the_job, ["I11"]),
    ],
)
def test_a_spoiled_rollback_is_seen(spoil: Callable[[Story], None], found: list[str]) -> None:
    told = story.rolled_back()
    spoil(told)
    assert sorted({*_kinds(examine(told.case()))}) == found


def test_a_failed_rollback_needs_its_reason_and_a_person() -> None:
    told = story.rolled_back(outcome="RollbackFailed")
    assert examine(told.case()) == []
    told.release(
        ENDED - 0.1,
        NEW,
        "False",
        run("Done", "RollbackFailed", rollback=story.BACK),
        live=OLD,
        lastGood=OLD,
    )
    assert _kinds(examine(told.case())) == ["I2", "I2"]


def test_what_is_written_at_rest_and_storms_are_seen() -> None:
    report = Report(draw(1), "here", quiet=(100.0, 120.0))
    judge_requests(
        report, [Request("patch", "releases/status/shop", 200, at) for at in (99.0, 121.0)]
    )
    judge_requests(
        report, [Request("get", "deployments/web", 200, 100.0 + number) for number in range(20)]
    )
    assert report.violations == []
    judge_requests(report, [])
    assert "no request of the operator" in report.violations.pop()
    judge_requests(report, [Request("patch", "releases/status/shop", 409, 105.0)])
    judge_requests(
        report,
        [Request("get", "deployments/web", 404, 50.0 + number / 100) for number in range(300)],
    )
    assert [item[:12] for item in report.violations] == ["I6: written ", "I6: 150 requ"]


def draw_of(act: str) -> Draw:
    """Some draw of an act that is done to `web`."""
    return next(
        item for item in map(draw, range(1000)) if (item.act, item.workload) == (act, "web")
    )


def _kinds(violations: list[str]) -> list[str]:
    return [item.partition(":")[0] for item in violations]
