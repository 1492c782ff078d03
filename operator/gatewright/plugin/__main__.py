"""The command `kubectl-release`, which kubectl finds on the PATH and runs as `kubectl release`.

It starts often, in scripts and by people who wait, so it imports little. What an import costs in
CPU was measured: argparse 16 ms, click 41 ms, `kubernetes.config` 350 ms, pydantic with our models
240 ms. So argparse is its CLI library, and each command imports what it needs by itself: `status`
takes 180 ms in all.
"""

from __future__ import annotations

import argparse
import sys

from gatewright import __version__
from gatewright.plugin.commands import COMMANDS
from gatewright.plugin.exit_codes import EXIT_CODES, FAILED, INTERRUPTED, USAGE
from gatewright.plugin.failures import RequestFailed, WrongUsage
from gatewright.plugin.terminal import print_lines


def main(argv: list[str] | None = None) -> int:
    """Do one thing; the exit code says how it went."""
    arguments = sys.argv[1:] if argv is None else argv
    named = next((argument for argument in arguments if not argument.startswith("-")), "")
    options = make_parser(named).parse_args(arguments)
    try:
        return int(options.do(options))
    except RequestFailed as error:
        print_lines([str(error)], sys.stderr)
        return USAGE if isinstance(error, WrongUsage) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has gone: nothing more is to be said to anybody
        return FAILED


def make_parser(named: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of every command, or of the one that is named."""
    parser = argparse.ArgumentParser(
        prog="kubectl release",
        description="See where Releases stand, and act on them.",
        epilog=exit_code_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    for name, command in COMMANDS.items():
        child = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[:1].upper()}{command.help[1:]}.",
            epilog=exit_code_text(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if named in (None, name):
            module = command.load()
            child.set_defaults(do=module.run, command=name)
            module.add_options(child)
    return parser


def exit_code_text() -> str:
    """Return the table of exit codes, as `--help` ends."""
    rows = [f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["exit codes:", *rows])


if __name__ == "__main__":
    sys.exit(main())
