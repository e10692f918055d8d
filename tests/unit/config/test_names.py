"""No configuration may bear a name that deploying makes for itself."""

import re
from pathlib import Path
from zoneinfo import available_timezones

import pytest

from deployments.configuration.prefect_names import RESERVED_NAMES, build_slug, build_stage_slug
from deployments.refresh_schedules import refresh_schedules
from deployments.sync.builtin_deployments import build_builtin_deployments, build_refresh_deployment
from tests.unit.config.folder import WEEKLY, Folder

USABLE = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")


def test_everything_that_deploying_makes_for_itself_is_reserved() -> None:
    fleet = ("main", "pool", Path("/fleet.yaml"))
    refresh = build_refresh_deployment(refresh_schedules, *fleet, Path("/configurations"))
    made = (*build_builtin_deployments(*fleet), refresh)
    names = {each.name for each in made} | {line.slug for each in made for line in each.schedules}
    assert len(made) > 5
    assert {name for name in names if USABLE.fullmatch(name)} <= RESERVED_NAMES


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_reserved_name_is_refused_where_it_stands(folder: Folder, name: str) -> None:
    ((line, key, words),) = folder.faults(f"name: {name}\nscope: '*'\n{WEEKLY}\n")
    assert (line, key) == (1, "name")
    assert f"{name!r} is reserved" in words
    assert "Choose another name" in words


def two(first: str, second: str, more: str = "") -> str:
    entry = "- name: {0}\n  scope: '*'\n  {1}\n{2}"
    return "configurations:\n" + entry.format(first, WEEKLY, more) + entry.format(second, WEEKLY, "")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "machine"])
def test_the_name_of_another_ones_downloads_is_refused(folder: Folder, zone: str) -> None:
    for first, second, line in (("web", "web-stage", 5), ("web-stage", "web", 2)):
        text = two(first, second).replace("Europe/Berlin", zone)
        whole = text.replace("- name: web\n", "- name: web\n  stage_ahead: 1d\n")
        ((found, _, words),) = folder.faults(whole)
        assert "'web-stage' is the name of the downloads of 'web'" in words
        assert found == line + (first == "web")


def test_it_is_free_where_nothing_is_downloaded_ahead(folder: Folder) -> None:
    assert len(folder.read(two("web", "web-stage")).all_configurations) == 2


def test_names_of_windows_are_all_different() -> None:
    slugs = {build_slug(name, zone) for name in ("web", "web-stage") for zone in ("", *available_timezones())}
    assert len(slugs) == 2 * (len(available_timezones()) + 1)
    assert not any(USABLE.fullmatch(build_stage_slug(slug)) for slug in slugs if "@" in slug)
