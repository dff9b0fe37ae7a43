"""Encoders: the only place that runs a network on pixels or text."""

from vlm_ood.encoders.base import Encoder, ImageEncoder, TextEncoder
from vlm_ood.encoders.factory import ENCODERS, load_encoder

__all__ = ["ENCODERS", "Encoder", "ImageEncoder", "TextEncoder", "load_encoder"]
