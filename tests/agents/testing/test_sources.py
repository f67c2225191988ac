"""A frozen policy lives through the same episodes in every library."""

import pytest

from agents.testing import check_same_episodes
from rere_env.worlds import ordered_slates


@pytest.mark.parametrize("library", ["sb3", "tianshou"])
@pytest.mark.parametrize("decisions", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"slate_size": 1, "split": "test"},
        {"slate_size": 3, "exclude": "history"},
        {"slate_size": 2, "max_tokens": 5},
    ],
    ids=str,
)
def test_a_frozen_policy_lives_through_the_same_episodes(library, decisions, options):
    """Observations, masks, rewards, ends and slates are those of `gym.make`."""
    check_same_episodes(ordered_slates().task, libraries=(library,), decisions=decisions, **options)


def test_a_library_without_an_adapter_is_an_error():
    """The message lists the others."""
    with pytest.raises(ValueError, match=r"knows no \{'rllib'\}; use \['sb3', 'tianshou'\]"):
        check_same_episodes(ordered_slates().task, libraries=("rllib",))
