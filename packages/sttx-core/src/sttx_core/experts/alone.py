"""Coding driven by a network alone, without experts: nothing is counted, matched or mixed.

The decisions are those of `coding`: which half of the tokens, sorted by their bytes, the next one is in.
"""

import numpy as np

from sttx_core.experts.arithmetic import borrowing
from sttx_core.experts.coders import NOTE, TOTAL, Coder, coded
from sttx_core.experts.coding import masses_of_logits
from sttx_core.experts.reading import halves

_NOTHING = 1e-30  # below such a mass no half is more probable


@borrowing
def code_alone(vocabulary, logits, ids, work, mode, coder):
    """Code the next token of each row.

    Args:
        vocabulary: `Vocabulary`.
        logits: [B, V or more] float32 of each row's next token. They are overwritten.
        ids: [B] int64, coded with the mode `NOTE`, and otherwise decoded.
        work: arrays to work in.
        mode: what is done with a decision.
        coder: `Coder`, with a state of each row.
    """
    size, depths = vocabulary.rank.size, work.p.size
    for row in range(ids.size):
        masses_of_logits(logits[row], vocabulary.order, work.powers, work.mass)
        of_row = Coder(coder.noted, coder.data, coder.state[row])
        rank = vocabulary.rank[ids[row]] if mode == NOTE else 0
        low, high, node = 0, 1 << depths, 1
        for _ in range(depths):
            middle = (low + high) >> 1
            right = 0
            if middle < size:
                right = coded(_part(work.mass, node), 1 if rank >= middle else 0, mode, of_row)
            node = 2 * node + right
            low, high = (middle, high) if right else (low, middle)
        ids[row] = np.int64(vocabulary.order[low])


@borrowing
def _part(mass, node):
    """Return the probability of a node's right half, in units of 2^-24, from 1 to 2^24 - 1."""
    left, right = halves(mass, node)
    both = left + right
    return min(max(np.int64(right / both * TOTAL), 1), TOTAL - 1) if both > _NOTHING else TOTAL // 2
