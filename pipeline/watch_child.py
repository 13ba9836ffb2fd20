"""Launcher of a rewarm command in a process that never outlives the watch that started it.

python -m rewarm.pipeline.watch_child PARENT update WORKSPACE --data NAME=PATH
"""

import signal
import sys

from rewarm.pipeline.watch.child import tie


def main() -> None:
    """Run a rewarm command in this process, which is killed when the process PARENT ends."""
    tie(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    sys.argv = ["rewarm", *sys.argv[2:]]
    from rewarm.pipeline.cli import main as rewarm

    rewarm()


if __name__ == "__main__":
    main()
