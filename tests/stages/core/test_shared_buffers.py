"""Buffers that killed processes left in shared memory are removed, and none that a process maps."""

import mmap
import os
import time
from pathlib import Path

from rewarm.stages.core.shared_buffers import PREFIX, SETTLED_S, remove_buffers


def test_buffers_that_no_process_maps_are_removed(tmp_path: Path) -> None:
    left, mapped, new, other = (tmp_path / name for name in (f"{PREFIX}0", f"{PREFIX}1", f"{PREFIX}2", "sem.other"))
    for file in (left, mapped, new, other):
        file.write_bytes(b"x" * 4096)
        os.utime(file, (time.time() - SETTLED_S - 1,) * 2)
    new.touch()
    with mapped.open("r+b") as handle, mmap.mmap(handle.fileno(), 0) as held:
        assert held[0] == ord("x")
        said = remove_buffers(tmp_path)
        assert said == f"removed 1 buffers of DeepSpeed that killed processes left in {tmp_path} (0.0 MB)"
        assert [one.exists() for one in (left, mapped, new, other)] == [False, True, True, True]
    assert remove_buffers(tmp_path) is not None
    assert remove_buffers(tmp_path) is None
    assert [one.exists() for one in (mapped, new, other)] == [False, True, True]


def test_processes_that_end_meanwhile_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}0").write_bytes(b"x")
    os.utime(tmp_path / f"{PREFIX}0", (1, 1))
    (tmp_path / "proc/77/maps").mkdir(parents=True)  # cannot be read
    (tmp_path / "proc/78").mkdir()
    (tmp_path / "proc/78/maps").write_text(f"7f00-7f01 rw-s 0 00:01 5 /dev/shm/{PREFIX}0\n")
    assert remove_buffers(tmp_path, tmp_path / "proc") is None
    (tmp_path / "proc/78/maps").unlink()
    assert remove_buffers(tmp_path, tmp_path / "proc") is not None
