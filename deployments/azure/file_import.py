"""Reads Azure's files for `config import-azure`, writes the result as YAML, and checks that it can be loaded."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from deployments.azure.converter import AzureImport, convert_azure_document
from deployments.configuration.loader import InvalidConfigurations, load_configurations
from inventory.errors import InventoryError
from inventory.files.problems import ProblemCollector
from inventory.files.text_files import read_text_file
from inventory.scope import Scope
from tasks.domain.protocols.clock import SystemClock


def import_azure_files(files: Sequence[Path], scope: str | None) -> AzureImport:
    """Convert the configurations in files.

    Raises:
        InventoryError: a file can't be read, is not JSON, or has no valid configuration; or the scope is invalid.
    """
    if scope is not None:
        Scope.parse(scope)
    result = AzureImport()
    for file in files:
        problems = ProblemCollector()
        text = read_text_file(file, problems)
        problems.raise_if_any()
        try:
            convert_azure_document(_parse_json(text or ""), file.stem, scope, result)
        except RecursionError as error:
            raise InventoryError("this nests too deeply", file=file, hint="Give what `az` prints.") from error
        except InventoryError as error:
            raise InventoryError(error.message, file=file, hint=error.hint) from error
        result.source_files += [file] * (len(result.configurations) - len(result.source_files))
    return result


def _parse_json(text: str) -> object:
    try:
        data: object = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # an unpaired surrogate can't be written to a file
    except UnicodeEncodeError as error:
        raise InventoryError("it holds half a character (\\ud800)", hint="Correct that name or value.") from error
    except json.JSONDecodeError as error:
        raise InventoryError(
            f"line {error.lineno}: this is no JSON: {error.msg}", hint="Print it with -o json."
        ) from error
    except ValueError as error:  # a number with thousands of digits
        hint = "Correct that number; Azure writes none that is so long."
        raise InventoryError(f"this is no JSON that can be used: {error}", hint=hint) from error
    return data


def render_configurations(azure_import: AzureImport, output: Path | None) -> str:
    """Return the YAML file of the imported configurations. Load it once to check it.

    Raises:
        InvalidConfigurations: Azure's configuration has a value that fleetpatch rejects.
    """
    text = render_yaml(azure_import.configurations, azure_import.notes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / (output.name if output and output.suffix else "imported.yaml")
        file.write_text(text, encoding="utf-8")
        try:
            load_configurations(file, SystemClock().now().date())
        except InvalidConfigurations as error:
            raise InvalidConfigurations(
                [_with_source_file(problem, azure_import) for problem in error.problems]
            ) from error
    return text


def _with_source_file(problem: InventoryError, azure_import: AzureImport) -> InventoryError:
    """Return a problem with the place in Azure's file. The check has loaded a temporary file."""
    message = problem.message.partition(f"{problem.key}: ")[2] or problem.message
    _, number, *_ = *(problem.key or "").split("."), "", ""
    source_file = azure_import.source_files[int(number)] if number.isdigit() else azure_import.source_files[0]
    return InventoryError(message, file=source_file, key=problem.key, hint=problem.hint)


class _ConfigurationDumper(yaml.SafeDumper):
    """YAML dumper that indents lists and writes no anchors or aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return True, so that no value gets an anchor."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent each list deeper than its key."""
        super().increase_indent(flow, False)  # noqa: FBT003


def render_yaml(configurations: Sequence[dict[str, object]], remarks: Sequence[str]) -> str:
    """Return the YAML file of configurations in the form of their file, with remarks as comments at its top."""
    lines = [f"# {' '.join(remark.split())}" for remark in remarks]
    data = configurations[0] if len(configurations) == 1 else {"configurations": list(configurations)}
    body = yaml.dump(data, Dumper=_ConfigurationDumper, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*lines, body])
