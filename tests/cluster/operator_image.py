"""The operator's image, from the shipped Dockerfile and this checkout: gatewright:dev.

The wheelhouse is made outside of the build, with this machine's pip and its settings: the
dependencies once for each state of requirements/operator.txt, kept in the cache; Gatewright's own
wheel each time, from a copy of its sources and the same for the same sources, so that an unchanged
checkout builds no new image.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.assets import say
from tests.cluster.cluster import Cluster
from tests.cluster.paths import CHECKOUT, Unavailable, cache_dir, locked

TAG = "gatewright:dev"
PYTHON = "3.11"  # of the image, whatever runs this
_SOURCES = ("operator", "pyproject.toml", "README.md")
_REQUIREMENTS = Path("requirements", "operator.txt")
_EPOCH = "1700000000"  # of every file in the wheel: it depends on its content alone
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")


def build(cluster: Cluster, tag: str = TAG) -> str:
    """Build and load the image, where the checkout has changed since; returns the hash of its
    content."""
    with tempfile.TemporaryDirectory(prefix="gatewright-image-") as name:
        context = Path(name)
        shutil.copytree(
            dependencies(),
            context / "wheels",
            copy_function=os.link if _same_disk(context) else shutil.copy2,
        )
        _own_wheel(context / "dist")
        (context / _REQUIREMENTS).parent.mkdir()
        shutil.copy(CHECKOUT / _REQUIREMENTS, context / _REQUIREMENTS)
        return cluster.build_image(tag, CHECKOUT / "Dockerfile", context)


def dependencies() -> Path:
    """Directory with the wheels of all dependencies, checked against the hashes of the lock
    file."""
    requirements = CHECKOUT / _REQUIREMENTS
    digest = hashlib.sha256(requirements.read_bytes() + PYTHON.encode()).hexdigest()[:12]
    target = cache_dir() / f"wheels-{digest}"
    with locked("wheels"):
        if not target.exists():
            say("downloading the operator's dependencies (once; kept in the cache)")
            with tempfile.TemporaryDirectory(prefix=".wheels-", dir=cache_dir()) as scratch:
                wheels = Path(scratch) / "wheels"
                checked = ["--require-hashes", "--only-binary=:all:", "--no-deps", *_platform()]
                _pip(["download", *checked, f"--dest={wheels}", f"--requirement={requirements}"])
                wheels.rename(target)
    return target


def _own_wheel(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gatewright-source-") as name:
        source = Path(name)
        for part in _SOURCES:
            if (CHECKOUT / part).is_dir():
                shutil.copytree(CHECKOUT / part, source / part, ignore=_IGNORED)
            elif (CHECKOUT / part).exists():
                shutil.copy(CHECKOUT / part, source / part)
        _pip(["wheel", "--no-deps", f"--wheel-dir={target}", *_isolation(), str(source)])


def _isolation() -> list[str]:
    """Build with the hatchling that is installed, where one is; it saves fetching it each time."""
    done = subprocess.run(
        [sys.executable, "-c", "import hatchling.build"], capture_output=True, check=False
    )
    return ["--no-build-isolation"] if done.returncode == 0 else []


def _platform() -> Sequence[str]:
    """Nothing where this Python is like the image's; else what tells pip about the image's."""
    if platform.system() == "Linux" and platform.python_version_tuple()[:2] == tuple(
        PYTHON.split(".")
    ):
        return ()
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)]
    return (
        f"--python-version={PYTHON}",
        "--implementation=cp",
        *(f"--platform={tag}" for tag in tags),
    )


def _same_disk(directory: Path) -> bool:
    return directory.stat().st_dev == cache_dir().stat().st_dev


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    environment = os.environ | {"SOURCE_DATE_EPOCH": _EPOCH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(
            f"pip {arguments[0]} failed: {(done.stdout + done.stderr).strip()[-2000:]}"
        )
