"""Divides long lists into parts that have URLs."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastapi import Request

from inventory.data_class import dataclass

Item = TypeVar("Item")
PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One part of a long list."""

    items: Sequence[Item]
    number: int  # the number of the part, from 1
    size: int
    total: int  # how many items the whole list has
    previous_url: str  # the URL of the part before this one, with the same filters; "" for none
    next_url: str  # the URL of the part after this one; "" for none

    @property
    def first(self) -> int:
        """The position of the first item, from 1; 0 in an empty list."""
        return (self.number - 1) * self.size + 1 if self.total else 0

    @property
    def last(self) -> int:
        """The position of the last item."""
        return min(self.number * self.size, self.total)


def build_page(
    request: Request, items: Sequence[Item], number: int, size: int = PAGE_SIZE, *, parameter: str = "page"
) -> Page[Item]:
    """Return one part of a list. A number that is too large gives the last part.

    Args:
        request: the request; its filters stay in the URLs.
        items: the whole list.
        number: the number of the part, from 1.
        size: the number of items in a part.
        parameter: the parameter of the URL that has the number.
    """
    return build_part(
        request,
        lambda offset, limit: items[offset : offset + limit],
        number,
        total=len(items),
        size=size,
        parameter=parameter,
    )


def build_part(
    request: Request,
    read: Callable[[int, int], Sequence[Item]],
    number: int,
    *,
    total: int,
    size: int = PAGE_SIZE,
    parameter: str = "page",
) -> Page[Item]:
    """Return one part of a list as ``build_page`` does, and read only this part.

    Args:
        request: the request; its filters stay in the URLs.
        read: returns the items from an offset on, not more than a limit.
        number: the number of the part, from 1.
        total: the number of items in the whole list.
        size: the number of items in a part.
        parameter: the parameter of the URL that has the number.
    """
    last = max(1, -(-total // size))
    number = min(max(1, number), last)
    return Page(
        items=read((number - 1) * size, size),
        number=number,
        size=size,
        total=total,
        previous_url=_build_url(request, parameter, number - 1) if number > 1 else "",
        next_url=_build_url(request, parameter, number + 1) if number < last else "",
    )


def _build_url(request: Request, parameter: str, number: int) -> str:
    url = request.url.include_query_params(**{parameter: number})
    return f"{url.path}?{url.query}"
