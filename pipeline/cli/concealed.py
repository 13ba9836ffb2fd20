"""Masking of secrets in the process's command line, which other users of the machine and Ray's dashboard can see.

``ps`` shows it to everybody, and Ray keeps it as the entrypoint of a job. The kernel reads it from the memory of the
process itself, so the process can write there what is to be seen. Between the start and that moment it is seen whole:
an address of which nobody may know is better given in a file (``rewarm watch --webhook @FILE``).
"""

import ctypes
import os
from pathlib import Path

from rewarm.pipeline.redaction import redact_words

COMMAND_LINE, STATUS = Path("/proc/self/cmdline"), Path("/proc/self/stat")
ARG_START, ARG_END = 45, 46  # proc_pid_stat(5), fields 48 and 49; counted from the third, which follows the name


def conceal() -> None:
    """Mask the secrets in this process's command line; ``sys.argv`` keeps them. Only on Linux."""
    try:
        line = COMMAND_LINE.read_bytes()
        fields = STATUS.read_text().rpartition(")")[2].split()
    except OSError:
        return
    words = [os.fsdecode(word) for word in line.removesuffix(b"\0").split(b"\0")]
    shown = redact_words(words)
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if shown == words or end - start != len(line) or ctypes.string_at(start, len(line)) != line:
        return
    masked = b"\0".join(os.fsencode(word) for word in shown)[: len(line) - 1]
    # Spaces fill the rest: without the zero at its end, the kernel would take what follows for more of it.
    ctypes.memmove(start, masked.ljust(len(line) - 1) + b"\0", len(line))
