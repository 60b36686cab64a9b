"""Sizes, state, initialization, and the model's promises about batches, splits and padding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import UsageError
from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config, initialize
from sttx_train.rwkv7.config import parameter_shapes

FIELDS = ("att_shift", "wkv", "ffn_shift")


def assert_states_close(found, expected, limit=1e-9):
    for name in FIELDS:
        x, y = getattr(found, name), getattr(expected, name)
        assert x.shape == y.shape
        assert (x - y).abs().max() < limit * y.abs().max().clamp_min(1.0), name


class TestConfig:
    def test_sizes_default_to_the_published_formulas(self):
        config = RWKV7Config(vocab_size=65536, hidden_size=2048, num_layers=24)
        assert (config.num_heads, config.ffn_size) == (32, 8192)
        assert (config.decay_rank, config.a_rank, config.v_rank) == (128, 128, 64)

    def test_given_sizes_stay(self):
        config = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=1, head_size=4, ffn_size=12, gate_rank=3)
        assert (config.ffn_size, config.gate_rank, config.num_heads) == (12, 3, 2)
        assert config.group_norm_eps == pytest.approx(4e-5)

    def test_a_dictionary_restores_it(self):
        config = RWKV7Config(vocab_size=9, hidden_size=128, num_layers=2, v_rank=5)
        assert RWKV7Config(**config.to_dict()) == config

    @pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_layers", "head_size"])
    def test_a_size_below_one_is_refused_by_name(self, name):
        sizes = {"vocab_size": 9, "hidden_size": 64, "num_layers": 1, "head_size": 64} | {name: 0}
        with pytest.raises(UsageError, match=f"{name} must be at least 1, not 0"):
            RWKV7Config(**sizes)

    def test_heads_must_fill_the_width(self):
        with pytest.raises(UsageError, match="hidden_size 100 must be a multiple of head_size 64"):
            RWKV7Config(vocab_size=9, hidden_size=100, num_layers=1)

    @pytest.mark.parametrize("layers", [1, 3])
    def test_the_shapes_are_those_of_the_models_parameters(self, layers):
        ranks = {"decay_rank": 3, "a_rank": 5, "v_rank": 7, "gate_rank": 11}
        sizes = {"vocab_size": 9, "hidden_size": 8, "head_size": 4, "ffn_size": 13}
        config = RWKV7Config(num_layers=layers, **sizes, **ranks)
        state = RWKV7(config, initialize=False).state_dict()
        shapes = [(name, tuple(tensor.shape)) for name, tensor in state.items()]
        assert list(parameter_shapes(config).items()) == shapes


class TestState:
    @pytest.fixture
    def state(self):
        config = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=2, head_size=4)
        state = RecurrentState.zeros(config, 3)
        for name in FIELDS:
            getattr(state, name).normal_()
        return state

    def test_zeros_has_the_models_shapes(self):
        config = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=2, head_size=4)
        state = RecurrentState.zeros(config, 3, dtype=torch.bfloat16)
        assert state.att_shift.shape == state.ffn_shift.shape == (2, 3, 8)
        assert state.wkv.shape == (2, 3, 2, 4, 4)
        assert (state.wkv.dtype, state.att_shift.dtype) == (torch.float32, torch.bfloat16)
        assert state.nbytes == 2 * (2 * 3 * 8) * 2 + 4 * 2 * 3 * 2 * 4 * 4
        assert state.batch == 3

    def test_select_undoes_stack(self, state):
        rows = [state.select([row]) for row in range(3)]
        assert_states_close(RecurrentState.stack(rows), state, 1e-12)
        assert_states_close(state.select([2, 0]), RecurrentState.stack([rows[2], rows[0]]), 1e-12)

    def test_a_selection_and_a_clone_share_no_memory(self, state):
        kept = state.wkv.clone()
        state.select([0]).wkv.zero_()
        state.clone().wkv.zero_()
        assert torch.equal(state.wkv, kept)

    def test_injection_adds_to_every_row_and_carries_a_gradient(self, state):
        s0 = torch.randn(2, 2, 4, 4, requires_grad=True)
        injected = state.inject(s0)
        injected.wkv.sum().backward()
        assert torch.equal(injected.wkv[:, 1], state.wkv[:, 1] + s0)
        assert torch.equal(s0.grad, torch.full_like(s0, 3.0))
        assert not injected.detach().wkv.requires_grad


class TestForward:
    def test_embeddings_and_ids_give_the_same(self, make_model, draw_ids):
        model, ids = make_model(), draw_ids(2, 9)
        logits, state = model(ids)
        hidden, same = model.hidden(model.emb(ids))
        assert torch.equal(model.head(hidden), logits)
        assert_states_close(same, state, 1e-12)
        assert logits.shape == (2, 9, 61)

    @pytest.mark.parametrize("backend", ["recurrent", "chunked"])
    @settings(deadline=None, max_examples=8)
    @given(cut=st.integers(1, 49))
    def test_any_split_gives_the_same(self, make_model, draw_ids, backend, cut):
        model, ids = make_model(dtype=torch.float64), draw_ids(2, 50)
        model.backend = backend
        whole, final = model(ids)
        first, state = model(ids[:, :cut])
        second, state = model(ids[:, cut:], state)
        assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-9
        assert_states_close(state, final)

    @pytest.mark.parametrize("backend", ["recurrent", "chunked"])
    def test_padding_changes_neither_logits_nor_state(self, make_model, draw_ids, backend):
        model, ids = make_model(dtype=torch.float64), draw_ids(3, 45)
        model.backend = backend
        _, start = model(draw_ids(3, 7, seed=5))
        lengths = [45, 1, 33]
        logits, state = model(ids, start, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone, alone_state = model(ids[row : row + 1, :length], start.select([row]))
            assert (logits[row, :length] - alone[0]).abs().max() < 1e-9
            assert_states_close(state.select([row]), alone_state)

    @pytest.mark.parametrize("backend", ["recurrent", "chunked"])
    def test_documents_in_one_row_do_not_affect_each_other(self, make_model, draw_ids, backend):
        model, ids = make_model(dtype=torch.float64), draw_ids(1, 50)
        model.backend = backend
        starts = torch.zeros(1, 50, dtype=torch.bool)
        starts[0, [0, 17, 40]] = True
        _, loud = model(draw_ids(1, 7, seed=5))
        logits, state = model(ids, loud, starts_BT=starts)
        alone = [model(piece) for piece in ids.split([17, 23, 10], dim=1)]
        assert torch.allclose(logits, torch.cat([out for out, _ in alone], dim=1), atol=1e-9)
        assert_states_close(state, alone[-1][1])

    def test_recomputed_activations_give_the_same_gradients(self, make_model, draw_ids):
        model, ids = make_model(dtype=torch.float64).requires_grad_(True), draw_ids(2, 40)
        gradients = []
        for model.recompute in (False, True):
            model.zero_grad()
            model(ids)[0].square().mean().backward()
            gradients.append([weight.grad for weight in model.parameters()])
        assert all(torch.allclose(x, y, atol=1e-12) for x, y in zip(*gradients, strict=True))

    def test_every_weight_and_the_state_matter(self, make_model, draw_ids):
        model, ids = make_model(dtype=torch.float64), draw_ids(1, 12)
        model.requires_grad_(True)
        state = RecurrentState.zeros(model.config, 1, dtype=torch.float64)
        s0 = torch.full((3, 2, 16, 16), 0.1, dtype=torch.float64, requires_grad=True)
        logits, _ = model(ids, state.inject(s0))
        logits.square().mean().backward()
        silent = [
            name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
        ]
        assert silent == []
        assert (s0.grad.flatten(1).abs().amax(1) > 0).all()

    def test_the_gradient_by_the_state_is_the_finite_difference(self, make_model, draw_ids):
        model, ids = make_model(dtype=torch.float64), draw_ids(1, 37)
        state = RecurrentState.zeros(model.config, 1, dtype=torch.float64)

        def loss(s0):
            return model(ids, state.inject(s0))[0].log_softmax(-1)[..., 3].mean()

        s0 = torch.randn(3, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad(loss(s0.requires_grad_()), s0)
        for entry in [(0, 0, 0, 0), (1, 1, 3, 15), (2, 0, 15, 2)]:
            step = torch.zeros_like(s0)
            step[entry] = 1e-5
            with torch.no_grad():
                slope = (loss(s0 + step) - loss(s0 - step)) / 2e-5
            assert slope.item() == pytest.approx(gradient[entry].item(), rel=1e-5, abs=1e-11)


class TestInitialization:
    @pytest.fixture
    def fresh(self):
        return RWKV7(RWKV7Config(vocab_size=400, hidden_size=64, num_layers=3, head_size=32), seed=0)

    def test_a_fresh_model_predicts_uniformly(self, fresh):
        ids = torch.randint(0, 400, (2, 40), generator=torch.Generator().manual_seed(0))
        logits, _ = fresh(ids)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert torch.isfinite(logits).all()
        assert abs(loss.item() - math.log(400)) < 1.0

    def test_no_memory_is_left_uninitialized(self):
        model = RWKV7(RWKV7Config(vocab_size=40, hidden_size=64, num_layers=2, head_size=32))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        initialize(model)
        assert [name for name, p in model.named_parameters() if not torch.isfinite(p).all()] == []

    def test_only_the_seed_decides(self, fresh):
        again, other = (RWKV7(fresh.config, initialize=False) for _ in range(2))
        before = torch.get_rng_state()
        initialize(again)
        initialize(other, seed=1)
        RWKV7(fresh.config, seed=2)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(map(torch.equal, again.state_dict().values(), fresh.state_dict().values()))
        assert not torch.equal(other.head.weight, fresh.head.weight)

    def test_without_a_seed_the_global_generator_draws(self, fresh):
        torch.manual_seed(5)
        first, second = RWKV7(fresh.config).state_dict(), RWKV7(fresh.config).state_dict()
        torch.manual_seed(5)
        again = RWKV7(fresh.config).state_dict()
        assert all(map(torch.equal, first.values(), again.values()))
        assert not torch.equal(first["head.weight"], second["head.weight"])

    def test_a_loader_leaves_the_initialization_out(self, fresh, monkeypatch):
        monkeypatch.setattr("sttx_train.rwkv7.model.fill_parameters", lambda *_, **__: pytest.fail("filled"))
        before = torch.get_rng_state()
        model = RWKV7(fresh.config, initialize=False)
        assert torch.equal(torch.get_rng_state(), before)
        model.load_state_dict(fresh.state_dict())
        with torch.device("meta"):
            assert RWKV7(fresh.config).head.weight.is_meta

    def test_published_values(self, fresh):
        first, last = fresh.blocks[0].att, fresh.blocks[2].att
        assert fresh.emb.weight.abs().max() <= 1e-4
        gain = 0.5 * math.sqrt(400 / 64)
        gram = fresh.head.weight.T @ fresh.head.weight
        assert torch.allclose(gram, gain**2 * torch.eye(64), atol=1e-4)
        assert all(block.att.output.weight.abs().max() == 0 for block in fresh.blocks)
        assert all(block.ffn.value.weight.abs().max() == 0 for block in fresh.blocks)
        assert first.x_r[0] == 1.0
        assert first.x_w[32].item() == pytest.approx(1 - 0.5**0.9)
        assert last.x_w[32].item() == pytest.approx(1 - 0.5**0.3)
        assert last.ln_x.weight[0].item() == pytest.approx(1.0)
        assert first.ln_x.weight[0].item() == pytest.approx((1 / 3) ** 0.7)
        assert (first.w1.abs().max(), first.r_k.unique().tolist()) == (0, [pytest.approx(-0.04)])
        assert first.a0[0].item() == pytest.approx(-0.19 - 0.3 - 0.2)
        assert not hasattr(first, "v0")

    @pytest.mark.parametrize(("name", "gain"), [("receptance", 1.0), ("key", 0.1), ("value", 1.0)])
    def test_published_matrices_are_orthogonal(self, fresh, name, gain):
        for block in fresh.blocks:
            matrix = getattr(block.att, name).weight
            assert torch.allclose(matrix.T @ matrix, gain**2 * torch.eye(64), atol=1e-4)
        keys = fresh.blocks[1].ffn.key.weight
        assert torch.allclose(keys.T @ keys, torch.eye(64), atol=1e-4)
