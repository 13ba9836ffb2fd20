"""Tables of files' digests: any change to any file is found, and named."""

from pathlib import Path

import pytest
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
