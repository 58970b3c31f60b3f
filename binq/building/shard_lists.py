"""Laying the codes of shards list by list, once all rows are there: lists that all have in common.

Shards are written flat first, since centroids are trained on codes of all of them; then each is
written again by itself, list by list, and the flat one goes. So the lists are those that one file
of the same rows would have.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers import Binarizer
from binq.building.calibrating import Calibrator
from binq.building.lists import SIGNS, Rows, StandIns, lists_for, order_of, sample_of
from binq.io.atomic import scratch_beside
from binq.storage import manifest
from binq.storage.publishing import DirectoryWriter, writing_shard
from binq.storage.reader import IndexFile
from binq.storage.writer import IndexWriter
from binq.structures import coarse
from binq.structures.base import AllowedRows
from binq.structures.calibration import Calibration
from binq.structures.ivf import Ivf
from binq.structures.queries import Queries
from binq.structures.sharded_kinds import ShardedIvf
from binq.types import Metric

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

_BLOCK: Final = 65_536
BY_POSITION: Final = ("codes", "codes.factor", "codes.addend")
"""Sections that lie in another order than the rows, where an index has lists."""


@dataclass(frozen=True, eq=False)
class LaidShard:
    """A shard that is written list by list; all of it can be pickled.

    Attributes
    ----------
    shard : Shard
        Its entry in the manifest.
    shared : str
        The fingerprint that it bears.
    lists : (n,) uint16
        In which list every row lies.
    sizes : (l,) int64
        Rows in every list that are not dead.
    """

    shard: manifest.Shard
    shared: str
    lists: NDArray[np.uint16]
    sizes: Numbers


def lay_shard(
    directory: str, centroids: Codes, shared: str, threads: int, uuid: bytes
) -> LaidShard:
    """Write a flat shard again, list by list, beside itself.

    The task of one shard, for whatever runs it: all that it takes and returns can be pickled.

    Parameters
    ----------
    directory : str
        Where the flat shard lies.
    centroids : (l, words) uint64
    shared : str
        The fingerprint of what all shards have in common then.
    threads : int
    uuid : bytes
        Of the flat shard.
    """
    with (
        IndexFile(os.path.join(directory, manifest.name_of(uuid)), uuid) as flat,
        writing_shard(directory) as writer,
    ):
        probes = probes_of(flat)
        lists = np.empty(len(probes), np.uint16)
        for first in range(0, len(probes), _BLOCK):
            part = slice(first, first + _BLOCK)
            lists[part] = coarse.assign(probes[part], centroids, threads)
        sizes = np.bincount(lists, minlength=len(centroids))
        order = order_of(lists, sizes)
        for name in flat.sections:
            if name == SIGNS:
                continue
            begin_section(flat, writer, name)
            append_section(flat, writer, name, order if name in BY_POSITION else None)
        writer.add("ivf.centroids", centroids)
        writer.add("ivf.offsets", np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64))
        writer.add("ivf.rows", order)
        place = {"first": (flat.header.shard or {})["first"], "shared": shared}
        # By itself it looks everywhere: what was calibrated is for all rows, in the manifest.
        alone = _NOWHERE.to_json()
        header = replace(flat.header, kind="ivf", calibration=alone, shard=place)
        writer.finish(header)
        dead = dead_of(flat)
        if dead.any():
            sizes = np.bincount(lists[~dead], minlength=len(centroids))
    written = writer.written_as
    entry = manifest.Shard(written.uuid, header.rows, written.file_length, written.header_checksum)
    return LaidShard(entry, shared, lists, sizes)


Elsewhere = Callable[[Callable[..., LaidShard], str, list[bytes]], Iterator[LaidShard]]


@dataclass(frozen=True, eq=False)
class ShardedListMaker:
    """Makes the lists of shards that are written flat.

    Attributes
    ----------
    directory : DirectoryWriter
    binarizer : Binarizer or None
    metric : {"cosine", "ip", "l2"}
    lists : int or None
        How many; by default as :func:`binq.building.lists.lists_for` says.
    threads : int
    elsewhere : callable or None
        Has :func:`lay_shard` done by other processes: given the task but for threads and UUID, the
        directory and all UUIDs, it returns what it came to.
    """

    directory: DirectoryWriter
    binarizer: Binarizer | None
    metric: Metric
    lists: int | None
    threads: int
    elsewhere: Elsewhere | None = None

    def make(
        self,
        flat: list[manifest.Shard],
        shared: Callable[[Codes], str],
        stand_ins: StandIns,
        queries: Queries | None,
    ) -> tuple[list[LaidShard], Calibration]:
        """Write all shards again, list by list, and find out how far searches have to look.

        Parameters
        ----------
        flat : list of Shard
            In the order of their rows; they are removed.
        shared : callable
            Given the centroids, returns the fingerprint of what all shards have in common.
        stand_ins, queries
            As of :meth:`binq.building.lists.ListMaker.make`.
        """
        path, threads = self.directory.path, self.threads
        with ExitStack() as stack:
            files = [self._opened(shard, stack) for shard in flat]
            dead = np.concatenate([dead_of(file) for file in files])
            wanted = lists_for(len(dead)) if self.lists is None else self.lists
            sample = sample_of(Rows([probes_of(file) for file in files]), dead, wanted)
            own = None
            if queries is None:
                own = stand_ins.rows
                codes = Rows([codes_of(file) for file in files])
                queries = stand_ins.queries(self.metric, self.binarizer, codes.__getitem__)
        centroids = coarse.train(sample, wanted, threads)
        del sample
        with ExitStack() as stack:
            numbers = stack.enter_context(scratch_beside(path / "lists"))
            laid = []
            lay = partial(lay_shard, str(path), centroids, shared(centroids))
            uuids = [shard.uuid for shard in flat]
            done = (
                self.elsewhere(lay, str(path), uuids)
                if self.elsewhere
                else map(partial(lay, threads), uuids)
            )
            for shard, made in zip(flat, done, strict=True):
                self.directory.replaced(shard, made.shard)
                numbers.write(made.lists.tobytes())
                laid.append(replace(made, lists=made.lists[:0]))
            numbers.flush()
            files = [self._opened(made.shard, stack) for made in laid]
            known = (
                ShardedIvf([Ivf.restore(f, self.binarizer) for f in files], _NOWHERE),
                "codes.factor" in files[0].sections,
                self.binarizer,
                self.metric,
                centroids,
                _mapped(numbers.fileno(), len(dead)),
                np.sum([made.sizes for made in laid], axis=0),
                AllowedRows(~dead) if dead.any() else None,
                threads,
            )
            return laid, Calibrator(*known).calibration(queries, own)

    def _opened(self, shard: manifest.Shard, stack: ExitStack) -> IndexFile:
        name = manifest.name_of(shard.uuid)
        return stack.enter_context(IndexFile(self.directory.path / name, shard.uuid))


_NOWHERE: Final = Calibration(0, True, {})


def codes_of(shard: IndexFile) -> Codes:
    """Return the codes of a shard, mapped."""
    return shard.array("codes", "uint64", (shard.header.rows, shard.header.words))


def probes_of(shard: IndexFile) -> Codes:
    """Return the codes that are compared with centroids, mapped."""
    if SIGNS in shard.sections:
        return shard.array(SIGNS, "uint64", (shard.header.rows, -1))
    return codes_of(shard)


def dead_of(shard: IndexFile) -> NDArray[np.bool_]:
    """Return which rows of a shard are dead, (n,)."""
    rows, alive = shard.header.rows, shard.alive()
    if alive is None:
        return np.zeros(rows, np.bool_)
    living: NDArray[np.bool_] = packing.unpack(alive[None], rows)[0]
    return ~living


def section_of(file: IndexFile, name: str) -> NDArray[Any]:
    """Return a section as it is stored, mapped.

    Raises
    ------
    IndexFileError
        If there is none.
    """
    section = file.sections.get(name)
    if section is None:
        raise file.corrupt(f"section {name}", "present", "absent")
    return file.array(name, section.dtype, section.shape)


def begin_section(file: IndexFile, writer: IndexWriter, name: str) -> None:
    """Begin a section like that of a file."""
    array = section_of(file, name)
    writer.section(name, file.sections[name].dtype, array.shape[1:])


def append_section(
    file: IndexFile, writer: IndexWriter, name: str, order: NDArray[np.uint32] | None = None
) -> None:
    """Copy what a section of a file holds, in its order or another, some rows at a time."""
    rows = section_of(file, name)
    for first in range(0, len(rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        some = rows[part] if order is None else rows[order[part]]
        writer.append(name, some.astype(file.sections[name].dtype, copy=False))


def _mapped(descriptor: int, rows: int) -> NDArray[np.uint16]:
    if not rows:
        return np.empty(0, np.uint16)
    return np.frombuffer(mmap.mmap(descriptor, 2 * rows, access=mmap.ACCESS_READ), np.uint16)
