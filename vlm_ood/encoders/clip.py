"""The encoder that every CLIP-like model becomes, whichever library it comes from."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vlm_ood.encoders.base import Encoder, Progress
from vlm_ood.encoders.image_tower import ImageTower
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.encoders.text_tower import TextTower, encode_prompts
from vlm_ood.types import ImageFeatures

CPU_BATCH: Final = 16  # on two CPU cores ViT-B/32 ran at 9 images/s alone, 15 by four, 17 by eight, 18.5 by sixteen
GPU_BATCH: Final = 128


class ClipEncoder(Encoder):
    """An image tower and a text tower that meet in one space.

    Args:
        name: what `load_encoder` was given.
        digest: of weights, architecture, preprocessing and precision.
        image: the image tower, on `device`.
        text: the text tower, on `device`.
        preprocessing: what the weights were trained on.
        dim: length of the joint space.
        scale: exp(logit_scale).
        device: of both towers.
        dtype: of both towers.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        image: ImageTower,
        text: TextTower,
        preprocessing: Preprocessing,
        *,
        dim: int,
        scale: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name, self.digest, self.dim, self.scale = name, digest, dim, scale
        self.device, self.dtype, self.preprocessing = device, dtype, preprocessing
        self.batch_size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        self.capabilities = image.capabilities | {"text_gradients"}
        self._image, self._text = image, text

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        """One forward pass over a batch; stages are tokens of patches, without the class token.

        Raises:
            CapabilityError: something that this architecture can't give, or a stage that it doesn't have.
            VectorError: pixels of another size than is asked for.
        """
        self.check(pixels, outputs)
        with torch.no_grad():  # not inference_mode: a tuner trains against these features
            inputs = self.preprocessing.normalise(pixels.to(self.device), self.dtype)
            return self._image(inputs, outputs)

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts, in order, on `device`; arguments as in `TextEncoder`."""
        return encode_prompts(self._text, prompts, normalise=normalise, batch_size=batch_size, progress=progress)

    def text_tower(self) -> TextTower:
        """The text tower that `encode_text` runs."""
        return self._text

    def refusal(self, outputs: Outputs) -> str | None:
        """What is wrong with the numbers in `outputs`; None when nothing is."""
        return self._image.refusal(outputs)
