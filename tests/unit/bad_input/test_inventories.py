"""Inventories as files of every kind: what tests/unit/inventory says of their content is not repeated here."""

import os
from pathlib import Path

import pytest

import inventory.files.text_files
from inventory.errors import InventoryError
from inventory.host_key_store import HostKeyStore
from inventory.loader import load_inventory
from tests.unit.bad_input.conftest import Refused

MACHINE = "machines: [{name: web, address: 192.0.2.1}]\n"

FILES: list[tuple[str, bytes, str]] = [
    ("x.yaml", b"", "empty"),
    ("x.yaml", bytes(range(256)), "no UTF-8"),
    ("x.yaml", b"\x00", "no valid YAML"),
    ("x.yaml", b"[" * 50_000, "nests deeper"),
    ("x.yaml", b"# " + b"x" * 10_500_000, "larger than 10 MiB"),
    ("x.yaml", b"\x7fELF" + bytes(100), "x.yaml"),
    ("x.yaml", b"host_keys: {known_hosts: ~nobody-at-all/k}\n" + MACHINE.encode(), "home"),
    ("x.json", b'{"machines": ', "no valid YAML"),
    ("x.json", b"[" * 50_000, "nests deeper"),
    ("x.csv", b"", "x.csv"),
    ("x.csv", b"\xff\xfe", "no UTF-8"),
    ("x.csv", b"name\n\x00\n", "x.csv"),
    ("x.csv", b'name\n"' + b"x" * 200_000, "x.csv"),
    ("x.ini", b"[", "x.ini"),
    ("x.ini", b"\x1b[2J\n", "x.ini"),
    ("x", b"#!/bin/sh\necho web\n", "program"),
    ("x", b"", "x"),
]


@pytest.mark.parametrize(("name", "content", "told"), FILES)
def test_a_file(refused: Refused, tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = refused("plan", "*", "--inventory", name, told=told)
    assert name in said.err


@pytest.mark.parametrize("name", ["x.yaml", "x.csv", "x.ini", "hosts", "x"])
def test_a_pipe_that_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(inventory.files.text_files, "PIPE_SILENCE_TIMEOUT_SECONDS", 0.01)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InventoryError, match="nothing was written into it"):
        load_inventory(tmp_path / name)


def test_a_pipe_in_a_folder_of_inventories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory.files.text_files, "PIPE_SILENCE_TIMEOUT_SECONDS", 0.01)
    (tmp_path / "a.yaml").write_text(MACHINE)
    os.mkfifo(tmp_path / "odd")  # by its name it is none, and nobody looks into it
    assert [machine.name for machine in load_inventory(tmp_path).machines] == ["web"]


def test_a_pipe_that_somebody_writes_to_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, MACHINE.encode())
    os.close(writing)
    try:
        assert load_inventory(Path(f"/dev/fd/{reading}")).machines[0].name == "web"
    finally:
        os.close(reading)


@pytest.mark.parametrize("path", ["/dev/zero", "~nobody-at-all/known_hosts"])
def test_known_hosts_of_another_kind(path: str) -> None:
    with pytest.raises(InventoryError) as caught:
        HostKeyStore.load(Path(path))
    assert caught.value.hint


def test_known_hosts_that_are_a_pipe_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="directory"):
        HostKeyStore.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert HostKeyStore.load(tmp_path / "pipe").find_keys("web") == ()  # nobody is trusted, and nothing hangs
