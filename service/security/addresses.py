"""Tells public addresses from private ones, also where an IPv4 address is embedded in an IPv6 one."""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # in bits 64 to 95, RFC 5214
_NOT_OF_THE_INTERNET: Final = (  # `ipaddress` of Python 3.11 takes them for global
    ipaddress.ip_network("168.63.129.16/32"),  # Azure answers its virtual machines here
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4, RFC 7526
    ipaddress.ip_network("64:ff9b:1::/48"),  # translators of a local network, RFC 8215
    ipaddress.ip_network("3fff::/20"),  # documentation, RFC 9637
    ipaddress.ip_network("fec0::/10"),  # site-local, RFC 3879
)


def is_public(address: str) -> bool:
    """Whether the address, and each IPv4 address embedded in it, is globally routable."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return "%" not in address and all(_is_global(each) for each in (ip, *_hidden_in(ip)))


def _is_global(ip: Address) -> bool:
    listed = any(ip in network for network in _NOT_OF_THE_INTERNET)
    return ip.is_global and not (listed or ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _hidden_in(ip: Address) -> list[Address]:
    """The IPv4 addresses embedded in an IPv6 address by a mapping, a tunnel or a translator."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    hidden: list[Address] = [found for found in (ip.ipv4_mapped, ip.sixtofour) if found is not None]
    hidden += ip.teredo or ()
    isatap = int(ip) >> 32 & 0xFFFFFFFF in _ISATAP
    if isatap or ip in _COMPATIBLE or any(ip in network for network in _NAT64):
        hidden.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return hidden
