"""Replicas that hand over, and one that stood still; and that the harness would notice what it is
to notice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.apiserver.killing import PATIENT, ROLLBACK, SUCCESS, Scenario, run
from tests.apiserver.walking import stage_is
from tests.harness import scenarios
from tests.harness.lab import Lab, Site, require
from tests.harness.operator import Operator
from tests.harness.proxy import Call, Fault

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(quick_jobs=True) as started:
        started.operator.start()
        yield started
        assert not started.background.failures


@contextlib.contextmanager
def baking(lab: Lab, bake: str) -> Iterator[tuple[Site, Operator]]:
    """A run that bakes, and another replica that waits for the Lease."""
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    PATIENT.prepare(site)
    with lab.second() as (_, other):
        other.start()
        site.apply(scenarios.simple(site.name, bake=bake))
        site.until(stage_is(0, "Baking"), 20)
        yield site, other


def test_a_replica_that_stood_still_past_its_lease_writes_nothing_more(lab: Lab) -> None:
    with baking(lab, "4s") as (site, other):
        lab.operator.freeze()
        frozen = time.monotonic()
        site.ended("Promoted", 60)
        taken = time.monotonic() - frozen
        lab.operator.thaw()
        site.change({"version": "2.1.0"})
        site.ended("Promoted", 60, run=2)
        time.sleep(2)
        report = site.clean()
        assert "I7" in report.checked
        assert taken > 10, "the other replica acted before the lease had run out"
        writers = {
            one.instance for one in site.writes() if one.user == "gatewright-operator" and one.done
        }
        assert len(writers) == 2, writers
        assert lab.operator.probe("/healthz") != 200, (
            "a replica that lost its Lease must be restarted"
        )
        assert other.stop() == 0
    lab.operator.kill()
    lab.operator.reap()


def test_a_graceful_stop_hands_over_at_once(lab: Lab) -> None:
    with baking(lab, "1s") as (site, other):
        assert lab.operator.stop() == 0
        stopped = time.monotonic()
        site.ended("Promoted", 30)
        assert time.monotonic() - stopped < 10
        site.clean()
        other.kill()
        other.reap()


def _job(call: Call) -> bool:
    return call.makes_job


@pytest.mark.parametrize(
    ("bug", "scenario", "fault", "invariant"),
    [
        ("effect-before-intent", SUCCESS, None, "I1"),
        ("effect-before-intent", SUCCESS, Fault(_job, "kill", "committed"), "I1"),
        ("job-by-chance", SUCCESS, Fault(_job, "kill", "committed"), "I1"),
        ("empty-is-good", SUCCESS, None, "I4"),
        ("rollback-forgets-flags", ROLLBACK, None, "I2"),
        ("no-bake", PATIENT, None, "I3"),
    ],
    ids=["effect-before-intent", "effect-before-intent, killed", "job-by-chance", "empty-is-good",
         "rollback-forgets-flags", "no-bake"],
)  # fmt: skip
def test_a_planted_bug_is_caught(
    lab: Lab, bug: str, scenario: Scenario, fault: Fault | None, invariant: str
) -> None:
    lab.operator.kill()
    lab.operator.reap()
    lab.operator.planted = bug
    lab.standin.silent = bug == "empty-is-good"
    try:
        result = run(lab, scenario, fault)
        assert any(problem.startswith(f"{invariant}: ") for problem in result.problems), (
            result.problems
        )
    finally:
        lab.operator.planted, lab.standin.silent = None, False
        lab.operator.kill()
        lab.operator.reap()
