"""The engine's record of installed heads always equals the worker's: both change by the same messages."""

from collections import deque

import torch
from hypothesis import given
from hypothesis import strategies as st

from service.engine.schedule.head_book import HeadBook
from service.engine.worker.installed import InstalledHeads
from service.engine.worker.protocol import HeadWork
from tests.service.engine.stand_ins import EchoHead

MAX_BYTES = 300
CPU = torch.device("cpu")
SIZES = {"a": 50, "b": 100, "c": 150, "d": 100, "broken": 50}


def head(digest: str) -> EchoHead:
    return EchoHead(digest, nbytes=SIZES[digest], broken=[ValueError("broken")] if digest == "broken" else [])


def heads(digests: list[str]) -> list[EchoHead | None]:
    return [head(digest) if digest else None for digest in digests]


BATCH = st.lists(st.sampled_from([*SIZES, ""]), min_size=1, max_size=5).filter(
    lambda digests: sum(SIZES.get(digest, 0) for digest in set(digests)) <= MAX_BYTES
)


@given(st.lists(BATCH, max_size=20), st.integers(0, 2))
def test_what_a_batch_runs_is_there_and_the_store_stays_within_its_bound(batches: list[list[str]], late: int) -> None:
    book, store = HeadBook(MAX_BYTES), InstalledHeads()
    answers: deque[tuple[str, ...]] = deque()
    for digests in batches:
        while len(answers) > late:  # the engine hears of failures some batches later
            book.forget(answers.popleft())
        work = book.send(heads(digests))
        store.update(work, CPU)
        answers.append(store.missing(work.run))
        assert set(store.missing(work.run)) <= {"broken"}
        assert {each.digest: [digests[row] for row in each.rows] for each in work.run} == {
            digest: [digest] * digests.count(digest) for digest in digests if digest
        }
        assert sum(SIZES[digest] for digest in store._functions) <= MAX_BYTES


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    assert HeadBook(MAX_BYTES).send(heads(["", ""])) == HeadWork()


def test_a_head_that_is_forgotten_is_dropped_or_sent_again() -> None:
    book = HeadBook(MAX_BYTES)
    book.send(heads(["a", "b"]))
    book.forget(["a"])
    assert book.send(heads(["b"])).drop == ("a",)
    book.forget(["b"])
    work = book.send(heads(["b"]))
    assert (work.drop, [each.digest for each in work.install]) == ((), ["b"])
