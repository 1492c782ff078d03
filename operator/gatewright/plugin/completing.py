"""What may follow on a command line, as kubectl asks its plugins: `kubectl_complete-release WORDS`.

kubectl calls that program itself (1.26 and newer) wherever its own completion is switched on. Each
line is a word, a tab and what it is; the last line is `:` and a directive for the shell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gatewright.plugin.commands import COMMANDS
from gatewright.plugin.failures import RequestFailed

FILES, NO_FILES = 0, 4
"""Directives: complete names of files where nothing is printed, or do not."""
PATIENCE_S = 3.0
"""Seconds that somebody waits who has pressed the tab key."""
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_MOST_NAMES = 500
_GLOBAL_OPTIONS = {"--help": "show what there is", "--version": "the version of the plugin"}


@dataclass(slots=True)
class _CommandLine:
    """What was typed before the word that is completed."""

    positional: int = 0
    values: dict[str, list[str]] = field(default_factory=dict)
    """Values of options, by their names within the parser."""
    waiting: argparse.Action | None = None
    """An option that still needs its value: the word is that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print what may follow; never an error, which would end up on the line that is typed."""
    words = list(sys.argv[1:] if argv is None else argv) or [""]
    candidates, directive = complete(words[:-1], words[-1])
    for word, meaning in candidates:
        sys.stdout.write(f"{word}\t{meaning}\n" if meaning else f"{word}\n")
    sys.stdout.write(f":{directive}\n")
    return 0


def complete(before: Sequence[str], word: str) -> tuple[list[tuple[str, str]], int]:
    """Return the words that begin so, each with what it is, and the directive."""
    if not before:
        meanings = {name: command.help for name, command in COMMANDS.items()}
        return _beginning(word, (_GLOBAL_OPTIONS if word.startswith("-") else meanings).items())
    if before[0] not in COMMANDS:
        return [], NO_FILES

    parser = _parser_of(before[0])
    line = _read_line(parser, before[1:])
    if line.waiting is not None:
        return _values_of(line.waiting, line, word)
    if word.startswith("-"):
        return _beginning(word, _options_of(parser))
    return _positional(parser, line, word)


def _parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name)
    module = COMMANDS[name].load()
    parser.set_defaults(command=name)
    module.add_options(parser)
    return parser


def _read_line(parser: argparse.ArgumentParser, words: Iterable[str]) -> _CommandLine:
    by_option = {option: action for action in parser._actions for option in action.option_strings}
    line = _CommandLine()
    for word in words:
        if line.waiting is not None:
            line.values.setdefault(line.waiting.dest, []).append(word)
            line.waiting = None
        elif word.startswith("-"):
            option, has_value, value = word.partition("=")
            action = by_option.get(option)
            if action is not None and action.nargs != 0 and has_value:
                line.values.setdefault(action.dest, []).append(value)
            elif action is not None and action.nargs != 0:
                line.waiting = action
        else:
            line.positional += 1
    return line


def _options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--"):
                yield option, action.help or ""


def _values_of(
    action: argparse.Action, line: _CommandLine, word: str
) -> tuple[list[tuple[str, str]], int]:
    if action.dest in ("filename", "kubeconfig"):
        return [], FILES
    if action.dest == "namespace":
        return _beginning(word, _names("/api/v1/namespaces", line))
    return _beginning(word, ((str(choice), "") for choice in action.choices or ()))


def _positional(
    parser: argparse.ArgumentParser, line: _CommandLine, word: str
) -> tuple[list[tuple[str, str]], int]:
    places = [action for action in parser._actions if not action.option_strings]
    if line.positional >= len(places):
        return [], NO_FILES
    place = places[line.positional]
    if place.choices:
        return _beginning(word, ((str(choice), "") for choice in place.choices))
    if place.dest == "name":
        return _beginning(word, _names("releases", line))
    return [], NO_FILES


def _names(what: str, line: _CommandLine) -> Iterator[tuple[str, str]]:
    """Yield names from the cluster; none where it does not answer, or does not let us see them."""
    from gatewright.plugin.cluster import Cluster, api_path

    def last(option: str) -> str | None:
        return line.values.get(option, [None])[-1]

    try:
        cluster = Cluster.connect(
            last("kubeconfig"),
            last("context"),
            last("namespace"),
            last("as_user"),
            line.values.get("as_group", []),
            patience_s=PATIENCE_S,
        )
        path = what if what.startswith("/") else api_path(what, cluster.namespace)
        listed = cluster.get(f"{path}?limit={_MOST_NAMES}", _NAMES_ONLY)
    except RequestFailed:
        return
    yield from ((item["metadata"]["name"], "") for item in listed["items"])


def _beginning(
    word: str, candidates: Iterable[tuple[str, str]]
) -> tuple[list[tuple[str, str]], int]:
    return [pair for pair in candidates if pair[0].startswith(word)], NO_FILES


if __name__ == "__main__":
    sys.exit(main())
