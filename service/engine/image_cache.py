"""A cache of image features and heads' answers, by the content of the image file."""

from service.caching.lru import ByteLru
from service.engine.records import EncodedImage, EncoderInfo, Head, HeadAnswer, outputs_of
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.types import ImageFeatures

RECORD_BYTES = 2048  # of Python objects around the vectors

Key = tuple[str, str, str, Outputs, str]  # tenant, digest of encoder, SHA-256, outputs, digest of head or "" for none


class ImageCache:
    """Pooled features, and answers of heads beside them: heads that read the same outputs share the features.

    Tenants share none: the time of an answer would tell one whether another has sent the same image.

    Args:
        max_bytes: of all together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteLru[Key, ImageFeatures | HeadAnswer] = ByteLru(max_bytes)

    def get(self, tenant: str, info: EncoderInfo, sha256: str, head: Head | None) -> EncodedImage | None:
        """The encoded image; None when its features or its answer are not here."""
        outputs = outputs_of(head)
        features = self._entries.get((tenant, info.digest, sha256, outputs, ""))
        answer = None if head is None else self._entries.get((tenant, info.digest, sha256, outputs, head.digest))
        if not isinstance(features, ImageFeatures) or isinstance(answer, ImageFeatures):
            return None
        return EncodedImage(features, answer) if head is None or answer is not None else None

    def put(self, tenant: str, info: EncoderInfo, sha256: str, head: Head | None, image: EncodedImage) -> None:
        """Keep the features and the answer."""
        outputs = outputs_of(head)
        features, answer = image.features, image.answer
        self._entries.put((tenant, info.digest, sha256, outputs, ""), features, features.pooled.nbytes + RECORD_BYTES)
        if head is not None and answer is not None:
            self._entries.put((tenant, info.digest, sha256, outputs, head.digest), answer, answer.nbytes + RECORD_BYTES)
