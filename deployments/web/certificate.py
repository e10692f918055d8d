"""When the certificate of the pages ends. It is read at the start, and serves until the process ends."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from tasks.errors import CannotRun

WARNING_TIME: Final = timedelta(days=14)


def read_certificate_end(path: Path) -> datetime:
    """Return when the first certificate of a file ends: browsers refuse it from then on.

    Args:
        path: a PEM file; the certificates of its chain follow the first one.

    Raises:
        CannotRun: it can't be read.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError) as error:
        raise CannotRun(f"--tls-cert {path} can't be read: {error}", hint="Give a certificate in PEM form.") from error


def describe_certificate_end(ends_at: datetime | None, now: datetime) -> str:
    """Return a warning if a certificate ends soon, or has ended; "" if not. Pure."""
    if ends_at is None or ends_at - now >= WARNING_TIME:
        return ""
    when = f"{ends_at:%d %b %Y %H:%M} UTC"
    end = f"ends on {when}" if now < ends_at else f"ended on {when}: browsers refuse it"
    return f"The certificate of these pages {end}. Renew it, then restart fleetpatch web."
