"""A server that speaks as much of the Hugging Face hub's API as pushes and downloads need.

What it is sent it keeps: commits change the files of a branch all at once, and a file that was never uploaded is
refused, as the hub does. A branch's commit is the digest of its files, and a file is read at a branch or a commit.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_test"
LFS = ".safetensors"


def sha_of(files: dict[str, bytes]) -> str:
    """The commit of a branch with these files: 40 hex digits."""
    return hashlib.sha1(b"".join(path.encode() + data for path, data in sorted(files.items()))).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """The state: files by repository and branch, uploaded objects by their sha256, and what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.read: list[str] = []  # files that were downloaded
        self.asked: list[str] = []  # paths of all requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.answer({"error": "Invalid username or password."}, 401)
        return False

    def do_PUT(self) -> None:
        data = self.body()
        self.server.objects[hashlib.sha256(data).hexdigest()] = data
        self.answer({})

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = unquote(self.path.partition("?")[0])
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(?:revision|tree)/([^/]+)(?:/.*)?", path):
            name = found[2] if found[1] == "models" else f"datasets/{found[2]}"
            self.describe(name, found[3], "/tree/" in path)
        elif found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send_file(found[1], found[2], found[3])
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

    def files_at(self, name: str, revision: str) -> tuple[dict[str, bytes], str]:
        """The files of a repository at a branch or a commit, and the commit."""
        branches = self.server.repositories.get(name, {})
        for branch, files in branches.items():
            if revision in (branch, sha := sha_of(files)):
                return files, sha
        code = "RevisionNotFound" if branches else "RepoNotFound"
        self.answer({"error": f"{code}: {name}@{revision}"}, 404, X_Error_Code=code)
        return {}, ""

    def describe(self, name: str, revision: str, tree: bool) -> None:
        files, sha = self.files_at(name, revision)
        if not sha:
            return
        if tree:
            oids = {path: hashlib.sha1(data).hexdigest() for path, data in files.items()}
            self.answer(
                [{"type": "file", "path": path, "size": len(data), "oid": oids[path]} for path, data in files.items()]
            )
        else:
            self.answer({"id": name, "sha": sha, "siblings": [{"rfilename": path} for path in files]})

    def send_file(self, name: str, revision: str, path: str) -> None:
        files, sha = self.files_at(name, revision)
        if not sha:
            return
        if path not in files:
            self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            return
        data = files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", sha)
        self.end_headers()
        if self.command == "GET":
            self.server.read.append(path)
            self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.body()
        if not self.allowed():
            return
        routes = {
            r"/api/repos/create": self.create,
            r"/api/validate-yaml": lambda value: self.answer({"errors": [], "warnings": []}),
            r"/api/models/([^/]+/[^/]+)/branch/(.+)": self.branch,
            r"/api/models/([^/]+/[^/]+)/preupload/([^/?]+)": self.preupload,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self.batch,
            r"/api/models/([^/]+/[^/]+)/commit/([^/?]+)": self.commit,
        }
        for pattern, route in routes.items():
            if found := re.fullmatch(pattern, self.path.partition("?")[0]):
                route(body, *map(unquote, found.groups()))  # type: ignore[operator]
                return
        self.answer({"error": f"no such address: {self.path}"}, 404)

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        if name in self.server.repositories:
            self.answer({"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}, 409)
            return
        self.server.repositories[name] = {"main": {}}
        self.server.private[name] = bool(wanted.get("private") or wanted.get("visibility") == "private")
        self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        repository = self.server.repositories[name]
        if branch in repository:
            self.answer({"error": "Reference already exists"}, 409)
        else:
            repository[branch] = dict(repository["main"])
            self.answer({})

    def preupload(self, body: bytes, name: str, branch: str) -> None:
        files = [file["path"] for file in json.loads(body)["files"]]
        kinds = [
            {"path": path, "uploadMode": "lfs" if path.endswith(LFS) else "regular", "shouldIgnore": False, "oid": None}
            for path in files
        ]
        self.answer({"files": kinds})

    def batch(self, body: bytes, name: str) -> None:
        def action(wanted: dict[str, Any]) -> dict[str, Any]:
            upload = {"upload": {"href": f"{self.server.url}/upload/{wanted['oid']}"}}
            return wanted if wanted["oid"] in self.server.objects else {**wanted, "actions": upload}

        objects = [action(wanted) for wanted in json.loads(body)["objects"]]
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, name: str, branch: str) -> None:
        files = dict(self.server.repositories[name][branch])
        for operation in map(json.loads, body.splitlines()):
            value = operation["value"]
            if operation["key"] == "header":
                self.server.messages.append(value["summary"])
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.server.objects:
                    self.answer({"error": f"{value['path']} was not uploaded"}, 400)
                    return
                files[value["path"]] = self.server.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                files.pop(value["path"])
        self.server.repositories[name][branch] = files
        oid = hashlib.sha1(body).hexdigest()
        self.answer({"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})


@contextmanager
def hub() -> Iterator[Hub]:
    """A running server."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
