"""``fleetpatch providers``, with a provider that is a command."""

import json
import os
import sys
from pathlib import Path

import pytest

from fleetpatch.cli.commands.providers import _describe
from tests.support.command import run_command

MACHINE = {"power": "Running", "disks": [{"id": "a", "role": "OS"}], "snapshots": [{"id": "s1"}], "kept_disks": []}
BODY = "import json, sys\nact = json.load(sys.stdin)['act']\n"
GOOD = f"print(json.dumps({{'acts': ['start']}} if act == 'acts' else {{'machine': {MACHINE!r}}}))\n"
READ = "web-1 (own/web1): Running; disks: a OS; snapshots: s1; kept disks: none; can: start; identity: Unknown"


@pytest.mark.parametrize(
    ("scope", "body", "code", "words"),
    [
        (
            "web-1",
            GOOD,
            0,
            "web-1 (own/web1): Running; disks: a OS; snapshots: s1; kept disks: none; can: start; identity: Unknown",
        ),
        ("web-1", "sys.exit('the array burns')\n", 1, "web-1 (own/web1): not read: own, web1: the array burns"),
        ("db-1", GOOD, 3, "No machine of this scope has a provider."),
    ],
)
def test_each_machine_is_read_at_its_provider(tmp_path: Path, scope: str, body: str, code: int, words: str) -> None:
    (tmp_path / "provider.py").write_text(BODY + body)
    provider = {"name": "own", "kind": "command", "command": f"{sys.executable} {tmp_path / 'provider.py'}"}
    (tmp_path / "providers.yaml").write_text(json.dumps({"providers": [provider]}))
    machines = [
        {"name": "web-1", "address": "127.0.0.1", "port": 1, "provider": "own/web1", "identity": "unverified"},
        {"name": "db-1", "address": "10.0.0.2"},
    ]
    (tmp_path / "fleet.yaml").write_text(json.dumps({"machines": machines}))
    records = f"sqlite:///{tmp_path / 'records.db'}"
    words_of_command = ["providers", scope, "--inventory", str(tmp_path / "fleet.yaml"), "--records", records]
    done = run_command(words_of_command, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, tmp_path)
    assert (done.returncode, done.stdout.split("\n")[0][: len(words)]) == (code, words), done.stderr


def test_why_no_snapshot_can_be_taken_now_is_told() -> None:
    obstacle = "0 MiB are free where its disks are"
    lists: dict[str, list[object]] = {"disks": [], "snapshots": [], "kept_disks": []}
    machine = {"power": "Paused", **lists, "overlay": None, "snapshot_obstacle": obstacle}
    proof = {"identity": "Proven", "identityMessage": "it has the UUID of p", "refusal": ""}
    answer: dict[str, object] = {"machineName": "a", "provider": "p", "error": "", "machine": machine, "acts": []}
    answer |= proof
    assert "a (p): Paused; " in _describe(answer)
    assert "; no snapshot can be taken: 0 MiB are free where its disks are; " in _describe(answer)
