"""What `plan` and `checklist` say of windows, Freezes, conditions of stages, and procedures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.core.spec.freezes import MAX_PER_NAMESPACE
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.spec.selectors import MAX_LABELS
from gatewright.plugin import checklist, plan, show
from gatewright.plugin.__main__ import main
from gatewright.plugin.specs import read_spec
from gatewright.plugin.start import KnownFreezes, make_start
from tests.unit.test_plugin_commands import RELEASES, Server, of

FREEZES = "/apis/gatewright.dev/v1alpha1/namespaces/shop/freezes"
FAR = "2099-01-03T00:00:00Z"
WEDNESDAY_9 = show.parse_time("2026-01-07T15:00:00Z")
"""9:00 in Mexico City."""
OFFICE = {
    "rrule": "FREQ=WEEKLY;BYDAY=WE;BYHOUR=9",
    "timeZone": "America/Mexico_City",
    "duration": "8h",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def fresh(**changes: Any) -> dict[str, Any]:
    """A Release of which no run has begun."""
    release = of("not_started")
    release["spec"] |= {"suspend": False, **changes}
    return release


def planned(
    release: dict[str, Any], now: datetime = WEDNESDAY_9, freezes: KnownFreezes | None = None
) -> plan.Plan:
    body = pin_spec(read_spec(release), 1, None)
    start = make_start(body.spec, release, freezes or KnownFreezes(), now)
    return plan.make_plan(release, body, start)


def listed(release: dict[str, Any], now: datetime = WEDNESDAY_9) -> list[str]:
    return checklist.checklist_lines(release, KnownFreezes(), now)


def freeze(name: str = "audit", until: str = FAR, **more: Any) -> dict[str, Any]:
    spec = {"reason": "the auditors\nare here", "until": until, "by": "ana", **more}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}


# --- windows


def test_an_open_window_says_until_when_and_when_the_next_one_opens() -> None:
    made = planned(fresh(windows=[OFFICE]))
    assert made["start"]["windows"] == {
        "open": True,
        "until": "2026-01-07T23:00:00Z",
        "next": "2026-01-14T15:00:00Z",
        "message": "one is open until 2026-01-07T23:00:00Z (Wed 17:00 America/Mexico_City); the "
        "next one opens at 2026-01-14T15:00:00Z (Wed 09:00 America/Mexico_City)",
        "given": ["FREQ=WEEKLY;BYDAY=WE;BYHOUR=9 in America/Mexico_City, for 8h"],
    }
    assert "hotfix" not in made["start"]
    assert [line for line in listed(fresh(windows=[OFFICE])) if line.startswith("[x] window: ")]


def test_the_window_that_is_open_longest_counts() -> None:
    longer = OFFICE | {"duration": "20h"}
    made = planned(fresh(windows=[OFFICE, longer, OFFICE]))
    assert made["start"]["windows"]["until"] == "2026-01-08T11:00:00Z"


def test_a_closed_window_says_when_it_opens_and_how_a_person_starts_all_the_same() -> None:
    release, before = fresh(windows=[OFFICE]), WEDNESDAY_9 - timedelta(seconds=1)
    made = planned(release, before)
    assert made["start"]["windows"]["open"] is False
    assert "until" not in made["start"]["windows"]
    lines = plan.plan_lines(made)
    opening = "the next window to open at 2026-01-07T15:00:00Z (Wed 09:00 America/Mexico_City)"
    assert f"  windows: none is open; a run waits for {opening}" in lines
    assert "  all the same by a hotfix: `kubectl release hotfix web --reason WHY`" in lines
    entry = next(line for line in listed(release, before) if "window" in line)
    assert entry.startswith("[ ] window: ") and opening in entry


def test_what_has_begun_is_held_up_by_no_window() -> None:
    release = of("paused")
    release["spec"]["windows"] = [OFFICE]
    later = WEDNESDAY_9 + timedelta(days=2)
    assert "hotfix" not in planned(release, later)["start"]
    entry = next(line for line in listed(release, later) if "window" in line)
    assert entry == "[x] window: FREQ=WEEKLY;BYDAY=WE;BYHOUR=9 in America/Mexico_City, for 8h"


def test_what_is_printed_without_a_cluster_is_not_ticked_off() -> None:
    release = fresh(windows=[OFFICE])
    del release["status"]
    assert "[x] window" not in "\n".join(listed(release))


def test_windows_that_nobody_can_read_do_not_keep_a_checklist_from_being_printed() -> None:
    release = fresh(windows=[OFFICE | {"timeZone": "America/Nowhere"}])
    lines = listed(release)
    assert "[ ] Stage 1: migrate" in lines
    assert not [line for line in lines if "window" in line]


# --- Freezes


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ([freeze()], ["audit"]),
        ([freeze(until="2020-01-01T00:00:00Z")], []),
        ([freeze(exceptions=["web"])], []),
        ([freeze(selector={"matchLabels": {"area": "finance"}})], ["audit"]),
        ([freeze(selector={"matchLabels": {"area": "shop"}})], []),
        ([freeze(until="soon"), freeze("long")], ["audit", "long"]),
        ([freeze(f"f{n}", exceptions=["web"]) for n in range(MAX_PER_NAMESPACE)], []),
        (
            [freeze(f"f{n}", exceptions=["web"]) for n in range(MAX_PER_NAMESPACE + 1)],
            ["and others"],
        ),
    ],
)
def test_the_freezes_that_are_told_are_those_that_the_operator_would_keep_to(
    server: Server, capsys: pytest.CaptureFixture[str], others: list[Any], names: list[str]
) -> None:
    release = fresh()
    release["metadata"]["labels"] = {"area": "finance"}
    server.answers |= {f"{RELEASES}/web": release, FREEZES: {"items": others}}
    assert server.run("plan", "web", "-o", "json") == 0
    start = json.loads(capsys.readouterr().out)["start"]
    assert [row["name"] for row in start["freezes"]] == names
    assert ("hotfix" in start) == bool(names)


def test_of_more_labels_than_the_operator_keeps_none_is_believed(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    release = fresh()
    release["metadata"]["labels"] = {f"l{number}": "x" for number in range(MAX_LABELS + 1)}
    only = freeze(selector={"matchLabels": {"area": "shop"}})
    server.answers |= {f"{RELEASES}/web": release, FREEZES: {"items": [only]}}
    assert server.run("plan", "web") == 0
    assert "Freeze audit by ana" in capsys.readouterr().out


def test_a_freeze_stands_in_the_checklist(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= {f"{RELEASES}/web": fresh(), FREEZES: {"items": [freeze()]}}
    assert server.run("checklist", "web") == 0
    line = f"[!] Freeze audit by ana, until {FAR}: the auditors are here"
    assert line in capsys.readouterr().out.splitlines()

    # A run that has begun goes on.
    server.answers[f"{RELEASES}/web"] = of("paused")
    assert server.run("checklist", "web") == 0
    assert "Freeze audit" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "checklist"])
def test_whoever_may_not_see_freezes_is_told_so(
    server: Server, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    release = of("frozen")
    server.answers |= {f"{RELEASES}/web": release, FREEZES: 403}
    assert server.run(command, "web") == 0
    out = capsys.readouterr().out
    assert "not known" in out and "you may not" in out
    # What the operator has seen is known all the same.
    assert f"the operator says: {release['status']['message']}" in out
    assert "none is in force" not in out and "[x] no Freeze" not in out


def test_without_a_cluster_nobody_says_that_none_is_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "release.yaml"
    release = fresh() | {"apiVersion": "gatewright.dev/v1alpha1", "kind": "Release"}
    del release["status"]
    release["metadata"] = {"name": "web"}
    file.write_text(yaml.safe_dump(release))
    assert main(["plan", "-f", str(file)]) == 0
    assert "  Freezes: not known, no cluster was asked" in capsys.readouterr().out
    assert main(["checklist", "-f", str(file)]) == 0
    assert "[ ] no Freeze in force\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "checklist"])
def test_a_name_or_a_file_is_needed(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command]) == 2
    assert "name a Release, or a file by -f" in capsys.readouterr().err


# --- conditions of stages


def conditional(**changes: Any) -> dict[str, Any]:
    """Its first stage has a condition, a person in it, and a bake."""
    release = fresh(**changes)
    first = release["spec"]["stages"][0]
    first |= {"when": {"var": "migrations", "notEquals": "none"}, "bake": "20s"}
    first["steps"].insert(0, {"name": "sure", "confirm": {"instructions": "Look."}})
    return release


def test_a_stage_that_would_be_left_out_asks_nobody_and_waits_for_nothing() -> None:
    made = planned(conditional(vars={"migrations": "none"}))
    assert made["stages"][0]["when"] == {
        "asks": "variable migrations is not none",
        "leftOut": True,
        "state": "Unmet",
        "message": "left out: variable migrations is what `when` rules out",
    }
    assert made["people"] == [] and made["waiting"]["atLeast"] == "10s"
    line = "     when variable migrations is not none -- left out: variable migrations is what"
    assert any(one.startswith(line) for one in plan.plan_lines(made))


def test_a_stage_that_has_something_to_do_says_why() -> None:
    made = planned(conditional(vars={"migrations": "0042"}))
    assert (
        made["stages"][0]["when"]["message"] == "goes ahead: variable migrations is something else"
    )
    assert made["people"] == ["migrate/sure: by hand: Look."]
    assert made["waiting"]["atLeast"] == "30s"
    assert "when" not in made["stages"][1]


def test_what_nobody_knows_leaves_nothing_out() -> None:
    release = fresh()
    release["spec"]["stages"][0]["when"] = {"changed": ["db/**"]}
    condition = planned(release)["stages"][0]["when"]
    assert condition["asks"] == "something has changed in db/**"
    assert (condition["leftOut"], condition["state"]) == (False, "Unknown")
    assert "nobody knows whether db/** has changed" in condition["message"]


def test_what_only_the_run_knows_is_left_to_the_run() -> None:
    release = fresh(vars={"before": "1.0"})
    release["spec"]["stages"][0]["when"] = {"var": "before", "equals": "$(lastGood.version)"}
    condition = planned(release)["stages"][0]["when"]
    assert condition["message"].startswith("the run decides: ")
    assert condition["leftOut"] is False


def test_the_checklist_leaves_out_what_the_run_will_leave_out() -> None:
    lines = listed(conditional(vars={"migrations": "none"}))
    place = next(number for number, line in enumerate(lines) if "Stage 1" in line)
    assert lines[place] == (
        "[-] Stage 1: migrate (when variable migrations is not none): left out: variable "
        "migrations is what `when` rules out"
    )
    assert [line[:7] for line in lines[place + 1 : place + 5]] == ["    [-]"] * 4

    lines = listed(conditional(vars={"migrations": "0042"}))
    assert lines[place].startswith("[ ] Stage 1: migrate (when") and "goes ahead" in lines[place]


def test_of_a_stage_that_the_run_has_judged_the_run_tells() -> None:
    release = of("nothing_to_do")
    del release["spec"]["changedPaths"]
    entry = next(line for line in listed(release) if "Stage 1" in line)
    assert entry.startswith("[-] Stage 1: migrate (when something has changed in db/**): skipped:")


# --- procedures


def with_procedures() -> dict[str, Any]:
    steps = [{"name": "flush", "job": {"image": "tools:$(version)"}}]
    return fresh(
        procedures=[
            {
                "name": "clear-cache",
                "description": "P2, what is cached\nis wrong.",
                "approval": {"groups": ["on-call"]},
                "confirm": "Everything since $(steps.backup.outputs.createdAt) is lost.",
                "steps": steps,
                "undo": steps,
            },
            {"name": "warm-cache", "steps": steps},
        ]
    )


def test_procedures_are_told_with_who_approves_them() -> None:
    made = planned(with_procedures())
    assert made["procedures"] == [
        {
            "name": "clear-cache",
            "description": "P2, what is cached is wrong.",
            "approval": "approval by a member of on-call",
            "confirm": "Everything since $(steps.backup.outputs.createdAt) is lost.",
            "undo": True,
        },
        {"name": "warm-cache", "description": "", "undo": False},
    ]
    assert plan.plan_lines(made)[-4:] == [
        "Procedures:",
        "  clear-cache   approval by a member of on-call   P2, what is cached is wrong.",
        "  warm-cache    without an approval",
        "  each by `kubectl release run web NAME --reason WHY`",
    ]


def test_procedures_end_the_checklist() -> None:
    assert listed(with_procedures())[-5:] == [
        "",
        "PROCEDURES",
        "at any time, each by `kubectl release run web NAME --reason WHY`",
        "clear-cache (approval by a member of on-call): P2, what is cached is wrong.",
        "warm-cache: it has no description",
    ]
