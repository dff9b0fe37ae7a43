"""Uploads before they are encoded: URLs are fetched within the limit on the bytes of one request."""

import pytest

from service.errors import BodyTooLargeError
from service.http.body import Upload
from service.images.encoding import FETCHES_AT_ONCE, UploadEncoder
from tests.service.fakes import FakeEngine
from tests.service.test_fetching import PUBLIC, fetcher, ok

URLS = [Upload(str(row), f"https://example.org/{row}") for row in range(40)]


async def test_images_behind_urls_are_bounded_together() -> None:
    fetch, network = fetcher(ok, {"example.org": [PUBLIC]})
    content = len(b"picture")
    limited = UploadEncoder(FakeEngine(), fetch, chunk=64, max_bytes=3 * content)
    assert [upload.content for upload in await limited.fetched(URLS[:3])] == [b"picture"] * 3
    network.requests.clear()
    with pytest.raises(BodyTooLargeError, match="limit of 21 bytes"):
        await limited.fetched(URLS)
    assert len(network.requests) <= 3 + FETCHES_AT_ONCE, "nothing more is fetched once the limit is exceeded"
    enough = UploadEncoder(FakeEngine(), fetch, chunk=64, max_bytes=len(URLS) * content)
    assert len(await enough.fetched(URLS)) == len(URLS)
