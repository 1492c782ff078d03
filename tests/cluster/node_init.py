"""Process 1 of a native cluster: runs inside the node's own namespaces and keeps its programs
running.

The node is a set of kernel namespaces (mounts, network, processes, host name), made by `unshare`.
This program is the first in it, so it adopts and reaps what its descendants leave behind, and when
it dies the kernel kills every process of the node, and with the last of them all mounts, links,
routes and nftables tables of the node are gone.

    python node_init.py <node.json>

It uses the standard library alone and is run as a file: nothing of the checkout is imported inside
the node.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_RESTART_SECONDS = 1.0
_WAIT_SECONDS = 60.0


def main(path: Path) -> None:
    node = json.loads(path.read_text())
    # Asked for before the first child: a SIGCHLD that is not blocked here would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    socket.sethostname(node["name"])
    isolate_files(node["hidden"], node["visible"], node["sysctl_masks"], Path(node["directory"]))
    bring_up_network(node["address"], node["routes"], node["sysctls"])
    Supervisor(node["programs"], Path(node["logs"]), node["environment"]).run()


def isolate_files(
    hidden: list[str], visible: list[str], sysctl_masks: dict[str, str], directory: Path
) -> None:
    """Give the node directories of its own over the machine's, so that programs can use their usual
    paths.

    `visible` paths that would be hidden stay reachable at their own names. `sysctl_masks` shows the
    kubelet the values it insists on, instead of letting it change them for the whole machine.
    """
    handles = [
        (path, os.open(path, os.O_PATH))
        for path in visible
        if any(_inside(path, top) for top in hidden)
    ]
    for top in hidden:
        if top == "/run":  # sockets and mount points: nothing worth a disk
            _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", top)
            continue
        private = directory / "fs" / top.strip("/").replace("/", "-")
        private.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(private), top)
    for path, handle in handles:
        Path(path).mkdir(parents=True, exist_ok=True)
        _run(
            "mount",
            "--no-canonicalize",
            "--rbind",
            f"/proc/self/fd/{handle}",
            path,
            pass_fds=(handle,),
        )
        os.close(handle)
    for number, (key, value) in enumerate(sysctl_masks.items()):
        target = Path("/proc/sys") / key.replace(".", "/")
        if target.exists() and target.read_text().strip() != value:
            mask = directory / "fs" / f"sysctl-{number}"
            mask.write_text(value + "\n")
            _run("mount", "--bind", str(mask), str(target))


def bring_up_network(address: str, routes: list[list[str]], sysctls: dict[str, str]) -> None:
    """Configure the link that is put into this namespace from outside; the sysctls are of this
    namespace alone."""
    _run("ip", "link", "set", "lo", "up")
    deadline = time.monotonic() + _WAIT_SECONDS
    while subprocess.run(
        ["ip", "link", "show", "eth0"], capture_output=True, check=False
    ).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("no link eth0 arrived")
        time.sleep(0.02)
    _run("ip", "address", "add", address, "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    for route in routes:
        _run("ip", "route", "add", *route)
    for key, value in sysctls.items():
        Path("/proc/sys", key.replace(".", "/")).write_text(value)


class Supervisor:
    """Starts the programs, restarts those that end, reaps everything else."""

    def __init__(
        self, programs: list[dict[str, Any]], logs: Path, environment: dict[str, str]
    ) -> None:
        self._waiting = list(programs)
        self._running: dict[int, dict[str, Any]] = {}
        self._due: list[tuple[float, dict[str, Any]]] = []
        self._logs = logs
        self._environment = environment

    def run(self) -> None:
        while True:
            self._start_due()
            # Sleep until a child ends; shorter while something is still to be started.
            signal.sigtimedwait({signal.SIGCHLD}, 0.05 if self._waiting or self._due else 60)
            self._reap()

    def _start_due(self) -> None:
        for program in [
            one for one in self._waiting if all(Path(path).exists() for path in one["after"])
        ]:
            self._waiting.remove(program)
            self._start(program)
        now = time.monotonic()
        for item in [one for one in self._due if one[0] <= now]:
            self._due.remove(item)
            self._start(item[1])

    def _start(self, program: dict[str, Any]) -> None:
        with (self._logs / f"{program['name']}.log").open("ab") as log:
            child = subprocess.Popen(
                program["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd="/",
                start_new_session=True,
                preexec_fn=_default_signals,
            )
        child.returncode = 0  # reaped below with the orphans: Popen must not wait for it too
        self._running[child.pid] = program

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if program := self._running.pop(pid, None):
                print(
                    f"{program['name']} ended with {os.waitstatus_to_exitcode(status)}", flush=True
                )
                self._due.append((time.monotonic() + _RESTART_SECONDS, program))


def _default_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _inside(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _run(*command: str, pass_fds: tuple[int, ...] = ()) -> None:
    subprocess.run(command, check=True, pass_fds=pass_fds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
