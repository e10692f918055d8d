"""What a large inventory costs: the commands that only read load it at each start."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from inventory.files import located_yaml, problems
from inventory.loader import load_inventory

MACHINES = 200


def test_values_without_a_problem_get_no_place_and_the_text_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    make_place, compose = problems.SourceLocation, yaml.compose

    def count_place(*args: object) -> problems.SourceLocation:
        counts["places"] += 1
        return make_place(*args)  # type: ignore[arg-type]

    def count_compose(*args: object, **options: object) -> yaml.Node | None:
        counts["composed"] += 1
        return compose(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(located_yaml, "SourceLocation", count_place)
    monkeypatch.setattr(problems, "SourceLocation", count_place)
    monkeypatch.setattr(yaml, "compose", count_compose)
    monkeypatch.setattr(yaml, "parse", lambda *_, **__: pytest.fail("the text is parsed a second time"))
    lines = [f"  - {{name: m{number}, environment: prod, tags: {{ring: r{number}}}}}" for number in range(MACHINES)]
    (tmp_path / "fleet.yaml").write_text("\n".join(["machines:", *lines, ""]))
    assert len(load_inventory(tmp_path / "fleet.yaml").machines) == MACHINES
    assert counts["composed"] == 1
    assert counts["places"] < MACHINES / 10


def test_deep_nesting_is_refused_at_the_level_that_is_too_deep() -> None:
    for depth, is_refused in ((located_yaml.MAX_DEPTH, False), (located_yaml.MAX_DEPTH + 1, True)):
        noted = problems.ProblemCollector()
        located_yaml.parse_yaml(Path("x.yaml"), "[" * depth + "]" * depth, noted)
        assert bool(noted) is is_refused
