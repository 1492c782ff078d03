"""Files of YAML or JSON as `kubectl apply` takes them: documents, and the line of each place.

What kubectl refuses is refused here: a key that is there twice, and what is no object.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gatewright.api import GROUP
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.runbooks import FindRunbook, with_runbook

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MAX_FILE_BYTES = 16 * 2**20
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_PATH_PART = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    file: str
    content: Any
    node: yaml.Node | None = None
    first_line: int = 1
    problems: tuple[str, ...] = ()
    """What keeps it from being read as it is meant, each with its line before it."""

    @property
    def kind(self) -> str:
        return str(self.content.get("kind", "")) if isinstance(self.content, dict) else ""

    @property
    def name(self) -> str:
        meta = self.content.get("metadata") if isinstance(self.content, dict) else None
        return str(meta.get("name", "")) if isinstance(meta, dict) else ""

    @property
    def is_ours(self) -> bool:
        """Whether it is of our API group, in whichever version."""
        version = self.content.get("apiVersion") if isinstance(self.content, dict) else None
        return str(version).partition("/")[0] == GROUP

    def line_of(self, path: str) -> int:
        """Return the line of a path as messages have it (`spec.stages[2].bake`).

        Of a place that is not there: that of the nearest one around it.
        """
        node, line = self.node, self.first_line
        for index, key in _PATH_PART.findall(path):
            node = _child(node, key, index)
            if node is None:
                return line
            line = node.start_mark.line + 1
        return line


class _KeepingLoader(yaml.SafeLoader):
    """As kubectl reads YAML: a date stays a text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_documents(names: list[str]) -> Iterator[Document]:
    """Yield the objects of files, of the files of folders, or of the standard input.

    Raises RequestFailed where one cannot be read.
    """
    for name in names:
        for file, text in _read_texts(name):
            yield from _documents_of(file, text)


def _read_texts(name: str) -> Iterator[tuple[str, str]]:
    if name == STDIN:
        yield "<stdin>", sys.stdin.read()
        return

    path = Path(name)
    paths = [path]
    if path.is_dir():
        paths = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES)
        if not paths:
            raise RequestFailed(f"{name}: has no file that ends in {', '.join(SUFFIXES)}")

    for file in paths:
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise RequestFailed(f"{file}: has more than {MAX_FILE_BYTES // 2**20} MiB")
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RequestFailed(f"{file}: {reason}") from None


def _documents_of(file: str, text: str) -> Iterator[Document]:
    loader = _KeepingLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield from _objects_of(file, loader, node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        why = getattr(error, "problem", None) or str(error)
        yield Document(file, None, None, line, (f"is no YAML: {why}",))
    finally:
        loader.dispose()


def _objects_of(file: str, loader: yaml.SafeLoader, node: yaml.Node) -> Iterator[Document]:
    """Yield an object, or each of a List."""
    line = node.start_mark.line + 1
    content = loader.construct_document(node)
    if content is None:
        return  # nothing between two `---`
    if not isinstance(content, dict):
        yield Document(file, None, node, line, ("is no object; it needs apiVersion and kind",))
        return

    items = _child(node, "items", "")
    if str(content.get("kind", "")).endswith("List") and isinstance(items, yaml.SequenceNode):
        for child, item in zip(items.value, content["items"], strict=True):
            first = child.start_mark.line + 1
            yield Document(file, item, child, first, tuple(_repeated_keys(child)))
        return
    yield Document(file, content, node, line, tuple(_repeated_keys(node)))


def _repeated_keys(
    node: yaml.Node, path: str = "", above: frozenset[int] = frozenset()
) -> Iterator[str]:
    """Yield the keys that a map has twice: one of them would be lost without a word."""
    if id(node) in above:
        return  # an alias of something that it stands in
    above |= {id(node)}

    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _repeated_keys(child, f"{path}[{index}]", above)
    if not isinstance(node, yaml.MappingNode):
        return

    seen: dict[str, int] = {}
    for key, child in node.value:
        where = f"{path}.{key.value}" if path else str(key.value)
        if key.value in seen:
            yield f"{where}: is there twice, in line {seen[key.value]} as well; keep one"
        seen[key.value] = key.start_mark.line + 1
        yield from _repeated_keys(child, where, above)


def _child(node: yaml.Node | None, key: str, index: str) -> yaml.Node | None:
    if index:
        has_it = isinstance(node, yaml.SequenceNode) and int(index) < len(node.value)
        return node.value[int(index)] if has_it and node is not None else None
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, child in node.value:
        if name.value == key:
            return child  # type: ignore[no-any-return]
    return None


def read_release(
    filenames: Sequence[str], name: str | None = None, find: FindRunbook | None = None
) -> dict[str, Any]:
    """Return the one Release of the first file, or that of a name, with the body of its Runbook.

    Its Runbook may stand in any of the files; `find`: where it is else. Raises RequestFailed.
    """
    filename, *others = filenames
    documents = [*read_documents([filename])]
    broken = [document for document in documents if document.problems]
    if broken:
        first = broken[0]
        raise RequestFailed(f"{first.file}:{first.first_line}: {first.problems[0]}")

    releases = [
        document for document in documents if document.is_ours and document.kind == "Release"
    ]
    fitting = [release for release in releases if name in (None, release.name)]
    if len(fitting) == 1:
        here = runbooks_in([*read_documents(others), *documents])
        found = with_runbook(fitting[0].content, lambda of: here.get(of) or (find or _nowhere)(of))
        _require_shape(fitting[0], here)
        return found

    names = ", ".join(release.name for release in releases) or "none"
    if fitting:
        how = "give the file of one of them first, by -f, and this one by another -f"
        raise RequestFailed(f"{filename}: has {len(fitting)} Releases ({names}); {how}")
    raise RequestFailed(f"{filename}: has no Release{f' {name}' if name else ''} (there: {names})")


def runbooks_in(documents: Iterable[Document]) -> dict[str, Mapping[str, Any]]:
    """Return the specs of the Runbooks that stand in files, by name."""
    return {
        document.name: document.content["spec"]
        for document in documents
        if document.is_ours
        and document.kind == "Runbook"
        and isinstance(document.content.get("spec"), Mapping)
    }


def _nowhere(name: str) -> None:
    raise RequestFailed(
        f"Runbook {name} is not in the file; give the file that has it by another -f"
    )


def _require_shape(document: Document, runbooks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises RequestFailed where it is too broken to be shown."""
    from gatewright.plugin.lint import find_problems

    problem = next(find_problems(document, runbooks), None)
    if problem is not None:
        line = document.line_of(problem.partition(": ")[0])
        remedy = "`kubectl release lint` shows all that is wrong"
        raise RequestFailed(f"{document.file}:{line}: {problem}; {remedy}")
