"""Sources behind URLs: every kind, retries, and errors that say what happened."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import ImageFault, Unreadable, open_images, open_uris, storage
from simcore.images.inspect import inspect_images


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(storage, "RETRY_DELAYS", (0.01, 0.01, 0.01))


def fill(make) -> None:
    """One small set as a folder, a list, shards and tables."""
    for number in range(6):
        make.put(f"set/folder/train/{number % 2}/{number}.png", make.png(number))
    make.put("set/folder/train/0/.DS_Store", b"x")
    make.put("set/folder/test/1/9.png", make.png(9))
    make.put("set/list.csv", "".join(f"folder/train/{n % 2}/{n}.png,{n}\n" for n in range(6)).encode())
    for shard in range(2):
        make.tar(f"set/wds/s-{shard}.tar", make.samples(3, start=3 * shard))
    make.table("set/tables/t-0.parquet", {"image": make.structs(range(3)), "label": [0, 1, 2]}, row_group_size=2)
    make.table("set/tables/t-1.parquet", {"image": make.structs(range(3, 6)), "label": [3, 4, 5]})


@pytest.fixture
def in_memory(make) -> Iterator[str]:
    fill(make)
    system = fsspec.filesystem("memory")
    for path in sorted(make.root.rglob("*")):
        if path.is_file():
            system.pipe_file(f"/pool/{path.relative_to(make.root)}", path.read_bytes())
    yield "memory://pool/set"
    system.rm("/pool", recursive=True)


WHERES = ["list.csv", "wds/s-{0..1}.tar", "wds/s-*.tar", "tables/t-0.parquet", "tables/t-{0..1}.parquet"]


@pytest.mark.parametrize("where", [*WHERES, "wds", "tables", "tables/*.parquet"])
def test_every_kind_from_memory(make, in_memory, where):
    source = open_images(f"{in_memory}/{where}")
    count = 3 if where.endswith("t-0.parquet") else 6
    assert [data for _, data in source.scan(0, 99)] == [make.png(number) for number in range(count)]
    assert source.labels.tolist() == list(range(count))
    assert source.take([2]).read(0) == make.png(2)
    local = open_images(f"{make.root}/set/{where}")
    assert source.table["id"].equals(local.table["id"])


def test_a_remote_folder(make, in_memory):
    source = open_images(f"{in_memory}/folder")
    local = open_images(make.root / "set/folder")
    assert source.table["id"].equals(local.table["id"])
    assert source.classes == local.classes == ("0", "1")
    assert source.notes.num_hidden == 1
    assert [data for _, data in source.scan(0, 6)] == [data for _, data in local.scan(0, 6)]
    assert source.table["uri"][0].as_py() == "memory://pool/set/folder/train/0/0.png"
    assert len(open_images(f"{in_memory}/folder#split=test")) == 1


def test_remote_images_are_opened_again_by_uri(in_memory):
    for where in ("folder", "wds", "tables"):
        source = open_images(f"{in_memory}/{where}").take([4, 1])
        again = open_uris(source)
        assert [data for _, data in again.scan(0, 2)] == [data for _, data in source.scan(0, 2)]


def test_cut_remote_shards_and_tables_are_named(make, in_memory):
    system = fsspec.filesystem("memory")
    shard = (make.root / "set/wds/s-0.tar").read_bytes()
    system.pipe_file("/pool/set/wds/s-0.tar", shard[:3500])
    table = (make.root / "set/tables/t-0.parquet").read_bytes()
    system.pipe_file("/pool/set/tables/t-0.parquet", table[:-20])
    with pytest.warns(SimcoreWarning, match=r"s-0\.tar is incomplete: truncated"):
        assert 3 < len(open_images(f"{in_memory}/wds")) < 6
    with pytest.warns(SimcoreWarning, match=r"t-0\.parquet is incomplete: truncated"):
        assert len(open_images(f"{in_memory}/tables")) == 3


def test_objects_that_vanish_are_unreadable(in_memory):
    source = open_images(f"{in_memory}/folder")
    fsspec.filesystem("memory").rm("/pool/set/folder/train/0/2.png")
    found = inspect_images(source, num_workers=2, quiet=True).to_json()
    assert found["n_ok"] == 5
    assert found["unreadable"] == [{"id": "train/0/2.png", "reason": "missing file"}]


@pytest.mark.parametrize("where", ["nowhere", "nowhere.tar", "nowhere.parquet", "nowhere.csv", "none-*.tar"])
def test_what_is_not_there(in_memory, where):
    with pytest.raises(SimcoreError, match=where.partition("*")[0]):
        open_images(f"{in_memory}/{where}")


def test_an_unknown_protocol_is_named():
    with pytest.raises(SimcoreError, match="gopher"):
        open_images("gopher://host/pool.tar")


# ------------------------------------------------------------------------------------------------ http


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files whole, without ranges; counts requests by path and fails the first ones if told to."""

    failures: ClassVar[dict[str, int]] = {}
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.failures.get(self.path, 0) > 0:
            self.failures[self.path] -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


class Ranged(Quiet):
    """Serves byte ranges, as most servers do, and says so."""

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def send_head(self) -> Any:
        wanted = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            return super().send_head()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        data = path.read_bytes()
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        return io.BytesIO(part)


@contextlib.contextmanager
def served(folder: Path, handler: type[Quiet], context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/set"
    finally:
        server.shutdown()
        server.server_close()
        handler.failures.clear()
        handler.requests.clear()


@pytest.fixture
def over_https(make) -> Iterator[tuple[str, Path]]:
    """The URL of a server whose certificate nobody has signed, and that certificate."""
    pytest.importorskip("aiohttp", reason="the [http] extra is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    certificate, key = make.root / "certificate.pem", make.root / "key.pem"
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*request.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    fill(make)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(make.root, Ranged, context) as url:
        yield url, certificate


def inspected(url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Inspect in a process of its own, since trusted certificates are read once."""
    command = [sys.executable, "-m", "simcore", "inspect", url, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_a_trusted_server_over_https(over_https):
    url, certificate = over_https
    told = inspected(f"{url}/wds/s-{{0..1}}.tar", SSL_CERT_FILE=str(certificate))
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["n_ok"] == 6


def test_a_server_that_is_not_trusted_is_one_line_at_once(over_https):
    url, _ = over_https
    told = inspected(f"{url}/wds/s-0.tar")
    assert told.returncode == 1
    assert "its certificate is not trusted: self-signed certificate" in told.stderr.replace(
        "self signed", "self-signed"
    )
    assert told.stderr.count("\n") == 1
    assert "tries" not in told.stderr


@pytest.fixture(params=[Quiet, Ranged], ids=["whole", "ranges"])
def over_http(make, request) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="the [http] extra is not installed")
    fill(make)
    with served(make.root, request.param) as url:
        yield url


@pytest.mark.parametrize("where", [*WHERES[:2], *WHERES[3:]])
def test_every_kind_over_http(make, over_http, where):
    source = open_images(f"{over_http}/{where}")
    count = 3 if where.endswith("t-0.parquet") else 6
    assert [data for _, data in source.scan(0, 99)] == [make.png(number) for number in range(count)]
    assert source.labels.tolist() == list(range(count))
    assert source.read(2) == make.png(2)
    assert source.take([2, 1, 0]).read(2) == make.png(0)


def test_a_folder_over_http(make, over_http):
    source = open_images(f"{over_http}/folder")
    assert source.table["id"].equals(open_images(make.root / "set/folder").table["id"])
    assert source.read(0) == make.png(0)


def test_passing_failures_are_tried_again(make, over_http):
    source = open_images(f"{over_http}/list.csv")
    Quiet.failures["/set/folder/train/1/3.png"] = 2
    assert source.read(3) == make.png(3)
    assert Quiet.requests.count("/set/folder/train/1/3.png") == 3


def test_lasting_failures_end_the_job(over_http):
    source = open_images(f"{over_http}/list.csv")
    Quiet.failures["/set/folder/train/1/3.png"] = 99
    with pytest.raises(SimcoreError, match=r"3\.png: cannot be read after 4 tries"):
        list(source.scan(0, 6))


def test_missing_objects_are_unreadable_at_once(make, over_http):
    (make.root / "set/folder/train/1/3.png").unlink()
    source = open_images(f"{over_http}/list.csv")
    with pytest.raises(Unreadable, match="missing file"):
        source.read(3)
    assert [isinstance(data, ImageFault) for _, data in source.scan(0, 6)] == [n == 3 for n in range(6)]
    with pytest.raises(SimcoreError, match="missing file"):
        open_images(f"{over_http}/nowhere.tar")


def test_a_server_that_is_not_there():
    pytest.importorskip("aiohttp", reason="the [http] extra is not installed")
    with pytest.raises(SimcoreError, match="after 4 tries"):
        open_images("http://127.0.0.1:9/pool.tar")


# ------------------------------------------------------------------------------------------------ s3


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="the [s3] extra is not installed")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(make, s3_endpoint, monkeypatch) -> str:
    import s3fs

    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("ENDPOINT_URL", s3_endpoint)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    fill(make)
    system = s3fs.S3FileSystem()
    if not system.exists("pool"):
        system.mkdir("pool")
    system.put(f"{make.root}/set", "pool/set", recursive=True)
    return "s3://pool/set"


@pytest.mark.parametrize("where", [*WHERES, "folder", "wds", "tables"])
def test_every_kind_from_s3(make, bucket, where):
    source = open_images(f"{bucket}/{where}")
    count = 3 if where.endswith("t-0.parquet") else 6
    want = open_images(f"{make.root}/set/{where}")
    assert len(source) == count
    assert [data for _, data in source.scan(0, 99)] == [data for _, data in want.scan(0, 99)]
    assert source.table["id"].equals(want.table["id"])
    assert source.read(1) == want.read(1)


def test_s3_without_the_object(bucket):
    with pytest.raises(SimcoreError, match=r"nowhere\.tar"):
        open_images(f"{bucket}/nowhere.tar")
    with pytest.raises(SimcoreError, match="no-such-bucket"):
        open_images("s3://no-such-bucket/pool")


@pytest.fixture
def guarded(bucket, s3_endpoint) -> Iterator[str]:
    """The bucket, of which nobody may read anything."""
    import requests
    import s3fs

    requests.post(f"{s3_endpoint}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
    s3fs.S3FileSystem.clear_instance_cache()
    yield bucket
    requests.post(f"{s3_endpoint}/moto-api/reset-auth", data=b"inf", timeout=10).raise_for_status()


@pytest.mark.parametrize("where", ["wds/s-0.tar", "folder"])
def test_s3_without_the_rights(guarded, where):
    with pytest.raises(SimcoreError, match="permission denied"):
        open_images(f"{guarded}/{where}")


def test_s3_without_credentials_is_said_at_once(bucket, monkeypatch):
    import s3fs

    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SimcoreError, match=r"cannot be read \(Unable to locate credentials; they come from"):
        open_images(f"{bucket}/wds/s-0.tar")


def test_a_rewritten_object_changes_the_fingerprint(make, bucket):
    import s3fs

    first = open_images(f"{bucket}/wds").fingerprint
    s3fs.S3FileSystem().pipe_file("pool/set/wds/s-0.tar", make.tar_bytes(make.samples(3, start=20)))
    s3fs.S3FileSystem.clear_instance_cache()
    assert open_images(f"{bucket}/wds").fingerprint != first
