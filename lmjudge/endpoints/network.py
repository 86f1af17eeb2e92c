"""The connection to a server: its address, certificates and proxy."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lmjudge.errors import EndpointError

_KEY_IN_URL = re.compile(r"(?i)[?&#][^=&]*(key|token|secret|sig|auth)[^=&]*=")
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def checked_url(url: str, *, allow_http: bool) -> tuple[str, str, bool]:
    """Return a base URL that can be used, its host, and whether that is this machine.

    0.0.0.0, which servers print as their address, is this machine. Raises EndpointError for what is
    no base URL, and for plain http to another machine unless `allow_http`.
    """
    try:
        parts = urlsplit(url)
        host, usable = parts.hostname, parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        host, usable = None, False
    odd = not re.fullmatch("[!-~]+", url) or _KEY_IN_URL.search(url)
    if not host or not usable or "@" in parts.netloc or odd:
        # Only what looks like a host is quoted: a key may have been pasted there.
        named = re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?[\w/.-]*", url)
        bare = f" ({url[:99]!r} names no http or https)" if named else ""
        raise EndpointError(
            f"the base URL (base_url or OPENAI_BASE_URL) is not valid{bare}; expected"
            " https://host/v1, without a name, password or key in it"
        )
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise EndpointError(
            f"the base URL {url!r} ends in /chat/completions, which lmjudge adds; leave that out"
        )
    if host in _ANY_ADDRESS:
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=f"{_ANY_ADDRESS[host]}{port}").geturl(), host, True
    local = is_loopback(host)
    if parts.scheme == "http" and not local and not allow_http:
        raise EndpointError(
            f"the base URL is plain http to {host}: others can read prompts and key on the way. Use"
            " https, or allow_http=True (--allow-http) in a network that you trust."
        )
    return url, host, local


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Network:
    """How to reach one server: whom to trust, the proxy's URL, and what names the proxy."""

    tls: ssl.SSLContext = field(repr=False)
    proxy: str | None = field(default=None, repr=False)
    proxy_named_by: str = ""

    @classmethod
    def to(cls, url: str, ca_file: str | os.PathLike[str] | None = None) -> Network:
        """Return the way to the server of a base URL.

        A proxy sees all of a plain http request, the key included, so only https to another machine
        uses the environment's. Raises EndpointError for a proxy or a CA file that cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            # A context that trusts no certificate: loading the real ones takes longer than a reply.
            return cls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        tls, host = _certificates(ca_file), parts.hostname or ""
        proxies = {} if is_loopback(host) or proxy_bypass(host) else getproxies()
        proxy = proxies.get("https") or proxies.get("all")
        if not proxy:
            return cls(tls)
        named = [name for name, value in os.environ.items() if value == proxy]
        name = next((name for name in named if name.lower().endswith("_proxy")), "the system")
        scheme, separator, _ = proxy.partition("://")
        if separator and scheme.lower() not in ("http", "https"):
            raise EndpointError(
                f"the proxy of {name} uses {scheme[:20]}://, which lmjudge does not support; unset"
                f" it, set HTTPS_PROXY to an http:// proxy, or add {host} to NO_PROXY"
            )
        return cls(tls, proxy if separator else f"http://{proxy}", name)


def _certificates(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext:
    import httpx2

    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    name = "ca_file" if ca_file else next((name for name in names if os.environ.get(name)), "")
    path = os.fspath(ca_file) if ca_file else os.environ.get(name, "")
    try:
        if ca_file:
            return ssl.create_default_context(cafile=path)
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise EndpointError(
            f"{name or 'the system'} gives no certificates: {path!r} ({error}); give a PEM file of"
            " the authorities to trust, or unset it"
        ) from error
