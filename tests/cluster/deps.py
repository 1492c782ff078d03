"""Programs of the operating system that a native cluster needs, and their Debian packages.

What is missing is found by file, so a machine that has a program from elsewhere needs no package
for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.assets import say
from tests.cluster.paths import Unavailable, locked

# What must be there (a program on the PATH of root, or an absolute path) -> the package that brings
# it.
PACKAGES: Mapping[str, str] = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",  # kube-proxy's back end
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "modprobe": "kmod",  # the kernel calls it for what is not built in
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
SYSTEM_PATH = os.pathsep.join(
    [
        *os.environ.get("PATH", "").split(os.pathsep),
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/usr/bin",
        "/bin",
    ]
)


def which(program: str) -> str | None:
    """Like shutil.which, also looking where root's programs are: a user's PATH often lacks sbin."""
    return shutil.which(program, path=SYSTEM_PATH)


def missing() -> list[str]:
    """Debian packages that would bring what is not there, each once."""
    absent = (
        package
        for needed, package in PACKAGES.items()
        if not (Path(needed).exists() if needed.startswith("/") else which(needed))
    )
    return list(dict.fromkeys(absent))


def ensure() -> None:
    """Install by apt-get what is missing, where that is possible; Unavailable, naming the packages,
    where not."""
    if not sys.platform.startswith("linux"):
        raise Unavailable("a native cluster needs Linux")
    if not missing():
        return
    with locked("apt"):
        packages = missing()
        if not packages:
            return
        if os.geteuid() != 0:
            raise Unavailable(
                f"not root, and these Debian packages are missing: {' '.join(packages)}"
            )
        if which("apt-get") is None:
            raise Unavailable(
                "no apt-get here, and what these Debian packages bring is missing: "
                f"{' '.join(packages)}"
            )
        say(f"installing Debian packages: {' '.join(packages)}")
        _apt_install(packages)
        if still := missing():
            raise Unavailable(
                f"apt-get did not bring what these packages should: {' '.join(still)}"
            )


def _apt_install(packages: list[str]) -> None:
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    first = _apt(install)
    if first.returncode:
        # The machine's package lists may be absent or too old for the archive.
        _apt(["apt-get", "update"])
        first = _apt(install)
    if first.returncode:
        raise Unavailable(
            f"apt-get could not install {' '.join(packages)}:\n{first.stdout[-1500:]}"
        )


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
