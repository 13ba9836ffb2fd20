"""Tables of files' digests: any change to any file is found, and named."""

import errno
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faulty_disk import Disk, compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewarm.stages.core.digests import (
    FILES,
    FileDigest,
    below,
    compare,
    digest_files,
    files_in,
    read_table,
    refuse_damage,
    table_of,
    write_table,
)
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder

CONTENTS = {"model/config.json": b'{"a": 1}', "model/weights.bin": bytes(range(256)) * 9000, "curve.json": b"[]"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "step")
    for name, data in CONTENTS.items():
        made.write(name, data)
    return made


def test_all_files_below_are_listed_and_scratch_is_not(folder: Folder) -> None:
    folder.write("snapshots/step-1", b"x")
    folder.write(".staging/part", b"x")
    assert files_in(folder, ("snapshots",)) == sorted(CONTENTS)


def test_a_table_comes_back_and_vouches_for_the_files(folder: Folder) -> None:
    table = digest_files(folder, files_in(folder))
    digest = write_table(folder, table)
    assert read_table(folder, digest) == table
    assert compare(folder, table) == []
    assert below(table, "model").keys() == {"config.json", "weights.bin"}
    with pytest.raises(DamagedError, match="by the record"):
        read_table(folder, "0" * 32)
    folder.delete(FILES)
    with pytest.raises(DamagedError, match=r"files\.json"):
        read_table(folder, digest)


def test_a_step_of_an_earlier_version_has_no_table(folder: Folder) -> None:
    assert table_of(folder) is None
    folder.write_json("manifest.json", {"outcome": {}})
    assert table_of(folder) is None
    folder.write_json("manifest.json", {FILES: write_table(folder, digest_files(folder, CONTENTS))})
    assert table_of(folder) == digest_files(folder, CONTENTS)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(CONTENTS)), place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_found(folder: Folder, name: str, place: int, bit: int) -> None:
    for other, whole in CONTENTS.items():
        (folder.path / other).write_bytes(whole)
    table = digest_files(folder, CONTENTS)
    data = bytearray(CONTENTS[name])
    data[place % len(data)] ^= 1 << bit
    (folder.path / name).write_bytes(data)
    assert [damage.file for damage in compare(folder, table)] == [name]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "found 100"),
        (lambda file: file.write_bytes(b""), "found 0"),
        (lambda file: (file.unlink(), file.mkdir()), "unreadable"),
    ],
)
def test_every_kind_of_damage_is_named(folder: Folder, damage, says: str) -> None:
    table = digest_files(folder, CONTENTS)
    damage(folder.path / "model" / "weights.bin")
    with pytest.raises(DamagedError, match=r"model/weights\.bin: expected 2,304,000 bytes") as raised:
        refuse_damage(folder, compare(folder, table))
    assert says in str(raised.value)
    assert "restore the file" in str(raised.value)


def test_a_table_may_name_files_beside_its_folder(tmp_path: Path) -> None:
    Folder(tmp_path / "dedup" / "news").write("near.arrow", b"index")
    folder = Folder(tmp_path / "datasets" / "news")
    table = {"../../dedup/news/near.arrow": FileDigest(5, "0" * 32)}
    with pytest.raises(DamagedError, match=f"{tmp_path}/dedup/news/near.arrow: expected digest 0+"):
        refuse_damage(folder, compare(folder, table))


COMPARE = """
import sys
from rewarm.stages.core.digests import compare, digest_files, files_in
from rewarm.stages.core.errors import RewarmError
from rewarm.stages.core.storage import Folder
folder = Folder(sys.argv[1])
table = digest_files(folder, files_in(folder))
print("known", flush=True)
sys.stdin.readline()
try:
    print([str(one) for one in compare(folder, table)])
except RewarmError as error:
    print(error.kind)
"""


@pytest.mark.parametrize(
    ("number", "seconds", "deadline_s", "found"),
    [
        (errno.ESTALE, 1.0, 60, "[]"),
        (errno.EIO, 1.0, 60, "[]"),
        (errno.ESTALE, 60.0, 0.5, "unreachable"),
        (errno.EIO, 60.0, 0.5, "unreadable: [Errno 5] Input/output error"),
    ],
)
def test_a_disk_that_fails_for_a_moment_is_no_damage(
    folder: Folder, tmp_path: Path, number: int, seconds: float, deadline_s: float, found: str
) -> None:
    disk = Disk(folder.path, compiled(tmp_path), tmp_path / "errno")
    process = subprocess.Popen(
        [sys.executable, "-c", COMPARE, folder.uri],
        env={**disk.environment, "REWARM_STORE_DEADLINE": str(deadline_s)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "known\n"
    disk.fail(number)
    began, mended = time.monotonic(), threading.Timer(seconds, disk.fail, (0,))
    mended.start()
    out, _ = process.communicate("go\n", timeout=60)
    mended.cancel()
    assert found in out
    assert time.monotonic() - began > min(seconds, deadline_s)
