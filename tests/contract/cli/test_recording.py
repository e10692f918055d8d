"""doctor --record: one machine, a new folder, none of its names."""

import json
from pathlib import Path

import pytest

from tasks.domain.errors import ManagerBusy
from tests.contract.cli.conftest import Stage, security
from tests.support.bundles import Bundle


def read_all(folder: Path) -> str:
    return "".join(f"{path.name} {path.read_text()}" for path in folder.iterdir())


def test_what_fails_is_recorded_too_and_no_name_is_in_it(stage: Stage, tmp_path: Path) -> None:
    machine = stage.add("payroll-7", security("openssl"))
    machine.answer("names", {"kind": "name", "of": "user", "value": "svc-patch"})
    machine.fail(ManagerBusy("another process works: payroll-7"), on="fake_assess")
    said = stage.run("doctor", "payroll-7", "--record", "new/bundle")
    assert said.code == 1, said
    assert "Without an answer: fake_assess" in said.out
    assert "Read the files before you give them to anybody" in said.out
    bundle = tmp_path / "new" / "bundle"
    text = read_all(bundle)
    assert "payroll-7" not in text
    facts, packages, *_ = Bundle.read(bundle).answers
    assert (facts.script, facts.error, str(packages.error)) == ("facts", None, "another process works: host-1")
    again = stage.run("doctor", "payroll-7", "--record", "new/bundle")
    assert (again.code, "not empty" in again.err) == (2, True)
    assert read_all(bundle) == text


def test_json_has_what_was_recorded(stage: Stage, tmp_path: Path) -> None:
    machine = stage.add("server", security("openssl"))
    machine.answer("names", ())
    machine.fail(ManagerBusy("another process works"), on="fake_assess")
    said = stage.run("doctor", "server", "--record", str(tmp_path / "bundle"), "--json")
    recorded = said.json["recorded"]
    assert (recorded["folder"], recorded["failed"]) == (str(tmp_path / "bundle"), ["fake_assess"])
    assert recorded["kept"] == ["server"]  # it would be replaced in "Windows Server", too
    assert recorded["knowsOwnNames"] is False
    about = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert (about["machine"], about["replaced"]) == ("server", recorded["replaced"])
    assert [each["file"] for each in about["scripts"]] == ["machine.facts.json", None, "machine.facts-2.json"]


def test_a_machine_that_does_not_answer_leaves_no_folder_and_no_good_exit_code(stage: Stage, tmp_path: Path) -> None:
    stage.add("gone", security("openssl")).cut(1e9)
    said = stage.run("doctor", "gone", "--record", "bundle")
    assert (said.code, "Nothing was recorded" in said.out) == (1, True)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("*",), "records one machine, and the scope has 2"),
        (("a", "--here"), "--here and --server ask none"),
        (("a", "--server"), "--here and --server ask none"),
    ],
)
def test_what_can_not_be_recorded_is_said_before_anything_is_asked(
    stage: Stage, words: tuple[str, ...], problem: str
) -> None:
    machines = [stage.add(name) for name in ("a", "b")]
    said = stage.run("doctor", *words, "--record", "bundle")
    assert (said.code, problem in " ".join(said.err.split())) == (2, True), said
    assert [each.calls for each in machines] == [[], []]
