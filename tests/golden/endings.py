"""Releases in every state that a person or Argo CD may meet, each brought there by the core itself.

The states stand as YAML in `release/`. After a change of the core that is meant, write them anew
and read the difference:

    GATEWRIGHT_UPDATE_GOLDEN=1 pytest tests/golden
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from gatewright.api import API_VERSION
from gatewright.api.status import dump
from gatewright.core.model.freeze import Freeze
from gatewright.core.model.operation import Progress
from tests.unit.sim import START, World, spec

FOLDER = Path(__file__).parent / "release"
_GUARD = {"name": "health", "http": {"path": "/health"}, "failureThreshold": 3}


def progressing() -> World:
    return World(slow={"migrate"}).settle()


def baking() -> World:
    return World().settle()


def holding() -> World:
    world = World().settle()
    world.gates["errors"] = "Holding"
    return world.settle()


def waiting_for_person() -> World:
    return World(
        spec=_with_step({"name": "keys", "confirm": {"instructions": "Rotate the keys."}})
    ).settle()


def waiting_for_approval() -> World:
    """Two of a group must approve before anything is touched; one has."""
    check = {"name": "go", "approval": {"groups": ["release-managers"], "count": 2}}
    world = World(spec=spec(preflight=[check])).settle()
    world.act("Approve", groups=frozenset({"release-managers"}), reason="calm night")
    return world


def skipped() -> World:
    """A stage failed, paused, and was skipped; the version was promoted all the same."""
    world = paused()
    world.act("Skip", by="ben", reason="known noise")
    return world.settle().later(12)


def suspended() -> World:
    return World(slow={"migrate"}).settle().ask(suspend=True).settle()


def not_started() -> World:
    return World(spec=spec(suspend=True)).settle()


def frozen() -> World:
    """Somebody on call has said that no run starts."""
    freeze = Freeze("quarter-end", "the books are being closed", START + timedelta(days=2), "ana")
    return World(freezes=(freeze,)).settle()


def outside_window() -> World:
    window = {"rrule": "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9", "timeZone": "America/Mexico_City"}
    return World(spec=spec(windows=[window | {"duration": "8h"}])).settle()


def nothing_to_do() -> World:
    """A stage was skipped, since what it is about has not changed."""
    changed = spec(changedPaths=["web/index.html"])
    changed["stages"][0]["when"] = {"changed": ["db/**"]}
    return World(spec=changed).settle().later(12)


def blocked() -> World:
    return World(rival="other").settle()


def no_room() -> World:
    words = "the runs of namespace shop hold 12288 KiB of specs, and 12200 KiB are free for all"
    return World(no_room=f"{words}; this one has 200 KiB").settle()


def target_missing() -> World:
    return World(missing="there is no Deployment web in namespace shop; create it first").settle()


def preflight() -> World:
    check = {"name": "calm", "prometheus": {"query": "errors"}, "max": "1%"}
    return World(spec=spec(preflight=[check]), gates={"calm": "Breaching"}).settle()


def guarding() -> World:
    return World(spec=spec(guards=[_GUARD], guardFor="1h")).settle().later(12)


def promoted() -> World:
    return World().settle().later(12)


def followed_up() -> World:
    """Promoted two minutes ago: one task is done, one is overdue, and a gate is watched for a
    day."""
    log = {
        "name": "deployment-log",
        "within": "2m",
        "confirm": {"instructions": "Write $(version) into the log."},
    }
    feedback = {
        "name": "feedback",
        "within": "2m",
        "confirm": {"instructions": "Read what users say of $(version)."},
    }
    errors = {
        "name": "errors-24h",
        "within": "24h",
        "prometheus": {"query": "errors"},
        "max": "0.1%",
    }
    world = World(spec=spec(followUps=[log, feedback, errors])).settle().later(12)
    world.act("Confirm", follow_up="deployment-log", run=1, reason="in the wiki")
    world.now += timedelta(minutes=2)
    return world.settle()


def adopted() -> World:
    return World(live="2.0").settle()


def paused() -> World:
    world = World(spec=_with_failure("Pause")).settle()
    world.gates["errors"] = "Failed"
    return world.settle()


def rolling_back() -> World:
    world = World(
        slow={"restore"}, jobs={"migrate": Progress("Failed", "job migrate: BackoffLimitExceeded")}
    )
    return world.settle()


def rolled_back() -> World:
    world = World().settle()
    world.gates["errors"] = "Failed"
    return world.settle()


def unproved() -> World:
    """A backup that is empty: the migration does not begin, and nothing is restored from it."""
    careful = spec()
    careful["stages"][0]["steps"][0]["proof"] = {"minBytes": 1048576, "contains": ["public.orders"]}
    told = {
        "id": "b-1",
        "bytes": "0",
        "createdAt": "2026-01-01T00:00:00Z",
        "tables": "public.tasks",
    }
    return World(spec=careful, jobs={"backup": Progress("Succeeded", outputs=told)}).settle()


def rollback_failed() -> World:
    failed = {
        "migrate": Progress("Failed", "exit code 1"),
        "restore": Progress("Failed", "the backup is gone"),
    }
    return World(jobs=failed).settle()


def aborted() -> World:
    check = {"name": "smoke", "job": {"image": "tools"}}
    return World(
        spec=spec(preflight=[check]), jobs={"smoke": Progress("Failed", "exit code 1")}
    ).settle()


def observed() -> World:
    return World(spec=spec(mode="Observe")).settle().later(12)


def invalid_spec() -> World:
    """A deploy step that names a target which is not there."""
    return World(spec=_with_step({"name": "deploy-more", "deploy": {"targets": ["site"]}})).settle()


def drifted() -> World:
    """At rest, after a promotion, somebody has set another image."""
    world = promoted()
    world.live = "1.0"
    return world.later(90)


def changed_by_others() -> World:
    """In the bake somebody has set the old image."""
    world = baking()
    world.live = "1.0"
    return world.later(90)


def unavailable() -> World:
    """In the bake pods of the new version crash."""
    world = baking()
    world.trouble = "container app restarted 2 times: exit code 1"
    return world.later(30)


def silent_guard() -> World:
    """While guarding nobody calls the shop at night, and the guard has no data."""
    guard = {"name": "errors-all", "prometheus": {"query": "all"}, "max": "1%", "for": "5m"}
    world = World(spec=spec(guards=[guard], guardFor="1h")).settle().later(12)
    world.gates["errors-all"] = "Silent"
    return world.later(90)


def queued() -> World:
    """While guarding the next version is asked for."""
    return guarding().ask("3.0").later(3)


def unconnected() -> World:
    """A gate needs a Connection that is not there."""
    return World(
        unconnected=(
            "spec.stages[1].gates[0].prometheus: there is no prometheus Connection; make one",
        )
    ).settle()


def unadmitted() -> World:
    """Nobody asks RBAC about authors."""
    return World(
        doubt="not in force in namespace shop: admission policy gatewright-releases; apply it"
    ).settle()


ENDINGS: dict[str, Callable[[], World]] = {
    builder.__name__: builder
    for builder in (
        preflight,
        progressing,
        baking,
        holding,
        waiting_for_person,
        waiting_for_approval,
        skipped,
        suspended,
        not_started,
        frozen,
        outside_window,
        nothing_to_do,
        blocked,
        no_room,
        target_missing,
        guarding,
        followed_up,
        promoted,
        adopted,
        paused,
        rolling_back,
        rolled_back,
        unproved,
        rollback_failed,
        aborted,
        observed,
        invalid_spec,
        drifted,
        changed_by_others,
        unavailable,
        silent_guard,
        queued,
        unconnected,
        unadmitted,
    )
}


def release(name: str) -> dict[str, Any]:
    """The object of an ending, as the API server would have it."""
    world = ENDINGS[name]()
    meta = {"name": "web", "namespace": "shop", "generation": world.generation}
    return {
        "apiVersion": API_VERSION,
        "kind": "Release",
        "metadata": meta,
        "spec": world.spec,
        "status": dump(world.status),
    }


def kept(name: str) -> dict[str, Any]:
    """The object as it stands in the golden file."""
    found: dict[str, Any] = yaml.safe_load(path(name).read_text())
    return found


def path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def text(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=120)


def _with_step(step: dict[str, Any]) -> dict[str, Any]:
    found = spec()
    found["stages"][0]["steps"].append(step)
    return found


def _with_failure(policy: str) -> dict[str, Any]:
    found = spec()
    found["stages"][1]["onFailure"] = policy
    return found
