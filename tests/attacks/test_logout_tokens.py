"""Attacks on the address where a login provider says that somebody has logged out there."""

from collections.abc import Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from fleetpatch.access.providers.person import LoginRefused
from tests.contract.web.test_oidc import Desk, serve_desk
from tests.support.oidc_provider import CLIENT


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Pages with a certified provider."""
    yield from serve_desk(tmp_path_factory.mktemp("sso"))


def claim_logout(desk: Desk) -> dict[str, Any]:
    """Return what a logout token of the provider says."""
    event: dict[str, Any] = {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}
    now = int(desk.clock.now().timestamp())
    return {"iss": desk.provider.issuer, "aud": CLIENT, "sub": "anna", "iat": now, "jti": "1", **event}


def test_nobody_but_the_provider_ends_sessions_by_its_back_channel(desk: Desk) -> None:
    """Attacker: anybody, at the address where the provider says that somebody has logged out.

    Way: an ID token as logout token, a token of a foreign key, nonsense.
    What must hold: the session stays.
    """
    visitor, _ = desk.log_in("anna")
    key = RSAKey.import_key(desk.provider.settings["keys"]["keys"][0])
    claims = claim_logout(desk)
    id_claims = {name: value for name, value in claims.items() if name != "events"}
    foreign = RSAKey.generate_key(2048, {"kid": key.kid or ""})
    header = {"alg": "RS256", "kid": key.kid}
    tokens = [
        jwt.encode(header, {**id_claims, "exp": claims["iat"] + 300}, key),
        jwt.encode(header, {**claims, "nonce": "n"}, key),
        jwt.encode(header, claims, foreign),
        "nonsense",
    ]
    for token in tokens:
        assert desk.site.open_browser().post("/logout/oidc", data={"logout_token": token}).status_code == 400
    assert visitor.get("/").status_code == 200


def test_a_logout_token_ends_sessions_once_and_while_it_is_new(desk: Desk) -> None:
    """Attacker: somebody who has seen a logout token, in a log of the provider for example.

    Way: send it again, or much later; it names no end of its own.
    What must hold: it ends sessions once, and only within minutes.
    """
    key = RSAKey.import_key(desk.provider.settings["keys"]["keys"][0])
    now = int(desk.clock.now().timestamp())

    def sign(**changes: Any) -> str:
        said = {name: value for name, value in (claim_logout(desk) | changes).items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": key.kid}, said, key)

    first = sign()
    for token, status in ((first, 200), (first, 400), (sign(jti="another"), 200)):
        visitor, _ = desk.log_in("anna")
        assert desk.site.open_browser().post("/logout/oidc", data={"logout_token": token}).status_code == status
        assert (visitor.get("/").status_code == 303) is (status == 200)
    oidc = desk.site.context.logins.oidc if desk.site.context.logins is not None else None
    assert oidc is not None
    old: dict[str, Any] = {"iat": now - 600, "jti": "old"}
    wrong = ({"exp": now + 300}, old, {**old, "exp": now + 100_000}, {"iat": None, "jti": "new"})
    for changes in (*wrong, {"jti": None}, {"jti": ""}, {"jti": ["1"]}):
        with pytest.raises(LoginRefused):
            oidc.read_logout_token(sign(**changes))
