"""The oracle: was the design's promise kept in one namespace? From the API server's records alone,
never the operator's word.

    I1   each operation's Job has run at most once
    I2   what is called RolledBack is what stood before, as far as the run had changed it; what others did is still there
    I3   nothing is promoted once a rollback has begun, and `lastGood` becomes only what was promoted
    I6   at rest nothing is written, and never is anything asked in a storm
    I10  what is promoted is what the workloads have, and has had
    I11  a compensation starts only when everything before it has ended
    I13  `Ready=True` stands only for the wanted version, and only while it is what the workloads have; at rest a
         difference is `Drifted`

Whoever compares two writes leaves a grace: nobody can know what was written in the moment in which
he writes himself. That every run ends (I12), and its namespace with it, is for `site` to see: it
waits for that.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.e2e.saboteur import acts, play
from tests.e2e.saboteur.draws import OLD, ON_TEMPLATES, STAGES, Draw
from tests.e2e.saboteur.records import (
    Body,
    Ending,
    Records,
    Span,
    condition,
    containers,
    crashes,
    image_of,
    job_of,
    key_of,
)

WRITE_GRACE = 2.0
"""Seconds that a difference must have stood before a write that should have known of it."""
SAY_GRACE = 10.0
"""Seconds after which a difference must have been said."""
STORM, STORM_SECONDS = 150, 5.0
"""More requests than this within so many seconds are a storm: a whole run takes about thirty."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which no operator acted, for no fault of its own."""

    began: float
    ended: float


@dataclass(slots=True)
class Case:
    """One draw, as it was played."""

    draw: Draw
    records: Records
    began: float
    acted: float | None
    """When the act began, and when it was over; None where it was not done, or refused."""
    over: float | None
    until: float
    """When the saboteur looked last."""
    outages: Sequence[Outage] = ()

    def acted_before(self, at: float) -> bool:
        """Whether the act was over, and a while ago."""
        return self.over is not None and self.over < at - WRITE_GRACE


def examine(case: Case) -> list[str]:
    """All checks; what was broken, each with its invariant."""
    return [f"{invariant}: {what}" for invariant, check in CHECKS for what in check(case)]


# --------------------------------------------------------------------------------------------------
# What is promoted


def promoted(case: Case) -> Iterator[str]:
    """I10."""
    for end in case.records.endings():
        if end.outcome != "Promoted":
            continue
        yield from _unlike(case, str(end), end.rv, end.at, dict.fromkeys(play.KINDS, end.version))
        yield from _others(case, end)
        yield from _crashing(case, end)

        def unset(body: Body | None) -> bool:
            return body is None or play.WANTED.items() - body.get("data", {}).items() != set()

        if case.records.stood("configmaps", play.FLAGS, end.rv, end.at, WRITE_GRACE, unset):
            yield f"{end.version} was promoted while its flag was {_data(case, play.FLAGS, end.rv)}"


def _crashing(case: Case, end: Ending) -> Iterator[str]:
    """Workloads of which every pod has crashed, and more than once."""
    for name in play.KINDS:
        pods = [pod for pod in case.records.pods(end.rv) if _serves(pod, name, end.version)]
        if pods and all(crashes(pod) for pod in pods):
            yield f"{end} while all pods of {name} crash again and again"


def passed(case: Case) -> Iterator[str]:
    """I10, stage by stage: none passes while what the run has deployed so far is something else."""
    seen: set[str] = set()
    for item in case.records.releases:
        run = (item.body.get("status") or {}).get("run") or {}
        for number, stage in enumerate(run.get("stages") or ()):
            mark = f"stage {stage['name']} of run {run['id']}, attempt {stage.get('attempt', 1)},"
            if stage["state"] != "Passed" or mark in seen:
                continue
            seen.add(mark)
            wanted = {name: run["version"] for name in play.KINDS if STAGES.index(name) <= number}
            yield from _unlike(case, f"{mark} passed", item.rv, item.at, wanted)


def _unlike(
    case: Case, what: str, rv: int, at: float, wanted: Mapping[str, str | None]
) -> Iterator[str]:
    """Workloads that have not had what was said for a while."""
    for name, version in wanted.items():

        def wrong(body: Body | None, version: str | None = version) -> bool:
            return image_of(body) != version

        if case.records.stood(play.PLURALS[name], name, rv, at, WRITE_GRACE, wrong):
            has = (
                image_of(case.records.newest(play.PLURALS[name], name, rv)) or "nothing: it is gone"
            )
            yield f"{what} while {name} had {has}, not {version}"


def stages(case: Case) -> Iterator[str]:
    """I3."""
    rolling: set[int] = set()
    good = None
    seen = {OLD}
    for item in case.records.releases:
        status = item.body.get("status", {})
        run = status.get("run") or {}
        if run.get("rollback"):
            rolling.add(run["id"])
        if run.get("outcome") == "Promoted":
            seen.add(run["version"])
            if run["id"] in rolling:
                yield f"run {run['id']} was promoted after its rollback had begun"
        latest = (status.get("lastGood") or {}).get("version")
        if latest != good and latest not in seen:
            yield f"lastGood became {latest}, which was never promoted"
        good = latest


# --------------------------------------------------------------------------------------------------
# What is rolled back


def home(case: Case) -> Iterator[str]:
    """I2."""
    records = case.records
    for end in records.endings():
        if end.outcome == "RollbackFailed":
            yield from _told(end)
        if end.outcome != "RolledBack":
            continue
        before = {name: records.before(name) for name in play.KINDS}
        changed = {name: image_of(body) for name, body in before.items() if body is not None}
        yield from _unlike(case, str(end), end.rv, end.at, changed)
        yield from _others(case, end)
        yield from _to_the_letter(case, end)
        yield from _configuration(case, end, set(changed))


def _told(end: Ending) -> Iterator[str]:
    run = end.status["run"]
    if not run.get("reason"):
        yield f"run {end.run} ended RollbackFailed without a reason"
    if condition(end.status, "Stalled").get("status") != "True":
        yield f"run {end.run} ended RollbackFailed and is not Stalled"


def _to_the_letter(case: Case, end: Ending) -> Iterator[str]:
    """Where nobody else changed anything the template is the snapshot's, so that the very
    ReplicaSet comes back."""
    if case.draw.act in ON_TEMPLATES:
        return
    for name in play.KINDS:
        before, now = (
            case.records.before(name),
            case.records.newest(play.PLURALS[name], name, end.rv),
        )
        if before is None or now is None:
            continue
        if before["spec"]["template"] != now["spec"]["template"] and not _configured(case):
            yield f"run {end.run} was called RolledBack with another template of {name} than before"


def _configured(case: Case) -> bool:
    """Whether pods may have been started anew for a changed configuration, which a template then
    says."""
    return case.draw.act in ("edit-configmap", "delete-configmap", "rotate-secret", "flip-flag")


def _configuration(case: Case, end: Ending, changed: set[str]) -> Iterator[str]:
    flags = case.records.was_set(play.FLAGS)
    if flags is not None:
        yield from _flag(case, end, flags)
    rolling = _rollback_began(case, end)
    early = case.acted is None or case.acted < rolling
    settings = _data(case, play.SETTINGS, end.rv)
    if "web" in changed and early and settings != play.SETTING:
        yield (
            f"the captured ConfigMap is {settings} after run {end.run} was called RolledBack, "
            f"not {play.SETTING}"
        )
    if "store" in changed:
        yield from _secret(case, end)


def _flag(case: Case, end: Ending, before: Body) -> Iterator[str]:
    now = _data(case, play.FLAGS, end.rv) or {}
    allowed = {before.get("data", {}).get("BETA")}
    if case.draw.act == "flip-flag":
        allowed.add(acts.FLIPPED["BETA"])
    if now.get("BETA") not in allowed:
        yield (
            f"the flag is {now.get('BETA')} after run {end.run} was called RolledBack; it was "
            f"{allowed}"
        )


def _secret(case: Case, end: Ending) -> Iterator[str]:
    body = case.records.newest("secrets", play.KEYS, end.rv)
    token = base64.b64decode((body or {}).get("data", {}).get("TOKEN", "")).decode()
    rotated = case.draw.act == "rotate-secret" and case.acted_before(end.at)
    wanted = acts.ROTATED["TOKEN"] if rotated else play.KEY["TOKEN"]
    if token != wanted and not (case.draw.act == "rotate-secret" and not rotated):
        yield (
            f"the key is the {token or 'lost'} one after run {end.run} was called RolledBack, "
            f"not the {wanted} one"
        )


def _others(case: Case, end: Ending) -> Iterator[str]:
    """What others did, and the run has not done, is still there."""
    if not case.acted_before(end.at):
        return
    found = case.records.newest(play.PLURALS[case.draw.workload], case.draw.workload, end.rv)
    present = {item["name"]: item for item in containers(found)} if found else {}
    if case.draw.act == "sidecar" and acts.SIDECAR not in present:
        yield f"the sidecar that others had added to {case.draw.workload} is gone at {end.outcome}"
    requests = present.get("app", {}).get("resources", {}).get("requests", {})
    if case.draw.act == "resources" and requests.get("memory") != acts.MEMORY:
        yield f"the resources that others had set on {case.draw.workload} are gone at {end.outcome}"
    if (
        case.draw.act == "flip-flag"
        and (_data(case, play.FLAGS, end.rv) or {}).get("OTHER") != "kept"
    ):
        yield f"the key that others had added to the flags is gone at {end.outcome}"


def _data(case: Case, name: str, rv: int) -> Body | None:
    body = case.records.newest("configmaps", name, rv)
    return None if body is None else body.get("data", {})


def _rollback_began(case: Case, end: Ending) -> float:
    for item in case.records.releases:
        run = item.body.get("status", {}).get("run") or {}
        if run.get("id") == end.run and run.get("rollback"):
            return item.at
    return end.at


# --------------------------------------------------------------------------------------------------
# Jobs


def once(case: Case) -> Iterator[str]:
    """I1."""
    ran: dict[str, set[str]] = {}
    for name in case.records.names("jobs"):
        for item in case.records.versions("jobs", name)[:1]:
            ran.setdefault(key_of(item.body), set()).update(case.records.started(name))
    for key, pods in ran.items():
        if key and len(pods) > 1:
            yield f"the operation {key} has run {len(pods)} times: {', '.join(sorted(pods))}"


def in_order(case: Case) -> Iterator[str]:
    """I11."""
    for name in case.records.names("jobs"):
        if play.COMPENSATION not in name:
            continue
        first = case.records.versions("jobs", name)[0]
        for pod in case.records.pods(first.rv):
            job, phase = job_of(pod), pod.get("status", {}).get("phase")
            if (
                job
                and job != name
                and phase not in ("Succeeded", "Failed")
                and case.records.started(job)
            ):
                yield f"the compensation {name} was started while a pod of {job} was {phase}"
        yield from _restored(case, name, first.rv, first.at)


def _restored(case: Case, job: str, rv: int, at: float) -> Iterator[str]:
    for name in play.KINDS:
        before = case.records.before(name)
        if before is None:
            continue
        wanted, withdrawn = image_of(before), case.draw.version

        def wrong(body: Body | None, wanted: str | None = wanted) -> bool:
            return image_of(body) != wanted

        if case.records.stood(play.PLURALS[name], name, rv, at, WRITE_GRACE, wrong):
            yield f"the compensation {job} was started before {name} was {wanted} again"
        for pod in case.records.pods(rv):
            stood = case.records.versions("pods", pod["metadata"]["name"])[0].at < at - WRITE_GRACE
            if stood and _serves(pod, name, withdrawn):
                yield (
                    f"the compensation {job} was started while pod {pod['metadata']['name']} "
                    f"ran {withdrawn}"
                )


def _serves(pod: Body, name: str, version: str) -> bool:
    mine = pod["metadata"].get("labels", {}).get("app") == name and not pod["metadata"].get(
        "deletionTimestamp"
    )
    running = pod.get("status", {}).get("phase") in ("Pending", "Running")
    return mine and running and play.version_of(pod["spec"]["containers"][0]["image"]) == version


# --------------------------------------------------------------------------------------------------
# What is said


def ready(case: Case) -> Iterator[str]:
    """I13, first half."""
    yield from _standing(case, _falsely_ready, "Ready=True stood for {0:.0f}s although {1}")


def drifted(case: Case) -> Iterator[str]:
    """I13, second half."""
    yield from _standing(case, _untold, "at rest nothing said for {0:.0f}s that {1}")


def _standing(case: Case, wrong: Callable[[Span], str], text: str) -> Iterator[str]:
    """Where something stood wrong for longer than the grace, outages left out."""
    since, what, waited = 0.0, "", 0.0
    for span in case.records.spans(case.until):
        found = wrong(span)
        if not found:
            what, waited = "", 0.0
            continue
        if not what:
            since = span.start
        fresh = waited <= SAY_GRACE
        what, waited = found, span.end - since - _deaf(case, since, span.end)
        if fresh and waited > SAY_GRACE:
            yield text.format(waited, what)


def _deaf(case: Case, start: float, end: float) -> float:
    return sum(max(0.0, min(end, item.ended) - max(start, item.began)) for item in case.outages)


def _falsely_ready(span: Span) -> str:
    status = (span.release or {}).get("status", {})
    if span.release is None or condition(status, "Ready").get("status") != "True":
        return ""
    live, wanted = (status.get("live") or {}).get("version"), span.release["spec"]["version"]
    if live != wanted:
        return f"{wanted} is wanted and {live or 'an unknown version'} live"
    return _different(span, live)


def _untold(span: Span) -> str:
    status = (span.release or {}).get("status", {})
    run, live = status.get("run") or {}, (status.get("live") or {}).get("version")
    at_rest = span.release is not None and run.get("outcome") in ("Promoted", "RolledBack")
    if not at_rest or not live or condition(status, "Drifted").get("status") == "True":
        return ""
    if (status.get("live") or {}).get("caveat"):
        return ""  # it is said that something else was found, and restored
    return _different(span, live)


def _different(span: Span, live: str) -> str:
    for name, body in span.workloads.items():
        has = image_of(body)
        if has != live:
            return f"{name} has {has or 'gone'}, not {live}"
    return ""


CHECKS: Sequence[tuple[str, Callable[[Case], Iterator[str]]]] = (
    ("I1", once),
    ("I2", home),
    ("I3", stages),
    ("I10", promoted),
    ("I10", passed),
    ("I11", in_order),
    ("I13", ready),
    ("I13", drifted),
)
