"""The Server-Timing header: where a request's time went."""

from service.engine import Timings


def server_timing(timings: Timings, score_s: float) -> str:
    """Milliseconds in the queue, in decoding, in the network and in the score."""
    parts = {"queue": timings.queue_s, "decode": timings.decode_s, "encode": timings.encode_s, "score": score_s}
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in parts.items())
