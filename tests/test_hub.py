"""Push and pull against a web server that speaks as much of the hub's language as is needed."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from simcore import hub
from simcore.artifacts import Checkpoint, Selection
from simcore.cli import main
from simcore.errors import SimcoreError, UsageError

HfApi = pytest.importorskip("huggingface_hub").HfApi
COMMIT = "0" * 40


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b"".join(iter(self.chunk, b""))
        self.server.asked.append((self.path, body))
        if self.path.endswith("/repos/create"):
            asked = json.loads(body)
            prefix = "datasets/" if asked.get("type") == "dataset" else ""
            name = f"{asked.get('organization') or 'user'}/{asked['name'].rpartition('/')[2]}"
            return self.answer(json.dumps({"url": f"{self.server.address}/{prefix}{name}"}).encode())
        if self.path.endswith("/validate-yaml"):
            return self.answer(b'{"errors": [], "warnings": []}')
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(json.dumps({"files": files}).encode())
        if "/commit/" in self.path:
            repo = self.path.removeprefix("/api/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[repo, line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.address}/{repo.removeprefix('models/')}/commit/{COMMIT}"
            return self.answer(json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode())
        return self.answer(b"{}", 404)

    def chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def do_GET(self):
        self.server.asked.append((self.path, b""))
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        repo = repo if repo.startswith("datasets/") else f"models/{repo}"
        content = self.server.files.get((repo, rest.partition("/")[2]))
        if content is None:
            return self.answer(b"", 404, X_Error_Code="EntryNotFound")
        return self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.files, made.asked, made.address = {}, [], f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def api(server):
    return HfApi(endpoint=server.address, token="hf_test")


@pytest.fixture
def run(tmp_path):
    from safetensors.numpy import save_file

    folder = tmp_path / "runs" / "cars"
    folder.mkdir(parents=True)
    data = {"images": {"name": "/home/someone/secret/cars#limit=5", "num_images": 5}}
    config = {"method": "simclr", "backbone": "resnet10", "image_size": 32, "data": data, "settings": {"init": None}}
    config["sampling"] = {"selector": "simcore", "data": {"pool": {"name": "/home/someone/pool", "num_images": 9}}}
    Checkpoint(path=folder, config=config).save()
    save_file({"conv.weight": np.arange(4, dtype=np.float32)}, folder / "backbone.safetensors")
    (folder / "last.ckpt").write_bytes(b"not for others")
    (folder / "log.jsonl").write_text("{}\n")
    return folder


@pytest.fixture
def coreset(tmp_path):
    chosen = Selection(
        indices=np.array([4, 1, 7]),
        rounds=np.ones(3, np.int32),
        clusters=np.zeros(3, np.int32),
        similarities=np.ones(3, np.float32),
        stop_reason="budget",
        ids=("a.jpg", "b.jpg", "c.jpg"),
        uris=("/home/someone/a.jpg", "s3://pool/b.jpg", "tar://c.jpg::/home/someone/0.tar"),
        settings={"selector": "simcore", "pool_store": "/home/someone/store"},
    )
    chosen.save(tmp_path / "coreset.parquet")
    return tmp_path / "coreset.parquet"


def test_a_run_comes_back_as_it_was_but_for_paths(api, server, run, tmp_path):
    assert hub.push(run, "user/cars", api=api).startswith(server.address)
    got = hub.pull("user/cars", tmp_path / "there", api=api)
    assert got.path == tmp_path / "there"
    assert sorted(p.name for p in got.path.iterdir()) == ["backbone.safetensors", "config.yaml"]
    assert got.weights.read_bytes() == (run / "backbone.safetensors").read_bytes()
    assert got.config["backbone"] == "resnet10"
    assert got.config["data"]["images"]["name"] == "cars#limit=5"
    assert got.config["sampling"]["data"] == {"pool": {"name": "pool", "num_images": 9}}


def test_only_known_files_are_sent_and_none_names_a_place_on_this_machine(api, server, run, coreset):
    hub.push(run, "user/cars", api=api)
    hub.push(coreset, "user/set", api=api)
    names = {(repo, name) for repo, name in server.files}
    assert names == {
        *(("models/user/cars", name) for name in ("config.yaml", "backbone.safetensors", "log.jsonl", "README.md")),
        *(("datasets/user/set", name) for name in ("coreset.parquet", "README.md")),
    }
    assert not any(b"someone" in content for content in server.files.values())


def test_a_coreset_comes_back_with_the_uris_that_others_can_reach(api, coreset, tmp_path):
    hub.push(coreset, "user/set", api=api)
    got = hub.pull("user/set", tmp_path / "there.parquet", api=api)
    assert got.indices.tolist() == [4, 1, 7]
    assert got.uris == ("a.jpg", "s3://pool/b.jpg", "c.jpg")
    assert got.settings == {"selector": "simcore"}


@pytest.mark.parametrize("public", [False, True])
def test_a_new_repository_is_private_unless_said_otherwise(api, server, coreset, public):
    hub.push(coreset, "user/set", private=not public, api=api)
    made = json.loads(next(body for path, body in server.asked if path.endswith("/repos/create")))
    # The hub's client writes the wish as `private` or, from version 2, as `visibility`.
    assert ("public" if public else "private") == made.get("visibility", "private" if made.get("private") else "public")


def test_a_pull_asks_for_known_names_only(api, server, run, tmp_path):
    hub.push(run, "user/cars", api=api)
    server.files["models/user/cars", "../../escape"] = b"x"
    server.files["models/user/cars", "pytorch_model.bin"] = b"pickle"
    server.asked.clear()
    hub.pull("user/cars", tmp_path / "there", api=api)
    assert {path.rpartition("/")[2] for path, _ in server.asked} == set(hub.RUN_FILES)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("backbone.safetensors", b"\x80\x04pickled", "damaged"),
        ("config.yaml", b"!!python/object/apply:os.system [true]", "not readable"),
        ("config.yaml", b"- a list", "not a config"),
    ],
)
def test_a_bad_file_is_refused_and_leaves_nothing(api, server, run, tmp_path, name, content, told):
    hub.push(run, "user/cars", api=api)
    server.files["models/user/cars", name] = content
    with pytest.raises(SimcoreError, match=told):
        hub.pull("user/cars", tmp_path / "new" / "there", api=api)
    assert not list(tmp_path.glob("new/*"))


def test_a_bad_coreset_is_refused(api, server, coreset, tmp_path):
    hub.push(coreset, "user/set", api=api)
    server.files["datasets/user/set", "coreset.parquet"] = b"PAR1 no"
    with pytest.raises(SimcoreError, match="not a coreset"):
        hub.pull("user/set", tmp_path / "there.parquet", api=api)
    assert not (tmp_path / "there.parquet").exists()


@pytest.mark.parametrize("repo", ["cars", "../cars/x", "user/", "a/b/c", "user/na me", ""])
def test_what_is_no_repository_is_wrong_usage(api, repo, coreset, tmp_path):
    with pytest.raises(UsageError):
        hub.push(coreset, repo, api=api)
    with pytest.raises(UsageError):
        hub.pull(repo, tmp_path / "there", api=api)


def test_a_missing_repository_is_one_line(api, tmp_path):
    with pytest.raises(SimcoreError, match="user/none") as refusal:
        hub.pull("user/none", tmp_path / "there", api=api)
    assert "\n" not in str(refusal.value)


def test_what_is_there_is_not_overwritten(api, run, tmp_path):
    hub.push(run, "user/cars", api=api)
    with pytest.raises(SimcoreError, match="exists already"):
        hub.pull("user/cars", run, api=api)


def test_an_unfinished_run_and_another_file_are_not_pushed(api, run, tmp_path):
    (run / "backbone.safetensors").unlink()
    with pytest.raises(SimcoreError, match="not finished"):
        hub.push(run, "user/cars", api=api)
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(SimcoreError, match="not a coreset"):
        hub.push(tmp_path / "x.parquet", "user/x", api=api)


def test_the_card_is_yaml_and_tells_the_command(api, server, run):
    hub.push(run, "user/cars", api=api)
    card = server.files["models/user/cars", "README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "simcore"
    assert "simcore pull user/cars runs/cars" in card


def test_from_the_command_line(api, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hub, "_api", lambda: api)
    assert main(["push", str(run), "user/cars", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["url"].endswith("user/cars")
    assert main(["pull", "user/cars", str(tmp_path / "there"), "--quiet"]) == 0
    assert Path(tmp_path / "there" / "backbone.safetensors").is_file()
    assert main(["pull", "user/none", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
