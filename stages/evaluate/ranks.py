"""Draws by hashing: the same for the same documents and seed, whatever the shards or workers."""

import xxhash


def rank(*parts: object) -> str:
    """A hash to order by: an even draw that anybody can repeat."""
    return str(xxhash.xxh3_128_hexdigest("\0".join(map(str, parts)).encode()))
