"""Workers of a local Ray import installed packages, whatever modules the directory of the command has."""

import subprocess
import sys
from pathlib import Path

SHADOWS = ("datasets", "numpy", "packaging", "typing_extensions", "yaml", "evaluate", "utils")

PROGRAM = """
import ray
from rewarm.stages.core.cluster import connected

@ray.remote
def places():
    import datasets, numpy, yaml
    import sys
    return [sys.path, datasets.__file__, numpy.__file__, yaml.__file__]

if __name__ == "__main__":
    with connected(num_cpus=1, models=False):
        path, *files = ray.get(places.remote())
    import os
    assert os.getcwd() not in path and "" not in path, path
    print(*files, sep="\\n")
"""


def test_a_users_modules_do_not_hide_libraries(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the user was imported')")
    program = tmp_path / "program" / "run.py"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = done.stdout.split()
    assert len(files) == 3
    assert not any(name.startswith(str(folder)) for name in files)
