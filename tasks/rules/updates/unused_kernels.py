"""Which kernels of a machine are in no use and may be removed. Pure.

Of each flavour, the newest kernel stays, and the one before it, as the fallback of a boot that fails. The running
kernel stays in any case. Nothing is removed unless the running kernel is the newest of its flavour: before, nobody
knows that the newest one boots. A kernel is removed with all its packages, or not at all.
"""

from collections import defaultdict
from collections.abc import Collection
from fnmatch import fnmatchcase

from inventory.data_class import dataclass
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage

KEPT_KERNELS = 2
"""Of each flavour: the newest, and one fallback."""


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The packages to remove, the oldest kernel first, or why the kernels can't be judged."""

    packages: tuple[KernelPackage, ...] = ()
    obstacle: str = ""

    def group_by_kernel(self) -> tuple[tuple[str, ...], ...]:
        """Return the ids of the packages of each kernel, the oldest kernel first."""
        groups: dict[str, list[str]] = defaultdict(list)
        for package in self.packages:
            groups[package.kernel].append(package.package.id)
        return tuple(map(tuple, groups.values()))


def choose_unused_kernels(
    kernels: InstalledKernels, *, held: Collection[str] = (), excluded: Collection[str] = ()
) -> KernelChoice:
    """Return which packages of kernels may be removed."""
    if kernels.obstacle:
        return KernelChoice(obstacle=kernels.obstacle)
    images = [package for package in kernels.packages if package.is_image]
    running = [package for package in images if package.is_running]
    if not running:
        return KernelChoice(obstacle=f"the running kernel {kernels.running} is none of those installed")
    ranks: dict[str, set[int]] = defaultdict(set)
    for image in images:
        ranks[image.flavour].add(image.rank)
    for image in images:
        if any(kernel.flavour == image.flavour and kernel.rank < image.rank for kernel in running):
            return KernelChoice(obstacle=f"kernel {image.kernel} is installed, {kernels.running} is running")
    kept_ranks = {
        (flavour, rank) for flavour, flavour_ranks in ranks.items() for rank in sorted(flavour_ranks)[-KEPT_KERNELS:]
    }
    running_kernels = {package.kernel for package in kernels.packages if package.is_running}
    unused = [
        package
        for package in kernels.packages
        if package.rank in ranks[package.flavour]
        and (package.flavour, package.rank) not in kept_ranks
        and package.kernel not in running_kernels
    ]
    staying = {
        package.kernel
        for package in unused
        if not package.is_removable
        or package.is_running
        or package.package.name in held
        or any(fnmatchcase(package.package.name, mask) for mask in excluded)
    }
    chosen = [package for package in unused if package.kernel not in staying]
    return KernelChoice(tuple(sorted(chosen, key=lambda package: package.rank)))
