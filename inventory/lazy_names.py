"""Loads the public names of a package on first use, and libraries without what they load in vain."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

_modules: Final[dict[str, Any]] = sys.modules


def build_name_loader(package: str, homes: Mapping[str, tuple[str, str]]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package whose modules load slowly. Importers that do not need them save the time.

    Args:
        package: the package's ``__name__``.
        homes: public name -> its module below the package, and its name there.
    """

    def load_name(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = homes[name]
        return getattr(import_module(f"{package}.{module}"), attribute)

    return load_name


@contextmanager
def leave_module_out(name: str) -> Iterator[None]:
    """Let imports of a module fail meanwhile, as if it were not installed. A module that is loaded already stays."""
    is_left_out = _modules.setdefault(name, None) is None
    try:
        yield
    finally:
        if is_left_out:
            del _modules[name]
