"""What release 0.1.0 wrote is read by this release, with the figures of then (tests/data/release_0_1_0)."""

from datetime import date

from deployments.configuration.loader import load_configurations
from fleetpatch.cli.runtime.request_parsing import load_request_file
from flows.request.patch_request import PatchRequest
from inventory.loader import load_inventory
from tests.ci import tree

DATA = tree.TOP / "tests" / "data" / "release_0_1_0"


def test_configurations_load_without_faults() -> None:
    configurations = load_configurations(DATA / "configurations", date(2026, 11, 27)).all_configurations

    assert {each.name for each in configurations if not each.is_enabled} == {"every-3-days"}
    assert {each.name for each in configurations if each.is_enabled} == {
        *("canaries", "web", "shops", "by.rule", "by_cron"),
        *("month-days", "tonight", "waiting", "closed"),
    }


def test_the_inventory_loads_without_faults() -> None:
    machines = {each.name: each for each in load_inventory(DATA / "fleet.yaml").machines}

    assert len(machines) == 12
    assert machines["web-02"].jump == ("bastion",)
    assert machines["old-box"].legacy_crypto
    assert machines["win-1"].transport == "winrm"


def test_the_request_file_loads_without_faults() -> None:
    request = PatchRequest.model_validate(load_request_file(DATA / "request.yaml"))

    assert (request.scope, request.configuration, request.waves.canary_count) == ("ring=canary", "canaries", 1)
    assert [each.name for each in request.hooks.before_machine] == ["drain"]
