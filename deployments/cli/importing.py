"""Reads Azure's files for `config import-azure`, and makes sure that what is written can be read again."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deployments.config.azure import Imported, import_azure
from deployments.config.errors import InvalidConfigurations
from deployments.config.load import load_configurations
from deployments.config.writing import yaml_text
from inventory.errors import InventoryError
from inventory.places import Problems, read_text
from inventory.scope import Scope
from tasks.seams.clock import SystemClock


def read_azure(files: Sequence[Path], scope: str | None) -> Imported:
    """Return our configurations for those in files.

    Raises:
        InventoryError: a file can't be read, is no JSON, or has no configuration that makes sense; or the scope
            makes none.
    """
    if scope is not None:
        Scope.parse(scope)
    everything = Imported()
    for file in files:
        problems = Problems()
        text = read_text(file, problems)
        problems.raise_any()
        try:
            import_azure(_decoded(text or ""), file.stem, scope, everything)
        except RecursionError as error:
            raise InventoryError("this nests too deeply", file=file, hint="Give what `az` prints.") from error
        except InventoryError as error:
            raise InventoryError(error.message, file=file, hint=error.hint) from error
        everything.origins += [file] * (len(everything.configurations) - len(everything.origins))
    return everything


def _decoded(text: str) -> object:
    try:
        data: object = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # half a character can't be written to a file
    except UnicodeEncodeError as error:
        raise InventoryError("it holds half a character (\\ud800)", hint="Correct that name or value.") from error
    except json.JSONDecodeError as error:
        raise InventoryError(
            f"line {error.lineno}: this is no JSON: {error.msg}", hint="Print it with -o json."
        ) from error
    except ValueError as error:  # a number of thousands of digits
        hint = "Correct that number; Azure writes none that is so long."
        raise InventoryError(f"this is no JSON that can be used: {error}", hint=hint) from error
    return data


def whole_text(imported: Imported, output: Path | None) -> str:
    """Return the file for what was imported, read back once.

    Raises:
        InvalidConfigurations: Azure's configuration holds something that makes no sense here.
    """
    text = yaml_text(imported.configurations, imported.notes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / (output.name if output and output.suffix else "imported.yaml")
        file.write_text(text, encoding="utf-8")
        try:
            load_configurations(file, SystemClock().now().date())
        except InvalidConfigurations as error:
            raise InvalidConfigurations([_at_origin(each, imported) for each in error.problems]) from error
    return text


def _at_origin(problem: InventoryError, imported: Imported) -> InventoryError:
    """Return a fault with Azure's file as its place: the one that was read back is a temporary one."""
    words = problem.message.partition(f"{problem.key}: ")[2] or problem.message
    _, number, *_ = *(problem.key or "").split("."), "", ""
    place = imported.origins[int(number)] if number.isdigit() else imported.origins[0]
    return InventoryError(words, file=place, key=problem.key, hint=problem.hint)
