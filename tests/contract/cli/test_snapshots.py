"""``fleetpatch snapshots delete`` at the door of the policy."""

import json
import os
import sys
from pathlib import Path

import pytest

from flows.snapshots import open_snapshots
from tasks.records.setup import open_records
from tests.contract.test_snapshots import OURS, make_row
from tests.support.command import run_command

MACHINE = {"power": "Running", "disks": [{"id": "a", "role": "OS"}], "snapshots": [{"id": OURS}], "kept_disks": []}
PROVIDER = f"""import json, pathlib, sys
order = json.load(sys.stdin)
with pathlib.Path(sys.argv[0]).with_name("orders").open("a") as log:
    log.write(order["act"] + "\\n")
if order["act"] == "acts":
    print(json.dumps({{"acts": ["delete-snapshot"]}}))
else:
    print(json.dumps({{"machine": {MACHINE!r}}}))
"""


def test_a_policy_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, records = str(tmp_path / "keys"), f"sqlite:///{tmp_path / 'records.db'}"
    monkeypatch.setenv("FLEETPATCH_KEYS", keys)
    (tmp_path / "provider.py").write_text(PROVIDER)
    provider = {"name": "own", "kind": "command", "command": f"{sys.executable} {tmp_path / 'provider.py'}"}
    (tmp_path / "providers.yaml").write_text(json.dumps({"providers": [provider]}))
    machine = {"name": "web-1", "address": "10.0.0.1", "provider": "own/web1"}
    (tmp_path / "fleet.yaml").write_text(json.dumps({"machines": [machine]}))
    policy = tmp_path / "policy.yaml"
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [delete_snapshots]}]}")
    with open_records(records) as database:
        open_snapshots(database).save(make_row(machine="web-1", provider="own/web1"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FLEETPATCH_KEYS": keys}
    environment["FLEETPATCH_POLICY"] = str(policy)
    words = ["snapshots", "delete", "*", "--yes", "--inventory", str(tmp_path / "fleet.yaml"), "--records", records]
    done = run_command(words, environment, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "policy rule all" in done.stderr
    orders = tmp_path / "orders"
    assert not orders.exists()
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [repair]}]}")
    done = run_command(words, environment, tmp_path)
    assert "delete" in orders.read_text(), done.stdout + done.stderr
