"""The kernels of a Debian or Ubuntu machine, and which ones apt holds for unused. Pure.

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
from tasks.machines.managers.script_output import (
    describe_unread,
    parse_sections,
    require_single_record,
    require_text,
    split_rows,
)
from tasks.machines.managers.versions import DebianVersion

KERNEL_RELEASE_PATTERN: Final = re.compile(r"^([0-9][0-9.]*(?:[-+~][0-9](?:[^-+~]|[+~](?![0-9]))*)*)(?:[-+](.+))?$")


def parse_flavour(kernel: str) -> str:
    """Return the flavour of a kernel: "amd64" of 6.1.0-28-amd64, "cloud-amd64", "generic"."""
    match = KERNEL_RELEASE_PATTERN.match(kernel)
    return (match[2] or "") if match else kernel


KERNELS_SCRIPT: Final = Script("apt_kernels", package="tasks.machines.managers.apt")

_IMAGE_PATTERN: Final = re.compile(r"linux-image-(?:unsigned-)?([0-9][A-Za-z0-9.+~-]*?)(?:-unsigned)?")
_REMOVAL_PATTERN: Final = re.compile(r"^(?:Remv|Purg) (\S+)", re.MULTILINE)


def parse_apt_kernels(result: ScriptResult) -> InstalledKernels:
    """Read the records of apt_kernels.sh.

    Raises:
        ScriptFailed: dpkg's database can't be read.
        ProtocolViolation: the answer is malformed.
    """
    sections = parse_sections(result, KERNELS_SCRIPT.name, "packages", "automatic", "unused")
    state = require_single_record(result, KERNELS_SCRIPT.name, "state")
    running, native = require_text(state, "kernel"), require_text(state, "native")
    if unread := describe_unread(
        sections, dict.fromkeys(("automatic", "unused"), "which kernels apt holds for unused")
    ):
        return InstalledKernels(running, obstacle=unread[0])
    unused = set(_REMOVAL_PATTERN.findall(sections["unused"].text)) & set(sections["automatic"].text.split())
    rows = [  # those of this architecture that are not gone: name, whether it is whole, and version
        (name, (flag, status) == ("ok", "installed"), version)
        for name, arch, flag, status, version in split_rows(sections["packages"].text, 5)
        if arch in {native, "all"} and status not in {"not-installed", "config-files"}
    ]
    versions = {name: version for name, is_whole, version in rows if is_whole}
    images = {name: match[1] for name in versions if (match := _IMAGE_PATTERN.fullmatch(name))}
    order = {kernel: rank for rank, kernel in enumerate(sorted(set(images.values()), key=DebianVersion))}
    packages = []
    for name, version in versions.items():
        kernel = images.get(name) or next((kernel for kernel in order if name.endswith(f"-{kernel}")), "")
        if kernel:
            packages.append(
                KernelPackage(
                    package=Update(name, name, native, version, version, Classification.OTHER),
                    kernel=kernel,
                    flavour=parse_flavour(kernel),
                    rank=order[kernel],
                    is_image=name in images,
                    is_running=kernel == running,
                    is_removable=name in unused,
                )
            )
    return InstalledKernels(running, tuple(packages), tuple(name for name, is_whole, _ in rows if not is_whole))
