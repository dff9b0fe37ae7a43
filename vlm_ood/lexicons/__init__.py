"""Word lists to mine negatives from: WordNet's, and users' own."""

from vlm_ood.lexicons.lexicon import PARTS_OF_SPEECH, Entry, Lexicon, PartOfSpeech, part_of_speech
from vlm_ood.lexicons.names import key, naming_keys
from vlm_ood.lexicons.wordnet import (
    LEXICONS,
    everyday_words,
    lexicon_from_file,
    lexicon_from_wordnet,
    lexicon_from_words,
    lexicon_named,
    restrict,
    superclasses,
    wordnet,
)
from vlm_ood.lexicons.words import read_words

__all__ = [
    "LEXICONS",
    "PARTS_OF_SPEECH",
    "Entry",
    "Lexicon",
    "PartOfSpeech",
    "everyday_words",
    "key",
    "lexicon_from_file",
    "lexicon_from_wordnet",
    "lexicon_from_words",
    "lexicon_named",
    "naming_keys",
    "part_of_speech",
    "read_words",
    "restrict",
    "superclasses",
    "wordnet",
]
