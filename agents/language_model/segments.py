"""Small tensor functions: ragged segments, precision."""

import torch
from torch import Tensor

__all__ = ["compute_dtype", "segment_log_softmax", "segment_sum"]


def compute_dtype(device: torch.device, default: torch.dtype) -> torch.dtype:
    """Return the dtype of matrix products: autocast's where it is on."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return default


def segment_sum(values: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """Sum [E] values by segment -> [M]."""
    return values.new_zeros(num_segments).index_add(0, segment, values)


def segment_log_softmax(logits: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """Normalise [E] logits within each segment; returns [E] log-probabilities in float32."""
    logits = logits.float()
    top = logits.new_full((num_segments,), -torch.inf)
    top = top.scatter_reduce(0, segment, logits.detach(), "amax")
    shifted = logits - top.index_select(0, segment)
    return shifted - segment_sum(shifted.exp(), segment, num_segments).log().index_select(
        0, segment
    )
