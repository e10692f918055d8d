"""The error for an invalid recurrence: the wrong word, and the accepted formats."""

from tasks.errors import RequestError

ACCEPTED_FORMATS_HINT = (
    'Understood are Azure\'s words ("Day", "3Days", "2Weeks Saturday,Sunday", "Month day15,day-1", '
    '"Month Second Tuesday Offset4", "6Hours"), "Once", an iCalendar rule ("FREQ=MONTHLY;BYDAY=2TU") '
    'and cron with five fields ("0 22 * * TUE#2").'
)


def build_recurrence_error(text: str, token: str, why: str, remedy: str = ACCEPTED_FORMATS_HINT) -> RequestError:
    """Return the error for an invalid recurrence.

    Args:
        text: the complete text.
        token: the wrong part of the text.
        why: what is wrong; it follows the token in the message.
        remedy: what to write instead.
    """
    place = f"recurrence {text!r}: " if token != text else "recurrence "
    return RequestError(f"{place}{token!r} {why}", hint=remedy)
