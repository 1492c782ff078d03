"""What a run keeps, how large that may be, and what goes when nobody needs it any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import orjson
import pytest

from gatewright.api import RELEASE
from gatewright.api.status import ReleaseStatus
from gatewright.core.fingerprints import as_stored
from gatewright.core.model.decision import Revision
from gatewright.core.model.view import View
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.children import child_metadata
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.revisions import (
    COPIES_ANNOTATION,
    MAX_REVISION_BYTES,
    MOST_COPIES,
    MOST_PRUNED,
    RUN_LABEL,
    explain_too_large,
    keep_revision,
    prune_revisions,
    read_revision,
)
from tests.fakes.objects import Objects

VIEW = View("shop", "web", "uid-web", 1, None, ReleaseStatus())
OTHER = View("shop", "web", "uid-of-another", 1, None, ReleaseStatus())
REVISIONS = "/apis/apps/v1/namespaces/shop/controllerrevisions"
SECRETS = "/api/v1/namespaces/shop/secrets"


def data(*copies: str) -> dict[str, Any]:
    """What a run keeps that has captured Secrets."""
    secrets = {
        f"secret/s{number}": {"copy": name, "hash": "h"} for number, name in enumerate(copies)
    }
    return {
        "body": {"spec": {}},
        "snapshots": {"target/web": {"template": {}}, "configmap/x": None, **secrets},
    }


async def keep(there: Objects, name: str, run: int, *copies: str, view: View = VIEW) -> None:
    """A run keeps its revision, after the copies that it names."""
    for copy in copies:
        if f"{SECRETS}/{copy}" not in there.objects:
            await there.create(
                SECRETS, {"kind": "Secret", "metadata": child_metadata(view, copy), "data": {}}
            )
    await keep_revision(there, view, Revision(name, data(*copies)), run)


def names(there: Objects) -> list[str]:
    """Everything that is there, by name."""
    return sorted(where.rpartition("/")[2] for where in there.objects)


# --------------------------------------------------------------------------------------------------
# Keep


async def test_a_revision_tells_its_run_and_the_copies_that_it_needs() -> None:
    there = Objects()
    await keep(there, "web-7-a", 7, "copy-b", "copy-a")
    made = there.objects[f"{REVISIONS}/web-7-a"]["metadata"]
    assert made["labels"] == {RELEASE: "web", RUN_LABEL: "7"} and made["annotations"] == {
        COPIES_ANNOTATION: "copy-a,copy-b"
    }
    named = Revision.named(VIEW, "7", data("copy-b", "copy-a"))
    await keep_revision(there, VIEW, named, 7)
    assert await read_revision(there, VIEW, named.name) == data("copy-b", "copy-a")
    await keep(there, "web-8-a", 8)
    assert "annotations" not in there.objects[f"{REVISIONS}/web-8-a"]["metadata"]


async def test_a_revision_that_is_kept_already_is_taken_and_one_of_another_is_not() -> None:
    there, named = Objects(), Revision.named(VIEW, "7", data())
    await keep_revision(there, VIEW, named, 7)
    await keep_revision(there, VIEW, named, 7)
    with pytest.raises(Permanent, match="belongs to another owner"):
        await keep_revision(there, OTHER, named, 7)


CONTENTS: Mapping[str, Any] = {
    "other snapshots": {
        **data(),
        "snapshots": {"target/web": {"template": {"spec": {"hostPID": True}}}},
    },
    "another type": [],
    "nothing": None,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_one_that_was_there_first_with_other_content_is_neither_taken_nor_read(
    content: Any,
) -> None:
    there, named = Objects(), Revision.named(VIEW, "7", data())
    await there.create(
        REVISIONS,
        {
            "kind": "ControllerRevision",
            "metadata": child_metadata(VIEW, named.name),
            "data": content,
        },
    )
    with pytest.raises(Permanent, match="does not hold what its name stands for"):
        await keep_revision(there, VIEW, named, 7)
    with pytest.raises(Permanent, match="does not hold what its name stands for"):
        await read_revision(there, VIEW, named.name)


@pytest.mark.parametrize(
    "name", ["../secrets/keys", "../../../../api/v1/namespaces/kube-system/secrets/a", "a/../b"]
)
def test_a_name_stays_one_part_of_its_path(name: str) -> None:
    where = api_path("apps/v1", "controllerrevisions", "shop", name)
    assert where.rpartition("/")[0] == REVISIONS and ".." not in where.split("/")


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_name_that_leads_elsewhere_is_none(name: str) -> None:
    with pytest.raises(Permanent, match="is no name of an object"):
        await read_revision(Objects(), VIEW, name)


def test_a_revision_is_called_alike_before_and_after_it_was_stored() -> None:
    before = {
        "snapshots": {
            "a": {
                "cpu": 2.0,
                "share": 0.25,
                "big": 1e22,
                "deep": [{"n": 3.0}, ("x",)],
                "none": None,
            }
        }
    }
    after = orjson.loads(orjson.dumps(as_stored(before)))
    assert Revision.named(VIEW, "7", before).name == Revision.named(VIEW, "7", after).name
    assert type(after["snapshots"]["a"]["cpu"]) is int


SIZES: Mapping[str, tuple[dict[str, Any], str]] = {
    "one large ConfigMap": (
        {
            "snapshots": {
                "configmap/big": {"data": {"a": "x" * MAX_REVISION_BYTES}},
                "target/web": {},
            }
        },
        (
            "the largest part is configmap/big (1025 KiB): split it, or leave it out of the "
            "target's config"
        ),
    ),
    "many that are large together": (
        {
            "snapshots": {
                f"configmap/c{number}": {"data": {"a": "x" * (200_000 + number)}}
                for number in range(6)
            }
        },
        "is 1173 KiB, and one object takes 1024 KiB; the largest part is configmap/c5 (196 KiB)",
    ),
    "the spec": (
        {"body": {"spec": "x" * MAX_REVISION_BYTES}, "snapshots": {"configmap/c": {"data": {}}}},
        "the largest part is the pinned spec (1025 KiB): make it smaller",
    ),
    "neither": (
        {"more": "x" * MAX_REVISION_BYTES},
        "the largest part is the record (1025 KiB): make it smaller",
    ),
}


@pytest.mark.parametrize(("kept", "words"), SIZES.values(), ids=SIZES)
async def test_what_is_too_large_is_refused_before_it_is_sent_with_what_would_help(
    kept: dict[str, Any], words: str
) -> None:
    there = Objects()
    assert words in (explain_too_large(kept) or "")
    with pytest.raises(Permanent, match="what this run has to keep for its rollback is"):
        await keep_revision(there, VIEW, Revision("web-1-a", kept), 1)
    assert there.asked == []


def test_the_limit_is_counted_in_bytes_of_json() -> None:
    around = len(b'{"snapshots":{"configmap/c":{"data":{"a":""}}}}')
    fits = {"snapshots": {"configmap/c": {"data": {"a": "x" * (MAX_REVISION_BYTES - around)}}}}
    assert explain_too_large(fits) is None
    fits["snapshots"]["configmap/c"]["data"]["a"] += "x"
    assert explain_too_large(fits) is not None
    assert (
        explain_too_large(
            {"snapshots": {"configmap/c": {"data": {"a": "é" * (MAX_REVISION_BYTES * 2 // 3)}}}}
        )
        is not None
    )


# --------------------------------------------------------------------------------------------------
# Prune


async def prune(
    there: Objects, view: View, keep: Collection[str], history: Collection[int]
) -> None:
    await prune_revisions(cast(Kube, there), view, keep, history)


async def test_what_neither_the_run_nor_the_history_needs_goes_with_its_copies() -> None:
    there = Objects()
    await keep(there, "web-1-a", 1, "copy-1", "copy-shared")
    await keep(there, "web-1-good", 1, "copy-good")
    await keep(there, "web-2-a", 2, "copy-2", "copy-shared")
    await keep(there, "web-3-a", 3, "copy-3", "copy-shared")
    await keep(there, "web-4-a", 4)
    await prune(there, VIEW, {"web-1-good", "web-4-a"}, {3, 4})
    assert names(there) == [
        "copy-3",
        "copy-good",
        "copy-shared",
        "web-1-good",
        "web-3-a",
        "web-4-a",
    ]


async def test_where_nothing_is_old_one_request_is_made() -> None:
    there = Objects()
    await keep(there, "web-1-a", 1, "copy-1")
    there.asked.clear()
    await prune(there, VIEW, {"web-1-a"}, set())
    await prune(there, VIEW, set(), {1})
    assert there.asked == [("list", REVISIONS)] * 2


async def test_what_belongs_to_another_of_the_same_name_stays() -> None:
    there = Objects()
    await keep(there, "web-1-a", 1, "copy-1", view=OTHER)
    # As if somebody had written another's name there.
    await keep(there, "web-1-b", 1, "copy-1", "copy-2")
    await there.create(SECRETS, {"metadata": {"name": "prod-keys"}, "data": {}})
    there.write(
        f"{REVISIONS}/web-1-b",
        {"metadata": {"annotations": {COPIES_ANNOTATION: "copy-1,copy-2,prod-keys"}}},
        "mallory",
    )
    await prune(there, VIEW, set(), set())
    assert names(there) == ["copy-1", "prod-keys", "web-1-a"]


async def test_a_kept_revision_without_its_labels_keeps_its_copies() -> None:
    there = Objects()
    for name, copies in (("web-1-old", ("copy-1", "copy-2")), ("web-2-kept", ("copy-2",))):
        await keep(there, name, 1, *copies)
    meta_ = there.objects[f"{REVISIONS}/web-2-kept"]["metadata"]
    del meta_["labels"], meta_["annotations"]
    await prune(there, VIEW, {"web-2-kept"}, set())
    assert names(there) == ["copy-2", "web-2-kept"]


async def test_of_revisions_that_somebody_has_forged_no_content_is_read() -> None:
    there = Objects()
    await keep(there, "web-1-old", 1)
    await keep(there, "web-2-kept", 2)
    for number in range(500):
        await keep(there, f"forged-{number}", 1)
        del there.objects[f"{REVISIONS}/forged-{number}"]["metadata"]["labels"][RUN_LABEL]
    there.asked.clear()
    await prune(there, VIEW, {"web-2-kept"}, {2})
    assert there.asked == [("list", REVISIONS), ("delete", f"{REVISIONS}/web-1-old")]


async def test_so_many_are_deleted_in_one_pass_and_the_others_by_the_next() -> None:
    there = Objects()
    for number in range(MOST_PRUNED + 5):
        await keep(there, f"web-{number}-old", number)
    await prune(there, VIEW, set(), set())
    assert len(names(there)) == 5
    await prune(there, VIEW, set(), set())
    assert names(there) == []


async def test_where_there_are_too_many_to_know_what_is_needed_nothing_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revisions, "MOST_REVISIONS", 3)
    there = Objects()
    for number in range(4):
        await keep(there, f"web-{number}-old", number)
    with pytest.raises(Permanent, match="more than 3 ControllerRevisions of web; delete some"):
        await prune(there, VIEW, set(), set())
    assert len(names(there)) == 4


async def test_a_revision_that_names_copies_without_an_end_is_passed_over() -> None:
    there = Objects()
    await keep(there, "web-1-old", 1, "copy-1")
    await keep(there, "web-1-forged", 1)
    many = ",".join(f"s{number}" for number in range(MOST_COPIES + 1))
    there.write(
        f"{REVISIONS}/web-1-forged",
        {"metadata": {"annotations": {COPIES_ANNOTATION: many}}},
        "mallory",
    )
    there.asked.clear()
    with pytest.raises(
        Permanent, match=f"web-1-forged names more than {MOST_COPIES} copies; it stays"
    ):
        await prune(there, VIEW, set(), set())
    assert names(there) == ["web-1-forged"]
    assert len(there.asked) < 6


@pytest.mark.parametrize("at", range(1, 8))
async def test_one_that_is_interrupted_is_ended_by_the_next(at: int) -> None:
    class Cut(Objects):
        left = 0

        def _ask(self, verb: str, path: str) -> None:
            super()._ask(verb, path)
            self.left -= 1
            if self.left == 0:
                raise Retryable("503")

    there = Cut()
    for run in (1, 2):
        await keep(there, f"web-{run}-a", run, f"copy-{run}")
    there.left = at  # a list, and twice: read a copy, delete it, delete the revision
    with pytest.raises(Retryable):
        await prune(there, VIEW, set(), set())
    kept = {copy for copy in names(there) if copy.startswith("copy")}
    assert kept <= {
        f"copy-{name.split('-')[1]}" for name in names(there) if name.startswith("web")
    }, "none is orphaned"
    await prune(there, VIEW, set(), set())
    assert names(there) == []


async def test_a_copy_that_must_not_be_deleted_keeps_its_revision_and_no_other() -> None:
    there = Objects()
    for run in (1, 2):
        await keep(there, f"web-{run}-a", run, f"copy-{run}")
    there.refusals["delete", f"{SECRETS}/copy-1"] = Permanent("403")
    with pytest.raises(Permanent, match="403"):
        await prune(there, VIEW, set(), set())
    assert names(there) == ["copy-1", "web-1-a"]


async def test_what_is_gone_already_is_fine() -> None:
    there = Objects()
    await keep(there, "web-1-a", 1, "copy-1")
    there.remove(f"{SECRETS}/copy-1")
    await prune(there, VIEW, set(), set())
    assert names(there) == []


async def test_a_long_name_is_listed_by_what_its_label_can_hold() -> None:
    view = View("shop", "w" * 100, "uid-long", 1, None, ReleaseStatus())
    there = Objects()
    await keep(there, "long-1-a", 1, view=view)
    await prune(there, view, set(), set())
    assert names(there) == []
