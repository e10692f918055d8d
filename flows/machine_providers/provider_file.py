"""The format of providers.yaml, which says who holds the disks of machines, and where the file is found."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from flows.request.base import FormModel
from inventory.addresses import canonicalize_address, parse_tcp_target
from inventory.errors import InvalidFiles, InvalidInventory
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.problems import ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_text_file
from inventory.machine import Inventory
from inventory.machine_providers import ProviderKind, ProviderSettings
from inventory.named_files import PROVIDERS_FILE
from inventory.schema.validation import validate_mapping
from inventory.schema.value_types import build_validation_error

_REQUIRED_KEYS: Final[Mapping[ProviderKind, tuple[str, ...]]] = {
    ProviderKind.LIBVIRT: ("host",),
    ProviderKind.LVM: (),
    ProviderKind.BTRFS: (),
    ProviderKind.COMMAND: ("command",),
}
_OPTIONAL_KEYS: Final[Mapping[ProviderKind, tuple[str, ...]]] = {
    ProviderKind.LIBVIRT: ("uri", "folder", "repositories"),
    ProviderKind.LVM: (),
    ProviderKind.BTRFS: (),
    ProviderKind.COMMAND: (),
}


class InvalidProviders(InvalidFiles):
    """All problems of a file of providers. No provider is asked until they are corrected."""

    subject = "providers"


def _refuse_missing_kind(value: object) -> object:
    if value in ("aws", "azure", "proxmox", "vsphere"):
        hint = "Write `kind: command`, and a command of your own: docs/reference/providers.md."
        raise build_validation_error(f"fleetpatch has no provider of kind {value!r}", hint)
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]


def validate_repository(text: str) -> str:
    """Return HOST:PORT: a name or an IPv4 address. A copy has no IPv6."""
    hint = "Write it as packages.example.com:443 or 10.0.0.5:80."
    try:
        host, port = parse_tcp_target(text)
    except ValueError as error:
        raise build_validation_error(f"{text!r} can't be a repository: {error}", hint) from error
    if not host or not host.isascii() or ":" in host:
        raise build_validation_error(f"{text!r} can't be a repository: it begins with no name or IPv4 address", hint)
    return f"{canonicalize_address(host)}:{port}"


class ProviderForm(FormModel):
    """One provider."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="Machines name it under `provider`."
    )
    kind: Annotated[ProviderKind, BeforeValidator(_refuse_missing_kind)] = Field(description="The kind of provider.")
    host: Text | None = Field(default=None, description="The machine of the inventory on which it is asked.")
    uri: Text | None = Field(default=None, description="The connection URI of libvirt. Empty: its own default.")
    command: Text | None = Field(
        default=None, description="Your command on the controller. It reads an order as JSON, and answers in JSON."
    )
    folder: Text | None = Field(default=None, description="Where new and kept disks are put. Empty: beside the disk.")
    repositories: list[Annotated[str, AfterValidator(validate_repository)]] | None = Field(
        default=None,
        max_length=20,
        description="The package repositories that the copy of a machine may reach in a rehearsal: HOST:PORT.",
    )
    timeout_minutes: float = Field(default=15, gt=0, le=240, description="How long one order may take, in minutes.")


class ProviderFileForm(FormModel):
    """The whole file."""

    providers: list[ProviderForm] = Field(
        default=[], max_length=200, description="The providers that hold the disks of machines."
    )


def load_providers(inventory: Inventory) -> dict[str, ProviderSettings]:
    """Load the providers of this controller by their names; without a file, none.

    Raises:
        InvalidProviders: the file can't be read or has problems. The error has each with its place and its hint.
        InventoryError: see NamedFile.find.
    """
    path = PROVIDERS_FILE.find(inventory.source)
    if path is None:
        return {}
    problems = ProblemCollector()
    try:
        providers = _read_providers(path, inventory, problems)
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidProviders(error.problems) from error
    return providers


def _read_providers(path: Path, inventory: Inventory, problems: ProblemCollector) -> dict[str, ProviderSettings]:
    text = read_text_file(path, problems)
    located = parse_yaml(path, text, problems) if text is not None else None
    if located is None:
        if not problems:
            problems.add(SourceLocation(path), "this file is empty", "Begin it with `providers:`, or remove it.")
        return {}
    form = validate_mapping(ProviderFileForm, located, problems, "`providers:`")
    if form is None or problems:
        return {}
    providers: dict[str, ProviderSettings] = {}
    names = [machine.name for machine in inventory.machines]
    for provider, entry in zip(form.providers, iterate_entries(located, "providers", problems), strict=True):
        if provider.name in providers:
            problems.add(entry.locate(("name",)), f"the provider {provider.name!r} is here a second time", "Rename it.")
        for key, message, hint in _find_faults(provider, names):
            problems.add(entry.locate((key,)), f"{provider.name}: {message}", hint)
        values = provider.model_dump(exclude_none=True)
        if "repositories" in values:
            values["repositories"] = tuple(values["repositories"])
        providers[provider.name] = ProviderSettings(**values)
    return providers


def _find_faults(form: ProviderForm, machine_names: list[str]) -> Iterator[tuple[str, str, str]]:
    required, optional = _REQUIRED_KEYS[form.kind], _OPTIONAL_KEYS[form.kind]
    for key in required:
        if getattr(form, key) is None:
            yield key, f"`kind: {form.kind}` needs `{key}`", f"Give `{key}`."
    allowed = {"name", "kind", "timeout_minutes", *required, *optional}
    for key in sorted(form.model_fields_set - allowed):
        yield key, f"`{key}` is not for `kind: {form.kind}`", f"Remove it. Its keys are: {', '.join(sorted(allowed))}."
    if form.host is not None and form.host not in machine_names:
        yield "host", f"no machine of the inventory is called {form.host!r}", did_you_mean(form.host, machine_names)
