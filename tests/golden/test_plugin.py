"""What `kubectl release` prints for the golden Releases; write it anew as the Releases
themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatewright.core.model.freeze import Freeze
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.plugin import checklist, explain, history, plan, show
from gatewright.plugin.specs import pin_next, read_spec
from gatewright.plugin.start import KnownFreezes, make_start
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
    "outside_window",
    "nothing_to_do",
    "followed_up",
)


def pinned(release: dict[str, Any]) -> PinnedSpec:
    return pin_next(read_spec(release), release["status"])


def plan_lines(release: dict[str, Any], freezes: KnownFreezes) -> list[str]:
    body = pinned(release)
    start = make_start(body.spec, release, freezes, NOW)
    return plan.plan_lines(plan.make_plan(release, body, start))


def freezes_of(name: str) -> KnownFreezes:
    if name != "frozen":
        return KnownFreezes()
    until = datetime(2026, 1, 3, tzinfo=UTC)
    return KnownFreezes([Freeze("quarter-end", "the books are being closed", until, by="ana")])


@pytest.mark.parametrize("name", NAMES)
def test_what_people_read_is_what_the_golden_file_says(name: str) -> None:
    release = endings.kept(name)
    text = "\n".join(
        [
            "--- status",
            *show.status_lines(release, NOW),
            "",
            "--- explain",
            *explain.explain_lines(release, NOW),
            "",
            "--- history",
            *history.history_lines(release, NOW),
            "",
            "--- checklist",
            *checklist.checklist_lines(release, freezes_of(name), NOW),
            "",
            "--- plan",
            *plan_lines(release, freezes_of(name)),
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


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_every_state_has_a_history_a_checklist_and_a_plan(name: str) -> None:
    release = endings.kept(name)
    lines = [
        *history.history_lines(release, NOW, is_wide=True),
        *checklist.checklist_lines(release, freezes_of(name), NOW),
    ]
    if name != "invalid_spec":
        lines += plan_lines(release, freezes_of(name))
    assert "None" not in "\n".join(lines)
    assert not [line for line in lines if line != line.rstrip()]
