"""A repository of security updates that a test publishes while it runs, on the disks of the hosts that use it."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.fleet import LabHost

_ON_HOST = "srv/lab-security"
_RELEASE = {
    "Origin": "Debian",
    "Label": "Debian-Security",
    "Suite": "stable-security",
    "Codename": "bookworm-security",
    "Version": "12",
    "Components": "main",
}


@dataclass
class SecurityRepository:
    """What the hosts get their updates from: nothing else.

    Attributes:
        hosts: those that use it.
        folder: where its packages are made.
    """

    hosts: Sequence[LabHost]
    folder: Path

    def set_up(self) -> None:
        """Make it the only source of all hosts."""
        self.folder.mkdir(parents=True)
        self._index()
        for host in self.hosts:
            (host.root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:/{_ON_HOST} ./\n")

    def publish(self, name: str, version: str, postinst: str = ":") -> None:
        """Publish a version of a package; ``postinst`` are shell commands. Older versions stay."""
        tree = self.folder / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "lab <lab@localhost>"}
        lines = [f"{key}: {value}" for key, value in {**control, "Description": name}.items()]
        (tree / "DEBIAN/control").write_text("\n".join(lines) + "\n")
        script = tree / "DEBIAN/postinst"
        script.write_text(f'#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n{postinst}\n')
        script.chmod(0o755)
        built = self.folder / f"{name}_{version}_all.deb"
        words = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(built)]
        subprocess.run(words, check=True, capture_output=True)
        shutil.rmtree(tree)
        self._index()

    def _index(self) -> None:
        packages = self._run("packages", ".")
        (self.folder / "Packages").write_text(packages)
        options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in _RELEASE.items()]
        (self.folder / "Release").unlink(missing_ok=True)
        release = self._run(*options, "release", ".")
        (self.folder / "Release").write_text(release)
        for host in self.hosts:
            there = host.root / _ON_HOST
            there.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.folder.iterdir(), key=lambda each: each.name == "Release"):  # what names it, last
                shutil.copy(path, there / path.name)

    def _run(self, *words: str) -> str:
        done = subprocess.run(["apt-ftparchive", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout
