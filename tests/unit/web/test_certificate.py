"""The warning before the certificate of the pages ends."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetpatch.web.certificate import describe_certificate_end, read_certificate_end
from tasks.domain.errors import CannotRun
from tests.support.certificate import write_certificate

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


def test_the_end_is_that_of_the_file(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)
    left = read_certificate_end(certificate) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(CannotRun, match=r"bad\.pem can't be read"):
        read_certificate_end(tmp_path / "bad.pem")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(days=14), ""),
        (timedelta(days=13), "ends on 08 Dec 2026 03:00 UTC. Renew it"),
        (timedelta(0), "ended on 25 Nov 2026 03:00 UTC: browsers refuse it. Renew it"),
    ],
)
def test_it_is_said_two_weeks_before(left: timedelta, said: str) -> None:
    told = describe_certificate_end(NOW + left, NOW)
    assert said in told
    assert bool(said) is bool(told)
    assert describe_certificate_end(None, NOW) == ""
