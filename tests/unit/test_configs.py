"""ConfigMaps and Secrets: state in, one operation, state out; what people do meanwhile, and what is
said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewright.api import KEY
from gatewright.api.status import ReleaseStatus
from gatewright.core.fingerprints import fingerprint
from gatewright.core.hash_key import KEY_BYTES, HashKey
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.execution import config_standings
from gatewright.runtime.execution.config_standings import compare_config, follow_config
from gatewright.runtime.execution.configs import (
    SnapshotOutdated,
    inspect_config,
    restore_config,
    set_config,
)
from tests.fakes.objects import Objects

VIEW = View("shop", "web", "uid-web", 1, None, ReleaseStatus())
FLAGS, KEYS = "configmap/flags", "secret/keys"
MAPS, SECRETS = "/api/v1/namespaces/shop/configmaps", "/api/v1/namespaces/shop/secrets"
BEFORE = {"VOICE": "off", "KEPT": "yes"}
HASHES, SCOPE = HashKey(b"k" * KEY_BYTES), ("uid-web", "secret/keys")
TOKEN, ROTATED, EARLIER = "b2xk", "bmV3", "ZWFybHk="
RESTORED_KEY = "1.rollback.0-x"


def where(subject: str) -> str:
    return config_standings.config_path("shop", subject)


def setting(values: Mapping[str, str], key: str = "1.beta.flags.1-x") -> Operation:
    return Operation(key, "set", FLAGS, {"set": dict(values)})


def restoring(
    subject: str, *changes: Operation, captured: bool = True, restore: str | None = None
) -> Operation:
    return Operation(
        RESTORED_KEY,
        "restore",
        subject,
        {"captured": captured, "restore": restore},
        changes=changes,
    )


def flags(data: Mapping[str, str] = BEFORE, **more: Any) -> Objects:
    there = Objects()
    body = {
        "kind": "ConfigMap",
        "metadata": {"name": "flags", "namespace": "shop"},
        "data": dict(data),
        **more,
    }
    there.make(MAPS, body, "kubectl-client-side-apply")
    return there


def keys(token: str = TOKEN, **more: Any) -> Objects:
    there = Objects()
    meta = {"name": "keys", "namespace": "shop"}
    there.make(
        SECRETS,
        {"kind": "Secret", "metadata": meta, "type": "Opaque", "data": {"token": token}, **more},
        "ana",
    )
    return there


async def snapshot_of(there: Objects, subject: str) -> dict[str, Any]:
    """The snapshot as a run keeps it, the copy made."""
    sight, copy = await inspect_config(there, VIEW, subject)
    if copy is not None:
        await there.create(SECRETS, copy)
    assert sight.snapshot is not None
    there.asked.clear()
    return dict(sight.snapshot)


def held(there: Objects, subject: str = FLAGS) -> dict[str, Any]:
    """All content there is."""
    found = there.objects[where(subject)]
    return {**(found.get("data") or {}), **(found.get("binaryData") or {})}


def marked(there: Objects, subject: str = FLAGS) -> str | None:
    return (there.objects[where(subject)]["metadata"].get("annotations") or {}).get(KEY)


# --------------------------------------------------------------------------------------------------
# Look


async def test_a_snapshot_of_a_configmap_is_all_its_content_and_the_hash_of_that() -> None:
    there = flags(binaryData={"logo": "AAEC"})
    sight, copy = await inspect_config(there, VIEW, FLAGS)
    content = {"data": BEFORE, "binaryData": {"logo": "AAEC"}}
    assert sight == LiveState({**content, "hash": fingerprint(content)}) and copy is None


async def test_the_hash_tells_data_from_binary_data_and_nothing_from_something() -> None:
    found = [
        (await inspect_config(there, VIEW, FLAGS))[0].snapshot
        for there in (
            flags({"a": "AAEC"}),
            flags({}, binaryData={"a": "AAEC"}),
            flags({}),
            flags({"a": ""}),
        )
    ]
    assert len({item["hash"] for item in found if item is not None}) == 4


async def test_a_snapshot_of_a_secret_is_a_hash_and_an_immutable_copy_that_the_release_owns() -> (
    None
):
    sight, copy = await inspect_config(keys(type="example.com/login"), VIEW, KEYS)
    assert copy is not None and sight.snapshot is not None
    assert sight.snapshot == {
        "copy": copy["metadata"]["name"],
        "type": "example.com/login",
        "hash": HASHES.hash(SCOPE, {"token": TOKEN}),
        "version": sight.snapshot["version"],
    }
    assert TOKEN not in str(sight)
    assert (
        copy["data"] == {"token": TOKEN} and copy["immutable"] is True and copy["type"] == "Opaque"
    )
    assert [owner["uid"] for owner in copy["metadata"]["ownerReferences"]] == [VIEW.uid]


async def test_a_secret_is_not_even_read_where_capturing_is_switched_off() -> None:
    there = keys()
    there.allows = False
    sight, copy = await inspect_config(there, VIEW, KEYS)
    assert copy is None and sight.snapshot is None
    assert "captureSecrets" in (sight.problem or "") and "manifests/capture" in (
        sight.problem or ""
    )
    assert there.asked == []


async def test_the_name_of_a_copy_is_a_name_whatever_it_is_made_of() -> None:
    there = Objects()
    name = "a" * 99 + "." + "b" * 20  # cut after the dot, where no name may end
    there.make(SECRETS, {"metadata": {"name": name, "namespace": "shop"}, "data": {}}, "ana")
    view = View("shop", "c" * 39 + "-release", "uid", 1, None, ReleaseStatus())
    _, copy = await inspect_config(there, view, f"secret/{name}")
    assert copy is not None
    made = copy["metadata"]["name"]
    assert (
        len(made) <= 253 and ".-" not in made and made.startswith("c" * 39 + "-" + "a" * 99 + "-")
    )


@pytest.mark.parametrize("subject", [FLAGS, KEYS])
async def test_what_is_not_there_is_a_problem(subject: str) -> None:
    kind = subject.partition("/")[0]
    assert await inspect_config(Objects(), VIEW, subject) == (
        LiveState(None, problem=f"there is no such {kind} in namespace shop"), None,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Set


async def test_keys_are_set_and_marked_and_nothing_else_is_touched() -> None:
    there = flags()
    done = await set_config(
        there, "shop", setting({"VOICE": "on", "NEW": "1"}), await snapshot_of(there, FLAGS)
    )
    assert done.state == "Succeeded" and marked(there) == "1.beta.flags.1-x"
    assert held(there) == {"VOICE": "on", "KEPT": "yes", "NEW": "1"}


async def test_a_key_that_holds_binary_content_is_set_as_text() -> None:
    there = flags({}, binaryData={"VOICE": "AAEC"})
    await set_config(there, "shop", setting({"VOICE": "on"}))
    assert (
        there.objects[where(FLAGS)]["data"] == {"VOICE": "on"}
        and not there.objects[where(FLAGS)]["binaryData"]
    )


async def test_what_is_set_already_is_only_marked_and_then_left() -> None:
    there = flags({"VOICE": "on"})
    for _ in range(2):
        assert (await set_config(there, "shop", setting({"VOICE": "on"}))).state == "Succeeded"
    assert there.writes() == ["patch"] and marked(there) == "1.beta.flags.1-x"


async def test_the_first_change_is_made_of_what_the_snapshot_holds_or_not_at_all() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    there.write(where(FLAGS), {"data": {"KEPT": "no"}}, "argocd")
    with pytest.raises(
        SnapshotOutdated, match="configmap/flags has changed since its snapshot was taken"
    ) as refused:
        await set_config(there, "shop", setting({"VOICE": "on"}), before)
    assert isinstance(refused.value, Conflict) and there.writes() == []

    # A later change: no snapshot is given.
    await set_config(there, "shop", setting({"VOICE": "on"}))
    assert held(there) == {"VOICE": "on", "KEPT": "no"}


async def test_where_the_content_of_the_last_promotion_is_kept_what_was_found_counts() -> None:
    there = flags()
    found = await snapshot_of(there, FLAGS)
    promoted = {
        "data": {"VOICE": "long ago"},
        "binaryData": {},
        "hash": "of-that",
        "found": found["hash"],
    }
    await set_config(there, "shop", setting({"VOICE": "on"}), promoted)
    assert held(there) == {"VOICE": "on", "KEPT": "yes"}


async def test_a_snapshot_of_an_older_operator_has_no_hash_and_still_counts() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    del before["hash"]
    await set_config(there, "shop", setting({"VOICE": "on"}), before)
    there.write(where(FLAGS), {"metadata": {"annotations": {KEY: None}}}, "ana")
    with pytest.raises(SnapshotOutdated):
        await set_config(there, "shop", setting({"VOICE": "on"}), before)


async def test_a_change_that_was_made_before_a_crash_is_no_foreign_one() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    for _ in range(2):
        assert (
            await set_config(there, "shop", setting({"VOICE": "on"}), before)
        ).state == "Succeeded"
    assert there.writes() == ["patch"]


async def test_what_cannot_be_set_says_what_would_help() -> None:
    with pytest.raises(
        NotFound, match="there is no configmap/flags in namespace shop; create it, then try again"
    ):
        await set_config(Objects(), "shop", setting({"VOICE": "on"}))
    fixed = flags(immutable=True)
    words = (
        "configmap/flags is immutable, and VOICE would have to change; delete it, and create "
        "it as mutable"
    )
    with pytest.raises(Permanent, match=words):
        await set_config(fixed, "shop", setting({"VOICE": "on"}))
    assert fixed.writes() == []
    with pytest.raises(Permanent, match="secret/keys: keys are set in ConfigMaps alone"):
        await set_config(keys(), "shop", Operation("k", "set", KEYS, {"set": {"token": "x"}}))


async def test_what_is_known_may_be_old_and_is_read_again_after_a_refusal() -> None:
    there = flags()
    lens = CachedCluster(there)
    lens.follow(("shop", "web"), {where(FLAGS)})
    await lens.read_fresh(where(FLAGS))
    there.write(where(FLAGS), {"data": {"OTHER": "1"}}, "argocd")  # of which no watch has told yet
    await set_config(lens, "shop", setting({"VOICE": "on"}))
    assert held(there) == {"VOICE": "on", "KEPT": "yes", "OTHER": "1"}
    assert there.writes() == ["patch", "patch"]


async def test_writers_who_never_stop_are_not_fought() -> None:
    class Busy(Objects):
        async def get(self, path: str) -> dict[str, Any]:
            found = await super().get(path)
            self.write(path, {"data": {"TICK": str(len(self.asked))}}, "ticker")
            return found

    there = Busy()
    there.make(MAPS, {"metadata": {"name": "flags", "namespace": "shop"}, "data": {}}, "ana")
    with pytest.raises(Conflict):
        await set_config(there, "shop", setting({"VOICE": "on"}))
    assert there.writes() == ["patch"] * 3 and "VOICE" not in held(there)


# --------------------------------------------------------------------------------------------------
# Restore: ConfigMaps


@dataclass(frozen=True)
class Case:
    """What others do between the run's change and its rollback, and what there is afterwards."""

    captured: bool
    after: Mapping[str, str]
    words: str = ""
    meanwhile: Mapping[str, str | None] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=lambda: {"VOICE": "on", "NEW": "1"})


CASES = {
    "captured, nobody else": Case(True, BEFORE),
    "captured, others changed more": Case(
        True,
        BEFORE,
        "configmap/flags: KEPT, OTHER, changed meanwhile, returned to the snapshot",
        {"KEPT": "no", "OTHER": "x"},
    ),
    "captured, others took a key away": Case(
        True,
        BEFORE,
        "configmap/flags: KEPT, changed meanwhile, returned to the snapshot",
        {"KEPT": None},
    ),
    "captured, never set by the run": Case(
        True,
        BEFORE,
        "configmap/flags: KEPT, changed meanwhile, returned to the snapshot",
        {"KEPT": "no"},
        sets={},
    ),
    "single keys, nobody else": Case(False, BEFORE),
    "single keys, others changed another": Case(
        False,
        {"VOICE": "off", "KEPT": "no"},
        (
            "configmap/flags: KEPT stays as it is, changed since the snapshot (set by argocd "
            "at 2026-01-01T00:00:03Z)"
        ),
        {"KEPT": "no"},
    ),
    "single keys, others added and took away": Case(
        False,
        {"VOICE": "off", "OTHER": "x"},
        "configmap/flags: KEPT, OTHER stay as they are, changed since the snapshot "
        "(set by argocd at 2026-01-01T00:00:03Z)",
        {"KEPT": None, "OTHER": "x"},
    ),
    "single keys, others changed the run's own": Case(
        False,
        BEFORE,
        "configmap/flags: VOICE, changed meanwhile, returned to the snapshot",
        {"VOICE": "beta"},
    ),
    "single keys, others have returned one": Case(False, BEFORE, "", {"VOICE": "off"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_configmap_goes_back_as_wide_as_it_belongs_to_the_run(case: Case) -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    change = setting(case.sets)
    if case.sets:
        await set_config(there, "shop", change, before)
    if case.meanwhile:
        there.write(where(FLAGS), {"data": dict(case.meanwhile)}, "argocd")
    operation = restoring(FLAGS, *([change] if case.sets else ()), captured=case.captured)

    done = await restore_config(there, VIEW, operation, before)
    assert (done.state, done.message, done.notable) == ("Succeeded", case.words, bool(case.words))
    assert held(there) == case.after and marked(there) == RESTORED_KEY

    there.asked.clear()
    again = await restore_config(there, VIEW, operation, before)
    assert again.state == "Succeeded" and there.writes() == [], "what is done is not done twice"
    assert (await follow_config(there, VIEW, operation, before)).state == "Succeeded"
    standing = await compare_config(there, VIEW, [change, operation], before)
    assert standing.difference == ""


async def test_keys_go_back_to_what_they_were_before_the_first_of_several_changes() -> None:
    there = flags({"VOICE": "off"}, binaryData={"logo": "AAEC"})
    before = await snapshot_of(there, FLAGS)
    first, second = (
        setting({"VOICE": "on", "logo": "text"}, "1.a-x"),
        setting({"VOICE": "loud", "NEW": "1"}, "1.b-x"),
    )
    await set_config(there, "shop", first, before)
    await set_config(there, "shop", second)
    assert held(there) == {"VOICE": "loud", "NEW": "1", "logo": "text"}
    done = await restore_config(
        there, VIEW, restoring(FLAGS, first, second, captured=False), before
    )
    assert done.message == "" and there.objects[where(FLAGS)]["data"] == {"VOICE": "off"}
    assert there.objects[where(FLAGS)]["binaryData"] == {"logo": "AAEC"}


@pytest.mark.parametrize("captured", [True, False])
async def test_a_configmap_that_is_gone_is_made_again(captured: bool) -> None:
    there = flags(binaryData={"logo": "AAEC"})
    before = await snapshot_of(there, FLAGS)
    change = setting({"VOICE": "on"})
    await set_config(there, "shop", change, before)
    there.remove(where(FLAGS))
    operation = restoring(FLAGS, change, captured=captured)
    assert (await follow_config(there, VIEW, operation, before)).state == "Absent"

    done = await restore_config(there, VIEW, operation, before)
    assert (
        done.notable
        and done.message == "configmap/flags was gone; it was made again from its snapshot"
    )
    made = there.objects[where(FLAGS)]
    assert (made["kind"], made["data"], made["binaryData"]) == (
        "ConfigMap",
        BEFORE,
        {"logo": "AAEC"},
    )
    assert set(made["metadata"]) - {"uid", "resourceVersion", "managedFields"} == {
        "name",
        "namespace",
        "annotations",
    }
    assert (await follow_config(there, VIEW, operation, before)).state == "Succeeded"


async def test_what_was_immutable_is_made_again_as_that() -> None:
    there = flags(immutable=True)
    before = await snapshot_of(there, FLAGS)
    there.remove(where(FLAGS))
    await restore_config(there, VIEW, restoring(FLAGS), before)
    assert there.objects[where(FLAGS)]["immutable"] is True


async def test_another_immutable_one_of_the_same_name_is_refused_with_a_remedy_that_helps() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    there.remove(where(FLAGS))
    meta = {"name": "flags", "namespace": "shop"}
    there.make(MAPS, {"metadata": meta, "data": {"VOICE": "x"}, "immutable": True}, "kustomize")
    words = (
        "flags is immutable, and KEPT, VOICE would have to change; delete it, and it is made "
        "again from its snapshot"
    )
    with pytest.raises(Permanent, match=words):
        await restore_config(there, VIEW, restoring(FLAGS), before)
    there.remove(where(FLAGS))
    assert (await restore_config(there, VIEW, restoring(FLAGS), before)).state == "Succeeded"
    assert held(there) == BEFORE


async def test_without_a_snapshot_nothing_is_restored() -> None:
    there = flags()
    done = await restore_config(there, VIEW, restoring(FLAGS), None)
    assert (done.state, done.message) == ("Failed", "there is no snapshot of configmap/flags")
    assert (await follow_config(there, VIEW, restoring(FLAGS), None)).state == "Failed"
    assert there.writes() == []


async def test_who_it_was_is_not_worth_a_failure() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    change = setting({"VOICE": "on"})
    await set_config(there, "shop", change, before)
    there.write(where(FLAGS), {"data": {"KEPT": "no"}}, "argocd")
    there.refusals["managed", where(FLAGS)] = Retryable("503")
    done = await restore_config(there, VIEW, restoring(FLAGS, change, captured=False), before)
    assert done.message == "configmap/flags: KEPT stays as it is, changed since the snapshot"


# --------------------------------------------------------------------------------------------------
# Restore: Secrets

STAYS = (
    "secret/keys was changed during the run and stays as it is (restore: Always would return it)"
)
RETURNED = "secret/keys: token, changed meanwhile, returned to the snapshot"
# Content at the snapshot's promotion, found before the first change, now; restore -> then, words.
SECRET_CASES = {
    "nobody changed it": (TOKEN, TOKEN, TOKEN, None, TOKEN, ""),
    "rotated in the run": (TOKEN, TOKEN, ROTATED, None, ROTATED, STAYS),
    "rotated in the run, Always": (TOKEN, TOKEN, ROTATED, "Always", TOKEN, RETURNED),
    "changed before the run": (EARLIER, TOKEN, TOKEN, None, EARLIER, RETURNED),
    "changed before and rotated in the run": (EARLIER, TOKEN, ROTATED, None, ROTATED, STAYS),
    "changed before and rotated in the run, Always": (
        EARLIER,
        TOKEN,
        ROTATED,
        "Always",
        EARLIER,
        RETURNED,
    ),
    "put back in the run to what was promoted": (EARLIER, TOKEN, EARLIER, None, EARLIER, ""),
}


@pytest.mark.parametrize(
    ("promoted", "found", "now", "always", "then", "words"), SECRET_CASES.values(), ids=SECRET_CASES
)
async def test_a_secret_goes_back_unless_somebody_changed_it_in_the_run(
    promoted: str, found: str, now: str, always: str | None, then: str, words: str
) -> None:
    there = keys(promoted)
    before = await snapshot_of(there, KEYS)
    there.write(where(KEYS), {"data": {"token": found}}, "ana")
    if found != promoted:
        before["found"] = HASHES.hash(SCOPE, {"token": found})
    there.write(where(KEYS), {"data": {"token": now}}, "ana")
    operation = restoring(KEYS, restore=always)

    done = await restore_config(there, VIEW, operation, before)
    assert (done.state, done.message, done.notable) == ("Succeeded", words, bool(words))
    assert held(there, KEYS) == {"token": then}
    if words == STAYS:
        assert there.writes() == [], "what is left alone is not even marked"
    followed = await follow_config(there, VIEW, operation, before)
    assert followed.state == "Succeeded" and (followed.message == STAYS) == (words == STAYS)
    standing = await compare_config(there, VIEW, [operation], before)
    assert standing.difference == "" and standing.remark == (STAYS if words == STAYS else "")


async def test_a_snapshot_is_no_oracle_for_who_may_not_read_the_secret() -> None:
    """Who may `view` reads the snapshot, knows the Release's UID, and tries passwords."""
    sight, copy = await inspect_config(keys(), VIEW, KEYS)
    assert copy is not None and sight.snapshot is not None
    said = f"{dict(sight.snapshot)} {copy['metadata']['name']}"
    data = {"token": TOKEN}
    for guess in data, [VIEW.uid, data], {"data": data, "binaryData": {}}, TOKEN:
        assert fingerprint(guess)[:10] not in said
        assert HASHES.digest(guess)[:10] not in said.replace(copy["metadata"]["name"], "")


async def test_the_same_content_has_the_same_hash_and_copy_so_that_no_revision_is_made() -> None:
    first, second = [await inspect_config(keys(), VIEW, KEYS) for _ in range(2)]
    assert first == second
    other = await inspect_config(keys(ROTATED), VIEW, KEYS)
    assert other[0].snapshot != first[0].snapshot


@pytest.mark.parametrize(
    ("found", "now", "then"),
    [
        (TOKEN, TOKEN, TOKEN),
        (ROTATED, ROTATED, TOKEN),
        (TOKEN, ROTATED, ROTATED),
    ],
)
async def test_a_hash_without_a_key_is_still_understood(found: str, now: str, then: str) -> None:
    """Snapshots that an older operator has recorded."""
    there = keys()
    before = await snapshot_of(there, KEYS)
    before |= {"hash": fingerprint({"token": TOKEN}), "found": fingerprint({"token": found})}
    there.write(where(KEYS), {"data": {"token": now}}, "ana")

    done = await restore_config(there, VIEW, restoring(KEYS), before)
    assert done.state == "Succeeded" and held(there, KEYS) == {"token": then}


LOST_KEYS: dict[str, HashKey | Exception] = {
    "made anew": HashKey(b"n" * KEY_BYTES),
    "not to be had": Permanent("forbidden"),
}


@pytest.mark.parametrize("key", LOST_KEYS.values(), ids=LOST_KEYS)
@pytest.mark.parametrize("always", [None, "Always"])
async def test_a_secret_goes_back_also_where_the_key_of_its_hash_is_lost(
    key: HashKey | Exception, always: str | None
) -> None:
    """Seen on a cluster: it stayed, and the message said that it was changed during the run."""
    there = keys()
    before = await snapshot_of(there, KEYS)
    # Changed together with the version, before the run began.
    there.write(where(KEYS), {"data": {"token": EARLIER}}, "argocd")
    now = await snapshot_of(there, KEYS)
    before |= {"found": now["hash"], "foundVersion": now["version"]}
    there.key = key

    operation = restoring(KEYS, restore=always)
    done = await restore_config(there, VIEW, operation, before)
    assert done.state == "Succeeded" and "stays" not in done.message
    assert held(there, KEYS) == {"token": TOKEN}
    assert (await follow_config(there, VIEW, operation, before)).state == "Succeeded"
    assert (await compare_config(there, VIEW, [operation], before)).difference == ""
    there.remove(where(KEYS))
    again = await restore_config(there, VIEW, operation, before)
    assert again.state == "Succeeded" and "a copy that cannot be verified" in again.message
    assert held(there, KEYS) == {"token": TOKEN}


@pytest.mark.parametrize("key", LOST_KEYS.values(), ids=LOST_KEYS)
async def test_where_nobody_can_tell_whether_a_secret_was_rotated_it_stays_and_that_is_said(
    key: HashKey | Exception,
) -> None:
    there = keys()
    before = await snapshot_of(there, KEYS)
    there.write(where(KEYS), {"data": {"token": ROTATED}}, "ana")
    there.key = key
    done = await restore_config(there, VIEW, restoring(KEYS), before)
    assert held(there, KEYS) == {"token": ROTATED} and done.notable
    assert "nobody can tell" in done.message and "was changed during" not in done.message
    done = await restore_config(there, VIEW, restoring(KEYS, restore="Always"), before)
    assert held(there, KEYS) == {"token": TOKEN}


async def test_the_hash_of_one_secret_is_not_that_of_another_with_the_same_content() -> None:
    """Seen on a cluster: who may make Secrets elsewhere compared hashes, guess by guess."""
    here, _ = await inspect_config(keys(), VIEW, KEYS)
    other = View("shop", "web", "uid-other", 1, None, ReleaseStatus())
    there, _ = await inspect_config(keys(), other, KEYS)
    named = keys()
    named.make(
        SECRETS,
        {"metadata": {"name": "guess", "namespace": "shop"}, "data": {"token": TOKEN}},
        "ana",
    )
    guess, _ = await inspect_config(named, VIEW, "secret/guess")
    found = [sight.snapshot["hash"] for sight in (here, there, guess) if sight.snapshot]
    assert len(set(found)) == 3


async def test_a_copy_that_can_be_changed_is_not_what_was_kept() -> None:
    there = keys()
    before = await snapshot_of(there, KEYS)
    there.key = LOST_KEYS["made anew"]
    copy = there.objects[f"{SECRETS}/{before['copy']}"]
    copy["immutable"], copy["data"] = False, {"token": EARLIER}
    there.write(where(KEYS), {"data": {"token": ROTATED}}, "ana")
    with pytest.raises(Permanent, match="is not what was kept"):
        await restore_config(there, VIEW, restoring(KEYS, restore="Always"), before)


async def test_without_a_key_nothing_is_captured_and_it_is_said_why() -> None:
    there = keys()
    there.key = Permanent("Secret ops/gatewright-hash-key cannot be used")
    sight, copy = await inspect_config(there, VIEW, KEYS)
    assert copy is None and "gatewright-hash-key cannot be used" in str(sight.problem)


@pytest.mark.parametrize("always", [None, "Always"])
async def test_a_secret_that_is_gone_is_made_again_with_its_type(always: str | None) -> None:
    there = keys(type="kubernetes.io/tls")
    before = await snapshot_of(there, KEYS)
    there.remove(where(KEYS))
    operation = restoring(KEYS, restore=always)
    assert (await follow_config(there, VIEW, operation, before)).state == "Absent"
    done = await restore_config(there, VIEW, operation, before)
    assert (
        done.notable and done.message == "secret/keys was gone; it was made again from its snapshot"
    )
    made = there.objects[where(KEYS)]
    assert (made["kind"], made["type"], made["data"]) == (
        "Secret",
        "kubernetes.io/tls",
        {"token": TOKEN},
    )
    assert "immutable" not in made and "ownerReferences" not in made["metadata"]


async def test_a_copy_that_is_not_what_was_kept_is_not_restored() -> None:
    there = keys()
    before = await snapshot_of(there, KEYS)
    there.write(where(KEYS), {"data": {"token": ROTATED}}, "ana")
    operation = restoring(KEYS, restore="Always")
    copy = f"{SECRETS}/{before['copy']}"
    kept = there.objects[copy]
    there.objects[copy] = {**kept, "data": {"token": "Zm9yZ2Vk"}}
    with pytest.raises(Permanent, match="is not what was kept; bring secret/keys back by hand"):
        await restore_config(there, VIEW, operation, before)
    there.objects[copy] = {
        **kept,
        "metadata": {**kept["metadata"], "ownerReferences": [{"uid": "another"}]},
    }
    with pytest.raises(Permanent, match="is not what was kept"):
        await restore_config(there, VIEW, operation, before)
    there.remove(copy)
    with pytest.raises(Permanent, match="of secret/keys is gone: somebody has deleted it"):
        await restore_config(there, VIEW, operation, before)
    assert held(there, KEYS) == {"token": ROTATED}


# --------------------------------------------------------------------------------------------------
# Follow


async def test_a_mark_alone_is_no_success() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    change = setting({"VOICE": "on", "NEW": "1"})
    assert (await follow_config(there, VIEW, change, before)).state == "Absent"
    await set_config(there, "shop", change, before)
    assert (await follow_config(there, VIEW, change, before)).state == "Succeeded"

    there.write(where(FLAGS), {"data": {"VOICE": "off"}}, "argocd")
    found = await follow_config(there, VIEW, change, before)
    assert found.state == "Running" and found.stuck
    assert found.message == (
        'configmap/flags: VOICE is "off" instead of "on" (set by argocd at 2026-01-01T00:00:03Z)'
    )  # fmt: skip
    there.write(where(FLAGS), {"data": {"VOICE": "on"}}, "argocd")
    assert (await follow_config(there, VIEW, change, before)).state == "Succeeded"


async def test_a_restore_that_somebody_undid_is_said() -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    change = setting({"VOICE": "on"})
    await set_config(there, "shop", change, before)
    operation = restoring(FLAGS, change)
    await restore_config(there, VIEW, operation, before)
    there.write(where(FLAGS), {"data": {"VOICE": "on", "KEPT": "no", "OTHER": "x"}}, "argocd")
    found = await follow_config(there, VIEW, operation, before)
    assert found.state == "Running" and found.stuck
    assert found.message == (
        'configmap/flags: VOICE is "on" instead of "off"; KEPT, OTHER not as in its snapshot '
        "(set by argocd at 2026-01-01T00:00:04Z)"
    )


async def test_a_secret_that_somebody_changed_after_it_had_to_return_is_said_without_a_value() -> (
    None
):
    there = keys()
    before = await snapshot_of(there, KEYS)
    operation = restoring(KEYS, restore="Always")
    there.write(where(KEYS), {"data": {"token": ROTATED}}, "ana")
    await restore_config(there, VIEW, operation, before)
    there.write(where(KEYS), {"data": {"token": ROTATED}}, "ana")
    found = await follow_config(there, VIEW, operation, before)
    assert found.state == "Running" and found.stuck
    assert (
        found.message
        == "secret/keys does not hold what its snapshot does (set by ana at 2026-01-01T00:00:05Z)"
    )


@pytest.mark.parametrize("subject", [FLAGS, KEYS])
async def test_what_was_captured_and_never_changed_is_not_written(subject: str) -> None:
    there = keys() if subject == KEYS else flags()
    before, operation = await snapshot_of(there, subject), restoring(subject)
    assert (await follow_config(there, VIEW, operation, before)).state == "Succeeded"
    assert (await restore_config(there, VIEW, operation, before)).state == "Succeeded"
    assert there.writes() == [], "a policy that refuses writes for a while keeps nobody"


async def test_what_is_gone_has_failed_where_it_was_set_and_is_to_be_done_again_where_it_returns() -> (
    None
):
    gone = await follow_config(Objects(), VIEW, setting({"VOICE": "on"}), None)
    assert gone.state == "Failed" and gone.missing
    assert gone.message == "configmap/flags is gone: somebody has deleted it; create it again"
    assert (await follow_config(Objects(), VIEW, restoring(FLAGS), {"data": {}})).state == "Absent"


# --------------------------------------------------------------------------------------------------
# Compare


async def test_what_nobody_has_changed_yet_is_not_compared() -> None:
    there = keys()
    assert (await compare_config(there, VIEW, [], None)).difference == "" and there.asked == []


@dataclass(frozen=True)
class Foreign:
    """What somebody did after the operations, and what is said of it."""

    change: Mapping[str, Any]
    difference: str


ARGO = "(set by argocd at 2026-01-01T00:00:04Z)"
FOREIGN = {
    "nothing": Foreign({}, ""),
    "a key that is none of ours": Foreign({"data": {"KEPT": "no"}}, ""),
    "ours": Foreign(
        {"data": {"VOICE": "off"}}, f'configmap/flags: VOICE is "off" instead of "loud" {ARGO}'
    ),
    "ours, taken away": Foreign(
        {"data": {"VOICE": None}},
        (
            'configmap/flags: VOICE is missing instead of "loud" (last written by argocd at '
            "2026-01-01T00:00:04Z)"
        ),
    ),
    "ours, as binary": Foreign(
        {"data": {"VOICE": None}, "binaryData": {"VOICE": "AAEC"}},
        f'configmap/flags: VOICE is binary content instead of "loud" {ARGO}',
    ),
    "two of ours": Foreign(
        {"data": {"NEW": "2", "VOICE": "off"}},
        f'configmap/flags: NEW is "2" instead of "1"; VOICE is "off" instead of "loud" {ARGO}',
    ),
    "a value that may be a secret": Foreign(
        {"data": {"VOICE": "sk-live-0123456789abcdefghij"}},
        f'configmap/flags: VOICE is *** instead of "loud" {ARGO}',
    ),
    "a value with lines": Foreign(
        {"data": {"VOICE": "a\nReady: True"}},
        f'configmap/flags: VOICE is "a / Ready: True" instead of "loud" {ARGO}',
    ),
    "our mark only": Foreign({"metadata": {"annotations": {KEY: None}}}, ""),
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
async def test_the_keys_that_a_run_has_set_are_compared(foreign: Foreign) -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    operations = [
        setting({"VOICE": "on", "NEW": "1"}, "1.a-x"),
        setting({"VOICE": "loud"}, "1.b-x"),
    ]
    await set_config(there, "shop", operations[0], before)
    await set_config(there, "shop", operations[1])
    if foreign.change:
        there.write(where(FLAGS), foreign.change, "argocd")
    there.asked.clear()
    standing = await compare_config(there, VIEW, operations, before)
    assert standing.difference == foreign.difference
    asked = [verb for verb, _ in there.asked]
    assert asked == (["get", "managed"] if foreign.difference else ["get"]), (
        "more is asked only where it is needed"
    )


RESTORED = {
    "captured: all of it": (
        True,
        {"KEPT": "no"},
        f"configmap/flags: KEPT not as in its snapshot {ARGO}",
    ),
    "captured: a key too many": (
        True,
        {"OTHER": "x"},
        f"configmap/flags: OTHER not as in its snapshot {ARGO}",
    ),
    "single keys: others": (False, {"KEPT": "no", "OTHER": "x"}, ""),
    "single keys: ours": (
        False,
        {"VOICE": "on"},
        f'configmap/flags: VOICE is "on" instead of "off" {ARGO}',
    ),
    "single keys: ours, new": (
        False,
        {"NEW": "1"},
        f'configmap/flags: NEW is "1" and should not be there {ARGO}',
    ),
}


@pytest.mark.parametrize(("captured", "change", "difference"), RESTORED.values(), ids=RESTORED)
async def test_a_restore_stands_for_the_snapshot(
    captured: bool, change: dict[str, str], difference: str
) -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    first = setting({"VOICE": "on", "NEW": "1"})
    await set_config(there, "shop", first, before)
    operation = restoring(FLAGS, first, captured=captured)
    await restore_config(there, VIEW, operation, before)
    there.write(where(FLAGS), {"data": change}, "argocd")
    assert (await compare_config(there, VIEW, [first, operation], before)).difference == difference


@pytest.mark.parametrize("captured", [True, False])
async def test_what_a_compensation_sets_after_a_restore_is_wanted_too(captured: bool) -> None:
    there = flags()
    before = await snapshot_of(there, FLAGS)
    first, switch = setting({"NEW": "1"}), setting({"VOICE": "never"}, "1.rollback.1-x")
    await set_config(there, "shop", first, before)
    restore = restoring(FLAGS, first, captured=captured)
    await restore_config(there, VIEW, restore, before)
    await set_config(there, "shop", switch)
    assert (await compare_config(there, VIEW, [first, restore, switch], before)).difference == ""
    there.write(where(FLAGS), {"data": {"VOICE": "off"}}, "ana")
    found = await compare_config(there, VIEW, [first, restore, switch], before)
    assert 'VOICE is "off" instead of "never" (set by ana' in found.difference


@pytest.mark.parametrize(
    ("make", "operation"), [(flags, setting({"VOICE": "on"})), (keys, restoring(KEYS))]
)
async def test_what_is_gone_is_a_difference(
    make: Callable[[], Objects], operation: Operation
) -> None:
    found = make()
    before = await snapshot_of(found, operation.subject)
    found.remove(where(operation.subject))
    standing = await compare_config(found, VIEW, [operation], before)
    assert standing.difference == f"{operation.subject} is gone: somebody has deleted it"


async def test_a_secret_that_has_not_returned_is_a_difference_without_a_value() -> None:
    there = keys(EARLIER)
    before = await snapshot_of(there, KEYS)
    there.write(where(KEYS), {"data": {"token": TOKEN}}, "ana")
    before["found"] = fingerprint({"token": TOKEN})
    standing = await compare_config(there, VIEW, [restoring(KEYS)], before)
    assert (
        standing.difference
        == "secret/keys does not hold what its snapshot does (set by ana at 2026-01-01T00:00:03Z)"
    )


async def test_a_difference_is_said_of_a_fresh_answer_alone() -> None:
    there = flags()
    lens = CachedCluster(there)
    lens.follow(("shop", "web"), {where(FLAGS)})
    change = setting({"VOICE": "on"})
    await set_config(lens, "shop", change)
    known = await there.get(where(FLAGS))
    known["data"]["VOICE"] = "off"
    known["metadata"]["resourceVersion"] = str(int(known["metadata"]["resourceVersion"]) + 1)
    # Somebody changed it, and back, of which no watch has told yet.
    lens.event(where(FLAGS), "MODIFIED", known)
    assert (await compare_config(lens, VIEW, [change], None)).difference == ""
    assert (await follow_config(lens, VIEW, change, None)).state == "Succeeded"
    there.remove(where(FLAGS))
    assert "is gone" in (await compare_config(lens, VIEW, [change], None)).difference


async def test_an_operation_that_nobody_knows_is_an_error() -> None:
    there = flags()
    with pytest.raises(Permanent, match="nobody knows how to apply a ConfigMap"):
        await compare_config(there, VIEW, [Operation("k", "apply", FLAGS, {})], None)


async def test_of_many_keys_and_people_some_are_named() -> None:
    there = flags({})
    change = setting({f"KEY{number}": "1" for number in range(9)})
    await set_config(there, "shop", change)
    for number in range(9):
        there.write(
            where(FLAGS), {"data": {f"KEY{number}": "2", f"OTHER{number}": "x"}}, f"person{number}"
        )
    words = (await compare_config(there, VIEW, [change], None)).difference
    assert words.count(" instead of ") == 5 and "; 4 more of its keys (" in words
    assert words.count("person") == 5 and len(words) < 600
    whole = (
        await compare_config(there, VIEW, [restoring(FLAGS)], {"data": {}, "binaryData": {}})
    ).difference
    assert "KEY0, KEY1, KEY2, KEY3, KEY4 and 13 more not as in its snapshot" in whole
