"""What happened in a namespace, a line a change, for whoever has to understand a violation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.e2e.saboteur import play
from tests.e2e.saboteur.ground import Disturbance
from tests.e2e.saboteur.records import Records, condition, containers, image_of, key_of

Line = tuple[float, str]


def lines(
    records: Records,
    notes: Sequence[Line],
    disturbances: Sequence[Disturbance],
    began: float,
    until: float,
) -> list[str]:
    """Until the namespace was deleted, in order, in seconds since the run was asked for."""
    found = [*_release(records), *_workloads(records), *_configuration(records), *_jobs(records)]
    found = [*notes, *(line for line in found if line[0] < until)]
    end = max((at for at, _ in found), default=began)
    for item in list(disturbances):
        found += [(item.began, f"everywhere: {item.what}")] if began < item.began < end else []
        found += (
            [(item.ended, f"everywhere: over: {item.what}")]
            if item.ended and began < item.ended < end
            else []
        )
    return [f"{at - began:7.2f}s  {text}" for at, text in sorted(found)]


def _release(records: Records) -> Iterator[Line]:
    last = ""
    for item in records.releases:
        text = _said(item.body.get("status") or {})
        if text != last:
            yield item.at, text
        last = text


def _said(status: Mapping[str, Any]) -> str:
    run, ready = status.get("run") or {}, condition(status, "Ready")
    where = run.get("outcome") or run.get("phase") or "at rest"
    live = (status.get("live") or {}).get("version")
    more = "".join(
        f" {kind}"
        for kind in ("Stalled", "Drifted", "Paused")
        if condition(status, kind).get("status") == "True"
    )
    words = (status.get("waitingFor") or {}).get("message") or status.get("message") or ""
    stage = "" if run.get("outcome") else f" {status.get('stage') or ''}"
    return f"Release: {where}{stage}, live {live}, Ready={ready.get('status')}{more}: {words[:220]}"


def _workloads(records: Records) -> Iterator[Line]:
    for name in play.KINDS:
        last = ""
        for item in records.workload(name):
            names = [one["name"] for one in containers(item.body)]
            status = item.body.get("status", {})
            ready = f"{status.get('readyReplicas', 0)}/{item.body['spec'].get('replicas')} ready"
            text = (
                "is gone"
                if item.gone
                else f"has {image_of(item.body)} {names} {ready}, key {key_of(item.body)}"
            )
            if text != last:
                yield item.at, f"{name} {text}"
            last = text


def _configuration(records: Records) -> Iterator[Line]:
    for resource, name in (
        ("configmaps", play.SETTINGS),
        ("configmaps", play.FLAGS),
        ("secrets", play.KEYS),
    ):
        for item in records.versions(resource, name):
            said = f"is {item.body.get('data')}" if resource == "configmaps" else "was written"
            yield item.at, f"{name} {'is gone' if item.gone else said}"


def _jobs(records: Records) -> Iterator[Line]:
    for name in records.names("jobs"):
        last = ""
        for item in records.versions("jobs", name):
            status = item.body.get("status", {})
            ended = [one["type"] for one in status.get("conditions", ()) if one["status"] == "True"]
            text = f"active {status.get('active', 0)} {' '.join(ended)}".rstrip()
            if text != last:
                yield item.at, f"job {name}: {text}"
            last = text
