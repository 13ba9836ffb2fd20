"""A command of rewarm in a process that never outlives the watch that started it.

python -m pipeline.watch.launch PARENT update WORKSPACE --data NAME=PATH
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Run a command of rewarm in this process, and be killed when the process PARENT ends, however it ends.

    An update that is killed goes on later where it stood; one that is orphaned would write beside the next.
    """
    parent = int(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    sys.argv = ["rewarm", *sys.argv[2:]]
    from pipeline.cli import main as rewarm

    rewarm()


if __name__ == "__main__":
    main()
