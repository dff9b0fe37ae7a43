"""Limits on what the parsers of bodies build, derived from the settings."""

from dataclasses import dataclass
from typing import Final

from service.settings import Settings

BYTES_PER_VALUE: Final = 64  # of text on average; the lemmas of WordNet have 12 characters
FIELDS_PER_IMAGE: Final = 4  # braces, content or URL, name
OTHER: Final = 1000  # options, and the values of a method's parameters


@dataclass(frozen=True)
class ParseLimits:
    """Limits of one request.

    Args:
        values: of all JSON together: strings, numbers, lists and objects.
        text_bytes: of all text beside the images.
        fields: text fields of a form; each class name may be a field of its own.
    """

    values: int = 120_000
    text_bytes: int = 8 * 2**20
    fields: int = 12_000

    @staticmethod
    def of(settings: Settings) -> "ParseLimits":
        """The limits that let through whatever the settings allow, if names have 64 bytes on average."""
        images = max(settings.max_images, settings.max_calibration_images, settings.max_support_images)
        names = settings.max_classes + settings.max_words + 3 * settings.max_templates
        values = names + FIELDS_PER_IMAGE * images + OTHER
        return ParseLimits(values, BYTES_PER_VALUE * values, settings.max_classes + images + OTHER)
