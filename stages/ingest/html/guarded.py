"""Guarded parsing of complex pages in a separate process with limits on CPU time and memory.

Native code of a parser cannot be interrupted from Python, and a Ray Data worker must not be killed because of one page.
The limit is CPU time, not wall-clock time, so that the result does not depend on the machine's load.

    python -m rewarm.stages.ingest.html.guarded < page.html        # prints the parsed page as JSON

Complex pages are recognised by an upper bound on the parser's work, from one pass over the source. HTML's tree
construction compares a tag with all open elements, an attribute with all earlier ones, and reopens unclosed formatting
elements in every paragraph: quadratic time for a page that nests 100,000 lists or has 100,000 attributes. Only such a
page is parsed in a separate process; for all others the cost is this pass.
"""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys

import numpy as np

CPU_SECONDS = 3
MAX_PAIRS = 2 * 10**7  # pairs of a tag and an open element that encloses it
MAX_REOPENED = 10**6  # pairs of a tag and an unclosed formatting element before it
MAX_ATTRIBUTES = 1000  # per tag
FEW_TAGS = 1000
LONG_TAG = 4000  # characters from which the attributes of a tag are counted
TAG = re.compile(r"""<[a-zA-Z/](?:[^"'<>]|"[^"]*"|'[^']*')*""")
ATTRIBUTE = re.compile(r"""[^\s"'>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?""")
# First two letters of tags that are empty, or end where the next one begins …
FLAT = [b"br", b"hr", b"im", b"li", b"me", b"in", b"td", b"th", b"tr", b"dt", b"dd", b"p>", b"p ", b"p\n", b"pa"]
# … and of those that are reopened: a, b, big, em, font, i, s, small, strong, tt, u.
FORMATTING = [b"a ", b"a>", b"a\n", b"b>", b"b ", b"bi", b"em", b"fo", b"i>", b"i ", b"s>", b"s ", b"sm", b"st", b"tt"]
FORMATTING += [b"u>", b"u "]
ROOTS = [b"bo", b"ht"]  # whose attributes are collected on one element


def why_complex(page: str) -> str | None:
    """Return the reason why parsing a page could take seconds; None for all but a few in millions."""
    tags = page.count("<")
    if attributes := most_attributes(page):
        return f"a tag with {attributes} attributes"
    if tags <= FEW_TAGS:
        return None
    letters = np.frombuffer(page.lower().encode("ascii", "replace") + b"    ", np.uint8).astype(np.uint16)
    opening = np.flatnonzero(letters[:-4] == ord("<"))
    closing = letters[opening + 1] == ord("/")
    first = opening + 1 + closing
    name = letters[first] << 8 | letters[first + 1]
    is_tag = (letters[first] >= ord("a")) & (letters[first] <= ord("z"))
    if (roots := int((np.isin(name, codes(ROOTS)) & ~closing).sum())) > MAX_ATTRIBUTES:
        return f"{roots} tags of a body"
    step = np.where(closing, -1, 1)
    depth = deepest(step[is_tag & ~np.isin(name, codes(FLAT))])
    if depth * tags > MAX_PAIRS:
        return f"{tags} tags, nested up to {depth} deep"
    unclosed = deepest(step[is_tag & np.isin(name, codes(FORMATTING))])
    if unclosed * tags > MAX_REOPENED and unclosed > 50:
        return f"{tags} tags, up to {unclosed} formatting tags open at once"
    return None


def deepest(steps: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> int:
    """Return an upper bound on the number of open elements, from opening (1) and closing (-1) tags."""
    depth = np.cumsum(steps)
    return int((depth - np.minimum(np.minimum.accumulate(depth), 0)).max(initial=0)) if len(depth) else 0


def codes(names: list[bytes]) -> list[int]:
    """Return the first two letters of names as numbers."""
    return [int.from_bytes(name[:2], "big") for name in names]


def most_attributes(page: str) -> int:
    """Return the number of attributes of a tag that has more than ``MAX_ATTRIBUTES``; 0 if there is none."""
    if len(page) < LONG_TAG:
        return 0
    start = page.find("<")
    while start >= 0:
        following = page.find("<", start + 1)
        end = len(page) if following < 0 else following
        if end - start > LONG_TAG and (tag := TAG.match(page, start)) and tag.end() - start > LONG_TAG:
            number = len(ATTRIBUTE.findall(tag[0])) - 1
            if number > MAX_ATTRIBUTES:
                return number
        start = following
    return 0


MEMORY = 4 * 2**30  # bytes of address space
CLOCK_SECONDS = 20 * CPU_SECONDS  # on an overloaded machine


def extract_guarded(source: str) -> list[str | None] | None:
    """Return the result of ``read_complex_page``; None if it exceeds its limits of time or memory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "rewarm.stages.ingest.html.guarded"],
            input=source.encode("utf-8", "replace"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=CLOCK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    found: list[str | None] = json.loads(done.stdout)
    return found


def main() -> None:
    """Read one page from standard input."""
    from rewarm.stages.ingest.html.extract import read_complex_page

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source = sys.stdin.buffer.read().decode()
    sys.stdout.write(json.dumps(read_complex_page(source)))


if __name__ == "__main__":
    main()
