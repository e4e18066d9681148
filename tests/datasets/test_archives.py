"""Archives that mean harm, or are cut, do none."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile

import pytest

from simcore.datasets._archives import Allowance, extract
from simcore.errors import SimcoreError, SimcoreWarning


def tar_bytes(*members):
    """Members are (name, data) or a ready TarInfo."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return held.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_file(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


GOOD = (("a/one.jpg", b"1" * 3000), ("a/b/two.txt", b""), ("./three.jpg", b"3"))
RIGHT = {"a/one.jpg": b"1" * 3000, "a/b/two.txt": b"", "three.jpg": b"3"}


@pytest.mark.parametrize(
    ("name", "squeeze"),
    [
        ("x.tar", lambda data: data),
        ("x.tar.gz", gzip.compress),
        ("x.tgz", gzip.compress),
        ("x.tar.bz2", bz2.compress),
        ("x.tar.xz", lzma.compress),
        ("wrongly_named.tar", gzip.compress),
    ],
)
def test_every_kind_of_tar(name, squeeze, tmp_path):
    (tmp_path / name).write_bytes(squeeze(tar_bytes(*GOOD)))
    assert extract(tmp_path / name, tmp_path / "out", quiet=True) == 3
    assert files(tmp_path / "out") == RIGHT


def test_zip(tmp_path):
    zip_file(tmp_path / "x.zip", *GOOD)
    assert extract(tmp_path / "x.zip", tmp_path / "out", quiet=True) == 3
    assert files(tmp_path / "out") == RIGHT


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/tmp/evil.jpg", "C:/evil.jpg", "a/.."])
def test_paths_that_lead_outside(name, tmp_path):
    inner = tmp_path / "in" / "side"
    inner.mkdir(parents=True)
    (tmp_path / "x.tar").write_bytes(tar_bytes(("fine.jpg", b"1"), (name, b"2")))
    zip_file(tmp_path / "x.zip", ("fine.jpg", b"1"), (name, b"2"))
    for archive in ("x.tar", "x.zip"):
        with pytest.raises(SimcoreError, match="points outside the archive"):
            extract(tmp_path / archive, inner, quiet=True)
    assert not list(tmp_path.rglob("evil*"))


def test_backslashes_of_a_zip_are_slashes(tmp_path):
    zip_file(tmp_path / "x.zip", ("a\\..\\..\\evil.jpg", b"2"))
    with pytest.raises(SimcoreError, match="points outside the archive"):
        extract(tmp_path / "x.zip", tmp_path / "out", quiet=True)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(kind, tmp_path):
    """A link to the outside, then a file written through it."""
    data = tar_bytes(special("out", kind, str(tmp_path)), ("out/evil.jpg", b"2"))
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(SimcoreError, match="link or device"):
        extract(tmp_path / "x.tar", tmp_path / "inner", quiet=True)
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("out")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_file(tmp_path / "x.zip", (info, str(tmp_path)))
    with pytest.raises(SimcoreError, match="link or device"):
        extract(tmp_path / "x.zip", tmp_path / "inner", quiet=True)


def test_what_desktops_leave_behind_is_passed_over(tmp_path):
    zip_file(tmp_path / "x.zip", ("a.jpg", b"1"), ("__MACOSX/._a.jpg", b"2"), ("b/.DS_Store", b"3"))
    assert extract(tmp_path / "x.zip", tmp_path / "out", quiet=True) == 1


def test_a_bomb(tmp_path):
    zip_file(tmp_path / "x.zip", ("a.jpg", bytes(4 << 20)))
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tar_bytes(("a.jpg", bytes(4 << 20)))))
    for name in ("x.zip", "x.tar.gz"):
        with pytest.raises(SimcoreError, match="more than is allowed"):
            extract(tmp_path / name, tmp_path / "out", allowance=Allowance(free_bytes=1 << 20), quiet=True)
        with pytest.raises(SimcoreError, match="more than is allowed"):
            extract(tmp_path / name, tmp_path / "out", allowance=Allowance(max_member_bytes=1 << 20), quiet=True)
        assert extract(tmp_path / name, tmp_path / "out", quiet=True) == 1


def test_too_many_files(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_bytes(*((f"{n}.jpg", b"") for n in range(4))))
    with pytest.raises(SimcoreError, match="more than 3 files"):
        extract(tmp_path / "x.tar", tmp_path / "out", allowance=Allowance(max_files=3), quiet=True)


WHOLE = tar_bytes(("a.jpg", b"1" * 5000), ("b.jpg", b"2" * 5000))


@pytest.mark.parametrize("cut", [100, 3000, 6200, 9000])
def test_a_cut_tar(cut, tmp_path):
    """In the first header, in data, in data, in the data of the last member."""
    (tmp_path / "x.tar").write_bytes(WHOLE[:cut])
    with pytest.raises(SimcoreError, match="cut or damaged"):
        extract(tmp_path / "x.tar", tmp_path / "out", quiet=True)


@pytest.mark.parametrize("cut", [512 + 5120, 512 + 5120 + 200])
def test_a_tar_cut_between_members_or_in_a_header_is_told(cut, tmp_path):
    (tmp_path / "x.tar").write_bytes(WHOLE[:cut])
    with pytest.warns(SimcoreWarning, match="no end mark"):
        assert extract(tmp_path / "x.tar", tmp_path / "out", quiet=True) == 1


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_a_cut_compressed_tar(share, squeeze, tmp_path):
    noise = bytes((n * n * 31 + n // 7) % 251 for n in range(60_000))
    data = squeeze(tar_bytes(("a.jpg", noise), ("b.jpg", noise[::-1])))
    (tmp_path / "x.tar.gz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SimcoreError, match="cut or damaged"):
        extract(tmp_path / "x.tar.gz", tmp_path / "out", quiet=True)


def test_a_cut_or_damaged_zip(tmp_path):
    whole = zip_file(tmp_path / "x.zip", ("a.jpg", bytes(range(256)) * 40)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.zip").write_bytes(whole[:60] + b"\xff\xff\xff" + whole[63:])
    for name in ("cut.zip", "bad.zip"):
        with pytest.raises(SimcoreError, match="cut or damaged"):
            extract(tmp_path / name, tmp_path / "out", quiet=True)


def test_something_else_under_the_name(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"<html>sign in to download</html>" * 100)
    with pytest.raises(SimcoreError, match="cut or damaged"):
        extract(tmp_path / "x.tar.gz", tmp_path / "out", quiet=True)
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(SimcoreError, match="cut or damaged"):
        extract(tmp_path / "empty.tar", tmp_path / "out", quiet=True)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    from simcore.datasets import _archives

    def full(self, target, member, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_archives._Writer, "_write", full)
    (tmp_path / "x.tar").write_bytes(WHOLE)
    with pytest.raises(SimcoreError, match="the disk is full"):
        extract(tmp_path / "x.tar", tmp_path / "out", quiet=True)
