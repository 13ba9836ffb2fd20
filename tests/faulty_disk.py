"""A disk whose calls fail on request, for commands of their own processes (``faulty_disk.c`` is loaded there)."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class Disk:
    """The disk of a folder, for commands that have ``environment``."""

    def __init__(self, folder: Path, library: Path, control: Path) -> None:
        self.control = control
        control.write_bytes(struct.pack("i", 0))
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "RAY_LD_PRELOAD_ON_WORKERS": "1",
            "FAULTY_DISK": str(folder),
            "FAULTY_DISK_ERRNO": str(control),
        }

    def fail(self, number: int) -> None:
        """Its calls fail with an error number from now on; 0: they succeed."""
        with self.control.open("r+b") as stream:
            stream.write(struct.pack("i", number))


def compiled(folder: Path, source: Path = SOURCE) -> Path:
    """A library to be preloaded, compiled into a folder."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    made = folder / f"{source.stem}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", made, source, "-ldl"], check=True)
    return made
