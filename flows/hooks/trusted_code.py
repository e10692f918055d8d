"""Checks who can have written the programs and modules of hooks. They run with all rights of the controller."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from inventory.files.file_trust import UntrustedFile, require_trusted_path


def find_program_problem(program: str, search_path: str) -> str:
    """Return why a program must not run, or "". A program that is not found has no problem here.

    Args:
        program: its name, or its path.
        search_path: the PATH that it is found in.
    """
    found_path = shutil.which(program, path=search_path)
    return _find_problem([Path(found_path)]) if found_path else ""


def find_module_problem(module: str) -> str:
    """Return why a module must not be imported, or "". It imports nothing.

    Args:
        module: its full name; the packages that it is in are checked as well.
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
