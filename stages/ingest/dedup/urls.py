"""When two addresses are one: normalised by syntax alone (RFC 3986, section 6.2), then hashed."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import xxhash

PORTS = {"http": 80, "https": 443}


def normalised(url: str) -> str:
    """The address without its fragment, the scheme http or https, a default port, and a trailing slash of the path.

    Scheme and host are lower-cased; the path's case and the query stay, for they may name another page. What is no
    web address (a file's name, say) stays as it is.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return url
    if parts.scheme not in PORTS or not parts.hostname:
        return url
    host = parts.hostname if port in (None, PORTS[parts.scheme]) else f"{parts.hostname}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path.rstrip('/')}{query}"


def url_hashes(urls: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    """xxh3-64 of the normalised addresses; 0 where there is none."""
    hashes = (xxhash.xxh3_64_intdigest(normalised(url).encode()) or 1 if url else 0 for url in urls)
    return np.fromiter(hashes, np.uint64, len(urls))
