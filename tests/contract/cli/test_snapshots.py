"""``fleetpatch snapshots delete`` at the door of the policy, and ``reconcile``, which deletes what is expired."""

import json
import os
import sys
from pathlib import Path

import pytest

from fleetpatch.cli.views.snapshots import print_results
from flows.snapshots import AdoptionState, DeletionState, Handled, open_snapshots
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.contract.test_snapshots import OURS, RUN, make_row
from tests.support.builders import make_run
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


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a command with a machine, its provider, and a snapshot in the records whose time is over."""
    keys = str(tmp_path / "keys")
    monkeypatch.setenv("FLEETPATCH_KEYS", keys)
    (tmp_path / "provider.py").write_text(PROVIDER)
    provider = {"name": "own", "kind": "command", "command": f"{sys.executable} {tmp_path / 'provider.py'}"}
    (tmp_path / "providers.yaml").write_text(json.dumps({"providers": [provider]}))
    machine = {"name": "web-1", "address": "127.0.0.1", "port": 1, "provider": "own/web1", "identity": "unverified"}
    (tmp_path / "fleet.yaml").write_text(json.dumps({"machines": [machine]}))
    records = f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(records) as database:
        database.save(make_run(id=RUN, state=OperationState.SUCCEEDED))
        open_snapshots(database).save(make_row(machine="web-1", provider="own/web1"))
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FLEETPATCH_KEYS": keys}
    return {**own, "FLEETPATCH_INVENTORY": str(tmp_path / "fleet.yaml"), "FLEETPATCH_RECORDS_URL": records}


def test_a_policy_refuses_it(tmp_path: Path, environment: dict[str, str]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [delete_snapshots]}]}")
    environment["FLEETPATCH_POLICY"] = str(policy)
    words = ["snapshots", "delete", "*", "--yes"]
    done = run_command(words, environment, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "policy rule all" in done.stderr
    orders = tmp_path / "orders"
    assert not orders.exists()
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [repair]}]}")
    done = run_command(words, environment, tmp_path)
    assert "delete" in orders.read_text(), done.stdout + done.stderr


def test_one_that_the_records_do_not_have_is_deleted_or_adopted(tmp_path: Path, environment: dict[str, str]) -> None:
    other = OURS.replace("0123", "9999")
    (tmp_path / "provider.py").write_text(PROVIDER.replace(OURS, other))
    done = run_command(["snapshots", "delete", "web-1", "--unrecorded", "--dry-run"], environment, tmp_path)
    assert (other in done.stdout, OURS in done.stdout) == (True, False), done.stderr
    assert "delete" not in (tmp_path / "orders").read_text().replace("acts", "")
    done = run_command(["snapshots", "adopt", "web-1", "--yes", "--json"], environment, tmp_path)
    (adopted,) = json.loads(done.stdout)["snapshots"]
    assert (done.returncode, adopted["snapshotId"], adopted["status"]) == (0, other, "Adopted")
    done = run_command(["snapshots", "delete", "web-1", "--unrecorded", "--yes"], environment, tmp_path)
    assert (done.returncode, "There is no such snapshot" in done.stdout) == (0, True), "it is recorded now"
    done = run_command(["audit", "list", "--json"], environment, tmp_path)
    assert "snapshots adopt" in done.stdout


def test_reconcile_deletes_it_and_tells_what_stays(tmp_path: Path, environment: dict[str, str]) -> None:
    orders = tmp_path / "orders"
    done = run_command(["reconcile", "--dry-run"], environment, tmp_path)
    assert (done.returncode, orders.exists()) == (0, False)
    assert f"web-1: snapshot {OURS}: would be deleted" in done.stderr
    done = run_command(["reconcile", "--no-prefect", "--json"], environment, tmp_path)
    assert "delete" in orders.read_text(), done.stderr
    assert f"web-1: snapshot {OURS}: Failed: it is still there" in done.stderr, "its provider lists it still"
    assert (done.returncode, json.loads(done.stdout)["exitCode"]) == (3, 3)
    (tmp_path / "provider.py").write_text(PROVIDER.replace(f"[{{'id': '{OURS}'}}]", "[]"))
    done = run_command(["reconcile", "--no-prefect"], environment, tmp_path)
    assert (done.returncode, f"{OURS}: Gone" in done.stderr) == (0, True), done.stderr


def test_the_commands_of_a_way_back_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"printf %s '{'x' * 300} y' | virsh update-device web /dev/stdin"
    refused = Handled("web-1", "", AdoptionState.REFUSED, f"vda has an older file\n{command}")
    print_results([refused, Handled("web-2", "s1", DeletionState.DELETED)], as_json=False)
    lines = "".join(capsys.readouterr()).splitlines()
    assert command in lines
    assert sum("xxx" in line for line in lines) == 1
    assert any("vda has an older file" in line for line in lines)
