"""A command of rewarm in a process that never outlives the watch that started it.

python -m rewarm.pipeline.watch_child PARENT update WORKSPACE --data NAME=PATH
"""

import signal
import sys

from rewarm.pipeline.watch.child import tie


def main() -> None:
    """Run a command of rewarm in this process, for as long as the process PARENT lives."""
    tie(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    sys.argv = ["rewarm", *sys.argv[2:]]
    from rewarm.pipeline.cli import main as rewarm

    rewarm()


if __name__ == "__main__":
    main()
