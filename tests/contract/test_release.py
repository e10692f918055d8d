"""A release is made and verified with the real git, hatchling and ssh-keygen, by keys made here."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ci import lock_files, release, tree

pytestmark = pytest.mark.slow

FILES = ("LICENSE", "README.md", "pyproject.toml", lock_files.PRODUCTION, lock_files.BUILD)
"""What a release is made of, with the four rooms. Of these, enough to be quick."""
ROOM = "inventory"


def _git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def _make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@dataclass
class World:
    """A checkout, a releaser's key, who may sign, and a release."""

    checkout: Path
    key: Path
    signers: Path
    made: Path

    def verify(self, folder: Path, signers: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [tree.TOP / "tests/ci/verify_release.sh", folder, signers or self.signers]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    top = tmp_path_factory.mktemp("release")
    checkout = top / "checkout"
    shutil.copytree(tree.TOP / ROOM, checkout / ROOM, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(tree.TOP / name, checkout / name)
    for room in ("tasks", "flows", "deployments", "fleetpatch"):
        (checkout / room).mkdir()
        (checkout / room / "__init__.py").touch()
    _git(checkout, "init", "-q")
    _git(checkout, "add", "-A")
    _git(checkout, "commit", "-qm", "Begin")
    key = _make_key(top / "key")
    signers = top / "allowed_signers"
    signers.write_text(f'releases@example.org namespaces="{release.NAMESPACE}" {key.with_suffix(".pub").read_text()}')
    release.make_release(checkout, key, top / "made")
    return World(checkout, key, signers, top / "made")


def _read_json(folder: Path, suffix: str) -> dict[str, Any]:
    (path,) = folder.glob(f"*{suffix}")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_a_release_is_verified(world: World) -> None:
    assert sorted(path.name for path in world.made.iterdir()) == [
        "SHA256SUMS", "SHA256SUMS.sig", "fleetpatch-0.1.0-py3-none-any.whl", "fleetpatch-0.1.0.cdx.json",
        "fleetpatch-0.1.0.provenance.json", "fleetpatch-0.1.0.tar.gz",
    ]  # fmt: skip
    done = world.verify(world.made)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "verify-release: releases@example.org signed all 4 files\n"


def test_two_releases_of_a_commit_are_equal(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # another folder, file times, umask, zone and language
    copy = tmp_path / "elsewhere"
    _git(tmp_path, "clone", "-q", str(world.checkout), str(copy))
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LC_ALL", "C")
    before = os.umask(0o077)
    try:
        release.make_release(copy, world.key, tmp_path / "again")
    finally:
        os.umask(before)
    for path in world.made.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _sign_as_somebody_else(folder: Path) -> None:
    (folder / "SHA256SUMS.sig").unlink()
    key = _make_key(folder.parent / "other")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", release.NAMESPACE, "SHA256SUMS"],
                   cwd=folder, check=True, capture_output=True)  # fmt: skip


def _rewrite_checksums(folder: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    _change_a_byte(wheel)
    old = (folder / "SHA256SUMS").read_text().splitlines()
    new = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in (line[66:] for line in old)]
    (folder / "SHA256SUMS").write_text("\n".join(new) + "\n")


TAMPERING: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the wheel": (lambda folder: _change_a_byte(next(folder.glob("*.whl"))), "not the one that was signed"),
    "a byte of the sdist": (lambda folder: _change_a_byte(next(folder.glob("*.gz"))), "not the one that was signed"),
    "a byte of the bill": (lambda folder: _change_a_byte(next(folder.glob("*.cdx.json"))), "not the one that was"),
    "a byte of the signature": (lambda folder: _change_a_byte(folder / "SHA256SUMS.sig"), "REFUSED"),
    "wheel and checksums": (_rewrite_checksums, "the signature of SHA256SUMS does not fit"),
    "another signer": (_sign_as_somebody_else, "nobody in"),
    "no signature": (lambda folder: (folder / "SHA256SUMS.sig").unlink(), "no signed checksums"),
    "a file is missing": (lambda folder: next(folder.glob("*.whl")).unlink(), "not the one that was signed"),
    "a file is too many": (lambda folder: (folder / "fleetpatch-9.whl").touch(), "nobody signed fleetpatch-9.whl"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_a_release_that_was_tampered_with_is_refused(world: World, tmp_path: Path, what: str) -> None:
    tamper, reason = TAMPERING[what]
    shutil.copytree(world.made, tmp_path / "dist")
    tamper(tmp_path / "dist")
    done = world.verify(tmp_path / "dist")
    assert done.returncode == 1
    assert "REFUSED" in done.stderr
    assert reason in done.stderr


def test_a_signature_for_something_else_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.made, tmp_path / "dist")
    (tmp_path / "dist/SHA256SUMS.sig").unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(world.key), "-n", "git", "SHA256SUMS"]
    subprocess.run(command, cwd=tmp_path / "dist", check=True, capture_output=True)
    done = world.verify(tmp_path / "dist")
    assert (done.returncode, "REFUSED" in done.stderr) == (1, True)


def test_the_bill_has_every_locked_package_with_hashes_and_dependencies(world: World) -> None:
    bill = _read_json(world.made, ".cdx.json")
    locked = lock_files.read_lock(tree.TOP / lock_files.PRODUCTION)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    told = {each["purl"]: {one["content"] for one in each["hashes"]} for each in bill["components"]}
    assert told == {f"pkg:pypi/{each.name}@{each.version}": set(each.sha256) for each in locked}
    (wheel,) = world.made.glob("*.whl")
    (digest,) = bill["metadata"]["component"]["hashes"]
    assert digest["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    reached: set[str] = set()
    waiting = ["pkg:pypi/fleetpatch@0.1.0"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    while waiting:
        if (ref := waiting.pop()) not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == {"pkg:pypi/fleetpatch@0.1.0", *told}


def test_the_bill_says_which_licences_are_not_known(world: World) -> None:
    components = _read_json(world.made, ".cdx.json")["components"]
    unknown = {each["name"] for each in components if not each.get("licenses")}
    admitted = {
        each["name"]
        for each in components
        if any(one["name"] == "fleetpatch:licence-not-known" for one in each.get("properties", []))
    }
    assert unknown == admitted
    elsewhere = {
        each.name for each in lock_files.read_lock(tree.TOP / lock_files.PRODUCTION) if not each.is_for_this_machine()
    }
    assert unknown <= elsewhere  # of everything that this machine installs, the licence is known
    by_name = {each["name"]: each["licenses"] for each in components if each.get("licenses")}
    assert by_name["prefect"] == [{"license": {"id": "Apache-2.0"}}]


def test_the_sources_have_the_locks(world: World) -> None:
    (sdist,) = world.made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert {f"fleetpatch-0.1.0/{name}" for name in (lock_files.PRODUCTION, lock_files.BUILD)} <= set(names)


def test_the_provenance_names_commit_tools_and_files(world: World) -> None:
    statement = _read_json(world.made, ".provenance.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert len(subjects) == 3
    for name, digest in subjects.items():
        assert hashlib.sha256((world.made / name).read_bytes()).hexdigest() == digest
    words = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(words, cwd=world.checkout, capture_output=True, text=True, check=True).stdout.strip()
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert materials[0] == {"name": "source", "digest": {"gitCommit": commit}}
    assert any(each.get("uri", "").startswith("pkg:pypi/hatchling@") for each in materials)


def test_nothing_that_is_not_committed_is_released(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    _git(tmp_path, "clone", "-q", str(world.checkout), str(copy))
    (copy / ROOM / "left_over.py").touch()
    with pytest.raises(release.ReleaseError, match=r"1 changes are not committed \(inventory/left_over\.py\)"):
        release.make_release(copy, world.key, tmp_path / "dist")
    (copy / ".git/info/exclude").write_text("left_over.py\n")  # git no longer tells, and it is not released either
    release.make_release(copy, world.key, tmp_path / "dist")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "left_over" in name]
    with pytest.raises(release.ReleaseError, match="is not empty"):
        release.make_release(copy, world.key, tmp_path / "dist")


def test_a_release_needs_a_key_that_can_sign(world: World, tmp_path: Path) -> None:
    with pytest.raises(release.ReleaseError, match="no-key is no file"):
        release.make_release(world.checkout, tmp_path / "no-key", tmp_path / "dist")
    assert not (tmp_path / "dist").exists()
    (tmp_path / "broken").write_text("no key\n")
    with pytest.raises(release.ReleaseError, match="ssh-keygen"):
        release.make_release(world.checkout, tmp_path / "broken", tmp_path / "dist")
    done = subprocess.run([sys.executable, "-m", "tests.ci.release"], capture_output=True, check=False, cwd=tree.TOP)
    assert done.returncode == 2
