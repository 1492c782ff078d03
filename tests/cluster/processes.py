"""Starting, recognising and stopping the programs of a throwaway cluster.

A pid alone does not name a process: it is reused. So a process is recorded as pid and start time
(both from /proc), and is only ever signalled while both still match. Nothing is found by name.

Two ways to die with grace:
- processes of a test die with the test: a watchdog holds the reading end of a pipe and stops them
  when the writing end closes, whatever ended the test (a return, an exception, SIGKILL). A
  parent-death signal would not do: it fires when the starting *thread* ends.
- processes of a cluster outlive the command that started them, and are stopped by their record.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.02
_END = "end"
PORTS = range(10_000, 30_000)
"""Below those that Linux gives to outgoing connections (32768 and up), of which one may be gone
before it is listened on, and below Kubernetes' NodePorts."""


@dataclass(frozen=True)
class Process:
    """A process as it can be recognised later; `started` is 0 where the system does not tell."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _start_time(pid) or 0)

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        if self.started:
            return _start_time(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def send(self, number: signal.Signals) -> None:
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own (a Ctrl-C in the terminal is not for it), its output
    in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(environment) if environment is not None else None,
            cwd="/",
        )


def stop(processes: Iterable[Process], grace: float = 5.0) -> None:
    """Ask the processes to end, wait up to `grace` seconds, then kill what is left; returns when
    all are gone."""
    listed = list(processes)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for process in listed:
            process.send(number)
        if wait_until(lambda: not any(process.alive() for process in listed), patience):
            return
    raise RuntimeError(
        f"still running after SIGKILL: {[process.pid for process in listed if process.alive()]}"
    )


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False when it never did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, distinct; see `PORTS`."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"of the ports {PORTS.start} to {PORTS.stop - 1} no {count} are free")


def free_port() -> int:
    """The same for one."""
    return free_ports(1)[0]


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for the message of an error."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat, in clock ticks since boot; None for a process that is gone or a
    zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Watchdog:
    """Stops the given processes and removes a directory when this process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        script = [sys.executable, "-S", str(Path(__file__).resolve()), str(directory)]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            script,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
            cwd="/",
        )

    def watch(self, pid: int) -> Process:
        process = Process.of(pid)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{process.pid} {process.started}\n".encode())
        self._process.stdin.flush()
        return process

    def release(self) -> None:
        """Let the watchdog do its work now: stop whatever still runs, remove the directory, end."""
        assert self._process.stdin is not None
        # Said in words and not by closing alone: a fork of this process may hold the pipe open.
        self._process.stdin.write(f"{_END}\n".encode())
        self._process.stdin.close()
        self._process.wait(timeout=30)


def _watch(directory: Path) -> None:
    """Body of the watchdog: remember every line of standard input; act at its end."""
    watched = []
    for line in sys.stdin:
        if line.strip() == _END:
            break
        pid, started = line.split()
        watched.append(Process(int(pid), int(started)))
    stop(watched, grace=1.0)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
