"""What processes of rewarm's own are given to import from: the package, and nothing that hides a module of Python's."""

import os
import subprocess
import sys

from rewarm.pipeline.lineage.lease.protocol import PROGRAM
from rewarm.stages.core.cluster import SOURCE


def test_workers_import_the_package_and_pythons_own_modules() -> None:
    """``stages.select`` on the path by its own name would stand before Python's ``select``: no worker of Ray starts."""
    ask = "import select, rewarm.stages.core.cluster as cluster; print(hasattr(select, 'poll'), cluster.SOURCE)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=False)
    assert (found.stdout.split(), found.stderr) == (["True", str(SOURCE)], "")
    assert not [name for name in sys.stdlib_module_names if (SOURCE / name).exists()]


def test_the_program_is_known_by_its_file() -> None:
    assert PROGRAM.is_file()
