"""The programs of others that the runbook's Jobs run: k6, Node with its npm, and Playwright, in one
folder.

    bin/k6, node, npm, npx      lib/node_modules/npm      node_modules/: Playwright

The folder is made once, in the cache, of what is there already, and is what `programs.Dockerfile`
puts into an image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tests.cluster import assets
from tests.cluster.paths import Unavailable, cache_dir, locked
from tests.contract.world import missing
from tests.fakes import npm

DOCKERFILE = Path(__file__).with_suffix(".Dockerfile")
SETTINGS = {
    "K6_NO_USAGE_REPORT": "true",
    "K6_AUTO_EXTENSION_RESOLUTION": "false",
}
"""What keeps k6 from asking the network for anything but what its script asks; the Dockerfile says
the same."""


def k6() -> Path:
    """k6, built where it is not there yet; skips where it cannot be built."""
    try:
        return assets.ensure(["k6"], own=True)["k6"]
    except Unavailable as reason:
        missing(str(reason))
        raise


def folder() -> Path:
    """All of them."""
    parts = k6(), npm.node(), npm.installed(npm.PLAYWRIGHT)
    digest = hashlib.sha256(
        repr((assets.TOOLS_BY_NAME["k6"].directory.name, npm.NODE, npm.PLAYWRIGHT)).encode()
    )
    found = cache_dir() / f"runbook-programs-{digest.hexdigest()[:12]}"
    with locked("runbook-programs"):
        if not found.exists():
            staged = found.with_name(f".{found.name}")
            shutil.rmtree(staged, ignore_errors=True)
            _stage(staged, *parts)
            staged.rename(found)
    return found


def _stage(into: Path, k6: Path, node: Path, modules: Path) -> None:
    """Files are linked, not copied: they are large, and never change."""
    (into / "bin").mkdir(parents=True)
    for program in (k6, node / "bin/node"):
        os.link(program, into / "bin" / program.name)
    shutil.copytree(node / "lib/node_modules/npm", into / "lib/node_modules/npm", symlinks=True)
    shutil.copytree(modules, into / "node_modules", symlinks=True, copy_function=os.link)
    for name in ("npm", "npx"):
        program = into / f"lib/node_modules/npm/bin/{name}-cli.js"
        program.chmod(0o755)
        (into / "bin" / name).symlink_to(os.path.relpath(program, into / "bin"))
