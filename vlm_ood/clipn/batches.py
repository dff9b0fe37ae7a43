"""From pairs to batches: order, random crops, choice of learned contexts, and the pairs that can't be read.

Everything random is drawn from generators keyed by (seed, epoch, pair), so that a batch is the same on any number of
processes and threads, and after an interruption.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from vlm_ood.clipn.no_tower import CHOICES
from vlm_ood.clipn.pairs import Pairs
from vlm_ood.encoders.base import run_ahead
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import ImageError
from vlm_ood.images import load_image

TRIALS: Final = 10  # as in torchvision's RandomResizedCrop, which the authors used
MAX_ASPECT: Final = 4 / 3  # likewise


@dataclass(frozen=True, eq=False)
class PairBatch:
    """The share of one process of a batch of pairs.

    Args:
        size: of the share, readable or not.
        places: of the n readable pairs in the share, ascending, in [0, size).
        pixels: of their pictures.
        captions: of those pictures.
        choices: the number of the learned context for each caption, in [0, 16]; 16 is the mean of all.
        errors: why the other pairs can't be read.
    """

    size: int
    places: Int[Tensor, " n"]
    pixels: UInt8[Tensor, "n 3 h w"]
    captions: tuple[str, ...]
    choices: Int[Tensor, " n"]
    errors: tuple[ImageError, ...]


@dataclass(frozen=True)
class PairBatches:
    """The batches of a whole training, by number; pairs at the end of an epoch that fill no batch are left out.

    Args:
        pairs: the source.
        preprocessing: of the encoder; resizing is replaced by the crop.
        size: pairs in a batch, over all processes.
        seed: of the order, the crops and the choices.
        crop_share: (least, most) share of a picture's area that a crop keeps.
        workers: threads that decode.
    """

    pairs: Pairs
    preprocessing: Preprocessing
    size: int
    seed: int
    crop_share: tuple[float, float]
    workers: int

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.pairs) // self.size

    def run(self, start: int, stop: int, rank: int, processes: int) -> Iterator[PairBatch]:
        """This process's share of the batches from number `start` up to, not including, `stop`; threads load ahead."""
        share = self.size // processes
        rows = self._rows(start, stop, slice(rank * share, (rank + 1) * share))
        loaded = run_ahead(self._load, rows, workers=self.workers, ahead=2 * share)
        for number in range(start, stop):
            mine = list(islice(loaded, share))
            good = [place for place, item in enumerate(mine) if not isinstance(item, ImageError)]
            items: list[Any] = [mine[place] for place in good]
            places = torch.tensor(good, dtype=torch.long)
            yield PairBatch(
                size=share,
                places=places,
                pixels=torch.stack([pixels for pixels, _ in items]) if items else self._no_pixels(),
                captions=tuple(caption for _, caption in items),
                choices=self._choices(number)[rank * share : (rank + 1) * share][places],
                errors=tuple(item for item in mine if isinstance(item, ImageError)),
            )

    def _rows(self, start: int, stop: int, share: slice) -> Iterator[tuple[int, int]]:
        """(epoch, row) of each pair of this process, batch after batch."""
        for epoch in range(start // self.per_epoch, -(-stop // self.per_epoch)):
            order = self.pairs.order(np.random.default_rng((self.seed, 0, epoch)))
            first = epoch * self.per_epoch
            for number in range(max(start, first), min(stop, first + self.per_epoch)):
                batch = order[(number - first) * self.size :][: self.size]
                yield from ((epoch, row) for row in batch[share].tolist())

    def _load(self, place: tuple[int, int]) -> tuple[UInt8[Tensor, "3 h w"], str] | ImageError:
        epoch, row = place
        try:
            pair = self.pairs[row]
            image = load_image(pair.picture)
        except ImageError as error:
            return error
        crop = random_crop(image, np.random.default_rng((self.seed, 1, epoch, row)), self.crop_share)
        return replace(self.preprocessing, resize_mode="squash")(crop), pair.caption

    def _choices(self, number: int) -> Int[Tensor, " b"]:
        """Uniform over the 16 learned contexts and their mean, for a whole batch."""
        return torch.from_numpy(np.random.default_rng((self.seed, 2, number)).integers(CHOICES, size=self.size))

    def _no_pixels(self) -> UInt8[Tensor, "0 3 h w"]:
        return torch.empty(0, 3, self.preprocessing.height, self.preprocessing.width, dtype=torch.uint8)


def random_crop(
    image: Image.Image, generator: np.random.Generator, share: tuple[float, float], max_aspect: float = MAX_ASPECT
) -> Image.Image:
    """A rectangle of a random share of the area and a random aspect ratio, at a random place.

    Args:
        image: of any size.
        generator: of area, ratio and place.
        share: (least, most) of the area, in (0, 1].
        max_aspect: the longer side over the shorter one, at most.

    Returns:
        After `TRIALS` rectangles that don't fit, the largest one of an allowed ratio from the centre.
    """
    for _ in range(TRIALS):
        area = image.width * image.height * generator.uniform(*share)
        aspect = max_aspect ** generator.uniform(-1, 1)
        width, height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < width <= image.width and 0 < height <= image.height:
            left = int(generator.integers(image.width - width + 1))
            top = int(generator.integers(image.height - height + 1))
            return image.crop((left, top, left + width, top + height))
    width = max(1, min(image.width, round(image.height * max_aspect)))
    height = max(1, min(image.height, round(image.width * max_aspect)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
