"""docs/how-to/services.md with the page's own commands, from the first to the last: a scheduled window runs."""

import functools
import json
import re
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.ci.tree import TOP
from tests.lab.controller_host import CODE, install_fleetpatch
from tests.lab.fleet import BootHosts, LabError, LabHost

pytestmark = pytest.mark.slow

PATIENCE = 150.0
LEAD = timedelta(seconds=150)  # on busy cores the server takes a minute, and Prefect makes no run for what is past
ELSEWHERE = re.compile(r"make setup|python3 -m venv|bin/pip ")  # the lab has no index of packages: controller_host.py
WORKER = "fleetpatch-worker@fleetpatch"
UNITS = f"fleetpatch-server {WORKER} fleetpatch-web"


def read_steps() -> dict[str, list[str]]:
    """Return the blocks of commands below each heading of the part about systemd."""
    page = (
        (TOP / "docs/how-to/services.md")
        .read_text()
        .partition("## With systemd\n")[2]
        .partition("## With compose\n")[0]
    )
    sections = [part.partition("\n") for part in re.split(r"(?m)^### ", page)[1:]]
    return {
        title: [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", text)]
        for title, _, text in sections
    }


def run(host: LabHost, block: str, folder: str = CODE) -> str:
    lines = [line for line in block.splitlines() if not ELSEWHERE.search(line)]
    (host.root / "root/step.sh").write_text("set -eu\n" + "\n".join(lines) + "\n")
    return host.sh(f"cd {folder} && bash /root/step.sh 2>&1", root=True, timeout=PATIENCE)


def run_all(host: LabHost, block: str) -> bool:
    """Run a block that may print nothing."""
    run(host, block)
    return True


def until(seen: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := seen():
                return found
            last = ""
        except LabError as error:
            last = str(error)
        assert time.monotonic() < end, f"never seen: {what}\n{last}"
        time.sleep(1)


def describe_itself(host: LabHost) -> None:
    """Write the inventory: the controller is patched over SSH, like any other machine."""
    inventory = yaml.safe_load(host.lab.inventory_text())
    (machine,) = [each for each in inventory["machines"] if each["name"] == host.name]
    machine |= {"environment": "prod", "credential": "key:/etc/fleetpatch/machine-keys/fleet"}
    del inventory["host_keys"]
    inventory["machines"] = [machine]
    (host.root / "etc/fleetpatch/fleet.yaml").write_text(yaml.safe_dump(inventory))
    (host.root / "root/lab-key").write_bytes(host.key.read_bytes())


def test_the_page_leads_to_a_schedule_that_runs(hosts: BootHosts) -> None:
    (host,) = hosts(1, "cluster")  # it has PostgreSQL
    host.sh("pg_createcluster 15 main --start", root=True)
    install_fleetpatch(host)
    steps = read_steps()
    assert [*steps] == [
        "1. Install", "2. Keys and the database", "3. Settings", "4. Start", "5. Deploy",
        "6. Check the machines", "7. See the schedule", "8. Start the pages", "Update", "Remove",
    ]  # fmt: skip
    for title in ("1. Install", "2. Keys and the database"):
        for block in steps[title]:
            run(host, block)
    settings, keys, configuration = steps["3. Settings"]
    run(host, settings)
    describe_itself(host)
    run(host, keys.replace("~/.ssh/id_ed25519", "/root/lab-key"))
    start = (datetime.now(UTC) + LEAD + timedelta(minutes=1)).replace(second=0, microsecond=0)
    example = "start: 2026-12-05 22:00, length: 2h, zone: Europe/Berlin, recurrence: Week Saturday"
    assert example in configuration
    ours = f"start: {start:%Y-%m-%d %H:%M}, length: 2h, zone: UTC, recurrence: Week {start:%A}"
    updates = "updates: {classifications: [], include: [lab-plain]}\nreboot: Never\nstage: false\n"
    updates += "settle_seconds: 0\ncome_back_seconds: 1\n"
    run(host, configuration.replace(example, ours).replace("scope:", f"{updates}scope:"))
    assert "/etc/fleetpatch/fleetpatch.env" in host.sh("fleetpatch settings")  # for everybody

    run(host, steps["4. Start"][0])
    assert "patch-fleet/weekly" in run(host, steps["5. Deploy"][0])  # at once: the worker makes its pool meanwhile
    (check,) = steps["6. Check the machines"]
    assert "learned" in run(host, check.replace("--trust", "--trust-all"))
    # Each command costs seconds of a processor: cheap looks come first.
    until(lambda: "started!" in host.sh(f"journalctl -u {WORKER} || true", root=True), "the worker")
    until(lambda: run(host, "fleetpatch-admin doctor --server"), "that all is ready")
    shown = run(host, steps["7. See the schedule"][0])
    assert "weekly" in shown
    assert f"{start:%H:%M}" in shown
    run(host, steps["8. Start the pages"][0])

    time.sleep(max(0.0, (start - datetime.now(UTC)).total_seconds()))
    ended = "SELECT 1 FROM runs WHERE kind = $$patch$$ AND ended_at IS NOT NULL"
    ask = f"cd / && runuser -u postgres -- psql --quiet --tuples-only --dbname fleetpatch --command '{ended}'"
    until(lambda: "1" in host.sh(ask, root=True), "the end of a run in the records")

    def read_run() -> Any:
        rows = json.loads(run(host, "fleetpatch-admin runs --json"))
        return [row for row in rows["runs"] if row["status"] not in {"NotStarted", "InProgress"}]

    (done,) = until(read_run, "the run of the window")
    assert done["status"] in {"Succeeded", "CompletedWithWarnings"}, done
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
    pages = host.sh("curl -fsS http://127.0.0.1:4280/health; systemctl show -p NRestarts,ActiveState " + UNITS)
    assert pages.count("ActiveState=active") == 3

    for block in steps["Update"]:
        until(functools.partial(run_all, host, block), "the update")
    for block in steps["Remove"]:
        run(host, block)
    assert host.sh("ls /etc/systemd/system /usr/local/bin /usr/local/sbin").count("fleetpatch") == 0
    assert host.sh("test -d /etc/fleetpatch/configurations && echo there") == "there\n"
