"""Makes the paths of a configuration file absolute, so that the working directory does not matter."""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from flows.request.policies import MAX_REFERENCE_LENGTH, NotifyRequest
from inventory.errors import InventoryError
from inventory.files.paths import expand_home
from inventory.files.problems import LocatedData, ProblemCollector


def resolve_paths(
    form: BaseModel, keys: Sequence[str], located: LocatedData, problems: ProblemCollector
) -> dict[str, Path]:
    """Return the absolute paths of those keys that are given. A relative path starts in the folder of the file."""
    base = located.locate().file.parent.absolute()
    paths: dict[str, Path] = {}
    for key in keys:
        given_path: Path | None = getattr(form, key)
        if given_path is None:
            continue
        try:
            paths[key] = Path(os.path.normpath(base / expand_home(given_path)))
        except InventoryError as error:
            problems.add(located.locate((key,)), error.message, error.hint)
    return paths


def resolve_notifications(
    notifications: Sequence[NotifyRequest], located: LocatedData, problems: ProblemCollector
) -> list[NotifyRequest]:
    """Return notifications with absolute paths. A run starts in its own folder, so a relative path would fail."""
    base = located.locate().file.parent.absolute()
    return [
        _resolve_notification(target, number, base, located, problems) for number, target in enumerate(notifications)
    ]


def _resolve_notification(
    notification: NotifyRequest, number: int, base: Path, located: LocatedData, problems: ProblemCollector
) -> NotifyRequest:
    kind, _, target = notification.to.partition(":")
    if kind != "file" or target.startswith(("/", "~")):
        return notification
    whole = f"file:{os.path.normpath(base / target)}"
    if len(whole) > MAX_REFERENCE_LENGTH:
        message = f"from the folder of this file on, the path has more than {MAX_REFERENCE_LENGTH} characters"
        problems.add(located.locate(("notify", number, "to")), message, "Move the file to a shorter path.")
    return notification.model_copy(update={"to": whole})
