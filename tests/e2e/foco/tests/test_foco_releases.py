"""The Releases: one runbook for all versions, and what makes 2.5.0 another is told in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gatewright.providers.validate import connection_problems
from gatewright.runtime.parse import spec_of

FOCO = Path(__file__).parents[1]
STAGES = ["database-migration", "security-fixes", "bug-fixes", "performance", "beta-features"]


def release(version: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOCO / f"releases/release-{version}.yaml").read_text())
    assert found["metadata"] == {"name": "foco", "namespace": "production"}
    assert found["spec"].pop("version") == version
    return found["spec"]


def test_the_language_accepts_them() -> None:
    for file in sorted((FOCO / "releases").glob("release-*.yaml")):
        _, problems = spec_of(yaml.safe_load(file.read_text())["spec"])
        assert problems == (), file.name
    for connection in yaml.safe_load_all((FOCO / "releases/connections.yaml").read_text()):
        assert connection_problems(connection["spec"]) == [], connection["metadata"]["name"]


def test_they_walk_the_five_stages_of_the_runbook() -> None:
    assert [stage["name"] for stage in release("2.4.0")["stages"]] == STAGES


def test_2_6_0_differs_in_its_version_alone() -> None:
    assert release("2.6.0") == release("2.4.0")


def test_2_5_0_differs_in_two_steps_after_the_smoke_test() -> None:
    other = release("2.5.0")
    steps = other["stages"][2]["steps"]
    assert [step["name"] for step in steps] == ["deploy", "smoke", "beta-users", "assignment"]
    del steps[2:]
    assert other == release("2.4.0")


def test_the_bake_is_long_enough_for_the_error_rate_to_fail() -> None:
    """A new pod is scraped within about six seconds; then the breach must still last for the gate's
    `for`."""
    for version in ("2.4.0", "2.5.0", "2.6.0"):
        stage = release(version)["stages"][2]
        (gate,) = [g for g in stage["gates"] if g["name"] == "error-rate"]
        assert (
            int(stage["bake"].removesuffix("s")) >= 2 * (6 + int(gate["for"].removesuffix("s"))) - 4
        )
