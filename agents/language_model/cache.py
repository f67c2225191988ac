"""What a model has read: a key-value cache with room to grow, written in place, never copied.

Which slot sees which is a matter of masks.
"""

from dataclasses import dataclass

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["TreeCache", "folded", "shrink"]


@dataclass(slots=True, kw_only=True, eq=False)
class TreeCache:
    """What a model has read of B trees; it only grows, nothing in it is ever moved.

    Attributes:
        keys: Keys and values of every slot.
        positions: [B, slots] int64, the position of each slot in every sequence through it.
    """

    keys: DynamicCache
    positions: Tensor

    @property
    def num_slots(self) -> int:
        """Slots of each row, those of the padding included."""
        return self.positions.shape[1]


class _RoomyLayer(DynamicLayer):
    """Keys and values [rows, heads, slots, D] as the front part of larger buffers."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Take over what a layer has read so far."""
        super().__init__()  # type: ignore[no-untyped-call]  # transformers'
        self.lazy_initialization(keys, values)
        self._key_buffer, self._value_buffer = keys, values
        self.shrink(keys.shape[2])

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append slots; return all of them."""
        start, end = self._num_slots, self._num_slots + key_states.shape[2]
        if end > self._key_buffer.shape[2]:
            room = end + end // 2  # moves stay rare
            self._key_buffer = _moved(self._key_buffer, start, room)
            self._value_buffer = _moved(self._value_buffer, start, room)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        return self.shrink(end)

    def shrink(self, num_slots: int) -> tuple[Tensor, Tensor]:
        """Keep the first slots; return them."""
        self._num_slots = num_slots
        self.keys = keys = self._key_buffer[:, :, :num_slots]
        self.values = values = self._value_buffer[:, :, :num_slots]
        return keys, values


def folded(cache: TreeCache, num_rows: int) -> TreeCache:
    """Lay the slots of several rows side by side in one, [B, P] -> [rows, B / rows * P].

    Args:
        cache: What has been read of B prompts.
        num_rows: A divisor of B.
    """
    keys = DynamicCache()
    keys.layers = [_roomy(layer, num_rows) for layer in cache.keys.layers]
    return TreeCache(keys=keys, positions=cache.positions.reshape(num_rows, -1))


def shrink(cache: TreeCache, num_slots: int) -> None:
    """Forget all but the first slots of a cache made by `folded`."""
    for layer in cache.keys.layers:
        if isinstance(layer, _RoomyLayer):
            layer.shrink(num_slots)
    cache.positions = cache.positions[:, :num_slots]


def _roomy(layer: object, num_rows: int) -> _RoomyLayer:
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
        raise TypeError(f"a layer with a {type(layer).__name__} cannot be read as a tree.")
    return _RoomyLayer(_folded(layer.keys, num_rows), _folded(layer.values, num_rows))


def _folded(values: Tensor, num_rows: int) -> Tensor:
    """[B, heads, P, D] -> [rows, heads, B / rows * P, D]."""
    _, heads, slots, size = values.shape
    return (
        values.view(num_rows, -1, heads, slots, size)
        .transpose(1, 2)
        .reshape(num_rows, heads, -1, size)
    )


def _moved(values: Tensor, num_slots: int, room: int) -> Tensor:
    """Copy the first slots to a larger buffer."""
    larger = values.new_empty(*values.shape[:2], room, values.shape[3])
    larger[:, :, :num_slots] = values[:, :, :num_slots]
    return larger
