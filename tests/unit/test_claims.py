"""What a run has to itself: by what its Connections lead to, however they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.runtime import claims
from gatewright.runtime.claims import Claims, targets_of
from gatewright.runtime.connections import Connections
from gatewright.runtime.parse import spec_of
from gatewright.runtime.pins import Pin, Pins
from gatewright.runtime.tracked import Key, TrackedRelease, TrackedReleases

GIT = {"ref": "v$(version)"}
SITE = {"name": "site", "vercel": {"project": "shop", "git": GIT}}
NAMED = {"name": "site", "vercel": {"project": "shop", "git": GIT, "connection": "main"}}
OTHER = {"name": "site", "vercel": {"project": "blog", "git": GIT, "connection": "main"}}
UNDO = {"name": "undo", "supabase": {"project": "a" * 20, "undo": {"name": "before"}}}


def connection(name: str, uid: str = "", kind: str = "vercel", **fields: Any) -> dict[str, Any]:
    access = {"token": {"secretRef": {"name": "vercel", "key": "token"}}, **fields}
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid or name, "generation": 1},
        "spec": {kind: access},
    }


class Room:
    """Releases of one namespace, and its Connections."""

    def __init__(self, *connections: dict[str, Any]) -> None:
        self.entries = TrackedReleases()
        self.links = Connections(None)  # type: ignore[arg-type]
        for item in connections or (connection("main"),):
            self.links.event("ADDED", item)
        self.pinned: dict[Key, Pins] = {}
        self.woken: list[Key] = []
        self.claims = Claims(
            self.entries, self.woken.append, self.links, lambda key: self.pinned.get(key, {})
        )

    def release(
        self, name: str, *targets: dict[str, Any], running: bool = False, steps: Any = ()
    ) -> tuple[TrackedRelease, View]:
        stages = [{"name": "a", "steps": [*steps] or [{"name": "w", "wait": "1s"}]}]
        raw = {"version": "2.0", "targets": list(targets), "stages": stages}
        obj = {
            "metadata": {
                "namespace": "shop",
                "name": name,
                "uid": name,
                "generation": 1,
                "resourceVersion": "1",
            },
            "spec": raw,
            "status": {"run": RUN} if running else {},
        }
        entry = self.entries["shop", name] = TrackedRelease.of(obj)
        view = entry.view()
        assert view.spec is not None and not view.problems, view.problems
        if running:
            entry.recalled.take_body(pin_spec(view.spec, 1, None))
            self.claims.take(entry, view)
        return entry, view

    def edit(self, entry: TrackedRelease, view: View, *targets: dict[str, Any]) -> View:
        """The body of a run as a Retry pins it anew."""
        parsed, problems = spec_of(
            {
                "version": "2.0",
                "targets": list(targets),
                "stages": [{"name": "a", "steps": [{"name": "w", "wait": "1s"}]}],
            }
        )
        assert parsed is not None and not problems
        entry.recalled.take_body(pin_spec(parsed, 1, None))
        return replace(view, spec=parsed)


RUN = {
    "id": 1,
    "version": "2.0",
    "attempt": 1,
    "phase": "Progressing",
    "startedAt": "2026-01-01T00:00:00Z",
    "bodyHash": "x",
    "generation": 1,
    "revision": "r",
    "stages": [],
}


@pytest.mark.parametrize(
    ("first", "second"), [(SITE, NAMED), (NAMED, SITE), (SITE, SITE), (NAMED, NAMED)]
)
def test_two_releases_on_one_project_exclude_each_other(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    room = Room()
    room.release("one", first, running=True)
    entry, view = room.release("two", second)
    assert room.claims.rival(entry, view) == "one" and entry.claim.blocked


def test_releases_on_two_projects_do_not() -> None:
    room = Room()
    room.release("one", SITE, running=True)
    assert room.claims.rival(*room.release("two", OTHER)) is None


def test_two_connections_to_one_address_may_lead_to_one_project() -> None:
    room = Room(connection("main", teamId="team_1"), connection("again", slug="shop"))
    room.release("one", NAMED, running=True)
    again = {"name": "site", "vercel": {"project": "shop", "git": GIT, "connection": "again"}}
    assert room.claims.rival(*room.release("two", again)) == "one"
    room.links.event("MODIFIED", connection("again", url="https://vercel.internal.example"))
    assert room.claims.rival(*room.release("two", again)) is None


def test_what_an_implied_connection_stood_for_when_the_run_began_is_what_is_claimed() -> None:
    room = Room(connection("main"))
    room.pinned["shop", "one"] = {("vercel", ""): Pin("main", "main")}
    room.links.event("ADDED", connection("unrelated", url="https://vercel.internal.example"))
    room.release("one", SITE, running=True)
    assert room.claims.rival(*room.release("two", NAMED)) == "one"


def test_a_connection_that_is_not_there_is_claimed_as_it_is_written() -> None:
    room = Room(connection("unrelated", kind="github"))
    room.release("one", NAMED, running=True)
    assert room.claims.rival(*room.release("two", NAMED)) == "one"


def test_what_a_target_and_a_step_for_flags_own_is_the_same_project() -> None:
    flags = {"name": "f", "flags": {"vercel": {"project": "shop", "set": {"VOICE": "on"}}}}
    room = Room()
    room.release("one", SITE, running=True)
    assert room.claims.rival(*room.release("two", steps=[flags])) == "one"


def test_two_runs_do_not_restore_one_database_at_once() -> None:
    room = Room()
    yes = {"name": "yes", "approval": {}}
    room.release("one", running=True, steps=[yes, UNDO])
    assert room.claims.rival(*room.release("two", steps=[yes, UNDO])) == "one"


def test_an_edit_adds_what_its_body_names_and_takes_nothing_away() -> None:
    room = Room()
    entry, view = room.release("one", SITE, running=True)
    had = entry.claim.targets
    view = room.edit(entry, view, OTHER)
    assert room.claims.extend_claims(entry, view) is None
    assert had is not None and entry.claim.targets is not None and had < entry.claim.targets
    assert room.claims.rival(*room.release("two", NAMED)) == "one", (
        "what it has changed is still its own"
    )
    assert room.claims.rival(*room.release("two", OTHER)) == "one"


def test_an_edit_does_not_take_what_another_run_has() -> None:
    room = Room()
    room.release("two", OTHER, running=True)
    entry, view = room.release("one", SITE, running=True)
    had = entry.claim.targets
    view = room.edit(entry, view, NAMED, {**OTHER, "name": "blog"})
    assert room.claims.extend_claims(entry, view) == "two"
    assert entry.claim.targets == had and entry.claim.blocked
    del room.entries["shop", "two"]
    assert room.claims.extend_claims(entry, view) is None and not entry.claim.blocked


def test_when_a_target_is_free_the_first_few_look_again() -> None:
    room = Room()
    holder, _ = room.release("holder", SITE, running=True)
    for number in range(3 * claims.WOKEN_AT_ONCE):
        room.claims.rival(*room.release(f"waits-{number}", SITE))
    room.claims.rival(*room.release("other", OTHER))
    room.woken.clear()
    room.claims.wake_blocked(holder.key)
    assert len(room.woken) == claims.WOKEN_AT_ONCE and all(
        name.startswith("waits-") for _, name in room.woken
    )


def test_an_edit_that_adds_nothing_asks_nobody() -> None:
    room = Room()
    entry, view = room.release("one", SITE, running=True)
    other, _ = room.release("two", OTHER)
    other.claim.targets = None  # as after a restart
    assert room.claims.extend_claims(entry, view) is None


def test_callers_without_connections_claim_what_is_written() -> None:
    assert targets_of("shop", {"target/site": {"vercel": {"project": "shop", "git": GIT}}}) == {
        "vercel::project/shop"
    }


def procedure(*steps: dict[str, Any]) -> PinnedSpec:
    raw = {"version": "2.0", "targets": [SITE], "stages": [{"name": "clear", "steps": [*steps]}]}
    parsed, problems = spec_of(raw)
    assert parsed is not None and not problems
    return pin_spec(parsed, 1, None)


FLAGS = {"name": "off", "flags": {"configMap": "web-flags", "set": {"VOICE": "off"}}}


def test_a_procedure_has_what_it_changes_from_its_beginning_on() -> None:
    """Another run could begin between its first effect and the next pass."""
    room = Room()
    entry, view = room.release("blog", OTHER, steps=[FLAGS])
    assert room.claims.begin_procedure(entry, procedure(FLAGS)) is None
    assert room.claims.is_procedure_at_work(entry, view)
    assert room.claims.rival(entry, view) == "blog (by a procedure that is under way)"
    other, other_view = room.release("shop", SITE, steps=[FLAGS])
    assert room.claims.rival(other, other_view) == "blog"
    assert room.claims.begin_procedure(other, procedure(FLAGS)) == "the run of release blog"


def test_a_procedure_is_at_work_on_nothing_that_its_release_does_not_change() -> None:
    room = Room()
    entry, view = room.release("blog", OTHER)
    assert room.claims.begin_procedure(entry, procedure(FLAGS)) is None
    assert not room.claims.is_procedure_at_work(entry, view)
    assert room.claims.rival(entry, view) is None
