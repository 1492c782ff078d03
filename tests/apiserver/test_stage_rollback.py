"""One stage that is undone alone, on a real API server."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from tests.apiserver.killing import STAGE, follow_beta, killed_at_every_write
from tests.harness.lab import Lab, Site

pytestmark = pytest.mark.apiserver


def test_the_beta_is_undone_alone_and_the_rest_is_promoted(site: Site) -> None:
    follow_beta(site)
    site.apply(STAGE.spec(site.name))
    status = site.ended("Promoted", 60)
    assert [(stage["name"], stage["state"]) for stage in status["run"]["stages"]] == [
        ("base", "Passed"),
        ("beta", "RolledBack"),
        ("final", "Passed"),
    ]
    assert site.data("web-flags") == {"VOICE": "off", "KEPT": "yes"}
    assert site.image() == "shop/web:2.0.0" and status["live"]["version"] == "2.0.0"
    assert status["history"][0]["rolledBack"] == ["beta"] and "rejected" not in status
    assert "without stage beta" in status["lastGood"]["caveat"]

    ran = [one.command[0] for one in site.lab.world.runs(site.name)]
    assert ran == ["announce", "tidy", "smoke"]
    written = [
        _image(one.response)
        for one in site.writes()
        if one.resource == "deployments" and one.user == "gatewright-operator" and one.done
    ]
    images = [image for image, _ in groupby(written)]
    assert images == [f"shop/web:2.0.0{build}" for build in ("-rc1", "-rc2", "-rc1", "")]
    site.clean()


def _image(deployment: Any) -> Any:
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def test_killed_at_any_write_the_stage_is_undone_once(lanes: list[Lab], capsys: Any) -> None:
    killed_at_every_write(lanes, STAGE, capsys)
