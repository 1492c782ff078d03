"""A Release as a person watches it: one table a change, drawn from the object alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tests.cluster import Cluster

MARKS = {
    "Pending": "·",
    "Running": "▶",
    "Gating": "?",
    "Baking": "◷",
    "Passed": "✔",
    "Succeeded": "✔",
    "Failed": "✘",
    "RolledBack": "↩",
    "Skipped": "-",
    "Unknown": "·",
    "Passing": "✔",
    "Breaching": "!",
    "Holding": "…",
}


def table(release: dict[str, Any]) -> list[str]:
    """Stages, steps and gates, and why nothing moves."""
    status = release.get("status", {})
    run = status.get("run", {})
    head = (
        f"{release['metadata']['name']} {run.get('version', release['spec']['version'])}: "
        f"{status.get('state', 'new')}"
    )
    lines = [f"{head}   live {_version(status, 'live')}, last good {_version(status, 'lastGood')}"]
    for number, stage in enumerate(run.get("stages", []), 1):
        steps = " ".join(f"{MARKS[item['state']]}{item['name']}" for item in stage.get("steps", []))
        gates = " ".join(_gate(item) for item in stage.get("gates", []))
        lead = (
            f"  {MARKS[stage['state']]} {number} {stage['name']:<20} {stage['state']:<10} {steps}"
        )
        lines.append(f"{lead}  |  {gates}" if gates else lead)
    guards = " ".join(_gate(item) for item in run.get("guards", []))
    lines += [f"    guards: {guards}"] if guards else []
    for item in run.get("rollback", {}).get("undo", []):
        lines.append(
            (
                f"  ↩ {MARKS[item['state']]} {item['kind'].lower()} {item['subject']} "
                f"{item.get('message', '')}"
            ).rstrip()
        )
    waiting = status.get("waitingFor", {}).get("message")
    return lines + (
        [f"    waiting for {waiting}"] if waiting else [f"    {status.get('message', '')}"]
    )


def _version(status: dict[str, Any], field: str) -> str:
    return str(status.get(field, {}).get("version") or "-")


def _gate(item: dict[str, Any]) -> str:
    value = f"={item['value']}" if item.get("value") else ""
    return f"{MARKS[item['state']]}{item['name']}{value}"


class Screen:
    """Draws tables over each other on a terminal; elsewhere prints only the lines that are new."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._last: list[str] = []

    def show(self, lines: list[str]) -> None:
        """Draw a table."""
        if self._out.isatty():
            up = f"\x1b[{len(self._last)}A\x1b[J" if self._last else ""
            self._out.write(up + "\n".join(line[:160] for line in lines) + "\n")
        else:
            stamp = time.strftime("%H:%M:%S")
            for line in lines:
                if line not in self._last:
                    self._out.write(f"{stamp} {line}\n")
        self._out.flush()
        self._last = lines

    def done(self) -> None:
        """The next table stands below this one."""
        self._last = []


def follow(
    cluster: Cluster,
    namespace: str,
    name: str,
    ended: Callable[[dict[str, Any]], bool],
    screen: Screen,
    seconds: float,
) -> dict[str, Any]:
    """Show a Release until it is where `ended` wants it; raises TimeoutError with the last table
    after `seconds`."""
    command = [
        cluster.kubectl_program(),
        "--kubeconfig",
        str(cluster.kubeconfig),
        "--namespace",
        namespace,
    ]
    process = subprocess.Popen(
        [*command, "get", "release", name, "--watch", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    timer = threading.Timer(seconds, process.terminate)
    timer.start()
    release: dict[str, Any] = {}
    try:
        for release in _objects(process):
            screen.show(table(release))
            if ended(release):
                screen.done()
                return release
    finally:
        timer.cancel()
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    raise TimeoutError(
        f"not there after {seconds:.0f}s:\n"
        + "\n".join(table(release) if release else ["no such Release"])
    )


def _objects(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """kubectl prints one indented object after the other; each ends with a brace at the start of a
    line."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("}"):
            yield json.loads("".join(lines))
            lines = []
