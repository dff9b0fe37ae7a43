"""Build the word lists from Princeton WordNet 3.0: `python lexicons/build.py`.

    apt-get install wordnet-base wordnet-sense-index

puts WordNet in /usr/share/wordnet. It lacks the file `lexnames`, which NLTK reads; the table is in the manual page
lexnames(5WN) of the same package. NLTK opens a WordNet only as corpora/wordnet in a folder of its data path, and
follows no links, so that the files are copied into a temporary one.
"""

import argparse
import gzip
import hashlib
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from vlm_ood.lexicons.thesaurus import TABLE, write_table
from vlm_ood.lexicons.wordnet import CORPORA, lexicon_of, synsets_of
from vlm_ood.lexicons.words import clean_word

HERE = Path(__file__).parent
MANUAL = Path("/usr/share/man/man5/lexnames.5WN.gz")
SYNTACTIC_CATEGORY = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


def main() -> None:
    """Write every list, the synsets, the exceptions and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of data.noun")
    parser.add_argument("--out", type=Path, default=HERE)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reader = open_wordnet(chosen.wordnet, Path(folder))
        synsets = tuple(synsets_of(reader))
    for corpus in CORPORA:
        write_lists(chosen.out / corpus, lexicon_of(synsets, corpus).files)
    write_table(chosen.out / TABLE, synsets)
    write_exceptions(chosen.wordnet / "noun.exc", chosen.out / "noun-exceptions.txt")
    write_manifest(chosen.out)


def open_wordnet(source: Path, folder: Path) -> Any:
    """NLTK's reader over a copy of the files in `source`."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    corpus = folder / "corpora" / "wordnet"
    corpus.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, corpus)
    if not (corpus / "lexnames").exists():
        (corpus / "lexnames").write_text(lexnames(gzip.decompress(MANUAL.read_bytes()).decode()))
    nltk.data.path.insert(0, str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no multilingual functions: none are needed
        return WordNetCorpusReader(nltk.data.FileSystemPathPointer(str(corpus)), None)


def lexnames(manual: str) -> str:
    """The file `lexnames` out of its manual page: number, name, syntactic category."""
    rows = re.findall(r"^(\d\d)\t(\w+)\.(\w+)", manual, flags=re.MULTILINE)
    return "".join(f"{number}\t{part}.{name}\t{SYNTACTIC_CATEGORY[part]}\n" for number, part, name in rows)


def write_lists(folder: Path, files: Any) -> None:
    """One text file a lexicographer file; lists of an earlier build go."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, words in files.items():
        (folder / f"{file}.txt").write_text("".join(word + "\n" for word in words), encoding="utf-8")


def write_exceptions(source: Path, target: Path) -> None:
    """Irregular plurals of nouns: plural, tab, its singulars."""
    rows = {"\t".join(map(clean_word, line.split())) for line in source.read_text().splitlines()}
    target.write_text("".join(row + "\n" for row in sorted(rows)), encoding="utf-8")


def write_manifest(folder: Path) -> None:
    """Count and SHA-256 of every file."""
    lines = [
        'source = "Princeton WordNet 3.0, https://wordnet.princeton.edu"',
        'licence = "WordNet 3.0 license (LICENSE.wordnet)"',
    ]
    data = [*folder.glob("*/*.txt"), *folder.glob("*.txt"), folder / TABLE]
    for path in sorted(data):
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        lines += [
            f'\n["{path.relative_to(folder)}"]',
            f"lines = {len(text.splitlines())}",
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
        ]
    (folder / "manifest.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
