"""Building a directory of shards: rows stream once, and every so many of them are a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer
from binq.building.graph import GraphMaker
from binq.building.lists import StandIns
from binq.building.rows import LISTED, RowWriter, refuse_unusable
from binq.building.shard_lists import LaidShard, ShardedListMaker
from binq.errors import UsageError
from binq.storage import manifest
from binq.storage.format import Header
from binq.storage.ids import text_hashes, warn_of_duplicates
from binq.storage.manifest import MOST_SHARDS, Manifest
from binq.storage.publishing import DirectoryWriter, writing_shard
from binq.storage.sections import Int8Range
from binq.structures.queries import Queries
from binq.types import Kind, Metric, Scoring, StoredVectors, Vectors
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.ids import CommonType


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """What is the same for all shards of an index; all of it can be pickled.

    Attributes
    ----------
    directory : str
        Where they are written.
    dim, metric, binarizer, scan, rescore, spread, threads
        As of :class:`binq.building.rows.RowWriter`.
    kind : {"flat", "ivf", "hnsw"}
        Of the index. A shard of one with lists is written flat first; one with a graph has a graph
        of its own, and says how far walks go through it.
    m, ef_construction : int or None
        As of :class:`binq.building.graph.GraphMaker`.
    checked : Queries or None
        What searches are calibrated with; rows, where there are none.
    """

    directory: str
    dim: int
    metric: Metric
    binarizer: Binarizer | None
    scan: Scoring
    rescore: StoredVectors
    spread: Int8Range | None
    threads: int
    kind: Kind = "flat"
    m: int | None = None
    ef_construction: int | None = None
    checked: Queries | None = None

    def shared(self, centroids: NDArray[np.uint64] | None = None) -> str:
        """Return the fingerprint of what all shards hold alike."""
        arrays = {} if self.binarizer is None else self.binarizer.arrays()
        named = {f"binarizer.{name}": array for name, array in arrays.items()}
        if self.spread is not None:
            named |= {"rescore.low": self.spread.low, "rescore.step": self.spread.step}
        if centroids is not None:
            named["ivf.centroids"] = centroids
        return manifest.fingerprint(named)


@dataclass(frozen=True, eq=False)
class WrittenShard:
    """A shard that is written; all of it can be pickled.

    Attributes
    ----------
    shard : Shard
        Its entry in the manifest.
    header : Header
    ids : CommonType
        What its ids are.
    hashes : (m,) uint64
        What tells the ids of living rows apart; nothing where there are none.
    dead : (d,) int64
        The dead rows, by their numbers in the shard.
    skipped, skipped_rows
        As of :class:`binq.building.rows.RowWriter`.
    stand_ins : StandIns
        Those of its rows that may stand in for queries.
    """

    shard: manifest.Shard
    header: Header
    ids: CommonType
    hashes: NDArray[np.uint64]
    dead: NDArray[np.int64]
    skipped: int
    skipped_rows: list[str]
    stand_ins: StandIns


def write_shard(
    plan: ShardPlan, first: int, batches: Iterable[Batch], source: VectorSource
) -> WrittenShard:
    """Write the rows of some batches, of which the first is row ``first`` of the source."""
    stand_ins = StandIns(first if plan.kind == "ivf" else 0)
    with writing_shard(plan.directory) as writer:
        graph = None
        if plan.kind == "hnsw":
            told = plan.binarizer, plan.metric, plan.threads, plan.m, plan.ef_construction
            graph = GraphMaker(writer, *told)
        rows = RowWriter(
            writer,
            plan.dim,
            plan.metric,
            plan.binarizer,
            plan.scan,
            plan.rescore,
            plan.spread,
            plan.threads,
            graph,
            plan.checked,
            None if plan.kind == "flat" else stand_ins,
            first,
        )
        for batch in batches:
            rows.append(batch, source)
        header = rows.close(source, plan.shared())
    hashes = rows.ids.hashes()
    dead = np.flatnonzero(rows.dead)
    if len(dead) and len(hashes):
        hashes = np.delete(hashes, dead)
    written = writer.written_as
    entry = manifest.Shard(written.uuid, rows.count, written.file_length, written.header_checksum)
    return WrittenShard(
        entry,
        header,
        rows.ids.type,
        hashes,
        dead,
        rows.skipped,
        rows.skipped_rows,
        stand_ins,
    )


def build_shard(
    plan: ShardPlan, first: int, end: int, vectors: Vectors, settings: Mapping[str, Any]
) -> WrittenShard:
    """Write the shard of rows ``first`` to ``end`` of sources that are opened for it.

    The task of one shard, for whatever runs it: all that it takes and returns can be pickled.

    Parameters
    ----------
    plan : ShardPlan
    first, end : int
    vectors, settings
        What :func:`binq.vectors.open_vectors` is given: paths, and by name how to read them.
    """
    with open_vectors(vectors, **settings) as source:
        return write_shard(plan, first, source.between(first, end), source)


def _written(
    plan: ShardPlan, each: int, batches: Iterator[Batch], source: VectorSource
) -> Iterator[WrittenShard]:
    """Write shards of ``each`` rows as these stream by, at least one."""
    stream, first = _Stream(batches), 0
    while stream.more() or not first:
        yield write_shard(plan, first, stream.rows(each), source)
        first += each


class Elsewhere(Protocol):
    """Has work on shards done by other processes."""

    def write(
        self, plan: ShardPlan, each: int, batches: Iterator[Batch], source: VectorSource
    ) -> Iterator[WrittenShard]:
        """Yield shards of ``each`` rows in their order, at least one."""

    def lay(
        self, task: Callable[..., LaidShard], directory: str, uuids: list[bytes]
    ) -> Iterator[LaidShard]:
        """Yield what ``task(threads, uuid)`` returns for each of the shards in a directory."""


@dataclass(eq=False)
class ShardedRows:
    """Writes the rows of an index into shards as they stream by.

    Attributes
    ----------
    directory : DirectoryWriter
    plan : ShardPlan
    each : int
        Rows of a shard; the last may have fewer.
    lists : int or None
        How many, of an index of lists; by default as :func:`binq.building.lists.lists_for` says.
    elsewhere : Elsewhere or None
        Has the work on single shards done by other processes.
    count, skipped, skipped_rows
        As of :class:`binq.building.rows.RowWriter`.
    """

    directory: DirectoryWriter
    plan: ShardPlan
    each: int
    lists: int | None = None
    elsewhere: Elsewhere | None = None
    count: int = 0
    skipped: int = 0
    skipped_rows: list[str] = field(default_factory=list)

    def write(self, batches: Iterator[Batch], source: VectorSource) -> Header:
        """Write all rows.

        Returns
        -------
        Header
            Of all rows together.

        Raises
        ------
        InputError
            If there are rows, and none can be used, or too many shards.
        """
        written: list[WrittenShard] = []
        write = _written if self.elsewhere is None else self.elsewhere.write
        for shard in write(self.plan, self.each, batches, source):
            self.directory.wrote(shard.shard)
            written.append(shard)
            self.count += shard.shard.rows
            self.skipped += shard.skipped
            self.skipped_rows += shard.skipped_rows[: LISTED - len(self.skipped_rows)]
            _check_number(len(written))
        refuse_unusable(self, source)
        header = self._joined(written, source)
        hashes = [shard.hashes for shard in written]
        if header.ids == "strings":
            hashes = [text_hashes(shard.hashes, shard.ids.name) for shard in written]
        warn_of_duplicates(np.concatenate(hashes), lambda: _living(written))
        entries, shared = [shard.shard for shard in written], self.plan.shared()
        if self.plan.kind == "ivf":
            stand_ins = StandIns()
            for shard in written:
                stand_ins.join(shard.stand_ins)
            told = self.plan.binarizer, self.plan.metric, self.lists, self.plan.threads
            lay = None if self.elsewhere is None else self.elsewhere.lay
            maker = ShardedListMaker(self.directory, *told, lay)
            laid, calibration = maker.make(entries, self.plan.shared, stand_ins, self.plan.checked)
            entries, shared = [made.shard for made in laid], laid[0].shared
            header = replace(header, kind="ivf", calibration=calibration.to_json())
        self._manifest = Manifest(header, shared, tuple(entries))
        return header

    def publish(self) -> int:
        """Make what was written the index, and return its bytes."""
        return self.directory.publish(self._manifest)

    def _joined(self, written: list[WrittenShard], source: VectorSource) -> Header:
        """Return what one file of all rows would say of itself."""
        ids = CommonType()
        for shard in written:
            ids.join(shard.ids)
        return replace(
            written[-1].header,
            rows=self.count,
            ids=ids.name,
            sources=source.describe(),
            model=source.metadata,
            calibration=None,
            shard=None,
        )


def _living(written: list[WrittenShard]) -> NDArray[np.int64]:
    """Return the numbers of all rows that are not dead."""
    firsts = np.cumsum([0, *(shard.shard.rows for shard in written)])
    return np.concatenate(
        [
            np.delete(np.arange(first, end), shard.dead)
            for shard, first, end in zip(written, firsts, firsts[1:], strict=False)
        ]
    )


def check_shards(shard_rows: int, rows: int | None) -> None:
    """Refuse shards of so many rows, where it is known how many rows there are.

    Raises
    ------
    UsageError
    """
    if shard_rows < 1:
        raise UsageError("a shard has no rows", "`shard_rows`", "at least 1", str(shard_rows))
    if rows is not None:
        _check_number(-(-rows // shard_rows))


def _check_number(shards: int) -> None:
    if shards > MOST_SHARDS:
        raise UsageError(
            "there are too many shards", "`shard_rows`", f"at most {MOST_SHARDS:,}", f"{shards:,}"
        )


class _Stream:
    """Batches of rows, handed out by numbers of rows."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._rest: Batch | None = None

    def more(self) -> bool:
        """Return whether there is another row."""
        while self._rest is None or not len(self._rest):
            self._rest = next(self._batches, None)
            if self._rest is None:
                return False
        return True

    def rows(self, count: int) -> Iterator[Batch]:
        """Yield so many rows, or as many as are left."""
        while count and self.more():
            assert self._rest is not None
            batch, size = self._rest, min(count, len(self._rest))
            self._rest = None if size == len(batch) else batch.part(size, len(batch))
            count -= size
            yield batch if size == len(batch) else batch.part(0, size)
