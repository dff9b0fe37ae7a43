"""Word lists to mine negatives from: WordNet's, and users' own."""

from vlm_ood.lexicons.lexicon import PARTS_OF_SPEECH, Entry, Lexicon, PartOfSpeech
from vlm_ood.lexicons.names import key, naming_keys
from vlm_ood.lexicons.wordnet import (
    lexicon_from_file,
    lexicon_from_wordnet,
    lexicon_from_words,
    restrict,
    superclasses,
    wordnet,
)

__all__ = [
    "PARTS_OF_SPEECH",
    "Entry",
    "Lexicon",
    "PartOfSpeech",
    "key",
    "lexicon_from_file",
    "lexicon_from_wordnet",
    "lexicon_from_words",
    "naming_keys",
    "restrict",
    "superclasses",
    "wordnet",
]
