"""Tensors as bytes: what was written comes back to the bit, and anything else is an error."""

import errno
import json
import os
import struct
from pathlib import Path

import pytest
import torch

from vlm_ood.errors import StorageError
from vlm_ood.io.files import DTYPES, MAX_AXES, tensors_from_bytes, tensors_to_bytes, write_bytes


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_tensors_and_metadata_come_back_to_the_bit(dtype: torch.dtype) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).to(dtype).T, "b": torch.ones(1, dtype=dtype)}
    back, metadata = tensors_from_bytes(tensors_to_bytes(tensors, {"names": '["é"]'}))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) and back[name].dtype == dtype for name in tensors)
    assert metadata == {"names": '["é"]'}
    assert tensors_from_bytes(tensors_to_bytes(tensors))[1] == {}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"dtype": "U8", "shape": [8]}, "type U8"),
        ({"dtype": "F8_E5M2", "shape": [8]}, "type F8_E5M2"),
        ({"dtype": "F32", "shape": [2] + [1] * MAX_AXES}, "axes"),
        ({"dtype": "F32", "shape": [3]}, "not a readable"),
        ({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "not a readable|empty"),
    ],
)
def test_what_is_not_read_is_a_storage_error(entry: dict[str, object], told: str) -> None:
    header = json.dumps({"t": {"data_offsets": [0, 8]} | entry}).encode()
    with pytest.raises(StorageError, match=told):
        tensors_from_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def test_an_empty_tensor_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="empty"):
        tensors_from_bytes(tensors_to_bytes({"a": torch.empty(0, 2**40)}))


def test_as_many_axes_as_the_limit_says_are_read() -> None:
    most = {"t": torch.ones([1] * 8)}
    assert tensors_from_bytes(tensors_to_bytes(most))[0]["t"].shape == most["t"].shape
    with pytest.raises(StorageError, match="more than 8 axes"):
        tensors_from_bytes(tensors_to_bytes({"t": torch.ones([1] * 9)}))


def test_a_file_that_cannot_be_written_says_what_the_system_says(tmp_path: Path) -> None:
    """And neither its number nor the name of the partial file."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        write_bytes(tmp_path / "file" / "below", b"content")
    assert str(caught.value).startswith(f"{tmp_path / 'file' / 'below'} can't be written: ")
    assert os.strerror(errno.ENOTDIR) in str(caught.value) or os.strerror(errno.EEXIST) in str(caught.value)
    assert "[Errno" not in str(caught.value)
