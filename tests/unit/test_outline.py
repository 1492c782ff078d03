"""What a large object costs while everybody else waits: counted in bytes that are read and values
that are visited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.aio import client as kubernetes_client

from gatewright.api import FINALIZER
from gatewright.core.report import size
from gatewright.ports import Permanent
from gatewright.runtime.cluster import outline, wire
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.watch import Watch
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.tracked import TrackedRelease

MUCH = 1_450_000
DEEP = "[" * 2000 + "]" * 2000
MANAGED = [
    {
        "apiVersion": "a/v1",
        "fieldsV1": {"f:spec": {".": {}, 'k:{"name":"],"}': {}}},
        "manager": '],"name":"x',
    }
]
META = {"generation": 3, "name": "web", "namespace": "shop", "resourceVersion": "7", "uid": "u-1"}
KEPT = (
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "labels",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
)


def told(spec: Any, status: Any = None, kind: str = "Release", **meta: Any) -> bytes:
    """An event as an API server writes it: keys in order, without spaces; "DEEP" is a list of 2,000
    levels."""
    found = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": kind,
        "metadata": META | meta,
        "spec": spec,
    }
    found |= {"status": status} if status is not None else {}
    text = (
        f'{{"type":"MODIFIED","object":{json.dumps(found, sort_keys=True, separators=(",", ":"))}}}'
    )
    for plain, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(plain, escaped)
    return text.replace('"DEEP"', DEEP).encode()


def template(value: Any) -> dict[str, Any]:
    return {
        "version": "1",
        "stages": [{"name": "a", "steps": [{"name": "b", "job": {"template": value}}]}],
    }


HOSTILE = {
    "wide": template({"x": [0] * (MUCH // 2)}),
    "lists": template({"x": [[]] * (MUCH // 3)}),
    "maps": template({"x": [{}] * (MUCH // 3)}),
    "keys": template({str(number): 0 for number in range(MUCH // 11)}),
    "deep and many lists": template(["DEEP", *([0] for _ in range(MUCH // 4))]),
    "deep and many texts": template(["DEEP", *([""] * (MUCH // 3))]),
    "many statuses": template([{"a": 1, "status": {}}] * (MUCH // 24)),
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each text that is read as JSON."""
    sizes: list[int] = []
    loads = orjson.loads

    def counted(text: bytes) -> Any:
        sizes.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "loads", counted)
    return sizes


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is looked at to cut off what is too deep."""
    seen: list[int] = []
    pattern = wire._TOKENS

    class Counting:
        def finditer(self, text: bytes) -> Iterator[Any]:
            for found in pattern.finditer(text):
                seen.append(1)
                yield found

    monkeypatch.setattr(wire, "_TOKENS", Counting())
    return seen


# What is read of an event


@pytest.mark.parametrize("shape", HOSTILE)
async def test_of_an_event_little_is_read_however_large_the_spec(
    shape: str, read: list[int], tokens: list[int]
) -> None:
    line = told(HOSTILE[shape], {"state": "Invalid"}, finalizers=[FINALIZER], managedFields=MANAGED)
    assert len(line) > MUCH * 3 // 4
    read.clear()
    entries: list[TrackedRelease] = []
    await _watched(line, lambda where, kind, found: entries.append(TrackedRelease.of(found)))
    (entry,) = entries
    view = entry.view()
    assert sum(read) <= 8 * 1024 and len(tokens) == 0
    assert (view.name, view.uid, view.generation, view.finalized, view.deleting) == (
        "web",
        "u-1",
        3,
        True,
        False,
    )
    assert (
        view.spec is None
        and "KiB of JSON, at most 256 KiB" in view.problems[0]
        and not entry.tampered
    )
    assert entry.working == {"state": "Invalid"}


@pytest.mark.parametrize(
    "meta",
    [
        {"annotations": {"a": '"' * 300_000}},
        {"annotations": {"a": '"},"' * 300_000}},
        {"labels": {f"l{number}": "" for number in range(30_000)}},
        {"finalizers": [*(f"a.io/{number}" for number in range(30_000)), FINALIZER]},
        {
            "managedFields": [
                {"fieldsV1": {"f:spec": {f"f:{number}": {} for number in range(60_000)}}}
            ]
        },
        {"ownerReferences": [{"name": f"{number}"} for number in range(30_000)]},
    ],
)
def test_of_an_event_little_is_read_however_large_the_metadata(
    meta: dict[str, Any], read: list[int]
) -> None:
    line = told(template({"kind": "Job"}), {"state": "Invalid"}, **meta)
    assert len(line) > 300_000
    read.clear()
    entry = TrackedRelease.of(wire.decode_event(line)["object"])
    assert (
        entry.key == ("shop", "web")
        and entry.view().spec is not None
        and entry.working == {"state": "Invalid"}
    )
    assert sum(read) <= 8 * 1024
    assert entry.view().finalized is ("finalizers" in meta) is entry.many_finalizers


def test_a_spec_is_read_when_it_is_used_and_only_once_a_generation(read: list[int]) -> None:
    spec = template({"x": ["x" * 100] * 1500})
    entry = TrackedRelease.of(wire.decode_event(told(spec))["object"])
    assert entry.view().spec is not None
    read.clear()
    for version in range(8, 30):
        line = told(spec, annotations={"tick": f"{version}"}, resourceVersion=f"{version}")
        assert entry.take_newer(wire.decode_event(line)["object"]) and entry.view().problems == ()
    assert sum(read) <= 8 * 1024, "annotations alone"
    entry.take_newer(wire.decode_event(told(spec, generation=4, resourceVersion="30"))["object"])
    assert entry.view().spec is not None and sum(read) > 100_000


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[]] * 84_000, "spec: has too many values, at most 10000; put long texts"),
        (["DEEP", "x" * 100_000], "template[0][0][0]"),
        (["DEEP", *([""] * 60_000)], "spec: lists and maps are nested more than 64 levels deep"),
    ],
)
def test_what_is_measured_late_is_refused_in_the_same_words(
    value: Any, words: str, tokens: list[int]
) -> None:
    entry = TrackedRelease.of(wire.decode_event(told(template(value)))["object"])
    (problem,) = entry.view().problems
    assert words in problem and entry.view().spec is None and entry._spec.text == b""
    assert len(tokens) <= wire.MOST_TOKENS + 1


def test_signs_that_an_api_server_writes_longer_count_as_one() -> None:
    spec = template({"x": "<&>" * 60_000})
    assert len(told(spec)) > 4 * size.MOST_BYTES
    assert TrackedRelease.of(wire.decode_event(told(spec))["object"]).view().spec is not None
    spec = template({"x": "<" * size.MOST_BYTES})
    (problem,) = TrackedRelease.of(wire.decode_event(told(spec))["object"]).view().problems
    assert "spec: has 257 KiB of JSON" in problem


@pytest.mark.parametrize("shape", HOSTILE)
def test_a_run_keeps_what_it_began_with_when_its_spec_grows_beyond_what_is_read(shape: str) -> None:
    run = {
        "id": 4,
        "version": "1",
        "phase": "Progressing",
        "generation": 3,
        "revision": "r",
        "bodyHash": "h",
    }
    status = {"state": "Progressing", "run": run | {"startedAt": "2026-01-01T00:00:00Z"}}
    entry = TrackedRelease.of(wire.decode_event(told(template({"a": 1}), status))["object"])
    body = cast(Any, object())
    entry.recalled.take_body(body)
    assert entry.take_newer(
        wire.decode_event(told(HOSTILE[shape], status, generation=4, resourceVersion="8"))["object"]
    )
    view = entry.view()
    assert view.generation == 4 and view.spec is None and len(view.problems) == 1
    assert (
        entry.body is body
        and entry.working == status
        and not entry.tampered
        and view.run is not None
    )


# That it is the same as if all were read

TEXTS = st.sampled_from(
    [
        '},"',
        '],"name":"victim"',
        '"',
        "\\",
        "}}",
        ',"status":{',
        '{"',
        "a",
        '"status":{}}',
        "é\x01",
        '},\\"x',
        "",
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), TEXTS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "status", "spec"]), inner)
    ),
    max_leaves=8,
)
FLAT = st.dictionaries(
    TEXTS.map(lambda text: f"k{text}") | st.sampled_from(["name", "uid", "namespace"]), TEXTS
)
FIELDS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(TEXTS.map(lambda text: f"f:{text}"), inner, max_size=3),
)


@settings(deadline=None, max_examples=300, database=None)
@given(data=st.data())
def test_an_outline_says_what_the_whole_says(data: st.DataObject) -> None:
    optional = {
        "annotations": FLAT,
        "labels": FLAT,
        "creationTimestamp": st.just("2026-01-01T00:00:00Z"),
        "deletionTimestamp": st.just("2026-01-01T00:00:00Z"),
        "finalizers": st.lists(st.sampled_from(["a.io/b", FINALIZER]), max_size=3),
        "managedFields": st.lists(
            FIELDS.map(lambda fields: {"fieldsV1": fields, "manager": '],"a'}), max_size=2
        ),
        "ownerReferences": st.lists(st.just({"controller": True, "name": "x"}), max_size=2),
    }
    meta = data.draw(st.fixed_dictionaries({}, optional=cast(Any, optional)))
    spec = data.draw(
        st.dictionaries(st.sampled_from(["a", "status", "stages"]), VALUES, max_size=3)
    )
    status = data.draw(
        st.none() | st.dictionaries(st.sampled_from(["message", "state"]), TEXTS, min_size=1)
    )
    line = told(spec, status, **meta)
    whole, found = orjson.loads(line), outline.event(line)
    assert found["type"] == "MODIFIED" and found["object"]["kind"] == "Release"
    expected = {name: value for name, value in whole["object"]["metadata"].items() if name in KEPT}
    assert found["object"]["metadata"] == expected
    assert found["object"].get("status") == whole["object"].get("status")
    assert orjson.loads(found["object"]["spec"].text) == whole["object"]["spec"]


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ({"runs": {"a": "x" * outline.MAX_STATUS_BYTES}}, False),
        ("DEEP", None),
        ({"state": "x"}, True),
    ],
)
def test_a_status_that_cannot_be_read_is_never_taken_for_none(
    status: Any, read: bool | None
) -> None:
    line = told(template({"x": "x" * 70_000}), {"message": status} if read is None else status)
    entry = TrackedRelease.of(wire.decode_event(line)["object"])
    entry.view()
    assert entry.tampered is not bool(read) and entry.working


@pytest.mark.parametrize("kind", ["Connection", "Intervention"])
def test_of_other_kinds_the_spec_is_read(kind: str) -> None:
    line = told(
        {"release": "web"},
        {"result": "Done"},
        kind,
        labels={f"l{number}": "" for number in range(9_000)},
    )
    found = wire.decode_event(line)["object"]
    assert (found["spec"], found["status"]) == ({"release": "web"}, {"result": "Done"})
    assert (
        wire.decode_event(told("DEEP", None, kind, name="a" * 70_000 if kind == "x" else "a"))[
            "object"
        ]["spec"]
        == {}
    )


@pytest.mark.parametrize("how", ["other kind", "spaces", "no names"])
def test_what_is_no_object_of_ours_is_read_as_a_whole(how: str) -> None:
    found: dict[str, Any] = orjson.loads(told({"x": "x" * 70_000}))
    if how == "other kind":
        found["object"]["apiVersion"] = "apps/v1"
    if how == "no names":
        del found["object"]["metadata"]["uid"]
    text = json.dumps(found).encode() if how == "spaces" else orjson.dumps(found)
    with pytest.raises(outline.Unreadable):
        outline.event(text)
    assert wire.decode_event(text) == found


# What stops early


class Counted(list[Any]):
    """Counts whose elements are visited."""

    visits = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            Counted.visits += 1
            yield item


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = Counted([inner])
    return inner


@pytest.mark.parametrize("levels", [3, 60, 2000])
def test_no_more_values_are_visited_than_a_spec_may_have(levels: int) -> None:
    wide = Counted([Counted() for _ in range(300_000)])
    Counted.visits = 0
    count, _ = size.measure_shape([nested(levels, 1), wide], size.MOST_VALUES, size.MOST_LEVELS)
    assert count > size.MOST_VALUES and Counted.visits <= size.MOST_VALUES
    assert size.measure_shape(nested(levels, wide), size.MOST_VALUES, size.MOST_LEVELS) >= (
        levels if levels < 64 else 64,
        0,
    )
    assert Counted.visits <= size.MOST_VALUES


def test_no_more_levels_are_visited_than_a_spec_may_have() -> None:
    Counted.visits = 0
    assert (
        size.measure_shape(nested(9000, 1), size.MOST_VALUES, size.MOST_LEVELS)[1]
        == size.MOST_LEVELS + 1
    )
    assert Counted.visits <= size.MOST_LEVELS + 1


def test_whoever_looks_for_a_deep_path_leaves_what_is_below_and_beside_it() -> None:
    below = nested(100, Counted([Counted()] * 300_000))
    Counted.visits = 0
    assert size.too_deep(Counted([below, *([] for _ in range(300_000))])).startswith("spec[0][0]")
    assert Counted.visits <= 2 * size.MOST_LEVELS


@pytest.mark.parametrize("many", [b'"",', b"[0],"])
def test_whoever_cuts_off_what_is_deep_gives_up_early(many: bytes, tokens: list[int]) -> None:
    text = b"[" + DEEP.encode() + b"," + many * (200_000 // len(many)) + b"1]"
    with pytest.raises(Permanent, match="nested too deeply"):
        wire.decode_json(text)
    assert len(tokens) <= wire.MOST_TOKENS + 1
    tokens.clear()
    with pytest.raises(Permanent, match="at most 262144 are mended"):
        wire.decode_json(text * 2)
    assert not tokens


# A watch


async def _watched(text: bytes, take: Callable[[str, str, dict[str, Any]], None]) -> None:
    """Whoever watches is told what comes as one piece."""
    over = asyncio.Event()

    class Server:
        async def get(self, path: str) -> dict[str, Any]:
            return {"metadata": {"resourceVersion": "1"}}

        async def stream(
            self, path: str, silence: float, opened: Callable[[], None], accept: str = ""
        ) -> AsyncIterator[bytes]:
            yield text + b"\n"
            over.set()
            await asyncio.Event().wait()

    found = Watch(
        cast(Any, Server()), "gatewright.dev/v1alpha1", "releases", "", "", take, lambda part: None
    )
    task = asyncio.create_task(found.run())
    await asyncio.wait_for(over.wait(), 10)
    task.cancel()


async def test_others_have_their_turn_between_events_that_come_together() -> None:
    line = told({"x": "x" * 30_000})
    most, since = 0, 0

    def take(where: str, kind: str, found: dict[str, Any]) -> None:
        nonlocal most, since
        since += len(line)
        most = max(most, since)

    async def others() -> None:
        nonlocal since
        while True:
            since = 0
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await _watched(b"\n".join([line] * 60), take)
    task.cancel()
    assert 0 < most <= 200 * 1024


# Lists and answers


class Answers:
    """An API server that answers each path with a text; `metadata` where that alone is asked
    for."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.Response:
        alone = "PartialObjectMetadata" in request.headers["Accept"]
        text = self.texts["metadata" if alone else "whole"]
        return web.Response(body=text, content_type="application/json")


@pytest.fixture
async def server() -> Answers:
    return Answers()


@pytest.fixture
async def kube(server: Answers) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes_client.Configuration(
        host=f"http://127.0.0.1:{runner.addresses[0][1]}"
    )
    found = Kube(kubernetes_client.ApiClient(configuration))
    yield found
    await found.close()
    await runner.cleanup()


def item(line: bytes) -> bytes:
    return line.partition(b'"object":')[2][:-1]


def metadata(*fields: bytes, **meta: Any) -> bytes:
    """As an API server writes metadata alone: who wrote which field stands last."""
    managed = (
        b',"managedFields":[{"manager":"],\\"a","fieldsV1":%s}]' % fields[0] if fields else b""
    )
    return (
        b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'
        + orjson.dumps(
            META
            | {"annotations": {"a": '},{"kind":"PartialObjectMetadata","managedFields":['}}
            | meta
        )[:-1]
        + managed
        + b"}}"
    )


MANY_FIELDS = b'{"f:a":' * 2000 + b"{}" + b"}" * 2000
MORE_FIELDS = b"{%s}" % b",".join(b'"f:%d":{}' % number for number in range(100_000))


@pytest.mark.parametrize("shape", HOSTILE)
async def test_of_a_large_object_that_is_listed_or_read_little_is_read(
    server: Answers, kube: Kube, shape: str, read: list[int]
) -> None:
    one = item(told(HOSTILE[shape], {"state": "Invalid"}, managedFields=MANAGED))
    page = b'{"apiVersion":"gatewright.dev/v1alpha1","items":[%s],"kind":"ReleaseList","metadata":{"continue":""}}\n'
    where = "/apis/gatewright.dev/v1alpha1/releases"
    for text, listed in ((page % one, True), (one + b"\n", False)):
        server.texts["whole"] = text
        read.clear()
        found = (
            [item async for item in kube.each(where)]
            if listed
            else [await kube.get(f"{where}/web")]
        )
        assert sum(read) <= 8 * 1024
        (entry,) = map(TrackedRelease.of, found)
        assert entry.key == ("shop", "web") and entry.working == {"state": "Invalid"}
        assert "KiB of JSON, at most" in entry.view().problems[0]


@pytest.mark.parametrize(
    "fields", [MANY_FIELDS, MORE_FIELDS, MORE_FIELDS.replace(b"{}", MANY_FIELDS, 1)]
)
@pytest.mark.parametrize("count", [1, 3])
async def test_who_wrote_which_field_is_not_read_with_metadata(
    server: Answers, kube: Kube, fields: bytes, count: int, read: list[int]
) -> None:
    items = [metadata(fields, name=f"r-{number}") for number in range(count)]
    items[count // 2] = metadata(name="plain") if count > 1 else items[0]
    head = b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9"},"items":['
    server.texts["metadata"] = head + b",".join(items) + b"]}\n"
    text = outline.page_of_metadata(server.texts["metadata"])
    assert len(text) <= 4 * 1024 and len(orjson.loads(text)["items"]) == count
    server.texts["whole"] = b"{}"
    if len(server.texts["metadata"]) < 2**20:
        found = [
            item["metadata"]["name"] async for item in kube.each("/apis/x", accept=METADATA_ONLY)
        ]
        assert found == (["r-0"] if count == 1 else ["r-0", "plain", "r-2"])


async def test_a_write_is_known_to_have_arrived_whatever_stands_in_managed_fields(
    server: Answers, kube: Kube
) -> None:
    server.texts["metadata"] = metadata(
        MORE_FIELDS.replace(b"{}", MANY_FIELDS, 1), finalizers=["a.io/b"] * 30
    )
    assert (await kube.patch_for_metadata("/apis/x", {}, "merge"))["resourceVersion"] == "7"
    assert (await kube.metadata("/apis/x"))["finalizers"] == ["a.io/b"] * 30
    server.texts["metadata"] = metadata(finalizers=["a.io/b"] * 30)
    assert (await kube.metadata("/apis/x"))["finalizers"] == ["a.io/b"] * 30
