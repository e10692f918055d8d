"""The kernels of a Debian or Ubuntu machine, and which ones apt itself holds for unused. Pure.

A kernel's packages end in its release: linux-image-6.1.0-28-amd64, linux-modules-6.8.0-49-generic,
linux-modules-extra-6.8.0-49-generic. apt removes one as unused only if it was installed automatically, nothing needs
it, and APT::NeverAutoRemove does not protect it (apt-get(8), autoremove; apt.conf.d/01autoremove).
"""

import re
from typing import Final

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.states import Classification
from tasks.machines.managers.apt.debian_version import DebianVersion
from tasks.machines.managers.apt.reboot_need import parse_flavour
from tasks.machines.managers.script_output import parse_sections, require_single_record, require_text

KERNELS_SCRIPT: Final = Script("apt_kernels", package="tasks.machines.managers.apt")

_IMAGE_PATTERN: Final = re.compile(r"linux-image-(?:unsigned-)?([0-9][A-Za-z0-9.+~-]*?)(?:-unsigned)?")
_REMOVAL_PATTERN: Final = re.compile(r"^(?:Remv|Purg) (\S+)", re.MULTILINE)


def parse_kernels(result: ScriptResult) -> InstalledKernels:
    """Read the records of apt_kernels.sh.

    Raises:
        ScriptFailed: dpkg's database can't be read.
        ProtocolViolation: the answer is malformed.
    """
    sections = parse_sections(result, KERNELS_SCRIPT.name, "packages", "automatic", "unused")
    state = require_single_record(result, KERNELS_SCRIPT.name, "state")
    running, native = require_text(state, "kernel"), require_text(state, "native")
    if failed := next((section for section in (sections["automatic"], sections["unused"]) if section.exit_code), None):
        error_lines = (failed.stderr.strip() or failed.text.strip()).splitlines()
        return InstalledKernels(
            running, obstacle=f"apt can't tell which kernels are unused: {' '.join(error_lines)[-300:]}"
        )
    unused = set(_REMOVAL_PATTERN.findall(sections["unused"].text)) & set(sections["automatic"].text.split())
    rows = _parse_present(sections["packages"].text, native)
    versions = {name: version for name, is_whole, version in rows if is_whole}
    images = {name: match[1] for name in versions if (match := _IMAGE_PATTERN.fullmatch(name))}
    order = {kernel: rank for rank, kernel in enumerate(sorted(set(images.values()), key=DebianVersion))}
    packages = []
    for name, version in versions.items():
        kernel = images.get(name) or next((section for section in order if name.endswith(f"-{section}")), "")
        if kernel:
            package = Update(name, name, native, version, version, Classification.OTHER)
            packages.append(
                KernelPackage(
                    package=package,
                    kernel=kernel,
                    flavour=parse_flavour(kernel),
                    rank=order[kernel],
                    is_image=name in images,
                    is_running=kernel == running,
                    is_removable=name in unused,
                )
            )
    return InstalledKernels(running, tuple(packages), tuple(name for name, is_whole, _ in rows if not is_whole))


def _parse_present(text: str, native: str) -> list[tuple[str, bool, str]]:
    """Return the packages of this architecture that are not gone: name, whether it is whole, and version.

    Those of another architecture are left alone.
    """
    lines = (line.split("\t") for line in text.splitlines())
    return [
        (fields[0], fields[2:4] == ["ok", "installed"], fields[4])
        for fields in lines
        if len(fields) == 5 and fields[1] in {native, "all"} and fields[3] not in {"not-installed", "config-files"}
    ]
