"""Hooks that are commands on the controller. They run without a shell, in their own process group.

Hooks run with all rights of the controller. So here is also the check who can have written their programs and modules.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from flows.hooks.event import HookEvent
from flows.hooks.hook_deadline import HookDeadline
from inventory.files.file_trust import UntrustedFile, require_trusted_path
from tasks.domain.model import Hook
from tasks.records.fleets import find_fleet
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import render_json_lines
from tasks.rules.child_environment import build_hook_environment


def find_program_problem(program: str, search_path: str) -> str:
    """Return why a program must not run, or "". A program that is not found has no problem here.

    ``search_path`` is the PATH in which a name is found.
    """
    found_path = shutil.which(program, path=search_path)
    return _find_problem([Path(found_path)]) if found_path else ""


def find_module_problem(module: str) -> str:
    """Return why a module must not be imported, or "". It imports nothing.

    The packages that it is in are checked as well.
    """
    return "" if module in sys.modules else _find_problem(_iterate_module_files(module))


def _find_problem(paths: Sequence[Path] | Iterator[Path]) -> str:
    for path in paths:
        try:
            require_trusted_path(path)
        except UntrustedFile as error:
            return f"{path} is not trusted: {error.message}. {error.hint}"
        except OSError as error:
            return f"{path} can't be read: {error.strerror}"
    return ""


def _iterate_module_files(module: str) -> Iterator[Path]:
    """Yield the files that an import would run, and their compiled forms."""
    folders: Sequence[str] | None = None
    parts = module.split(".")
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, folders))), None)
        if spec is None:
            return
        if spec.has_location and spec.origin:
            yield Path(spec.origin)
        if spec.cached and Path(spec.cached).exists():
            yield Path(spec.cached)
        folders = list(spec.submodule_search_locations or ())


MAX_OUTPUT_BYTES = 4000
TERMINATE_GRACE_SECONDS = 5.0  # time for a command and its child processes to end after SIGTERM
GROUP_POLL_SECONDS = 0.05


def run_command_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str]:
    """Run a command. Return whether its exit code is 0, and the end of its output.

    A command that takes too long gets SIGTERM, and so do all processes of its group. Processes that still live some
    seconds later are killed.
    """
    with tempfile.TemporaryDirectory(prefix="fleetpatch-hook-") as folder, tempfile.TemporaryFile() as printed:
        report = Path(folder, "report.json")
        with report.open("w", encoding="ascii") as file:
            file.writelines(render_json_lines(build_tables(event.report)))
        environment = {**build_hook_environment(os.environ), **_build_environment(event, report)}
        try:
            parts = shlex.split(hook.target)
            if problem := find_program_problem(parts[0], environment["PATH"]):
                return False, problem
            child = subprocess.Popen(
                parts,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return False, f"it could not be started: {error}"
        reason = _wait_for_process(child, hook_deadline)
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - MAX_OUTPUT_BYTES))
        text = printed.read().decode("utf-8", "replace").strip()
    code = child.returncode
    if reason:
        return False, f"{reason}: {text}" if text else reason
    if code == 0:
        return True, text
    end_text = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
    return False, f"{end_text}: {text}" if text else end_text


def _build_environment(event: HookEvent, report: Path) -> dict[str, str]:
    named = {
        "FLEET": find_fleet(),
        "RUN": event.run_id,
        "HOOK": event.hook,
        "PLACE": event.place.value,
        "SUBJECT": event.subject,
        "MACHINE": event.subject if event.place.value.endswith("_machine") else "",
        "STATE": event.state.value if event.state is not None else "",
        "REPORT": str(report),
    }
    return {f"FLEETPATCH_{name}": value for name, value in named.items()}


def _wait_for_process(child: subprocess.Popen[bytes], hook_deadline: HookDeadline) -> str:
    """Wait for a command. Return why it was ended, or "" if it ended itself."""
    try:
        while child.poll() is None:
            if reason := hook_deadline.find_abort_reason():
                return reason
            hook_deadline.sleep_until_next_poll()
        return ""
    finally:
        if child.returncode is None:
            # The whole group is ended, even if the command itself has ended. The group id is the command's pid.
            until = time.monotonic() + TERMINATE_GRACE_SECONDS
            os.killpg(child.pid, signal.SIGTERM)
            with suppress(ProcessLookupError):  # no process is left in the group
                while time.monotonic() < until:
                    child.poll()  # reap the command: a zombie keeps the group alive
                    os.killpg(child.pid, 0)
                    time.sleep(GROUP_POLL_SECONDS)
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
