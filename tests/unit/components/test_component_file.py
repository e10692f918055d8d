"""components.yaml: what it says, and what errors say of its faults."""

import re
from pathlib import Path

import pytest

from flows.components.component_file import (
    ComponentFileForm,
    ComponentForm,
    InvalidComponents,
    VersionForm,
    load_catalogue,
    load_component_file,
)
from inventory.errors import InventoryError
from inventory.machine import CheckKind, OsFamily
from inventory.named_files import COMPONENTS_FILE
from tasks.domain.components import ComponentStanding
from tasks.machines.managers.components.kinds import ComponentKind

ROOT = Path(__file__).parents[3]
DIGEST = "ab" * 32
GOOD = f"""
canary_locations: [test]
components:
  - name: app
    kind: deb
    after: [exporter]
    versions:
      - {{version: 2.0.0, url: "https://x.test/app_2.deb", sha256: {DIGEST}}}
      - {{version: 1.10.0, url: "https://x.test/app_1.10.deb", sha256: {DIGEST.upper()}}}
      - {{version: 1.9.0, file: files/app_1.9.deb, sha256: {DIGEST}, withdrawn: it leaks}}
  - name: exporter
    kind: file
    system: linux
    version: {{command: exporter --version, pattern: 'version ([0-9.]+)'}}
    install: install -m 755 "$FLEETPATCH_FILE" /usr/local/bin/exporter
    health:
      - {{name: port, kind: tcp, target: "9100"}}
    health_minutes: 2
    settings: {{LISTEN_ADDRESS: ":9100"}}
    versions:
      - {{version: 1.8.2, url: "https://x.test/e", sha256: {DIGEST}}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "components.yaml"
    path.write_text(text)
    return path


def refuse(folder: Path, text: str) -> str:
    with pytest.raises(InvalidComponents) as caught:
        load_component_file(write(folder, text))
    return "\n".join([str(caught.value), *(problem.hint for problem in caught.value.problems)])


def one(body: str, versions: str = f"[{{version: 1.0, url: 'https://x.test/a', sha256: {DIGEST}}}]") -> str:
    return f"components: [{{name: app, {body}, versions: {versions}}}]"


def test_a_good_file(tmp_path: Path) -> None:
    catalogue = load_component_file(write(tmp_path, GOOD))
    exporter, app = catalogue.components  # each after those that it names
    assert (exporter.name, exporter.kind, exporter.family) == ("exporter", ComponentKind.FILE, OsFamily.LINUX)
    assert exporter.health[0].kind is CheckKind.TCP
    assert (exporter.health_seconds, exporter.settings) == (120, {"LISTEN_ADDRESS": ":9100"})
    assert [version.version for version in app.versions] == ["1.9.0", "1.10.0", "2.0.0"]
    assert app.versions[0].file == str(tmp_path / "files/app_1.9.deb")
    assert {version.digest for version in app.versions} == {f"sha256:{DIGEST}"}
    assert app.versions[0].withdrawn == "it leaks"
    assert (app.family, app.canary_locations, app.after) == (OsFamily.LINUX, ("test",), ("exporter",))
    assert catalogue.find("app") is app
    assert catalogue.find("other") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("this file is empty", "components:")),
        ("components: []", ("components",)),
        ("component: []", ("unknown key 'component'", "components")),
        (one("kind: debian"), ("'debian' is not one of file, deb", "Did you mean 'deb'")),
        (one("kind: file"), ("needs `system: linux`",)),
        (one("kind: deb, system: windows"), ("`kind: deb` is of linux",)),
        (one("kind: file, system: linux"), ("needs `version` and `install`",)),
        (one("kind: deb, install: dpkg -i x"), ("installs by itself",)),
        (one("kind: deb, settings: {A: b}"), ("takes no settings",)),
        (one("kind: msi, settings: {DB_PASSWORD: b}"), ("looks like a secret", "read it from a file")),
        (one("kind: msi, settings: {path: b}"), ("no name of a setting",)),
        (one("kind: deb", "[{version: latest}]"), ("'latest' is no version",)),
        (one("kind: deb", "[{version: 1.0, url: 'https://x.test/a'}]"), ("has no digest", "sha256sum")),
        (one("kind: deb", f"[{{version: 1.0, sha256: {DIGEST}}}]"), ("comes from 0 places", "`url` or `file`")),
        (one("kind: deb", f"[{{version: 1.0, sha256: {DIGEST}, file: a, url: 'https://x.test'}}]"), ("from 2 places",)),
        (one("kind: snap", "[{version: 1.0}]"), ("has no reference", "snap info")),
        (one("kind: winget", "[{version: 1.0, reference: '12'}]"), ("is for snap and flatpak",)),
        (one("kind: choco", f"[{{version: 1.0, sha256: {DIGEST}}}]"), ("its own source",)),
        (one("kind: choco", "[{version: 1.0}, {version: 1.0.0}]"), ("a second time: 1.0 is the same",)),
        (one("kind: choco", "[]"), ("empty",)),
        (one("kind: choco, after: [ap]", "[{version: 1.0}]"), ("after 'ap', which is not here", "Did you mean 'app'")),
        (one("kind: choco, after: [app]", "[{version: 1.0}]"), ("app after app",)),
        (one("kind: choco, health_minutes: true", "[{version: 1.0}]"), ("health_minutes",)),
        (
            one("kind: choco, health: [{name: up, kind: http, target: 'http://x.test/'}]", "[{version: 1.0}]"),
            ("asks one host, whatever machine",),
        ),
        (
            one("kind: choco, health: [{name: up, kind: tcp, target: '80', level: warn}]", "[{version: 1.0}]"),
            ("can't make a machine unhealthy",),
        ),
        (one("kind: choco, version: {command: x, pattern: '[0-9]+'}", "[{version: 1.0}]"), ("has 0 groups",)),
        (one("kind: choco, version: {command: x, pattern: '('}", "[{version: 1.0}]"), ("no regular expression",)),
        (
            one("kind: deb", f"[{{version: 1.0, url: 'https://me:pw@x.test/a', sha256: {DIGEST}}}]"),
            ("has a login in it",),
        ),
    ],
)
def test_faults_are_told_with_their_place_and_remedy(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    told = refuse(tmp_path, text)
    assert "components.yaml" in told
    assert "me:pw" not in told
    for word in words:
        assert word in told, told


def test_the_examples_load(tmp_path: Path) -> None:
    catalogue = load_component_file(ROOT / "inventory/components.example.yaml")
    assert {component.kind for component in catalogue.components} >= set(ComponentKind) - {ComponentKind.RPM}
    page = (ROOT / "docs/how-to/components.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (exporter,) = load_component_file(write(tmp_path, block)).components
    assert exporter.versions == catalogue.components[0].versions


def test_the_page_has_every_key_kind_and_standing() -> None:
    page = (ROOT / "docs/how-to/components.md").read_text(encoding="utf-8")
    cells = {row.split("|")[1].strip().strip("`") for row in page.splitlines() if row.startswith("|")}
    keys = {*ComponentForm.model_fields, *VersionForm.model_fields, *ComponentFileForm.model_fields}
    assert keys - cells == {"components", "withdrawn"}  # withdrawn stands beside versions
    assert set(ComponentKind) | set(ComponentStanding) <= cells


def test_a_circle_is_told_whole(tmp_path: Path) -> None:
    text = "components:\n" + "\n".join(
        f"  - {{name: {name}, kind: choco, after: [{after}], versions: [{{version: 1.0}}]}}"
        for name, after in (("x", "y"), ("a", "b"), ("b", "c"), ("c", "a"), ("y", "a"))
    )
    told = refuse(tmp_path, text)
    assert "components wait for each other" in told
    circles = ("a after b after c after a", "b after c after a after b", "c after a after b after c")
    assert any(circle in told for circle in circles)
    assert "components.yaml:3" in told  # the first one of the circle in the file


def test_two_names_that_are_one_on_windows(tmp_path: Path) -> None:
    versions = "versions: [{version: 1.0}]"
    text = f"components: [{{name: app, kind: choco, {versions}}}, {{name: App, kind: choco, {versions}}}]"
    assert "'App' is here a second time" in refuse(tmp_path, text)


def test_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines: []\n")
    assert COMPONENTS_FILE.find(inventory) is None
    assert load_catalogue(inventory).components == ()
    beside = write(tmp_path, GOOD)
    assert COMPONENTS_FILE.find(inventory) == beside
    assert load_catalogue(inventory).path == beside
    monkeypatch.setenv("FLEETPATCH_COMPONENTS", str(tmp_path / "gone.yaml"))
    with pytest.raises(InventoryError, match="no such file, named by FLEETPATCH_COMPONENTS"):
        COMPONENTS_FILE.find(inventory)


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.chmod(0o666)
    with pytest.raises(InvalidComponents, match="not trusted"):
        load_component_file(path)


def test_the_schema_has_each_key() -> None:
    assert {"components", "canary_locations"} == ComponentFileForm.build_file_schema("components")["properties"].keys()
