"""A certified OpenID Connect provider for tests: oidc-provider for Node.js, over TLS on a port of the loopback."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from joserfc.jwk import RSAKey

from tests.ci.tree import TOP
from tests.support.certificate import write_certificate
from tests.support.environment import without_ours
from tests.support.free_port import free_port

PROGRAM: Final = TOP / "tests/support/oidc/provider.mjs"
PACKAGES: Final = TOP / "build/oidc"
CLIENT: Final = "fleetpatch"
CLIENT_SECRET: Final = "made up, with: special +characters/%"
START_SECONDS: Final = 120.0


@dataclass
class OidcServer:
    """The provider.

    Attributes:
        place: its settings, its certificate, and the settings of pages that use it.
        accounts: its people with their groups. A change counts at the next login or check.
        port: its port.
    """

    place: Path
    accounts: dict[str, Sequence[str]]
    port: int = field(default_factory=free_port)
    settings: dict[str, Any] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def issuer(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.port}"

    def write(self, **settings: Any) -> None:
        """Change its settings: accounts count at once, others at its next start."""
        self.settings |= settings
        text = json.dumps({**self.settings, "port": self.port, "accounts": self.accounts})
        (self.place / "provider.json").write_text(text)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        node = shutil.which("node")
        assert node is not None
        with (self.place / "provider.log").open("ab") as log:
            self.process = subprocess.Popen(
                [node, str(PROGRAM), str(self.place / "provider.json"), str(PACKAGES)],
                env={**without_ours(), "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            said = (self.place / "provider.log").read_text()[-2000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def write_login_file(self, roles: Sequence[Mapping[str, Any]], **more: Any) -> Path:
        """Write the file of logins for pages, and return it."""
        secret = self.place / "client-secret"
        secret.write_text(CLIENT_SECRET)
        secret.chmod(0o600)
        oidc = {
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": f"file:{secret}",
            "title": "Example SSO",
            "ca": str(self.place / "cert.pem"),
        }
        path = self.place / "logins.yaml"
        path.write_text(json.dumps({"oidc": oidc, "roles": list(roles), **more}))  # JSON is YAML
        return path

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.issuer}/jwks", verify=False, trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def build_keys(name: str) -> dict[str, Any]:
    """Return a new private key set for the provider."""
    key = RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"})
    return {"keys": [key.as_dict(private=True)]}


@contextmanager
def run_oidc_provider(
    place: Path, pages_url: str, accounts: dict[str, Sequence[str]], **more: Any
) -> Iterator[OidcServer]:
    """Serve a provider until the end of the block.

    Args:
        place: an empty folder.
        pages_url: the address of the pages that use it.
        accounts: its people with their groups.
        more: settings of provider.mjs.
    """
    if not (PACKAGES / "node_modules/oidc-provider").exists() or shutil.which("node") is None:
        pytest.skip("oidc-provider is not there: deployments/bootstrap/packages.sh oidc installs it")
    certificate, key = write_certificate(place)
    server = OidcServer(place, accounts)
    client = {
        "id": CLIENT,
        "secret": CLIENT_SECRET,
        "redirect_uris": [f"{pages_url}/login/oidc/callback"],
        "post_logout_redirect_uris": [f"{pages_url}/login"],
        "backchannel_logout_uri": f"{pages_url}/logout/oidc",
    }
    server.write(
        cert=str(certificate), key=str(key), client=client, keys=build_keys("first"), idTokenSeconds=86400, **more
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
