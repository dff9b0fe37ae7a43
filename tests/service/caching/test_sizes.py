import numpy as np
import torch

from service.caching.sizes import OTHER_BYTES, STRING_BYTES, bytes_of
from vlm_ood import Task, TextBank


def test_a_tensor_counts_once_however_often_it_is_held() -> None:
    tensor = torch.zeros(1000)
    assert bytes_of([tensor, {"same": tensor}, tensor[:10]]) == 4000


def test_records_count_with_all_that_is_below_them() -> None:
    bank = TextBank(("a", "bc"), torch.eye(2))
    words = 2 * STRING_BYTES + 3 + len(bank.digest) + STRING_BYTES
    assert 16 + words <= bytes_of(Task(classes=bank)) <= 16 + words + 10 * OTHER_BYTES


def test_arrays_count_as_tensors_do() -> None:
    array = np.zeros(1000, np.float32)
    assert bytes_of({"a": array, "same": array}) == 4000


def test_a_class_is_no_record() -> None:
    assert bytes_of([TextBank]) == OTHER_BYTES
