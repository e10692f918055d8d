"""The Python of a checkout: its lines, functions, class names, local names and private helpers."""

import ast
import io
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

FILLERS = frozenset(
    """
    each found why known place words said told wanted rest kept given what one other thing item x tmp
    asked done gone got held left made seen shown taken used here there how when where which who whole
    mine ours own some theirs them those others items obj places stuff temp things
    """.split()  # noqa: SIM905 - a list of words is easier to read without quotes
)
"""Words that do not say what a local is. `name`, `key`, `row`, `value`, `text` and `result` are no fillers."""
SHORT_HELPER_LINES = 6


@dataclass(frozen=True)
class Module:
    """One file of Python.

    Attributes:
        name: its path from the top of the checkout on.
        text: its content.
    """

    name: str
    text: str

    @property
    def room(self) -> str:
        """The package at the top that it belongs to."""
        return self.name.partition("/")[0]

    @cached_property
    def nodes(self) -> Sequence[ast.AST]:
        """Its syntax, node by node."""
        return list(ast.walk(ast.parse(self.text)))

    @cached_property
    def functions(self) -> Sequence[Function]:
        """Its functions and methods, also those inside others."""
        return [node for node in self.nodes if isinstance(node, Function)]

    @cached_property
    def bindings(self) -> Sequence[ast.Name]:
        """The places where its functions bind locals: `for`, `with`, `=`, `:=` and comprehensions.

        Parameters are no locals here, and neither is `_`.
        """
        inner = {node: None for function in self.functions for node in ast.walk(function)}
        return [
            node for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id != "_"
        ]


def read_modules(root: Path, rooms: Iterable[str]) -> list[Module]:
    """Return the modules below some folders of a checkout."""
    paths = sorted(path for room in rooms for path in (root / room).rglob("*.py"))
    return [Module(path.relative_to(root).as_posix(), path.read_text()) for path in paths]


def find_span(function: Function) -> range:
    """Return the lines of a function, with its decorators."""
    first = min(node.lineno for node in (function, *function.decorator_list))
    return range(first, (function.end_lineno or first) + 1)


def count_lines(module: Module) -> Counter[str]:
    """Return how many lines are code, import, comment and blank. Docstrings are comments; an import is no code."""
    kinds = dict.fromkeys(range(1, len(module.text.splitlines()) + 1), "blank")
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            if kinds[token.start[0]] == "blank":
                kinds[token.start[0]] = "comment"
        elif token.type not in layout:
            kinds.update(dict.fromkeys(range(token.start[0], token.end[0] + 1), "code"))
    for node in module.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kinds.update(dict.fromkeys(_find_lines(node), "import"))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            kinds.update(dict.fromkeys(_find_lines(node), "comment"))
    return Counter(kinds.values())


def _find_lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def measure_sizes(modules: Sequence[Module]) -> dict[str, float]:
    """Return the lines by kind, the files, the functions and the median length of a function."""
    lines = sum((count_lines(module) for module in modules), Counter[str]())
    lengths = [len(find_span(function)) for module in modules for function in module.functions]
    return {
        "lines": lines.total(),
        **{kind: lines[kind] for kind in ("code", "import", "comment", "blank")},
        "files": len(modules),
        "functions": len(lengths),
        "median lines of a function": statistics.median(lengths or [0]),
    }


def find_shared_class_names(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return the names that several classes have, with the classes' files."""
    files = defaultdict(list)
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                files[node.name].append(module.name)
    return {name: paths for name, paths in sorted(files.items()) if len(paths) > 1}


def find_rooms_with_two(paths: Iterable[str]) -> set[str]:
    """Return the rooms that have two of these files or more."""
    return {room for room, count in Counter(path.partition("/")[0] for path in paths).items() if count > 1}


def find_fillers(module: Module) -> list[ast.Name]:
    """Return the bindings whose name does not say what the local is."""
    return [node for node in module.bindings if node.id in FILLERS]


def find_helpers_called_once(module: Module) -> Iterator[Function]:
    """Return the private functions and methods whose name is read at one place of their module."""
    uses = Counter(
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in module.nodes
        if isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    )
    yield from (function for function in find_private_functions(module) if uses[function.name] == 1)


def find_private_functions(module: Module) -> list[Function]:
    """Return the functions and methods with a leading underscore."""
    return [function for function in module.functions if function.name[0] == "_" and function.name[:2] != "__"]


def is_short(function: Function) -> bool:
    """Tell whether a function has so few lines that its caller could have them."""
    return len(find_span(function)) <= SHORT_HELPER_LINES


def find_files_with_column(texts: Mapping[str, str], column: str) -> list[str]:
    """Return the files with a column's name: in snake_case or camelCase, and as a count of it."""
    first, *later = column.split("_")
    camel = first + "".join(word.title() for word in later)
    name = re.compile(rf"(?<![A-Za-z0-9_])(?:{column}(?:_count)?|{camel}(?:Count)?)(?![A-Za-z0-9_])")
    return sorted(path for path, text in texts.items() if name.search(text))
