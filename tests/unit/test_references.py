"""Which files refer to a file, as tests.ci.near asks."""

import pytest

from tests.ci.references import COMMON, References, name_module

APT = "tasks/machines/managers/apt/scripts/apt_job.sh"


def _refer(texts: dict[str, str], *others: str, imports: tuple[tuple[str, str], ...] = ()) -> References:
    return References(texts, {*texts, *others}, imports)


@pytest.mark.parametrize(
    ("file", "module"), [("tasks/domain/model.py", "tasks.domain.model"), ("tasks/rules/__init__.py", "tasks.rules")]
)
def test_a_module_has_the_name_that_imports_use(file, module):
    assert name_module(file) == module


def test_an_import_refers_to_a_module():
    texts = {"tasks/domain/model.py": "", "flows/patch.py": ""}
    references = _refer(texts, imports=(("flows.patch", "tasks.domain.model"), ("flows.patch", "prefect")))
    assert references.find_referrers("tasks/domain/model.py") == {"flows/patch.py"}
    assert references.find_referrers("flows/patch.py") == set()


@pytest.mark.parametrize(
    "text",
    [
        'monkeypatch.setattr("flows.execution.ports.open_ports", None)',
        '[sys.executable, "-m", "flows.execution.ports"]',
        'Path("flows/execution/ports.py:run")',
        'HERE / "execution" / "ports.py"',
    ],
)
def test_a_name_in_a_text_refers_to_the_longest_module(text):
    texts = {"flows/execution/__init__.py": "", "flows/execution/ports.py": "", "tests/unit/test_x.py": text}
    references = _refer(texts)
    assert references.find_referrers("flows/execution/ports.py") == {"tests/unit/test_x.py"}
    assert references.find_referrers("flows/execution/__init__.py") == set()


def test_the_end_of_a_path_that_two_files_have_refers_to_neither():
    references = _refer({"flows/a/x.py": "", "flows/b/x.py": "", "tests/unit/test_x.py": '"x.py"'})
    assert references.find_referrers("tests/unit/test_x.py") == set()
    assert references.find_referrers("flows/a/x.py") == set()


def test_a_module_that_is_gone_is_referred_to_by_name():
    references = _refer({"tests/unit/test_x.py": "from flows.gone import run"}, "flows/gone.py")
    assert references.find_referrers("flows/gone.py") == {"tests/unit/test_x.py"}


def test_the_tests_of_a_folder_use_its_fixtures():
    texts = dict.fromkeys(
        ["tests/conftest.py", "tests/lab/conftest.py", "tests/lab/test_a.py", "tests/lab/windows/test_b.py"], ""
    )
    references = _refer({**texts, "tests/lab/fleet.py": "", "tests/unit/test_c.py": ""})
    assert references.find_referrers("tests/lab/conftest.py") == {"tests/lab/test_a.py", "tests/lab/windows/test_b.py"}
    assert references.find_referrers("tests/conftest.py") == set()


def test_a_package_is_executed_before_what_is_in_it():
    references = _refer(dict.fromkeys(["flows/a/__init__.py", "flows/a/x.py", "flows/a/b/y.py", "flows/ab.py"], ""))
    assert references.find_submodules("flows/a/__init__.py") == {"flows/a/x.py", "flows/a/b/y.py"}
    assert references.find_submodules("flows/a/x.py") == set()


def test_code_that_nothing_imports_is_loaded_by_its_folder():
    references = _refer(
        {"tasks/records/setup.py": 'Path(__file__).with_name("migrations")'}, "tasks/records/migrations/v0001.py"
    )
    assert references.find_referrers("tasks/records/migrations/v0001.py") == {"tasks/records/setup.py"}


def test_a_script_is_named_by_code_and_required_by_scripts():
    texts = {
        APT: "# Requires: job_common, lock\nlock()",
        "tasks/machines/scripts/posix/job_common.sh": "# apt_job begins with this, and with a lock",
        "tasks/machines/scripts/posix/lock.sh": "",
        "tasks/machines/scripts/windows/machine_lock.ps1": "# Requires: lock",
        "tasks/machines/managers/apt/manager.py": 'Script("apt_job")',
        "tasks/machines/scripts.py": "brings the lock = None",
        "tasks/locks.py": 'Script("lock")',
    }
    references = _refer(texts)
    assert references.find_referrers(APT) == {"tasks/machines/managers/apt/manager.py"}
    assert references.find_referrers("tasks/machines/scripts/posix/job_common.sh") == {APT}
    assert references.find_referrers("tasks/machines/scripts/posix/lock.sh") == {APT, "tasks/locks.py"}


def test_a_template_is_named_by_templates_and_code():
    texts = {
        "fleetpatch/pages/templates/parts.html.j2": "",
        "fleetpatch/pages/templates/run.html.j2": '{% from "parts.html.j2" import head %}',
        "fleetpatch/pages/run.py": 'render("run.html.j2")',
        "fleetpatch/pages/other.py": 'render("overrun.html.j2")',
    }
    references = _refer(texts)
    assert references.find_referrers("fleetpatch/pages/templates/parts.html.j2") == {
        "fleetpatch/pages/templates/run.html.j2"
    }
    assert references.find_referrers("fleetpatch/pages/templates/run.html.j2") == {"fleetpatch/pages/run.py"}


def test_a_name_that_several_files_have_counts_with_its_folder():
    texts = {"tests/unit/test_x.py": 'TOP / "docs" / "README.md"', "tests/unit/test_y.py": 'TOP / "README.md"'}
    references = _refer(texts, "docs/README.md", "README.md")
    assert references.find_referrers("docs/README.md") == {"tests/unit/test_x.py"}
    assert references.find_referrers("README.md") == {"tests/unit/test_y.py"}


def test_a_test_that_looks_at_all_files_of_a_suffix_refers_to_each():
    texts = {
        "tests/unit/test_x.py": 'path.suffix == ".md"',
        "tests/unit/test_y.py": 'docs.rglob("*.md")',
        "tests/unit/test_z.py": '"a.md"',
        "flows/x.py": '".md"',
    }
    references = _refer(texts, "docs/how-to/recover.md")
    assert references.find_referrers("docs/how-to/recover.md") == {"tests/unit/test_x.py", "tests/unit/test_y.py"}


def test_recorded_answers_are_named_by_their_stem_or_read_by_folder():
    texts = {
        "tests/unit/test_x.py": 'read("debian-12", "assess")',
        "tests/unit/test_y.py": 'DATA / "live_patches"',
    }
    references = _refer(texts, "tests/data/apt/debian-12.assess.json", "tests/data/live_patches/none.json")
    assert references.find_referrers("tests/data/apt/debian-12.assess.json") == {"tests/unit/test_x.py"}
    assert references.find_referrers("tests/data/live_patches/none.json") == {"tests/unit/test_y.py"}


def test_a_common_word_says_nothing():
    texts = {f"tests/unit/test_{number}.py": 'write("fleet.yaml")' for number in range(COMMON + 1)}
    references = _refer(texts, "tests/data/fleet.yaml")
    assert references.find_referrers("tests/data/fleet.yaml") == set()


def test_documents_and_plain_words_refer_to_nothing():
    references = _refer({"tests/unit/test_x.py": "all of a run"}, "docs/x.md", ".ci/run", "group_vars/all")
    for file in ("docs/x.md", ".ci/run", "group_vars/all"):
        assert references.find_referrers(file) == set()
