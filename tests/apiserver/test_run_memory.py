"""The specs of runs have a bound: what is beyond it waits, says so, and begins when there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.walking import intervene
from tests.harness.lab import Lab, Site, require

pytestmark = pytest.mark.apiserver
LARGE = {"command": ["true"], "image": "shop/tools:1", "args": ["x" * 1000] * 10}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(arguments=["--specs-of-runs", "64"]) as started:
        started.operator.start()
        yield started
        assert not started.background.failures


def asking(steps: int) -> dict[str, Any]:
    """A Release that waits for a person, and has so many steps of ten kilobytes."""
    sure = {"name": "sure", "confirm": {"instructions": "Look at it."}}
    jobs = [{"name": f"s{number}", "job": LARGE} for number in range(steps)]
    stages = [{"name": "ask", "steps": [sure]}, {"name": "ship", "steps": jobs}]
    return {"version": "2.0.0", "stages": stages}


def waits_for_person(site: Site, name: str) -> None:
    site.until(lambda status: status.get("state") == "WaitingForPerson", name=name)


def test_what_is_beyond_the_room_waits_and_begins_when_others_end(lab: Lab) -> None:
    site, other = lab.namespace(), lab.namespace()
    site.apply(asking(3), "first")
    waits_for_person(site, "first")

    # One alone has half of the room: a second one of that size would hold more than is free.
    site.apply(asking(3), "second")
    site.until(lambda status: _reason(status) == "NoRoom", name="second")
    status = site.status("second")
    assert f"the runs of namespace {site.name} hold" in status["message"]
    assert "--specs-of-runs" in status["waitingFor"]["message"] and "run" not in status

    # Another namespace has its own share, and the smaller one beside the first its place.
    other.apply(asking(2), "shop")
    waits_for_person(other, "shop")

    # What has begun goes back whenever somebody wants that; a restart changes nothing.
    lab.operator.stop()
    lab.operator.start()
    site.until(lambda status: _reason(status) == "NoRoom", name="second")
    intervene(site, "Abort", release="first")
    site.ended("Aborted", name="first")
    waits_for_person(site, "second")


def _reason(status: Any) -> str:
    ready = (one for one in status.get("conditions", ()) if one["type"] == "Ready")
    return next((str(one["reason"]) for one in ready), "")
