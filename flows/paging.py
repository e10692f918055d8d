"""Prefect's API gives no more than a page of what a filter finds."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE = 200  # the most that the server gives at once


def all_pages(ask: Callable[[int, int], Sequence[T]]) -> Iterator[T]:
    """Give everything that a filter finds, page by page.

    Args:
        ask: asks for so many from an offset on, always in the same order.
    """
    offset = 0
    while True:
        page = ask(PAGE, offset)
        yield from page
        if len(page) < PAGE:
            return
        offset += len(page)
