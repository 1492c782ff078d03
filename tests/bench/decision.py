"""B1: decision to write.

A gate of a baking Release is answered with a breach. The clock runs from the stand-in having
written that answer to the arrival of the operator's next write at the proxy, which is the
rollback's intent; and to the first restore. Stand-in and proxy share one process and one monotonic
clock, so nothing is compared across clocks. Other Releases bake meanwhile and are asked every
second.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from tests.bench.figures import spread
from tests.harness.lab import Lab, Site
from tests.harness.proxy import Call
from tests.harness.scenarios import TARGET, deploy, gate, query

TRIALS = int(os.environ.get("GATEWRIGHT_BENCH_TRIALS", "60"))
GOAL = "goal: p50 <= 15 ms, p99 <= 100 ms"


@dataclass(frozen=True)
class Trial:
    """Milliseconds from the breaching answer."""

    intent: float
    restore: float
    ended: float


def main() -> None:
    with Lab(audit_level="Metadata") as lab:
        lab.operator.start()
        sites = [_begin(lab) for _ in range(TRIALS)]
        for site in sites:
            site.until(
                lambda status: (
                    ((status.get("run") or {}).get("stages") or [{}])[0].get("state") == "Baking"
                ),
                120,
            )
        time.sleep(2)
        trials = [_breach(lab, site) for site in sites]
        print(
            f"\nB1 decision to write, {len(trials)} trials, {TRIALS} Releases baking at "
            f"the start ({GOAL})"
        )
        print(
            "  answer written -> rollback intent arrives  "
            f"{spread([one.intent for one in trials], 'ms')}"
        )
        print(
            "  answer written -> first restore arrives    "
            f"{spread([one.restore for one in trials], 'ms')}"
        )
        print(
            "  answer written -> RolledBack is in status  "
            f"{spread([one.ended for one in trials], 'ms')}"
        )


def _begin(lab: Lab) -> Site:
    site = lab.namespace()
    site.deployment(replicas=0)
    asked = query("errors", site.name)
    lab.standin.number(asked, 0.001)
    watched = gate("errors", asked) | {"interval": "1s"}
    stage = {"name": "ship", "steps": [deploy()], "gates": [watched], "bake": "30m"}
    site.apply({"version": "2.0.0", "targets": [TARGET], "stages": [stage]})
    return site


def _breach(lab: Lab, site: Site) -> Trial:
    asked = query("errors", site.name)
    before = lab.standin.asked(asked)
    lab.standin.number(asked, 0.5)
    lab.wait(
        lambda: lab.standin.asked(asked) > before and lab.standin.of(asked)[-1].value == 0.5,
        20,
        "the breach",
    )
    given = next(one for one in lab.standin.of(asked) if one.value == 0.5)
    site.ended("RolledBack", 30)
    calls = [
        one
        for one in lab.proxy.calls
        if f"/namespaces/{site.name}/" in one.path and one.arrived >= given.mono
    ]
    intent = next(
        one for one in calls if one.resource == "releases/status" and _phase(one) == "RollingBack"
    )
    restore = next(one for one in calls if one.resource == "deployments" and one.method == "PATCH")
    ended = next(
        one for one in calls if one.resource == "releases/status" and _phase(one) == "Done"
    )
    return Trial(*((one.arrived - given.mono) * 1000 for one in (intent, restore, ended)))


def _phase(call: Call) -> str:
    """The phase that a status write brings."""
    if call.method != "PATCH":
        return ""
    body = json.loads(call.body)
    status = (
        next((op["value"] for op in body if op["path"] == "/status"), {})
        if isinstance(body, list)
        else body["status"]
    )
    return str((status.get("run") or {}).get("phase", ""))
