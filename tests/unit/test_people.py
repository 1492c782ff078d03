"""Interventions by the thousand on one Release: the oldest go first, and none of them costs a look
at all others."""

from __future__ import annotations

from typing import Any

from gatewright.runtime import interventions
from gatewright.runtime.interventions import Interventions

KEY = ("shop", "web")


def made(number: int, action: str = "Retry", version: int = 1) -> dict[str, Any]:
    meta = {
        "namespace": "shop",
        "name": f"i{number}",
        "uid": f"u{number}",
        "resourceVersion": str(1000 * version + number),
        "creationTimestamp": f"2026-11-01T00:00:{number % 60:02}Z",
    }
    return {"metadata": meta, "spec": {"release": "web", "action": action, "by": "ana"}}


def asked(count: int) -> Interventions:
    found = Interventions(None, lambda key: None, trust=True)  # type: ignore[arg-type]
    for number in reversed(range(count)):
        found.event("ADDED", made(number))
    return found


def test_the_oldest_go_first_and_so_many_at_a_time() -> None:
    found = asked(1000)
    names = [act.name for act in found.pending(KEY)]
    assert len(names) == interventions.MAX_PENDING
    assert names[:2] == ["i0", "i60"], "both of the first second"
    found.event("DELETED", made(0))
    assert next(iter(found.pending(KEY))).name == "i60"


def test_one_that_is_told_of_anew_keeps_its_place() -> None:
    found = asked(3)
    found.event("MODIFIED", made(0, version=2))
    assert [act.name for act in found.pending(KEY)] == ["i0", "i1", "i2"]


def test_who_asks_for_the_way_back_is_known_without_looking_at_all() -> None:
    found = asked(3)
    assert not found.wants_back(KEY) and not found.wants_back(("shop", "other"))
    found.event("ADDED", made(7, "Rollback"))
    assert found.wants_back(KEY)
    found.event("MODIFIED", made(7, "Rollback", version=2))
    found.event("DELETED", made(7, "Rollback", version=3))
    assert not found.wants_back(KEY)


def test_what_overtakes_is_seen_behind_any_number_of_others() -> None:
    """Seen on a cluster: 4,000 Interventions kept an Abort of the same Release waiting."""
    found = asked(1000)
    found.event("ADDED", made(1059, "Abort"))
    names = [act.name for act in found.pending(KEY)]
    assert names[-1] == "i1059" and len(names) == interventions.MAX_PENDING + 1
    found.event("DELETED", made(1059, "Abort"))
    assert len(found.pending(KEY)) == interventions.MAX_PENDING


def test_one_that_was_edited_is_no_younger_for_it() -> None:
    found = asked(1)
    before = found.pending(KEY)[0].made
    found.event("MODIFIED", made(0, version=2))
    assert found.pending(KEY)[0].made == before
