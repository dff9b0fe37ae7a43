"""Distributes the reply of a worker about a batch of images to the items of the batch."""

from collections.abc import Iterator, Sequence

import torch

from service.engine.records import EncodedImage, HeadAnswer
from service.engine.schedule.items import ImageItem
from service.engine.worker.protocol import EncodedImages, ErrorReply, HeadWork
from vlm_ood.errors import VlmOodError
from vlm_ood.types import ImageFeatures


def deliver(
    items: Sequence[ImageItem], heads: HeadWork, encoded: EncodedImages
) -> Iterator[tuple[list[ImageItem], VlmOodError]]:
    """Set the result of each item.

    Returns:
        The items whose head failed while it ran, with its error: one image may be to blame for several. A head that
        could not be installed is the error of all its items at once.
    """
    answers: dict[int, HeadAnswer] = {}
    failed: set[int] = set()
    for work, answer in zip(heads.run, encoded.answers, strict=True):
        if not isinstance(answer, ErrorReply):
            answers |= {row: answer[place : place + 1] for place, row in enumerate(work.rows)}
            continue
        failed |= set(work.rows)
        own = [items[row] for row in work.rows]
        if work.digest in encoded.not_installed:
            for item in own:
                item.fail(answer.error)
        else:
            yield own, answer.error
    for row, item in enumerate(items):
        if row not in failed:
            _deliver(item, encoded, row, answers.get(row))


def _deliver(item: ImageItem, encoded: EncodedImages, row: int, answer: HeadAnswer | None) -> None:
    """A record of its own, not a view of the batch's; a row without length is the error of its image alone."""
    item.encode_s = encoded.seconds
    try:
        item.succeed(EncodedImage(ImageFeatures(torch.from_numpy(encoded.pooled[row : row + 1])), answer))
    except VlmOodError as error:
        item.fail(error)
