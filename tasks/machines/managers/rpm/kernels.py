"""The kernels of a machine with RPM packages: which ones its tool would remove, and whether it needs a reboot. Pure.

dnf and yum have no rule beside the limit of an installation (installonly_limit): every kernel may be removed that the
decision does not keep. zypper has one (multiversion.kernels in zypp.conf; ``zypper purge-kernels --dry-run``), and a
kernel that it keeps stays.

The sources of a need to reboot, and what it means if they report nothing:

- ``/run/reboot-needed`` (SUSE's libzypp) means yes. Its absence means nothing: others don't create it.
- A package that only a reboot replaces in memory (the C library, systemd, D-Bus, a kernel, firmware; the list is that
  of needs-restarting), one that the administrator added to that list, or one whose advisory suggests a reboot:
  it means yes if the package was installed after the boot.
- The kernel: it means yes if a newer kernel of the running one's flavour is installed. If kernels are installed, but
  none of them is running, the answer is unknown.

Without a reason, the answer is no, because the list is what the distributions go by. It is unknown if the time of the
boot or the package database could not be read. In a container, kernel and firmware are those of its host: they are no
reasons.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import LivePatching, RebootNeed, Update
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.live_patches import date_newer_kernel, mitigate_reboot
from tasks.machines.managers.rpm.packages import InstalledPackage, build_rpm_spec, parse_rpm_packages
from tasks.machines.managers.script_output import parse_sections, require_boolean, require_single_record, require_text
from tasks.machines.managers.tool_errors import find_tool_error
from tasks.machines.managers.versions import RpmVersion

_CORE_NAMES: Final = frozenset(
    (
        *("glibc", "systemd", "systemd-libs", "udev", "dbus", "dbus-1", "dbus-broker", "dbus-daemon"),
        *("openssl-libs", "libopenssl3", "libopenssl1_1", "gnutls"),
    )
)
_FIRMWARE_PATTERN: Final = re.compile(r"linux-firmware|kernel-firmware.*|microcode_ctl|ucode-(?:intel|amd)")
_KERNEL_NAME: Final = (
    r"kernel(?:[0-9]+\.[0-9]+)?"
    r"(?:-(?:rt|64k|rt-64k|16k|uek|default|azure|xen|PAE|lt|ml|zfcpdump|automotive|longterm))?"
)
_KERNEL_PATTERN: Final = re.compile(rf"{_KERNEL_NAME}(?:-(?:core|base))?")
"""Packages that contain a kernel to boot, with the flavour in their name, or the version (Amazon Linux: kernel6.12)."""


@dataclass(frozen=True, slots=True)
class RpmRebootFacts:
    """What the script reports about the system that is running.

    Attributes:
        kernel: release of the running kernel.
        boot_time: seconds since the epoch; None when the machine does not say it.
        flag: whether a program asked for a reboot in /run/reboot-needed.
    """

    container: bool
    flag: bool
    kernel: str
    boot_time: int | None


def parse_rpm_reboot_facts(record: ScriptRecord) -> RpmRebootFacts:
    """Read the record "reboot" of rpm_assess.sh.

    Raises:
        ProtocolViolation: it is malformed.
    """
    boot_time = record.get("boot_time")
    is_time = type(boot_time) is int and 0 < boot_time < 10**12
    return RpmRebootFacts(
        container=require_boolean(record, "container"),
        flag=require_boolean(record, "flag"),
        kernel=require_text(record, "kernel"),
        boot_time=boot_time if is_time and isinstance(boot_time, int) else None,
    )


def is_kernel_package(name: str) -> bool:
    """Return whether a package contains a kernel that a machine boots."""
    return bool(_KERNEL_PATTERN.fullmatch(name))


def replaces_core(name: str) -> bool:
    """Return whether only a reboot replaces what this package has in memory."""
    return name in _CORE_NAMES or is_kernel_package(name) or bool(_FIRMWARE_PATTERN.fullmatch(name))


def find_rpm_reboot_need(
    facts: RpmRebootFacts,
    installed: Sequence[InstalledPackage],
    *,
    suggested: Collection[tuple[str, str]] = (),
    extra_names: Collection[str] = (),
    live: LivePatching | None = None,
) -> RebootNeed:
    """Combine the sources, as the module docstring describes.

    ``installed`` is empty when the database can't be read. ``suggested`` are name and version of packages whose
    advisory suggests a reboot, ``extra_names`` those that the administrator added to the list.
    """
    reasons = ["/run/reboot-needed"] if facts.flag else []
    kernel_is_known, newer_kernels = True, list[InstalledPackage]()
    if not facts.container and (kernels := [package for package in installed if is_kernel_package(package.name)]):
        peers = _find_running_flavour(kernels, facts.kernel)
        current = max((RpmVersion(p.version) for p in peers if is_running_kernel(p, facts.kernel)), default=None)
        newer_kernels = [p for p in peers if current is not None and RpmVersion(p.version) > current]
        kernel_is_known = bool(peers)
    reasons += _describe_updates_since_boot(facts, installed, suggested, extra_names)
    if newer_kernels or reasons:
        all_reasons = list(reasons)
        if newer_kernels:
            newest = max((package.version for package in newer_kernels), key=RpmVersion).rpartition(":")[2]
            all_reasons.insert(0, f"kernel {newest} is installed, {facts.kernel} is running")
        since = date_newer_kernel(package.installed_at for package in newer_kernels)
        need = RebootNeed(YesNoUnknown.YES, tuple(dict.fromkeys(all_reasons)), since=since)
        return mitigate_reboot(need, live, only_kernel=not reasons and facts.boot_time is not None)
    if facts.boot_time is None or not installed:
        missing = "the time of the boot" if facts.boot_time is None else "the package database"
        return RebootNeed(YesNoUnknown.UNKNOWN, (f"{missing} could not be read",))
    if not kernel_is_known:
        return RebootNeed(YesNoUnknown.UNKNOWN, (f"the running kernel {facts.kernel} is none of those installed",))
    return RebootNeed(YesNoUnknown.NO)


def _describe_updates_since_boot(
    facts: RpmRebootFacts,
    installed: Iterable[InstalledPackage],
    suggested: Collection[tuple[str, str]],
    extra_names: Collection[str],
) -> Iterator[str]:
    for package in installed:
        if facts.boot_time is None or package.installed_at is None or package.installed_at <= facts.boot_time:
            continue
        if is_kernel_package(package.name):  # compared with the running one instead
            continue
        if facts.container and _FIRMWARE_PATTERN.fullmatch(package.name):
            continue
        is_suggested = package.name in extra_names or (package.name, package.version) in suggested
        if is_suggested or replaces_core(package.name):
            yield f"{package.name} {package.version} was installed after the boot"


def _find_running_flavour(kernels: Sequence[InstalledPackage], running: str) -> list[InstalledPackage]:
    """Return the installed kernels of the running one's flavour; [] when the running one is none of them."""
    names = {package.name for package in kernels if is_running_kernel(package, running)}
    variant = running.partition("+")[2]  # RHEL's kernels of one version differ in what follows the "+"
    same = {name for name in names if _parse_flavour(name) == variant}
    return [package for package in kernels if package.name in (same or names)]


def _parse_flavour(name: str) -> str:
    return name.removeprefix("kernel").lstrip("0123456789.").removesuffix("-core").removesuffix("-base").strip("-")


def is_running_kernel(package: InstalledPackage, running: str) -> bool:
    """Return whether a kernel is the running one.

    RHEL's uname is VERSION-RELEASE.ARCH[+FLAVOUR]; SUSE's is a prefix of VERSION-RELEASE, and its flavour.
    """
    version = package.version.rpartition(":")[2]
    if running.partition("+")[0] == f"{version}.{package.arch}":
        return True
    release, _, flavour = running.rpartition("-")
    is_flavour = _parse_flavour(package.name) == flavour
    return is_flavour and (version == release or version.startswith(f"{release}."))


_PACKAGE_PATTERN: Final = re.compile(rf"({_KERNEL_NAME})(-(?:core|base|extra|optional|modules(?:-[a-z0-9]+)*))?")
"""A kernel with its flavour, and the packages that it is divided into."""


def parse_rpm_kernels(result: ScriptResult, *, has_rule: bool) -> InstalledKernels:
    """Read the records of rpm_kernels.sh.

    ``has_rule``: the tool was asked which kernels it would remove.

    Raises:
        ScriptFailed: rpm's database can't be read.
        ProtocolViolation: the answer is malformed.
    """
    sections = parse_sections(result, "rpm_kernels", "packages", *(["unused"] if has_rule else []))
    state = require_single_record(result, "rpm_kernels", "state")
    running, native = require_text(state, "kernel"), require_text(state, "native")
    if sections["packages"].exit_code:
        return InstalledKernels(running, obstacle="rpm's database could not be read")
    kernels = [
        (match[1], match[2] or "", package)
        for package in parse_rpm_packages(sections["packages"].text, native)
        if (match := _PACKAGE_PATTERN.fullmatch(package.name))
    ]
    rule = sections["unused"] if has_rule else None
    if rule is not None and rule.exit_code:
        error = find_tool_error(f"{rule.text}\n{rule.stderr}")
        return InstalledKernels(running, obstacle=f"zypper can't tell which kernels are unused: {error}")
    with_core = {base for base, part, _ in kernels if part == "-core"}
    order = {version: rank for rank, version in enumerate(sorted({p.version for *_, p in kernels}, key=RpmVersion))}
    packages = []
    for base, part, package in kernels:
        update = Update(package.id, package.name, package.arch, package.version, package.version, Classification.OTHER)
        update = replace(update, id=build_rpm_spec(update))
        packages.append(
            KernelPackage(
                package=update,
                kernel=f"{base}-{package.version}.{package.arch}",
                flavour=f"{base}{'-base' if part == '-base' else ''}.{package.arch}",
                rank=order[package.version],
                is_image=part == "-core" if base in with_core else part in {"", "-base"},
                is_running=is_running_kernel(replace(package, name=base), running),
                is_removable=rule is None
                or not {update.id, update.id.rpartition(".")[0]}.isdisjoint(rule.text.split()),
            )
        )
    return InstalledKernels(running, tuple(packages))
