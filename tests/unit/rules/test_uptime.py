import pytest

from tasks.rules.runs.reboot_decision import find_uptime

DAY = 86_400.0
NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("counted", "since_boot", "expected"),
    [
        (100 * DAY + 400, 100 * DAY, 100 * DAY),  # it drifts
        (100 * DAY, 60.0, 60.0),  # it does not begin at 0
        (60.0, 365 * DAY, 60.0),  # the clock was set, and not the time of the boot
        (60.0, -5.0, 60.0),
        (None, 60.0, 60.0),
        (60.0, None, 60.0),
        (None, None, None),
    ],
)
def test_the_uptime_is_by_the_time_of_the_boot_unless_that_can_not_be(
    counted: float | None, since_boot: float | None, expected: float | None
) -> None:
    assert find_uptime(counted, None if since_boot is None else NOW - since_boot, NOW) == expected
