"""Splits and windows of documents: every id once an epoch, in another order each time."""

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_train.data.documents import Chosen, Joined, Packed, fingerprint, split
from sttx_train.data.sampling import IGNORED, Sampler


def packed(*sizes, first=1):
    """Documents of so many ids, all different, each led by the mark."""
    pieces = []
    for size in sizes:
        pieces.append(np.concatenate([[0], np.arange(first, first + size)]))
        first += size
    return Packed(np.concatenate(pieces).astype(np.uint32))


def ids_of(documents):
    return [documents.read(at, 0, int(length)).tolist() for at, length in enumerate(documents.lengths)]


class TestDocuments:
    def test_every_storage_gives_the_same_documents(self):
        whole = packed(3, 0, 5, 2)
        assert ids_of(whole) == [[0, 1, 2, 3], [0], [0, 4, 5, 6, 7, 8], [0, 9, 10]]
        parts = Joined([packed(3, 0), packed(5, first=4), packed(2, first=9)])
        assert ids_of(parts) == ids_of(whole)
        assert parts.read(2, 2, 4).tolist() == [5, 6]
        assert ids_of(Chosen(whole, np.array([2, 0]))) == [ids_of(whole)[2], ids_of(whole)[0]]
        assert fingerprint(parts) == fingerprint(whole) != fingerprint(packed(3, 0, 5, 3))

    @pytest.mark.parametrize("ids", [np.zeros((2, 2), int), np.zeros(3), np.array([1, 0]), np.zeros(0, int)])
    def test_ids_that_are_not_packed_are_refused(self, ids):
        with pytest.raises(DataError, match="packed ids"):
            Packed(ids)

    def test_validation_gets_whole_documents(self):
        documents = packed(*range(40))
        train, held = split(documents, 0.2, seed=3)
        assert sorted(ids_of(train) + ids_of(held)) == sorted(ids_of(documents))
        assert 0.2 <= held.lengths.sum() / documents.lengths.sum() < 0.3
        assert ids_of(split(documents, 0.2, seed=3)[1]) == ids_of(held) != ids_of(split(documents, 0.2)[1])
        assert len(split(documents, 0)[1].lengths) == 0
        with pytest.raises(UsageError, match="0.9 leaves none of the 2 documents to train on: give more"):
            split(packed(5, 5), 0.9)
        with pytest.raises(
            UsageError, match="0.8 leaves nothing of the only document to train on: give more"
        ):
            split(packed(5), 0.8)
        with pytest.raises(UsageError, match="from 0 to below 1"):
            split(documents, 1.0)

    def test_validation_gets_the_ends_of_few_documents(self):
        train, held = split(packed(19), 0.2)
        assert ids_of(train) == [[0, *range(1, 16)]] and ids_of(held) == [[0, 16, 17, 18, 19]]
        assert held.read(0, 2, 4).tolist() == [17, 18] and held.read(0, 0, 1).tolist() == [0]
        train, held = split(packed(9, 9), 0.1)
        assert ids_of(held) == [[0, 9], [0, 18]] and train.lengths.tolist() == [9, 9]


class TestSampler:
    @pytest.mark.parametrize(("rows", "context"), [(1, 5), (1, 59), (3, 4), (4, 64), (7, 3), (50, 2)])
    def test_an_epoch_predicts_every_id_once_and_in_order(self, rows, context):
        documents = packed(9, 0, 30, 2, 14)
        sampler = Sampler(documents, rows=rows, context=context, seed=1)
        windows = [sampler.window(step) for step in range(sampler.windows_per_epoch)]
        inputs = np.concatenate([window.inputs for window in windows], axis=1)
        targets = np.concatenate([window.targets for window in windows], axis=1)
        valid = targets != IGNORED
        assert valid.sum() == sampler.total - 1 and all(
            (window.targets != IGNORED).any() for window in windows
        )
        rows_read = [(inputs[row][valid[row]], targets[row][valid[row]]) for row in range(rows)]
        assert all(np.array_equal(ids[1:], following[:-1]) for ids, following in rows_read)
        last = max(row for row in range(rows) if valid[row].any())
        read = np.concatenate([*(ids for ids, _ in rows_read), rows_read[last][1][-1:]])
        assert sorted(ids_of(Packed(read))) == sorted(ids_of(documents))

    def test_some_rows_of_a_window(self):
        sampler = Sampler(packed(40, 3, 20), rows=6, context=4)
        for step in (0, 1, sampler.windows_per_epoch + 1):
            whole = sampler.window(step)
            for first in (0, 2, 4):
                part = sampler.window(step, first, 2)
                assert np.array_equal(part.inputs, whole.inputs[first : first + 2])
                assert np.array_equal(part.targets, whole.targets[first : first + 2])

    def test_the_seed_draws_another_order_for_each_epoch(self):
        def epoch(number, seed=0):
            sampler = Sampler(packed(*[3] * 20), rows=1, context=80, seed=seed)
            assert sampler.windows_per_epoch == 1
            assert sampler.epoch(number) == number and sampler.begins_epoch(number)
            inputs, targets = sampler.window(number)
            return [*inputs[targets != IGNORED].tolist(), int(targets[targets != IGNORED][-1])]

        assert epoch(0) == epoch(0)
        assert epoch(0) != epoch(1) != epoch(2) and epoch(0) != epoch(0, seed=1)
        assert sorted(epoch(0)) == sorted(epoch(1))

    def test_too_few_ids_are_refused(self):
        with pytest.raises(DataError, match="1 ids are too few"):
            Sampler(packed(0), rows=1, context=4)
