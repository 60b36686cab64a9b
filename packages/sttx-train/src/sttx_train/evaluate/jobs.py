"""One arm or control over the windows of a stream: what every token costs, in which time and memory.

Each job loads the model itself, so it runs in any process. Learning pays as `sttx train` does; what does not
learn is read by `Reader`. Does not know what its result is compared with.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from sttx_core.errors import SttxWarning
from sttx_train.evaluate.general import general_text
from sttx_train.formats import LoadedModel, load_model
from sttx_train.online import LearnerConfig, Window
from sttx_train.predict import Predictor, Prices, Reader

FROZEN = LearnerConfig(scope=(), inject="none", phrases="off", replay_rows=0)
"""A network that learns nothing. The experts get it twice, for the learned network and for the frozen one."""

_TOGETHER = 4096  # tokens that are scored together; prices do not depend on it
_NUMBERS = 2**24  # most log-probabilities that are held at once, by each network


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to run.

    Attributes:
        name: for messages.
        model: what `load_model` takes.
        windows: the stream.
        window: base tokens of a window.
        experts: mix experts in.
        learning: how to learn, from the start of the stream; None to score without learning.
        learned: what was learned before, read as it was saved.
        experts_only: of what was learned, only the memory of the experts; the network is the frozen one.
        state: replaces S0, ``[L, H, N, N]``.
        tune: windows from which a state is tuned first, which then replaces S0.
        tuning: how it is tuned.
        general: also measure what `general_text` costs at the end.
        threads: threads to compute with.
    """

    name: str
    model: str | None
    windows: tuple[Window, ...]
    window: int = 64
    experts: bool = False
    learning: LearnerConfig | None = None
    learned: Path | None = None
    experts_only: bool = False
    state: np.ndarray | None = None
    tune: tuple[Window, ...] = ()
    tuning: LearnerConfig = LearnerConfig()
    general: bool = False
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job found; T tokens, in the order of the windows.

    Attributes:
        bits: what was paid in all.
        bits_T: what was paid for each token.
        network_T: what the network alone would have paid; NaN where that is not known.
        frozen_T: the same of the frozen network.
        seconds: time of predicting and learning, without loading.
        steps: recurrent steps of the network.
        memory: most bytes of memory that the process held after a step.
        general: bits that the network pays at the end for `general_text`, alone and from a cold start; NaN if
            that was not asked for.
        general_paid: the same by all that predicts.
        warnings: what sttx warned of.
    """

    bits: float
    bits_T: np.ndarray
    network_T: np.ndarray
    frozen_T: np.ndarray
    seconds: float
    steps: int
    memory: int
    general: float
    general_paid: float
    warnings: tuple[str, ...]


def run_job(job: Job, advance: Callable[[int], None]) -> Outcome:
    """Run a job; ``advance`` is called with the number of tokens that were read since the last call."""
    torch.set_num_threads(job.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SttxWarning)
        outcome = _run(job, load_model(job.model), advance)
    return replace(outcome, warnings=tuple(str(warning.message) for warning in caught))


def tuned_state(
    loaded: LoadedModel, windows: Sequence[Window], tuning: LearnerConfig, window: int
) -> np.ndarray:
    """Return the state S0 that is learned from windows, without experts and phrases."""
    learning = replace(tuning, scope=("state",), phrases="off", loss="network", frozen=False)
    predictor = Predictor(loaded, experts=False, learning=learning, window=window)
    for one in windows:
        predictor.step([one])
    predictor.learner.stand_still()
    return predictor.learner.s0.detach().cpu().numpy().copy()


def general_prices(predictor: Predictor) -> tuple[float, float]:
    """Return the bits of `general_text` from a cold start: by the network alone, and by all that predicts.

    The experts know what they have read so far; they and the network are left as they are.
    """
    ids = predictor.loaded.tokenizer.encode(general_text())
    prices = predictor.read(alone=True).score(ids)
    return float(prices.network.sum()), float(prices.bits.sum())


def _run(job: Job, loaded: LoadedModel, advance: Callable[[int], None]) -> Outcome:
    state = tuned_state(loaded, job.tune, job.tuning, job.window) if job.tune else job.state
    predictor = _predictor(job, loaded, with_state=state is not None)
    if state is not None:
        with torch.no_grad():
            predictor.learner.s0.copy_(torch.from_numpy(state))
    process, memory, bits, steps, parts = psutil.Process(), 0, 0.0, 0, []
    started = time.perf_counter()
    for price, paid, count in (_learn if predictor.learns else _score)(predictor, job.windows):
        parts.append(price)
        bits, steps = bits + paid, steps + count
        memory = max(memory, process.memory_info().rss)
        advance(len(price))
    seconds = time.perf_counter() - started
    prices = Prices.join(parts)
    general, general_paid = general_prices(predictor) if job.general else (math.nan, math.nan)
    return Outcome(
        bits=bits,
        bits_T=prices.bits,
        network_T=prices.network,
        frozen_T=prices.frozen,
        seconds=seconds,
        steps=steps,
        memory=memory,
        general=general,
        general_paid=general_paid,
        warnings=(),
    )


def _predictor(job: Job, loaded: LoadedModel, *, with_state: bool) -> Predictor:
    if job.learning is not None:
        return Predictor(loaded, experts=job.experts, learning=job.learning, window=job.window)
    if job.learned is not None and job.experts_only:
        predictor = Predictor(loaded, experts=False, learning=FROZEN, learns=False, window=job.window)
        predictor.learner.use(Predictor(loaded, job.learned).learner.mixture)
        return predictor
    if job.learned is not None:
        predictor = Predictor(loaded, job.learned, experts=job.experts)
        if not job.experts:
            predictor.learner.networks.frozen = None  # its price is not asked for
        return predictor
    if with_state:
        learning = replace(job.tuning, scope=("state",), phrases="off", replay_rows=0, loss="network")
        return Predictor(loaded, experts=job.experts, learning=learning, learns=False, window=job.window)
    return Predictor(loaded, experts=job.experts, window=job.window)


_Paid = tuple[Prices, float, int]  # of one window: its tokens' prices, what was paid, steps of the network


def _learn(predictor: Predictor, windows: Sequence[Window]) -> Iterator[_Paid]:
    """Pay for windows and learn from them. Where only a window's price is known, its bytes share it."""
    for window in windows:
        report = predictor.step([window])
        score = report.score
        price = report.prices[0] if report.prices else _shared(predictor, window, score.bits)
        yield price, score.bits, score.model_steps


def _shared(predictor: Predictor, window: Window, bits: float) -> Prices:
    sizes = predictor.learner.byte_lengths[np.asarray(window.ids)] * window.paid_T
    shares = bits * sizes / max(sizes.sum(), 1)
    unknown = np.full(len(shares), np.nan)
    return Prices(bits=shares, network=unknown, frozen=unknown)


def _score(predictor: Predictor, windows: Sequence[Window]) -> Iterator[_Paid]:
    """Pay for windows, many at once. A document has a reader as long as learning would carry its state."""
    readers: OrderedDict[str, Reader] = OrderedDict()
    for group in _groups(
        windows, max(64, min(_TOGETHER, _NUMBERS // predictor.loaded.model.config.vocab_size))
    ):
        rows: list[Reader] = []
        for window in group:
            reader = readers.pop(window.document, None) or predictor.read(window.document)
            readers[window.document] = reader
            if len(readers) > predictor.learner.config.max_documents:
                readers.popitem(last=False)
            rows.append(reader)
        unique = list({id(reader): reader for reader in rows}.values())
        at = {id(reader): row for row, reader in enumerate(unique)}
        pieces = [(at[id(reader)], window.ids) for reader, window in zip(rows, group, strict=True)]
        for window, read in zip(group, predictor.batch(unique).advance_in_order(pieces), strict=True):
            paid = window.paid_T
            price = Prices(bits=read.bits * paid, network=read.network * paid, frozen=read.frozen * paid)
            yield price, float(price.bits.sum()), len(window.ids)


def _groups(windows: Sequence[Window], most: int) -> Iterator[list[Window]]:
    """Yield windows in groups of about so many tokens."""
    group: list[Window] = []
    tokens = 0
    for window in windows:
        group.append(window)
        tokens += len(window.ids)
        if tokens >= most:
            yield group
            group, tokens = [], 0
    if group:
        yield group
