"""boot_files.sh in real shells: which kernels of a folder the next boot may choose, and what they lack."""

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

SHELLS = [words for words in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(words[0])]
OLD, NEW = "6.1.0-50-cloud-amd64", "6.1.0-56-cloud-amd64"
WHOLE = tuple(f"{kind}-{kernel}" for kernel in (OLD, NEW) for kind in ("vmlinuz", "initrd.img"))


def check(shell: list[str], place: Path, *files: str, owned: str = "") -> str:
    """Return what is wrong with the next boot of a machine that runs the old kernel, and the remedy.

    Args:
        owned: the only file that belongs to a package, as dpkg says.
    """
    boot, modules = place / "boot", place / "modules"
    for folder in (boot, modules / OLD, modules / NEW):
        folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (boot / name).write_text("content")
    dpkg_query = place / "dpkg-query"
    dpkg_query.write_text(f'#!/bin/sh\n[ "$*" = "-S {boot}/{owned}" ]\n')
    dpkg_query.chmod(0o755)
    script = resources.files("tasks.machines.scripts.posix").joinpath("boot_files.sh").read_text()
    script = script.replace("/boot/", f"{boot}/").replace("/lib/modules", str(modules))
    told = 'fp_check_boot; printf "%s|%s" "$fp_unbootable" "$fp_boot_remedy"'
    words = [*shell, "-c", f"uname() {{ echo {OLD}; }}\nset -u\n{script}\n{told}"]
    path = f"{place}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environment).stdout


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_the_next_boot_lacks(shell: list[str], tmp_path: Path) -> None:
    assert check(shell, tmp_path / "whole", *WHOLE) == "|"
    assert f"the kernel {NEW} in" in check(shell, tmp_path / "half", *WHOLE[:3])
    for name in (f"initramfs-{NEW}.img", f"initrd-{NEW}"):  # of RHEL, and of SUSE
        assert check(shell, tmp_path / name, *WHOLE[:3], name) == "|"
    for name in ("dpkg-new", "dpkg-bak", "rpmsave", "rpmnew"):
        assert check(shell, tmp_path / name, *WHOLE, f"vmlinuz-{NEW}.{name}") == "|", "GRUB takes it for no kernel"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("others", [(*WHOLE[:2], WHOLE[3]), ()], ids=["with another kernel", "alone"])
def test_a_kernel_whose_name_a_power_cut_took_back(shell: list[str], others: tuple[str, ...], tmp_path: Path) -> None:
    files = (*others, f"vmlinuz-{NEW}.dpkg-new")
    problem, remedy = check(shell, tmp_path, *files, owned=f"vmlinuz-{NEW}").split("|")
    assert f"the kernel {NEW} is not whole" in problem
    assert remedy.endswith(f"apt-get install --reinstall linux-image-{NEW}")
    assert check(shell, tmp_path, *files) == "|", "the package of that kernel was removed, and its file is left over"
