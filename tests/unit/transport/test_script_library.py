"""What a script says that it needs of others, and where scripts are found."""

from pathlib import Path

import pytest

from tasks.domain.errors import RequestError
from tasks.domain.protocols.transport import Script
from tasks.machines.managers.apt.assessment import UPDATERS_SCRIPT
from tasks.machines.managers.apt.manager import ASSESS_SCRIPT
from tasks.machines.managers.registry import MANAGER_TYPES
from tasks.machines.transport.script_library import (
    compose_script,
    find_required_scripts,
    load_script,
    load_script_parameters,
)
from tests.ci.tree import TOP

ALL_SCRIPTS = sorted((TOP / "tasks").rglob("*.sh"))


def test_a_script_that_needs_no_other_stays_as_it_is() -> None:
    assert compose_script(Script("transactions")) == load_script("transactions")
    assert load_script_parameters(Script("transactions")) == {}


def test_what_a_script_requires_is_put_before_it_in_order() -> None:
    text, required = compose_script(Script("reboot")), find_required_scripts(load_script("reboot"))
    assert {"job_common", "package_locks", "boot_files"} <= set(required)
    places = [text.index(load_script(name)) for name in (*required, "reboot")]
    assert places == sorted(places)


def test_a_script_brings_the_text_of_another_one_as_a_parameter() -> None:
    assert load_script_parameters(Script("reboot")) == {"guard": compose_script(Script("package_locks"))}
    back = load_script("updaters_back", UPDATERS_SCRIPT.package)
    assert load_script_parameters(UPDATERS_SCRIPT) == {"undo": back}


def test_a_manager_replaces_what_a_shared_script_requires() -> None:
    own, shared = load_script("unfinished_packages", UPDATERS_SCRIPT.package), load_script("unfinished_packages")
    order = Script("reboot", package=UPDATERS_SCRIPT.package)
    for text in (compose_script(order), load_script_parameters(order)["guard"]):
        assert own in text
        assert shared not in text


def test_a_managers_scripts_are_found_in_its_package_only() -> None:
    assert load_script(ASSESS_SCRIPT.name, ASSESS_SCRIPT.package)
    with pytest.raises(RequestError, match="no script named 'apt_assess'"):
        load_script(ASSESS_SCRIPT.name)


@pytest.mark.parametrize("path", ALL_SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_says_that_it_needs_is_there(path: Path) -> None:
    own = "tasks" if "posix" in str(path) else ".".join(path.relative_to(TOP).parts[:-2])
    managers = [manager().script_package for manager in MANAGER_TYPES.values()]
    for package in [each for each in managers if each.startswith(f"{own}.") and own != "tasks"] or [own]:
        script = Script(path.stem, package=package)  # scripts of a family require those of its members
        for name in find_required_scripts(compose_script(script)):
            assert load_script(name, package) in compose_script(script)
        load_script_parameters(script)
