"""Secret stores: what the fake and a real OpenBao both do, how fleetpatch logs in, and what goes wrong."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from inventory.credentials import CredentialKind, SecretSources, resolve_credential
from inventory.errors import CredentialError, SecretStoreUnavailable
from inventory.secret_store import CertificateIssuer, SecretStore
from tasks.domain.protocols.clock import SystemClock
from tasks.machines.secret_stores.vault import open_vault
from tests.contract.ssh_world import GREET, World, soon
from tests.support.certificate import write_certificate
from tests.support.fake_secret_store import FakeSecretStore
from tests.support.free_port import free_port
from tests.support.openbao import OpenBao, run_openbao
from tests.support.ssh_server import new_key

NOW = SystemClock().now


@pytest.fixture(scope="module")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with run_openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


def approle(openbao: OpenBao, secret_id: str) -> dict[str, str]:
    return {
        "VAULT_ADDR": openbao.address,
        "FLEETPATCH_VAULT_ROLE_ID": openbao.read_role_id(),
        "FLEETPATCH_VAULT_SECRET_ID": secret_id,
    }


@pytest.fixture(params=["fake", "openbao"])
def store(request: pytest.FixtureRequest) -> SecretStore:
    if request.param == "fake":
        return FakeSecretStore(
            {
                "secret/fleet/web": {"password": "of-the-web", "empty": ""},
                "team/kv/fleet/db": {"password": "of-the-db"},
            },
            {"ssh-client-signer/fleet": {"patch", "root"}},
        )
    openbao: OpenBao = request.getfixturevalue("openbao")
    return open_vault({"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.create_token()})


# ---------------------------------------------------------------- the contract


def test_a_secret_is_read_by_its_path_and_key(store: SecretStore) -> None:
    assert store.read_secret("secret/fleet/web", "password") == "of-the-web"
    assert store.read_secret("team/kv//fleet/db", "password") == "of-the-db"


@pytest.mark.parametrize(
    ("path", "key"),
    [("secret/fleet/none", "password"), ("secret/fleet/web", "none"), ("secret/fleet/web", "empty"), ("no/mount", "x")],
)
def test_a_secret_that_is_not_there_is_an_error_that_names_it(store: SecretStore, path: str, key: str) -> None:
    with pytest.raises(CredentialError, match=path):
        store.read_secret(path, key)


def test_a_certificate_is_for_one_login_and_the_key_that_was_given(store: SecretStore, tmp_path: Path) -> None:
    key = new_key(tmp_path / "id")
    public_key = f"{key.get_name()} {key.get_base64()}"
    text = store.sign_public_key("ssh-client-signer/fleet", public_key, "patch")
    certificate = load_ssh_public_identity(text.strip().encode())
    assert isinstance(certificate, SSHCertificate)
    assert certificate.valid_principals == [b"patch"]
    assert certificate.valid_before - certificate.valid_after <= 700


@pytest.mark.parametrize(("signer", "user"), [("ssh-client-signer/none", "patch"), ("ssh-client-signer/fleet", "eve")])
def test_nothing_is_signed_for_others(store: SecretStore, tmp_path: Path, signer: str, user: str) -> None:
    key = new_key(tmp_path / "id")
    with pytest.raises(CredentialError, match=signer):
        store.sign_public_key(signer, f"{key.get_name()} {key.get_base64()}", user)


# ---------------------------------------------------------------- references


def test_references_lead_to_passwords_keys_and_certificates(openbao: OpenBao, tmp_path: Path) -> None:
    store = open_vault({"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.create_token()})
    new_key(tmp_path / "id")
    openbao.call("POST", "secret/data/fleet/key", data={"private": (tmp_path / "id").read_text()})
    sources = SecretSources(open_store=lambda: store, issuer=CertificateIssuer(lambda: store, NOW))
    password = resolve_credential("vault:secret/fleet/web#password", sources)
    assert password.kind is CredentialKind.PASSWORD
    assert password.secret is not None
    assert password.secret.reveal() == "of-the-web"
    key = resolve_credential("vault:secret/fleet/key#private", sources)
    assert (key.kind, key.path) == (CredentialKind.KEY, None)
    one, two = (resolve_credential("vault-ssh:ssh-client-signer/fleet", sources) for _ in range(2))
    assert one.kind is CredentialKind.CERTIFICATE
    assert one == two, "a refused login is counted by its credential"
    with pytest.raises(CredentialError, match="no secret store is at hand"):
        resolve_credential("vault:secret/fleet/web#password")


@pytest.mark.parametrize(
    "text",
    [
        "vault:secret",
        "vault:secret/web",
        "vault:secret/../sys#x",
        "vault:/secret/web#x",
        "vault:secret/web?x#y",
        "vault:secret/web#",
        "vault:secret/web#a#b",
        "vault-ssh:role",
        "vault-ssh:ssh/..",
        "vault-ssh:ssh//role",
    ],
)
def test_what_is_no_path_of_a_store_is_refused(text: str) -> None:
    with pytest.raises(CredentialError, match="what stands after") as caught:
        resolve_credential(text)
    assert "vault" in caught.value.hint


# ---------------------------------------------------------------- certificates


def test_a_certificate_is_shared_until_half_of_its_life_is_over() -> None:
    store = FakeSecretStore(roles={"ssh/fleet": {"patch", "root"}})
    now = store.now
    issuer = CertificateIssuer(lambda: store, lambda: now)
    first = issuer.issue("ssh/fleet", "patch")
    assert "PRIVATE" not in repr(first)
    now += timedelta(minutes=4, seconds=59)
    assert issuer.issue("ssh/fleet", "patch") is first
    assert issuer.issue("ssh/fleet", "root") is not first
    now += timedelta(seconds=2)
    store.now = now
    second = issuer.issue("ssh/fleet", "patch")
    assert second.private_key != first.private_key
    assert second.valid_until > first.valid_until
    assert store.signed == 3


def test_a_certificate_that_can_not_be_used_is_an_error_before_a_machine_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeSecretStore(roles={"ssh/fleet": {"patch"}})
    issuer = CertificateIssuer(lambda: store, lambda: store.now)
    store.kind = store.kind.HOST
    with pytest.raises(CredentialError, match="it is not for a user"):
        issuer.issue("ssh/fleet", "patch")
    store.kind, store.life = store.kind.USER, timedelta(0)
    with pytest.raises(CredentialError, match="it ended at"):
        issuer.issue("ssh/fleet", "patch")
    store.life = timedelta(minutes=1)
    other = FakeSecretStore(roles={"ssh/fleet": {"root"}})
    monkeypatch.setattr(store, "sign_public_key", lambda signer, key, _: other.sign_public_key(signer, key, "root"))
    with pytest.raises(CredentialError, match="patch is none of its principals"):
        issuer.issue("ssh/fleet", "patch")
    monkeypatch.setattr(store, "sign_public_key", lambda *_: "ssh-ed25519 nonsense")
    with pytest.raises(CredentialError, match="no certificate of OpenSSH"):
        issuer.issue("ssh/fleet", "patch")


def test_a_machine_gets_the_certificate_and_no_key_is_in_a_file(openbao: OpenBao, tmp_path: Path) -> None:
    store = open_vault({"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.create_token()})
    sources = SecretSources(open_store=lambda: store, issuer=CertificateIssuer(lambda: store, NOW))
    world = World(tmp_path)
    try:
        server = world.server(takes_authority=openbao.read_authority())
        world.secrets = lambda reference: resolve_credential(reference, sources)
        session = world.session(server, credential="vault-ssh:ssh-client-signer/fleet")
        assert session.run_script(GREET, deadline=soon()).exit_code == 7
        assert server.logins == ["ssh-ed25519-cert-v01@openssh.com"]
    finally:
        world.close()


# ---------------------------------------------------------------- logins


def test_an_approle_logs_in_and_again_when_its_token_was_revoked(openbao: OpenBao, tmp_path: Path) -> None:
    file = tmp_path / "secret-id"
    file.write_text(openbao.create_secret_id())
    file.chmod(0o600)
    store = open_vault(approle(openbao, f"file:{file}"))
    assert store.read_secret("secret/fleet/web", "password") == "of-the-web"
    token = store._token
    assert token is not None
    openbao.call("POST", "auth/token/revoke", token=token.value.reveal())
    assert store.read_secret("secret/fleet/web", "password") == "of-the-web"
    assert store._token is not token


def test_systemd_gives_the_secret_id(openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fleetpatch-secret-id").write_text(openbao.create_secret_id())
    (tmp_path / "fleetpatch-secret-id").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    store = open_vault(approle(openbao, "systemd:fleetpatch-secret-id"))
    assert store.read_secret("secret/fleet/web", "password") == "of-the-web"


def test_a_token_file_is_read_anew_each_time(openbao: OpenBao, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("wrong")
    file.chmod(0o600)
    store = open_vault({"BAO_ADDR": openbao.address, "FLEETPATCH_VAULT_TOKEN": f"file:{file}"})
    with pytest.raises(CredentialError, match="does not let fleetpatch use") as caught:
        store.read_secret("secret/fleet/web", "password")
    assert 'path "secret/data/fleet/web" {capabilities=["read"]}' in caught.value.hint
    file.write_text(openbao.create_token())  # as an agent does
    assert store.read_secret("secret/fleet/web", "password") == "of-the-web"


def test_what_the_policy_does_not_allow_is_refused(openbao: OpenBao) -> None:
    store = open_vault({"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.create_token()})
    with pytest.raises(CredentialError, match="does not let fleetpatch use vault:secret/other"):
        store.read_secret("secret/other", "password")


def test_a_refused_login_says_so_and_repeats_no_secret(openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_ID", "a-wrong-secret-id")
    store = open_vault(approle(openbao, "env:SECRET_ID"))
    with pytest.raises(CredentialError, match="refused the login of fleetpatch: status 400") as caught:
        store.read_secret("secret/fleet/web", "password")
    assert "a-wrong-secret-id" not in str(caught.value) + caught.value.hint


def test_a_sealed_store_is_unavailable_and_not_refused(tmp_path: Path) -> None:
    with run_openbao(tmp_path) as server:
        store = open_vault({"VAULT_ADDR": server.address, "VAULT_TOKEN": server.create_token()})
        server.call("POST", "sys/seal")
        with pytest.raises(SecretStoreUnavailable, match="can't answer now: status 503") as caught:
            store.read_secret("secret/fleet/web", "password")
        assert caught.value.transient
    with pytest.raises(SecretStoreUnavailable, match="does not answer"):
        store.read_secret("secret/fleet/web", "password")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "no secret store is named"),
        ({"VAULT_ADDR": "http://vault.example.org:8200", "VAULT_TOKEN": "x"}, "no https address"),
        ({"VAULT_ADDR": "https://vault.example.org/v1", "VAULT_TOKEN": "x"}, "no https address"),
        ({"VAULT_ADDR": "https://a", "VAULT_TOKEN": "x", "VAULT_SKIP_VERIFY": "true"}, "can't verify"),
        ({"VAULT_ADDR": "https://a"}, "not clear"),
        ({"VAULT_ADDR": "https://a", "VAULT_TOKEN": "x", "FLEETPATCH_VAULT_ROLE_ID": "y"}, "not clear"),
    ],
)
def test_settings_that_are_missing_or_unsafe(environment: dict[str, str], words: str) -> None:
    with pytest.raises(CredentialError) as caught:
        open_vault(environment)
    assert words in f"{caught.value.message} {caught.value.hint}"


Request: TypeAlias = tuple[str, dict[str, str], dict[str, object]]
"""A path, headers and a body."""


class _Recorded(http.server.BaseHTTPRequestHandler):
    """Answers as the documented API does, where no real login is to be had, and keeps what it was asked."""

    asked: list[Request] = []  # noqa: RUF012 - of one test
    elsewhere = ""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.path, dict(self.headers), json.loads(body or b"{}")))
        if self.elsewhere:
            self.send_response(307)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
            return
        login = {"auth": {"client_token": "hvs.of-the-login", "lease_duration": 3600}}
        answer = login if self.path.startswith("/v1/auth/") else {"data": {"data": {"password": "of-the-web"}}}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def recorded(elsewhere: str = "", certificate: tuple[Path, Path] | None = None) -> Iterator[tuple[str, list[Request]]]:
    handler = type("Handler", (_Recorded,), {"asked": [], "elsewhere": elsewhere})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}", handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("mount", "path"), [("", "jwt"), ("kubernetes", "kubernetes")])
def test_a_token_of_kubernetes_logs_in_once(tmp_path: Path, mount: str, path: str) -> None:
    file = tmp_path / "token"
    file.write_text("the.jwt.of-the-pod\n")
    file.chmod(0o644)  # as Kubernetes writes it
    with recorded() as (address, asked):
        store = open_vault(
            {
                "VAULT_ADDR": address,
                "VAULT_NAMESPACE": "team-a",
                "FLEETPATCH_VAULT_ROLE": "fleetpatch",
                "FLEETPATCH_VAULT_JWT_FILE": str(file),
                "FLEETPATCH_VAULT_AUTH_MOUNT": mount,
            }
        )
        assert [store.read_secret("secret/fleet/web", "password") for _ in range(2)] == ["of-the-web"] * 2
    assert [each[0] for each in asked] == [f"/v1/auth/{path}/login", *["/v1/secret/data/fleet/web"] * 2]
    assert asked[0][2] == {"role": "fleetpatch", "jwt": "the.jwt.of-the-pod"}
    assert all(headers["X-Vault-Namespace"] == "team-a" for _, headers, _ in asked)
    assert asked[1][1]["X-Vault-Token"] == "hvs.of-the-login"


def test_a_redirect_gets_no_token(tmp_path: Path) -> None:
    with recorded() as (other, asked), recorded(elsewhere=f"{other}/v1/secret/data/fleet/web") as (address, _):
        store = open_vault({"VAULT_ADDR": address, "VAULT_TOKEN": "of-the-test"})
        with pytest.raises(CredentialError, match="status 307"):
            store.read_secret("secret/fleet/web", "password")
    assert asked == []


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    with recorded(certificate=(certificate, key)) as (address, asked):
        store = open_vault({"VAULT_ADDR": address, "VAULT_TOKEN": "of-the-test"})
        with pytest.raises(CredentialError, match="can't be verified") as caught:
            store.read_secret("secret/fleet/web", "password")
        assert "VAULT_CACERT" in caught.value.hint
        assert asked == []
        known = open_vault({"VAULT_ADDR": address, "VAULT_TOKEN": "of-the-test", "VAULT_CACERT": str(certificate)})
        assert known.read_secret("secret/fleet/web", "password") == "of-the-web"
