"""The golden Releases are what the core makes of them today."""

from __future__ import annotations

import os

import pytest
import yaml

from gatewright.api.status import ReleaseStatus
from tests.golden import endings

UPDATE = bool(os.environ.get("GATEWRIGHT_UPDATE_GOLDEN"))


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_the_core_ends_where_the_golden_file_says(name: str) -> None:
    found = endings.text(endings.release(name))
    if UPDATE:
        endings.path(name).write_text(found)
    # Compared as objects, so that the difference which pytest prints is one of fields.
    assert yaml.safe_load(found) == endings.kept(name)


def test_every_golden_file_has_its_ending() -> None:
    assert {path.stem for path in endings.FOLDER.glob("*.yaml")} == set(endings.ENDINGS)


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_a_golden_status_can_be_read_back(name: str) -> None:
    status = ReleaseStatus.model_validate(endings.kept(name)["status"])
    assert status.observedGeneration == endings.kept(name)["metadata"]["generation"]
    assert status.conditions[0].type == "Ready"
