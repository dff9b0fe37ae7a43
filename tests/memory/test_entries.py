"""What stays in a memory: the cheapest, of equal ones the older, within both limits."""

import torch

from vlm_ood.memory.entries import Entries


def entries(costs: list[float], labels: list[int]) -> Entries:
    """One vector for each, which says where it was in the list."""
    return Entries(
        torch.arange(float(len(costs)))[:, None], torch.tensor(costs, dtype=torch.float32), torch.tensor(labels)
    )


def test_the_cheapest_of_each_label_stay() -> None:
    memory = Entries.none(1, torch.device("cpu")).joined(entries([3, 1, 2, 9], [0, 0, 0, 1]), per_label=2, capacity=9)

    assert memory.costs.tolist() == [1, 2, 9]
    assert memory.labels.tolist() == [0, 0, 1]
    assert memory.vectors.flatten().tolist() == [1, 2, 3]


def test_the_cheapest_of_all_stay() -> None:
    memory = Entries.none(1, torch.device("cpu")).joined(entries([3, 1, 2, 9], [0, 1, 2, 3]), per_label=9, capacity=2)

    assert memory.costs.tolist() == [1, 2]


def test_of_equal_ones_the_older_stays() -> None:
    old = Entries.none(1, torch.device("cpu")).joined(entries([1, 1], [0, 0]), per_label=2, capacity=2)
    new = Entries(torch.tensor([[7.0]]), torch.tensor([1.0]), torch.tensor([0]))

    assert old.joined(new, per_label=2, capacity=2).vectors.flatten().tolist() == [0, 1]


def test_ranks_count_within_a_label() -> None:
    assert entries([0, 1, 2, 3, 4], [5, 2, 5, 5, 2]).ranks.tolist() == [0, 0, 1, 2, 1]
