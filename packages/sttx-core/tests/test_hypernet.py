"""The hypernetwork: zero at the start, and gradients reach both of its networks."""

import pytest

torch = pytest.importorskip("torch")

from sttx_core.hypernet import HyperNetwork  # noqa: E402

WIDTH = 24


@pytest.fixture
def rows():
    """Rows of parents and tokens, with norms as large and as small as embeddings have."""
    generator = torch.Generator().manual_seed(3)
    parents, tokens = torch.randn(2, 7, WIDTH, generator=generator)
    return parents * 30, tokens * 1e-4


def test_untrained_rows_are_the_last_token_and_zero(rows):
    net = HyperNetwork(WIDTH)
    assert torch.equal(net.input_rows(*rows), rows[1])
    assert torch.equal(net.output_rows(*rows), torch.zeros(7, WIDTH))


def test_gradients_reach_both_networks_and_each_alone(rows):
    net = HyperNetwork(WIDTH)
    with torch.no_grad():
        for half in (net.input, net.output):
            half[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    for make, reached, spared in [
        (net.input_rows, net.input, net.output),
        (net.output_rows, net.output, net.input),
    ]:
        net.zero_grad(set_to_none=True)
        make(*rows).square().sum().backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in reached.parameters())
        assert all(parameter.grad is None for parameter in spared.parameters())


def test_the_last_layers_learn_first(rows):
    net = HyperNetwork(WIDTH)
    target = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(5))
    losses, first = [], net.output[0].weight.detach().clone()
    for step in range(20):
        loss = (net.output_rows(*rows) - target).square().sum()
        losses.append(float(loss.detach()))
        net.zero_grad(set_to_none=True)
        loss.backward()
        assert (net.output[0].weight.grad.abs().max() > 0) == (step > 0)
        with torch.no_grad():
            for parameter in net.output.parameters():
                parameter -= 0.01 * parameter.grad
    assert losses[-1] < 0.8 * losses[0]
    assert not torch.equal(first, net.output[0].weight)


def test_the_seed_decides_and_the_global_generator_does_not_advance(rows):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, same, other = HyperNetwork(WIDTH, seed=4), HyperNetwork(WIDTH, seed=4), HyperNetwork(WIDTH, seed=5)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    assert not torch.equal(one.input[0].weight, other.input[0].weight)
    assert not torch.equal(one.input[0].weight, one.output[0].weight)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("width", "rank", "inner"), [(24, 0, 16), (256, 0, 64), (24, 5, 5)])
def test_parameters_are_counted(width, rank, inner):
    net = HyperNetwork(width, rank=rank)
    assert net.parameter_count() == 2 * (2 * width * inner + inner * width)
    assert net.parameter_count() == sum(tensor.numel() for tensor in net.state_dict().values())


def test_the_scale_of_the_inputs_does_not_matter(rows):
    """Embeddings within one model differ in norm by orders of magnitude."""
    net = HyperNetwork(WIDTH)
    torch.nn.init.normal_(net.output[-1].weight, generator=torch.Generator().manual_seed(1))
    parents, tokens = rows[0], rows[1] * 1e4
    torch.testing.assert_close(
        net.output_rows(parents * 50, tokens * 7), net.output_rows(parents, tokens), rtol=1e-3, atol=1e-4
    )


def test_rows_do_not_depend_on_each_other(rows):
    net = HyperNetwork(WIDTH)
    torch.nn.init.normal_(net.input[-1].weight, generator=torch.Generator().manual_seed(1))
    together = net.input_rows(*rows)
    for index in range(7):
        alone = net.input_rows(rows[0][index : index + 1], rows[1][index : index + 1])
        torch.testing.assert_close(alone[0], together[index])
