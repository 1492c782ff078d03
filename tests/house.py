"""How the code reads, in figures: a report, no limit is enforced.

    python -m tests.house [FOLDER ...]

Without a folder: operator/gatewright. A line counts unless it is blank. A function's length is from
`def` to its last line, its docstring apart.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.paths import CHECKOUT

PACKAGE = CHECKOUT / "operator" / "gatewright"
LONG_FUNCTION_LINES = 15
LONGEST_MODULE_LINES = 400
LONGEST_LINE = 100
CORE = PACKAGE / "core"
LONGEST_SPINE_LINES = 1500
VAGUE_NAMES = frozenset({"found", "item", "said", "kept", "wanted", "text", "one", "thing", "what"})
_PRAGMAS = ("noqa", "fmt:", "type:", "pragma")
Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Figures:
    """What was counted in all modules together."""

    modules: Counter[str] = field(default_factory=Counter)
    """Lines by path, blank ones included."""
    lines: int = 0
    core_lines: int = 0
    too_long_lines: int = 0
    comments: int = 0
    core_comprehensions: int = 0
    function_lengths: list[int] = field(default_factory=list)
    one_word_functions: int = 0
    long_functions: int = 0
    long_functions_that_breathe: int = 0
    names: Counter[str] = field(default_factory=Counter)
    """Bound names: arguments, assigned variables, loop variables."""


def main(arguments: list[str]) -> None:
    """Print the figures of the folders that are named."""
    folders = [Path(argument) for argument in arguments] or [PACKAGE]
    figures = Figures()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            measure(path, figures)

    print(report(figures))


def measure(path: Path, figures: Figures) -> None:
    """Add one module to the figures."""
    source = path.read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    is_core = "core" in path.parts

    figures.modules[str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)] = (
        len(lines)
    )
    code_lines = sum(bool(line.strip()) for line in lines)
    figures.lines += code_lines
    figures.core_lines += code_lines if is_core else 0
    figures.too_long_lines += sum(len(line) > LONGEST_LINE for line in lines)
    figures.comments += sum(1 for _ in comments(source))

    for node in ast.walk(tree):
        if isinstance(node, Function):
            measure_function(node, lines, figures)
        if is_core and isinstance(node, _COMPREHENSIONS):
            figures.core_comprehensions += 1
        figures.names.update(bound_names(node))


def measure_function(node: Function, lines: list[str], figures: Figures) -> None:
    """Add one function or method to the figures."""
    assert node.end_lineno is not None
    first = body_start(node)
    length = node.end_lineno - node.lineno + 1 - (first - node.body[0].lineno)
    figures.function_lengths.append(length)
    if not node.name.startswith("__"):
        figures.one_word_functions += "_" not in node.name.strip("_")

    if length >= LONG_FUNCTION_LINES:
        figures.long_functions += 1
        inside = lines[first - 1 : node.end_lineno]
        figures.long_functions_that_breathe += any(not line.strip() for line in inside)


def body_start(node: Function) -> int:
    """Return the line on which a function's body begins, behind its docstring."""
    if ast.get_docstring(node) is None:
        return node.body[0].lineno
    assert node.body[0].end_lineno is not None
    return node.body[1].lineno if len(node.body) > 1 else node.body[0].end_lineno


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds, without attributes."""
    if isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def comments(source: str) -> Iterator[str]:
    """Yield the comments of a module that are meant for people."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("# ")
            if not words.startswith(_PRAGMAS):
                yield words


def spine() -> list[Path]:
    """Return what one reads to understand a run: the modules of the numbered list of `core`."""
    docstring = ast.get_docstring(ast.parse((CORE / "__init__.py").read_text())) or ""
    numbered = re.findall(r"^\d+\. .*$", docstring, re.MULTILINE)
    return [CORE / name for line in numbered for name in re.findall(r"`([\w/]+\.py)`", line)]


def percent(part: int, whole: int) -> str:
    """Return a share as text."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def percentile(values: Iterable[int], share: float) -> int:
    """Return the value below which a share of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(figures: Figures) -> str:
    """Return the figures as a table: what, now, goal."""
    functions = len(figures.function_lengths)
    vague = sum(figures.names[name] for name in VAGUE_NAMES)
    long_modules = {
        path: lines for path, lines in figures.modules.items() if lines > LONGEST_MODULE_LINES
    }
    p90 = percentile(figures.function_lengths, 0.9)
    modules_of_spine = spine()
    spine_lines = sum(len(path.read_text().splitlines()) for path in modules_of_spine)

    rows = [
        ("modules, lines", f"{len(figures.modules)}, {sum(figures.modules.values())}", ""),
        (
            "function median / p90 / max",
            (
                f"{statistics.median(figures.function_lengths):.0f} / {p90} / "
                f"{max(figures.function_lengths)}"
            ),
            "p90 < 25",
        ),
        ("function names of one word", percent(figures.one_word_functions, functions), "< 50 %"),
        (
            f"functions of {LONG_FUNCTION_LINES} lines or more with a blank line",
            (
                f"{percent(figures.long_functions_that_breathe, figures.long_functions)} of "
                f"{figures.long_functions}"
            ),
            "> 60 %",
        ),
        (
            "comments in 100 lines",
            f"{100 * figures.comments / figures.lines:.1f}",
            "> 3 where a why is needed",
        ),
        (
            "comprehensions in 100 lines of core",
            f"{100 * figures.core_comprehensions / max(1, figures.core_lines):.1f}",
            "",
        ),
        ("names bound that say little", percent(vague, figures.names.total()), "< 13 %"),
        ("`found`", f"{figures.names['found']} times", "0"),
        (f"lines over {LONGEST_LINE} characters", f"{figures.too_long_lines}", "0"),
        (f"modules over {LONGEST_MODULE_LINES} lines", f"{len(long_modules)}", "0"),
        (
            "spine, lines",
            f"{spine_lines} in {len(modules_of_spine)} modules",
            f"< {LONGEST_SPINE_LINES}",
        ),
    ]
    width = max(len(what) for what, _, _ in rows)
    table = [f"{what:{width}}  {now:24}  {goal}".rstrip() for what, now, goal in rows]
    table += [
        f"  {path} {lines}"
        for path, lines in sorted(long_modules.items(), key=lambda entry: -entry[1])
    ]
    return "\n".join(table)


if __name__ == "__main__":
    main(sys.argv[1:])
