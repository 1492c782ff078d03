"""B2: many Releases at once, against the API server itself (no proxy in between).

Requests are counted from the API server's audit log by user, Leases apart; CPU comes from
/proc/PID/stat, memory is the proportional set size. The workloads have `replicas: 0`, so that what
is measured is the operator and not a cluster.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.figures import spread
from tests.cluster.audit import user_of
from tests.harness.lab import Lab, Site
from tests.harness.oracle import OPERATOR
from tests.harness.recording import MUTATING, unix
from tests.harness.scenarios import INTERVAL, query

RELEASES = int(os.environ.get("GATEWRIGHT_BENCH_RELEASES", "200"))
BAKING = float(os.environ.get("GATEWRIGHT_BENCH_BAKE", "60"))
QUERIES = 10


def main() -> None:
    with Lab(audit_level="Metadata", direct=True) as lab:
        lab.operator.start()
        time.sleep(2)
        site = lab.namespace()
        with ThreadPoolExecutor(16) as pool:
            list(
                pool.map(
                    lambda number: site.deployment(f"web-{number}", replicas=0), range(RELEASES)
                )
            )
        time.sleep(3)  # the deployment controller's own first round
        _walk(lab, site)
        _bake(lab, site)


def _walk(lab: Lab, site: Site) -> None:
    idle, cpu, began = lab.operator.memory(), lab.operator.cpu(), time.time()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: site.apply(_five(number), f"r-{number}"), range(RELEASES)))
    applied = time.time()
    lab.wait(lambda: _over(site) == RELEASES, 600, "all to end")
    ended = time.time()
    late = _until_quiet(lab)
    used, memory = lab.operator.cpu() - cpu, lab.operator.memory() - idle
    outcomes = Counter(site.run(f"r-{number}").get("outcome") for number in range(RELEASES))
    requests = list(_requests(lab, began, time.time()))
    plain = [one for one in requests if one["objectRef"]["resource"] != "events"]
    print(f"\nB2 {RELEASES} Releases of five deploy stages at once: {dict(outcomes)}")
    print(f"  requests a Release     {len(plain) / RELEASES:.1f} without Events (goal <= 18), "
          f"{len(requests) / RELEASES:.1f} with them (goal <= 24)")  # fmt: skip
    for (verb, resource), count in Counter(
        (one["verb"], _resource(one)) for one in requests
    ).most_common():
        print(f"      {verb:7} {resource:28} {count / RELEASES:6.2f}")
    print(f"  CPU a Release          {1000 * used / RELEASES:.1f} ms (goal <= 30 ms)")
    print(
        f"  memory a Release       {memory / RELEASES / 1024:.1f} KiB (goal <= 40 KiB; "
        f"{idle / 2**20:.0f} MiB before)"
    )
    print(
        f"  makespan               {ended - began:.1f} s (of which {applied - began:.1f} s "
        "to apply)"
    )
    print(f"  start to end each      {spread(list(_durations(site)), 's')}")
    print(
        f"  last write             {late - ended:.1f} s after the last end (Events follow "
        "the writes they tell of)"
    )


def _bake(lab: Lab, site: Site) -> None:
    for number in range(QUERIES):
        lab.standin.number(query(f"errors{number}", site.name), 0.001)
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda number: site.change(_baking(site, number), f"r-{number}"), range(RELEASES)
            )
        )
    lab.wait(lambda: _baking_now(site) == RELEASES, 300, "all to bake")
    _until_quiet(lab)
    cpu, since, passes = (
        lab.operator.cpu(),
        time.time(),
        lab.operator.metric("gatewright_passes_total"),
    )
    time.sleep(BAKING)
    used, passes = lab.operator.cpu() - cpu, lab.operator.metric("gatewright_passes_total") - passes
    requests = list(_requests(lab, since, time.time()))
    writes = [one for one in requests if one["verb"] in MUTATING]
    asked = sum(one.at >= since for one in lab.standin.given)
    print(
        f"\nB2 {RELEASES} Releases baking for {BAKING:.0f} s, {QUERIES} distinct queries "
        f"every {INTERVAL}"
    )
    print(f"  writes but Leases      {len(writes)} (goal 0)")
    for one in writes[:20]:
        print(f"      {one['verb']} {_resource(one)} {one['objectRef'].get('name')}")
    print(f"  other requests         {len(requests) - len(writes)}")
    print(f"  passes a Release       {passes / BAKING / RELEASES:.2f}/s")
    print(
        f"  questions to the metric provider {asked / BAKING:.1f}/s, CPU "
        f"{100 * used / BAKING:.2f} % of a core"
    )


def _until_quiet(lab: Lab) -> float:
    """Until the operator has written nothing for three seconds; when its last write was."""
    began = time.time()
    while True:
        last = max(
            (
                one.completed
                for one in lab.audit.read()
                if one.user == OPERATOR and one.resource != "leases"
            ),
            default=began,
        )
        if time.time() - last > 3 or time.time() - began > 300:
            return last
        time.sleep(0.5)


def _five(number: int) -> dict[str, Any]:
    target = {
        "name": "web",
        "workload": {"name": f"web-{number}", "images": {"app": "shop/web:$(version)"}},
    }
    builds = [{"version": f"$(version)-rc{stage}"} for stage in range(1, 5)] + [{}]
    stages = [
        {
            "name": f"s{index}",
            "steps": [{"name": "deploy", "deploy": {"targets": ["web"], **build}}],
        }
        for index, build in enumerate(builds)
    ]
    return {"version": "2.0.0", "targets": [target], "stages": stages}


def _baking(site: Site, number: int) -> dict[str, Any]:
    gate = {
        "name": "errors",
        "prometheus": {"query": query(f"errors{number % QUERIES}", site.name)},
        "max": "1%",
        "interval": INTERVAL,
    }
    stage = {
        "name": "ship",
        "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}],
        "gates": [gate],
        "bake": "1h",
    }
    return {"version": "3.0.0", "stages": [stage]}


def _statuses(site: Site) -> Iterator[dict[str, Any]]:
    return (site.status(f"r-{number}") for number in range(RELEASES))


def _over(site: Site) -> int:
    time.sleep(0.1)
    return sum(bool((status.get("run") or {}).get("outcome")) for status in _statuses(site))


def _baking_now(site: Site) -> int:
    time.sleep(0.1)
    runs = [status.get("run") or {} for status in _statuses(site)]
    return sum(run.get("id") == 2 and run["stages"][0]["state"] == "Baking" for run in runs)


def _durations(site: Site) -> Iterator[float]:
    for status in _statuses(site):
        run = status["run"]
        yield unix(run["finishedAt"]) - unix(run["startedAt"])


def _requests(lab: Lab, since: float, until: float) -> Iterator[dict[str, Any]]:
    """The operator's answered requests in a span of time, Leases apart."""
    for line in lab.server.audit_log.read_text().splitlines():
        event = json.loads(line)
        ours = (
            user_of(event) == OPERATOR
            and "objectRef" in event
            and event["stage"] == "ResponseComplete"
        )
        if (
            ours
            and event["objectRef"]["resource"] != "leases"
            and since <= unix(event["requestReceivedTimestamp"]) <= until
        ):
            yield event


def _resource(event: dict[str, Any]) -> str:
    ref = event["objectRef"]
    return (
        f"{ref['resource']}/{ref['subresource']}"
        if ref.get("subresource")
        else str(ref["resource"])
    )
