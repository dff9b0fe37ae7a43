"""How long a connection may be in each of its states."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a connection may spend in each state.

    Args:
        head_s: until the first byte of the first head, and from there to the end of each head.
        reserve_head_s: the same for a connection that is served health alone.
        keep_alive_s: between an answer and the next head.
        body_s: for a body that the application doesn't read; `bodies` limits the others, sooner.
        unread_s: for the rest of a body after its answer.
        write_s: in which a slow reader takes at least 1 KiB per second.
    """

    head_s: float = 10.0
    reserve_head_s: float = 2.0
    keep_alive_s: float = 5.0
    body_s: float = 65.0
    unread_s: float = 2.0
    write_s: float = 10.0
