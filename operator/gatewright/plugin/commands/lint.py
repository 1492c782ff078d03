"""`lint`: what is wrong with files, before anybody applies them."""

from __future__ import annotations

import argparse
import sys

from gatewright.plugin.exit_codes import DONE, FAILED
from gatewright.plugin.show import clean_text
from gatewright.plugin.terminal import print_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="a file, a folder of them, or - for the standard input; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Print each problem with its file and line; 1 where there is one. Raises RequestFailed."""
    from gatewright.plugin.files import read_documents
    from gatewright.plugin.lint import find_problems

    ours = others = found = 0
    for document in read_documents(options.filename):
        ours, others = ours + document.is_ours, others + (not document.is_ours)
        what = "/".join(part for part in (document.kind, document.name) if part)
        for problem in find_problems(document):
            found += 1
            line = document.line_of(problem.partition(": ")[0])
            place = ": ".join(part for part in (f"{document.file}:{line}", what) if part)
            print_lines([f"{place}: {clean_text(problem)}"])

    # To look at nothing is no good news.
    if not ours and not found:
        print_lines(["nothing of gatewright.dev is in there"], sys.stderr)
        return FAILED
    if found:
        problems = "1 problem" if found == 1 else f"{found} problems"
        print_lines([f"{problems} in {ours + others} objects"], sys.stderr)
        return FAILED

    passed_over = f"; {others} of other kinds were not looked at" if others else ""
    print_lines([f"{ours} objects without a problem{passed_over}"])
    return DONE
