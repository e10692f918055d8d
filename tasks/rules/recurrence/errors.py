"""What is said about a recurrence that nobody can follow: the word that is wrong, and what would be understood."""

from tasks.errors import RequestError

ACCEPTED_FORMATS_HINT = (
    'Understood are Azure\'s words ("Day", "3Days", "2Weeks Saturday,Sunday", "Month day15,day-1", '
    '"Month Second Tuesday Offset4", "6Hours"), "Once", an iCalendar rule ("FREQ=MONTHLY;BYDAY=2TU") '
    'and cron with five fields ("0 22 * * TUE#2").'
)


def build_recurrence_error(text: str, token: str, why: str, remedy: str = ACCEPTED_FORMATS_HINT) -> RequestError:
    """Return the error for a recurrence.

    Args:
        text: all that was written.
        token: the part of it that is wrong.
        why: what is wrong with it; follows the token.
        remedy: what to write instead.
    """
    place = f"recurrence {text!r}: " if token != text else "recurrence "
    return RequestError(f"{place}{token!r} {why}", hint=remedy)
