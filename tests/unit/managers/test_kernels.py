"""Which kernels a machine has, by the answers of its package manager."""

import pytest

from tasks.domain.protocols.package_manager import InstalledKernels
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.machines.managers.apt.kernels import parse_apt_kernels
from tasks.machines.managers.rpm.kernels import parse_rpm_kernels
from tasks.rules.updates.unused_kernels import choose_unused_kernels

UBUNTU = ("6.8.0-45-generic", "6.8.0-49-generic", "6.8.0-100-generic")
AUTOREMOVE = """NOTE: This is only a simulation!
The following packages will be REMOVED:
  linux-image-6.8.0-45-generic* linux-modules-6.8.0-45-generic* linux-modules-extra-6.8.0-45-generic* libfoo1*
Purg linux-image-6.8.0-45-generic [6.8.0-45.45]
Purg linux-modules-extra-6.8.0-45-generic [6.8.0-45.45]
Purg linux-modules-6.8.0-45-generic [6.8.0-45.45]
Purg libfoo1 [1.0]
"""
# as zypper 1.14 writes it on a machine of the lab; the versions are made
PURGE_KERNELS = """Reading installed packages...

Preparing to purge obsolete kernels...
Configuration: latest,latest-1,running
Running kernel release: 6.4.0-150600.23.25-default
Running kernel arch: x86_64

Resolving package dependencies...

The following 1 package is going to be REMOVED:
  kernel-default-6.4.0-150600.21.2

1 package to remove.
"""


def answer(kernel: str, native: str, code: int = 0, **sections: str) -> ScriptResult:
    state: ScriptRecord = {"kind": "state", "native": native, "kernel": kernel}
    told: list[ScriptRecord] = [
        {"kind": "section", "name": name, "text": text, "exit_code": code if name == "unused" else 0, "stderr": ""}
        for name, text in sections.items()
    ]
    return ScriptResult((state, *told), 0, "")


def ids(kernels: InstalledKernels) -> list[str]:
    return [each.package.id for each in choose_unused_kernels(kernels).packages]


def dpkg(*names: str) -> str:
    return "".join(f"{name}\tamd64\tok\tinstalled\t1\n" for name in names)


UBUNTU_PACKAGES = [f"linux-{part}-{each}" for each in UBUNTU for part in ("image", "modules", "modules-extra")]
OTHERS = ("linux-image-generic", "linux-modules-nvidia-550-generic", "linux-image-6.1-amd64:i386")


def ubuntu(automatic: list[str], *, code: int = 0, running: str = UBUNTU[2]) -> InstalledKernels:
    packages = dpkg(*UBUNTU_PACKAGES, *OTHERS) + "linux-image-6.8.0-40-generic\tamd64\tok\tconfig-files\t1\n"
    text = "".join(f"{name}\n" for name in automatic)
    return parse_apt_kernels(answer(running, "amd64", code, packages=packages, automatic=text, unused=AUTOREMOVE))


def test_apt_removes_what_it_holds_for_unused_itself() -> None:
    assert sorted(ids(ubuntu(UBUNTU_PACKAGES))) == sorted(UBUNTU_PACKAGES[:3])
    assert ids(ubuntu(UBUNTU_PACKAGES[1:])) == []  # a person installed its image
    assert ids(ubuntu(UBUNTU_PACKAGES, running=UBUNTU[0])) == []


def test_apt_that_cannot_tell_removes_nothing() -> None:
    choice = choose_unused_kernels(ubuntu(UBUNTU_PACKAGES, code=100))
    assert choice.packages == ()
    assert choice.obstacle.startswith("which kernels apt holds for unused can't be read: ")


@pytest.mark.parametrize(
    ("flag", "status", "is_gone"),
    [
        ("ok", "not-installed", True),
        ("ok", "config-files", True),
        ("ok", "half-installed", False),
        ("reinstreq", "half-installed", False),
        ("ok", "half-configured", False),
        ("reinstreq", "installed", False),
        ("ok", "triggers-pending", False),
    ],
)
def test_of_debian_gone_is_only_what_dpkg_has_no_files_of(flag: str, status: str, is_gone: bool) -> None:
    packages = dpkg("linux-image-6.1.0-28-amd64") + f"linux-image-6.1.0-25-amd64\tamd64\t{flag}\t{status}\t1\n"
    kernels = parse_apt_kernels(answer("6.1.0-28-amd64", "amd64", packages=packages, automatic="", unused=""))
    assert [each.package.id for each in kernels.packages] == ["linux-image-6.1.0-28-amd64"]
    assert kernels.unfinished == (() if is_gone else ("linux-image-6.1.0-25-amd64",))


def rpm(arch: str, *packages: tuple[str, str]) -> str:
    rows = [(name, "0", *version.split("-"), arch, "1", "vendor") for name, version in packages]
    return "".join("\t".join(row) + "\n" for row in rows)


EL9 = [f"5.14.0-{release}.el9" for release in ("362", "427", "503")]
EL9_PACKAGES = [
    (name, each) for each in EL9 for name in ("kernel", "kernel-core", "kernel-modules-core", "kernel-devel")
]
EL9_UNUSED = [f"{name}-{EL9[0]}.x86_64" for name in ("kernel", "kernel-core", "kernel-modules-core")]


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        (f"{EL9[2]}.x86_64", EL9_UNUSED),
        (f"{EL9[2]}.x86_64+debug", EL9_UNUSED),
        (f"{EL9[1]}.x86_64", []),
        ("6.1.0-foreign", []),
    ],
)
def test_of_rhel_all_but_the_newest_two_go(running: str, expected: list[str]) -> None:
    text = rpm(
        "x86_64", *EL9_PACKAGES, ("kernel-headers", EL9[2]), ("kernel-tools", EL9[2]), ("kernel-rt-core", EL9[0])
    )
    assert ids(parse_rpm_kernels(answer(running, "x86_64", packages=text), has_rule=False)) == expected


def test_of_suse_those_go_that_zypper_would_remove() -> None:
    versions = ("6.4.0-150600.21.2", "6.4.0-150600.23.17.1", "6.4.0-150600.23.22.1", "6.4.0-150600.23.25.1")
    text = rpm("x86_64", *[("kernel-default", each) for each in versions], ("kernel-firmware-all", "1-1"))
    running = "6.4.0-150600.23.25-default"
    told = answer(running, "x86_64", packages=text, unused=PURGE_KERNELS)
    assert ids(parse_rpm_kernels(told, has_rule=True)) == ["kernel-default-6.4.0-150600.21.2.x86_64"]
    refused = answer(running, "x86_64", 7, packages=text, unused="System management is locked")
    assert "System management is locked" in parse_rpm_kernels(refused, has_rule=True).obstacle
    small = rpm(
        "x86_64", ("kernel-default-base", f"{versions[3]}.150600.12.1"), *[("kernel-default", v) for v in versions]
    )
    told = answer(running, "x86_64", packages=small, unused=PURGE_KERNELS)
    assert ids(parse_rpm_kernels(told, has_rule=True)) == ["kernel-default-6.4.0-150600.21.2.x86_64"]
