"""Every verb in every state, by four users, as a table: which exit code, and what is said.

Each row is a state of a Release, each entry a verb: `+` is accepted (exit code 0), `-` refused by
the operator (1), and the words that are said. What the API server refuses is the same in every
state: ben may approve, reject and confirm alone, cem may only see, dan may nothing. Verbs that are
refused share one Release of the state, and it has to be as it was afterwards; each that is accepted
has a Release of its own.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gatewright.codegen import rbac
from gatewright.plugin import acts
from gatewright.plugin.__main__ import main
from gatewright.plugin.cluster import Cluster
from gatewright.plugin.commands import ACTIONS
from tests.apiserver.people import RBAC
from tests.harness.lab import CONNECTIONS, Lab, Site
from tests.harness.scenarios import gate, query

pytestmark = pytest.mark.apiserver

ROLES = {"ana": rbac.RELEASER_ROLE, "ben": rbac.APPROVER_ROLE, "cem": f"{rbac.ROLE_NAME}-view"}
GROUPS = {"ana": ["release-managers"]}
BEN_MAY = ("approve", "reject", "confirm")
SEEN = ("status", "explain", "history", "checklist", "connections", "plan")
GO = {"name": "go", "approval": {"groups": ["release-managers"]}}
CONFIRM = {"name": "keys", "confirm": {"instructions": "Rotate the keys."}}
Spec = dict[str, Any]


@dataclass
class Row:
    """One state: how a Release gets there, and what becomes of each verb."""

    spec: Callable[[str, str], Spec]
    """Of a namespace and a name."""
    is_there: Callable[[Mapping[str, Any]], bool]
    """Whether a status is that state."""
    ana: Mapping[str, str]
    """What each verb comes to for who may do everything."""
    ben: Mapping[str, str] = field(default_factory=dict)
    """Where it is otherwise for who is no member of release-managers."""
    before: tuple[str, ...] = ()
    """A verb of ana's that leads there."""
    plan_code: int = 0


def _spec(name: str, gates: list[Spec], **more: Any) -> Spec:
    stage = {
        "name": "ship",
        "steps": [
            *more.pop("first", []),
            {"name": "set", "flags": {"configMap": f"{name}-flags", "set": {"A": "new"}}},
        ],
        "gates": gates,
        **more.pop("stage", {}),
    }
    speak = {"name": "say", "flags": {"configMap": f"{name}-words", "set": {"SAY": "yes"}}}
    procedures = [{"name": "speak", "steps": [speak]}]
    return {
        "version": "2.0.0",
        "adopt": "Never",
        "stages": [stage],
        "procedures": procedures,
        **more,
    }


def _good(namespace: str) -> list[Spec]:
    return [gate("errors", query("errors", namespace))]


def _bad(namespace: str) -> list[Spec]:
    return [gate("errors", query("broken", namespace))]


def _rolled_back(namespace: str, name: str, **rollback: Any) -> Spec:
    return _spec(name, _bad(namespace), rollback=rollback)


def _phase(phase: str, state: str = "") -> Callable[[Mapping[str, Any]], bool]:
    def is_there(status: Mapping[str, Any]) -> bool:
        is_phase = (status.get("run") or {}).get("phase") == phase
        return is_phase and state in ("", status.get("state"))

    return is_there


def _ended(outcome: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda status: (status.get("run") or {}).get("outcome") == outcome


NO_RUN = "- no run is under way"
NOBODY = "- spec.notify names nobody"
AT_REST = {**dict.fromkeys(ACTIONS, NO_RUN), "notify": NOBODY}
UNDER_WAY = {
    "notify": NOBODY,
    "run": "+ procedure speak",
    "hotfix": "- a Hotfix starts a run, and one is under way",
}
NEVER = [{"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "timeZone": "UTC", "duration": "1m"}]
MORE: Mapping[str, tuple[str, ...]] = {
    "run": ("speak", "--reason", "it is asked for"),
    "hotfix": ("--reason", "it is asked for"),
    "notify": ("--test",),
}
"""What some verbs need beside the name of the Release."""
TABLE: Mapping[str, Row] = {
    "preflight": Row(
        lambda ns, name: _spec(name, _good(ns), preflight=[GO]),
        _phase("Preflight", "WaitingForPerson"),
        {
            **UNDER_WAY,
            "approve": "+ approval check go is approved by ana",
            "reject": "+ is rejected",
            "confirm": "-",
            "retry": "-",
            "skip": "-",
            "promote": "-",
            "rollback": "- nothing was touched yet",
            "abort": "+ run 1 has ended",
            "pause": "+ run 1 is paused",
            "resume": "- run 1 is not paused",
        },
        {"approve": "- asks for a member of release-managers"},
    ),
    "manual": Row(
        lambda ns, name: _spec(name, _good(ns), first=[CONFIRM]),
        _phase("Progressing", "WaitingForPerson"),
        {
            **UNDER_WAY,
            "approve": "- is answered by Confirm or Reject",
            "reject": "+",
            "confirm": "+",
            "retry": "- Retry is for a run that is Paused",
            "skip": "+ step keys of stage ship is skipped",
            "promote": "-",
            "rollback": "+ 2.0.0 is rolled back",
            "abort": "+ run 1 is undone and ends",
            "pause": "+ run 1 is paused",
            "resume": "- run 1 is not paused",
        },
    ),
    "baking": Row(
        lambda ns, name: _spec(name, _good(ns), stage={"bake": "1h"}),
        _phase("Progressing", "Baking"),
        {
            **UNDER_WAY,
            "approve": "-",
            "reject": "-",
            "confirm": "-",
            "retry": "- Retry is for a run that is Paused",
            "skip": "+ stage ship is skipped",
            "promote": "+ the bake of stage ship ends now",
            "rollback": "+ 2.0.0 is rolled back",
            "abort": "+ run 1 is undone and ends",
            "pause": "+ run 1 is paused",
            "resume": "- run 1 is not paused",
        },
    ),
    "paused": Row(
        lambda ns, name: _spec(name, _bad(ns), stage={"onFailure": "Pause"}),
        _phase("Paused", "Paused"),
        {
            **UNDER_WAY,
            "approve": "-",
            "reject": "-",
            "confirm": "-",
            "retry": "+ stage ship starts again, attempt 2",
            "skip": "+ stage ship is skipped",
            "promote": "- Promote is for a run that is Progressing or Guarding",
            "rollback": "+ 2.0.0 is rolled back",
            "abort": "+ run 1 is undone and ends",
            "pause": "+ run 1 is paused",
            "resume": "- run 1 is not paused",
        },
    ),
    "suspended": Row(
        lambda ns, name: _spec(name, _good(ns), stage={"bake": "1h"}),
        _phase("Progressing", "Suspended"),
        {
            **UNDER_WAY,
            "approve": "-",
            "reject": "-",
            "confirm": "-",
            "retry": "- Retry is for a run that is Paused",
            "skip": "+ stage ship is skipped",
            "promote": "- clocks stand still",
            "rollback": "+ 2.0.0 is rolled back",
            "abort": "+ run 1 is undone and ends",
            "pause": "- run 1 is paused already, by ana",
            "resume": "+ run 1 goes on",
        },
        before=("pause",),
    ),
    "guarding": Row(
        lambda ns, name: _spec(name, _good(ns), guards=_good(ns), guardFor="1h"),
        _phase("Guarding", "Guarding"),
        {
            **UNDER_WAY,
            "approve": "-",
            "reject": "-",
            "confirm": "-",
            "retry": "- Retry is for a run that is Paused",
            "skip": "- Skip is for a run that is Progressing or Paused",
            "promote": "+ guards end now",
            "rollback": "+ 2.0.0 is rolled back",
            "abort": "+ run 1 is undone and ends",
            "pause": "+ run 1 is paused",
            "resume": "- run 1 is not paused",
        },
    ),
    "verifying": Row(
        lambda ns, name: _rolled_back(ns, name, verify=[gate("back", query("silent", ns))]),
        _phase("Verifying"),
        {
            **UNDER_WAY,
            "approve": "-",
            "reject": "-",
            "confirm": "-",
            "retry": "- Retry is for a run that is Paused",
            "skip": "- Skip is for a run that is",
            "promote": "- Promote is for a run that is",
            "rollback": "- Rollback is for a run that is",
            "abort": "- Abort is for a run that is",
            "pause": "- Pause is for a run that is",
            "resume": "- run 1 is not paused",
        },
    ),
    "promoted": Row(
        lambda ns, name: _spec(name, _good(ns)),
        _ended("Promoted"),
        {
            **AT_REST,
            "retry": "- its version is live and last good",
            "hotfix": "- its version is live and last good",
            "run": "+ procedure speak",
            "rollback": "+ 2.0.0 is undone",
        },
    ),
    "rolled-back": Row(
        lambda ns, name: _rolled_back(ns, name),
        _ended("RolledBack"),
        {
            **AT_REST,
            "retry": "+",
            "hotfix": "+",
            "run": "+",
            "rollback": "-",
        },
    ),
    "aborted": Row(
        lambda ns, name: _spec(name, _good(ns), preflight=[GO]),
        _ended("Aborted"),
        {
            **AT_REST,
            "retry": "+",
            "hotfix": "+",
            "run": "+",
            "rollback": "-",
        },
        before=("abort",),
    ),
    "rollback-failed": Row(
        lambda ns, name: _rolled_back(ns, name, verify=_bad(ns), within="1s"),
        _ended("RollbackFailed"),
        {
            **AT_REST,
            "confirm": "+",
            "retry": "+",
            "rollback": "+",
            "hotfix": "+",
            "run": "+",
        },
    ),
    "observed": Row(
        lambda ns, name: _spec(name, _good(ns), mode="Observe"),
        _ended("Observed"),
        {
            **AT_REST,
            "retry": "+",
            "hotfix": "+",
            "rollback": "-",
            "run": "- mode: Observe acts on nothing",
        },
    ),
    "closed": Row(
        lambda ns, name: _spec(name, _good(ns), windows=NEVER),
        lambda status: status.get("state") == "OutsideWindow",
        {
            **AT_REST,
            "retry": "- 2.0.0 cannot start now: it waits for",
            "hotfix": "+ in spite of",
            "run": "+ procedure speak",
            "rollback": "-",
        },
    ),
    "invalid": Row(
        lambda ns, name: _spec(name, _good(ns), first=[{"name": "a", "job": {"image": "$(b)"}}]),
        lambda status: status.get("state") == "Invalid",
        {
            **AT_REST,
            "retry": "- its spec is invalid",
            "hotfix": "- its spec is invalid",
            "rollback": "-",
            "run": "- its spec is invalid",
        },
        plan_code=1,
    ),
}


class Terminals:
    """Where four people type, in one process: a start of Python for each would take minutes."""

    def __init__(self, site: Site, configs: Mapping[str, Path]) -> None:
        self.site, self.configs = site, configs

    def type(self, user: str, *arguments: str) -> tuple[int, str]:
        """Return the exit code, and all that was printed."""
        printed = io.StringIO()
        where = ("-n", self.site.name, "--kubeconfig", str(self.configs[user]))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main([*arguments, *where])
        return code, printed.getvalue()


def _accepted(row: Row) -> Iterator[tuple[str, str]]:
    """Yield who is accepted with which verb."""
    for verb, words in row.ana.items():
        if words.startswith("+"):
            yield "ana", verb
        if verb in BEN_MAY and row.ben.get(verb, words).startswith("+"):
            yield "ben", verb


def _name(state: str, user: str = "", verb: str = "") -> str:
    return "-".join(part for part in (state, verb, user) if part)


def _is_ready(connection: Mapping[str, Any]) -> bool:
    conditions = (connection.get("status") or {}).get("conditions", ())
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)


@pytest.fixture(scope="module")
def terminals(laboratory: Lab) -> Iterator[Terminals]:
    """All Releases of the table on their way at once: most of it is waiting."""
    lab = laboratory
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    lab.standin.number(query("errors", site.name), 0.001)
    lab.standin.number(query("broken", site.name), 0.5)
    lab.standin.empty(query("silent", site.name))

    for user, role in ROLES.items():
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        body = {"metadata": {"name": user}, "subjects": [subject], "roleRef": reference}
        lab.api.create(f"{RBAC.format(site.name)}/rolebindings", body)

    for state, row in TABLE.items():
        for user, verb in (("", ""), *_accepted(row)):
            name = _name(state, user, verb)
            site.configmap(f"{name}-flags", {"A": "old"})
            site.configmap(f"{name}-words", {"SAY": "no"})
            site.apply(row.spec(site.name, name), name)

    path = f"{CONNECTIONS.format(site.name)}/prometheus"
    lab.wait(lambda: _is_ready(lab.api.get(path)), 60, "the Connection to be judged")

    users = {*ROLES, "dan"}
    configs = {user: lab.server.kubeconfig_for(user, GROUPS.get(user, [])) for user in users}
    configs["admin"] = lab.server.kubeconfig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acts, "POLL_DELAYS_S", (0.02,))
        # Who types a thousand commands keeps the connection; each of them would open its own.
        patch.setattr(Cluster, "connect", functools.cache(Cluster.connect))
        yield Terminals(site, configs)


def _bring(terminals: Terminals, row: Row, name: str) -> None:
    """Wait until a Release is where its row begins, or lead it there."""
    if row.before:
        terminals.site.until(lambda status: (status.get("run") or {}).get("id"), name=name)
        code, said = terminals.type("ana", row.before[0], name)
        assert code == 0, said
    terminals.site.until(row.is_there, 60, name)


@pytest.mark.parametrize("state", TABLE)
def test_every_verb_by_everybody(terminals: Terminals, state: str) -> None:
    row, name = TABLE[state], _name(state)
    assert set(row.ana) == set(ACTIONS)
    _bring(terminals, row, name)
    wrong: list[str] = []

    def expect(user: str, verb: str, release: str, code: int, *words: str) -> None:
        got, printed = terminals.type(user, verb, release, *MORE.get(verb, ()))
        said = " ".join(printed.split())
        if got != code or not all(word in said for word in words):
            wrong.append(f"{user} {verb}: {got} {said} (not {code}, {words})")

    for verb, for_ana in row.ana.items():
        expect("dan", verb, name, 1, 'cannot get resource "releases"')
        expect("cem", verb, name, 1, 'cannot create resource "interventions"')
        if verb not in BEN_MAY:
            expect("ben", verb, name, 1, f"ben may not {verb} release {name}")
        for user, outcome in (("ana", for_ana), ("ben", row.ben.get(verb, for_ana))):
            if outcome.startswith("-") and (user == "ana" or verb in BEN_MAY):
                expect(user, verb, name, 1, f"{verb} refused: ", outcome[1:].strip())

    # Nothing of that has changed anything.
    assert row.is_there(terminals.site.status(name)), terminals.site.status(name)
    for user, verb in _accepted(row):
        release = _name(state, user, verb)
        _bring(terminals, row, release)
        outcome = row.ana[verb] if user == "ana" else row.ben.get(verb, row.ana[verb])
        expect(user, verb, release, 0, f"{verb} accepted: ", outcome[1:].strip())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("state", TABLE)
def test_who_may_see_sees_every_state(terminals: Terminals, state: str) -> None:
    row, name = TABLE[state], _name(state)
    terminals.site.until(row.is_there, 60, name)
    for command in SEEN:
        wanted = row.plan_code if command == "plan" else 0
        code, said = terminals.type("cem", command, name)
        assert code == wanted, (command, said)
        code, said = terminals.type("dan", command, name)
        assert (code, 'cannot get resource "releases"' in said) == (1, True) or (
            command == "connections" and code == 1 and "cannot list" in said
        ), (command, said)


def test_lists_are_the_api_servers_own(terminals: Terminals) -> None:
    code, said = terminals.type("cem", "status")
    assert code == 0
    head, *rows = said.splitlines()
    assert head.split() == [
        "NAME", "VERSION", "LIVE", "LAST-GOOD", "STAGE", "STATE", "WAITING-FOR", "AGE",
    ]  # fmt: skip
    assert {_name(state) for state in TABLE} <= {row.split()[0] for row in rows}
    code, said = terminals.type("cem", "connections")
    assert (code, said.splitlines()[0].split()) == (0, ["NAME", "READY", "REASON", "AGE"])
    assert terminals.type("cem", "status", "-o", "wide")[1].splitlines()[0].endswith("MESSAGE")


def test_a_plan_reads_what_the_last_run_has_pinned(terminals: Terminals) -> None:
    terminals.site.until(TABLE["promoted"].is_there, 60, "promoted")
    code, said = terminals.type("admin", "plan", "promoted")
    assert code == 0
    assert "Changed since 2.0.0:\n  nothing but the version\n" in said
    assert "2.0.0 is live already" in said
    assert "restore flags/ship.set" in said or "restore configmap/promoted-flags" in said
    # Who may not read what it has pinned is told so, and sees the rest.
    code, said = terminals.type("cem", "plan", "promoted")
    assert code == 0 and "not known: Error from server (Forbidden)" in said
