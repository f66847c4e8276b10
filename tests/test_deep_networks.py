"""Networks of deep agents: shapes, and what dueling, linear and convolutional ones compute."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impactrl.agents.deep.networks import Architecture, Convolution, Network, copied, outputs_of

PLAIN = Architecture(observation=(5,), outputs=3, hidden=(7, 4))
CONVOLUTIONAL = Architecture(observation=(2, 3, 4), outputs=3, hidden=(6,), channels=(5, 7))


def made(architecture: Architecture) -> Network:
    return Network(architecture, jax.random.key(0))


@pytest.mark.parametrize("architecture", [PLAIN, CONVOLUTIONAL])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_outputs_on_any_leading_axes(architecture: Architecture, lead: tuple[int, ...]) -> None:
    network = made(architecture)
    observations = jax.random.normal(jax.random.key(1), (*lead, *architecture.observation))
    outputs = jax.jit(outputs_of)(network, observations)
    assert outputs.shape == (*lead, 3)
    alone = jax.jit(lambda observation: network(observation))
    one_by_one = [alone(o) for o in observations.reshape(-1, *architecture.observation)]
    np.testing.assert_allclose(outputs.reshape(-1, 3), np.stack(one_by_one), rtol=1e-5, atol=1e-6)


def test_layers_are_rectified_and_the_outputs_are_not() -> None:
    network = made(PLAIN)
    x = np.linspace(-2, 2, 5)
    for layer in network.layers:
        x = np.maximum(np.asarray(layer.weight) @ x + np.asarray(layer.bias), 0)
    expected = np.asarray(network.head.weight) @ x + np.asarray(network.head.bias)
    np.testing.assert_allclose(network(jnp.linspace(-2, 2, 5)), expected, rtol=1e-5)
    outputs = outputs_of(network, jax.random.normal(jax.random.key(2), (50, 5)))
    assert outputs.min() < 0 < outputs.max()


def test_without_layers_it_is_linear_and_has_no_bias() -> None:
    network = made(Architecture(observation=(5,), outputs=3, hidden=()))
    assert [leaf.shape for leaf in jax.tree.leaves(network)] == [(3, 5)]
    np.testing.assert_array_equal(outputs_of(network, jnp.zeros(5)), np.zeros(3))
    np.testing.assert_allclose(outputs_of(network, jnp.eye(5)), network.head.weight.T, rtol=1e-6)


def test_dueling_advantages_mean_to_the_value() -> None:
    network = made(Architecture(observation=(5,), outputs=3, hidden=(7,), dueling=True))
    observations = jax.random.normal(jax.random.key(1), (6, 5))
    assert network.value is not None
    layers = [(np.asarray(layer.weight), layer.bias) for layer in (network.layers[0], network.value, network.head)]
    hidden = np.maximum(observations @ layers[0][0].T + layers[0][1], 0)
    value = (hidden @ layers[1][0].T + layers[1][1])[:, 0]
    advantages = hidden @ layers[2][0].T + layers[2][1]
    outputs = outputs_of(network, observations)
    np.testing.assert_allclose(outputs.mean(axis=1), value, atol=1e-6)
    np.testing.assert_allclose(outputs - outputs[:, :1], advantages - advantages[:, :1], atol=1e-6)


def test_a_convolution_is_that_of_the_textbook() -> None:
    convolution = Convolution(2, 3, jax.random.key(0))
    board = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    weight = np.asarray(convolution.layer.weight).reshape(3, 3, 3, 2)  # [width, row, column, channel]
    wanted = np.zeros((4, 5, 3)) + np.asarray(convolution.layer.bias)
    for r, c, i, j in np.ndindex(4, 5, 3, 3):
        if 0 <= r + i - 1 < 4 and 0 <= c + j - 1 < 5:
            wanted[r, c] += weight[:, i, j] @ board[r + i - 1, c + j - 1]
    np.testing.assert_allclose(jax.jit(lambda board: convolution(board))(board), wanted, atol=1e-5)


def test_convolutions_look_at_neighbours_of_all_channels() -> None:
    """One step away and no further, along rows and columns, up to the border of the board."""
    network = made(Architecture(observation=(2, 5, 6), outputs=3, hidden=(4,), channels=(8,)))
    assert network.convolutions[0].layer.weight.shape == (8, 2 * 3 * 3)
    assert network.layers[0].weight.shape == (4, 8 * 5 * 6)
    convolved = jax.jit(lambda board: jnp.moveaxis(network.convolutions[0](jnp.moveaxis(board, 0, -1)), -1, 0))

    def changed(*place: int) -> list[list[int]]:
        dotted = np.zeros((2, 5, 6), np.float32)
        dotted[place] = 1.0
        difference = np.asarray(convolved(dotted)) != np.asarray(convolved(np.zeros_like(dotted)))
        everywhere: list[list[int]] = np.argwhere(difference.any(axis=0)).tolist()
        return everywhere

    for channel in range(2):
        assert changed(channel, 2, 3) == [[r, c] for r in (1, 2, 3) for c in (2, 3, 4)]
    assert changed(0, 0, 0) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_copy_has_arrays_of_its_own() -> None:
    network = made(PLAIN)
    same = copied(network)
    assert eqx.tree_equal(network, same)
    ours, theirs = jax.tree.leaves(network), jax.tree.leaves(same)
    assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in zip(ours, theirs, strict=True))


def test_another_key_other_weights() -> None:
    first, second = made(PLAIN), Network(PLAIN, jax.random.key(1))
    assert not np.allclose(first.head.weight, second.head.weight)
    for layer, inputs in zip([*first.layers, first.head], (5, 7, 4), strict=True):
        assert np.abs(layer.weight).max() <= 1 / np.sqrt(inputs)
        assert np.abs(layer.bias).max() <= 1 / np.sqrt(inputs)


@pytest.mark.parametrize(
    ("architecture", "text"),
    [
        (PLAIN, "observation (5,), hidden (7, 4), outputs 3"),
        (CONVOLUTIONAL, "observation (2, 3, 4), convolutions (5, 7), hidden (6,), outputs 3"),
        (
            Architecture(observation=(5,), outputs=3, hidden=(7,), dueling=True),
            "observation (5,), hidden (7,), outputs 3, dueling",
        ),
    ],
)
def test_an_architecture_says_what_it_is(architecture: Architecture, text: str) -> None:
    assert str(architecture) == text
