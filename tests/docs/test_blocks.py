"""Every code block of the handbook and the README runs, at a toy scale, on images made here.

The blocks of a page run one after the other in one folder. Shell blocks run in bash; each ``simcore`` in them is
answered by this process, which has everything imported already. A block that cannot run offline, or not in seconds,
has a comment ``<!-- not run: REASON -->`` before it; those are listed in ``NOT_RUN``, and show as skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simcore.cli import main
from simcore.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```", re.M | re.S)
RUNNABLE = ("bash", "python", "yaml")
NOT_RUN = {
    "README.md": 1,
    "CONTRIBUTING.md": 1,
    "docs/cluster.md": 2,
    "docs/extending.md": 1,
    "docs/index.md": 2,
    "docs/own-images.md": 3,
}
# What makes a block small; nothing else of it is changed.
SCALE = (
    (r"\{0000\.\.0\d+99\}", "{0000..0001}"),
    (r"resnet(50|18|10)\b", "test_resnet"),
    (r"(--epochs) \d+", r"\1 1"),
    (r"\bepochs=\d+", "max_steps=1"),
    (r'(out="runs/cars-again")', r"\1, max_steps=1, image_size=32"),
    (r"\b(epochs|max_steps): \d+", r"\1: 1"),
    (r"(--num-pool) \d+", r"\1 40"),
    (r"(--sampling-times \d+)", r"\1 --max-steps 4"),
    (r"--epochs 1\b(?= --out| \\)", "--max-steps 1"),
    (r"image_size: 64", "image_size: 32"),
    (r"(\n +)(backbone: test_resnet)(?!\s+image_size)", r"\1\2\1image_size: 32"),
    (r"--image-size 64", "--image-size 32"),
    (r"--budget \d%", "--budget 50%"),
    (r"seeds: \[0, 1, 2\]", "seeds: [0]"),
)
VARIABLES = {
    "NUM_WORKERS": "0",
    "DEVICE": "cpu",
    "MAX_STEPS": "1",
    "NUM_TRAIN": "3",
    "NUM_TEST": "2",
    "IMAGE_SIZE": "32",
    "MIN_SIZE": "32",
}
SHIM = """#!{python} -IS
import json, os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
asked.sendall(json.dumps([os.getcwd(), sys.argv[1:]]).encode() + b"\\n")
out, err, code = json.loads(asked.makefile().read())
sys.stdout.write(out), sys.stderr.write(err)
sys.exit(code)
"""


@dataclasses.dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    why_not: str | None


def blocks_of(path: Path) -> list[Block]:
    text, page = path.read_text("utf-8"), str(path.relative_to(ROOT))
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start("code")].count("\n") + 1
        found.append(Block(page, line, match["language"], match["code"], match["why"]))
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}
RUN = [page for page in PAGES if any(b.language in RUNNABLE and not b.why_not for b in BLOCKS[page])]
MARKED = [block for blocks in BLOCKS.values() for block in blocks if block.why_not]


def scaled(code: str) -> str:
    for pattern, small in SCALE:
        code = re.sub(pattern, small, code)
    return code


def write_images(folder: Path) -> None:
    """Cars in two splits and two classes, flat photos, and a pool of two tar shards."""
    generator = np.random.default_rng(0)

    def image() -> Image.Image:
        return Image.fromarray(generator.integers(0, 256, (36, 40, 3), dtype=np.uint8))

    places = [(f"data/{name}/{split}/{kind}", count) for name in ("cars", "moths") for kind in ("a", "sedan")
              for split, count in (("train", 6), ("test", 3))]  # fmt: skip
    for place, count in (*places, ("photos", 8)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            image().save(folder / place / f"{number}.jpg")
    write_scenes(folder / "scenes")
    (folder / "pool").mkdir()
    for shard in range(2):
        with tarfile.open(folder / "pool" / f"{shard:04}.tar", "w") as archive:
            for number in range(12):
                data = io.BytesIO()
                image().save(data, "JPEG")
                member = tarfile.TarInfo(f"{number}.jpg")
                member.size = data.tell()
                data.seek(0)
                archive.addfile(member, data)


def write_scenes(folder: Path) -> None:
    """One square an image, with its box and its mask, in two splits."""
    for split in ("train", "test"):
        images, annotations = [], []
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(1, 5):
            pixels, mask = np.full((32, 32, 3), 30, np.uint8), np.zeros((32, 32), np.uint8)
            pixels[number : number + 16, 4:20], mask[number : number + 16, 4:20] = 220, 1
            Image.fromarray(pixels).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
            box = {"id": number, "image_id": number, "category_id": 1, "bbox": [4, number, 16, 16]}
            annotations.append(box)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "leaf"}]}
        (folder / split / "boxes.json").write_text(json.dumps(content))


class Shell:
    """Runs shell blocks in bash; their ``simcore`` runs here."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self.bin_folder = folder, bin_folder
        address = str(bin_folder / "socket")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(address)
        self.server.listen()
        self.server.settimeout(0.02)
        shim = bin_folder / "simcore"
        shim.write_text(SHIM.format(python=sys.executable, address=address))
        shim.chmod(0o755)

    def run(self, code: str) -> None:
        environment = {**os.environ, "PATH": f"{self.bin_folder}:{os.environ['PATH']}"}
        script = ["bash", "-euo", "pipefail", "-c", code]
        with (
            tempfile_pair() as (out, err),
            subprocess.Popen(script, cwd=self.folder, env=environment, stdout=out, stderr=err) as bash,
        ):
            while bash.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self._answer(self.server.accept()[0])
            err.seek(0)
            assert bash.returncode == 0, f"{code}\n{err.read()}"

    def _answer(self, asked: socket.socket) -> None:
        with asked:
            folder, argv = json.loads(asked.makefile().readline())
            os.chdir(folder)
            asked.sendall(json.dumps(run_command(argv)).encode())


@contextlib.contextmanager
def tempfile_pair():
    import tempfile

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        yield out, err


def run_command(argv: list[str]) -> tuple[str, str, int]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as stop:
            code = int(stop.code or 0)
    if argv[0] == "recipe" and "--out" in argv and not code:
        written = Path(argv[argv.index("--out") + 1])
        written.write_text(scaled(written.read_text()))
    return out.getvalue(), err.getvalue(), code


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    runnable = [block for block in BLOCKS[page] if block.language in RUNNABLE and not block.why_not]
    folder, names = tmp_path / "work", {"__name__": "__main__"}
    (tmp_path / "bin").mkdir()
    folder.mkdir()
    if page.name != "index.md":  # the quick start makes its own
        write_images(folder)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"SIMCORE_{name}", value)
    monkeypatch.chdir(folder)
    shell = Shell(folder, tmp_path / "bin")
    for block in runnable:
        where = f"{block.page}:{block.line}"
        code = scaled(block.code)
        if block.language == "bash":
            shell.run(code)
        elif block.language == "yaml":
            (folder / "recipe.yaml").write_text(code)
            Recipe.load(folder / "recipe.yaml").plan()
        else:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                exec(compile("\n" * (block.line - 1) + code, where, "exec"), names)
    shell.server.close()


def test_blocks_that_do_not_run_are_few_and_listed():
    counted: dict[str, int] = {}
    for block in MARKED:
        counted[block.page] = counted.get(block.page, 0) + 1
    assert counted == NOT_RUN, "a block was marked `not run`, or one runs now: say so in NOT_RUN"


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_that_does_not_run_parses_at_least(block):
    if block.language == "bash" and shutil.which("bash"):
        subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    pytest.skip(block.why_not)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_stands_in_fences_so_that_it_is_found(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    assert not re.search(r"\n\n    \S", text), "an indented block of code: fence it"
    assert "```" not in text
    assert all(block.language in (*RUNNABLE, "text") for block in BLOCKS[page])
