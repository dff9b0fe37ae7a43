"""Messages between the pool and a decoder process.

A request is trusted by the decoder and may be a pickle. A reply comes from a process in which native code read hostile
bytes: it is JSON of a few known fields, of limited length.
"""

import json
import pickle
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, Final

from vlm_ood.encoders.preprocessing import Preprocessing

REQUEST: Final = Struct("!II")  # bytes of the task, bytes of the file; both follow
REPLY: Final = Struct("!I")  # bytes of the reply, which follows
LONGEST_ERROR: Final = 2000
LONGEST_REPLY: Final = 16 * LONGEST_ERROR  # JSON writes a character in up to 12 bytes


@dataclass(frozen=True)
class Task:
    """What to do with a file: preprocess it, and write the pixels to the memory there."""

    preprocessing: Preprocessing
    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Reply:
    """How it went.

    Args:
        error: why the picture can't be used; None when its pixels are there.
        out_of_memory: whether the limit on memory was the reason.
    """

    error: str | None = None
    out_of_memory: bool = False


def request_head(task: Task, content: bytes) -> bytes:
    """All of a request but the file."""
    pickled = pickle.dumps(task)
    return REQUEST.pack(len(pickled), len(content)) + pickled


def read_request(stream: BinaryIO) -> tuple[Task, bytes] | None:
    """The next request; None when the stream has ended."""
    head = stream.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    pickled_length, length = REQUEST.unpack(head)
    pickled, content = stream.read(pickled_length), stream.read(length)
    if len(content) < length:
        return None
    return pickle.loads(pickled), content  # noqa: S301 (from the engine)


def packed(reply: Reply) -> bytes:
    """A reply as it is sent."""
    error = None if reply.error is None else reply.error[:LONGEST_ERROR]
    body = json.dumps([error, reply.out_of_memory]).encode()
    return REPLY.pack(len(body)) + body


def reply_length(head: bytes) -> int:
    """The length that the head of a reply announces.

    Raises:
        ValueError: no reply is that long.
    """
    (length,) = REPLY.unpack(head)
    if length > LONGEST_REPLY:
        raise ValueError(f"a reply of {length:,} bytes")
    return int(length)


def unpacked(body: bytes) -> Reply:
    """A reply as it was received.

    Raises:
        ValueError: it is none.
    """
    match json.loads(body):
        case [None | str() as error, bool() as out_of_memory]:
            return Reply(error, out_of_memory)
    raise ValueError("not a reply")
