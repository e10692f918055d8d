"""Makes a release without any network service: sdist, wheel, bill of materials, provenance, checksums, signature.

    python -m tests.ci.release --key KEY [--to dist]

KEY is a private key of OpenSSH that the releaser names, or the public key of one that is in an agent or on a token. It
builds the commit that is checked out, and nothing else of the folder. Two releases of one commit, built with the same
tools, are equal byte for byte. Only Ed25519 makes the same signature twice.

The signature is made and verified by ssh-keygen (PROTOCOL.sshsig of OpenSSH): docs/how-to/release.md.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from tests.ci import lock_files, tree
from tests.ci.sbom import build_sbom

NAMESPACE: Final = "fleetpatch-release"
"""What a signature is for: a signature for anything else is refused."""
CHECKSUMS: Final = "SHA256SUMS"
BUILD_TYPE: Final = "urn:fleetpatch:make-release:v1"
"""The kind of build in the provenance. docs/how-to/release.md says what it does."""


class ReleaseError(Exception):
    """The release can't be made."""


def _run(*command: str, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Return a program's output.

    Raises:
        ReleaseError: it fails.
    """
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(command[:3])}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_release(checkout: Path, key: Path, target: Path) -> list[str]:
    """Make a release of the commit that is checked out. Return the names of its files.

    Args:
        key: the key that signs.
        target: a folder that is not there yet, or is empty.

    Raises:
        ReleaseError: there are changes that are not committed, the folder is not empty, a build fails, or the key can't
            sign.
    """
    if not key.is_file():
        raise ReleaseError(f"{key} is no file: name the releaser's key, for example KEY=~/.ssh/fleetpatch-release")
    if target.exists() and any(target.iterdir()):
        raise ReleaseError(f"{target} is not empty: a release has a folder of its own. Remove it, or name another")
    if changed := _run("git", "status", "--porcelain", folder=checkout).splitlines():
        raise ReleaseError(f"{len(changed)} changes are not committed ({changed[0][3:]}): commit or remove them first")
    commit, epoch = _run("git", "show", "--no-patch", "--format=%H %ct", "HEAD", folder=checkout).split()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fleetpatch-release-") as work:
        source = Path(work, "source")
        _export(checkout, commit, source)
        project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
        _build(source, target, epoch)
        (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
        stem = f"{canonicalize_name(project['name'])}-{project['version']}"
        packages = lock_files.read_lock(source / lock_files.PRODUCTION)
        made_at = datetime.fromtimestamp(int(epoch), UTC)
        sbom = target / f"{stem}.cdx.json"
        name = canonicalize_name(project["name"])
        sbom.write_text(build_sbom(name, project["version"], project["license"], packages, _hash(wheel), made_at))
        provenance = target / f"{stem}.provenance.json"
        provenance.write_text(_describe_build(source, commit, project["version"], [sdist, wheel, sbom]))
    files = sorted([sdist, wheel, sbom, provenance])
    (target / CHECKSUMS).write_text("".join(f"{_hash(path)}  {path.name}\n" for path in files))
    _run("ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(target / CHECKSUMS), folder=checkout)
    return sorted(path.name for path in target.iterdir())


def _export(checkout: Path, commit: str, source: Path) -> None:
    """Lay out the files of a commit. Files that are not committed can't get into the release."""
    command = ["git", "archive", "--format=tar", commit]
    done = subprocess.run(command, cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git archive failed: {done.stderr.decode().strip()}")
    source.mkdir()
    words = ["tar", "--extract", "--preserve-permissions", "--no-same-owner", "--directory", str(source)]
    subprocess.run(words, input=done.stdout, check=True)


def _build(source: Path, target: Path, epoch: str) -> None:
    """Build sdist and wheel. All times in them are the commit's."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": "UTC"}
    words = ("-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(target.absolute()))
    _run(sys.executable, *words, folder=source, environment=environment)


def _describe_build(source: Path, commit: str, version: str, subjects: list[Path]) -> str:
    """Return an in-toto statement (v1) with SLSA's provenance (v1)."""
    locks = [lock_files.PRODUCTION, lock_files.BUILD]
    tools = [package for package in lock_files.read_lock(source / lock_files.BUILD) if package.is_for_this_machine()]
    if wrong := [tool.name for tool in tools if importlib.metadata.version(tool.name) != tool.version]:
        raise ReleaseError(f"installed are not the locked versions of {', '.join(wrong)}: run `make setup`")
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": {"sha256": _hash(path)}} for path in subjects],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"commit": commit, "version": version},
                "internalParameters": {"python": platform.python_version()},
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": commit}},
                    *({"name": name, "digest": {"sha256": _hash(source / name)}} for name in locks),
                    *({"uri": f"pkg:pypi/{tool.name}@{tool.version}"} for tool in tools),
                ],
            },
            "runDetails": {"builder": {"id": f"{BUILD_TYPE}:releaser"}},
        },
    }
    return json.dumps(statement, indent=1) + "\n"


def main() -> int:
    """Make the release that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make release")
    parser.add_argument("--key", type=Path, required=True, help="a private key of OpenSSH (ssh-keygen -t ed25519)")
    parser.add_argument("--to", type=Path, default=tree.TOP / "dist", help="a folder that is empty, or not there")
    options = parser.parse_args()
    os.umask(0o022)
    try:
        names = make_release(tree.TOP, options.key, options.to)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(f"release: {options.to} has {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
