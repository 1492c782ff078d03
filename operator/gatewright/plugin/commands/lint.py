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
    from gatewright.plugin.files import read_documents, runbooks_in
    from gatewright.plugin.lint import find_problems, names_without_runbook

    ours = others = count = 0
    documents = [*read_documents(options.filename)]
    runbooks = runbooks_in(documents)
    for document in documents:
        ours, others = ours + document.is_ours, others + (not document.is_ours)
        what = "/".join(part for part in (document.kind, document.name) if part)
        for problem in find_problems(document, runbooks):
            count += 1
            line = document.line_of(problem.partition(": ")[0])
            place = ": ".join(part for part in (f"{document.file}:{line}", what) if part)
            print_lines([f"{place}: {clean_text(problem)}"])

    unjudged = names_without_runbook(documents, runbooks)
    if unjudged:
        print_lines([f"{line}, so its vars were not judged" for line in unjudged], sys.stderr)

    # To look at nothing is no good news.
    if not ours and not count:
        print_lines(["nothing of gatewright.dev is in there"], sys.stderr)
        return FAILED
    if count:
        print_lines(
            [f"{_number(count, 'problem')} in {_number(ours + others, 'object')}"], sys.stderr
        )
        return FAILED

    passed_over = f"; {others} of other kinds not looked at" if others else ""
    print_lines([f"{_number(ours, 'object')} without a problem{passed_over}"])
    return DONE


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
