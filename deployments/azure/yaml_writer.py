"""Configurations as YAML text."""

from collections.abc import Sequence

import yaml

SCHEMA_COMMENT = "# yaml-language-server: $schema={}"


class _ConfigurationDumper(yaml.SafeDumper):
    """Writes as people do: lists are indented, and what stands twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return that nothing gets an anchor."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Never write a list as far left as its key."""
        super().increase_indent(flow, False)  # noqa: FBT003


def render_yaml(configurations: Sequence[dict[str, object]], remarks: Sequence[str]) -> str:
    """Return a file of configurations.

    Args:
        configurations: as their files have them.
        remarks: comments at its beginning.
    """
    lines = [f"# {' '.join(remark.split())}" for remark in remarks]
    data = configurations[0] if len(configurations) == 1 else {"configurations": list(configurations)}
    body = yaml.dump(data, Dumper=_ConfigurationDumper, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*lines, body])
