"""The oracle itself: a clean history passes, and each planted violation is found, by the invariant
it breaks."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.harness.oracle import Evidence, Report, examine, quiet
from tests.harness.recording import Leaks, Version, Write
from tests.harness.standin import Given, Kind

START = 1_800_000_000.0
UID = "uid-of-web"
QUERY = 'errors{version="2"}'
SPEC = {
    "version": "2",
    "targets": [
        {"name": "web", "workload": {"name": "web", "images": {"app": "shop/web:$(version)"}}}
    ],
    "stages": [
        {
            "name": "migrate",
            "steps": [{"name": "schema", "job": {"image": "shop/migrate:2"}}],
            "rollback": {
                "steps": [{"name": "restore", "job": {"image": "shop/restore:2"}}],
                "reach": "Release",
            },
        },
        {
            "name": "ship",
            "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}],
            "gates": [
                {
                    "name": "errors",
                    "prometheus": {"query": 'errors{version="$(version)"}'},
                    "max": "1%",
                    "interval": "1s",
                }
            ],
            "bake": "2s",
        },
    ],
}


class Story:
    """A history told step by step: one counter gives resource versions and times, as one etcd
    does."""

    def __init__(self) -> None:
        self.rv = itertools.count(100)
        self.now = START
        self.release: list[Version] = []
        self.objects: dict[tuple[str, str], list[Version]] = {}
        self.writes: list[Write] = []
        self.leases: list[Write] = []
        self.answers: list[Given] = []
        self.status: dict[str, Any] = {}
        self.meta: dict[str, Any] = {"name": "web", "uid": UID, "generation": 1}
        self.spec: dict[str, Any] = copy.deepcopy(SPEC)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def say(self, **run: Any) -> None:
        """A new version of the Release; keywords change the run."""
        if run:
            self.status.setdefault("run", {}).update(run)
        self.now += 0.01
        body = {
            "metadata": copy.deepcopy(self.meta),
            "spec": copy.deepcopy(self.spec),
            "status": copy.deepcopy(self.status),
        }
        rv = next(self.rv)
        self.release.append(Version(rv, self.now, body))
        self.writes.append(
            self._write("patch", "releases/status", "web", rv, {"status": body["status"]})
        )

    def stage(self, index: int, **changes: Any) -> None:
        self.status["run"]["stages"][index].update(changes)

    def step(self, index: int, state: str, key: str) -> None:
        self.status["run"]["stages"][index]["steps"][0].update(state=state, key=key, attempt=1)

    def put(self, resource: str, name: str, body: dict[str, Any], **write: Any) -> Write:
        """An object changes, and somebody wrote that."""
        self.now += 0.01
        rv = next(self.rv)
        self.objects.setdefault((resource, name), []).append(
            Version(rv, self.now, {"metadata": {"name": name}, **body})
        )
        made = self._write(
            write.pop("verb", "patch"), resource, name, rv, write.pop("request", {}), **write
        )
        self.writes.append(made)
        return made

    def deployment(
        self, tag: str, key: str | None, user: str = "gatewright-operator", ready: bool = True
    ) -> Write:
        marks = {"annotations": {"gatewright.dev/key": key}} if key else {}
        request = {
            "metadata": marks,
            "spec": {
                "template": {"spec": {"containers": [{"name": "app", "image": f"web:{tag}"}]}}
            },
        }
        made = self.put(
            "deployments", "web", self._deployment(tag, seen=False), request=request, user=user
        )
        if ready:
            self.put("deployments", "web", self._deployment(tag, seen=True), user="controller")
        return made

    def job(
        self, name: str, key: str | None, *, end: str | None = "Complete", owner: str = UID
    ) -> Write:
        meta = {
            "annotations": {"gatewright.dev/key": key} if key else {},
            "ownerReferences": [{"uid": owner}],
        }
        body: dict[str, Any] = {"metadata": {"name": name, **meta}, "spec": {}}
        made = self.put("jobs", name, body, verb="create", request={"metadata": meta})
        if end:
            done = body | {"status": {"conditions": [{"type": end, "status": "True"}]}}
            self.put("jobs", name, done, user="controller", verb="update")
        return made

    def answer(self, value: float | None, kind: Kind = "Number") -> None:
        self.answers.append(Given(QUERY, kind, value, self.now, self.now))

    def lease(self, instance: int, holder: str = "pod-a", duration: int = 15) -> None:
        self.now += 0.01
        renewed = f"{_time(self.now)}"
        spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": duration}
        made = self._write("update", "leases", "gatewright", next(self.rv), {"spec": spec})
        self.leases.append(replace(made, agent=f"gatewright instance/{instance}"))

    def evidence(self, **more: Any) -> Evidence:
        return Evidence(
            "shop",
            {"web": self.release},
            self.objects,
            self.writes,
            self.leases,
            self.answers,
            **more,
        )

    def _deployment(self, tag: str, seen: bool) -> dict[str, Any]:
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
        return {
            "metadata": {"name": "web", "generation": int(self.now)},
            "spec": {
                "replicas": 1,
                "template": {"spec": {"containers": [{"name": "app", "image": f"shop/web:{tag}"}]}},
            },
            "status": {"observedGeneration": int(self.now) if seen else 0, **counts},
        }

    def _write(
        self,
        verb: str,
        resource: str,
        name: str,
        rv: int,
        request: Any,
        user: str = "gatewright-operator",
    ) -> Write:
        code, agent = (201 if verb == "create" else 200), "gatewright instance/1"
        return Write(
            verb,
            resource,
            "shop",
            name,
            user,
            agent,
            code,
            self.now - 0.005,
            self.now,
            request,
            None,
            rv,
        )


def _time(at: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")


MIGRATE, SHIP = "1.migrate.schema.1-abc123", "1.ship.deploy.1-abc123"
BACK, RESTORE = "1.rollback.0.web-abc123", "1.rollback.1.restore-abc123"


def begin() -> Story:
    """Version 1 is live, and the run of version 2 starts."""
    story = Story()
    story.lease(1)
    story.deployment("1", None, user="admin")
    story.say()
    story.status["lastGood"] = {"version": "1", "snapshot": "web-1"}
    steps = (
        [{"name": "schema", "state": "Pending", "attempt": 0}],
        [{"name": "deploy", "state": "Pending", "attempt": 0}],
    )
    unknown = [{"name": "errors", "state": "Unknown"}]
    story.meta["finalizers"] = ["gatewright.dev/run"]
    story.say(
        id=1, version="2", phase="Preflight", generation=1, attempt=1, journal=[],
        stages=[
            {"name": "migrate", "state": "Pending", "attempt": 1, "steps": steps[0], "gates": []},
            {"name": "ship", "state": "Pending", "attempt": 1, "steps": steps[1], "gates": unknown},
        ],
    )  # fmt: skip
    return story


def migrate(story: Story) -> None:
    story.stage(0, state="Running")
    story.step(0, "Running", MIGRATE)
    story.say(phase="Progressing", journal=[{"key": MIGRATE, "subject": "job/schema"}])
    story.job("schema", MIGRATE)


def ship(story: Story) -> None:
    story.step(0, "Succeeded", MIGRATE)
    story.stage(0, state="Passed")
    story.stage(1, state="Running")
    story.step(1, "Running", SHIP)
    story.say(
        journal=[{"key": MIGRATE, "subject": "job/schema"}, {"key": SHIP, "subject": "target/web"}]
    )
    story.deployment("2", SHIP)
    story.answer(0.001)


def bake(story: Story, seconds: float = 2.2) -> None:
    story.step(1, "Succeeded", SHIP)
    story.stage(1, state="Baking", gates=[{"name": "errors", "state": "Passing"}])
    story.say()
    story.wait(seconds)
    story.answer(0.002)


def promote(story: Story) -> None:
    story.stage(1, state="Passed")
    story.status["lastGood"] = {"version": "2", "snapshot": "web-1-good"}
    story.say(phase="Done", outcome="Promoted")
    rest(story)


def rest(story: Story) -> None:
    story.meta["finalizers"] = []
    story.say()


def turn(story: Story) -> None:
    """The rollback intent."""
    story.stage(1, state="Failed")
    undo = [
        {"kind": "Restore", "subject": "target/web", "key": BACK},
        {"kind": "Compensate", "subject": "step/restore", "key": RESTORE},
    ]
    story.say(phase="RollingBack", rollback={"undo": undo})


def undo(story: Story, tag: str = "1") -> None:
    story.deployment(tag, BACK)
    story.job("restore", RESTORE)


def rolled_back(story: Story) -> None:
    story.say(phase="Verifying")
    story.stage(0, state="RolledBack")
    story.say(phase="Done", outcome="RolledBack")
    rest(story)


def success(*changes: Callable[[Story], object]) -> Story:
    """A five-line success; changes go between migrate, ship, bake and promote by their place in the
    list."""
    story = begin()
    for chapter in changes or (migrate, ship, bake, promote):
        chapter(story)
    return story


def failure(*changes: Callable[[Story], object]) -> Story:
    story = begin()
    for chapter in changes or (migrate, ship, bake, turn, undo, rolled_back):
        chapter(story)
    return story


def found(story: Story, invariant: str, words: str, **more: Any) -> Report:
    report = examine(story.evidence(**more))
    hits = [one for one in report.violations if one.invariant == invariant and words in one.what]
    assert hits, f"{invariant} with {words!r} was not found among: {report}"
    return report


# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", [success, failure], ids=["promoted", "rolled back"])
def test_a_clean_history_has_no_violation_and_everything_is_looked_at(
    story: Callable[[], Story],
) -> None:
    report = examine(story().evidence(leaks=[]))
    assert report.violations == []
    assert report.checked == ["I1", "I2", "I3", "I4", "I5", "I7", "I9", "R"]


def test_without_records_nothing_is_said_to_be_checked() -> None:
    story = success()
    report = examine(Evidence("shop", {"web": story.release}, ended=False))
    assert "I4" not in report.checked
    assert "I7" not in report.checked
    assert "I9" not in report.checked
    assert "R" not in report.checked


def test_a_second_job_of_one_step() -> None:
    found(
        success(migrate, lambda s: s.job("schema-again", MIGRATE), ship, bake, promote),
        "I1",
        "2 times",
    )


def test_a_second_job_of_one_step_under_another_nonce() -> None:
    """As a start that was written twice would make it."""

    def again(story: Story) -> None:
        story.status["run"]["journal"].append({"key": "1.migrate.schema.1-ffffff"})
        story.say()
        story.job("other", "1.migrate.schema.1-ffffff")

    found(success(migrate, again, ship, bake, promote), "I1", "2 times")


def test_a_job_that_was_refused_as_existing_is_no_second_one() -> None:
    story = success()
    first = next(one for one in story.writes if one.verb == "create" and one.name == "schema")
    story.writes.append(replace(first, code=409, rv=0, received=first.received + 0.01))
    assert examine(story.evidence()).violations == []


def test_a_second_patch_of_one_step_that_changed_something() -> None:
    found(
        success(migrate, ship, lambda s: s.deployment("2b", SHIP), bake, promote), "I1", "2 times"
    )


def test_a_repeated_patch_that_changed_nothing_is_only_reported() -> None:
    story = success()
    first = next(
        one
        for one in story.writes
        if one.resource == "deployments" and one.user == "gatewright-operator"
    )
    story.writes.append(
        replace(first, received=first.received + 0.1, completed=first.completed + 0.1)
    )
    report = examine(story.evidence())
    assert report.violations == []
    assert len(report.noops) == 1
    assert SHIP in report.noops[0]


def test_a_no_op_on_top_of_the_controllers_write_is_not_taken_for_a_change() -> None:
    story = success()
    mine = next(
        one
        for one in story.writes
        if one.resource == "deployments" and one.user == "gatewright-operator"
    )
    theirs = next(
        one
        for one in story.writes
        if one.user == "controller" and one.resource == "deployments" and one.rv > mine.rv
    )
    story.writes.append(
        replace(
            mine, rv=theirs.rv, received=theirs.received + 0.1, completed=theirs.completed + 0.1
        )
    )
    assert examine(story.evidence()).violations == []


def test_an_effect_without_a_key() -> None:
    found(
        success(migrate, lambda s: s.deployment("2", None), ship, bake, promote),
        "I1",
        "a change without a key",
    )
    found(
        success(migrate, lambda s: s.job("bare", None), ship, bake, promote),
        "I1",
        "a Job without a key",
    )


def test_an_effect_before_its_intent() -> None:
    def early(story: Story) -> None:
        story.job("schema", MIGRATE)
        story.stage(0, state="Running")
        story.step(0, "Running", MIGRATE)
        story.say(phase="Progressing", journal=[{"key": MIGRATE, "subject": "job/schema"}])

    found(success(early, ship, bake, promote), "I1", "acted before the intent")


def test_an_effect_whose_intent_was_never_written() -> None:
    found(
        success(migrate, lambda s: s.job("stray", "1.migrate.stray.1-abc123"), ship, bake, promote),
        "I1",
        "no intent",
    )


def test_a_write_on_something_that_is_none_of_its_business() -> None:
    def meddle(story: Story) -> None:
        story.put("services", "web", {}, request={})

    found(success(migrate, meddle, ship, bake, promote), "I1", "no business")


def test_a_job_that_is_suspended_without_a_rollback() -> None:
    def suspend(story: Story) -> None:
        story.put(
            "jobs", "schema", {"spec": {"suspend": True}}, request={"spec": {"suspend": True}}
        )

    found(success(migrate, suspend, ship, bake, promote), "I1", "no rollback stops it")


def test_a_job_that_is_let_go_too_early_or_not_at_all() -> None:
    def let_go(story: Story) -> None:
        job = story.objects["jobs", "schema"][-1].body
        meta = job["metadata"] | {"finalizers": []}
        story.put(
            "jobs", "schema", {**job, "metadata": meta}, request={"metadata": {"finalizers": []}}
        )

    found(success(migrate, let_go, ship, bake, promote), "I1", "let go before its run had ended")
    assert examine(success(migrate, ship, bake, promote, let_go).evidence()).violations == []

    def held(story: Story) -> None:
        job = story.objects["jobs", "schema"][-1].body
        story.put(
            "jobs",
            "schema",
            {**job, "metadata": job["metadata"] | {"finalizers": ["gatewright.dev/result"]}},
            user="x",
        )

    found(success(migrate, held, ship, bake, promote), "R", "has our finalizer at rest")


def test_a_retry_that_nobody_asked_for() -> None:
    def again(story: Story) -> None:
        story.status["run"]["stages"][0]["steps"][0]["attempt"] = 2
        story.say()

    found(success(migrate, ship, again, bake, promote), "I1", "nobody asked")


def test_a_promotion_after_the_rollback_began() -> None:
    found(failure(migrate, ship, bake, turn, undo, promote), "I2", "ended Promoted after")


def test_a_step_forward_after_the_rollback_began() -> None:
    found(
        failure(migrate, ship, bake, turn, lambda s: s.deployment("2", SHIP), undo, rolled_back),
        "I2",
        "went forward",
    )


def test_a_rollback_that_never_ends() -> None:
    found(failure(migrate, ship, bake, turn, undo), "I2", "never ended")


def test_a_rollback_that_is_called_done_and_is_not() -> None:
    found(
        failure(migrate, ship, bake, turn, lambda s: undo(s, "0"), rolled_back),
        "I2",
        "is not what it was",
    )


def test_a_failed_rollback_must_call_somebody() -> None:
    def silent(story: Story) -> None:
        story.say(phase="Done", outcome="RollbackFailed")
        rest(story)

    def loud(story: Story) -> None:
        story.status["conditions"] = [{"type": "Stalled", "status": "True"}]
        silent(story)

    found(failure(migrate, ship, bake, turn, undo, silent), "I2", "nobody is called")
    assert examine(failure(migrate, ship, bake, turn, undo, loud).evidence()).violations == []


def test_a_stage_that_goes_back() -> None:
    def back(story: Story) -> None:
        story.stage(1, state="Running")
        story.say()

    found(success(migrate, ship, bake, back, promote), "I3", "went from Baking to Running")


def test_a_run_that_goes_back_or_comes_back() -> None:
    def guard_and_walk(story: Story) -> None:
        story.say(phase="Guarding")
        story.say(phase="Progressing")

    def revive(story: Story) -> None:
        promote(story)
        story.say(outcome="RolledBack")

    found(success(migrate, ship, bake, guard_and_walk, promote), "I3", "back to Progressing")
    found(success(migrate, ship, bake, revive), "I3", "had ended Promoted")


def test_a_stage_that_begins_too_early() -> None:
    def early(story: Story) -> None:
        migrate(story)
        story.stage(1, state="Running")
        story.say()

    found(success(early, ship, bake, promote), "I3", "began before migrate had passed")


def test_a_stage_that_passes_over_a_gate_or_a_step() -> None:
    def blind(story: Story) -> None:
        story.stage(1, gates=[{"name": "errors", "state": "Unknown"}])
        promote(story)

    def without(story: Story) -> None:
        story.stage(1, gates=[])
        promote(story)

    def unfinished(story: Story) -> None:
        story.step(1, "Running", SHIP)
        promote(story)

    found(success(migrate, ship, bake, blind), "I3", "while gate errors was Unknown")
    found(success(migrate, ship, bake, without), "I3", "0 of 1 gates")
    found(success(migrate, ship, bake, unfinished), "I3", "while step deploy was Running")


def test_a_step_that_is_called_done_and_did_nothing() -> None:
    def idle(story: Story) -> None:
        story.stage(0, state="Running")
        story.step(0, "Running", MIGRATE)
        story.say(phase="Progressing")

    found(success(idle, ship, bake, promote), "I3", "nothing was done")


def test_a_job_that_is_called_done_before_it_is() -> None:
    def hasty(story: Story) -> None:
        story.stage(0, state="Running")
        story.step(0, "Running", MIGRATE)
        story.say(phase="Progressing")
        story.job("schema", MIGRATE, end=None)

    found(success(hasty, ship, bake, promote), "I3", "before its Job was complete")


def test_a_rollout_that_is_called_done_before_it_is() -> None:
    def hasty(story: Story) -> None:
        ship(story)
        story.objects["deployments", "web"].pop()

    found(success(migrate, hasty, bake, promote), "I3", "before deployments/web was rolled out")


def test_a_bake_cut_short() -> None:
    found(success(migrate, ship, lambda s: bake(s, 1.0), promote), "I3", "of 2s")


def test_a_hold_does_not_count_as_baking() -> None:
    def held(story: Story) -> None:
        story.step(1, "Succeeded", SHIP)
        story.stage(1, state="Baking", gates=[{"name": "errors", "state": "Passing"}])
        story.say()
        story.wait(0.5)
        story.answer(None, "Error")
        story.wait(1.4)
        story.answer(0.002)
        story.wait(0.3)
        story.answer(0.002)

    found(success(migrate, ship, held, promote), "I3", "held")


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "Empty"), (None, "NaN"), (None, "Error"), (0.5, "Number")]
)
def test_a_promotion_on_no_good_answer(value: float | None, kind: Kind) -> None:
    def blind(story: Story) -> None:
        story.answers.clear()
        story.answer(value, kind)

    found(success(migrate, ship, bake, blind, promote), "I4", "no good answer")


def test_a_promotion_on_a_stale_answer() -> None:
    found(success(migrate, ship, bake, lambda s: s.wait(10), promote), "I4", "no answer at all")


def test_last_good_that_was_not_promoted() -> None:
    def claim(story: Story) -> None:
        story.status["lastGood"] = {"version": "2", "snapshot": "web-x"}
        story.say()

    found(success(migrate, ship, claim, bake, promote), "I5", "not promoted")
    found(failure(migrate, ship, bake, turn, claim, undo, rolled_back), "I5", "not promoted")


def test_a_baseline_that_was_not_live() -> None:
    story = success()
    for version in story.release[1:-2]:
        version.body["status"]["lastGood"]["version"] = "9"
    found(story, "I5", "not promoted")


def test_an_adoption_of_what_is_not_live() -> None:
    def adopt(live: str) -> Story:
        story = Story()
        story.deployment(live, None, user="admin")
        story.say()
        story.status = {"lastGood": {"version": "2"}, "live": {"version": "2"}}
        story.say()
        return story

    assert examine(adopt("2").evidence()).violations == []
    found(adopt("1"), "I5", "not promoted")


def test_a_write_after_the_end() -> None:
    story = success()
    end = story.now
    assert quiet(story.writes, end) == []
    story.wait(5)
    story.say()
    late = quiet(story.writes, end)
    assert [one.invariant for one in late] == ["I6"]


def test_a_write_without_the_lease() -> None:
    def stolen(story: Story) -> None:
        story.lease(2, "pod-b")

    def expired(story: Story) -> None:
        story.wait(60)

    found(success(migrate, stolen, ship, bake, promote), "I7", "while instance 2 had the Lease")
    found(success(migrate, expired, ship, bake, promote), "I7", "after its Lease had run out")
    found(
        success(migrate, lambda s: s.lease(1, ""), ship, bake, promote),
        "I7",
        "nobody had the Lease",
    )


def test_a_finalizer_a_job_and_a_deleted_release_that_stay() -> None:
    def tied(story: Story) -> None:
        promote(story)
        story.meta["finalizers"] = ["gatewright.dev/run"]
        story.say()

    def doomed(story: Story) -> None:
        promote(story)
        story.meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        story.say()

    found(success(migrate, ship, bake, tied), "R", "finalizer at rest")
    found(success(migrate, ship, bake, doomed), "R", "is deleted and still there")
    found(success(migrate, ship), "R", "never ended")
    story = success()
    ends: Sequence[Version] = story.objects["jobs", "schema"]
    story.objects["jobs", "schema"] = [ends[0]]
    found(story, "R", "still runs")


def test_a_leaked_secret_is_found_plainly_and_in_base64(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        '{"resource":"events","x":"hunter2!"}\n{"x":"aHVudGVyMiE="}\n{"resource":"secrets","x":"hunter2!"}\nfine\n'
    )
    leaks = Leaks(["hunter2!"])
    assert len(leaks.read([log])) == 2
    with log.open("a") as file:
        file.write("fine\nhunter2! again\nhunter2! but not a whole line yet")
    assert len(leaks.read([log])) == 3
    found(success(), "I9", "audit.log", leaks=leaks.found)
