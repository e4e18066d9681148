"""Sources in worker processes: forked or spawned, after the parent has read from them."""

from __future__ import annotations

import multiprocessing

import pytest

from simcore.images import ImageSource, open_images


@pytest.fixture(params=["folder", "tar", "parquet"])
def source(make, request) -> ImageSource:
    if request.param == "folder":
        for number in range(40):
            make.put(f"f/{number:02d}.png", make.png(number))
        return open_images(make.root / "f")
    if request.param == "tar":
        for shard in range(2):
            make.tar(f"s-{shard}.tar", [(f"{n:02d}.png", make.png(n)) for n in range(20 * shard, 20 * shard + 20)])
        return open_images(make.root / "s-{0..1}.tar")
    make.table("t.parquet", {"image": make.structs(range(40))}, row_group_size=7)
    return open_images(make.root / "t.parquet")


def blocks(source: ImageSource, size: int) -> list[tuple[ImageSource, int, int]]:
    return [(source, start, min(start + size, len(source))) for start in range(0, len(source), size)]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_the_parent_reads(make, source, method):
    want = [make.png(number) for number in range(40)]
    assert [source.read(row) for row in range(40)] == want
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert pool.map(source.read, range(40), chunksize=1) == want
        assert [source.read(row) for row in (39, 0)] == [want[39], want[0]]


def test_a_forked_reader_of_a_server_does_not_hang(make, monkeypatch):
    pytest.importorskip("aiohttp", reason="the [http] extra is not installed")
    import functools
    import http.server
    import threading

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(make.root))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for number in range(8):
            make.put(f"{number}.png", make.png(number))
        make.put("list.txt", "".join(f"{number}.png\n" for number in range(8)).encode())
        source = open_images(f"http://127.0.0.1:{server.server_port}/list.txt")
        assert source.read(0) == make.png(0)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map_async(source.read, range(8), chunksize=1).get(timeout=60)
        assert found == [make.png(number) for number in range(8)]
    finally:
        server.shutdown()
        server.server_close()
