"""The seed disk of a virtual machine: who it is, for the machine's own ``lab-identity``.

It is what cloud-init's NoCloud disk is to other machines."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20
"""A disk is as large as a whole number of these, so that the machine can read it without its cache."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A machine's name, instance, IPv4 address, MAC address and repository (URL)."""

    name: str
    instance: str
    """A seed with an instance that the disk does not know is unpacked anew, and its script runs."""
    address: str
    mac: str
    repository: str


def write_seed(seed: Path, who: Identity, host_key: Path, login_key: Path, first_boot: str | None = None) -> None:
    """Write a seed disk.

    :param host_key: an Ed25519 key, with its public half beside it (``.pub``)
    :param login_key: the public key that may log in as root, patch, nosudo and pwsudo
    :param first_boot: a script for the first boot of an instance
    """
    sources = "".join(
        f"deb [trusted=yes] {who.repository} {suite} main\n" for suite in ("bookworm-security", "bookworm-updates")
    )
    root = {
        "etc/hostname": f"{who.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {who.name}\n",
        "etc/machine-id": who.instance.replace("-", "") + "\n",
        "etc/apt/sources.list": sources,
        "etc/apt/apt.conf.d/99lab": 'APT::Install-Recommends "false";\n',  # a kernel would bring AppArmor and firmware
        "etc/ssh/ssh_host_ed25519_key": host_key.read_text(),
        "etc/ssh/ssh_host_ed25519_key.pub": host_key.with_suffix(".pub").read_text(),
        **{
            f"{home}/.ssh/authorized_keys": login_key.read_text()
            for home in ("root", "home/patch", "home/nosudo", "home/pwsudo")
        },
    }
    lines = f"NAME={who.name}\nINSTANCE={who.instance}\nADDRESS={who.address}\nMAC={who.mac}\n"
    files = {"identity": lines, **{f"root/{path}": text for path, text in root.items()}}
    if first_boot is not None:
        files["first-boot"] = first_boot
    with tarfile.open(seed, "w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            entry.mode = (
                0o755 if path == "first-boot" else 0o600 if path.endswith(("_key", "authorized_keys")) else 0o644
            )
            tar.addfile(entry, io.BytesIO(text.encode()))
    size = seed.stat().st_size
    with seed.open("ab") as out:
        out.truncate(-(-size // _BLOCK) * _BLOCK)
