"""Links, manifests and keys that lead out of a folder: not read, and named; links within it are followed."""

from pathlib import Path

import pytest
from ingest_stores import amazon, boto

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.listing import is_odd, leads_out
from rewarm.stages.ingest.settings import StorageSettings

DOCUMENT = '{"text": "a document"}\n'


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """An inbox beside a secret; in the inbox an arrival full of ways out."""
    for name in ("secret/key.jsonl", "secret/deep/key.jsonl", "inbox/a/good.jsonl", "inbox/b/other.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(DOCUMENT)
    arrival = tmp_path / "inbox" / "a"
    (arrival / "file.jsonl").symlink_to(tmp_path / "secret" / "key.jsonl")
    (arrival / "folder").symlink_to(tmp_path / "secret")
    (arrival / "relative").symlink_to("../../secret/deep")
    (arrival / "chain").symlink_to("folder")
    (arrival / "everything").symlink_to("/")
    (arrival / "sibling").symlink_to("../b")
    (tmp_path / "inbox-beside").mkdir()
    (tmp_path / "inbox-beside" / "x.jsonl").write_text(DOCUMENT)
    (arrival / "prefix").symlink_to(tmp_path / "inbox-beside")
    return tmp_path


def test_links_that_lead_out_are_named_and_not_read(world: Path) -> None:
    progress = Notes()
    settings = IngestSettings(within=str(world / "inbox"))
    found = find_inputs([str(world / "inbox" / "a")], settings, progress)
    assert [file.name for file in found] == ["good.jsonl", "sibling/other.jsonl"]
    (note,) = [one for one in progress.notes if "lead out" in one]
    for name in ("file.jsonl", "folder", "relative", "chain", "everything", "prefix"):
        assert f"/a/{name}" in note or "and 1 more" in note


def test_without_the_setting_links_are_followed(world: Path) -> None:
    (world / "inbox" / "a" / "everything").unlink()
    names = [file.name for file in find_inputs([str(world / "inbox" / "a")], IngestSettings())]
    assert {"good.jsonl", "sibling/other.jsonl"} < set(names)
    assert sum(name.endswith("key.jsonl") or name == "file.jsonl" for name in names) == 2, "each file once"


@pytest.mark.parametrize(
    "line",
    ["../secret/key.jsonl", "{root}/secret/key.jsonl", "a/folder/key.jsonl", "a/../../secret", "https://h/x.jsonl"],
)
def test_a_manifest_cannot_lead_out(world: Path, line: str) -> None:
    manifest = world / "inbox" / "list"
    manifest.write_text(f"a/good.jsonl\n{line.format(root=world)}\n")
    with pytest.raises(UsageError, match=r"leads out of .*/inbox"):
        find_inputs([f"@{manifest}"], IngestSettings(within=str(world / "inbox")))


def test_a_link_whose_name_looks_like_a_pattern_does_not_lead_out(world: Path) -> None:
    link = world / "inbox" / "x[1].jsonl"
    link.symlink_to(world / "secret" / "key.jsonl")
    with pytest.raises(UsageError, match="leads out"):
        find_inputs([str(link)], IngestSettings(within=str(world / "inbox")))


def test_a_pattern_does_not_lead_out(world: Path) -> None:
    progress = Notes()
    pattern = str(world / "inbox" / "a" / "*")
    found = find_inputs([pattern], IngestSettings(within=str(world / "inbox")), progress)
    assert sorted(file.name for file in found) == ["good.jsonl", "sibling/other.jsonl"]
    assert any("lead out" in note for note in progress.notes)


def test_the_second_file_of_tokens_does_not_lead_out(world: Path) -> None:
    arrival = world / "inbox" / "tokens"
    arrival.mkdir()
    (arrival / "x.bin").write_bytes(b"\0" * 8)
    (world / "secret" / "x.idx").write_bytes(b"MMIDIDX\0\0")
    (arrival / "x.idx").symlink_to(world / "secret" / "x.idx")
    with pytest.raises(UsageError, match=r"x\.(idx|bin)"):
        find_inputs([str(arrival)], IngestSettings(within=str(world / "inbox")))


def test_what_leads_out_is_told_by_where_it_ends(world: Path) -> None:
    inbox = world / "inbox"
    (world / "door").symlink_to(inbox)
    assert not leads_out(world / "door" / "a" / "good.jsonl", inbox)
    assert not leads_out(inbox / "a" / "good.jsonl", world / "door"), "the inbox may itself be a link"
    assert leads_out(world / "inbox-beside", inbox)
    assert not leads_out(inbox, inbox)
    (inbox / "dangling").symlink_to(world / "nowhere")
    assert leads_out(inbox / "dangling", inbox)


def test_odd_keys_of_a_store_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert is_odd("/../x.jsonl") and is_odd("a/../../b") and not is_odd("a/..b/c..jsonl")
    with amazon() as server:
        client = boto("s3", server)
        client.create_bucket(Bucket="odd")
        for key in ("in/a/good.jsonl", "in/a/../../secret/x.jsonl", "secret/y.jsonl"):
            client.put_object(Bucket="odd", Key=key, Body=DOCUMENT.encode())
        progress = Notes()
        storage = StorageSettings(endpoint=f"http://{server}", region="us-east-1")
        settings = IngestSettings(storage=storage, within="s3://odd/in")
        found = find_inputs(["s3://odd/in/a"], settings, progress)
        assert [file.name for file in found] == ["good.jsonl"]
        assert any("secret/x.jsonl" in note for note in progress.notes)
        for place in ("s3://odd/secret/y.jsonl", "s3://other/in/x.jsonl", "https://h/x.jsonl", str(tmp_path)):
            with pytest.raises(UsageError, match="leads out"):
                find_inputs([place], settings)
