"""The commands that the runbook's Jobs run: they tell what is there, and none of them passes where
nothing good is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gatewright.api.jobs import JobReport
from gatewright.providers.registry import REPORTS
from tests.e2e.runbook import programs, sample
from tests.e2e.runbook.database import COLUMNS, PROTECTED, ROWS, postgres
from tests.e2e.runbook.ground import IMAGE
from tests.e2e.runbook.seeds import SEEDS
from tests.e2e.runbook.standins import Foco, standins
from tests.harness.loop import Background

SCRIPT = "./scripts/database-migration-orchestrator.sh"


@pytest.fixture(scope="module")
def foco() -> Iterator[Foco]:
    here = "127.0.0.1"
    with (
        Background() as background,
        postgres(here) as server,
        standins(background, here, server, "http://127.0.0.1:1", "image") as made,
    ):
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The working directory of a container."""
    shutil.copytree(IMAGE, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "migrations/lossy.sql", tmp_path / "migration.sql")
    (tmp_path / ".lighthouseci").mkdir()
    (tmp_path / "node_modules/.bin").mkdir(parents=True)
    for module in (programs.folder() / "node_modules").iterdir():
        if module.name != ".bin":
            (tmp_path / "node_modules" / module.name).symlink_to(module)
    for name, program in {
        "playwright": "@playwright/test/cli.js",
        "supabase": "../bin/supabase",
    }.items():
        (tmp_path / "node_modules/.bin" / name).symlink_to(f"../{program}")
    return tmp_path


def run(image: Path, foco: Foco, *command: str) -> subprocess.CompletedProcess[str]:
    """A command as its container runs it."""
    environment = {
        **programs.SETTINGS,
        "PATH": f"{image}/bin:{programs.folder()}/bin:{os.environ['PATH']}",
        "HOME": str(image / "home"),
        "NPM_CONFIG_REGISTRY": foco.urls["npm"],
        "PYTHONPATH": str(image),
        "BASE_URL": foco.urls["site"],
        "DATABASE_URL": foco.database.owners_url,
        "BACKUP_STORE_URL": foco.urls["backups"],
        "BACKUP_STORE_TOKEN": SEEDS["backups"],
    }
    return subprocess.run(
        command, cwd=image, env=environment, capture_output=True, text=True, check=False
    )


def reported(foco: Foco) -> Iterator[Mapping[str, Any]]:
    """The sample's Jobs that leave a report, but for the audit, which does not ask the site."""
    spec = sample.led(sample.release()["spec"], foco.urls["site"], "images")
    items = [*spec["preflight"], *(step for stage in spec["stages"] for step in stage["steps"])]
    jobs = (item.get("job", {}) for item in [*items, *spec["rollback"]["verify"]])
    return (job for job in jobs if "report" in job and job["command"][:2] != ["npm", "audit"])


@pytest.mark.parametrize("down", [False, True])
def test_reports_tell_whether_the_site_is_down(image: Path, foco: Foco, down: bool):
    foco.site.down = down
    jobs = list(reported(foco))
    assert len(jobs) == 8
    for job in jobs:
        shutil.rmtree(image / ".lighthouseci")
        (image / ".lighthouseci").mkdir()
        words = [word.replace("$(vars.site)", foco.urls["site"]) for word in job["command"]]
        done = run(image, foco, *words)
        report = JobReport.model_validate(job["report"])
        format_ = REPORTS[report.format]
        found = format_.documents(done.stdout)
        good = bool(found) and format_.judge(found, getattr(report, report.format)).good
        assert (done.returncode == 0, good) == (not down, not down), (
            words,
            done.stdout,
            done.stderr,
        )


@pytest.mark.parametrize(
    ("minimist", "level", "code"), [("1.2.8", "high", 0), ("1.2.8", "low", 1), ("1.2.5", "high", 1)]
)
def test_the_audit_is_of_the_lock_file_and_of_the_level_that_is_asked_for(
    image: Path, foco: Foco, minimist: str, level: str, code: int
):
    lock = json.loads((image / "package-lock.json").read_text())
    lock["packages"]["node_modules/minimist"]["version"] = minimist
    (image / "package-lock.json").write_text(json.dumps(lock))
    done = run(image, foco, "npm", "audit", "--json", f"--audit-level={level}")
    assert done.returncode == code, done.stdout
    assert foco.registry.asked[-1]["minimist"] == [minimist]
    report, format_ = JobReport.model_validate({"npmAudit": {"level": level}}), REPORTS["npmAudit"]
    found = format_.judge(format_.documents(done.stdout), report.npmAudit)
    assert found.good == (code == 0) and found.outputs["low"] == "1", found
    assert found.outputs["critical"] == str(int(minimist == "1.2.5"))


def test_what_a_migration_loses_comes_back(image: Path, foco: Foco):
    assert run(image, foco, SCRIPT, "verify").returncode == 1, "nothing is migrated yet"
    said = json.loads(run(image, foco, SCRIPT, "backup").stdout)
    assert (
        said["tables"] == ["public.organizations", "public.tasks", "public.workspaces"]
        and said["bytes"] > 2**20
    )
    assert [len(content) for content in foco.backups.kept.values()] == [said["bytes"]]
    assert json.loads(run(image, foco, SCRIPT, "rollback", said["id"]).stdout) == {
        "restored": False
    }
    assert (
        run(image, foco, SCRIPT, "migrate").returncode
        == run(image, foco, SCRIPT, "verify").returncode
        == 0
    )
    assert foco.database.ask(PROTECTED) is False
    assert run(image, foco, SCRIPT, "rollback", "backups/none").returncode == 1
    assert json.loads(run(image, foco, SCRIPT, "rollback", said["id"]).stdout) == {"restored": True}
    assert (
        foco.database.ask(PROTECTED) is True and foco.database.ask(COLUMNS) == "id workspace title"
    )
    assert foco.database.ask("SELECT count(*) FROM public.tasks") == ROWS
    lint = ("npx", "supabase", "db", "lint", "--db-url", foco.database.owners_url)
    assert run(image, foco, *lint).returncode == 0
    refused = run(image, foco, *lint[:-1], foco.database.owners_url.replace("owner:", "owner:no"))
    assert refused.returncode == 1 and SEEDS["owner"] not in refused.stdout + refused.stderr
