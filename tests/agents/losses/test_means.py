"""Three means of the same three tokens, 1 and 3 of one candidate and 5 of another."""

import pytest
import torch

from agents.losses import sequence_mean
from agents.losses.means import mean_of_sequences, mean_of_sums, mean_of_tokens

VALUES = torch.tensor([[[1.0, 3.0], [5.0, 9.0]]])


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (mean_of_sequences, (2 + 5) / 4),
        (mean_of_tokens, (1 + 3 + 5) / 6),
        (mean_of_sums, (1 + 3 + 5) / 4),
    ],
)
def test_means_divide_by_the_step(mean, expected, inputs_of):
    """Which has four candidates and six tokens; the 9 is padding."""
    assert mean(VALUES, inputs_of(VALUES)).item() == pytest.approx(expected)


def test_an_empty_candidate_has_mean_zero():
    """No kept token: no division by zero."""
    assert sequence_mean(torch.ones(1, 1, 3), torch.zeros(1, 1, 3)).tolist() == [[0.0]]
