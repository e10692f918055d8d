"""Read all pages of a result: Prefect's API returns one page at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE_SIZE = 200  # the server's maximum page size


def read_all_pages(read_page: Callable[[int, int], Sequence[T]]) -> Iterator[T]:
    """Yield all results of a filter, page by page.

    Args:
        read_page: reads a page with this limit and offset, always in the same order.
    """
    offset = 0
    while True:
        page = read_page(PAGE_SIZE, offset)
        yield from page
        if len(page) < PAGE_SIZE:
            return
        offset += len(page)
