"""When a machine with RPM packages needs a reboot."""

from datetime import UTC, datetime

import pytest

from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import LivePatching
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.rpm.kernels import (
    RpmRebootFacts,
    find_rpm_reboot_need,
    parse_rpm_reboot_facts,
    replaces_core,
)
from tasks.machines.managers.rpm.packages import InstalledPackage

BOOT = 1_000_000
EL9 = "5.14.0-427.13.1.el9_4"


def running(kernel: str = f"{EL9}.x86_64", **changes: object) -> RpmRebootFacts:
    values: dict[str, object] = {"container": False, "flag": False, "kernel": kernel, "boot_time": BOOT}
    return RpmRebootFacts(**(values | changes))  # type: ignore[arg-type]


def package(name: str, version: str = "1.0-1", at: int | None = BOOT - 1, arch: str = "x86_64") -> InstalledPackage:
    return InstalledPackage(name, name, arch, version, at)


CURRENT = package("kernel-core", EL9)


def test_nothing_was_updated() -> None:
    need = find_rpm_reboot_need(running(), [CURRENT, package("glibc"), package("bash", at=BOOT + 5)])
    assert (need.answer, need.reasons) == (YesNoUnknown.NO, ())


@pytest.mark.parametrize("name", ["glibc", "systemd", "dbus-broker", "openssl-libs", "linux-firmware", "microcode_ctl"])
def test_a_core_package_was_updated_after_the_boot(name: str) -> None:
    need = find_rpm_reboot_need(running(), [CURRENT, package(name, "2.0-1", BOOT + 1)])
    assert (need.answer, need.reasons) == (YesNoUnknown.YES, (f"{name} 2.0-1 was installed after the boot",))


def test_an_advisory_or_the_administrator_asks_for_a_reboot() -> None:
    installed = [CURRENT, package("lab-reboot", "2.0-1", BOOT + 1), package("mine", "3-1", BOOT + 1)]
    assert find_rpm_reboot_need(running(), installed).answer is YesNoUnknown.NO
    need = find_rpm_reboot_need(running(), installed, suggested={("lab-reboot", "2.0-1")}, extra_names={"mine"})
    assert len(need.reasons) == 2
    other = find_rpm_reboot_need(running(), installed, suggested={("lab-reboot", "1.9-1")})
    assert other.answer is YesNoUnknown.NO, "the advisory is about another version"


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        (f"{EL9}.x86_64", ("kernel-core", EL9), ("kernel-core", "5.14.0-427.16.1.el9_4")),
        (f"{EL9}.x86_64+rt", ("kernel-rt-core", EL9), ("kernel-rt-core", "5.14.0-427.16.1.el9_4")),
        ("3.10.0-1160.el7.x86_64", ("kernel", "3.10.0-1160.el7"), ("kernel", "3.10.0-1160.119.1.el7")),
        (
            "6.4.0-150600.23.25-default",
            ("kernel-default", "6.4.0-150600.23.25.1"),
            ("kernel-default", "6.4.0-150600.23.33.1"),
        ),
        (
            "6.1.115-126.197.amzn2023.x86_64",
            ("kernel", "6.1.115-126.197.amzn2023"),
            ("kernel", "6.1.119-129.201.amzn2023"),
        ),
        (
            "6.12.37-61.105.amzn2023.x86_64",
            ("kernel6.12", "6.12.37-61.105.amzn2023"),
            ("kernel6.12", "6.12.58-82.121.amzn2023"),
        ),
    ],
)
def test_a_newer_kernel_is_installed(kernel: str, old: tuple[str, str], new: tuple[str, str]) -> None:
    installed = [package(*old), package("glibc")]
    assert find_rpm_reboot_need(running(kernel), installed).answer is YesNoUnknown.NO
    need = find_rpm_reboot_need(running(kernel), [*installed, package(*new, at=BOOT + 1)])
    assert need.reasons == (f"kernel {new[1]} is installed, {kernel} is running",)


def test_a_newer_kernel_of_another_flavour_does_not_count() -> None:
    other = package("kernel-rt-core", "5.14.0-503.el9", BOOT + 1)
    same_version = package("kernel-rt-core", EL9)
    assert find_rpm_reboot_need(running(), [CURRENT, same_version, other]).answer is YesNoUnknown.NO
    assert find_rpm_reboot_need(running(f"{EL9}.x86_64+rt"), [CURRENT, same_version, other]).answer is YesNoUnknown.YES


def test_headers_and_tools_are_no_kernels() -> None:
    tools = [
        package(name, "9-1", BOOT + 1)
        for name in ("kernel-headers", "kernel-devel", "kernel-tools", "kernel-srpm-macros", "kernel6.12-headers")
    ]
    assert find_rpm_reboot_need(running(), [CURRENT, *tools]).answer is YesNoUnknown.NO
    assert not any(replaces_core(tool.name) for tool in tools)


def test_a_kernel_that_is_not_installed_runs() -> None:
    need = find_rpm_reboot_need(running("6.1.0-custom"), [CURRENT])
    assert need.answer is YesNoUnknown.UNKNOWN
    assert "none of those installed" in need.reasons[0]


def test_a_container_has_its_hosts_kernel_and_firmware() -> None:
    installed = [package("kernel-core", "6-1", BOOT + 1), package("linux-firmware", at=BOOT + 1)]
    assert find_rpm_reboot_need(running(container=True), installed).answer is YesNoUnknown.NO
    assert find_rpm_reboot_need(running(container=True), [package("glibc", at=BOOT + 1)]).answer is YesNoUnknown.YES


def test_what_could_not_be_read_is_unknown() -> None:
    assert find_rpm_reboot_need(running(boot_time=None), [CURRENT]).answer is YesNoUnknown.UNKNOWN
    assert find_rpm_reboot_need(running(), []).answer is YesNoUnknown.UNKNOWN
    assert find_rpm_reboot_need(running(flag=True, boot_time=None), []).answer is YesNoUnknown.YES


def test_a_live_patch_mitigates_a_newer_kernel_and_nothing_else() -> None:
    installed = [CURRENT, package("kernel-core", "5.14.0-503.el9", BOOT + 1)]
    live = LivePatching("kpatch", "applied", f"{EL9}.x86_64", ("kpatch_1",), unfixed_cves=())
    assert find_rpm_reboot_need(running(), installed).mitigated_by == ""
    assert "kpatch_1" in find_rpm_reboot_need(running(), installed, live=live).mitigated_by
    more = [*installed, package("glibc", at=BOOT + 1)]
    assert find_rpm_reboot_need(running(), more, live=live).mitigated_by == ""
    blind = find_rpm_reboot_need(running(boot_time=None), installed, live=live)
    assert blind.mitigated_by == "", "nobody knows what else was replaced since the boot"


def test_a_newer_kernel_tells_when_the_first_of_them_was_installed() -> None:
    older = package("kernel-core", "5.14.0-362.el9", BOOT - 90)
    newer = [
        package("kernel-core", f"5.14.0-{build}.el9", at)
        for build, at in ((611, None), (503, BOOT + 7), (570, BOOT + 9))
    ]
    need = find_rpm_reboot_need(running(), [CURRENT, older, *newer])
    assert need.reasons == (f"kernel 5.14.0-611.el9 is installed, {EL9}.x86_64 is running",)
    assert need.since == datetime.fromtimestamp(BOOT + 7, UTC)
    assert find_rpm_reboot_need(running(), [CURRENT, older, newer[0]]).since is None
    odd = package("kernel-core", "5.14.0-503.el9", 10**30)
    assert find_rpm_reboot_need(running(), [CURRENT, odd]).since is None


@pytest.mark.parametrize("value", [None, "1", True, -5, 10**30, 1.5])
def test_an_odd_time_of_the_boot_is_no_time(value: object) -> None:
    record = {"kind": "reboot", "container": False, "flag": False, "kernel": "k", "boot_time": value}
    assert parse_rpm_reboot_facts(record).boot_time is None


def test_a_record_without_a_kernel_is_malformed() -> None:
    with pytest.raises(ProtocolViolation):
        parse_rpm_reboot_facts({"kind": "reboot", "container": False, "flag": False})
