"""Every bundle in tests/data/bundles plays: its answers are understood, and mean what its wanted.json says.

tests/data/bundles/README.md says how a bundle gets there.
"""

import json
from pathlib import Path

import pytest

from tests.support.bundles import Bundle, summarize

BUNDLES = sorted(path.parent for path in (Path(__file__).parents[2] / "data" / "bundles").glob("*/bundle.json"))


def test_there_is_one_with_a_search_that_was_refused_to_the_login() -> None:
    asked = [(each.script, each.as_job) for folder in BUNDLES for each in Bundle.read(folder).answers]
    assert {("wua_assess", False), ("wua_assess", True)} <= set(asked)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_a_bundle_plays(folder: Path) -> None:
    summary = summarize(Bundle.read(folder))
    wanted = folder / "wanted.json"
    if wanted.exists():
        assert summary == json.loads(wanted.read_text(encoding="utf-8")), json.dumps(summary, indent=1)
