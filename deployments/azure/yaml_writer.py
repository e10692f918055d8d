"""Writes configurations as YAML text."""

from collections.abc import Sequence

import yaml

SCHEMA_COMMENT = "# yaml-language-server: $schema={}"


class _ConfigurationDumper(yaml.SafeDumper):
    """YAML dumper that indents lists and writes no anchors or aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return True, so that no value gets an anchor."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent each list deeper than its key."""
        super().increase_indent(flow, False)  # noqa: FBT003


def render_yaml(configurations: Sequence[dict[str, object]], remarks: Sequence[str]) -> str:
    """Return the YAML file of configurations.

    Args:
        configurations: configurations in the form of their file.
        remarks: comments at the top of the file.
    """
    lines = [f"# {' '.join(remark.split())}" for remark in remarks]
    data = configurations[0] if len(configurations) == 1 else {"configurations": list(configurations)}
    body = yaml.dump(data, Dumper=_ConfigurationDumper, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*lines, body])
