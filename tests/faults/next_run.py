"""The run that comes last and is not disturbed installs everything that can be installed."""

from tests.faults.world import World
from tests.support.fake_packages import FakePackage, Shelf


def all_is_installed(world: World) -> None:
    """Judge the run that came last and was not disturbed: everything that can be installed is there, and whole."""
    for machine in world.machines.values():
        packages = machine.world.packages
        shelf = machine.world.shelf
        if shelf.broken():
            world.complain(f"{machine.name}: the next run left {shelf.broken()}")
        barred = _barred(packages, shelf)
        missing = [package.id for package in packages if package.pending and package.id not in barred]
        changes = [
            each.run_id for each in machine.orders.jobs if each.job.script.params["work"] not in {"stage", "restart"}
        ]
        if machine.rests_for and changes and changes[-1] != machine.rests_for:
            world.complain(f"{machine.name}: its own updaters still rest, for run {machine.rests_for}")
        if missing:
            world.complain(f"{machine.name}: the next run did not install {missing}")


def _barred(packages: list[FakePackage], shelf: Shelf) -> set[str]:
    """Ids of what can't be installed: what is held, what needs that, and what belongs in one group with it."""
    barred = {package.id for package in packages if package.held}
    while True:
        groups = {package.group for package in packages if package.id in barred and package.group and not package.held}
        more = {p.id for p in packages if barred & set(shelf.closure([p.id])) or p.group in groups}
        if more <= barred:
            return barred
        barred |= more
