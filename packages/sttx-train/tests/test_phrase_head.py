"""Phrases in the model: exact prices, a normalized distribution, and agreement with a slow twin."""

import math
import random

import pytest
import torch
import torch.nn.functional as F

from sttx_core.hypernet import HyperNetwork
from sttx_core.phrases import STOP, DynamicTokenizer
from sttx_train.online.phrase_head import PhraseHead, Row
from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config

VOCAB = 23


def randomized(model: torch.nn.Module, seed: int, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith("0"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


@pytest.fixture
def head() -> PhraseHead:
    """Return a random float64 model and hypernetwork, and a table with long and branching phrases."""
    config = RWKV7Config(vocab_size=VOCAB, hidden_size=16, num_layers=2, head_size=8)
    model = RWKV7(config, backend="chunked").double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "ln" in name and name.endswith("weight")
            parameter.copy_(torch.ones_like(parameter) if norm else torch.zeros_like(parameter))
    randomized(model, 0)
    hypernet = HyperNetwork(16).double()
    randomized(hypernet, 1)
    table = DynamicTokenizer(VOCAB, threshold=2, pair_window=200, capacity=12)
    stream = random.Random(5)
    motifs = [[1, 2, 3, 4, 5, 6], [1, 2, 7], [8, 9, 10, 1, 2], [3, 3, 3, 3]]
    for _ in range(40):
        table.observe(table.merge(motifs[stream.randrange(4)] + [stream.randrange(VOCAB)]))
    assert len(table) == 12
    return PhraseHead(model, hypernet, table)


IDS = (1, 2, 3, 4, 5, 6, 11, 1, 2, 7, 8, 9, 10, 1, 2, 3, 3, 3, 3, 20)


def test_probabilities_over_all_next_phrases_sum_to_one(head: PhraseHead) -> None:
    hidden = torch.randn(16, generator=torch.Generator().manual_seed(3)).double()
    live = [VOCAB + phrase.slot for phrase in head.table.live()]
    for after in (None, 1, live[0], live[-1]):
        log_probs = head.next_log_probs(hidden, after=after)
        assert set(log_probs) == {*range(VOCAB), *live}
        assert sum(map(math.exp, log_probs.values())) == pytest.approx(1.0, abs=1e-12)


def test_followers_of_the_last_phrase_have_no_probability(head: PhraseHead) -> None:
    hidden = torch.randn(16, generator=torch.Generator().manual_seed(3)).double()
    after = next(p for p in head.table.live() if head.table.followers(VOCAB + p.slot))
    log_probs = head.next_log_probs(hidden, after=VOCAB + after.slot)
    for token in head.table.followers(VOCAB + after.slot):
        assert log_probs[token] == -math.inf


def test_code_length_is_the_sum_over_the_merged_stream_step_by_step(head: PhraseHead) -> None:
    """The slow twin reads one phrase at a time and its probability from the whole distribution."""
    row = Row(context=(0,), ids=IDS)
    batch = head.prepare([row], phrases=True)
    priced = head.forward(batch, None)
    nats, state = priced.nats_B, priced.state
    merged = batch.merged[0]
    assert len(merged) < len(IDS) and head.table.expand(merged) == list(IDS)
    rows_in, _ = head.rows()
    slow_state, total = RecurrentState.zeros(head.model.config, dtype=torch.float64), 0.0
    previous, context = None, 0
    choices = head.table.price(merged)
    for position, phrase in enumerate(merged):
        hidden, slow_state = head.model.hidden(head.embed(torch.tensor([[context]]), rows_in), slow_state)
        total -= slow_log_prob(head, hidden[0, -1], previous, phrase, choices, position)
        previous = context = phrase
    assert float(nats[0].detach()) == pytest.approx(total, rel=1e-9)
    torch.testing.assert_close(state.wkv, slow_state.wkv, rtol=1e-9, atol=1e-12)


def slow_log_prob(head, hidden, previous, phrase, choices, position) -> float:
    logits = head.model.head(hidden).detach().clone()
    for token in head.table.followers(previous) if previous is not None else ():
        logits[token] = -math.inf
    total = float(F.log_softmax(logits, -1)[head.table.tokens(phrase)[0]])
    _, rows_out = head.rows()
    for choice in (c for c in choices if c.position == position):
        scores = [
            prior + (0.0 if option == STOP else float((rows_out[option - VOCAB] @ hidden).detach()))
            for option, prior in zip(choice.options, choice.log_prior, strict=True)
        ]
        total += scores[choice.taken] - math.log(sum(map(math.exp, scores)))
    return total


def test_rows_of_a_batch_cost_the_same_as_alone(head: PhraseHead) -> None:
    rows = [Row(context=(0,), ids=IDS), Row(context=(1, 2, 3), ids=IDS[:7]), Row(context=(5,), ids=(1, 2))]
    priced = head.forward(head.prepare(rows, phrases=True), None)
    together, state = priced.nats_B, priced.state
    for index, row in enumerate(rows):
        lone = head.forward(head.prepare([row], phrases=True), None)
        alone, alone_state = lone.nats_B, lone.state
        torch.testing.assert_close(together[index], alone[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(state.select([index]).wkv, alone_state.wkv, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            state.select([index]).ffn_shift, alone_state.ffn_shift, rtol=1e-9, atol=1e-12
        )


def test_without_phrases_it_is_the_models_own_cross_entropy(head: PhraseHead) -> None:
    nats = head.forward(head.prepare([Row(context=(0,), ids=IDS)], phrases=False), None).nats_B
    logits, _ = head.model(torch.tensor([[0, *IDS[:-1]]]))
    expected = F.cross_entropy(logits[0], torch.tensor(IDS), reduction="sum")
    torch.testing.assert_close(nats[0], expected, rtol=1e-12, atol=0)


def test_an_untrained_hypernetwork_enters_a_phrase_as_its_last_token(head: PhraseHead) -> None:
    fresh = PhraseHead(head.model, HyperNetwork(16).double(), head.table)
    rows_in, rows_out = fresh.rows()
    assert rows_in is not None and rows_out is not None
    for phrase in head.table.live():
        torch.testing.assert_close(rows_in[phrase.slot], head.model.emb.weight[phrase.token], rtol=0, atol=0)
    assert not rows_out.any()


def test_gradients_reach_the_hypernetwork_through_inputs_and_outputs(head: PhraseHead) -> None:
    nats = head.forward(head.prepare([Row(context=(0,), ids=IDS)], phrases=True), None).nats_B
    nats.sum().backward()
    for name, parameter in head.hypernet.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_only_paid_tokens_are_priced_and_runs_do_not_merge(head: PhraseHead) -> None:
    paid = (False,) * 3 + (True,) * 3
    batch = head.prepare([Row(context=(0,), ids=IDS[:6], paid=paid)], phrases=True)
    assert head.table.expand(batch.merged[0]) == list(IDS[:6])
    lengths = [len(head.table.tokens(p)) for p in batch.merged[0]]
    assert 3 in [sum(lengths[:n]) for n in range(len(lengths))]
    nats = head.forward(batch, None).nats_B
    unpaid = head.forward(
        head.prepare([Row(context=(0,), ids=IDS[:6], paid=(False,) * 6)], phrases=True), None
    ).nats_B
    assert float(unpaid.detach()) == 0.0 < float(nats.detach())
