"""Which files of this checkout refer to a file: by an import, by its name in their text, or as fixtures of a folder.

A module is referred to where it is imported, and where a text has its dotted name or its path: tests replace things by
name, start programs, and load what a string says. A ``conftest.py`` of a folder below tests/ counts as imported by
the test files of its folder. Any other file is referred to where a text has its name, or the stem of a script. Where no
text has, a shorter stem counts, and after that its folder's name: recorded answers are read by folder. A test that
looks at all files of a suffix refers to each of them.

This overlooks names that are put together while a program runs. The whole run of the tests does not.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import PurePosixPath

import grimp

ROOMS = ("deployments", "fleetpatch", "flows", "inventory", "tasks", "tests")
REFERRING = {".py", ".sh", ".ps1", ".j2", ".js", ".css", ".cs", ".yml", ".service", ""}
"""Suffixes of files that use what they name. Documents and recorded answers name things without using them."""
SCRIPTS = {".sh", ".ps1"}
COMMON = 25
"""A word that more files have says nothing about any of them."""

_MODULE = re.compile(rf"\b(?:{'|'.join(ROOMS)})(?:\.\w+)+")
_PATH = re.compile(r"[\w./-]*\w\.py\b")
_JOINED = re.compile(r"[\"']\s*/\s*[\"']")
_REQUIRES = re.compile(r"^# (?:Requires|Brings): .*$", re.MULTILINE)
_BEFORE, _AFTER = r"(?<![\w.-])", r"(?![\w-]|\.\w)"


def is_test(file: str) -> bool:
    """Return whether pytest collects tests from a file."""
    path = PurePosixPath(file)
    return path.parts[0] == "tests" and path.name.startswith("test_") and path.suffix == ".py"


def name_module(file: str) -> str:
    """Return the dotted name of a Python file."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def read_imports() -> list[tuple[str, str]]:
    """Return who imports whom, as dotted names of modules of this checkout."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    return [
        (module, imported) for module in graph.modules for imported in graph.find_modules_directly_imported_by(module)
    ]


class References:
    """Finds what refers to a file."""

    def __init__(self, texts: Mapping[str, str], files: Iterable[str], imports: Iterable[tuple[str, str]]) -> None:
        """Look through the texts of a checkout.

        Args:
            texts: file -> its text, of files with a suffix of REFERRING.
            files: all files, also those that a change took away.
            imports: pairs of modules: one imports the other.
        """
        self._texts = {file: _JOINED.sub("/", text) if file.endswith(".py") else text for file, text in texts.items()}
        self._files = frozenset(files)
        self._namesakes: dict[str, list[str]] = defaultdict(list)
        for file in self._files:
            self._namesakes[PurePosixPath(file).name].append(file)
        self._modules = {name_module(file): file for file in self._files if file.endswith(".py")}
        self._imports = imports
        self.find_referrers = cache(self._find_referrers)

    def find_submodules(self, file: str) -> set[str]:
        """Return the files below a package, if this is the package's own: it is executed before each of them."""
        folder = file.removesuffix("__init__.py")
        if folder == file:
            return set()
        return {module for module in self._modules.values() if module.startswith(folder)} - {file}

    def _find_referrers(self, file: str) -> frozenset[str]:
        if not file.endswith(".py"):
            return frozenset(self._find_by_words(file) | self._find_by_suffix(file)) - {file}
        importers = self._importers[file] - {file}
        if importers or file.startswith("tests/") or file.endswith("/__init__.py"):
            return frozenset(importers)
        return frozenset(self._find_first(file, _list_folders(file)))  # something loads whatever is in the folder

    @cached_property
    def _importers(self) -> Mapping[str, set[str]]:
        importers: dict[str, set[str]] = defaultdict(set)
        for importer, imported in self._imports:
            if importer in self._modules and imported in self._modules:
                importers[self._modules[imported]].add(self._modules[importer])
        for file, text in self._texts.items():
            if file.endswith(".py"):
                for named in (*self._find_modules(text), *self._find_paths(text)):
                    importers[named].add(file)
        for file in self._modules.values():
            if file.endswith("/conftest.py") and file != "tests/conftest.py":
                importers[file] |= self._find_tests_below(file.removesuffix("conftest.py"))
        return importers

    def _find_tests_below(self, folder: str) -> set[str]:
        return {file for file in self._modules.values() if is_test(file) and file.startswith(folder)}

    def _find_modules(self, text: str) -> Iterator[str]:
        """Yield the files of the modules whose dotted names a text has; an attribute of a module names the module."""
        for words in {tuple(name.split(".")) for name in _MODULE.findall(text)}:
            names = (".".join(words[:end]) for end in range(len(words), 1, -1))
            named = next((self._modules[name] for name in names if name in self._modules), None)
            if named is not None:
                yield named

    def _find_paths(self, text: str) -> Iterator[str]:
        """Yield the Python files whose paths a text has, or the end of a path that no other file has."""
        for path in set(_PATH.findall(text)):
            namesakes = self._namesakes.get(PurePosixPath(path).name, [])
            ends = [file for file in namesakes if f"/{file}".endswith("/" + path.lstrip("./"))]
            if len(ends) == 1:
                yield ends[0]

    def _find_by_suffix(self, file: str) -> set[str]:
        """Return the test code that looks at all files of this suffix."""
        suffix = PurePosixPath(file).suffix
        if not suffix:
            return set()
        users = self._search(suffix, rf"[\"']\*?{re.escape(suffix)}[\"']", {".py"})
        return {user for user in users if user.startswith("tests/")}

    def _find_by_words(self, file: str) -> set[str]:
        """Return the files that name this one, by the most telling word that any text has."""
        path = PurePosixPath(file)
        named = self._find_by_name(path) | (self._find_by_script(path) if path.suffix in SCRIPTS else set())
        if named - {file} or path.suffix == ".md":
            return named
        bare = [] if _is_plain(path.name) else [_pattern_name(path.name)]
        return self._find_first(file, [*bare, *_list_stems(path.name), *_list_folders(file)])

    def _find_first(self, file: str, searches: Iterable[tuple[str, str]]) -> set[str]:
        return next((users for search in searches if (users := self._search(*search) - {file})), set())

    def _find_by_name(self, path: PurePosixPath) -> set[str]:
        """Return the files that have a file's name, after its folder's unless no other file has that name."""
        if len(path.parts) == 1:
            return self._search(*_pattern_name(path.name))
        tail = "/".join(path.parts[-2:])
        users = self._search(tail, rf"(?<![\w-]){re.escape(tail)}{_AFTER}")
        telling = len(self._namesakes[path.name]) == 1 and not _is_plain(path.name)
        return users | (self._search(path.name, _BEFORE + re.escape(path.name) + _AFTER) if telling else set())

    def _find_by_script(self, path: PurePosixPath) -> set[str]:
        """Return what asks for a script by its stem: Python code, and scripts that require it."""
        stem = re.escape(path.stem)
        pattern = rf"\b{stem}\b" if "_" in stem else rf"[\"']{stem}[\"']"
        scripts = {
            user
            for user, text in self._texts.items()
            if user.endswith(path.suffix) and any(re.search(rf"\b{stem}\b", line) for line in _REQUIRES.findall(text))
        }
        return self._search(path.stem, pattern, {".py"}) | scripts

    def _search(self, word: str, pattern: str, suffixes: Collection[str] = REFERRING) -> set[str]:
        """Return the files whose text has a pattern; none if it is common.

        Args:
            word: what any text with the pattern has: much faster to look for.
            pattern: a regular expression.
            suffixes: of the files.
        """
        users = {
            file
            for file, text in self._texts.items()
            if word in text and PurePosixPath(file).suffix in suffixes and re.search(pattern, text)
        }
        return users if len(users) <= COMMON else set()


def _is_plain(name: str) -> bool:
    """Return whether a file's name is a word that may mean anything."""
    return name.isalpha() and name.islower()


def _pattern_name(name: str) -> tuple[str, str]:
    """Return a file's name, and the pattern of a text that has it without any folder."""
    return name, rf"(?<![\w./-]){re.escape(name)}{_AFTER}"


def _list_stems(name: str) -> Iterator[tuple[str, str]]:
    """Yield words and patterns of a file's name without its suffixes. A plain word may mean anything: it is none."""
    while (stem := name.rpartition(".")[0]) and not stem.isalpha():
        name = stem
        yield stem, rf"{_BEFORE}{re.escape(stem)}(?![\w.-])"


def _list_folders(file: str) -> Iterator[tuple[str, str]]:
    """Yield words and patterns of the folders that a file is in, from the inside out, but for those at the top."""
    for folder in list(PurePosixPath(file).parents)[:-2]:
        tail = "/".join(folder.parts[-2:])
        yield tail, rf"(?<![\w-]){re.escape(tail)}(?![\w-])"
        yield folder.name, rf"[\"']{re.escape(folder.name)}[\"']"
