"""Builders of components for tests."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from inventory.machine import OsFamily
from tasks.domain.components import Component, ComponentTry, ComponentVersion
from tasks.machines.managers.components.kinds import ComponentKind
from tests.support.builders import START


def make_versions(*versions: str) -> tuple[ComponentVersion, ...]:
    return tuple(
        ComponentVersion(version, url=f"https://x.test/{version}", digest=f"sha256:{'a' * 64}") for version in versions
    )


def make_component(name: str = "exporter", *versions: str, **changes: Any) -> Component:
    """A component of Linux that is a file: 1.0.0 and 1.1.0, unless other versions are given."""
    base = Component(
        name=name,
        kind=ComponentKind.FILE,
        family=OsFamily.LINUX,
        versions=make_versions(*(versions or ("1.0.0", "1.1.0"))),
        version_command=f"/usr/local/bin/{name} --version",
        version_pattern="version ([0-9.]+)",
        install=f'install -m 755 "$FLEETPATCH_FILE" /usr/local/bin/{name}',
    )
    return replace(base, **changes)


def make_try(machine: str = "web-1", run_id: str = "run-1", at: datetime = START, **changes: Any) -> ComponentTry:
    """A try of version 1.1.0 of the component "exporter" that failed."""
    return replace(ComponentTry("exporter", machine, run_id, "1.1.0", at, succeeded=False), **changes)
