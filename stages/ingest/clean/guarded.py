"""A page read in a process of its own, which the kernel ends when it takes too much time or memory.

A parser's native code cannot be interrupted from Python, and a worker of Ray Data must not be killed for one page. The
limit is CPU time, not time on the clock, so that the result does not depend on what else the machine does.

    python -m stages.ingest.clean.guarded < page.html        # prints what was read as JSON
"""

import contextlib
import json
import os
import resource
import subprocess
import sys

from stages.ingest.clean.complexity import CPU_SECONDS

MEMORY = 4 * 2**30  # bytes of address space
CLOCK_SECONDS = 20 * CPU_SECONDS  # on a machine that has no time for it at all


def extract_guarded(source: str) -> list[str | None] | None:
    """What ``read_complex_page`` gives; None where it takes more than its time or memory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stages.ingest.clean.guarded"],
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
    from stages.ingest.clean.extract import read_complex_page

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source = sys.stdin.buffer.read().decode()
    sys.stdout.write(json.dumps(read_complex_page(source)))


if __name__ == "__main__":
    main()
