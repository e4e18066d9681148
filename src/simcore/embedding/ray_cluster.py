"""Embed on a Ray cluster: decode tasks on any core feed a pool of actors, each of which holds the network.

The unit that travels is a chunk: whole batches of one piece, some tens of megabytes of pixels at most. Batches are cut
as they are without a cluster, so the features are the same. Pixels go from the node that decoded them to the one that
embeds them and never through this process, which gets features alone and writes the store.

A chunk counts when its features have arrived here, and then once: where a process or node dies before, the chunk is
given to another. Nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simcore.cluster import cause_of, connected, first_line
from simcore.embedding._pieces import Piece
from simcore.embedding._reading import Batch, PieceReader
from simcore.embedding.load import pick_device
from simcore.errors import SimcoreError, SimcoreWarning, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from simcore.embedding.embedder import Embedder
    from simcore.embedding.preprocess import Transform
    from simcore.images.source import ImageSource

CHUNK_BYTES = 64 << 20
# Of the cores of a cluster without GPUs one in so many decodes: an image costs the network far more than the decoder.
CORES_PER_DECODER = 8
MAX_RESTARTS = 8
# A chunk that so many processes died of is taken to be the reason.
MAX_FAILURES = 3
PATIENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Source rows [start, stop) of a piece: its ``place``-th chunk, perhaps the last one."""

    piece: int
    place: int
    start: int
    stop: int
    last: bool


class EmbedActor:
    """Holds the network on one device and turns batches into features."""

    _embedder: Embedder

    def prepare(self, embedder: Embedder) -> None:
        """Put the network in place."""
        embedder.encoder.to(pick_device(embedder.device))  # Ray shows an actor its own GPU as the only one
        self._embedder = embedder

    def embed(self, batches: Sequence[Batch]) -> list[Piece]:
        """Embed the batches of a chunk."""
        return [self._embedder.embed_batch(batch) for batch in batches]


def decode_chunk(
    source: ImageSource, listing: pa.Table, chunk: Chunk, transform: Transform, batch_size: int
) -> tuple[None, list[Batch]]:
    """Read and decode the rows of a chunk; ``listing`` is those rows of the source's.

    The None comes back by itself, so that this process learns of success or failure without the pixels.
    """
    part = dataclasses.replace(source, listing=listing)
    reader = PieceReader(part, [(chunk.piece, range(len(part)))], transform, batch_size)
    batches = []
    for batch in reader:
        if isinstance(batch, SimcoreError):
            raise batch
        batches.append(dataclasses.replace(batch, start=batch.start + chunk.start))
    return None, batches


def cut_chunks(pieces: Sequence[tuple[int, range]], batch_size: int, image_size: int) -> Iterator[Chunk]:
    """Cut pieces (number, source rows) into chunks of whole batches."""
    step = batch_size * max(1, CHUNK_BYTES // (batch_size * image_size * image_size * 3))
    for number, rows in pieces:
        for place, start in enumerate(range(rows.start, rows.stop, step)):
            stop = min(start + step, rows.stop)
            yield Chunk(number, place, start, stop, stop == rows.stop)


def embed_pieces(
    embedder: Embedder, images: ImageSource, pieces: Sequence[tuple[int, range]]
) -> Iterator[tuple[int, Piece, bool]]:
    """Embed pieces (number, source rows) on the cluster that ``embedder.ray_address`` names.

    Gives (piece number, batch of it, whether that is its last) for every batch; those of one piece come in order.
    """
    with connected(embedder.ray_address) as ray, contextlib.closing(_Crew(ray, embedder, images)) as crew:
        chunks = cut_chunks(pieces, embedder.batch_size, embedder.encoder.image_size)
        arrived: dict[int, dict[int, tuple[Chunk, list[Piece]]]] = collections.defaultdict(dict)
        due: dict[int, int] = collections.Counter()
        for chunk, batches in crew.work(chunks):
            waiting = arrived[chunk.piece]
            waiting[chunk.place] = chunk, batches
            while (next_one := waiting.pop(due[chunk.piece], None)) is not None:
                due[chunk.piece] += 1
                yield from _numbered(*next_one)


def _numbered(chunk: Chunk, batches: list[Piece]) -> Iterator[tuple[int, Piece, bool]]:
    for number, batch in enumerate(batches, start=1):
        yield chunk.piece, batch, chunk.last and number == len(batches)


class _Crew:
    """The actors, the tasks, and which chunk each of them is at."""

    def __init__(self, ray: Any, embedder: Embedder, images: ImageSource) -> None:
        self._ray, self._images, self._batch_size = ray, images, embedder.batch_size
        self._transform = embedder.encoder.transform
        num_actors, self._num_decoders, device = _plan(ray.cluster_resources(), embedder)
        # What is scarce is reserved by those who use it all the time, the rest is limited by this process: were both
        # to reserve cores, a cluster that loses a node could be full of actors that wait for a decoder.
        for_actor, for_decoder = ({"num_cpus": 0, "num_gpus": 1}, 1) if device == "cuda" else ({"num_cpus": 1}, 0)
        self._decode = ray.remote(decode_chunk).options(
            num_cpus=for_decoder, num_returns=2, max_retries=0, scheduling_strategy="SPREAD"
        )
        self._source = ray.put(dataclasses.replace(images, listing=images.listing.slice(0, 0)))
        kind = ray.remote(EmbedActor).options(max_restarts=MAX_RESTARTS, **for_actor)
        self._embedder = ray.put(_for_actors(embedder, device))
        self._actors = [kind.remote() for _ in range(num_actors)]
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._decoding: dict[Any, tuple[Chunk, Any]] = {}
        self._decoded: collections.deque[tuple[Chunk, Any]] = collections.deque()
        self._embedding: dict[Any, tuple[Chunk, Any, Any]] = {}
        self._again: collections.deque[Chunk] = collections.deque()
        self._failures: dict[Chunk, int] = collections.Counter()
        for actor in self._actors:
            self._start(actor)

    def work(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, list[Piece]]]:
        """Embed chunks, as many at once as there is room for; give each with its batches, in any order."""
        while True:
            self._hand_out(chunks)
            if not (self._decoding or self._decoded or self._embedding):
                return
            for ref in self._wait():
                if ref in self._starting:
                    self._take_started(ref)
                elif ref in self._decoding:
                    self._take_decoded(ref)
                else:
                    yield from self._take_embedded(ref)

    def close(self) -> None:
        """Leave nothing running."""
        for ref in self._decoding:
            self._ray.cancel(ref, force=True)
        for actor in self._actors:
            self._ray.kill(actor)

    def _hand_out(self, chunks: Iterator[Chunk]) -> None:
        room = self._num_decoders - len(self._decoding) if len(self._decoded) < 2 * len(self._actors) else 0
        for chunk in itertools.islice(iter(lambda: self._next(chunks), None), room):
            rows = self._images.listing.slice(chunk.start, chunk.stop - chunk.start)
            listing = rows.take(np.arange(len(rows))).combine_chunks()  # a copy: a slice is sent with all around it
            done, batches = self._decode.remote(self._source, listing, chunk, self._transform, self._batch_size)
            self._decoding[done] = chunk, batches
        while self._decoded and self._idle:
            chunk, batches = self._decoded.popleft()
            actor = self._idle.pop()
            self._embedding[actor.embed.remote(batches)] = chunk, batches, actor

    def _next(self, chunks: Iterator[Chunk]) -> Chunk | None:
        return self._again.popleft() if self._again else next(chunks, None)

    def _wait(self) -> list[Any]:
        """Wait until something is done; ``fetch_local`` would bring the pixels here."""
        refs = [*self._embedding, *self._decoding, *self._starting]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=PATIENCE_SECONDS, fetch_local=False)
        if not ready and len(self._starting) == len(self._actors):
            warnings.warn("the Ray cluster has no room for the network yet; waiting", SimcoreWarning, stacklevel=7)
        return list(ready)

    def _start(self, actor: Any) -> None:
        self._starting[actor.prepare.remote(self._embedder)] = actor

    def _take_started(self, ref: Any) -> None:
        """Let an actor work now that its network is in place; do without one that cannot be had."""
        actor = self._starting.pop(ref)
        try:
            self._ray.get(ref)
            self._idle.append(actor)
        except self._ray.exceptions.ActorUnavailableError:
            self._start(actor)
        except self._ray.exceptions.RayActorError as error:
            self._actors.remove(actor)
            if not self._actors:
                raise SimcoreError(f"no Ray worker can hold the network ({_reason(error)})") from error

    def _take_decoded(self, ref: Any) -> None:
        chunk, batches = self._decoding.pop(ref)
        try:
            self._ray.get(ref)
            self._decoded.append((chunk, batches))
        except self._ray.exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except self._ray.exceptions.RayError as error:
            self._give_again(chunk, error)

    def _take_embedded(self, ref: Any) -> Iterator[tuple[Chunk, list[Piece]]]:
        chunk, batches, actor = self._embedding.pop(ref)
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            self._start(actor)
            self._count_failure(chunk, error)
            self._decoded.appendleft((chunk, batches))
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(actor)
            if not isinstance(cause_of(error), self._ray.exceptions.RayError):
                raise cause_of(error) from error
            self._give_again(chunk, error)  # the pixels went down with the node that held them
        except self._ray.exceptions.RayError as error:
            self._idle.append(actor)
            self._give_again(chunk, error)
        else:
            self._idle.append(actor)
            yield chunk, found

    def _give_again(self, chunk: Chunk, error: BaseException) -> None:
        self._count_failure(chunk, error)
        self._again.append(chunk)

    def _count_failure(self, chunk: Chunk, error: BaseException) -> None:
        self._failures[chunk] += 1
        if self._failures[chunk] >= MAX_FAILURES:
            raise SimcoreError(
                f"{self._images.name}: {MAX_FAILURES} Ray workers died of rows {chunk.start} to {chunk.stop - 1} "
                f"({_reason(error)}); run the same command again to go on"
            ) from error


def _plan(resources: Mapping[str, float], embedder: Embedder) -> tuple[int, int, str]:
    """Say how many actors and how many decode tasks at once to have, and on which kind of device the actors compute."""
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    kind = embedder.device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is '{embedder.device}', but --engine ray computes on cpu or cuda")
    if kind == "cuda" and not gpus:
        raise SimcoreError(f"--device {embedder.device}: the Ray cluster has no GPU")
    if gpus and kind != "cpu":
        return gpus, embedder.num_workers or max(1, cores - gpus), "cuda"
    decoders = max(1, cores // CORES_PER_DECODER)
    return max(1, cores - decoders), embedder.num_workers or decoders, "cpu"


def _for_actors(embedder: Embedder, device: str) -> Embedder:
    """Copy what an actor needs; weights travel from and to the CPU."""
    encoder = copy.deepcopy(embedder.encoder).cpu()
    return dataclasses.replace(embedder, encoder=encoder, engine="local", device=device)


def _reason(error: BaseException) -> str:
    return f"{type(cause_of(error)).__name__}: {first_line(error)}"
