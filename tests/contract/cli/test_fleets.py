"""The command where other fleets have history in the same database."""

import pytest

from tests.contract.cli.conftest import Stage, security


def test_a_fleet_without_history_says_who_has_some_in_the_same_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found for another fleet is not there: that must not look like good news."""
    stage.add("web", security("openssl"))
    stage.run("assess")
    run = stage.run("runs", "--json").json["runs"][0]["maintenanceRunId"]
    assert "database also has" not in stage.run("reconcile", "--dry-run").out
    monkeypatch.setenv("FLEETPATCH_FLEET", "site-a")
    others = "This is the fleet site-a; this database also has: default. Set FLEETPATCH_FLEET."
    assert stage.run("runs", "--json").json == {"runs": [], "otherFleets": others}
    assert [" ".join(stage.run(*words).out.split())[-len(others) :] for words in (["runs"], ["reconcile"])] == [
        others
    ] * 2
    assert stage.run("machines", "--json").json["machines"][0]["complianceState"] == "NotAssessed"
    assert others in str(stage.run("doctor", "--json").json)
    said = stage.run("show", run)
    assert said.code == 2
    assert f"run {run} belongs to the fleet default, and this is the fleet site-a" in said.err
    assert others in " ".join(stage.run("show").err.split())
