"""Templates and style sheets that pages and reports as files share, and what keeps both safe to open.

The environment escapes and sanitizes every value that a template writes, because texts come from machines, and a
machine may be hostile. A file is one page without scripts or external resources, and its Content-Security-Policy allows
only its own style sheet, by its hash. So even a mistake in a template cannot run a script or load a picture.
"""

import base64
import hashlib
import os
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Final

import platformdirs
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemBytecodeCache,
    PackageLoader,
    StrictUndefined,
    pass_context,
)
from jinja2.bccache import Bucket
from jinja2.runtime import Context
from markupsafe import Markup

from inventory.files.paths import ensure_private_directory, find_user_directory
from tasks.domain.errors import ReportError
from tasks.reports.data.groups import split_at_limit
from tasks.reports.formatting import (
    describe_minutes_range,
    describe_prediction_basis,
    format_count,
    format_known_duration,
    format_scope,
)
from tasks.reports.sanitizing import sanitize, sanitize_to_one_line
from tasks.rules.runs.figures import REBOOT_LABELS

STATIC_PACKAGE: Final = "tasks.reports.html"
"""Its folder ``static`` has the style sheets."""
_SHARED_STYLES: Final = ("colors", "drawing", "tables", "document")


def build_environment(*loaders: BaseLoader) -> Environment:
    """Return an environment with the shared templates and filters. Templates of ``loaders`` come first."""
    environment = Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("tasks.reports.html")]),
        autoescape=True,  # not select_autoescape: it does not know .j2
        undefined=StrictUndefined,
        bytecode_cache=_open_template_cache(),
        auto_reload=False,  # a template belongs to the code that is loaded, and each look for changes costs time
        finalize=_sanitize_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clip": _clip_text,
        "count": format_count,
        "duration": format_known_duration,
        "scope": format_scope,
    }
    environment.globals |= {
        "share": split_at_limit,
        "elsewhere": _find_full_table,
        "say_basis": describe_prediction_basis,
        "say_span": describe_minutes_range,
        "reboot_words": REBOOT_LABELS,
    }
    return environment


class _TemplateCache(FileSystemBytecodeCache):
    """Compiled templates: to compile them takes longer than to write the report of some machines.

    Without room, or without the right to read or write, templates are compiled each time.
    """

    def load_bytecode(self, bucket: Bucket) -> None:
        """Read a template."""
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write a template."""
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _open_template_cache() -> _TemplateCache | None:
    """Return the cache in the user's cache folder; None if others may write there, because its content is executed."""
    try:
        folder = find_user_directory(platformdirs.user_cache_path, ReportError, "") / "templates"
        ensure_private_directory(folder)
        status = folder.stat()
    except (ReportError, OSError):
        return None
    is_private = os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)
    return _TemplateCache(str(folder)) if is_private else None


@pass_context
def _clip_text(context: Context, text: str) -> str:
    return sanitize_to_one_line(text, context["detail"].text_characters)


@pass_context
def _find_full_table(context: Context, table: str) -> str:
    """Return the place of the complete table: a file ``beside`` the page, or the records."""
    for kind, file_name in (("csv", f"{table}.csv"), ("json", "report.json"), ("parquet", f"{table}.parquet")):
        if kind in context["beside"]:
            return file_name
    return "the records"


def _sanitize_value(value: object) -> object:
    """Sanitize a value that a template writes. Markup is HTML of our own."""
    return sanitize(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def load_style(name: str) -> tuple[Markup, str]:
    """Return the style sheet of a file, and the Content-Security-Policy that allows nothing but this style sheet.

    Args:
        name: the name of its own part, after those that all files have.
    """
    folder = files(STATIC_PACKAGE) / "static" / "css"
    text = "\n".join((folder / f"{part}.css").read_text("utf-8").strip() for part in (*_SHARED_STYLES, name))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy  # noqa: S704  our own files
