"""Packages and repositories that a test makes, and how a lab host gets them. They are on the host's own disk."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.lab.fleet import LabHost

DEBIAN_SECURITY: Final[Mapping[str, str]] = {
    "Origin": "Debian",
    "Label": "Debian-Security",
    "Suite": "stable-security",
    "Codename": "bookworm-security",
}
DEBIAN: Final[Mapping[str, str]] = {"Origin": "Debian", "Label": "Debian", "Suite": "stable", "Codename": "bookworm"}

_NOTHING_TO_CHECK: Final = dict.fromkeys(("__os_install_post", "__check_files", "debug_package"), "%{nil}")
"""Macros of rpmbuild: the made packages have no programs. Without them, each takes three times as long."""


@dataclass
class DebRepository:
    """A repository of Debian packages.

    Attributes:
        folder: where it is made; its name is the repository's name.
        release: the fields of its Release file.
    """

    folder: Path
    release: Mapping[str, str] = field(default_factory=lambda: DEBIAN_SECURITY)

    def add(
        self,
        name: str,
        version: str,
        *,
        control: str = "",
        scripts: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        conffiles: Sequence[str] = (),
        architecture: str = "all",
    ) -> None:
        """Make a package.

        Args:
            name: of the package.
            version: of the package.
            control: further lines of its control file, as "Depends: lab-plain".
            scripts: "postinst", "triggers", "config", "templates" and so on -> text; scripts get their first line.
            files: path -> text.
            conffiles: those of ``files`` that are configuration files.
            architecture: of the package.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            (tree / "DEBIAN").mkdir(parents=True)
            fields = {
                "Package": name,
                "Version": version,
                "Architecture": architecture,
                "Maintainer": "lab <lab@localhost>",
            }
            lines = [f"{key}: {value}" for key, value in {**fields, "Description": name}.items()]
            (tree / "DEBIAN/control").write_text("\n".join([*lines, *control.splitlines()]) + "\n")
            for script, text in (scripts or {}).items():
                path = tree / "DEBIAN" / script
                path.write_text(text if script in {"triggers", "templates"} else f"#!/bin/sh\n{text}\n")
                path.chmod(0o644 if script in {"triggers", "templates"} else 0o755)
            for file, text in {f"/usr/share/doc/{name}/version": f"{version}\n", **(files or {})}.items():
                path = tree / file.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            if conffiles:
                (tree / "DEBIAN/conffiles").write_text("".join(f"{each}\n" for each in conffiles))
            words = ["dpkg-deb", "--root-owner-group", "-Znone", "--nocheck", "--build", str(tree)]
            words.append(str(self._file(name, version, architecture)))
            subprocess.run(words, check=True, capture_output=True)

    def publish(self, host: LabHost, *, options: str = "trusted=yes") -> None:
        """Index it, and make it (with its present packages) a source of a host."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "Packages").write_text(self._run("packages", "."))
        fields = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in self.release.items()]
        (self.folder / "Release").unlink(missing_ok=True)
        (self.folder / "Release").write_text(self._run(*fields, "release", "."))
        _copy_to(host, self.folder)
        source = host.root / f"etc/apt/sources.list.d/{self.folder.name}.list"
        source.write_text(f"deb [{options}] file:/srv/{self.folder.name} ./\n")

    def install(self, host: LabHost, name: str, version: str, architecture: str = "all") -> None:
        """Install a version on a host by hand; ``publish`` comes first."""
        host.sh(f"dpkg -i /srv/{self.folder.name}/{self._file(name, version, architecture).name}", root=True)

    def _file(self, name: str, version: str, architecture: str) -> Path:
        return self.folder / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"

    def _run(self, *words: str) -> str:
        made = subprocess.run(["apt-ftparchive", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return made.stdout


class Advisory(NamedTuple):
    """An advisory of a repository.

    Attributes:
        kind: security, bugfix, enhancement, recommended…
        beside: name and version of another package that it is about, if any.
        reboot: whether it suggests a reboot.
    """

    name: str
    version: str
    kind: str = "security"
    severity: str = "Critical"
    arch: str = "noarch"
    beside: tuple[str, str] | None = None
    reboot: bool = False


@dataclass
class RpmRepository:
    """A repository of rpm packages.

    Attributes:
        folder: where it is made; its name is the repository's name.
        advisories: what its updateinfo says.
    """

    folder: Path
    advisories: list[Advisory] = field(default_factory=list)

    def add(
        self,
        name: str,
        version: str,
        *,
        arch: str = "noarch",
        spec: str = "",
        scriptlets: str = "",
        advisory: str = "",
        severity: str = "",
    ) -> None:
        """Make a package NAME-VERSION-1.ARCH.

        Args:
            name: of the package.
            version: of the package.
            arch: of the package.
            spec: further lines of its header, as "Requires: lab-plain".
            scriptlets: sections as "%post\\nexit 1".
            advisory: the kind of its advisory; "" for none.
            severity: of its advisory.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        head = {"Name": name, "Version": version, "Release": "1", "Summary": name, "License": "MIT"}
        lines = [f"{key}: {value}" for key, value in head.items()] + ["BuildArch: noarch"] * (arch == "noarch")
        share = f"/usr/share/{name}-{version}"
        body = f"%description\n{name}\n%install\nmkdir -p %{{buildroot}}{share}\n%files\n{share}\n{scriptlets}\n"
        with TemporaryDirectory() as place:
            path = Path(place) / "made.spec"
            path.write_text("\n".join([*lines, spec, body]))
            macros = {"_topdir": place, "_rpmdir": str(self.folder), **_NOTHING_TO_CHECK}
            defines = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
            words = ["rpmbuild", "--quiet", "-bb", "--target", arch, *defines, str(path)]
            subprocess.run(words, check=True, capture_output=True, env={**os.environ, "RPM_BUILD_NCPUS": "1"})
        if advisory:
            self.advisories.append(Advisory(name, version, advisory, severity, arch))

    def publish(self, host: LabHost, *, options: str = "") -> None:
        """Index it, and make it (with its present packages) a repository of a host.

        Args:
            host: a host with dnf or zypper.
            options: further lines of its .repo file.
        """
        subprocess.run(["createrepo_c", "-q", str(self.folder)], check=True, capture_output=True)
        if self.advisories:
            info = self.folder / "updateinfo.xml"
            info.write_text(f'<?xml version="1.0"?><updates>{"".join(map(_describe, self.advisories))}</updates>')
            words = ["modifyrepo_c", "--mdtype", "updateinfo", str(info), str(self.folder / "repodata")]
            subprocess.run(words, check=True, capture_output=True)
        _copy_to(host, self.folder)
        name = self.folder.name
        place = "etc/zypp/repos.d" if host.flavour == "zypper" else "etc/yum.repos.d"
        lines = [f"[{name}]", f"name={name}", f"baseurl=file:///srv/{name}", "enabled=1", "gpgcheck=0", options]
        (host.root / place / f"{name}.repo").write_text("\n".join(lines) + "\n")

    def install(self, host: LabHost, name: str, version: str) -> None:
        """Install a version without an architecture on a host by hand; ``publish`` comes first."""
        host.sh(f"rpm -U --oldpackage /srv/{self.folder.name}/noarch/{name}-{version}-1.noarch.rpm", root=True)


def _describe(advisory: Advisory) -> str:
    name, version, kind, severity, arch, beside, reboot = advisory
    suggestion = "<reboot_suggested>True</reboot_suggested>" if reboot else ""
    packages = "".join(
        f'<package name="{each}" version="{number}" release="1" epoch="0" arch="{arch}" src="{each}.src.rpm">'
        f"<filename>{each}-{number}-1.{arch}.rpm</filename>{suggestion}</package>"
        for each, number in filter(None, ((name, version), beside))
    )
    return (
        f"<update from='lab@localhost' status='final' type='{kind}' version='1'><id>LAB-{name}-{version}</id>"
        f"<title>{name}</title><issued date='2026-11-01 00:00:00'/><severity>{severity}</severity>"
        f"<description>{name}</description><references/><pkglist><collection short='lab'><name>lab</name>"
        f"{packages}</collection></pkglist></update>"
    )


def _copy_to(host: LabHost, folder: Path) -> None:
    target = host.root / "srv" / folder.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
