"""The greatest values of the server's limits: maxima of the schema of requests, which no setting can exceed."""

from typing import Final

IMAGES: Final = 4096  # in one request
CLASSES: Final = 100_000
TEMPLATES: Final = 4096
WORDS: Final = 1_000_000
JSON_BYTES: Final = 2**30
RESTRICTIONS: Final = 100  # lexicographer files or synsets; WordNet has 45 files
PARAMETERS: Final = 64  # of a method; also fields of any JSON object
URL_CHARACTERS: Final = 2048
FIELD_NAME_CHARACTERS: Final = 200
