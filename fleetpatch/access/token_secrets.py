"""Makes access tokens and the secrets of browsers, and their digests."""

import hashlib
import hmac
import re
import secrets
from typing import Final

TOKEN_PREFIX: Final = "fp_"  # noqa: S105 - no secret: tools that look for leaked tokens find it
_TOKEN: Final = re.compile(r"fp_[A-Za-z0-9_-]{43}")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def create_token() -> str:
    """Return a new access token of 256 bits."""
    return TOKEN_PREFIX + create_secret()


def create_secret() -> str:
    """Return a new secret of 256 bits, for a cookie."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Return whether a text looks like an access token."""
    return _TOKEN.fullmatch(text) is not None


def has_token(text: str) -> bool:
    """Return whether a text contains what looks like an access token."""
    return _TOKEN.search(text) is not None


def hide_tokens(text: str) -> str:
    """Return a text without what looks like access tokens: people put them into the wrong field."""
    return _TOKEN.sub(f"{TOKEN_PREFIX}(hidden)", text)


def is_secret(text: str) -> bool:
    """Return whether a text looks like the secret of a browser."""
    return _SECRET.fullmatch(text) is not None


def digest_secret(secret: str) -> str:
    """Return what the records keep. Secrets of 256 bits need no slow digest: nobody can try them all."""
    return hashlib.sha256(secret.encode()).hexdigest()


def derive_csrf_token(key: bytes, browser_secret: str, who: str) -> str:
    """Return what each form of a browser must carry. Who has its cookie, but not the key, can't compute it."""
    return hmac.digest(key, f"csrf\0{browser_secret}\0{who}".encode(), "sha256").hex()
