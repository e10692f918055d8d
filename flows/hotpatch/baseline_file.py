"""Reads the file of unplanned baselines, which people keep: $FLEETPATCH_HOTPATCH_BASELINES."""

import os
from datetime import date
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from inventory.errors import InvalidInventory
from inventory.files.located_yaml import parse_yaml
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.files.text_files import read_text_file
from inventory.schema.validation import validate_mapping
from tasks.domain.errors import RequestError
from tasks.rules.hotpatch import Baseline, BaselineCalendar

BASELINES_VARIABLE: Final = "FLEETPATCH_HOTPATCH_BASELINES"


class _BaselineForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    day: date
    reason: str = Field(min_length=1, max_length=500)
    source: str = Field(default="", max_length=500)
    builds: tuple[str, ...] = ()


class _BaselineFileForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    as_of: date
    baselines: tuple[_BaselineForm, ...] = ()


def load_baseline_calendar() -> BaselineCalendar:
    """Return the calendar of baselines; only planned ones without a file.

    Raises:
        RequestError: the file can't be read, or is not valid.
    """
    path_text = os.environ.get(BASELINES_VARIABLE, "")
    return read_baseline_file(Path(path_text)) if path_text else BaselineCalendar()


def read_baseline_file(path: Path) -> BaselineCalendar:
    """Return the calendar with the unplanned baselines of a file.

    Raises:
        RequestError: the file can't be read, or is not valid; it names every fault with its place and its remedy.
    """
    problems = ProblemCollector()
    document = _read_document(path, problems)
    try:
        problems.raise_if_any()
    except InvalidInventory as error:
        lines = [f"{problem.message}\n    {problem.hint}" for problem in error.problems]
        hint = f"${BASELINES_VARIABLE} names the file. docs/how-to/hotpatch.md shows its form."
        raise RequestError("\n".join(["the list of unplanned baselines is not valid:", *lines]), hint=hint) from error
    unplanned = [
        Baseline(baseline.day, baseline.reason, baseline.source, baseline.builds) for baseline in document.baselines
    ]
    return BaselineCalendar(tuple(sorted(unplanned)), document.as_of, str(path))


def _read_document(path: Path, problems: ProblemCollector) -> _BaselineFileForm:
    """Return what a file says; with problems, something that is not used."""
    nothing = _BaselineFileForm(as_of=date.min)
    text = read_text_file(path, problems)
    if text is None:
        return nothing
    located = parse_yaml(path, text, problems)
    if located is None:
        if not problems:
            problems.add(SourceLocation(path), "this file is empty", "Write `as_of:` and `baselines:`.")
        return nothing
    return validate_mapping(_BaselineFileForm, located, problems, "`as_of:` and `baselines:`") or nothing
