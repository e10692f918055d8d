"""Which kernels may be removed: never the running one, never the newest, always a fallback, and nothing by halves."""

from dataclasses import replace
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.states import Classification
from tasks.rules.updates.unused_kernels import choose_unused_kernels

PARTS = ("image", "modules", "extra")
FLAVOURS = ("amd64", "cloud", "rt")


def a_package(
    part: str, rank: int, flavour: str = "amd64", *, running: bool = False, removable: bool = True
) -> KernelPackage:
    name = f"{part}-{rank}-{flavour}"
    update = Update(name, name, "amd64", str(rank), str(rank), Classification.OTHER)
    return KernelPackage(update, f"{rank}-{flavour}", flavour, rank, part == "image", running, removable)


def kernels(*ranks: int, running: int, flavour: str = "amd64") -> InstalledKernels:
    packages = tuple(a_package(p, rank, flavour, running=rank == running) for rank in ranks for p in PARTS[:2])
    return InstalledKernels(f"{running}-{flavour}", packages)


def chosen(installed: InstalledKernels, **choice: object) -> list[str]:
    return [each.package.name for each in choose_unused_kernels(installed, **choice).packages]  # type: ignore[arg-type]


def test_the_newest_and_one_fallback_stay() -> None:
    assert chosen(kernels(3, 1, 4, 2, running=4)) == [
        "image-1-amd64",
        "modules-1-amd64",
        "image-2-amd64",
        "modules-2-amd64",
    ]
    assert chosen(kernels(1, 2, running=2)) == []


def test_each_kernel_is_a_group_of_its_own() -> None:
    assert choose_unused_kernels(kernels(3, 1, 4, 2, running=4)).group_by_kernel() == (
        ("image-1-amd64", "modules-1-amd64"),
        ("image-2-amd64", "modules-2-amd64"),
    )


def test_nothing_goes_while_a_newer_kernel_waits_for_its_boot() -> None:
    choice = choose_unused_kernels(kernels(1, 2, 3, 4, running=3))
    assert choice.packages == ()
    assert choice.obstacle == "kernel 4-amd64 is installed, 3-amd64 is running"


def test_nothing_goes_if_the_running_kernel_is_not_known() -> None:
    assert choose_unused_kernels(kernels(1, 2, 3, 4, running=9)).obstacle == (
        "the running kernel 9-amd64 is none of those installed"
    )
    assert choose_unused_kernels(InstalledKernels("9")).packages == ()


def test_what_a_person_keeps_keeps_its_whole_kernel() -> None:
    installed = kernels(1, 2, 3, 4, running=4)
    assert chosen(installed, held=("image-1-amd64",)) == ["image-2-amd64", "modules-2-amd64"]
    assert chosen(installed, excluded=("modules-2*",)) == ["image-1-amd64", "modules-1-amd64"]
    manual = a_package("extra", 1, removable=False)
    assert chosen(replace(installed, packages=(*installed.packages, manual))) == ["image-2-amd64", "modules-2-amd64"]


PACKAGES = st.builds(
    a_package,
    st.sampled_from(PARTS),
    st.integers(0, 6),
    st.sampled_from(FLAVOURS),
    removable=st.booleans(),
)


@given(
    st.lists(PACKAGES, unique_by=lambda each: each.package.id, max_size=40),
    st.integers(0, 6),
    st.sampled_from(FLAVOURS),
    st.sets(st.sampled_from([f"{part}-{rank}-amd64" for part in PARTS for rank in range(7)])),
    st.lists(st.sampled_from(["image-1*", "*-rt", "modules*", "*"]), max_size=1),
)
def test_whatever_is_installed_what_is_needed_stays(
    packages: list[KernelPackage], running: int, flavour: str, held: set[str], excluded: list[str]
) -> None:
    release = f"{running}-{flavour}"
    installed = tuple(replace(each, is_running=each.kernel == release) for each in packages)

    choice = choose_unused_kernels(InstalledKernels(release, installed), held=held, excluded=excluded)

    assert set(choice.packages) <= set(installed)
    assert not (choice.packages and choice.obstacle)
    gone, left = {each.kernel for each in choice.packages}, set(installed) - set(choice.packages)
    assert release not in gone
    assert gone.isdisjoint({each.kernel for each in left})
    for each in choice.packages:
        assert each.is_removable
        assert each.package.name not in held
        assert not any(fnmatchcase(each.package.name, mask) for mask in excluded)
        assert len({other.rank for other in left if other.is_image and other.flavour == each.flavour}) >= 2
        assert sum(other.is_image and other.flavour == each.flavour and other.rank > each.rank for other in left) >= 2
    own = [each.rank for each in installed if each.is_image and each.flavour == flavour]
    if choice.packages:
        assert running == max(own)
