"""The file that says how people log in: `fleetpatch web --logins FILE`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from fleetpatch.access.roles import parse_limited_role
from inventory.errors import InventoryError
from inventory.files.located_yaml import parse_yaml
from inventory.files.problems import ProblemCollector
from inventory.files.text_files import read_text_file
from inventory.schema.validation import StrictModel, validate_mapping
from inventory.schema.value_types import PasswordReference, build_validation_error
from tasks.domain.errors import RequestError
from tasks.rules.policy.login_names import fold_ascii

DEFAULT_CHECK_MINUTES: Final = 15


def _validate_issuer(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise build_validation_error(f"{value!r} is no issuer", "Give its https address, as the provider writes it.")
    return value


def _validate_ldap_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise build_validation_error(f"{value!r} is no LDAP server", "Give ldaps://HOST, or ldap://HOST for StartTLS.")
    return value


def _validate_filter(value: str) -> str:
    if value.count("{name}") != 1 or not (value.startswith("(") and value.endswith(")")):
        hint = "Write {name} where the name of the login stands: (uid={name})"
        raise build_validation_error(f"{value!r} is no filter of users", hint)
    return value


def _validate_role(value: str) -> str:
    try:
        parse_limited_role(value)
    except InventoryError as error:
        raise build_validation_error(error.message, error.hint) from error
    return value


class OidcEntry(StrictModel):
    """An OpenID Connect provider.

    Attributes:
        issuer: its address.
        client_id: the name of these pages there.
        client_secret: a reference.
        title: what the login page calls it.
        scopes: what is asked for.
        name_claim: the claim with the person's name.
        groups_claim: the claim with the groups.
        ca: a PEM file with the authority of its certificate; None: those of the system.
    """

    issuer: Annotated[str, AfterValidator(_validate_issuer)]
    client_id: str = Field(min_length=1)
    client_secret: PasswordReference
    title: str = Field("single sign-on", min_length=1, max_length=60)
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    ca: Path | None = None


class LdapEntry(StrictModel):
    """An LDAP server, or Active Directory.

    Attributes:
        url: ldaps://HOST[:PORT], or ldap://HOST[:PORT]: then StartTLS comes first.
        bind_dn: the account that searches.
        bind_password: a reference.
        base: where people are.
        user_filter: finds a person; "{name}" is the name of the login.
        name_attribute: the attribute with the person's name.
        group_filter: finds the groups of a person; "{dn}" is the person. "": they are in ``member_of``.
        group_base: where groups are; "": as people.
        group_attribute: the attribute with the name of a group.
        member_of: the attribute of a person with the DNs of the groups.
        title: what the login page calls it.
        ca: a PEM file with the authority of its certificate; None: those of the system.
    """

    url: Annotated[str, AfterValidator(_validate_ldap_url)]
    bind_dn: str = Field(min_length=1)
    bind_password: PasswordReference
    base: str = Field(min_length=1)
    user_filter: Annotated[str, AfterValidator(_validate_filter)] = "(&(objectClass=person)(uid={name}))"
    name_attribute: str = "uid"
    group_filter: str = "(&(objectClass=groupOfNames)(member={dn}))"
    group_base: str = ""
    group_attribute: str = "cn"
    member_of: str = "memberOf"
    title: str = Field("your account", min_length=1, max_length=60)
    ca: Path | None = None


class RolesEntry(StrictModel):
    """The roles of a group."""

    group: str = Field(min_length=1)
    roles: list[Annotated[str, AfterValidator(_validate_role)]] = Field(min_length=1)


class LoginFile(StrictModel):
    """How people log in.

    Attributes:
        roles: the roles of groups. People without one can't log in.
        check_minutes: how often a provider is asked whether a session still holds.
    """

    oidc: OidcEntry | None = None
    ldap: LdapEntry | None = None
    roles: list[RolesEntry] = Field(min_length=1)
    check_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = DEFAULT_CHECK_MINUTES

    @model_validator(mode="after")
    def _require_provider(self) -> "LoginFile":
        if self.oidc is None and self.ldap is None:
            raise build_validation_error("no provider is given", "Write oidc: or ldap:.")
        return self

    def list_group_roles(self, groups: Iterable[str], *, is_case_ignored: bool = False) -> tuple[str, ...]:
        """Return the roles that groups give, each once. This is the one place where groups become roles."""
        fold = fold_ascii if is_case_ignored else str
        folded_groups = {fold(group) for group in groups}
        roles = (role for entry in self.roles if fold(entry.group) in folded_groups for role in entry.roles)
        return tuple(dict.fromkeys(roles))


def read_login_file(path: Path) -> LoginFile:
    """Read how people log in.

    Raises:
        InvalidInventory: the file has faults; all of them are named.
        RequestError: it is empty.
    """
    problems = ProblemCollector()
    text = read_text_file(path, problems)
    located = parse_yaml(path, text, problems) if text is not None else None
    form = validate_mapping(LoginFile, located, problems, "`oidc:` or `ldap:`, and `roles:`") if located else None
    problems.raise_if_any()
    if form is None:
        raise RequestError(f"--logins {path} is empty", hint="Write oidc: or ldap:, and roles: of groups.")
    return form
