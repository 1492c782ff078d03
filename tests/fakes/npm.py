"""Programs that others wrote, from npm, pinned, in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.paths import cache_dir, locked
from tests.contract.world import missing


def installed(package: str) -> Path:
    """The folder `node_modules` that holds a package (`NAME@VERSION`) and what it needs; skips where npm cannot get it."""
    folder = cache_dir() / "npm" / package.replace("/", "-").replace("@", "-").strip("-")
    with locked("npm"):
        if (folder / "done").exists():
            return folder / "node_modules"
        if shutil.which("npm") is None:
            missing("npm is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # no script of a package runs: one that downloads something would fail, and none is needed
        command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", package]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=_quiet())
        if done.returncode:
            missing(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")
        (folder / "done").touch()
    return folder / "node_modules"


def _quiet() -> dict[str, str]:
    return {**os.environ, "NO_UPDATE_NOTIFIER": "1", "npm_config_update_notifier": "false"}
