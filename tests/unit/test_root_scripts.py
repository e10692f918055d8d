"""The page of what runs as root on a machine: it is that of the scripts, and their heads are true."""

from pathlib import Path

import pytest

from tests.ci.root_scripts import NOTHING, PAGE, build_page, find_changing_starts, find_started_files, read_head


@pytest.mark.parametrize("file", find_started_files(), ids=lambda file: file.name)
def test_each_script_says_its_purpose_its_step_and_what_it_changes(file: Path) -> None:
    script = read_head(file)
    assert len(script.purpose) < 160
    assert "|" not in script.purpose + script.changes


def test_the_page_is_that_of_the_scripts() -> None:
    assert PAGE.read_text() == build_page(), "write it anew: python -m tests.ci.root_scripts --write"


def test_a_script_that_changes_nothing_is_never_started_as_one_that_does() -> None:
    quiet = {file.stem for file in find_started_files() if read_head(file).changes == NOTHING}
    starts = list(find_changing_starts())
    assert len(starts) > 15
    assert [(file.name, name) for file, name in starts if name in quiet] == []
    assert not [name for name in quiet if name.endswith("_job")]


def test_a_script_without_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sh").write_text("#!/bin/sh\n# Reads something.\n# Step: assess\n")
    with pytest.raises(ValueError, match="its first comment lacks"):
        read_head(tmp_path / "x.sh")
