"""The measures of information: sums of prices by one meter. Knows no model, and computes no probability.

H is a code length by the predictor: ``H(x) = -log2 p(x)``, in bits. Averaged over texts it is the
cross-entropy of their source and the predictor, so never less than the source's entropy (Cover & Thomas,
Elements of Information Theory, 2nd edition, theorem 5.4.3). The predictor adapts to what it reads, so
``H(y | x)`` is the price of y after x was read, and the order matters: ``H(x, y)`` and ``H(y, x)`` are two
estimates of one number.

All functions are pure: the meter stands afterwards where it stood before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain as flattened

import numpy as np

from sttx_core.errors import UsageError
from sttx_train.information.cost import Cost, rate
from sttx_train.information.meter import Meter, Text

Advance = Callable[[int], object]


def _ignore(_: int) -> None:
    """Show no progress."""


def cross_entropy(meter: Meter, text: Text, advance: Advance = _ignore) -> Cost:
    """Return what a text costs where the meter stands: ``H(x) = sum over t of -log2 p(x_t | x_1 … x_t-1)``.

    Measure ``meter.fresh()`` for the cost at a document's start.

    Args:
        meter: who measures.
        text: the text x.
        advance: called with the number of bytes as they are read.
    """
    return meter.measure([text], advance)[0]


def conditional_entropy(meter: Meter, text: Text, prefix: Text, advance: Advance = _ignore) -> Cost:
    """Return what a text costs after a prefix: ``H(y | x) = H(x, y) - H(x)``.

    (Cover & Thomas, theorem 2.2.1.) Both are encoded apart, so a token ends where the prefix ends. Encoded as
    one text, their concatenation may have another token there, and a slightly different cost.

    Args:
        meter: who measures.
        text: the text y.
        prefix: the text x.
        advance: called with the number of bytes as they are read.
    """
    return meter.measure([prefix, text], advance)[1]


def chain(meter: Meter, texts: Sequence[Text], advance: Advance = _ignore) -> list[Cost]:
    """Return what each text costs after those before it; together they cost ``H(x_1, …, x_n)``.

    The chain rule (Cover & Thomas, theorem 2.5.1): ``H(x_1, …, x_n) = sum over i of H(x_i | x_1 … x_i-1)``.

    Args:
        meter: who measures.
        texts: the parts x_1 to x_n, in order.
        advance: called with the number of bytes as they are read.
    """
    return meter.measure(texts, advance)


@dataclass(frozen=True, kw_only=True)
class JointEntropy:
    """What two aligned streams cost together, and alone.

    Attributes:
        x, y: what each stream costs alone, read as one text.
        x_share: what the items of x cost, each after all earlier pairs.
        y_share: what the items of y cost, each after all earlier pairs and its partner.
    """

    x: Cost
    y: Cost
    x_share: Cost
    y_share: Cost

    @property
    def bits(self) -> float:
        """The joint code length H(X, Y) in bits."""
        return self.x_share.bits + self.y_share.bits

    @property
    def bytes(self) -> int:
        """Bytes of both streams."""
        return self.x_share.bytes + self.y_share.bytes

    @property
    def bits_per_byte(self) -> float | None:
        """Joint bits for each byte of both streams; None if they are empty."""
        return rate(self.bits, self.bytes)

    @property
    def shared_bits(self) -> float:
        """``H(X) + H(Y) - H(X, Y)`` in bits; below 0 if reading them together costs more than apart."""
        return self.x.bits + self.y.bits - self.bits


def joint_entropy(
    meter: Meter, xs: Sequence[Text], ys: Sequence[Text], advance: Advance = _ignore
) -> JointEntropy:
    """Return what two aligned streams cost together: read as ``x_1 y_1 x_2 y_2 …``, by the chain rule.

    (Cover & Thomas, theorem 2.5.1.) Item i of one stream belongs to item i of the other, such as lines.

    Args:
        meter: who measures.
        xs: the items of X, in order.
        ys: those of Y, as many.
        advance: called with the number of bytes as they are read; each stream is read twice.

    Raises:
        UsageError: the streams have different numbers of items.
    """
    if len(xs) != len(ys):
        raise UsageError(
            f"aligned streams have as many items as each other: here are {len(xs):,} and {len(ys):,}"
        )
    both = meter.measure(flattened.from_iterable(zip(xs, ys, strict=True)), advance)
    x, y = (Cost.join(meter.measure(items, advance)) for items in (xs, ys))
    return JointEntropy(x=x, y=y, x_share=Cost.join(both[0::2]), y_share=Cost.join(both[1::2]))


@dataclass(frozen=True, kw_only=True)
class MutualInformation:
    """What two texts say about each other.

    ``I(x; y) = H(y) - H(y | x) = H(x) - H(x | y)`` (Cover & Thomas, theorem 2.4.1) holds for entropies. A
    predictor that adapts gives two numbers, one for each order. ``bits`` is their mean, so it does not change
    if x and y are swapped; ``asymmetry`` says how far the two are apart. An estimate may be below 0.

    Attributes:
        x, y: what each text costs alone.
        x_after_y, y_after_x: what each costs after the other.
    """

    x: Cost
    y: Cost
    x_after_y: Cost
    y_after_x: Cost

    @property
    def x_about_y(self) -> float:
        """``H(y) - H(y | x)`` in bits: what y costs less after x."""
        return self.y.bits - self.y_after_x.bits

    @property
    def y_about_x(self) -> float:
        """``H(x) - H(x | y)`` in bits: what x costs less after y."""
        return self.x.bits - self.x_after_y.bits

    @property
    def bits(self) -> float:
        """The mean of both orders, in bits."""
        return (self.x_about_y + self.y_about_x) / 2

    @property
    def asymmetry(self) -> float:
        """How far both orders are apart, in bits: ``|H(x, y) - H(y, x)|``."""
        return abs(self.x_about_y - self.y_about_x)


def mutual_information(meter: Meter, x: Text, y: Text, advance: Advance = _ignore) -> MutualInformation:
    """Return what two texts say about each other, in both orders.

    Args:
        meter: who measures.
        x: one text.
        y: the other.
        advance: called with the number of bytes as they are read; each text is read twice.
    """
    first, y_after_x = meter.measure([x, y], advance)
    second, x_after_y = meter.measure([y, x], advance)
    return MutualInformation(x=first, y=second, x_after_y=x_after_y, y_after_x=y_after_x)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Normalised compression distances of N texts.

    Attributes:
        costs: what each text costs alone.
        after_NN: ``[N, N]`` bits of text j after text i.
    """

    costs: tuple[Cost, ...]
    after_NN: np.ndarray

    @property
    def ordered_NN(self) -> np.ndarray:
        """``[N, N]`` the distance of text i and text j by C(ij), in this order.

        ``NCD(x, y) = (C(xy) - min(C(x), C(y))) / max(C(x), C(y))`` (Cilibrasi & Vitányi, Clustering by
        compression, IEEE Transactions on Information Theory 51(4), 2005), where C is the code length by the
        predictor and ``C(xy) = C(x) + C(y | x)``. Two empty texts have the distance 0.
        """
        alone = np.array([cost.bits for cost in self.costs])
        together = alone[:, None] + self.after_NN
        least, most = (of(alone[:, None], alone[None, :]) for of in (np.minimum, np.maximum))
        return np.divide(together - least, most, out=np.zeros_like(together), where=most > 0)

    @property
    def distance_NN(self) -> np.ndarray:
        """``[N, N]`` the mean of both orders, which is symmetric: near 0 if alike, near 1 if unrelated.

        The diagonal compares each text with itself, which an ideal compressor would give 0.
        """
        ordered = self.ordered_NN
        return (ordered + ordered.T) / 2


def distances(meter: Meter, texts: Sequence[Text], advance: Advance = _ignore) -> Distances:
    """Return the normalised compression distances of all pairs of texts, in both orders.

    Args:
        meter: who measures.
        texts: N texts, at least one.
        advance: called with the number of bytes as they are read; each text is read N + 1 times.

    Raises:
        UsageError: there is no text.
    """
    if not texts:
        raise UsageError("there is no text to compare: give one or more")
    costs, after_NN = [], np.zeros((len(texts), len(texts)))
    with meter.undone():
        start = meter.state_dict()
        for i, text in enumerate(texts):
            meter.load_state_dict(start)
            costs += meter.read([text], advance)
            after = meter.state_dict()
            for j, other in enumerate(texts):
                after_NN[i, j] = meter.read([other], advance)[0].bits
                meter.load_state_dict(after)
    return Distances(costs=tuple(costs), after_NN=after_NN)
