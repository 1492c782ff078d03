"""Specs as people might write them, drawn: few names, so that names meet which should not.

A spec is small (one to three stages), and uses everything that the core decides on. Names are drawn
from short lists on purpose: a stage may be called `verify`, and a step as a check is called
elsewhere.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TARGETS = ("web", "worker")
FLAGS = "configmap/flags"
CAPTURED = "configmap/web-env"
STAGES = ("migrate", "deploy", "verify", "preflight", "beta")
NAMES = ("smoke", "one", "two")
CHECKS = ("smoke", "rate", "p95")
PROCEDURES = ("clear", "voice")
PROVIDERS = {"query": "errors"}

_some = st.integers(0, 5)
_once = st.sampled_from([False, False, False, True])
_at_rest = {"Rollback": _once, "Notify": _once, "Run": st.booleans()}
_bake = st.sampled_from(["0s", "20s", "20s", "5m"])
_failure = st.sampled_from(["Rollback", "Pause", "Continue"])
_expired = st.sampled_from([None, None, "Fail", "Pause", "Notify"])
_kinds = st.sampled_from(
    [
        "job",
        "job",
        "deploy",
        "deploy",
        "deploy",
        "flags",
        "outside",
        "confirm",
        "approval",
        "wait",
        "act",
    ]
)
_one_or_two = st.sampled_from([1, 2])
_PROCEDURE_KINDS = ["job", "job", "flags", "own", "captured", "confirm", "approval"]
_PROCEDURE_KINDS += ["wait", "act", "job"]
_BACK_KINDS = ["job", "flags", "own", "captured"]


def _job(*outputs: str) -> dict[str, Any]:
    return {
        "image": "tools:$(version)",
        "args": [f"$(steps.{name}.outputs.id)" for name in outputs],
    }


@st.composite
def _step(draw: st.DrawFn, name: str, stage: str) -> dict[str, Any]:
    kind = draw(_kinds)
    kinds: dict[str, dict[str, Any]] = {
        "job": {"job": {**_job(), "timeout": "10m"}, "produces": f"{stage}-{name}"},
        "deploy": {"deploy": {"targets": ["web"], "timeout": "10m"}},
        "flags": {"flags": {"configMap": "flags", "set": {"beta": f"{stage}-{name}"}}},
        "outside": {"flags": {"launchdarkly": {"key": "beta"}}},
        "confirm": {"confirm": {"instructions": "Rotate the key"}},
        "approval": {"approval": {"count": 1}},
        "wait": {"wait": "30s"},
        "act": {"redis": {"command": "FLUSHALL"}},
    }
    made = kinds[kind]
    if kind == "deploy":
        made["deploy"]["targets"] = draw(
            st.sampled_from([["web"], ["web"], ["worker"], ["web", "worker"]])
        )
    return {"name": name, **made}


@st.composite
def _check(draw: st.DrawFn, name: str, jobs: bool = True) -> dict[str, Any]:
    if jobs and draw(st.integers(0, 2)) == 0:
        return {"name": name, "job": {"image": "k6"}}
    check: dict[str, Any] = {
        "name": name,
        "prometheus": {"query": "errors"},
        "max": "1%",
        "holdFor": "2m",
    }
    expired = draw(_expired)
    return check | ({"onHoldExpired": expired} if expired else {})


@st.composite
def _undo(draw: st.DrawFn, number: int, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A compensation; it may need what a step of its stage has published or produced."""
    name = f"undo{number}"
    if draw(_once):
        return {"name": name, "flags": {"configMap": "flags", "set": {"beta": "off"}}}
    jobs = [step for step in steps if "job" in step]
    if bool(jobs) and draw(st.booleans()):
        return {"name": name, "job": _job(jobs[0]["name"])}
    if bool(jobs) and draw(_once):
        return {"name": name, "job": _job(), "requires": [jobs[0]["produces"]]}
    return {"name": name, "job": {**_job(), "timeout": draw(st.sampled_from(["1m", "30m"]))}}


@st.composite
def _stage(draw: st.DrawFn, name: str) -> dict[str, Any]:
    steps = [draw(_step(NAMES[number], name)) for number in range(draw(st.integers(0, 3)))]
    gates = [
        draw(_check(CHECKS[number])) for number in range(draw(st.integers(0 if steps else 1, 2)))
    ]
    stage: dict[str, Any] = {
        "name": name,
        "steps": steps,
        "gates": gates,
        "onFailure": draw(_failure),
    }
    stage["bake"] = draw(_bake)
    undo = [draw(_undo(number, steps)) for number in range(draw(st.sampled_from([2, 0, 1, 2])))]
    stage["rollback"] = {"reach": draw(st.sampled_from(["Release", "Stage"])), "steps": undo}
    if bool(undo) and draw(_once):
        stage["rollback"]["within"] = "5m"
    if draw(_once):
        stage["expectedDuration"] = "1m"
    if draw(_once):
        stage["when"] = {"changed": ["db/**"]}
    return stage


@st.composite
def stages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to three stages."""
    number = draw(st.sampled_from([2, 3, 1, 2]))
    names = draw(st.lists(st.sampled_from(STAGES), min_size=number, max_size=number, unique=True))
    found = [draw(_stage(name)) for name in names]
    if len(found) > 1 and draw(_once):  # two failures in one run
        found[0]["onFailure"], found[1]["onFailure"] = "Continue", "Pause"
    return found


@st.composite
def _guards(draw: st.DrawFn, runs: bool) -> list[dict[str, Any]]:
    found = [
        draw(_check(CHECKS[number], jobs=False))
        for number in range(draw(st.sampled_from([0, 0, 1, 1, 2])))
    ]
    for guard in found:
        guard["action"] = draw(
            st.sampled_from(["Rollback", "Rollback", "RollbackStage", "Pause", "Notify"])
        )
        if runs and draw(st.booleans()):
            guard |= {"action": "Run", "procedure": PROCEDURES[0]}
        if guard["action"] in ("Rollback", "Notify", "Run") and draw(_at_rest[guard["action"]]):
            guard["atRest"] = True
            if guard["action"] == "Rollback":
                guard["rollbackFor"] = "1h"
    return found


@st.composite
def procedures(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One or two; a guard may run the first, which asks for no confirmation."""
    first, *others = (draw(_procedure(name)) for name in PROCEDURES[: draw(_one_or_two)])
    first.pop("confirm", None)
    return [first, *others]


@st.composite
def _procedure(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Its steps may change what stages change as well."""
    kinds = draw(st.lists(st.sampled_from(_PROCEDURE_KINDS), min_size=1, max_size=3))
    steps = [_procedure_step(kind, NAMES[number], name) for number, kind in enumerate(kinds)]
    made: dict[str, Any] = {"name": name, "steps": steps}
    if draw(_once):
        made["approval"] = {"count": draw(st.sampled_from([1, 1, 2]))}
    if draw(_once):
        made["confirm"] = f"Everything since {name} of $(version) is lost."
    if draw(st.booleans()):
        back = draw(st.lists(st.sampled_from(_BACK_KINDS), min_size=1, max_size=2))
        made["undo"] = [
            _procedure_step(kind, f"back{number}", name) for number, kind in enumerate(back)
        ]
    return made


def _procedure_step(kind: str, name: str, procedure: str) -> dict[str, Any]:
    value = f"{procedure}-{name}"
    kinds: dict[str, dict[str, Any]] = {
        "job": {"job": {**_job(), "timeout": "10m"}},
        "flags": {"flags": {"configMap": "flags", "set": {"beta": value}}},
        "captured": {"flags": {"configMap": "web-env", "set": {"beta": value}}},
        "own": {"flags": {"configMap": "own", "set": {"beta": value}}},
        "confirm": {"confirm": {"instructions": "Look at it"}},
        "approval": {"approval": {"count": 1}},
        "wait": {"wait": "30s"},
        "act": {"redis": {"command": "FLUSHALL"}},
    }
    return {"name": name, **kinds[kind]}


@st.composite
def _preflight(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = [
        draw(_check(CHECKS[number])) for number in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1])))
    ]
    approval = {"count": 1} | ({"expires": "1m"} if draw(_once) else {})
    return found + ([{"name": "go", "approval": approval}] if draw(_once) else [])


@st.composite
def _targets(draw: st.DrawFn) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "workload": {
                "kind": "Deployment",
                "name": name,
                "images": {"app": "shop/web:$(version)"},
            },
        }
        for name in TARGETS
    ]
    found[0]["holdFor"] = draw(st.sampled_from(["10m", "1m"]))
    found[0]["availability"] = {
        "action": draw(st.sampled_from(["Rollback", "Rollback", "Pause", "Notify"]))
    }
    if draw(_once):
        found[0]["workload"]["config"] = [{"configMap": CAPTURED.partition("/")[2]}]
    return found


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A Release as somebody applies it first."""
    run = draw(st.one_of(st.just([]), procedures()))
    verify = [draw(_check(CHECKS[number])) for number in range(draw(st.sampled_from([0, 0, 1, 2])))]
    found: dict[str, Any] = {
        "version": "2.0",
        "targets": draw(_targets()),
        "preflight": draw(_preflight()),
        "guards": draw(_guards(runs=bool(run))),
        "guardFor": draw(st.sampled_from(["0s", "1m", "2h"])),
        "stages": draw(stages()),
        "rollback": {"verify": verify},
        "supersede": draw(st.sampled_from(["Queue", "Queue", "Replace", "Reject"])),
        "adopt": draw(st.sampled_from(["First", "First", "Always", "Never"])),
        "mode": draw(st.sampled_from(["Enforce"] * 11 + ["Observe"])),
    }
    if run:
        found["procedures"] = run
    changed = draw(st.sampled_from([None, None, ["db/a.sql"], ["web/a.html"]]))
    found |= {"changedPaths": changed} if changed is not None else {}
    if draw(_once):
        found["followUps"] = draw(follow_ups)
    if draw(_once):
        found["notify"] = [
            {
                "events": ["Started", "RolledBack", "RollbackFailed", "Downtime"],
                "slack": {"channel": "#x"},
            }
        ]
    return found


def asking(spec: dict[str, Any]) -> dict[str, Any]:
    """The same with approvals, before the first stage and at its beginning; people decide when a
    stage has failed."""
    go = [check for check in spec["preflight"] if check["name"] != "go"] + [
        {"name": "go", "approval": {"count": 1}}
    ]
    stages = [stage | {"onFailure": "Pause"} for stage in spec["stages"]]
    first = [{"name": NAMES[0], "approval": {"count": 1}}, *stages[0]["steps"][1:]]
    stages[0] = stages[0] | {"steps": first, "rollback": {"steps": []}}
    return spec | {"preflight": go, "stages": stages, "mode": "Enforce"}


def failing_twice(spec: dict[str, Any]) -> dict[str, Any]:
    """The same; its first stage is passed over when it fails, and people decide about the
    others."""
    first, *others = spec["stages"]
    stages = [
        first | {"onFailure": "Continue"},
        *(stage | {"onFailure": "Pause"} for stage in others),
    ]
    return spec | {"stages": stages, "mode": "Enforce"}


follow_ups = st.sampled_from(
    [
        [
            {
                "name": "log",
                "within": "1h",
                "confirm": {"instructions": "Write it down"},
                "when": "Always",
            }
        ],
        [{"name": "rate-24h", "within": "24h", "prometheus": {"query": "errors"}, "max": "1%"}],
    ]
)
