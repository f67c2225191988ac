"""Some logits and log-probabilities, in blocks, against all of them at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.language_model.head import AfterHead, edge_logits, token_logprobs

ROWS, WIDTH, VOCAB = 7, 5, 11
ROW_BYTES = 4 * VOCAB
AFTER_HEADS = (AfterHead(), AfterHead(scale=0.25), AfterHead(scale=2.0, cap=1.5))


def random_head(seed=0, dtype=torch.float64):
    """Hidden states, weight and bias that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((ROWS, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    return [
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def every_third_pair():
    """Rows with none, one or several tokens, in no order."""
    pairs = torch.cartesian_prod(torch.arange(ROWS - 1), torch.arange(VOCAB))[::3]
    return pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))].T


@pytest.mark.parametrize("after_head", AFTER_HEADS)
@pytest.mark.parametrize("rows_a_block", [1, 2, 3, 7, 100])
def test_values_and_gradients_are_those_of_log_softmax(after_head, rows_a_block):
    """Of hidden states, weight and bias, whatever the block size divides."""
    leaves = random_head()
    hidden, weight, bias = leaves
    owner, token = every_third_pair()
    ours = token_logprobs(
        hidden,
        weight,
        bias,
        owner,
        token,
        after_head=after_head,
        max_bytes=rows_a_block * ROW_BYTES,
    )
    plain = torch.log_softmax(after_head(hidden @ weight.T + bias), -1)[owner, token]
    torch.testing.assert_close(ours, plain)
    pull = torch.linspace(-1, 2, len(owner), dtype=ours.dtype)
    for mine, theirs in zip(
        torch.autograd.grad(ours @ pull, leaves),
        torch.autograd.grad(plain @ pull, leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("pairs_a_block", [1, 3, 22, 100])
def test_edge_logits_are_some_of_all(pairs_a_block):
    """Values, and gradients of hidden states, weight and bias, whatever the block size divides."""
    leaves = random_head()
    hidden, weight, bias = leaves
    owner, token = every_third_pair()
    ours = edge_logits(*leaves, owner, token, max_bytes=pairs_a_block * 4 * WIDTH)
    plain = (hidden @ weight.T + bias)[owner, token]
    torch.testing.assert_close(ours, plain)
    pull = torch.linspace(-1, 2, len(owner), dtype=ours.dtype)
    for mine, theirs in zip(
        torch.autograd.grad(ours @ pull, leaves),
        torch.autograd.grad(plain @ pull, leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("function", [edge_logits, token_logprobs])
def test_no_pairs_have_no_values(function):
    """Nothing is asked for, and every gradient is 0."""
    leaves = random_head()
    nothing = torch.zeros(0, dtype=torch.int64)
    ours = function(*leaves, nothing, nothing)
    assert ours.shape == (0,)
    gradients = torch.autograd.grad(ours.sum(), leaves[:2])
    assert all((gradient == 0).all() for gradient in gradients)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10)), min_size=1, unique=True),
    st.integers(1, 600),
)
def test_any_pairs_in_any_blocks(pairs, max_bytes):
    """A budget below one row still computes one row at a time."""
    hidden, weight, bias = random_head()
    owner, token = torch.tensor(pairs).T
    ours = token_logprobs(hidden, weight, bias, owner, token, max_bytes=max_bytes)
    plain = torch.log_softmax(hidden @ weight.T + bias, -1)[owner, token]
    torch.testing.assert_close(ours, plain)


def test_a_frozen_head_gets_no_gradient():
    """Its hidden states still do; a head without bias has none to give."""
    hidden, weight, _ = random_head()
    ours = token_logprobs(hidden, weight.detach(), None, *every_third_pair(), max_bytes=ROW_BYTES)
    plain = torch.log_softmax(hidden @ weight.detach().T, -1)[tuple(every_third_pair())]
    [mine], [theirs] = (torch.autograd.grad(value.sum(), [hidden]) for value in (ours, plain))
    torch.testing.assert_close(mine, theirs)


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    def __init__(self):
        """Nothing seen yet."""
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation and look at what it returns."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view:
            self.largest = max(self.largest, result.numel())
        return result


def test_no_tensor_holds_every_row_over_the_vocabulary():
    """Forward and backward, with a budget of two rows."""
    head, pairs = random_head(), every_third_pair()
    with LargestTensor() as seen:
        token_logprobs(*head, *pairs, max_bytes=2 * ROW_BYTES).sum().backward()
    assert seen.largest == VOCAB * WIDTH  # the gradient of the weight; the logits would be 77


@pytest.mark.parametrize("rows_a_block", [2, 100])
def test_autocast_computes_in_its_dtype_and_keeps_the_gradients_dtype(rows_a_block):
    """The product is rounded to bf16; what leaves is float32."""
    leaves = random_head(dtype=torch.float32)
    hidden, weight, bias = leaves
    owner, token = every_third_pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = token_logprobs(
            hidden, weight, bias, owner, token, max_bytes=rows_a_block * ROW_BYTES
        )
        logits = torch.nn.functional.linear(hidden, weight, bias)
    plain = torch.log_softmax(logits.float(), -1)[owner, token]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain)
    pull = torch.linspace(-1, 2, len(owner))
    for mine, theirs in zip(
        torch.autograd.grad(ours @ pull, leaves),
        torch.autograd.grad(plain @ pull, leaves),
        strict=True,
    ):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=0.05, rtol=0.05)
