"""What all tests have in common: in CI nothing may be skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gatewright.providers.common import context

IN_CI = os.environ.get("CI", "").lower() == "true"

LONG = (
    "test_crash_rollback.py",
    "test_crash.py",
    "test_disturbed_api.py",
    "test_interventions.py",
    "test_plugin_verbs.py",
    "test_plugin_table.py",
    "test_whole.py",
    "test_trouble.py",
    "test_replicas.py",
)


def pytest_configure() -> None:
    """Vendors' programs need Node 20 or newer; where the machine has none, that of the virtual
    environment goes first."""
    node = shutil.which("node") if shutil.which("npm") else None
    version = (
        subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if node
        else ""
    )
    if not version.startswith("v") or int(version[1:].partition(".")[0]) < 20:
        os.environ["PATH"] = (
            f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        )


@pytest.fixture(autouse=True)
def provider_context() -> context.ProviderContext:
    """What the providers share, made anew for each test: as in a process that has just begun."""
    made = context.ProviderContext()
    context.install(made)
    return made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Benchmarks run only when asked for (`-m`)."""
    out = {"bench"} if "bench" not in (config.option.markexpr or "") else set()
    kept = [
        item for item in items if not out.intersection(mark.name for mark in item.iter_markers())
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = sorted(kept, key=lambda item: _turn(item.path.name))


def _turn(file: str) -> int:
    """Long files begin first, so that no worker is left alone with one at the end."""
    return LONG.index(file) if file in LONG else len(LONG)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped tier is a failure in CI: the machine lacks something that it must have."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if IN_CI and skipped and session.exitstatus == 0:
        reporter.write_line(f"{len(skipped)} skipped, and in CI nothing may be skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
