"""Prefect's API gives no more than a page of what a filter finds."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE_SIZE = 200  # the most that the server gives at once


def read_all_pages(read_page: Callable[[int, int], Sequence[T]]) -> Iterator[T]:
    """Give everything that a filter finds, page by page.

    Args:
        read_page: asks for so many from an offset on, always in the same order.
    """
    offset = 0
    while True:
        page = read_page(PAGE_SIZE, offset)
        yield from page
        if len(page) < PAGE_SIZE:
            return
        offset += len(page)
