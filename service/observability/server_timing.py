"""The Server-Timing header: how long each stage of a request took."""

from service.engine import Timings


def server_timing(timings: Timings, score_s: float) -> str:
    """The header's value, in milliseconds: queue, decode, encode (the network) and score.

    Args:
        timings: of the engine, in seconds.
        score_s: seconds of scoring.
    """
    parts = {"queue": timings.queue_s, "decode": timings.decode_s, "encode": timings.encode_s, "score": score_s}
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in parts.items())
