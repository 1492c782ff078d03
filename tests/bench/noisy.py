"""B3: the noisy tenant. One namespace does everything it may to the operator that another one
shares.

The quiet namespace walks Releases of two stages, and some of them roll back: first alone; then
beside noise that this operator does not serve, which keeps the API server and the machine as busy
as it can; then beside noise that it serves. The last two differ by what a tenant does to the
operator, and only these are compared.

A stage changes when the answer arrives that lets it pass, and a rollback is intended when the
answer arrives that breaches: both are counted from the stand-in having written that answer until
the watch delivers the status that says so. The largest gap of the operator's event loop is seen
from outside: by the slowest answer of /healthz.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.figures import percentile, spread
from tests.cluster.paths import CHECKOUT
from tests.harness.lab import Lab, Site
from tests.harness.recording import Version
from tests.harness.scenarios import TARGET, deploy, query

RELEASES = int(os.environ.get("GATEWRIGHT_BENCH_QUIET", "50"))
BACK = 5
"""One of so many rolls back."""
EVERY = float(os.environ.get("GATEWRIGHT_BENCH_EVERY", "5"))
"""Seconds between two Releases."""
PROBE_EVERY_S = 0.05


@dataclass
class Figures:
    """Milliseconds, and what went wrong."""

    stages: list[float] = field(default_factory=list)
    intents: list[float] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    """What the quiet namespace's Releases held on."""
    sick: int = 0
    """Times at which /healthz was not well."""
    probes: int = 0
    answers: list[float] = field(default_factory=list)
    """How long /healthz took: it is answered on the loop that everything else is done on."""
    peak: int = 0
    """Bytes of resident memory at most."""
    cpu: float = 0.0
    """Seconds of CPU of the operator."""
    own: float = 0.0
    """Milliseconds from an answer that breaches until its write is sent, on average: the part of
    an intent that is the operator's own, without what the API server takes for the write."""

    @property
    def wrong(self) -> list[str]:
        return [
            f"{name}: {self.outcomes.get(name)} instead of {wanted}"
            for name, wanted in self.wanted.items()
            if self.outcomes.get(name) != wanted
        ]


def main() -> None:
    quiet = {"releases": "/apis/gatewright.dev/v1alpha1/namespaces/quiet/releases"}
    phases: dict[str, Figures] = {}
    with Lab(
        audit_level="Metadata",
        direct=True,
        watched=quiet,
        arguments=["--measurements-per-second", "50"],
    ) as lab:
        site = lab.namespace("quiet")
        lab.operator.start()
        phases["alone"] = walk(lab, site, "alone", RELEASES, EVERY)
        with noise(lab) as tenant:
            lab.operator.stop()
            lab.operator.start(only="quiet")
            phases["unserved"] = walk(lab, site, "unserved", RELEASES, EVERY)
            lab.operator.stop()
            lab.operator.start()
            phases["served"] = walk(lab, site, "served", RELEASES, EVERY)
            assert tenant.poll() is None, "the noise has ended by itself"

    print(
        f"\nB3 {RELEASES} Releases, {RELEASES // BACK} of them rolled back, alone and "
        "beside a noisy tenant"
    )
    for name, one in phases.items():
        print(f"  {name:8} stage changes    {spread(one.stages, 'ms')}")
        print(f"  {name:8} rollback intent  {spread(one.intents, 'ms')}")
        print(f"  {name:8} of which our own {one.own:.1f} ms on average, until the write is sent")
        print(
            f"  {name:8} held {len(one.held)}, wrong endings {len(one.wrong)}, unhealthy "
            f"{one.sick} of {one.probes},"
            f" memory {one.peak / 2**20:.0f} MiB at most (limit 512), CPU {one.cpu:.0f} s"
        )
        print(
            f"  {name:8} /healthz took    {spread(one.answers, 'ms')}: the largest gap of "
            "the loop, seen from outside"
        )
    for what in ("stages", "intents"):
        unserved, served = (
            percentile(getattr(phases[name], what), 0.99) for name in ("unserved", "served")
        )
        print(f"  p99 of {what}: served {served / unserved:.2f} times unserved (goal < 1.2)")


def walk(lab: Lab, site: Site, word: str, releases: int, every: float) -> Figures:
    """Walk Releases one after the other, and wait for all to end."""
    found = Figures()
    before = lab.operator.cpu()
    with _probing(lab, found):
        _walk(lab, site, word, releases, every, found)
    found.cpu = lab.operator.cpu() - before
    metric = "gatewright_decision_to_write_seconds"
    count = lab.operator.metric(f"{metric}_count")
    found.own = 1000 * lab.operator.metric(f"{metric}_sum") / count if count else 0.0
    return found


def _walk(lab: Lab, site: Site, word: str, releases: int, every: float, found: Figures) -> None:
    names = [f"{word}-{number}" for number in range(releases)]
    for number, name in enumerate(names):
        back = number % BACK == BACK - 1
        found.wanted[name] = "RolledBack" if back else "Promoted"
        site.deployment(name, replicas=0)
        for stage in ("one", "two"):
            lab.standin.number(_asked(name, stage), 0.5 if back and stage == "two" else 0.001)
        site.apply(_spec(name), name)
        _watch(lab, found, every)
    deadline = time.monotonic() + 120
    while (
        not all((site.run(name) or {}).get("outcome") for name in names)
        and time.monotonic() < deadline
    ):
        _watch(lab, found, 1.0)
    for name in names:
        _read(lab, site, name, found)


@contextlib.contextmanager
def _probing(lab: Lab, found: Figures) -> Iterator[None]:
    """Ask for the operator's health all the time, as no kubelet would."""
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(PROBE_EVERY_S):
            began = time.monotonic()
            found.sick += lab.operator.probe("/healthz") != 200
            found.answers.append(1000 * (time.monotonic() - began))
            found.probes += 1

    thread = threading.Thread(target=probe, name="probing")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(lab: Lab, found: Figures, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found.peak = max(found.peak, lab.operator.peak())
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))


def _read(lab: Lab, site: Site, name: str, found: Figures) -> None:
    versions = lab.recording.of("releases", site.name)[name]
    found.outcomes[name] = str((site.run(name) or {}).get("outcome"))
    states = {(one.body.get("status") or {}).get("state") for one in versions}
    found.held += [
        f"{name}: {state}"
        for state in states & {"Holding", "Breaching", "Paused", "RollbackFailed"}
    ]
    passed = _first(versions, lambda run: run["stages"][0]["state"] == "Passed")
    answers = [one.at for one in lab.standin.of(_asked(name, "one"))]
    if passed is not None:
        found.stages.append(1000 * (passed - max(at for at in answers if at <= passed)))
    back = _first(
        versions, lambda run: run["phase"] in ("RollingBack", "Verifying") or run.get("rollback")
    )
    answers = [one.at for one in lab.standin.of(_asked(name, "two"))]
    if back is not None:
        found.intents.append(1000 * (back - min(at for at in answers if at <= back)))


def _first(versions: list[Version], condition: Any) -> float | None:
    for one in versions:
        run = (one.body.get("status") or {}).get("run")
        if run and condition(run):
            return one.at
    return None


def _asked(name: str, stage: str) -> str:
    return query(f"{name.replace('-', '_')}_{stage}", "quiet")


def _spec(name: str) -> dict[str, Any]:
    target = TARGET | {"workload": {"name": name, "images": {"app": "shop/web:$(version)"}}}

    def watched(stage: str) -> list[dict[str, Any]]:
        return [
            {
                "name": stage,
                "prometheus": {"query": _asked(name, stage)},
                "max": "1%",
                "interval": "1s",
            }
        ]

    first = {"name": "one", "steps": [deploy(version="$(version)-rc1")], "gates": watched("one")}
    second = {"name": "two", "steps": [deploy()], "gates": watched("two")}
    return {"version": "2.0.0", "targets": [target], "stages": [first, second], "guardFor": "1s"}


@contextlib.contextmanager
def noise(lab: Lab, large: int = 80) -> Iterator[subprocess.Popen[str]]:
    """The noisy tenant, once it makes all of its noise; `large`: Releases of a megabyte."""
    lab.api.create("/api/v1/namespaces", {"metadata": {"name": "noisy"}})
    kubeconfig = lab.server.kubeconfig_for("admin", ["system:masters"])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "operator"), str(CHECKOUT)])
    }
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.bench.noise",
            str(kubeconfig),
            "noisy",
            str(large),
            str(lab.operator.port),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(kubeconfig).parent,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), f"the noise did not begin: {line!r}"
        yield process
    finally:
        process.terminate()
        process.wait(30)
