"""Freezes: no run starts while one is in force, and nothing else is held up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.api.freeze import FreezeSpec, LabelSelector
from gatewright.core.model.freeze import Freeze
from gatewright.core.spec.freezes import MAX_PER_NAMESPACE
from gatewright.core.spec.selectors import MAX_LABELS, selects
from gatewright.runtime import clock
from gatewright.runtime.freezes import Freezes
from gatewright.runtime.tracked import TrackedRelease
from tests.unit.sim import START, World, spec

NOON = START + timedelta(hours=12)


def freeze(until: datetime | None = NOON, **more: Any) -> Freeze:
    return Freeze("audit", "the auditors\nare here", until, **more)


def waits(world: World) -> str:
    assert world.status.waitingFor is not None
    return world.status.waitingFor.message


# --- what it keeps, and what it does not


def test_no_run_starts_before_its_end_and_one_does_then() -> None:
    world = World(freezes=(freeze(by="ana"),)).settle()
    assert world.status.state == "Frozen" and world.status.runs == 0
    assert waits(world) == (
        "the end of Freeze audit by ana, until 2026-01-01T12:00:00Z: the auditors are here; "
        "or a hotfix (kubectl release hotfix web --reason WHY)"
    )
    conditions = {one.type: one for one in world.status.conditions}
    assert conditions["Ready"].status == "Unknown" and "Reconciling" in conditions

    assert world.tick().requeue_at == NOON
    world.now = NOON
    assert world.settle().status.runs == 1


def test_one_that_is_taken_away_keeps_nothing() -> None:
    world = World(freezes=(freeze(),)).settle()
    world.freezes = ()
    assert world.settle().status.runs == 1


def test_a_run_under_way_goes_on() -> None:
    world = World().settle()
    world.freezes = (freeze(),)
    world.later(12)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"


def test_the_way_back_is_never_held_up() -> None:
    world = World().settle()
    world.freezes = (freeze(),)
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.live == "1.0" and world.status.run.outcome == "RolledBack"  # type: ignore[union-attr]

    world = World().settle().later(12)
    world.freezes = (freeze(),)
    world.act("Rollback")
    world.later(5)
    assert world.live == "1.0" and world.status.run.kind == "Undo"  # type: ignore[union-attr]


def test_a_retry_at_rest_is_no_way_round() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.freezes = (freeze(),)
    said = world.act("Retry")
    assert said is not None and said.result == "Refused"
    assert "2.0 cannot start now: it waits for the end of Freeze audit" in said.message


def test_a_freeze_is_said_before_a_window() -> None:
    never = {"rrule": "FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=1", "timeZone": "UTC", "duration": "1h"}
    world = World(spec=spec(windows=[never]), freezes=(freeze(),)).settle()
    assert world.status.state == "Frozen"
    world.now = NOON
    assert world.settle().status.state == "OutsideWindow"


def test_of_several_the_one_that_ends_last_is_named_and_the_first_end_is_looked_at() -> None:
    later = Freeze("later", "more", NOON + timedelta(days=1))
    world = World(freezes=(freeze(), later)).settle()
    assert waits(world).startswith("the end of Freeze later, until 2026-01-02T12:00:00Z: more (and")
    assert world.tick().requeue_at == NOON


def test_one_that_cannot_be_read_is_in_force_until_it_is_mended() -> None:
    world = World(freezes=(freeze(until=None),)).settle()
    assert "until somebody mends it" in waits(world) and world.tick().requeue_at is None


# --- a hotfix


def test_a_hotfix_starts_in_spite_of_all_and_says_so() -> None:
    never = {"rrule": "FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=1", "timeZone": "UTC", "duration": "1h"}
    world = World(spec=spec(windows=[never]), freezes=(freeze(),)).settle()
    said = world.act("Hotfix", reason="nobody can log in")
    assert said is not None and said.result == "Accepted"
    assert said.message == (
        "2.0 starts again, as run 1, in spite of Freeze audit, until 2026-01-01T12:00:00Z: "
        "the auditors are here and spec.windows, none of which is open"
    )
    run = world.later(12).status.run
    assert run is not None and run.outcome == "Promoted"
    assert run.people[0].startswith("Hotfix by ana: nobody can log in (2.0 starts again")
    assert [note.reason for note in world.notes].count("Hotfix") == 1


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_a_hotfix_without_a_reason_is_refused(reason: str) -> None:
    world = World(freezes=(freeze(),)).settle()
    said = world.act("Hotfix", reason=reason)
    assert said is not None and said.result == "Refused" and "say why (reason)" in said.message
    assert world.later(5).status.state == "Frozen" and world.status.runs == 0


def test_a_hotfix_of_nobody_starts_nothing() -> None:
    world = World(freezes=(freeze(),)).settle()
    said = world.act("Hotfix", reason="P0", doubt="anybody may have made this")
    assert said is not None and said.result == "Refused"
    assert world.later(5).status.state == "Frozen" and world.status.runs == 0


def test_a_hotfix_starts_a_rejected_version_again_as_a_retry_does() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    world.freezes = (freeze(),)
    assert world.act("Hotfix", reason="P0").result == "Accepted"  # type: ignore[union-attr]
    assert world.later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_a_hotfix_passes_by_nothing_else() -> None:
    for change, words in (
        ({"rival": "other"}, "has one of its targets"),
        ({"doubt": "not in force"}, "not in force"),
        ({"missing": "there is no Deployment web"}, "there is no Deployment web"),
    ):
        world = World(freezes=(freeze(),), **change).settle()  # type: ignore[arg-type]
        said = world.act("Hotfix", reason="P0")
        assert said is not None and said.result == "Refused" and words in said.message
        assert world.status.runs == 0


def test_a_hotfix_that_was_refused_is_not_kept_for_later() -> None:
    world = World(freezes=(freeze(),), rival="other").settle()
    world.act("Hotfix", reason="P0")
    world.rival = None
    assert world.later(5).status.runs == 0 and world.status.state == "Frozen"


def test_a_run_under_way_needs_no_hotfix() -> None:
    world = World().settle()
    said = world.act("Hotfix", reason="P0")
    assert said is not None and "a Hotfix starts a run, and one is under way" in said.message


def test_what_is_live_needs_no_hotfix() -> None:
    world = World().settle().later(12)
    said = world.act("Hotfix", reason="P0")
    assert said is not None and "there is nothing to repeat" in said.message


# --- which Releases it means


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ({}, True),
        ({"matchLabels": {"team": "web"}}, True),
        ({"matchLabels": {"team": "db"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        (
            {
                "matchLabels": {"team": "web"},
                "matchExpressions": [{"key": "none", "operator": "Exists"}],
            },
            False,
        ),
    ],
)
def test_a_selector_means_what_it_means_in_kubernetes(
    selector: dict[str, Any], meant: bool
) -> None:
    known = LabelSelector.model_validate(selector)
    assert selects(known, {"team": "web"}) is meant
    world = World(freezes=(freeze(selector=known),), labels={"team": "web"}).settle()
    assert (world.status.state == "Frozen") is meant


def test_a_named_exception_starts() -> None:
    world = World(freezes=(freeze(exceptions=frozenset({"web"})),)).settle()
    assert world.status.runs == 1


def test_a_release_with_more_labels_than_are_kept_may_be_meant() -> None:
    known = LabelSelector.model_validate({"matchLabels": {"team": "db"}})
    world = World(freezes=(freeze(selector=known),))
    world.labels = None  # type: ignore[assignment]
    assert world.settle().status.state == "Frozen"


# --- what is kept of them


def body(name: str = "audit", hours: float = 1.0, **more: Any) -> dict[str, Any]:
    until = (clock.now() + timedelta(hours=hours)).isoformat()
    meta = {"namespace": "shop", "name": name}
    return {"metadata": meta, "spec": {"reason": "audit", "until": until, **more}}


def test_what_the_watch_tells_is_kept_and_forgotten() -> None:
    freezes = Freezes()
    assert freezes.event("ADDED", body(by="ana", exceptions=["web"]))
    (kept,) = freezes.of("shop")
    assert (kept.by, kept.exceptions) == ("ana", frozenset({"web"})) and kept.until is not None
    assert kept.until.tzinfo is UTC and freezes.of("other") == ()
    assert freezes.event("DELETED", body()) and freezes.of("shop") == ()


def test_an_echo_is_no_news() -> None:
    freezes = Freezes()
    told = body()
    assert freezes.event("ADDED", told) and not freezes.event("MODIFIED", told)


def test_one_whose_time_is_over_is_not_kept_and_one_that_is_prolonged_is() -> None:
    freezes = Freezes()
    assert not freezes.event("ADDED", body(hours=-1)) and freezes.of("shop") == ()
    assert freezes.event("MODIFIED", body(hours=1)) and len(freezes.of("shop")) == 1


@pytest.mark.parametrize(
    "change", [{"until": "soon"}, {"until": "2026-01-01"}, {"reason": ""}, {"more": 1}]
)
def test_a_freeze_that_cannot_be_read_is_in_force(change: dict[str, Any]) -> None:
    freezes = Freezes()
    assert freezes.event("ADDED", body(**change))
    (kept,) = freezes.of("shop")
    assert kept.until is None and "cannot be read" in kept.reason


def test_more_than_are_kept_keep_every_run_until_some_are_gone() -> None:
    freezes = Freezes()
    only = {"matchLabels": {"nobody": "has-this"}}
    for number in range(MAX_PER_NAMESPACE + 1):
        freezes.event("ADDED", body(f"f{number}", selector=only))
    assert freezes.left_out and freezes.of("shop")[-1].until is None
    world = World(freezes=freezes.of("shop")).settle()
    assert world.status.state == "Frozen" and "has more than 32" in waits(world)

    there = [("shop", f"f{number}") for number in range(MAX_PER_NAMESPACE)]
    assert freezes.forget_vanished(there) == {"shop"}
    assert not freezes.left_out and World(freezes=freezes.of("shop")).settle().status.runs == 1


def test_those_whose_time_is_over_make_room() -> None:
    freezes = Freezes()
    for number in range(MAX_PER_NAMESPACE):
        freezes.event("ADDED", body(f"f{number}"))
    freezes._kept.keep("shop", "f0", Freeze("f0", "audit", START))
    assert not freezes.left_out
    freezes.event("ADDED", body("new"))
    names = {freeze.name for freeze in freezes.of("shop")}
    assert not freezes.left_out and "f0" not in names and "new" in names


@pytest.mark.parametrize(
    ("until", "words"), [("soon", "is no time"), ("2026-01-01T00:00:00", "has no time zone")]
)
def test_its_end_is_a_point_in_time(until: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FreezeSpec(reason="audit", until=until)


def test_few_labels_of_a_release_are_kept_and_of_many_none_is_believed() -> None:
    def labelled(labels: dict[str, str] | None) -> TrackedRelease:
        meta = {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "1"}
        return TrackedRelease.of({"metadata": meta | {"labels": labels}, "spec": spec()})

    assert labelled({"team": "web"}).view().labels == {"team": "web"}
    assert labelled({f"l{number}": "x" for number in range(MAX_LABELS + 1)}).view().labels is None
    assert labelled({f"{number}" * 300: "x" for number in range(9)}).view().labels is None
    # Of a very large object they are not read.
    assert labelled(None).view().labels is None
