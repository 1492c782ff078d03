"""The control group under which a native cluster's containers live, in the old hierarchies and in
the new one."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
# What a kubelet insists on. Others are delegated only where they exist.
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "hugetlb", "io")


def create(name: str) -> None:
    """Make the group in every hierarchy, usable as a parent of the kubelet's groups."""
    if (_ROOT / "cgroup.controllers").exists():
        _delegate(_ROOT)
        (_ROOT / name).mkdir(exist_ok=True)
        _delegate(_ROOT / name)
        return
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # Empty in a new group, and then nothing can run in it.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def remove(name: str) -> None:
    """Remove the group and all below it; its processes must be gone."""
    for hierarchy in [_ROOT, *_hierarchies()]:
        top = hierarchy / name
        for directory, _, _ in os.walk(top, topdown=False) if top.is_dir() else ():
            _remove_one(Path(directory))


def existing(name: str) -> list[Path]:
    return [
        hierarchy / name for hierarchy in [_ROOT, *_hierarchies()] if (hierarchy / name).is_dir()
    ]


def _remove_one(directory: Path) -> None:
    # A group stays busy for a moment after its last process has ended.
    deadline = time.monotonic() + 5
    while True:
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _hierarchies() -> list[Path]:
    """Mounted hierarchies of the old kind (and the unified one beside them), each once: some are
    symbolic links."""
    if (_ROOT / "cgroup.controllers").exists() or not _ROOT.is_dir():
        return []
    return sorted({path.resolve() for path in _ROOT.iterdir() if path.is_dir()})


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    for controller in _CONTROLLERS:
        if controller in available:
            # One by one: a controller that the machine does not let go must not hold back the
            # others.
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")
