"""The fleet of a process, and the names of its tables: two fleets never share them."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.automatic.flow import build_artifact_key
from flows.prefect_api.tags import add_fleet_tag, build_fleet_tag, use_tagged_fleet
from tasks.domain.errors import RecordsError, RequestError
from tasks.records.fleets import (
    DEFAULT_FLEET,
    FLEET_VARIABLE,
    build_file_path,
    build_schema_name,
    find_fleet,
    require_fleet_name,
    use_fleet,
)

FILE = Path("/var/lib/fleetpatch/records.db")


def is_usable(name: str) -> bool:
    try:
        return require_fleet_name(name) == name
    except RecordsError:
        return False


names = st.one_of(
    st.text(min_size=1, max_size=210).filter(is_usable),
    st.from_regex(r"[a-zA-Z0-9_~ -]{1,70}", fullmatch=True).filter(is_usable),
    st.sampled_from(
        [DEFAULT_FLEET, "Default", "site-a", "site_a", "Site-A", "a/b", 'a"; DROP SCHEMA public; --', "ß" * 200]
    ),
)


@given(names, names)
def test_two_fleets_have_two_schemas_and_two_files(one: str, other: str) -> None:
    schemas, files = (
        {build_schema_name(one), build_schema_name(other)},
        {build_file_path(FILE, each) for each in (one, other)},
    )
    assert len(schemas) == len(files) == len({one, other})
    for schema, file in ((build_schema_name(each), build_file_path(FILE, each)) for each in (one, other)):
        assert set(schema) <= set("abcdefghijklmnopqrstuvwxyz0123456789_~-")  # safe between double quotes
        assert len(schema) < 64  # PostgreSQL cuts longer names
        assert file.parent == FILE.parent
        assert len(file.name) < 100


def test_the_fleet_without_a_choice_has_the_tables_of_earlier_versions() -> None:
    assert (build_schema_name(DEFAULT_FLEET), build_file_path(FILE, DEFAULT_FLEET)) == ("", FILE)
    assert (build_schema_name("site-a"), build_file_path(FILE, "site-a").name) == ("fleet_site-a", "records@site-a.db")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00b", "\udc80", "x" * 201])
def test_a_name_that_can_not_be_shown_is_refused(name: str) -> None:
    with pytest.raises(RecordsError, match="no usable name for a fleet"):
        require_fleet_name(name)


def test_the_variable_names_the_fleet_and_a_block_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FLEET_VARIABLE, raising=False)
    assert find_fleet() == DEFAULT_FLEET
    monkeypatch.setenv(FLEET_VARIABLE, "site-a")
    assert find_fleet() == "site-a"
    with use_fleet("site-b"):
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(find_fleet()))  # it has no context of ours
        thread.start()
        thread.join()
        assert [find_fleet(), *seen, os.environ[FLEET_VARIABLE]] == ["site-b"] * 3
    assert find_fleet() == "site-a"
    monkeypatch.setenv(FLEET_VARIABLE, "a\nb")
    with pytest.raises(RecordsError, match=r"FLEETPATCH_FLEET='a\\nb' is no usable name"):
        find_fleet()


def test_a_flow_run_uses_the_fleet_of_its_tags_and_a_worker_of_one_site_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(FLEET_VARIABLE, raising=False)
    south, north = build_fleet_tag("south"), build_fleet_tag("north")
    with use_tagged_fleet(["fleetpatch", south]):
        assert find_fleet() == "south"
    with pytest.raises(RequestError, match="tags of several fleets: north, south"):
        use_tagged_fleet([south, north])
    monkeypatch.setenv(FLEET_VARIABLE, "north")
    with use_tagged_fleet(["fleetpatch"]):
        assert find_fleet() == "north"
    with use_tagged_fleet([north]):
        assert find_fleet() == "north"
    with pytest.raises(RequestError, match="belongs to the fleet south, and this worker to the fleet north"):
        use_tagged_fleet([south])
    assert add_fleet_tag(["fleetpatch"], "south") == ["fleetpatch", south]
    assert add_fleet_tag([north], "south") == [north]


def test_each_fleet_has_an_artifact_with_a_key_that_prefect_allows() -> None:
    assert build_artifact_key("automatic-patching", DEFAULT_FLEET) == "automatic-patching"
    assert build_artifact_key("automatic-patching", "Nørth site") == "automatic-patching-n-rth-site"
