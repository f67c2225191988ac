"""The learning ladder: every algorithm on tiny worlds, each of which isolates one failure.

A cell is one algorithm on one world. Its score is the hit rate at 1 as a share of the best
possible one, or for slates the reward as a share of the best possible reward. Steps are those of
the optimiser for policies, and of the environment for agents.
"""

from dataclasses import replace

import pytest

from agents.budget import Budget
from agents.registry import algorithms, find_algorithm
from agents.training.budgeted import PolicyAlgorithm, as_algorithm
from rere_env.worlds import WORLDS

POLICIES = [name for name, info in algorithms().items() if info.kind == "policy"]
AGENTS = [name for name, info in algorithms().items() if info.kind == "agent"]

# (algorithm, world): (steps, share of the best score that it must reach).
SAMPLING = {"rloo", "reinforce"}  # one group of draws tells less than a beam
RANKING = ("rere", "rere_repaired", "tawin", "grpo", "dapo", "gspo", "dr_grpo", "s_dpo", "sprec")
POLICY_CELLS = (
    {(name, "copy_last"): (130 if name == "cispo" else 100, 0.9) for name in POLICIES}
    | {
        (name, "noisy_successor"): (200, 0.85) if name in SAMPLING else (100, 0.9)
        for name in POLICIES
    }
    | {(name, "ordered_slates"): (100, 0.8) for name in RANKING}
)
STEPPING = [name for name in AGENTS if name != "trl_grpo"]
AGENT_CELLS = (
    {(name, "copy_last"): (15_000, 0.9) for name in STEPPING}
    | {(name, "noisy_successor"): (15_000, 0.85) for name in STEPPING}
    | {
        ("sb3_a2c", "copy_last"): (30_000, 0.75),
        ("tianshou_reinforce", "copy_last"): (20_000, 0.9),
        ("tianshou_reinforce", "noisy_successor"): (20_000, 0.7),
        # From scratch under the full vocabulary, at TRL's own pace: a start, no more.
        ("trl_grpo", "copy_last"): (60, 0.3),
    }
)
ONE_ITEM_STEPS = dict.fromkeys(STEPPING, 4_000) | {"trl_grpo": 2}
FAST = {
    ("rere", "copy_last"),
    ("gspo", "noisy_successor"),
    ("s_dpo", "ordered_slates"),
    ("sb3_maskable_ppo", "copy_last"),
    ("sb3_dqn", "copy_last"),
    ("tianshou_ppo", "copy_last"),
}

# TRL warns that `rollout_func` may change, and uses a name that transformers deprecates.
may_change = pytest.mark.filterwarnings("ignore:.*rollout_func:UserWarning")
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def of_trl(test):
    """Mark a test that may run TRL."""
    return may_change(old_name(test))


def score_of(name, world_name, steps):
    """Train on a world; return the score and whether every title was legal and distinct."""
    world = WORLDS[world_name]()
    algorithm = as_algorithm(find_algorithm(name))
    if isinstance(algorithm, PolicyAlgorithm):
        group_size = min(12, max(2, world.task.catalogue.num_titles))
        algorithm = replace(algorithm, config=replace(algorithm.config, group_size=group_size))
    recommender = algorithm.train(world.task, Budget(steps=steps), seed=0)
    rows = world.task.split("test")
    titles = recommender.recommend(rows, world.slate_size)
    if world.slate_size > 1:
        return float(world.task.reward(titles, rows).sum(axis=1).mean()) / world.reward
    return float((titles[:, 0] == rows.target_title).mean()) / world.hit_rate


def check(name, world, steps, needed):
    """Run a cell."""
    score = score_of(name, world, steps)
    assert score >= needed, f"{name} on {world}: {score:.2f} of the best, {needed} needed"


@pytest.mark.parametrize("name", POLICIES)
def test_policies_survive_one_item(name):
    """Nothing decides, so nothing is learnt and nothing breaks."""
    check(name, "one_item", 2, 1.0)


@pytest.mark.slow
@of_trl
@pytest.mark.parametrize("name", AGENTS)
def test_agents_survive_one_item(name):
    """An episode of forced tokens is an episode."""
    check(name, "one_item", ONE_ITEM_STEPS[name], 1.0)


@pytest.mark.parametrize(("name", "world"), sorted(FAST))
def test_one_of_each_kind_climbs(name, world):
    """A first look: beams, samples, preferences, and an agent of each library."""
    steps, needed = (AGENT_CELLS | POLICY_CELLS)[name, world]
    check(name, world, steps, needed)


@pytest.mark.slow
@of_trl
@pytest.mark.parametrize(("name", "world"), sorted((AGENT_CELLS | POLICY_CELLS).keys() - FAST))
def test_every_algorithm_climbs(name, world):
    """Each reaches the score of its rungs."""
    steps, needed = (AGENT_CELLS | POLICY_CELLS)[name, world]
    check(name, world, steps, needed)
