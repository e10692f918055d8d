"""How a worker finds the packages of Prefect's integrations, to tell the server their versions: by their names.

For that, a worker of Prefect 3.8.8 reads the descriptions of all installed packages, three times each, at its start.
That takes a third of a second of a processor.
"""

from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from prefect.plugins import load_prefect_collections
from prefect.workers import base


def find_integration_packages() -> Iterator[Distribution]:
    """Yield the package of each integration that this interpreter has."""
    for name in load_prefect_collections():
        with suppress(PackageNotFoundError):  # it is part of a package of another name: Prefect leaves it out, too
            yield distribution(name)


def find_integrations_by_name() -> None:
    """Let the workers of this process look for these packages alone."""
    setattr(base, "distributions", find_integration_packages)  # noqa: B010 - Prefect has no setting for it
