"""How many file descriptors are left for connections; running out of them would fail the database and the workers."""

import sys
from typing import Final

OTHERS: Final = 256  # files, pipes and sockets of everything else


def descriptors_for(connections: int) -> int:
    """Raise the soft limit of this process to what so many connections need, and return how many it allows.

    Under a low hard limit three quarters are kept for everything else.
    """
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHERS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    return min(connections, soft - min(OTHERS, 3 * soft // 4))
