"""Which lines of the product one run executes: `patch` on two simulated machines, one of which is rebooted.

    python -P traced_run.py ROOT plain|prefect RESULT.json

A program of its own, because it loads the checkout at ROOT, which may be another one. Everything is real but the two
machines, their package manager and the clock: the command, the inventory file, the records and Prefect with its server.

Each function of the product that is called counts once, in whatever thread, with all its lines: decorators, signature,
docstring and body. Functions that Prefect's server process calls are not ours. The chain is who called whom, from the
verb's function to the first function of the engine that runs the waves; only functions of the product are hops.
"""

import ast
import importlib
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FIRST_WAVE = re.compile(r"_?(run|execute|start|begin)_waves?$")
COMMANDS = ("fleetpatch/cli/main.py", "flows/cli/main.py")
"""Where the command was, the newest place first."""
OPENERS = ("flows.composition", "flows.execution")
"""The modules that know `open_ports`, the one place where a run gets its connections to the outside."""


class Tracer:
    """Notes the functions of the product that are called, and the way to the first wave."""

    def __init__(self, root: Path, rooms: list[str]) -> None:
        self._rooms = tuple(f"{root / room}{os.sep}" for room in rooms)
        self._root = root
        self._callers: dict[threading.Thread, list[str]] = {}
        self.called: set[CodeType] = set()
        self.chain: list[str] = []

    def note(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Take a call, as `sys.setprofile` tells it."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._rooms) and code not in self.called:
            self.called.add(code)
            if not self.chain and "/engine/" in code.co_filename and FIRST_WAVE.match(code.co_name):
                self.chain = self._find_chain(frame)

    def _find_chain(self, frame: FrameType | None) -> list[str]:
        chain: list[str] = []
        while frame is not None:
            code = frame.f_code
            if "/site-packages/typer/" in code.co_filename:  # before it, there is only the way to the verb
                return chain[::-1]
            if code.co_filename.startswith(self._rooms) and not code.co_name.startswith("<"):
                chain.append(f"{os.path.relpath(code.co_filename, self._root)}:{code.co_qualname}")
            frame = frame.f_back
        return self._callers.get(threading.current_thread(), []) + chain[::-1]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Note what is called inside the block, in all threads that start there."""
        start = threading.Thread.start

        def start_traced(thread: threading.Thread) -> None:
            self._callers[thread] = self._find_chain(sys._getframe(1))
            start(thread)

        threading.Thread.start = start_traced  # type: ignore[method-assign, assignment]
        threading.setprofile(self.note)
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            threading.Thread.start = start  # type: ignore[method-assign]

    def count(self) -> dict[str, int]:
        """Return how many functions, lines and files were executed."""
        firsts: dict[str, set[int]] = {}
        for code in self.called:
            if code.co_filename.endswith(".py"):  # templates are code, too
                firsts.setdefault(code.co_filename, set()).add(code.co_firstlineno)
        functions, lines, files = 0, 0, 0
        for path, numbers in firsts.items():
            spans = [
                range(min(part.lineno for part in (node, *node.decorator_list)), (node.end_lineno or 0) + 1)
                for node in ast.walk(ast.parse(Path(path).read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            executed = [span for span in spans if span.start in numbers]
            functions += len(executed)
            lines += len({number for span in executed for number in span})
            files += bool(executed)
        return {"functions": functions, "lines": lines, "files": files, "hops": len(self.chain) - 1}


def simulate_machines() -> None:
    """Put two simulated machines in the place of the inventory's."""
    fakes, packages, clocks = (
        importlib.import_module(f"tests.support.{name}") for name in ("fleet", "fake_packages", "fake_clock")
    )
    fleet = fakes.SimFleet(clock=clocks.FakeClock(datetime.now(UTC).replace(microsecond=0)))
    security = type(packages.FakePackage.classification).SECURITY
    openssl, linux = (packages.FakePackage(name, classification=security) for name in ("openssl", "linux"))
    fleet.add("web", [openssl, packages.FakePackage("vim")])
    fleet.add("db", [replace(linux, asks_reboot=True)])
    open_ports = importlib.import_module(OPENERS[0]).open_ports

    @contextmanager
    def open_simulated_ports(*arguments: Any, **options: Any) -> Iterator[Any]:
        with open_ports(*arguments, **options) as ports:
            fakes_of_ports = fleet.ports()
            names = ("clock", "connect", "find_manager")
            yield replace(ports, **{name: getattr(fakes_of_ports, name) for name in names})

    for name in OPENERS:
        importlib.import_module(name).open_ports = open_simulated_ports  # type: ignore[attr-defined]


def trace(root: Path, rooms: list[str], words: list[str]) -> dict[str, Any]:
    """Run the command once in an empty folder, and return the figures and the chain."""
    path = next(path for path in COMMANDS if (root / path).is_file())
    command = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    if Path(str(command.__file__)) != root / path:
        raise SystemExit(f"{command.__file__} was loaded and not {root / path}")
    machines = ({"name": name, "address": f"{name}.example"} for name in ("web", "db"))
    Path("fleet.yaml").write_text(json.dumps({"machines": list(machines)}))
    command.main(["history"])  # it makes the records
    simulate_machines()
    tracer = Tracer(root, rooms)
    with tracer.active():
        code = command.main(["patch", "*", "--yes", *words])
    if code != 0 or not tracer.chain:
        raise SystemExit(f"the run ended with {code}; the way to its first wave: {tracer.chain}")
    return {**tracer.count(), "chain": tracer.chain}


def main() -> None:
    root, mode, result = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    rooms = [name for name in ("inventory", "tasks", "flows", "deployments", "fleetpatch") if (root / name).is_dir()]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        Path("settings.env").touch(0o600)
        os.environ |= {
            "FLEETPATCH_SETTINGS": f"{folder}/settings.env",
            "FLEETPATCH_KEYS": f"{folder}/keys",
            "FLEETPATCH_RECORDS_URL": f"sqlite:///{folder}/records.db",
            "PREFECT_HOME": f"{folder}/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "XDG_DATA_HOME": f"{folder}/data",
        }
        figures = trace(root, rooms, ["--no-prefect"] if mode == "plain" else [])
        os.chdir("/")
    result.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
