"""Every limit on the form of a request allows what it says, and no more: one more is refused."""

from collections.abc import Callable
from typing import Final

import pytest

from service.errors import HeadTooLargeError, MalformedRequestError, ServiceError
from service.security.request_form import RequestForm

Feed = Callable[[int], ServiceError | None]


def of_a_whole_head(count: int) -> ServiceError | None:
    return RequestForm().fed_whole_head(b"/" * 100, [(b"name", b"x" * (count - 104))])


def of_a_head_in_parts(count: int) -> ServiceError | None:
    form = RequestForm()
    assert form.fed_head(count - 1000) is None
    form.feed()
    return form.fed_head(1000)


def of_trailers_in_parts(count: int) -> ServiceError | None:
    form = RequestForm()
    for each in (count - 100, 100):
        form.feed()
        answer = form.fed_body(each)
    return answer


def of_trailers_beside_content(count: int) -> ServiceError | None:
    """The content and the frames of its chunks are no excess."""
    form = RequestForm()
    form.feed()
    for _ in range(3):
        form.chunk()
        form.content(1000)
    return form.fed_body(3 * 1000 + 3 * 16 + count)


LIMITS: Final[dict[str, tuple[Feed, int, type[ServiceError]]]] = {
    "whole head": (of_a_whole_head, 65_536, HeadTooLargeError),
    "head in parts": (of_a_head_in_parts, 65_536, HeadTooLargeError),
    "headers": (lambda count: RequestForm().fed_header(count), 128, HeadTooLargeError),
    "trailers in parts": (of_trailers_in_parts, 8192, MalformedRequestError),
    "trailers beside content": (of_trailers_beside_content, 8192, MalformedRequestError),
}


@pytest.mark.parametrize(("feed", "limit", "error"), LIMITS.values(), ids=LIMITS)
def test_what_reaches_the_limit_is_allowed_and_one_more_is_not(
    feed: Feed, limit: int, error: type[ServiceError]
) -> None:
    assert feed(limit) is None
    assert isinstance(feed(limit + 1), error)


def test_what_was_fed_with_the_beginning_of_a_head_or_body_is_not_counted() -> None:
    form = RequestForm()
    form.head_begins()
    assert form.fed_head(10**6) is None
    form.feed()
    assert isinstance(form.fed_head(65_537), HeadTooLargeError)
    form.feed()
    form.body_begins()
    assert form.fed_body(10**6) is None
    form.feed()
    assert isinstance(form.fed_body(8193), MalformedRequestError)
