"""RWKV-5.2 and RWKV-6: sizes, initialization, and the model's promises about batches, splits and padding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import UsageError
from sttx_train.architectures import (
    architecture_of,
    build_model,
    config_from,
    new_config,
    parameter_shapes,
    require_x070,
)
from sttx_train.rwkv7 import RecurrentState
from sttx_train.rwkv56 import RWKV56Config

SIZES = {"vocab_size": 61, "hidden_size": 32, "num_layers": 3, "head_size": 16}
BOTH = pytest.mark.parametrize("architecture", ["x060", "x052"])
BACKENDS = pytest.mark.parametrize("backend", ["recurrent", "chunked", "compiled"])


def assert_states_close(found, expected, limit=1e-9):
    for name in ("att_shift", "wkv", "ffn_shift"):
        assert (getattr(found, name) - getattr(expected, name)).abs().max() < limit, name


class TestConfig:
    def test_sizes_default_to_the_published_formulas(self):
        config = RWKV56Config(architecture="x060", vocab_size=65536, hidden_size=2560, num_layers=32)
        assert (config.ffn_size, config.mix_rank, config.decay_rank) == (8960, 32, 64)
        wide = RWKV56Config(architecture="x060", vocab_size=65536, hidden_size=4096, num_layers=61)
        assert (wide.ffn_size, wide.mix_rank, wide.decay_rank) == (14336, 64, 128)
        assert wide.group_norm_eps == 64e-5

    @BOTH
    def test_a_dictionary_restores_it(self, architecture):
        config = new_config(architecture, **SIZES, ffn_size=48)
        assert config_from(config.to_dict()) == config
        assert architecture_of(config) == architecture

    def test_what_an_architecture_does_not_have_is_refused(self):
        with pytest.raises(UsageError, match="mix_rank must be 0 in RWKV-5.2"):
            new_config("x052", **SIZES, mix_rank=4)
        with pytest.raises(UsageError, match="the architecture 'x051' is none of x070, x060, x052"):
            config_from({"architecture": "x051", **SIZES})
        with pytest.raises(UsageError, match="head_norm_eps must be a number above 0"):
            new_config("x060", **SIZES, head_norm_eps=0.0)

    @BOTH
    def test_the_shapes_are_those_of_the_models_parameters(self, architecture):
        config = new_config(architecture, **SIZES)
        shapes = {name: tuple(p.shape) for name, p in build_model(config).named_parameters()}
        assert shapes == parameter_shapes(config)

    @BOTH
    def test_what_is_for_rwkv7_alone_says_so(self, architecture):
        with pytest.raises(UsageError, match=rf"the model is RWKV-.* \({architecture}\): do it otherwise"):
            require_x070(new_config(architecture, **SIZES), "do it otherwise")


@BOTH
class TestForward:
    @BACKENDS
    @settings(deadline=None, max_examples=5)
    @given(cut=st.integers(1, 39))
    def test_any_split_gives_the_same(self, make_model, draw_ids, architecture, backend, cut):
        model, ids = make_model(dtype=torch.float64, architecture=architecture), draw_ids(2, 40)
        model.backend = backend
        whole, final = model(ids)
        first, state = model(ids[:, :cut])
        second, state = model(ids[:, cut:], state)
        assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-9
        assert_states_close(state, final)

    @BACKENDS
    def test_padding_changes_neither_logits_nor_state(self, make_model, draw_ids, architecture, backend):
        model, ids = make_model(dtype=torch.float64, architecture=architecture), draw_ids(3, 45)
        model.backend = backend
        _, start = model(draw_ids(3, 7, seed=5))
        lengths = [45, 1, 33]
        logits, state = model(ids, start, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone, alone_state = model(ids[row : row + 1, :length], start.select([row]))
            assert (logits[row, :length] - alone[0]).abs().max() < 1e-9
            assert_states_close(state.select([row]), alone_state)

    @BACKENDS
    def test_documents_in_one_row_do_not_affect_each_other(self, make_model, draw_ids, architecture, backend):
        model, ids = make_model(dtype=torch.float64, architecture=architecture), draw_ids(1, 50)
        model.backend = backend
        starts = torch.zeros(1, 50, dtype=torch.bool)
        starts[0, [0, 17, 40]] = True
        _, loud = model(draw_ids(1, 7, seed=5))
        logits, state = model(ids, loud, starts_BT=starts)
        alone = [model(piece) for piece in ids.split([17, 23, 10], dim=1)]
        assert torch.allclose(logits, torch.cat([out for out, _ in alone], dim=1), atol=1e-9)
        assert_states_close(state, alone[-1][1])

    def test_token_by_token_is_the_whole(self, make_model, draw_ids, architecture):
        model, ids = make_model(architecture=architecture), draw_ids(2, 20)
        whole, final = model(ids)
        state = RecurrentState.zeros(model.config, 2)
        model.prepare_step()
        with torch.inference_mode():
            for step, token in enumerate(ids.unbind(1)):
                logits, state = model.step(token, state)
                assert (logits - whole[:, step]).abs().max() < 1e-4
        assert_states_close(state, final, 1e-4)
        assert model.step_choice == (False, "the compiled step is for RWKV-7")

    def test_recomputed_activations_give_the_same_gradients(self, make_model, draw_ids, architecture):
        model = make_model(dtype=torch.float64, architecture=architecture).requires_grad_(True)
        gradients = []
        for model.recompute in (False, True):
            model.zero_grad()
            model(draw_ids(2, 20))[0].square().mean().backward()
            gradients.append([weight.grad for weight in model.parameters()])
        assert all(torch.allclose(x, y, atol=1e-12) for x, y in zip(*gradients, strict=True))

    def test_every_weight_and_the_state_matter(self, make_model, draw_ids, architecture):
        model = make_model(dtype=torch.float64, architecture=architecture).requires_grad_(True)
        state = RecurrentState.zeros(model.config, 1, dtype=torch.float64)
        s0 = torch.full((3, 2, 16, 16), 0.1, dtype=torch.float64, requires_grad=True)
        model(draw_ids(1, 12), state.inject(s0))[0].square().mean().backward()
        silent = [
            name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
        ]
        assert silent == []
        assert (s0.grad.flatten(1).abs().amax(1) > 0).all()

    def test_gradcheck_through_the_model(self, make_model, draw_ids, architecture):
        """The derivative of the loss by the state and by one weight of each kind is the finite difference."""
        model = make_model(dtype=torch.float64, architecture=architecture, num_layers=2).requires_grad_(True)
        model.backend = "chunked"
        ids, zeros = draw_ids(1, 19), RecurrentState.zeros(model.config, 1, dtype=torch.float64)
        s0 = torch.randn(2, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def loss():
            return model(ids, zeros.inject(s0))[0].log_softmax(-1)[..., 3].mean()

        checked = {"s0": s0.requires_grad_(), **dict(model.blocks[1].named_parameters())}
        gradients = torch.autograd.grad(loss(), list(checked.values()))
        for (name, tensor), gradient in zip(checked.items(), gradients, strict=True):
            entry, step = int(gradient.abs().argmax()), 1e-5
            with torch.no_grad():
                tensor.view(-1)[entry] += step
                above = loss()
                tensor.view(-1)[entry] -= 2 * step
                slope = (above - loss()) / (2 * step)
                tensor.view(-1)[entry] += step
            assert slope.item() == pytest.approx(gradient.view(-1)[entry].item(), rel=1e-5), name


@BOTH
class TestInitialization:
    @pytest.mark.parametrize("layers", [1, 2, 12])
    def test_a_fresh_model_trains_and_stays_finite(self, draw_ids, architecture, layers):
        model = build_model(new_config(architecture, **(SIZES | {"num_layers": layers})), seed=0)
        ids = draw_ids(2, 40)
        logits, _ = model(ids)
        assert logits.isfinite().all()
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert loss.item() == pytest.approx(math.log(61), abs=0.2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            logits, _ = model(ids)
            later = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            later.backward()
            assert all(p.grad.isfinite().all() for p in model.parameters())
            optimizer.step()
        assert later < loss

    def test_only_the_seed_decides(self, architecture):
        config = new_config(architecture, **SIZES)
        first, same, other = (build_model(config, seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert not torch.equal(first["head.weight"], other["head.weight"])

    def test_no_memory_is_left_uninitialized(self, architecture):
        model = build_model(new_config(architecture, **SIZES), initialize=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        from sttx_train.rwkv56.init import initialize

        initialize(model)
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    def test_published_values(self, architecture):
        model = build_model(new_config(architecture, **SIZES), seed=0).requires_grad_(False)
        decay = model.blocks[0].att.time_decay.flatten()
        assert decay[0] == -6 and decay[-1] == pytest.approx(-1)
        shares = model.blocks[0].att.get_parameter("time_maa_k" if architecture == "x060" else "time_mix_k")
        assert shares[16] == pytest.approx(0.5)
        assert not model.blocks[1].ffn.receptance.weight.any()
        assert not model.blocks[1].att.output.weight.any()
        gate = model.blocks[1].att.gate.weight
        assert torch.allclose(gate @ gate.T, 0.01 * torch.eye(32), atol=1e-5)
