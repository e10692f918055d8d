"""The accounts of a host: passwords, certificates, and what came of every login."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spnego._ntlm_raw.crypto import lmowfv1, ntowfv1  # its store takes passwords with colons as hashes only

Outcome = Literal["ok", "wrong password", "unknown user", "locked out", "refused"]


@dataclass(frozen=True)
class Account:
    """Somebody who may log in.

    Attributes:
        domain: the short name of its domain; empty: an account of the host itself.
        upn: its name in certificates and, for one of a domain, at logins.
        administrator: whether it may use remote shells.
    """

    user: str
    password: str
    domain: str = ""
    upn: str = ""
    administrator: bool = True


@dataclass(frozen=True)
class Logon:
    """Somebody who is logged in, over the network."""

    account: Account
    method: str


@dataclass(frozen=True)
class Login:
    """One try to log in."""

    user: str
    method: str
    outcome: Outcome


@dataclass
class Accounts:
    """All accounts of one host.

    Attributes:
        host: the host's name, which is the domain of its own accounts.
        folder: where they are written, for NTLM to read.
        lockout_threshold: wrong passwords in a row after which an account is locked; 0: never.
        logins: every login that was tried.
    """

    host: str
    folder: Path
    lockout_threshold: int = 0
    accounts: list[Account] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: dict[Account, int] = {}
        self.write()

    @property
    def store(self) -> Path:
        return self.folder / "accounts"

    def write(self) -> None:
        """Have NTLM know the accounts as they are now."""
        lines = []
        for account in self.accounts:
            lm, nt = (part(account.password).hex().upper() for part in (lmowfv1, ntowfv1))
            lines += [f"{name}:0:{lm}:{nt}:[U]:LCT-00000000" for name in self._names(account)]
        new = self.store.with_suffix(".new")
        new.write_text("\n".join([*lines, ""]))
        new.replace(self.store)

    def change_password(self, user: str, password: str) -> None:
        """Give an account another password."""
        old = next(account for account in self.accounts if account.user == user)
        changed = Account(user, password, old.domain, old.upn, old.administrator)
        self.accounts[self.accounts.index(old)] = changed
        self.write()

    def _names(self, account: Account) -> list[str]:
        if account.domain:
            return [f"{account.domain}\\{account.user}", *([account.upn] if account.upn else [])]
        return [account.user, *(f"{domain}\\{account.user}" for domain in (".", self.host))]

    def find(self, name: str) -> Account | None:
        """The account of a name, in any form a client may give it."""
        for account in self.accounts:
            if name.casefold() in (each.casefold() for each in self._names(account)):
                return account
        return None

    def find_upn(self, names: list[str]) -> Account | None:
        """The account to which one of the names in a certificate belongs."""
        return next((account for account in self.accounts if account.upn and account.upn in names), None)

    def locked(self, account: Account | None) -> bool:
        """Whether an account takes no password any more."""
        with self._lock:
            return bool(self.lockout_threshold and account and self._wrong.get(account, 0) >= self.lockout_threshold)

    def note(self, user: str, method: str, outcome: Outcome) -> None:
        """Write down a login, and count wrong passwords in a row."""
        account = self.find(user)
        with self._lock:
            self.logins.append(Login(user, method, outcome))
            if account and outcome == "wrong password":
                self._wrong[account] = self._wrong.get(account, 0) + 1
            elif account and outcome == "ok":
                self._wrong.pop(account, None)

    @property
    def wrong_passwords(self) -> int:
        """How many logins with a wrong password were tried: what locks accounts out."""
        with self._lock:
            return sum(login.outcome == "wrong password" for login in self.logins)
