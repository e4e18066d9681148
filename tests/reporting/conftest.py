"""Made inputs for the report, and a headless Chromium driven over its DevTools pipe (no package needed)."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from simcore.artifacts import Embeddings, Report, Selection
from simcore.images.faults import Unreadable

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>.jpg"
CLASSES = ("ash", "birch", "clover")


class Pictures:
    """A listing with bytes in memory, as far as the report reads a source."""

    def __init__(self, ids, seed=0, broken=(), same=()):
        self.table = pa.table({"id": pa.array(ids, pa.string())})
        self.bytes = [jpeg(seed * 1000 + row) for row in range(len(ids))]
        for row in broken:
            self.bytes[row] = None
        for row, other in same:
            self.bytes[row] = self.bytes[other]

    def __len__(self):
        return len(self.bytes)

    def take(self, rows):
        part = Pictures([])
        part.table, part.bytes = self.table.take(pa.array(rows)), [self.bytes[row] for row in rows]
        return part

    def scan(self, start, stop):
        for row in range(start, stop):
            yield row, Unreadable("truncated") if self.bytes[row] is None else self.bytes[row]


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG")
    return held.getvalue()


@dataclasses.dataclass
class Inputs:
    selection: Selection
    target: Embeddings
    pool: Embeddings
    target_images: Pictures
    pool_images: Pictures
    evaluations: list[Report]

    def as_arguments(self):
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "selection"
        }


def store(features, ids, labels, classes, **info) -> Embeddings:
    made = Embeddings.from_array(features.astype(np.float16), labels=labels)
    names = pa.array(ids, pa.string())
    table = made.table.set_column(1, "id", names).set_column(2, "uri", names)
    return dataclasses.replace(made, table=table, classes=classes, info=info)


def make_inputs(num_picks=40, num_pool=200, num_target=30, hostile=True) -> Inputs:
    """Five clusters of picks; pool row 7 has a hostile name, picks 3 and 4 hold the same bytes."""
    rng = np.random.default_rng(0)
    target_ids = [f"{CLASSES[i % 3]}/{i:03d}.jpg" for i in range(num_target)]
    pool_ids = [f"pool/{i:05d}.jpg" for i in range(num_pool)]
    if hostile:
        pool_ids[7] = HOSTILE
    indices = np.arange(7, 7 + num_picks)
    pool_labels = np.arange(num_pool) % 6
    classes = (*CLASSES, "other", HOSTILE if hostile else "more", "last")
    rounds = 1 + np.arange(num_picks) // 5
    selection = Selection(
        indices=indices,
        rounds=rounds.astype(np.int32),
        clusters=(np.arange(num_picks) % 5).astype(np.int32),
        similarities=np.linspace(0.95, 0.55, num_picks).astype(np.float32),
        stop_reason="stop",
        objective=tuple(np.linspace(0.95, 0.55, int(rounds[-1]))),
        num_invalid=2,
        ids=tuple(pool_ids[i] for i in indices),
        uris=tuple(pool_ids[i] for i in indices),
        labels=pool_labels[indices],
        classes=classes,
        settings={"selector": "simcore", "num_clusters": 5, "stop_ratio": 0.6, "patience": 2, "budget": 100, "seed": 0},
        parents={"target": "abc", "pool": "def"},
    )
    evaluations = [
        Report(task=task, metrics={"top1": base + seed}, settings={"arm": arm, "seed": seed})
        for task in ("linear", "knn")
        for arm, base in (("target", 40.0), ("simcore", 50.0))
        for seed in (0, 1)
    ]
    return Inputs(
        selection=selection,
        target=store(
            rng.normal(size=(num_target, 8)), target_ids, np.arange(num_target) % 3, CLASSES, source="a/target"
        ),
        pool=store(rng.normal(size=(num_pool, 8)), pool_ids, pool_labels, classes, source="a/pool"),
        target_images=Pictures(target_ids, seed=1),
        pool_images=Pictures(pool_ids, seed=2, broken=[9], same=[(11, 10)]),
        evaluations=evaluations,
    )


@pytest.fixture
def inputs() -> Inputs:
    return make_inputs()


@pytest.fixture(scope="session")
def many_inputs():
    return make_inputs


class Browser:
    """One page of a headless Chromium, spoken to in the DevTools protocol over file descriptors 3 and 4."""

    def __init__(self, program: str, profile: Path) -> None:
        down_read, self._down = os.pipe()
        self._up, up_write = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
            "--disable-dev-shm-usage --remote-debugging-pipe"
        )

        def place_pipes() -> None:
            held = os.dup(down_read), os.dup(up_write)
            os.dup2(held[0], 3)
            os.dup2(held[1], 4)

        self._process = subprocess.Popen(
            [program, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place_pipes,
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(down_read)
        os.close(up_write)
        self._numbers, self._held, self.events, self._session = itertools.count(1), b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self, seconds: float = 30.0):
        end = time.monotonic() + seconds
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._up], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            part = os.read(self._up, 1 << 20)
            assert part, "Chromium ended"
            self._held += part
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, *, width=1200, height=900, dark=False) -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str):
        """Evaluate a script (awaiting a promise) and give its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list:
        """Console errors and warnings, uncaught exceptions, and requests to anywhere but the file itself."""
        self.run("0")
        bad = [e for e in self.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        bad += [e for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return bad + [url for url in asked if not url.startswith(("file:", "data:"))]

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], **text)

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        os.close(self._down)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._up)


KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Escape": 27, "Tab": 9}


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    opened = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()
