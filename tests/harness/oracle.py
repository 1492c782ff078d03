"""The oracle: did a run keep what the design promises? From the API server's records alone, never
the operator's word.

    I1  each (release, run, stage, step, attempt) has its effect at most once, and only after its intent was written
    I2  a written rollback intent ends at what stood before the run, or at RollbackFailed; nothing is promoted after it
    I3  stages only advance; no step, gate or bake is skipped; a step is done only when its effect is
    I4  nothing passes without a good answer of every measured gate and guard; a hold stops the bake
    I5  lastGood only becomes a version that was promoted, adopted, or there before the first run
    I6  after the end nothing is written (`quiet`)
    I7  every write is made by an instance that has the Lease
    I9  no seeded secret stands in any audited body or log
    R   at rest there is no finalizer of ours and no unfinished Job

All resource versions come from one etcd, so "before" and "after" are comparisons of numbers. A
check that had nothing to look at (no Lease in the records, say) is left out of `Report.checked`; it
is never counted as passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gatewright.providers.runbooks import check_release
from tests.harness.recording import Version, Write, unix
from tests.harness.standin import Given

KEY = "gatewright.dev/key"
FINALIZER = "gatewright.dev/run"
RESULT = "gatewright.dev/result"
OPERATOR = "gatewright-operator"
MINE = frozenset(
    {
        "releases",
        "releases/status",
        "releases/finalizers",
        "connections/status",
        "interventions",
        "interventions/status",
        "controllerrevisions",
        "events",
        "leases",
    }
)
"""What the operator writes about itself: no effect on anybody's workload."""
CHANGED = frozenset({"deployments", "statefulsets", "configmaps", "secrets"})
STAGES = {"Pending": 0, "Running": 1, "Gating": 2, "Baking": 3, "Passed": 4}
PHASES = {
    "Preflight": 0,
    "Progressing": 1,
    "Paused": 1,
    "Guarding": 2,
    "RollingBack": 3,
    "Verifying": 4,
    "Done": 5,
}
BACK = ("RollingBack", "Verifying")
ENDINGS = ("RolledBack", "RollbackFailed", "Superseded", "Aborted")
SLACK = 0.15
"""Seconds that two clocks, and a write on its way, may make of a difference."""

_REFERENCE = re.compile(r"\$\(([^()\s]+)\)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass(slots=True)
class Evidence:
    """Everything that happened in one namespace."""

    namespace: str
    releases: Mapping[str, Sequence[Version]]
    objects: Mapping[tuple[str, str], Sequence[Version]] = field(default_factory=dict)
    """By resource and name: deployments, configmaps, jobs."""
    writes: Sequence[Write] = ()
    """Of everybody, in the order in which they were received; with bodies."""
    leases: Sequence[Write] = ()
    answers: Sequence[Given] = ()
    leaks: Sequence[str] | None = None
    """What `recording.Leaks` found; None where no secret was seeded."""
    ended: bool = True
    """Whether every run should be over."""
    operator: str = OPERATOR

    def by_operator(self) -> Iterator[Write]:
        return (one for one in self.writes if one.user == self.operator)


@dataclass(slots=True)
class Report:
    """What was found, and what was looked at."""

    violations: list[Violation]
    noops: list[str]
    """Writes with a key that came again and changed nothing: harmless, but worth a look."""
    checked: list[str]

    def __str__(self) -> str:
        found = "\n".join(f"  {one}" for one in self.violations) or "  none"
        return f"violations ({', '.join(self.checked)} checked):\n{found}"


def examine(evidence: Evidence) -> Report:
    """All checks."""
    case = _Case(evidence)
    violations: list[Violation] = []
    checked = []
    for invariant, applies, check in CHECKS:
        if applies(case):
            checked.append(invariant)
            violations += [Violation(invariant, what) for what in check(case)]
    return Report(violations, case.noops, sorted(set(checked)))


AT_REST = ("leases", "connections", "connections/status")
"""What may be written while nothing is being released."""


def quiet(writes: Sequence[Write], since: float, operator: str = OPERATOR) -> list[Violation]:
    """I6: no write of the operator after a time; but for Leases, and for Connections, which say of
    themselves whether they are answered."""
    late = [
        one
        for one in writes
        if one.user == operator and one.resource not in AT_REST and one.received > since
    ]
    return [
        Violation("I6", f"written {one.received - since:.1f}s after the end: {one}") for one in late
    ]


# --------------------------------------------------------------------------------------------------
# Reading the records


@dataclass(frozen=True, slots=True)
class Effect:
    """A write that changed something outside the operator's own records."""

    write: Write
    key: str | None
    changed: bool
    subject: str
    """`jobs/NAME`, `deployments/NAME` ..."""

    @property
    def rv(self) -> int:
        return self.write.rv


@dataclass(frozen=True, slots=True)
class Intent:
    """Where a key was first written into a status."""

    release: str
    uid: str
    rv: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A run as one version of its Release has it."""

    version: Version
    run: Mapping[str, Any]

    @property
    def rv(self) -> int:
        return self.version.rv


def key_of(write: Write) -> str | None:
    """The key that a write's body puts on its object."""
    body = write.request
    if isinstance(body, list):
        for op in body:
            if str(op.get("path", "")).startswith("/metadata/annotations"):
                value = op.get("value")
                if isinstance(value, dict) and KEY in value:
                    return str(value[KEY])
                if op["path"].endswith("gatewright.dev~1key"):
                    return str(value)
        return None
    if isinstance(body, dict):
        found = (body.get("metadata") or {}).get("annotations", {}).get(KEY)
        return str(found) if found else None
    return None


def plain(key: str) -> str:
    """A key without its nonce: the place in the run, whatever process or start it came from."""
    return key.rpartition("-")[0]


def run_of(key: str) -> int:
    """The run a key belongs to; an Undo acts under the number of the run that it undoes."""
    parts = plain(key).split(".")
    undo = re.fullmatch(r"undo(\d+)", parts[1]) if len(parts) > 1 else None
    head = undo[1] if undo is not None else parts[0]
    return int(head) if head.isdigit() else 0


def forward(key: str) -> bool:
    """Whether a key leads onward, not back."""
    parts = plain(key).split(".")
    return len(parts) > 1 and not parts[1].startswith(("rollback", "verify", "undo"))


class _Case:
    """The evidence, taken apart once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.noops: list[str] = []
        self.effects = list(_effects(evidence))
        self.intents = _intents(evidence)
        self.runs = {
            (name, number): moments
            for name, versions in evidence.releases.items()
            for number, moments in _moments(versions).items()
        }

    def spec(self, release: str, run: Mapping[str, Any]) -> Mapping[str, Any]:
        """The spec that a run pinned."""
        for version in self.evidence.releases[release]:
            if version.body["metadata"].get("generation") == run.get("generation"):
                return self._with_runbook(version.body["spec"], run)
        raise LookupError(f"generation {run.get('generation')} of {release} was not recorded")

    def _with_runbook(self, spec: Mapping[str, Any], run: Mapping[str, Any]) -> Mapping[str, Any]:
        """The spec with the body of the Runbook that the run says it has used."""
        used = run.get("runbook")
        if used is None:
            return spec
        for version in self.evidence.objects.get(("runbooks", used["name"]), ()):
            if version.body["metadata"]["generation"] == used["generation"]:
                found, problems = check_release(spec, version.body["spec"], used["name"])
                assert found is not None and not list(problems)
                return found.model_dump(mode="json", by_alias=True, exclude_none=True)
        raise LookupError(f"Runbook {used} was not recorded")

    def of_run(self, release: str, number: int) -> list[Effect]:
        """Effects that carry a key of a run."""
        return [
            effect
            for effect in self.effects
            if effect.key and run_of(effect.key) == number and self.owner(effect) == release
        ]

    def owner(self, effect: Effect) -> str | None:
        """The Release an effect belongs to: the owner of a Job, else whoever wrote the intent."""
        uid = _owner(effect.write)
        if uid is not None:
            return next(
                (
                    name
                    for name, versions in self.evidence.releases.items()
                    if _uid(versions) == uid
                ),
                None,
            )
        intent = self.intents.get(effect.key or "")
        return intent.release if intent else None

    def at(self, subject: str, rv: int) -> Mapping[str, Any] | None:
        """An object as it was at a resource version."""
        resource, _, name = subject.partition("/")
        found = [one for one in self.evidence.objects.get((resource, name), ()) if one.rv <= rv]
        return found[-1].body if found and not found[-1].gone else None


def _effects(evidence: Evidence) -> Iterator[Effect]:
    """What the operator made or changed. A version belongs to whoever wrote it first; who gets it
    again changed nothing."""
    written: set[tuple[str, str, int]] = set()
    for write in sorted(
        (one for one in evidence.writes if one.done), key=lambda one: (one.completed, one.received)
    ):
        changed = (write.resource.partition("/")[0], write.name, write.rv) not in written
        written.add((write.resource.partition("/")[0], write.name, write.rv))
        if write.user == evidence.operator and write.resource not in MINE:
            yield Effect(write, key_of(write), changed, f"{write.resource}/{write.name}")


def _intents(evidence: Evidence) -> dict[str, Intent]:
    found: dict[str, Intent] = {}
    for name, versions in evidence.releases.items():
        for version in versions:
            status = version.body.get("status") or {}
            for key in (*_keys(status.get("run") or {}), *_keys_of_procedures(status)):
                found.setdefault(key, Intent(name, version.body["metadata"]["uid"], version.rv))
    return found


def _keys(run: Mapping[str, Any]) -> Iterator[str]:
    for stage in run.get("stages", ()):
        yield from (step["key"] for step in stage.get("steps", ()) if step.get("key"))
    yield from (entry["key"] for entry in run.get("journal", ()))
    yield from (
        line["key"] for line in (run.get("rollback") or {}).get("undo", ()) if line.get("key")
    )


def _keys_of_procedures(status: Mapping[str, Any]) -> Iterator[str]:
    for row in status.get("procedures", ()):
        yield from (step["key"] for step in row.get("steps", ()) if step.get("key"))


def _moments(versions: Sequence[Version]) -> dict[int, list[Moment]]:
    found: dict[int, list[Moment]] = {}
    for version in versions:
        run = (version.body.get("status") or {}).get("run")
        if run:
            found.setdefault(int(run["id"]), []).append(Moment(version, run))
    return found


def _owner(write: Write) -> str | None:
    body = write.request if isinstance(write.request, dict) else {}
    owners = (body.get("metadata") or {}).get("ownerReferences", [])
    return str(owners[0]["uid"]) if owners else None


def _uid(versions: Sequence[Version]) -> str:
    return str(versions[0].body["metadata"]["uid"])


def _gone(versions: Sequence[Version]) -> bool:
    return bool(versions) and versions[-1].gone


# --------------------------------------------------------------------------------------------------
# I1: at most once, and after the intent


def _once(case: _Case) -> Iterator[str]:
    seen: dict[tuple[str, str, str], list[Effect]] = {}
    for effect in case.effects:
        if effect.key is None or (effect.write.verb == "delete"):
            continue
        if not effect.changed:
            case.noops.append(f"{effect.key} again, without a change: {effect.write}")
            continue
        # One Job for one key, whatever its name; one change for one key and object.
        place = (
            "job"
            if effect.write.resource == "jobs" and effect.write.verb == "create"
            else effect.subject
        )
        identity = (case.owner(effect) or "", plain(effect.key), place)
        seen.setdefault(identity, []).append(effect)
    for (release, place, subject), effects in seen.items():
        if len(effects) > 1:
            writes = "; ".join(str(effect.write) for effect in effects)
            yield f"{release} {place} ({subject}) took effect {len(effects)} times: {writes}"


def _keyed(case: _Case) -> Iterator[str]:
    """Every effect says what it belongs to; and the operator touches nothing it has no business
    with."""
    for effect in case.effects:
        write = effect.write
        if write.resource == "jobs" and write.verb == "create" and effect.key is None:
            yield f"a Job without a key: {write}"
        elif (
            write.resource in CHANGED
            and write.verb in ("patch", "update")
            and effect.changed
            and effect.key is None
        ):
            yield f"a change without a key: {write}"
        elif write.resource not in CHANGED | {"jobs"}:
            yield f"the operator has no business with {write}"


def _intent_first(case: _Case) -> Iterator[str]:
    for effect in case.effects:
        if effect.key is None:
            if effect.write.resource == "jobs" and effect.write.verb == "patch":
                yield from (
                    _let_go(case, effect)
                    if _frees(effect.write.request)
                    else _stop_intended(case, effect)
                )
            continue
        intent = case.intents.get(effect.key)
        rv = intent.rv if intent else _implied(case, effect)
        if rv is None:
            yield f"no intent was ever written for {effect.key}: {effect.write}"
        elif effect.changed and effect.rv <= rv:
            yield f"acted before the intent of {effect.key} was written (rv {rv}): {effect.write}"


def _implied(case: _Case, effect: Effect) -> int | None:
    """Jobs of preflight and of verification have no line of their own: the phase is their
    intent."""
    parts = [part for part in plain(effect.key or "").split(".") if not part.startswith("undo")]
    phase = {"preflight": "Preflight", "verify": "Verifying"}.get(
        parts[1] if len(parts) > 1 else ""
    )
    release = case.owner(effect)
    moments = case.runs.get((release or "", run_of(effect.key or "")), [])
    return next((moment.rv for moment in moments if moment.run["phase"] == phase), None)


def _frees(body: Any) -> bool:
    """Whether a patch does nothing but change the finalizers."""
    return (
        isinstance(body, dict)
        and set(body) == {"metadata"}
        and set(body["metadata"]) == {"finalizers"}
    )


def _of_ended_procedure(case: _Case, key: str, rv: int) -> bool:
    """Whether a key is of a procedure that had ended at a resource version."""
    number = plain(key).split(".")[0].removeprefix("p")
    for versions in case.evidence.releases.values():
        for version in versions:
            rows = (version.body.get("status") or {}).get("procedures", ())
            ended = {str(row["id"]) for row in rows if row.get("finishedAt")}
            if version.rv < rv and key.startswith("p") and number in ended:
                return True
    return False


def _let_go(case: _Case, effect: Effect) -> Iterator[str]:
    """A Job stands until its run has ended or stops it, so that it cannot vanish unread."""
    job = case.at(effect.subject, effect.rv) or case.at(effect.subject, effect.rv - 1)
    key = str((job or {}).get("metadata", {}).get("annotations", {}).get(KEY, ""))
    owners = [item["uid"] for item in (job or {}).get("metadata", {}).get("ownerReferences", ())]
    for (release, number), moments in case.runs.items():
        ours = number == run_of(key) and _uid(case.evidence.releases[release]) in owners
        if ours and any(moment.run.get("outcome") and moment.rv < effect.rv for moment in moments):
            return
    if _of_ended_procedure(case, key, effect.rv):
        return
    if effect.changed and not _stopped(case, effect):
        yield f"a Job was let go before its run had ended: {effect.write}"


def _stop_intended(case: _Case, effect: Effect) -> Iterator[str]:
    if not _stopped(case, effect):
        yield f"a Job was changed, and no rollback stops it: {effect.write}"


def _stopped(case: _Case, effect: Effect) -> bool:
    """Whether a rollback's line that stops the Job was written before."""
    for moments in case.runs.values():
        for moment in moments:
            lines = (moment.run.get("rollback") or {}).get("undo", ())
            stops = any(
                line["kind"] == "Stop" and line["subject"] == f"job/{effect.write.name}"
                for line in lines
            )
            if stops and (moment.rv < effect.rv or not effect.changed):
                return True
    return False


def _no_unasked_retry(case: _Case) -> Iterator[str]:
    for (release, number), moments in case.runs.items():
        for stage in moments[-1].run.get("stages", ()):
            for step in stage.get("steps", ()):
                if step.get("attempt", 0) > stage.get("attempt", 1):
                    yield (
                        f"{release} run {number}: step {stage['name']}/{step['name']} was "
                        "tried again and nobody asked"
                    )


# --------------------------------------------------------------------------------------------------
# I2: the way back


def _turned(moments: Sequence[Moment]) -> Moment | None:
    """Where the intent to undo the whole run was written."""
    for moment in moments:
        is_back = moment.run.get("rollback") or moment.run["phase"] in BACK
        if is_back and _stage_undone(moment.run) is None:
            return moment
    return None


def _stage_undone(run: Mapping[str, Any]) -> str | None:
    """The one stage that is undone while the run itself goes on."""
    stage = (run.get("rollback") or {}).get("stage")
    return str(stage) if stage else None


def _nothing_beside_a_stage(case: _Case) -> Iterator[str]:
    """While one stage is undone nothing goes forward."""
    for (release, number), moments in case.runs.items():
        for old, new in pairwise(moments):
            stage = _stage_undone(old.run)
            for effect in case.of_run(release, number) if stage is not None else ():
                during = effect.changed and effect.key and old.rv < effect.rv < new.rv
                if during and forward(effect.key or "") and not _bars(case, effect):
                    yield (
                        f"{release} run {number} went forward while stage {stage} was undone "
                        f"(rv {old.rv}): {effect.write}"
                    )


def _no_way_forward(case: _Case) -> Iterator[str]:
    for (release, number), moments in case.runs.items():
        turned = _turned(moments)
        if turned is None:
            continue
        for moment in moments:
            if moment.rv >= turned.rv and moment.run.get("outcome") in ("Promoted", "Observed"):
                yield (
                    f"{release} run {number} ended {moment.run['outcome']} after its rollback "
                    "had begun"
                )
        for effect in case.of_run(release, number):
            late = effect.changed and effect.key and forward(effect.key) and effect.rv > turned.rv
            if late and not _bars(case, effect):
                yield (
                    f"{release} run {number} went forward after its rollback had begun (rv "
                    f"{turned.rv}): {effect.write}"
                )
        last = moments[-1]
        if (
            case.evidence.ended
            and last.run.get("outcome") not in ENDINGS
            and not _gone(case.evidence.releases[release])
        ):
            yield f"{release} run {number}: the rollback never ended ({last.run['phase']})"


def _bars(case: _Case, effect: Effect) -> bool:
    """Whether a Job was made suspended in place of one that its rollback stops: a late request then
    finds the name taken."""
    body = effect.write.request
    return (
        isinstance(body, dict)
        and body.get("spec", {}).get("suspend") is True
        and _stopped(case, effect)
    )


def _returned(case: _Case) -> Iterator[str]:
    for (release, number), moments in case.runs.items():
        end = next((moment for moment in moments if moment.run.get("outcome")), None)
        before = case.runs.get((release, number - 1))
        if (
            end is None
            or _turned(moments) is None
            or (before and before[-1].run.get("outcome") == "RollbackFailed")
        ):
            continue
        if end.run["outcome"] == "RollbackFailed":
            kinds = {
                item["type"]: item["status"]
                for item in end.version.body["status"].get("conditions", ())
            }
            if kinds.get("Stalled") != "True":
                yield (
                    f"{release} run {number}: RollbackFailed, and nobody is called (Stalled is "
                    "not True)"
                )
            continue
        touched = {
            effect.subject: effect
            for effect in case.of_run(release, number)
            if effect.key and forward(effect.key) and not effect.subject.startswith("jobs/")
        }
        for subject in touched:
            was, now = case.at(subject, moments[0].rv - 1), case.at(subject, end.rv)
            if was is None or now is None or _content(was) != _content(now):
                yield (
                    f"{release} run {number} ended {end.run['outcome']}, but {subject} is not "
                    "what it was before the run"
                )


def _content(body: Mapping[str, Any]) -> Any:
    """What a rollback has to bring back."""
    if "template" in body.get("spec", {}):
        return body["spec"]["template"]
    return body.get("data", {}), body.get("binaryData", {})


# --------------------------------------------------------------------------------------------------
# I3: only forward, nothing skipped


def _undone_again(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """What others have overwritten is returned once more, which is counted."""
    if new["phase"] != "RollingBack" or old["phase"] not in BACK:
        return False
    return bool(new["rollback"].get("attempt", 1) == old["rollback"].get("attempt", 1) + 1)


def _advancing(case: _Case) -> Iterator[str]:
    for (release, number), moments in case.runs.items():
        where = f"{release} run {number}"
        for old, new in pairwise(moments):
            goes_on = _stage_undone(old.run) is not None and new.run["phase"] in (
                "Progressing",
                "Guarding",
            )
            is_earlier = PHASES[new.run["phase"]] < PHASES[old.run["phase"]]
            if is_earlier and not goes_on and not _undone_again(old.run, new.run):
                yield (
                    f"{where} went from {old.run['phase']} back to {new.run['phase']} (rv {new.rv})"
                )
            if old.run.get("outcome") and old.run.get("outcome") != new.run.get("outcome"):
                yield (
                    f"{where} had ended {old.run['outcome']} and then {new.run.get('outcome')} "
                    f"(rv {new.rv})"
                )
            for before, after in zip(
                old.run.get("stages", ()), new.run.get("stages", ()), strict=False
            ):
                is_alone = _stage_undone(old.run) == after["name"]
                yield from _stage_advanced(where, before, after, new, is_alone)
    for release, versions in case.evidence.releases.items():
        numbers = [moment["id"] for moment in _runs(versions)]
        if numbers != sorted(numbers):
            yield f"{release}: an earlier run came back ({numbers})"


def _runs(versions: Sequence[Version]) -> Iterator[Mapping[str, Any]]:
    return (run for version in versions if (run := (version.body.get("status") or {}).get("run")))


def _stage_advanced(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], moment: Moment, is_alone: bool
) -> Iterator[str]:
    was, now = old["state"], new["state"]
    again = new.get("attempt", 1) > old.get("attempt", 1)
    # a Job that has failed is stopped before what somebody skips is left behind
    skipped = new.get("skippedBy") or any(step.get("skippedBy") for step in new.get("steps", ()))
    fine = (
        was == now
        or (now == "RolledBack" and (is_alone or moment.run.get("rollback")))
        or (was in STAGES and now in STAGES and STAGES[now] > STAGES[was])
        or (was in STAGES and was != "Passed" and now in ("Failed", "Skipped"))
        or (was == "Failed" and again and now in (*STAGES, "Skipped"))
        or (was == "Failed" and now == "Skipped")
        or (was == "Failed" and now == "Running" and skipped)
    )
    if not fine:
        yield f"{where}: stage {new['name']} went from {was} to {now} (rv {moment.rv})"


def _undoes(run: Mapping[str, Any]) -> bool:
    return bool(run.get("kind") == "Undo")


def _in_order(case: _Case) -> Iterator[str]:
    """A stage begins when all before it are over."""
    for (release, number), moments in case.runs.items():
        # Its stages are those of the run that it undoes.
        for moment in moments if not _undoes(moments[0].run) else ():
            stages = moment.run.get("stages", ())
            wanted = case.spec(release, moment.run)["stages"]
            open_: str | None = None
            for stage, spec in zip(stages, wanted, strict=False):
                if stage["state"] != "Pending" and open_ is not None:
                    yield (
                        f"{release} run {number}: stage {stage['name']} began before {open_} "
                        f"had passed (rv {moment.rv})"
                    )
                    break
                goes_on = stage["state"] == "Failed" and spec.get("onFailure") == "Continue"
                if stage["state"] not in ("Passed", "Skipped", "RolledBack") and not goes_on:
                    open_ = stage["name"]


def _passages(case: _Case) -> Iterator[tuple[str, int, int, Moment, Sequence[Moment]]]:
    """Every first version in which a stage is Passed: release, run, index of the stage, that
    moment, all moments."""
    for (release, number), moments in case.runs.items():
        if _undoes(moments[0].run):
            continue
        for index in range(len(moments[0].run.get("stages", ()))):
            passed = next(
                (one for one in moments if one.run["stages"][index]["state"] == "Passed"), None
            )
            if passed is not None:
                yield release, number, index, passed, moments


def _nothing_skipped(case: _Case) -> Iterator[str]:
    for release, number, index, passed, moments in _passages(case):
        stage, where = passed.run["stages"][index], f"{release} run {number} stage"
        wanted = case.spec(release, passed.run)["stages"][index]
        for gate in stage.get("gates", ()):
            if gate["state"] != "Passing":
                yield (
                    f"{where} {stage['name']} passed while gate {gate['name']} was {gate['state']}"
                )
        if len(stage.get("gates", ())) != len(wanted.get("gates", ())):
            yield (
                f"{where} {stage['name']} passed with {len(stage.get('gates', ()))} of "
                f"{len(wanted['gates'])} gates"
            )
        for status, step in zip(stage.get("steps", ()), wanted.get("steps", ()), strict=True):
            if status["state"] not in ("Succeeded", "Skipped"):
                yield (
                    f"{where} {stage['name']} passed while step {status['name']} was "
                    f"{status['state']}"
                )
            elif status["state"] == "Succeeded" and not passed.run.get("observe"):
                yield from _step_done(case, release, number, stage["name"], status, step, moments)


def _step_done(
    case: _Case,
    release: str,
    number: int,
    stage: str,
    status: Mapping[str, Any],
    step: Mapping[str, Any],
    moments: Sequence[Moment],
) -> Iterator[str]:
    """A step that succeeded has had its effect, and the effect was complete when the step was
    called done."""
    if not {"deploy", "job", "flags"} & set(step) or not case.evidence.writes:
        return
    where = f"{release} run {number} step {stage}/{status['name']}"
    effects = [effect for effect in case.effects if effect.key == status.get("key")]
    if not effects:
        yield f"{where} succeeded and nothing was done"
        return
    done = next(
        one
        for one in moments
        for item in one.run["stages"]
        if item["name"] == stage
        for line in item.get("steps", ())
        if line["name"] == status["name"] and line["state"] == "Succeeded"
    )
    for effect in effects:
        if "job" in step:
            found = case.at(f"jobs/{effect.write.name}", done.rv)
            if found is None or not _complete(found):
                yield f"{where} was called Succeeded before its Job was complete"
        elif effect.write.resource == "deployments" and not _rolled_out(case, effect, done.rv):
            yield f"{where} was called Succeeded before {effect.subject} was rolled out"


def _complete(job: Mapping[str, Any]) -> bool:
    return any(
        item["type"] == "Complete" and item["status"] == "True"
        for item in job.get("status", {}).get("conditions", ())
    )


def _rolled_out(case: _Case, effect: Effect, rv: int) -> bool:
    resource, _, name = effect.subject.partition("/")
    versions = [
        one for one in case.evidence.objects.get((resource, name), ()) if effect.rv <= one.rv < rv
    ]
    return any(_all_new(one.body) for one in versions)


def _all_new(deployment: Mapping[str, Any]) -> bool:
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    if wanted == 0:
        return True
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")]
    return seen and counts == [wanted] * 3


def _baked(case: _Case) -> Iterator[str]:
    """From the last effect of a stage to its passing there lies the whole bake, holds not counted,
    unless a person ends it."""
    for release, number, index, passed, _ in _passages(case):
        wanted = case.spec(release, passed.run)["stages"][index]
        bake = seconds(wanted.get("bake", "0s"))
        effects = [
            effect
            for effect in case.of_run(release, number)
            if effect.changed and _in_stage(effect, wanted)
        ]
        ended_early = any(line.startswith("Promote ") for line in passed.run.get("people", ()))
        if not bake or not effects or ended_early:
            continue
        begun = max(effect.write.received for effect in effects)
        held = max(
            (
                _held(case, gate, _names(release, case, passed, wanted), begun, passed.version.at)
                for gate in wanted.get("gates", ())
            ),
            default=0.0,
        )
        lasted = passed.version.at - begun - held
        if lasted < bake - SLACK:
            yield (
                f"{release} run {number}: stage {wanted['name']} baked {lasted:.2f}s of "
                f"{bake:g}s ({held:.2f}s held)"
            )


def _in_stage(effect: Effect, stage: Mapping[str, Any]) -> bool:
    parts = plain(effect.key or "").split(".")
    return len(parts) > 2 and parts[1] == stage["name"]


# --------------------------------------------------------------------------------------------------
# I4: absent is not good


def _answered(case: _Case) -> Iterator[str]:
    for release, number, index, passed, _ in _passages(case):
        spec = case.spec(release, passed.run)
        wanted = spec["stages"][index]
        guards = [
            guard
            for guard in spec.get("guards", ())
            if guard.get("action", "Rollback") == "Rollback"
        ]
        for check in (*wanted.get("gates", ()), *guards):
            if "prometheus" not in check:
                continue
            query = expand(check["prometheus"]["query"], _names(release, case, passed, wanted))
            window = 3 * seconds(check.get("interval", "10s")) + SLACK
            recent = [
                one
                for one in case.evidence.answers
                if one.query == query
                and passed.version.at - window <= one.at <= passed.version.at + SLACK
            ]
            if not any(good(check, one) for one in recent):
                got = (
                    ", ".join(one.kind if one.value is None else str(one.value) for one in recent)
                    or "no answer at all"
                )
                yield (
                    f"{release} run {number}: stage {wanted['name']} passed and "
                    f"{check['name']} had no good answer ({got})"
                )


def _held(
    case: _Case, gate: Mapping[str, Any], names: Mapping[str, str], start: float, end: float
) -> float:
    """How long a gate had no data: from an answer without data to the next with some, and where
    answers are missing."""
    if "prometheus" not in gate:
        return 0.0
    query, interval = (
        expand(gate["prometheus"]["query"], names),
        seconds(gate.get("interval", "10s")),
    )
    told = [one for one in case.evidence.answers if one.query == query and start <= one.at <= end]
    held, silent = 0.0, None
    for old, new in zip([None, *told], told, strict=False):
        if old is not None and silent is None and new.at - old.at > 3 * interval:
            held += new.at - old.at - 2 * interval
        if new.kind in ("NaN", "Empty", "Error"):
            silent = new.at if silent is None else silent
        elif silent is not None:
            held, silent = held + new.at - silent, None
    return held


def good(check: Mapping[str, Any], given: Given) -> bool:
    """Whether an answer is a number within the limits."""
    if given.value is None or given.kind != "Number":
        return False
    above = "max" in check and given.value > quantity(check["max"])
    below = "min" in check and given.value < quantity(check["min"])
    return not above and not below


def _names(release: str, case: _Case, moment: Moment, stage: Mapping[str, Any]) -> dict[str, str]:
    spec = case.spec(release, moment.run)
    names = {"version": moment.run["version"], "run": str(moment.run["id"]), "stage": stage["name"]}
    return names | {f"vars.{name}": value for name, value in spec.get("vars", {}).items()}


def expand(text: str, names: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: names.get(match[1], match[0]), text)


def seconds(text: str) -> float:
    return sum(
        float(number) * _UNITS[unit]
        for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    )


def quantity(text: str) -> float:
    if text.endswith("%"):
        return float(text[:-1]) / 100
    return seconds(text) if text[-1:].isalpha() else float(text)


# --------------------------------------------------------------------------------------------------
# I5: last good


def _last_good(case: _Case) -> Iterator[str]:
    for release, versions in case.evidence.releases.items():
        old: Mapping[str, Any] = {}
        earlier: list[tuple[Any, Any]] = []
        for version in versions:
            status = version.body.get("status") or {}
            new = status.get("lastGood") or {}
            if (new.get("version"), new.get("snapshot")) != (
                old.get("version"),
                old.get("snapshot"),
            ):
                returned = (new.get("version"), new.get("snapshot")) in earlier
                undone = returned and _undoes(status.get("run") or {})
                if not undone and not _deserved(case, release, version, old, new):
                    yield (
                        f"{release}: lastGood became {new} although that version was not "
                        f"promoted (rv {version.rv})"
                    )
            old = new
            earlier.append((new.get("version"), new.get("snapshot")))


def _deserved(
    case: _Case, release: str, version: Version, old: Mapping[str, Any], new: Mapping[str, Any]
) -> bool:
    status, spec = version.body["status"], version.body["spec"]
    run = status.get("run") or {}
    promoted = run.get("outcome") == "Promoted" and run["version"] == new.get("version")
    if promoted and all(
        stage["state"] in ("Passed", "Failed", "Skipped") for stage in run["stages"]
    ):
        return True
    if not old and run.get("id") == 1 and run.get("outcome") != "Promoted":
        return _live(case, spec, version.rv) in (new.get("version") or None, None)
    adopted = not run or bool(run.get("outcome"))
    return adopted and new.get("version") == spec["version"] == _live(case, spec, version.rv)


def _live(case: _Case, spec: Mapping[str, Any], rv: int) -> str | None:
    """The tag that every workload target has at a resource version; None where there is not one."""
    tags = set()
    for target in spec.get("targets", ()):
        workload = target.get("workload") or {}
        found = case.at(f"{workload.get('kind', 'Deployment').lower()}s/{workload.get('name')}", rv)
        if found is None:
            return None
        for container in found["spec"]["template"]["spec"]["containers"]:
            if container["name"] in workload.get("images", {}):
                tags.add(container["image"].rpartition(":")[2])
    return tags.pop() if len(tags) == 1 else None


# --------------------------------------------------------------------------------------------------
# I7, I9, R


def _leased(case: _Case) -> Iterator[str]:
    held = sorted(
        (one for one in case.evidence.leases if one.done and one.rv), key=lambda one: one.rv
    )
    for write in case.evidence.by_operator():
        if write.resource == "leases" or not write.done or write.instance is None:
            continue
        lease = next((one for one in reversed(held) if one.received <= write.received), None)
        spec = (lease.request or {}).get("spec", {}) if lease else {}
        if lease is None or not spec.get("holderIdentity"):
            yield f"instance {write.instance} wrote and nobody had the Lease: {write}"
        elif lease.instance != write.instance:
            yield (
                f"instance {write.instance} wrote while instance {lease.instance} had the "
                f"Lease: {write}"
            )
        elif write.received > unix(spec["renewTime"]) + float(spec["leaseDurationSeconds"]):
            yield f"instance {write.instance} wrote after its Lease had run out: {write}"


def _secrets(case: _Case) -> Iterator[str]:
    yield from (f"a seeded secret stands in {where}" for where in case.evidence.leaks or ())


def _at_rest(case: _Case) -> Iterator[str]:
    for release, versions in case.evidence.releases.items():
        last = versions[-1]
        run = (last.body.get("status") or {}).get("run") or {}
        if last.gone:
            continue
        if last.body["metadata"].get("deletionTimestamp"):
            yield f"{release} is deleted and still there: {last.body['metadata'].get('finalizers')}"
        if run and not run.get("outcome") and run["phase"] not in ("Guarding", "Paused"):
            yield f"{release} run {run['id']} never ended: {run['phase']}"
        elif FINALIZER in last.body["metadata"].get("finalizers", ()) and run.get("outcome"):
            yield f"{release} has our finalizer at rest"
    for (resource, name), found in case.evidence.objects.items():
        job = found[-1]
        ours = resource == "jobs" and KEY in job.body["metadata"].get("annotations", {})
        if not ours or job.gone:
            continue
        if RESULT in job.body["metadata"].get("finalizers", ()):
            yield f"job {name} has our finalizer at rest"
        if job.body["spec"].get("suspend"):
            continue
        ends = {
            item["type"]
            for item in job.body.get("status", {}).get("conditions", ())
            if item["status"] == "True"
        }
        if not ends & {"Complete", "Failed"}:
            yield f"job {name} still runs and nobody waits for it"


def _always(case: _Case) -> bool:
    return True


def _with_writes(case: _Case) -> bool:
    return any(True for _ in case.evidence.by_operator())


CHECKS: tuple[tuple[str, Callable[[_Case], bool], Callable[[_Case], Iterator[str]]], ...] = (
    ("I1", _with_writes, _once),
    ("I1", _with_writes, _keyed),
    ("I1", _with_writes, _intent_first),
    ("I1", _always, _no_unasked_retry),
    ("I2", _always, _no_way_forward),
    ("I2", _always, _nothing_beside_a_stage),
    ("I2", lambda case: _with_writes(case) and bool(case.evidence.objects), _returned),
    ("I3", _always, _advancing),
    ("I3", _always, _in_order),
    ("I3", lambda case: _with_writes(case) and bool(case.evidence.objects), _nothing_skipped),
    ("I3", _with_writes, _baked),
    ("I4", lambda case: bool(case.evidence.answers), _answered),
    ("I5", lambda case: bool(case.evidence.objects), _last_good),
    ("I7", lambda case: any(one.instance is not None for one in case.evidence.leases), _leased),
    ("I9", lambda case: case.evidence.leaks is not None, _secrets),
    ("R", lambda case: case.evidence.ended, _at_rest),
)
