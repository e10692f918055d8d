"""Print what a checkout weighs: a table of figures, beside those of an earlier time if you like.

    python -m tests.ci.weight                              # this checkout
    python -m tests.ci.weight --root DIR --json FIGURES    # another one; keep its figures
    python -m tests.ci.weight --compare FIGURES            # before, now, and the difference
    python -m tests.ci.weight --list fillers               # the places behind a figure, by file
    python -m tests.ci.weight --prose FILE …               # the sentences' shapes of any documents

Pass `--no-run` to leave out the two runs, which take a minute. The figures of 1,000 words and of fillers are estimates
that compare words; each program here says in its docstring what it counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.ci.tree import TOP
from tests.ci.weight import imports, prose, sources

Figures = dict[str, float]

COLUMNS = (
    "availability_zone",
    "last_run",
    "next_window",
    "patch_mode",
    "readiness_reason",
    "reboot_required",
    "services_to_restart",
)
"""Columns of the machine list that are named alike at most places; a new one would stand in as many files."""
LISTS = ("fillers", "classes", "helpers", "imports", "columns")
_OTHER_TEXTS = (".css", ".j2", ".js", ".ps1", ".psm1", ".sh")


class Checkout:
    """A checkout to be measured.

    Attributes:
        rooms: the packages of the product, the lowest one first, as import-linter knows them.
        modules: their Python.
        scripts: their scripts, templates and styles: path and text.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        project = tomllib.loads((root / "pyproject.toml").read_text())
        self.rooms: list[str] = project["tool"]["importlinter"]["root_packages"]
        self.modules = sources.read_modules(root, self.rooms)
        self.scripts = {
            path.relative_to(root).as_posix(): path.read_text()
            for room in self.rooms
            for path in sorted((root / room).rglob("*"))
            if path.suffix in _OTHER_TEXTS and "vendor" not in path.parts
        }
        graph = imports.read_imports(root, self.rooms)
        self.arrows_up = imports.find_arrows_up(graph, self.rooms)
        self.circles = imports.find_circles(graph)
        self.class_names = sources.find_shared_class_names(self.modules)
        self.fillers = {module.name: sources.find_fillers(module) for module in self.modules}
        self.helpers = [
            (module, helper) for module in self.modules for helper in sources.find_helpers_called_once(module)
        ]

    def measure_product(self) -> Figures:
        """Return lines of the product and of the tests."""
        figures = {f"product: {name}": value for name, value in sources.measure_sizes(self.modules).items()}
        figures["product: lines of scripts, templates and styles"] = sum(
            len(text.splitlines()) for text in self.scripts.values()
        )
        for name, value in sources.measure_sizes(sources.read_modules(self.root, ["tests"])).items():
            if name in {"lines", "files"}:
                figures[f"tests: {name}"] = value
        return figures

    def measure_names(self) -> Figures:
        """Return class names with several classes, and the share of fillers among the locals, of each room."""
        rooms = [room for paths in self.class_names.values() for room in sources.find_rooms_with_two(paths)]
        figures: Figures = {
            "names: classes' names with several classes": len(self.class_names),
            "names: of them twice in one room": len(rooms),
        }
        bound, fillers = Counter[str](), Counter[str]()
        for module in self.modules:
            for room in (module.room, "all rooms"):
                bound[room] += len(module.bindings)
                fillers[room] += len(self.fillers[module.name])
        for room in ("all rooms", *self.rooms):
            figures[f"names: fillers, % of the locals of {room}"] = round(100 * fillers[room] / bound[room], 1)
        return figures

    def measure_structure(self) -> Figures:
        """Return private helpers, and the files that name a column."""
        return {
            "helpers: private": sum(len(sources.find_private_functions(module)) for module in self.modules),
            "helpers: of them called once": len(self.helpers),
            f"helpers: of these with {sources.SHORT_HELPER_LINES} lines or less": sum(
                sources.is_short(helper) for _, helper in self.helpers
            ),
            **{f"files with the column {column}": len(paths) for column, paths in self.find_columns().items()},
        }

    def measure_imports(self) -> Figures:
        """Return circles of modules, and arrows that run up."""
        return {"imports: circles": len(self.circles), "imports: arrows up": len(self.arrows_up)}

    def find_columns(self) -> dict[str, list[str]]:
        """Return the files of the product that name each of some columns."""
        texts = {module.name: module.text for module in self.modules} | self.scripts
        return {column: sources.find_files_with_column(texts, column) for column in COLUMNS}

    def measure_prose(self) -> Figures:
        """Return the sentences' shapes in 1,000 words, of each document."""
        paths = [self.root / "README.md", self.root / "CONTRIBUTING.md", *sorted((self.root / "docs").rglob("*.md"))]
        counts = {path.relative_to(self.root).as_posix(): prose.count_shapes(path.read_text()) for path in paths}
        counts = {"all documents": sum(counts.values(), Counter[str]()), **counts}
        rates = {path: prose.find_rates(shapes) for path, shapes in counts.items()}
        return {f"{shape}: {path}": rates[path][shape] for shape in prose.SHAPES for path in rates}

    def measure_run(self) -> tuple[Figures, dict[str, list[str]]]:
        """Trace a run without Prefect and one with it. Return the figures, and the way to the first wave of each."""
        figures: Figures = {}
        chains: dict[str, list[str]] = {}
        program = Path(__file__).with_name("traced_run.py")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "FLEETPATCH"))}
        for mode in ("plain", "prefect"):
            with tempfile.TemporaryDirectory() as folder:
                result = Path(folder, "result.json")
                subprocess.run(
                    [sys.executable, "-P", str(program), str(self.root), mode, str(result)],
                    env={**environment, "PYTHONPATH": str(self.root)},
                    stdout=sys.stderr,
                    check=True,
                )
                run = json.loads(result.read_text())
            chains[mode] = run.pop("chain")
            figures |= {f"one run, {mode}: {name}": value for name, value in run.items()}
        return figures, chains

    def list_places(self, subject: str) -> Iterator[str]:
        """Return the places behind a figure, one in each line."""
        match subject:
            case "fillers":
                for path, nodes in sorted(self.fillers.items(), key=lambda entry: (-len(entry[1]), entry[0])):
                    names = Counter(node.id for node in nodes)
                    if names:
                        yield f"{len(nodes):4}  {path}: {', '.join(f'{name} {n}' for name, n in names.most_common())}"
            case "classes":
                yield from (f"{name}: {', '.join(paths)}" for name, paths in self.class_names.items())
            case "helpers":
                yield from (
                    f"{module.name}:{helper.lineno}: {helper.name}"
                    for module, helper in self.helpers
                    if sources.is_short(helper)
                )
            case "imports":
                yield from (f"circle: {', '.join(circle)}" for circle in self.circles)
                yield from (f"up: {importer} -> {imported}" for importer, imported in self.arrows_up)
            case "columns":
                yield from (f"{column}: {path}" for column, paths in self.find_columns().items() for path in paths)


def build_table(now: Mapping[str, float], before: Mapping[str, float]) -> Iterator[str]:
    """Return a Markdown table of figures, with those of an earlier time if there are some."""
    names = [*now, *(name for name in before if name not in now)]
    widest = max(map(len, names))
    heads = ["before", "now", "difference"] if before else ["now"]
    yield f"| {'':{widest}} | {' | '.join(f'{head:>10}' for head in heads)} |"
    yield f"|{'-' * (widest + 2)}|{'|'.join('-' * 11 + ':' for _ in heads)}|"
    for name in names:
        cells = [
            f"{figures[name]:,.10g}" if name in figures else "" for figures in ([before, now] if before else [now])
        ]
        if before:
            cells.append(f"{now[name] - before[name]:+,.10g}" if name in now and name in before else "")
        yield f"| {name:{widest}} | {' | '.join(f'{cell:>10}' for cell in cells)} |"


def build_prose_table(paths: Iterable[str]) -> Iterator[str]:
    """Return a Markdown table of the sentences' shapes in 1,000 words of some documents."""
    yield f"| {' | '.join(('document', 'words', *prose.SHAPES))} |"
    yield "|---|" + "---:|" * (len(prose.SHAPES) + 1)
    for path in paths:
        counts = prose.count_shapes(Path(path).read_text())
        yield f"| {path} | {counts['words']} | {' | '.join(map(str, prose.find_rates(counts).values()))} |"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=TOP, help="The checkout to measure; this one by default.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures into a file.")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="Show the figures of such a file beside today's.")
    parser.add_argument("--no-run", action="store_true", help="Leave out the figures of one run.")
    parser.add_argument("--list", choices=LISTS, dest="subject", help="List the places behind a figure instead.")
    parser.add_argument("--prose", nargs="+", metavar="FILE", help="Measure these documents instead.")
    options = parser.parse_args()
    if options.prose:
        print(*build_prose_table(options.prose), sep="\n")
        return
    checkout = Checkout(options.root.resolve())
    if options.subject:
        print(*checkout.list_places(options.subject), sep="\n")
        return
    run, chains = ({}, {}) if options.no_run else checkout.measure_run()
    figures = {
        **checkout.measure_product(),
        **run,
        **checkout.measure_names(),
        **checkout.measure_imports(),
        **checkout.measure_structure(),
        **checkout.measure_prose(),
    }
    print(*build_table(figures, json.loads(options.compare.read_text()) if options.compare else {}), sep="\n")
    for mode, chain in chains.items():
        print(f"\nFrom the command to the first wave, {mode}:", *(f"  {hop}" for hop in chain), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
