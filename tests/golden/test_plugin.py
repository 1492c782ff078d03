"""What `kubectl release` prints for the golden Releases; write it anew as the Releases
themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatewright.plugin import explain, show
from tests.golden import endings
from tests.golden.test_endings import UPDATE

FOLDER = Path(__file__).parent / "plugin"
NOW = datetime(2026, 1, 1, 0, 3, 2, tzinfo=UTC)
NAMES = (
    "baking",
    "holding",
    "waiting_for_approval",
    "paused",
    "rolling_back",
    "rolled_back",
    "rollback_failed",
    "promoted",
    "not_started",
    "frozen",
    "nothing_to_do",
    "followed_up",
)


@pytest.mark.parametrize("name", NAMES)
def test_what_people_read_is_what_the_golden_file_says(name: str) -> None:
    release = endings.kept(name)
    text = "\n".join(
        [
            *show.release_table([release], NOW, wide=True),
            "",
            "--- status",
            *show.status_lines(release, NOW),
            "",
            "--- explain",
            *explain.explain_lines(release, NOW),
            "",
        ]
    )
    path = FOLDER / f"{name}.txt"
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_is_looked_at() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(NAMES)


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_every_state_can_be_shown(name: str) -> None:
    release = endings.kept(name)
    for lines in (
        show.status_lines(release, NOW),
        explain.explain_lines(release, NOW),
        [show.release_line(release)],
    ):
        text = "\n".join(lines)
        assert release["status"]["state"] in text
        assert "None" not in text
        assert not [line for line in lines if line != line.rstrip()]
