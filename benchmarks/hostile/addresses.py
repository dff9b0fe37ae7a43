"""URLs that point into the network of the server."""

import asyncio
from collections import Counter
from contextlib import suppress

from benchmarks.hostile.phases import Needs, Outcome, phase
from benchmarks.hostile.target import Target
from benchmarks.hostile.wire import Answer

FETCHING = Needs(
    {"VLM_OOD_URL_INPUT": "true", "VLM_OOD_URL_SCHEMES": "http,https", "VLM_OOD_URL_PORTS": "80,443,8099"},
)
LISTENER_PORT = 8099
LOOPBACK = (
    "127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "localhost", "localhost.", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0", "0", "[::]",  # noqa: S104
    "127.0.0.1%2f", "127。0。0。1", "①②⑦.0.0.1",
)  # fmt: skip
PRIVATE = (
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "[fd00::1]", "[fe80::1]",
    "[::ffff:10.0.0.1]", "224.0.0.1", "255.255.255.255", "metadata.google.internal",
)  # fmt: skip
SCHEMES = (
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://127.0.0.1/a",
    "data:image/png;base64,AAAA",
    "//127.0.0.1/",
)


@phase("addresses", needs=FETCHING, limit_s=90)
async def addresses(target: Target) -> Outcome:
    """URLs of loopback and private addresses in every notation: all are refused, and nobody connects."""
    connected = 0

    async def listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        writer.close()

    urls = [f"http://{host}:{LISTENER_PORT}/a.png" for host in LOOPBACK]
    urls += [f"http://{target.server.url.removeprefix('http://')}/livez", f"http://a@127.0.0.1:{LISTENER_PORT}/"]
    urls += [f"http://{host}/a.png" for host in PRIVATE] + list(SCHEMES)
    servers = [await asyncio.start_server(listener, "127.0.0.1", LISTENER_PORT)]
    with suppress(OSError):  # without IPv6
        servers.append(await asyncio.start_server(listener, "::1", LISTENER_PORT))
    try:
        answers = [await target.send([], urls=url) for url in urls]
    finally:
        for server in servers:
            server.close()
    fetched = [url for url, answer in zip(urls, answers, strict=True) if was_fetched(answer)]
    broken = [f"fetched: {', '.join(fetched)}"] if fetched else []
    broken += [f"the server connected to itself {connected} times"] if connected else []
    told = Counter(f"{answer.status} {answer.error()}".strip() for answer in answers)
    return Outcome(told, tuple(broken), (f"{len(urls) - len(fetched)} of {len(urls)} refused",))


def was_fetched(answer: Answer) -> bool:
    """Whether the image behind the URL was scored."""
    return answer.ok and not answer.error()
