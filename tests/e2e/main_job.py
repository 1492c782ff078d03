"""The main job: three releases of foco on a real cluster, each proved by asking what is served, not
the operator.

2.4.0 goes through all five stages. 2.5.0 breaks in the bug-fix stage and is rolled back. 2.6.0
fails half way in its migration, and the database comes back from the backup that the same run has
made minutes before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import Cluster, operator_image
from tests.e2e import installing
from tests.e2e.foco import install as foco
from tests.e2e.watching import Screen, follow

NAMESPACE = "production"
RELEASES = Path(__file__).parent / "foco" / "releases"
LONGEST = 420.0


@dataclass
class Ending:
    """How a release ended, and what was found when that was checked from outside."""

    version: str
    expected: str
    outcome: str
    reason: str
    served: str
    seconds: float
    wrong: list[str] = field(default_factory=list)


def make_cluster() -> Cluster:
    """The cluster; on a machine that has none, what images are made of is fetched while its
    programs are compiled."""
    chosen = Cluster.choose()
    with ThreadPoolExecutor(1) as beside:
        fetched = beside.submit(_fetch, chosen)
        ready = Cluster.ensure()
        fetched.result()
    return ready


def _fetch(chosen: Cluster) -> None:
    operator_image.dependencies()
    chosen.make_base()
    chosen.make_base(foco.packages())


def set_up(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Images, operator, foco."""
    for what, act in (
        ("the operator's image", lambda: installing.image(cluster)),
        ("foco's images", lambda: foco.images(cluster)),
        (
            "the operator, as kubectl apply -k manifests/ installs it",
            lambda: installing.by_kustomize(cluster),
        ),
        ("foco 2.3.1 with its database, Prometheus and traffic", lambda: _foco(cluster)),
    ):
        started = time.monotonic()
        act()
        say(f"ready: {what} ({time.monotonic() - started:.0f}s)")


def _foco(cluster: Cluster) -> None:
    cluster.kubectl(
        "delete", "release", "foco", "--namespace", NAMESPACE, "--ignore-not-found", "--wait=true"
    )
    foco.uninstall(cluster, NAMESPACE)
    foco.install(cluster, NAMESPACE)
    cluster.kubectl("apply", "--filename", str(RELEASES / "connections.yaml"))


def play(cluster: Cluster, screen: Screen) -> list[Ending]:
    """The three releases, one after the other, on the same object."""
    return [good(cluster, screen), bad(cluster, screen), half(cluster, screen)]


def good(cluster: Cluster, screen: Screen) -> Ending:
    """2.4.0: five stages to Promoted."""
    ending = _release(cluster, screen, "2.4.0", "Promoted")
    _expect(ending, "served version", ending.served, "2.4.0")
    flags = foco.flags(cluster, NAMESPACE)
    _expect(ending, "voice flag", flags.get("NEXT_PUBLIC_ENABLE_VOICE_SYSTEM"), True)
    _expect(ending, "CRICO flag", flags.get("NEXT_PUBLIC_ENABLE_CRICO"), True)
    open_tables = "select count(*) from pg_class c join pg_namespace n on n.oid=c.relnamespace"
    query = f"{open_tables} where n.nspname='foco' and c.relkind='r' and not c.relrowsecurity"
    _expect(ending, "tables without row level security", foco.sql(cluster, query, NAMESPACE), "0")
    return ending


def bad(cluster: Cluster, screen: Screen) -> Ending:
    """2.5.0: over 1 % errors in the bug-fix stage; pods, flags and configuration return to
    2.4.0."""
    before = _configuration(cluster)
    ending = _release(cluster, screen, "2.5.0", "RolledBack")
    _expect(ending, "served version", ending.served, "2.4.0")
    _expect(ending, "flags and environment", _configuration(cluster), before)
    status = _status(cluster)
    _expect(ending, "rejected", [item["version"] for item in status.get("rejected", [])], ["2.5.0"])
    _expect(ending, "failed stage", status["run"]["stages"][2]["state"], "Failed")
    _expect(ending, "last good", status["lastGood"]["version"], "2.4.0")
    return ending


def half(cluster: Cluster, screen: Screen) -> Ending:
    """2.6.0: a migration that fails half way; the rows it deleted are back."""
    before = _rows(cluster)
    ending = _release(cluster, screen, "2.6.0", "RolledBack")
    _expect(ending, "served version", ending.served, "2.4.0")
    _expect(ending, "archived tasks, columns of tasks, applied migrations", _rows(cluster), before)
    undone = _status(cluster)["run"]["rollback"]["undo"]
    restore = [
        (item["subject"], item["state"]) for item in undone if item["subject"] == "step/restore"
    ]
    _expect(ending, "restore", restore, [("step/restore", "Succeeded")])
    return ending


def _release(cluster: Cluster, screen: Screen, version: str, expected: str) -> Ending:
    started = time.monotonic()
    cluster.kubectl("apply", "--filename", str(RELEASES / f"release-{version}.yaml"))
    release = follow(
        cluster, NAMESPACE, "foco", lambda found: _over(found, version), screen, LONGEST
    )
    run = release["status"]["run"]
    ending = Ending(
        version,
        expected,
        run["outcome"],
        release["status"].get("message", ""),
        foco.served_version(cluster, NAMESPACE),
        time.monotonic() - started,
    )
    _expect(ending, "outcome", run["outcome"], expected)
    return ending


def _over(release: dict[str, Any], version: str) -> bool:
    run = release.get("status", {}).get("run", {})
    return bool(run.get("version") == version and run.get("outcome"))


def _expect(ending: Ending, what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        ending.wrong.append(f"{what}: found {found!r}, wanted {wanted!r}")


def _status(cluster: Cluster) -> dict[str, Any]:
    text = cluster.kubectl("get", "release", "foco", "--namespace", NAMESPACE, "--output", "json")
    status: dict[str, Any] = json.loads(text)["status"]
    return status


def _configuration(cluster: Cluster) -> dict[str, Any]:
    """What a rollback has to bring back: the flags, and the pod template."""
    flags = json.loads(
        cluster.kubectl(
            "get", "configmap", "web-flags", "--namespace", NAMESPACE, "--output", "json"
        )
    )
    web = json.loads(
        cluster.kubectl("get", "deployment", "web", "--namespace", NAMESPACE, "--output", "json")
    )
    return {"flags": flags.get("data"), "template": web["spec"]["template"]}


def _rows(cluster: Cluster) -> str:
    """What the broken migration of 2.6.0 destroys."""
    return "; ".join(
        foco.sql(cluster, query, NAMESPACE, role="owner")
        for query in (
            "select count(*) from foco.tasks where status = 'archived'",
            "select string_agg(column_name, ',' order by column_name) from "
            "information_schema.columns"
            " where table_schema = 'foco' and table_name = 'tasks'",
            "select count(*) from foco.schema_migrations",
        )
    )
