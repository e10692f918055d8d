"""The cells that tables of updates and of machines share. It loads little: lists of a whole fleet are to be quick."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import to_safe_text
from tasks.domain.model import Update
from tasks.domain.states import ChangeState, HotpatchStatus
from tasks.reports.formatting import NO_FIGURE

_HOTPATCH_STYLES: Final[Mapping[StrEnum | None, str]] = {
    HotpatchStatus.ENABLED: "green",
    HotpatchStatus.PENDING: "cyan",
    HotpatchStatus.DISABLED: "yellow",
    HotpatchStatus.CANCELED: "yellow",
    HotpatchStatus.NOT_ENROLLED: "dim",
}

_CHANGE_STYLES: Final[Mapping[ChangeState, str]] = {
    ChangeState.BEGUN: "cyan",
    ChangeState.CHANGED: "green",
    ChangeState.UNCHANGED: "dim",
    ChangeState.PLANNED: "cyan",
    ChangeState.REFUSED: "yellow",
    ChangeState.FAILED: "bold red",
}


def render_change_state(state: ChangeState) -> Text:
    """Return what became of a change, in its colour."""
    return Text(state.value, style=_CHANGE_STYLES[state])


def render_hotpatch_status(status: StrEnum | None) -> Text:
    """Return a status in its colour."""
    return Text(status.value if status else NO_FIGURE, style=_HOTPATCH_STYLES.get(status, ""))


def render_update_name(update: Update) -> Text:
    """Return the name, with the title if that says more."""
    name = to_safe_text(update.name)
    return Text.assemble(name, " ", to_safe_text(update.title, "dim")) if update.title else name


def render_version_change(update: Update, after: str | None = None) -> Text:
    """Return "old → new"."""
    new = after if after is not None else update.available
    return Text.assemble(to_safe_text(update.installed or "(new)", "dim"), " → ", to_safe_text(new))


def render_classification(update: Update) -> Text:
    """Return the classification of an update; urgent ones are red."""
    return Text(update.classification, style="red" if update.classification.is_urgent else "")
