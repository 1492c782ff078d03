"""What is kept of a Release: little, whatever whoever writes it has put there, and less while it is
at rest."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from gatewright.api import FINALIZER
from gatewright.core.report import size
from gatewright.runtime.cluster.finalizers import foreign_finalizers
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.outline import MAX_FINALIZERS, MAX_STATUS_BYTES
from gatewright.runtime.parse import spec_of
from gatewright.runtime.tracked import TrackedRelease
from tests.cluster.paths import CHECKOUT

SPEC = {"version": "1", "stages": [{"name": "ship", "steps": [{"name": "pause", "wait": "1s"}]}]}
SAMPLES = [
    *(CHECKOUT / "manifests/samples").glob("*.yaml"),
    *(CHECKOUT / "tests/e2e/foco/releases").glob("*.yaml"),
]


def release(version: int = 1, spec: Any = SPEC, generation: int = 1, **meta: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": metadata | {"generation": generation} | meta, "spec": spec}


def held(entry: TrackedRelease) -> int:
    return len(json.dumps([entry.obj, entry.persisted, entry._spec.text.decode()]))


def test_of_metadata_only_what_is_asked_about_is_kept() -> None:
    labels, annotations = (
        {f"l{number}": "x" * 60 for number in range(4000)},
        {"note": "x" * 200_000},
    )
    many = [f"a.io/{number}" for number in range(4000)]
    entry = TrackedRelease.of(
        release(labels=labels, annotations=annotations, finalizers=[*many, FINALIZER])
    )
    assert held(entry) < 2000
    view = entry.view()
    assert view.finalized and entry.many_finalizers
    entry.take_newer(release(2, labels=labels, annotations=annotations, finalizers=many))
    assert held(entry) < 2000 and not entry.view().finalized


@pytest.mark.parametrize("number", [1, MAX_FINALIZERS + 5])
def test_finalizers_of_others_stay_however_many_there_are(number: int) -> None:
    all_of_them = [*(f"a.io/{index}" for index in range(number)), FINALIZER]

    class Server:
        async def metadata(self, path: str) -> dict[str, Any]:
            assert number > MAX_FINALIZERS, "an ordinary Release costs no request"
            found: dict[str, Any] = release(finalizers=all_of_them)["metadata"]
            return found

    entry = TrackedRelease.of(release(finalizers=all_of_them))
    assert asyncio.run(foreign_finalizers(cast(Kube, Server()), entry)) == all_of_them[:-1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"vars": {"a": "x" * size.MOST_BYTES}},
            "spec: has 257 KiB of JSON, at most 256 KiB; put long texts",
        ),
        (
            {"vars": {f"a{number}": "" for number in range(size.MOST_VALUES)}},
            "values, at most 10000; put long texts",
        ),
    ],
)
def test_a_spec_that_is_too_large_is_not_kept_and_says_why(
    more: dict[str, Any], words: str
) -> None:
    entry = TrackedRelease.of(release(spec=SPEC | more))
    view = entry.view()
    assert view.spec is None and len(view.problems) == 1 and words in view.problems[0]
    assert held(entry) < 2000
    entry.take_newer(release(2, generation=2))
    assert entry.view().spec is not None and entry.view().problems == ()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_has_seven_times_the_room(path: Path) -> None:
    for item in yaml.safe_load_all(path.read_text()):
        if item and item["kind"] == "Release":
            assert 7 * len(json.dumps(item["spec"], separators=(",", ":"))) <= size.MOST_BYTES
            assert 7 * size.measure_shape(item["spec"])[0] <= size.MOST_VALUES


def test_what_variables_come_to_is_bounded_before_they_are_put_in() -> None:
    job = {"image": "a", "args": ["$(vars.a)" * 900] * 20}
    spec = SPEC | {
        "vars": {"a": "x" * 1024},
        "stages": [{"name": "s", "steps": [{"name": "j", "job": job}]}],
    }
    _, problems = spec_of(spec)
    assert problems == (
        (
            "spec.vars: come to 18000 KiB where they are put in, at most 512 KiB; make them "
            "shorter, or name them less often"
        ),
    )
    assert spec_of(spec | {"vars": {"a": "x" * 20}})[1] == ()


def test_many_problems_are_counted_and_few_are_kept() -> None:
    steps = [{"name": f"s{number}", "wait": "long"} for number in range(20)]
    entry = TrackedRelease.of(
        release(
            spec={"version": "1", "stages": [{"name": f"s{n}", "steps": steps} for n in range(5)]}
        )
    )
    problems = entry.view().problems
    assert len(problems) == 21 and all(problems[:20]) and problems[20] == ""


LONG = "k" * 50_000
MANY: dict[str, dict[str, Any]] = {
    "unknown names": {
        "targets": [{"name": "a", "workload": {"name": "a", "images": {"app": "$(a)" * 40_000}}}]
    },
    "below a long key": {"targets": [{"name": "a", "workload": {LONG: ["$(a)"] * 8_000}}]},
    "with long names": {"targets": [{"name": "a", "workload": {"x": [f"$({'n' * 5_000})"] * 40}}]},
    "of a step": {
        "guards": [{"name": "a", "max": "1", "sql": {"query": "$(steps.a.outputs.b)" * 10_000}}]
    },
    "of a Connection": {
        "guards": [{"name": "a", "max": "1", "sql": {"connection": "$(a)" * 40_000, "query": "q"}}]
    },
    "unknown fields": {
        "targets": [{"name": "a", "workload": {f"u{number}": 1 for number in range(8_000)}}]
    },
    "a workload that is none": {"targets": [{"name": "a", "workload": {"kind": [], "name": {}}}]},
}


@pytest.mark.parametrize("raw", MANY.values(), ids=MANY)
def test_problems_take_no_more_room_than_a_spec(raw: dict[str, Any]) -> None:
    """As many are put into words as anybody reads, and none of them repeats a long path or all that
    is known."""
    text = {"version": "1", "vars": {f"v{number}": "" for number in range(60)}} | raw
    text["stages"] = SPEC["stages"]
    assert (
        size.too_much(len(json.dumps(text)), size.measure_shape(text)[0]) is None
        and spec_of(text)[0] is not None
    )
    gc.collect()
    tracemalloc.start()
    try:
        _, problems = spec_of(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problems and len(problems) <= 21 and max(map(len, problems)) <= 500
    assert peak < 24 * 1024 * 1024


def test_a_status_that_the_operator_cannot_have_written_is_not_kept() -> None:
    status = {"message": "x" * MAX_STATUS_BYTES, "conditions": []}
    entry = TrackedRelease.of(release() | {"status": status})
    entry.view()
    assert entry.tampered and held(entry) < 2000
    entry = TrackedRelease.of(release())
    assert entry.take_newer(release(2) | {"status": status}) and held(entry) < 2000
    entry.view()
    assert entry.tampered


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        ({"state": "Promoted"}, False),
        ({"state": "Promoted", "run": {"outcome": "Promoted"}}, False),
        ({"state": "Waiting"}, True),
        ({"state": "Progressing", "run": {"phase": "Progressing"}}, True),
    ],
)
def test_a_release_at_rest_keeps_no_models_and_is_read_again_without_being_checked(
    status: dict[str, Any], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = TrackedRelease.of(release() | {"status": status})
    view = entry.view()
    entry.rest()
    assert (entry._parsed is not None) is kept
    monkeypatch.setattr(
        "gatewright.runtime.parse.spec_of", lambda raw: pytest.fail("checked again")
    )
    assert entry.view().spec == view.spec
    entry.take_newer(release(2) | {"status": status})
    assert entry.view().spec == view.spec, "news of the same generation bring no new spec"
