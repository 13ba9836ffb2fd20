"""A writer that is suspended exactly where it gives a file its name (``held_writer.c``), for kills at commits."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

SOURCE = Path(__file__).with_suffix(".c")


class Hold:
    """Where commands that have ``environment`` are suspended."""

    def __init__(self, library: Path, control: Path) -> None:
        self.control, self.mark = control, control.with_name(f"{control.name}.pid")
        preloaded = {"LD_PRELOAD": str(library), "RAY_LD_PRELOAD_ON_WORKERS": "1"}
        self.environment = {**os.environ, **preloaded, "HELD_WRITER": str(control)}

    def at(self, when: str, pattern: str) -> None:
        """Suspend the next process that gives a path its name, just before or after it did; once."""
        scratch = self.control.with_name("next")
        scratch.write_text(f"{when}\n{pattern}\n")
        self.mark.unlink(missing_ok=True)
        scratch.replace(self.control)

    def nowhere(self) -> None:
        """Suspend nobody from now on."""
        self.control.unlink(missing_ok=True)

    def wait(self, command: subprocess.Popen[bytes], seconds: float = 200) -> psutil.Process | None:
        """The process that was suspended; None if the command ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
                held = psutil.Process(int(self.mark.read_text()))
                if held.status() == psutil.STATUS_STOPPED:
                    return held
            if command.poll() is not None:
                return None
            time.sleep(0.005)
        raise AssertionError(f"nothing came to {self.control.read_text()!r}")
