"""Documents read by the networks of several processes; the experts read in the first one, in order.

A document is read in the process that its name chooses. What the networks say of its tokens goes to the first
process, so every price is that of one process, up to rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sttx_core.errors import DataError
from sttx_train.online.sharing import is_mine
from sttx_train.predict.ordered import Segment, read_by_networks
from sttx_train.workers import Workers

if TYPE_CHECKING:
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader


class SharedReading:
    """Reads rows with the networks of all processes. The first process asks, the others :meth:`help`.

    Args:
        predictor: who predicts; each process makes one like it. It does not learn.
        workers: the processes.
    """

    def __init__(self, predictor: Predictor, workers: Workers) -> None:
        self.predictor, self.workers = predictor, workers
        self._numbers: WeakKeyDictionary[Reader, int] = WeakKeyDictionary()
        self._given = 0

    def __call__(self, readers: Sequence[Reader], left: Sequence[list[int]]) -> list[deque[Segment]]:
        """Return what the networks say of the next tokens of each row, as `read_by_networks` does."""
        wanted = [
            (self._number(reader), reader.document, ids) for reader, ids in zip(readers, left, strict=True)
        ]
        self.workers.tell((wanted, set(self._numbers.values())))
        return self._read(list(readers), [(document, ids) for _, document, ids in wanted])

    def help(self) -> None:
        """Read this process's documents for the first process until that has no more."""
        readers: dict[int, Reader] = {}
        while (order := self.workers.tell()) is not None:
            wanted, kept = order
            readers = {number: reader for number, reader in readers.items() if number in kept}
            rows = []
            for number, document, _ in wanted:
                if number not in readers:
                    readers[number] = self.predictor.read(document)
                rows.append(readers[number])
            self._read(rows, [(document, ids) for _, document, ids in wanted])

    @contextmanager
    def asking(self) -> Iterator[SharedReading]:
        """Let the other processes go at the end of the block, unless one of them is gone."""
        try:
            yield self
        except DataError:
            raise
        except BaseException:
            self.workers.tell(None)
            raise
        self.workers.tell(None)

    def _number(self, reader: Reader) -> int:
        """Return a number for a reader that no other reader had."""
        if reader not in self._numbers:
            self._numbers[reader], self._given = self._given, self._given + 1
        return self._numbers[reader]

    def _read(self, readers: list[Reader], wanted: list[tuple[str, list[int]]]) -> list[deque[Segment]]:
        """Read the rows of this process; return all rows in the first process."""
        own = [row for row, (document, _) in enumerate(wanted) if is_mine(document, self.workers)]
        mine = read_by_networks(
            self.predictor, [readers[row] for row in own], [wanted[row][1] for row in own]
        )
        every = dict(self.workers.collect_first(list(zip(own, mine, strict=True))))
        return [every.get(row, deque()) for row in range(len(wanted))]
