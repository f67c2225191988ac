"""A budget that survives a full device once, and activations computed twice."""

import pytest
import torch

from agents.language_model import LanguageModel
from agents.policy.device import PassLimit, checkpoint_activations
from agents.trees.pack import pack
from agents.trees.tensors import TreeTensors


def full_device(message="CUDA out of memory"):
    """What torch raises on a GPU."""
    return torch.cuda.OutOfMemoryError(message)


class Crowded:
    """A computation that fails while it is given more than `fits` tokens."""

    def __init__(self, fits):
        """Nothing tried yet."""
        self.fits, self.tried = fits, []

    def __call__(self, max_tokens):
        """Return the budget it was content with."""
        self.tried.append(max_tokens)
        if max_tokens > self.fits:
            raise full_device()
        return max_tokens


def test_a_budget_that_fits_stays():
    """Nothing is said, nothing repeated."""
    budget, compute = PassLimit(100), Crowded(100)
    assert budget.run(compute) == 100
    assert compute.tried == [100]


def test_a_full_device_halves_the_budget_and_says_so():
    """The computation begins again, and later ones begin with the half."""
    budget, compute = PassLimit(100), Crowded(60)
    with pytest.warns(RuntimeWarning, match="at most 50 tokens, half as many"):
        assert budget.run(compute) == 50
    assert budget.run(compute) == 50
    assert compute.tried == [100, 50, 50]


def test_the_half_is_of_what_was_needed():
    """Half of a budget far above the need would change nothing."""
    budget, compute = PassLimit(1000), Crowded(70)
    with pytest.warns(RuntimeWarning, match="at most 50 tokens"):
        assert budget.run(compute, needed=100) == 50


def test_a_budget_is_halved_once():
    """Then the error is the user's."""
    budget = PassLimit(100)
    with pytest.warns(RuntimeWarning), pytest.raises(torch.cuda.OutOfMemoryError):
        budget.run(Crowded(40))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        budget.run(Crowded(40))


def test_other_errors_pass():
    """Only memory is a matter of the budget."""

    def fails(max_tokens):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        PassLimit(100).run(fails)


def test_several_processes_do_not_go_on():
    """One that repeats its passes would leave the others waiting."""
    with pytest.raises(torch.cuda.OutOfMemoryError):
        PassLimit(100, num_processes=2).run(Crowded(60))


def test_an_empty_budget_is_refused():
    """At least one token."""
    with pytest.raises(ValueError, match=r"`max_tokens` \(=0\)"):
        PassLimit(0)


class Count(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the matrix products."""

    def __init__(self):
        """None yet."""
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation; `mm` and `addmm` count."""
        self.products += "mm" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["qwen2", "gemma3", "gpt2"])
def test_checkpointing_changes_no_gradient(family, model_of):
    """The layers are computed twice, and the gradients are the same to the bit."""
    found = []
    for checkpointing in (False, True):
        model = model_of(family, 12)
        if checkpointing:
            checkpoint_activations(model)
        lm = LanguageModel(model.train())
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trees = TreeTensors(pack([[3, 5, 7, 2], [3, 5, 6]]), lm.device)
        with Count() as count:
            lm(trees, torch.tensor([1, 2, 3])).square().sum().backward()
        found.append((count.products, [p.grad for p in lm.parameters()]))
    (plain, expected), (twice, gradients) = found
    assert twice > 1.2 * plain
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours == theirs).all()
