"""URLs as they may be shown and logged. Pure."""

from urllib.parse import urlsplit, urlunsplit


def shown_url(target: str) -> str:
    """Return a URL for people: neither its login nor its query, where passwords and tokens stand."""
    try:
        parts = urlsplit(target)
        _ = parts.port  # a password with a slash in it looks like a port that is no number
    except ValueError:
        return "URL"
    login, at, place = parts.netloc.rpartition("@")
    return urlunsplit(
        (parts.scheme, f"{'***' if login else ''}{at}{place}", parts.path, "***" if parts.query else "", "")
    )
