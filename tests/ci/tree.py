"""The files of this checkout, as the house rules look at them. Knows no git, as a release has none."""

from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
_MADE_AT_THE_TOP = {"build", "dist", "reports"}
_KEPT_DOT_FOLDERS = {".ci", ".github"}
_BINARY = {".gpg", ".png", ".jpg", ".gif", ".ico", ".xz", ".gz", ".parquet", ".db"}


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            is_made = path.name == "__pycache__" or (folder == TOP and path.name in _MADE_AT_THE_TOP)
            if not is_made and (not path.name.startswith(".") or path.name in _KEPT_DOT_FOLDERS):
                yield from _walk(path)
        elif path.is_file() and path.name != ".git":  # a file of that name is a worktree's pointer
            yield path


def files() -> list[Path]:
    """Every file that people wrote (or a tool wrote for them to commit), text and binary."""
    return [path for path in _walk(TOP) if path.suffix not in {".pyc", ".lock"} or path.match("requirements*.lock")]


def texts() -> list[Path]:
    """Those that hold text."""
    return [path for path in files() if path.suffix not in _BINARY]


def name(path: Path) -> str:
    """A file's name as people say it: from the top of the checkout on."""
    return path.relative_to(TOP).as_posix()
