"""A page read in a process of its own, which the kernel ends when it takes too much time or memory.

A parser's native code cannot be interrupted from Python, and a worker of Ray Data must not be killed for one page. The
limit is CPU time, not time on the clock, so that the result does not depend on what else the machine does.

    python -m rewarm.stages.ingest.html.guarded < page.html        # prints what was read as JSON

Pages that could hold a parser up: a bound on its work, from one pass over the source.

HTML's tree construction compares a tag with the open elements above it, an attribute with those before it, and opens
unclosed formatting elements again in every paragraph: work that grows with the square of a page that nests 100,000
lists or has 100,000 attributes. Such a page is read in a process of its own, which can be stopped; all others pay this
pass only.
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
MAX_PAIRS = 2 * 10**7  # of a tag and an element open around it
MAX_REOPENED = 10**6  # of a tag and a formatting element left open before it
MAX_ATTRIBUTES = 1000  # of one tag
FEW_TAGS = 1000
LONG_TAG = 4000  # characters from which a tag is looked at for its attributes
TAG = re.compile(r"""<[a-zA-Z/](?:[^"'<>]|"[^"]*"|'[^']*')*""")
ATTRIBUTE = re.compile(r"""[^\s"'>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?""")
# First two letters of tags that hold nothing, or that end where the next begins …
FLAT = [b"br", b"hr", b"im", b"li", b"me", b"in", b"td", b"th", b"tr", b"dt", b"dd", b"p>", b"p ", b"p\n", b"pa"]
# … and of those that are opened again: a, b, big, em, font, i, s, small, strong, tt, u.
FORMATTING = [b"a ", b"a>", b"a\n", b"b>", b"b ", b"bi", b"em", b"fo", b"i>", b"i ", b"s>", b"s ", b"sm", b"st", b"tt"]
FORMATTING += [b"u>", b"u "]
ROOTS = [b"bo", b"ht"]  # whose attributes are gathered on one element


def why_complex(page: str) -> str | None:
    """Why a page could take a parser seconds; None for all but a few of millions."""
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
    """At most how many elements are open at once, by the tags that open (1) and close (-1) them."""
    depth = np.cumsum(steps)
    return int((depth - np.minimum(np.minimum.accumulate(depth), 0)).max(initial=0)) if len(depth) else 0


def codes(names: list[bytes]) -> list[int]:
    """First two letters as numbers."""
    return [int.from_bytes(name[:2], "big") for name in names]


def most_attributes(page: str) -> int:
    """The attributes of a tag that has more than ``MAX_ATTRIBUTES``; 0 where no tag has."""
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
CLOCK_SECONDS = 20 * CPU_SECONDS  # on a machine that has no time for it at all


def extract_guarded(source: str) -> list[str | None] | None:
    """What ``read_complex_page`` gives; None where it takes more than its time or memory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rewarm.stages.ingest.html.guarded"],
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
