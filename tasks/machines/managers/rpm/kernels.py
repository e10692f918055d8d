"""The kernels of a machine with RPM packages, and which ones its tool would remove. Pure.

dnf and yum have no rule beside the limit of an installation (installonly_limit): every kernel may be removed that the
decision does not keep. zypper has one (multiversion.kernels in zypp.conf; ``zypper purge-kernels --dry-run``), and a
kernel that it keeps stays.
"""

import re
from dataclasses import replace
from typing import Final

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification
from tasks.machines.managers.rpm.packages import InstalledPackage, build_package_spec, parse_installed
from tasks.machines.managers.rpm.reboot_need import is_running_kernel
from tasks.machines.managers.rpm.versions import RpmVersion
from tasks.machines.managers.script_output import parse_sections, require_single_record, require_text

_PACKAGE_PATTERN: Final = re.compile(
    r"(kernel(?:[0-9]+\.[0-9]+)?"
    r"(?:-(?:rt|64k|rt-64k|16k|uek|default|azure|xen|PAE|lt|ml|zfcpdump|automotive|longterm))?)"
    r"(-(?:core|base|extra|optional|modules(?:-[a-z0-9]+)*))?"
)
"""A kernel with its flavour, and the packages that it is divided into."""


def parse_kernels(result: ScriptResult, *, has_rule: bool) -> InstalledKernels:
    """Read the records of rpm_kernels.sh.

    Args:
        result: of the script.
        has_rule: whether the tool was asked which kernels it would remove.

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
        for package in parse_installed(sections["packages"].text, native)
        if (match := _PACKAGE_PATTERN.fullmatch(package.name))
    ]
    rule = sections["unused"] if has_rule else None
    if rule is not None and rule.exit_code:
        error_text = " ".join(f"{rule.text}\n{rule.stderr}".split())[-300:]
        return InstalledKernels(running, obstacle=f"zypper can't tell which kernels are unused: {error_text}")
    with_core = {base for base, part, _ in kernels if part == "-core"}
    order = {version: rank for rank, version in enumerate(sorted({p.version for *_, p in kernels}, key=RpmVersion))}
    packages = []
    for base, part, package in kernels:
        update = _build_removal(package)
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


def _build_removal(package: InstalledPackage) -> Update:
    version = package.version
    update = Update(package.id, package.name, package.arch, version, version, Classification.OTHER)
    return replace(update, id=build_package_spec(update))
