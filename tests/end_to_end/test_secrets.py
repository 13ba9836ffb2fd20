"""Secrets in every address that a command accepts, through a real update: none is in what the commands write or print.

Looked at: all objects of the workspace (tables decoded), the terminal, the report, local copies, temporary files, Ray's
logs and records, the metrics endpoints, notices and released files.
"""

import base64
import http.server
import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from prometheus import ray_with_metrics
from small_lineage import Lineage, command
from unsteady_store import Store, address, store
from watch_webhook import webhook

from rewarm.stages.core.storage import Folder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]
# Each is planted in one place, and looked for as it is and in base64.
STORE_KEY, STORE_SECRET = "AKIAQ2W3E4R5T6Y7U2I3", "p1antedStoreSecret"
USER, PASSWORD, SIGNATURE = "p1antedUser", "p1antedPassword", "p1antedSignature"
HOOK, ARGUMENT = "p1antedHook", "p1antedArgument"
PUSH_SECRET, VARIABLE = "p1antedPush", "p1antedVariable"
ENVIRONMENT = {  # what commands, Ray and its workers inherit
    "AWS_ACCESS_KEY_ID": "AKIAZ9X8C7V6B5N4M3L2",
    "AWS_SECRET_ACCESS_KEY": "p1antedSecretOfTheEnvironment",
    "AWS_EC2_METADATA_DISABLED": "true",
    "HF_TOKEN": "hf_p1antedTokenOfTheHub",
    "SOME_API_TOKEN": VARIABLE,
}
SECRETS = (
    *(STORE_KEY, STORE_SECRET, PASSWORD, SIGNATURE, HOOK, ARGUMENT, PUSH_SECRET, USER),
    *(value for value in ENVIRONMENT.values() if value != "true"),
)
SMALL = ("evaluate.task_documents=0", "train.num_workers=1", "budget.update_tokens=8000")


class Private(http.server.SimpleHTTPRequestHandler):
    """Files for those who know the password and the signature."""

    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.allowed():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self.allowed():
            super().do_HEAD()

    def allowed(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}" and f"X-Amz-Signature={SIGNATURE}" in self.path:
            self.server.given += 1
            return True
        self.send_error(403)
        return False


@contextmanager
def private_files(folder: Path) -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Private, directory=str(folder)))
    server.given = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def planted(data: bytes) -> list[str]:
    """The secrets in some bytes."""
    return [one for one in SECRETS if one.encode() in data or base64.b64encode(one.encode()).rstrip(b"=") in data]


def content(name: str, data: bytes) -> bytes:
    """A file's bytes, and the decoded columns of a table."""
    if name.endswith(".arrow"):
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        return data + repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
    return data


def in_folder(folder: Path) -> dict[str, list[str]]:
    """The files below a folder that hold a secret, with these."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            try:
                held = planted(content(file.name, file.read_bytes()))
            except (OSError, pa.ArrowInvalid):
                held = planted(file.read_bytes()) if file.exists() else []
            if held := held + planted(str(file).encode()):
                found[str(file)] = held
    return found


def in_store(lake: Store) -> dict[str, list[str]]:
    """The same for the bucket's objects."""
    filesystem, _ = Folder(address(lake.port, "")).filesystem()
    found = {}
    for info in filesystem.get_file_info(pafs.FileSelector("lake", recursive=True)):
        if info.type == pafs.FileType.File:
            with filesystem.open_input_stream(info.path) as stream:
                held = planted(content(info.path, stream.read())) + planted(info.path.encode())
            if held:
                found[info.path] = held
    return found


def with_keys(uri: str) -> str:
    return uri.replace("s3://", f"s3://{STORE_KEY}:{STORE_SECRET}@")


def test_no_secret_is_written_or_printed(base: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    scratch, output = tmp_path / "scratch", dict[str, str]()
    scratch.mkdir()
    extra = {"TMPDIR": str(scratch), "REWARM_CACHE": str(tmp_path / "cache")}
    files = tmp_path / "files"
    files.mkdir()
    lines = [json.dumps({"text": path.read_text()}) for path in sorted(base.code.iterdir())]
    (files / "code.jsonl").write_text("\n".join([*lines, '{"text": broken', '{"text": 7}\n']))
    (files / "news.jsonl").write_text("\n".join(json.dumps({"text": line[::-1]}) for line in lines[:40]))
    (files / "inbox.jsonl").write_text("\n".join(lines[40:80]))
    inbox = tmp_path / "inbox" / "later"
    inbox.mkdir(parents=True)
    sets = [word for setting in SMALL for word in ("--set", setting)]
    with (
        store() as lake,
        private_files(files) as web,
        webhook() as server,
        ray_with_metrics(tmp_path) as cluster,
    ):
        home = Folder(address(lake.port, "lm"))
        filesystem, path = home.filesystem()
        pafs.copy_files(
            str(base.workspace), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem
        )
        workspace = home.uri
        query = f"?X-Amz-Expires=900&X-Amz-Signature={SIGNATURE}"
        host = f"http://{USER}:{PASSWORD}@127.0.0.1:{web.server_port}"
        hook = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/services/{HOOK}?token={HOOK}"
        (inbox / "x.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines[40:80]))
        (inbox / "_SUCCESS").touch()

        def run(*arguments: object, code: int = 0) -> str:
            done = subprocess.run(
                command(*arguments),
                env={**cluster.environment, **extra},
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            output[f"{len(output)} {arguments[0]}"] = done.stdout + done.stderr
            assert done.returncode == code, f"{arguments}\n{done.stderr[-3000:]}"
            return done.stdout

        run("plan", workspace, "--data", f"code={host}/code.jsonl{query}", *sets)
        run("update", workspace, "--data", f"code={host}/code.jsonl{query}", *sets)
        run("update", workspace, "--data", f"none={host}/missing.jsonl{query}", *sets, code=2)
        run("update", workspace, "--data", f"none=s3://{STORE_KEY}:{STORE_SECRET}@lake/x.jsonl", code=2)
        run("update", workspace, "--data", f"none=s3://lake/x.jsonl?secret_key={STORE_SECRET}", code=2)
        watch = ["--inbox", inbox.parent, "--webhook", hook, "--notify-command", f"/bin/true --key {ARGUMENT}"]
        run("watch", workspace, *watch, "--once", *sets)
        run("watch", workspace, *watch[:4], "--dry-run", *sets)
        run("watch", workspace, "--inbox", f"s3://{STORE_KEY}:{STORE_SECRET}@lake/inbox", "--once", code=2)
        (tmp_path / "pages").mkdir()
        for shown in ("status", "report", "logs"):
            run(shown, workspace, *(["--to", tmp_path / "pages" / "report.html"] if shown == "report" else []))
        run("status", workspace, "--json")
        run("status", workspace, "--metrics")
        run("watch", workspace, "--status")
        run("watch", workspace, "--status", "--json")
        run("data", workspace, "code", "--json")
        run("quarantine", workspace, "code")
        run("trace", workspace, "--to", tmp_path / "pages" / "ledger.parquet", "--json")
        run("verify", workspace, "--json")
        run("push", workspace, "--to", with_keys(address(lake.port, "pushed")).replace(STORE_SECRET, PUSH_SECRET))
        for keyed in (with_keys(home.uri), f"{home.uri}&access_key={STORE_KEY}&secret_key={STORE_SECRET}"):
            run("status", keyed, code=2)
            run("init", keyed, "--recipe", "tiny", "--data", f"docs={base.docs}", code=2)
        listed = json.loads(cluster.discovery.read_text())
        for target in (one for part in listed for one in part["targets"]):
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
                output[f"metrics of {target}"] = answer.read().decode()
        for page in ("/api/jobs/", "/api/train/v2/runs/v1", "/api/v0/actors?detail=1", "/api/v0/tasks?detail=1"):
            output[page] = json.dumps(cluster.ask(page))
        assert web.given and server.notices, "the secrets were used"
        output["notices"] = json.dumps(server.notices)
        assert any("rewarm" in text for name, text in output.items() if name.startswith("metrics of"))
        leaks: dict[str, Any] = {name: held for name, text in output.items() if (held := planted(text.encode()))}
        leaks |= in_store(lake)
        for folder in (scratch, tmp_path / "cache", tmp_path / "pages", cluster.discovery.parent):
            leaks |= in_folder(folder)
    assert not leaks, json.dumps(leaks, indent=1)
