"""Loads the public names of a package on first use."""

from collections.abc import Callable, Mapping
from importlib import import_module


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
