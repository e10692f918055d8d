"""images.yaml: what it says, and what errors say of its faults."""

import json
import os
import re
from pathlib import Path

import pytest

from flows.images.fleet_images import require_group, require_one_group_each, select_members
from flows.images.image_file import (
    GroupForm,
    ImageFileForm,
    ImageForm,
    InvalidImages,
    load_image_groups,
)
from inventory.machine import Inventory, Machine
from tasks.domain.components import ComponentStanding, InstalledComponent
from tasks.domain.errors import RequestError
from tasks.domain.images import RolloutLimits
from tasks.rules.components.choice import choose_version
from tests.support.builders import START

ROOT = Path(__file__).parents[3]
DIGEST = "ab" * 32
GOOD = f"""
images:
  - name: debian/12/stable
    versions:
      - {{version: "12.10", reference: /images/12.10.qcow2, digest: sha256:{DIGEST.upper()}}}
      - {{version: "12.9", reference: /images/12.9.qcow2, withdrawn: it does not boot}}
    index: {{file: SHA256SUMS, pattern: 'debian-([0-9.]+)\\.qcow2', folder: /pool/}}
groups:
  - name: web
    image: debian/12/stable
    scope: role=web
    user_data: web.yaml
    scripts: [join.sh]
    health: [{{name: port, kind: tcp, target: "443"}}]
    max_batch_percent: 10
    pause_minutes: 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text("machines: []\n")
    (tmp_path / "SHA256SUMS").write_text(f"{DIGEST}  debian-12.11.qcow2\n{DIGEST} *other.iso\n")
    (tmp_path / "web.yaml").write_text("#cloud-config\nusers: [patch]\n")
    (tmp_path / "join.sh").write_text("echo joined\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "images.yaml").write_text(text)
    return folder / "fleet.yaml"


def refuse(folder: Path, old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(InvalidImages) as caught:
        load_image_groups(write(folder, GOOD.replace(old, new)))
    return "\n".join([str(caught.value), *(problem.hint for problem in caught.value.problems)])


def test_a_group_is_a_component_with_the_versions_of_its_image(folder: Path) -> None:
    (group,) = load_image_groups(write(folder, GOOD)).groups
    component, model = group.component, group.component.image
    assert model is not None
    assert (component.name, component.update_id) == ("image:web", "component:image:web")
    assert [version.version for version in component.versions] == ["12.9", "12.10", "12.11"]
    assert component.versions[2].reference == "/pool/debian-12.11.qcow2"
    assert component.versions[1].digest == f"sha256:{DIGEST}"
    assert component.limits == RolloutLimits(batch=10)
    assert json.loads(model.user_data) == {"users": ["patch"]}
    assert [(script.name, script.command) for script in model.scripts] == [("join.sh", "echo joined\n")]
    assert (model.pause_minutes, model.keeps_host_keys, group.is_automatic) == (3, True, True)
    assert component.command == "fleetpatch images upgrade web"


def test_without_a_file_there_are_no_groups(folder: Path) -> None:
    groups = load_image_groups(folder / "fleet.yaml")
    assert groups.groups == ()
    with pytest.raises(RequestError, match="there is no group 'web' beside the inventory"):
        require_group(groups, "web")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    scope: role=web", "    scope: role=", "scope"),
        ("image: debian/12/stable", "image: debian/12/stabel", "Did you mean 'debian/12/stable'"),
        ("max_batch_percent: 10", "max_batch_percent: 30", "max_unhealthy_percent is smaller than max_batch_percent"),
        ("max_batch_percent: 10", "max_batch_percent: 4", "max_batch_percent"),
        ("max_batch_percent: 10", "surge: true", "surge"),
        ("scripts: [join.sh]", "scripts: [leave.sh]", "leave.sh can't be read: No such file"),
        ("user_data: web.yaml", "user_data: join.sh", "join.sh is no cloud-config"),
        ("file: SHA256SUMS", "file: NONE", "NONE can't be read"),
        ("([0-9.]+)", "[0-9.]+", "this expression has 0 groups"),
        ("debian-([0-9.]+)", "(debian-[0-9.]+)", "no version that can be compared"),
        ('"12.9"', '"12.10.0"', "has a version a second time"),
        ("withdrawn: it does not boot", "withdrawn: ''", "withdrawn"),
    ],
)
def test_faults_are_told_with_place_and_remedy(folder: Path, old: str, new: str, words: str) -> None:
    told = refuse(folder, old, new)
    assert words in told
    assert re.search(r"images\.yaml:\d+", told)


@pytest.mark.parametrize("name", ["join.sh", "web.yaml", "SHA256SUMS"])
def test_a_file_that_others_may_write_to_is_not_used(folder: Path, name: str) -> None:
    (folder / name).chmod(0o666)
    assert f"{name} is not trusted" in refuse(folder, "pause_minutes: 3", "pause_minutes: 4")


@pytest.mark.timeout(60)
def test_a_pipe_is_no_file(folder: Path) -> None:
    (folder / "join.sh").unlink()
    os.mkfifo(folder / "join.sh")
    assert "join.sh can't be read: it is no regular file" in refuse(folder, "pause_minutes: 3", "pause_minutes: 4")


@pytest.mark.parametrize("name", ["../secret/debian-13.qcow2", "/secret/debian-13.qcow2", "a/../../debian-13.qcow2"])
def test_an_index_leads_to_no_other_folder(folder: Path, name: str) -> None:
    (folder / "SHA256SUMS").write_text(f"{DIGEST}  {name}\n")
    assert "is not in `folder`" in refuse(folder, "debian-([0-9.]+)", ".*debian-([0-9.]+)")


def test_user_data_may_not_set_what_the_old_disk_has(folder: Path) -> None:
    (folder / "web.yaml").write_text("#cloud-config\nssh_keys: {}\n")
    assert "web.yaml sets ssh_keys, which the old disk has" in refuse(folder, "pause_minutes: 3", "pause_minutes: 4")
    text = GOOD.replace("pause_minutes: 3", "identity: {host_keys: false}")
    (group,) = load_image_groups(write(folder, text)).groups
    assert group.component.image is not None
    assert not group.component.image.keeps_host_keys


def test_a_machine_of_two_groups_is_refused(folder: Path) -> None:
    text = GOOD + "  - {name: all, image: debian/12/stable, scope: all}\n"
    groups = load_image_groups(write(folder, text.replace("role=web", "web-1")))
    inventory = Inventory((Machine(name="web-1", address="192.0.2.1"), Machine(name="db-1", address="192.0.2.2")))
    assert [machine.name for machine in select_members(groups.groups[0], inventory)] == ["web-1"]
    with pytest.raises(RequestError, match="web-1 is a machine of two groups"):
        require_one_group_each(groups, inventory)


def test_any_newer_version_of_a_channel_comes_but_no_release_candidate_and_none_withdrawn(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text("")
    text = GOOD.replace('version: "12.9"', 'version: "14.0"').replace('version: "12.10"', 'version: "13.1"')
    (group,) = load_image_groups(write(folder, text)).groups
    component = group.component
    installed = InstalledComponent(component.name, "12.0")
    choice = choose_version(component, installed, component.family, (), "web-1", START)
    assert choice.standing is ComponentStanding.PENDING
    assert choice.target is not None
    assert choice.target.version == "13.1"


def test_the_schema_has_every_key_of_the_file() -> None:
    text = json.dumps(ImageFileForm.build_file_schema("images"))
    for form in (ImageFileForm, ImageForm, GroupForm):
        for key in form.model_fields:
            assert f'"{key}"' in text
