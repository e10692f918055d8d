"""Images of containers are pinned by digest by a program: tests have no registry, so skopeo is a script here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ci import tree

SCRIPT = "deployments/compose/images.sh"
FILES = (SCRIPT, "deployments/compose/Dockerfile", "deployments/compose/compose.yaml", ".github/workflows/ci.yml")
TAGS = {"debian:12", "postgres:16-bookworm", "python:3.11-slim-bookworm", "redis:7-bookworm"}


def _run(top: Path, skopeo: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = top / "bin/skopeo"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{skopeo}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:/usr/bin:/bin"}
    return subprocess.run([top / SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.TOP / name, tmp_path / name)
        content = (tmp_path / name).read_text()
        (tmp_path / name).write_text(re.sub(r"@sha256:[0-9a-f]{64}(?= |$)", "", content, flags=re.MULTILINE))
    return tmp_path


def test_images_that_are_not_pinned_are_named(checkout: Path) -> None:
    done = _run(checkout, "exit 9")
    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {f"NOT PINNED  {tag}" for tag in TAGS}


def test_each_image_gets_the_digest_of_its_tag_and_later_a_newer_one(checkout: Path) -> None:
    before = {name: (checkout / name).read_text() for name in FILES}
    first = _run(checkout, 'echo "manifest of $4"', "--pin")
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert {line.split("@")[0] for line in lines} == {f"pinned      {tag}" for tag in TAGS}
    assert len({line.split("@")[1] for line in lines}) == len(TAGS)
    for name, text in before.items():
        assert re.sub(r"@sha256:[0-9a-f]{64}(?= |$)", "", (checkout / name).read_text(), flags=re.MULTILINE) == text
    assert (checkout / "deployments/compose/Dockerfile").read_text().count("@sha256:") == 2
    second = _run(checkout, 'echo "newer manifest of $4"', "--pin")
    assert set(second.stdout.splitlines()).isdisjoint(lines)
    assert _run(checkout, "exit 9").stdout == second.stdout


def test_without_an_answer_nothing_is_changed(checkout: Path) -> None:
    before = {name: (checkout / name).read_text() for name in FILES}
    done = _run(checkout, 'case $4 in *redis*) echo away >&2; exit 1 ;; esac; echo "manifest of $4"', "--pin")
    assert done.returncode == 1
    assert "redis:7-bookworm can't be found. Nothing was changed" in done.stderr
    assert {name: (checkout / name).read_text() for name in FILES} == before
