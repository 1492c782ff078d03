"""The commands, a module for each: `add_options(parser)` says what it takes, `run(options)` does it
and returns the exit code.

A module is imported only for its own command, and what it needs only where it is used: whoever asks
for the status does not wait for the models that `lint` reads.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class CommandModule(Protocol):
    """What a module of a command has."""

    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command, and what `--help` says of it."""

    name: str
    module: str
    help: str

    def load(self) -> CommandModule:
        """Import what the command needs."""
        return importlib.import_module(f"{__name__}.{self.module}")


ACTIONS: Mapping[str, str] = {
    "approve": "say go where an approval is waited for",
    "reject": "say no: the approval or manual step fails",
    "confirm": (
        "say that a manual step is done; after a failed rollback: that what is served is good"
    ),
    "retry": "repeat the failed stage, or start a rejected version again",
    "skip": "go past the step or stage that failed or is under way",
    "promote": "end the bake, or the guarding, early",
    "rollback": (
        "undo the run; its version is rejected; when no run is under way: undo what was promoted "
        "last; after a failed rollback: try again what was not undone"
    ),
    "abort": "undo the run without judging its version",
    "pause": "stop the walk; guards keep watching",
    "resume": "let a walk go on that a person or a guard has stopped",
    "run": "run a procedure of the Release, at any time",
    "hotfix": "start the version in spite of windows and Freezes; needs a --reason",
    "notify": "with --test: have each entry of spec.notify tried by a message that says so",
}
"""What makes an Intervention, by its RBAC verb."""
_MODULES: Mapping[str, str] = {"notify": "notify"}
"""Where those are that wait for something else than a run."""

_SEEN = (
    Command("status", "status", "where Releases stand, or one of them with its stages"),
    Command("explain", "explain", "why a Release is where it is, and what would happen next"),
    Command("history", "history", "the latest runs of a Release: how they ended, why, who acted"),
    Command("plan", "plan", "what a run would do; nothing is touched"),
    Command("checklist", "checklist", "the runbook as a list to be ticked off, with its marks"),
    Command("connections", "connections", "whether the Connections are ready"),
    Command("lint", "lint", "what is wrong with files, without a cluster"),
    Command("completion", "completion", "let a shell complete commands and names of Releases"),
)

COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        *_SEEN,
        *(Command(name, _MODULES.get(name, "act"), words) for name, words in ACTIONS.items()),
    )
}
"""Every command, in the order of `--help`."""
