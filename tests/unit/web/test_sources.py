"""What the pages say when inventory or configurations can't be read: what is wrong, where, and the remedy."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetpatch.machines.sources import SourceReader
from fleetpatch.settings import WebSettings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FLEET = "machines: [{name: web-1, address: 192.0.2.1}]"
WEEKLY = "name: weekly\nscope: '*'\nwindow: {start: 2026-11-22 22:00, length: 1h, zone: UTC}\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLEETPATCH_INVENTORY", raising=False)
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_problems(reader: SourceReader | None = None) -> str:
    return "\n".join((reader or SourceReader(WebSettings())).read(NOW).problems)


def test_without_an_inventory_the_remedy_is_said(place: Path) -> None:
    said = read_problems()
    assert f"inventory: there is no inventory: neither {place}/fleet.yaml nor " in said
    assert "Write one there" in said
    assert "FLEETPATCH_INVENTORY" in said


def test_a_fault_of_a_file_has_its_place_and_its_remedy(place: Path) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    (place / "configurations.yaml").write_text(WEEKLY + "wavs: {}\n")
    first, remedy = read_problems().splitlines()
    assert first.endswith("configurations.yaml:4: wavs: unknown key 'wavs'")
    assert "Did you mean 'waves'?" in remedy


def test_who_has_no_configurations_and_names_none_has_no_problem(place: Path) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    assert not read_problems()


def test_configurations_that_a_variable_names_must_be_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(place / "mistyped"))
    said = read_problems()
    assert f"{place}/mistyped" in said
    assert "FLEETPATCH_CONFIGURATIONS" in said


def test_configurations_that_have_gone_are_a_problem_and_the_last_ones_stay(place: Path) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    (place / "configurations.yaml").write_text(WEEKLY)
    reader = SourceReader(WebSettings())
    assert not read_problems(reader)
    (place / "configurations.yaml").unlink()
    assert "configurations: there are no configurations" in read_problems(reader)
    assert [each.configuration.name for each in reader.read(NOW).zone_schedules] == ["weekly"]


def test_automatic_patching_counts_the_machines_of_its_own_inventory(place: Path) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    (place / "other.yaml").write_text("machines: [{name: a, address: 192.0.2.1, owner: managed}]")
    (place / "configurations.yaml").write_text("automatic: {scope: '*', inventory: other.yaml}\n")
    assert SourceReader(WebSettings()).read(NOW).managed == 1


def test_the_last_good_inventory_of_a_configuration_stays_in_use(place: Path) -> None:
    (place / "fleet.yaml").write_text(FLEET)
    (place / "other.yaml").write_text(FLEET.replace("web-1", "other-1"))
    (place / "configurations.yaml").write_text(WEEKLY.replace("zone: UTC", "zone: machine") + "inventory: other.yaml\n")
    reader = SourceReader(WebSettings())
    assert [each.machines for each in reader.read(NOW).zone_schedules] == [("other-1",)]
    (place / "other.yaml").write_text("machines: [{name: other-1,")
    assert "What was read before the fault stays in use." in read_problems(reader)
    assert [each.machines for each in reader.read(NOW).zone_schedules] == [("other-1",)]
