"""Tianshou on our environment: the bridge shows what single environments show; the agents learn."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from tianshou.algorithm import algorithm_base
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.data.buffer import manager
from tianshou.env import DummyVectorEnv

from agents.adapters.tianshou import DQN, PPO, QRDQN, Reinforce, TrainedAgent, load_agent
from agents.adapters.tianshou.env import ReReTianshouEnv
from agents.adapters.tianshou.nets import IdNet, IdSizes, MaskedActor
from agents.adapters.tianshou.play import Player
from agents.budget import Budget
from agents.registry import Algorithm
from rere_env import (
    DecisionActions,
    ReReEnv,
    ReReVectorEnv,
    TianshouMask,
    VectorDecisionActions,
)
from rere_env.worlds import WORLDS, fifty_items, ordered_slates, successor

AGENTS = (DQN, QRDQN, PPO, Reinforce)
SMALL = {"num_envs": 8, "embedding": 4, "layers": (8,), "beam": 1}


@pytest.fixture(autouse=True)
def interpreted(request, monkeypatch):
    """Leave Tianshou's helpers uncompiled: compiling takes longer than all these tests."""
    if request.node.get_closest_marker("slow"):
        return
    for module, names in (
        (manager, ("_prev_index", "_next_index")),
        (algorithm_base, ("_gae", "_nstep_return")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)


@pytest.fixture
def watched(monkeypatch):
    """Every info of every step that any agent takes."""
    seen = []
    step = ReReTianshouEnv.step

    def watch(env, action, id=None):
        result = step(env, action, id)
        seen.extend(result[4])
        return result

    monkeypatch.setattr(ReReTianshouEnv, "step", watch)
    return seen


def native(num_envs, task, *, decisions=False, slate_size=2, **options):
    """The native environment in the mode that the bridge needs."""
    options = {"mask": "lazy", "autoreset_mode": "Disabled", **options}
    env = ReReVectorEnv(num_envs, task, slate_size=slate_size, **options)
    return VectorDecisionActions(env) if decisions else env


def dummy(num_envs, task, *, decisions=False, slate_size=2):
    """Tianshou's own vector of single environments."""

    def make():
        env = ReReEnv(task, slate_size=slate_size, mask="lazy")
        return DecisionActions(env) if decisions else TianshouMask(env)

    return DummyVectorEnv([make] * num_envs)


def as_batch(observations):
    """Dicts, one a row, as the batch that a collector makes of them."""
    return Batch(list(observations))


def check_equal(ours, theirs):
    """Two nested values hold the same, in the same types."""
    if isinstance(theirs, dict | Batch):
        assert set(ours.keys()) == set(theirs.keys())
        for key in theirs.keys():  # noqa: SIM118 - a Batch iterates over its rows
            check_equal(ours[key], theirs[key])
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert (type(ours), ours) == (type(theirs), theirs)


def check_results(ours, theirs):
    """Two results of `reset` or `step` are the same."""
    check_equal(ours[0], as_batch(theirs[0]))
    for mine, other in zip(ours[1:-1], theirs[1:-1], strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(ours[-1], theirs[-1], strict=True):
        check_equal(mine, other)


@pytest.mark.parametrize("decisions", [False, True])
def test_episodes_are_those_of_single_environments(decisions):
    """Same seeds, actions (some illegal) and resets: same observations, masks, rewards, infos."""
    task = successor().task
    ours = ReReTianshouEnv(native(5, task, decisions=decisions))
    theirs = dummy(5, task, decisions=decisions)
    ours.seed(3)
    theirs.seed(3)
    check_results(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    for turn in range(60):
        rows = rng.permutation(5)[: rng.integers(1, 6)].tolist()  # any subset, in any order
        num_actions = ours.action_space[0].n
        actions = rng.integers(num_actions, size=len(rows))
        if not decisions and turn % 10:
            masks = ours._observe(np.array(rows)).mask
            actions = (rng.random(masks.shape) * masks).argmax(axis=1)
        mine, other = ours.step(actions, rows), theirs.step(actions, rows)
        check_results(mine, other)
        over = np.array(rows)[mine[2] | mine[3]].tolist()
        if len(over):
            check_results(ours.reset(over), theirs.reset(over))


def test_episodes_are_those_of_the_native_environment():
    """All rows at once, until each has ended: rewards and last infos agree."""
    task = successor().task
    ours, env = ReReTianshouEnv(native(6, task)), native(6, task)
    ours.seed(1)
    observations, _ = env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(40):
        masks = env.action_masks()
        actions = (rng.random(masks.shape) * masks).argmax(axis=1)
        observations, reward, over, _, infos = env.step(actions)
        mine = ours.step(actions)
        np.testing.assert_array_equal(mine[0].obs.prefix, observations["prefix"])
        np.testing.assert_array_equal(mine[0].mask, env.action_masks())
        np.testing.assert_array_equal(mine[1], reward)
        for row in np.flatnonzero(over):
            assert mine[4][row]["target_rank"] == infos["target_rank"][row]
        if over.any():
            ours.reset(np.flatnonzero(over))
            env.reset(options={"reset_mask": over})


def test_other_rows_stay_as_they_are():
    """A step of row 2 changes row 2."""
    env = ReReTianshouEnv(native(4, successor().task))
    env.seed(0)
    before = env._base.get_state()["rows"]
    env.step(np.array([3]), [2])
    after = env._base.get_state()["rows"]
    changed = (before["prefix"] != after["prefix"]).any(axis=1)
    assert changed.tolist() == [False, False, True, False]


def test_options_choose_examples():
    """`reset` hands them on."""
    env = ReReTianshouEnv(native(3, successor().task))
    _, infos = env.reset(options={"example": np.array([4, 5, 6])})
    assert [info["example"] for info in infos] == [4, 5, 6]


def test_one_seed_for_all_is_one_seed_for_each():
    """As Tianshou's workers have it when a collector is reset with a seed."""
    task = successor().task
    ours, theirs = ReReTianshouEnv(native(3, task)), dummy(3, task)
    check_results(ours.reset(seed=7), theirs.reset(seed=7))


def test_finished_rows_must_be_reset_first():
    """Before the first reset every row counts as finished."""
    env = ReReTianshouEnv(native(3, successor().task))
    with pytest.raises(ResetNeeded, match=r"rows \[0, 1\] are finished; call `reset\(env_id\)`"):
        env.step(np.array([0, 0]), [0, 1])


@pytest.mark.parametrize(
    ("actions", "rows", "message"),
    [
        (np.array([1, 1]), [0, 0], r"rows must be distinct; got \[0, 0\]"),
        (np.array([1]), [0, 1], r"actions must be 2 integers, one a row; got shape \(1,\)"),
        (np.array([1.0]), [0], r"of dtype float64"),
    ],
)
def test_wrong_steps_are_refused(actions, rows, message):
    """The error shows the value."""
    env = ReReTianshouEnv(native(3, successor().task))
    env.seed(0)
    with pytest.raises(ValueError, match=message):
        env.step(actions, rows)


def test_only_environments_without_autoreset_and_groups_are_taken():
    """Each error says what to change."""
    task = successor().task
    with pytest.raises(ValueError, match=r"`autoreset_mode` \(='NextStep'\) must be 'Disabled'"):
        ReReTianshouEnv(native(2, task, autoreset_mode="NextStep"))
    with pytest.raises(ValueError, match=r"`group_size` \(=2\) must be 1"):
        ReReTianshouEnv(native(2, task, slate_size=1, group_size=2))
    with pytest.raises(TypeError, match=r"made of a ReReVectorEnv"):
        ReReTianshouEnv(ReReEnv(task, slate_size=1))


def test_attributes_come_once_a_row():
    """Spaces are those of one row; they cannot be set."""
    env = ReReTianshouEnv(native(3, successor().task))
    assert len(env) == len(env.action_space) == len(env.observation_space) == 3
    assert env.observation_space[0]["mask"].dtype == np.bool_
    assert env.get_env_attr("num_envs", 1) == [3]
    with pytest.raises(TypeError, match=r"'render_mode' cannot be set"):
        env.set_env_attr("render_mode", "ansi")
    env.close()
    with pytest.raises(AssertionError, match=r"cannot be called after close"):
        env.reset()


@pytest.mark.parametrize("decisions", [False, True])
@pytest.mark.parametrize("amount", [{"n_step": 80}, {"n_episode": 13}])
def test_a_collector_collects_legal_episodes(decisions, amount, watched):
    """By steps, and by episodes, of which it drops rows on the way."""
    agent = PPO(**{**SMALL, "slate_size": 2, "decisions": decisions})
    task = successor().task
    env = agent.make_env(task)
    env.seed(0)
    (actions,) = env.get_env_attr("action_space", 0)
    policy = DiscreteActorPolicy(actor=MaskedActor(agent.make_net(task)), action_space=actions)
    collector = Collector(policy, env, VectorReplayBuffer(800, 8))
    collector.reset()
    stats = collector.collect(**amount)
    assert stats.n_collected_steps == len(watched)
    assert not any(info["illegal"] for info in watched)
    assert sum("hit" in info for info in watched) == stats.n_collected_episodes
    if "n_step" in amount:
        assert stats.n_collected_steps == 80
    else:
        assert stats.n_collected_episodes == 13


SIZES = IdSizes(num_titles=3, num_tokens=4, titles=2, tokens=2)


def ids(value):
    """One observation of these sizes, the same id in every place."""
    return {key: np.full((1, n), value) for key, n in (("history", 1), ("slate", 1), ("prefix", 2))}


def test_an_actor_gives_illegal_actions_no_chance():
    """Their probability is 0, and the entropy finite."""
    actor = MaskedActor(IdNet(SIZES, (4,), embedding=2, layers=()))
    logits, _ = actor(Batch(obs=ids(1), mask=np.array([[True, False, True, False]])))
    chosen = torch.distributions.Categorical(logits=logits)
    assert chosen.probs[0, [1, 3]].tolist() == [0, 0]
    assert torch.isfinite(chosen.entropy()).all()


def test_empty_places_weigh_nothing():
    """The embedding of 0 is zeros, and stays so."""
    net = IdNet(SIZES, (4,), embedding=2, layers=(3,))
    net(ids(0)).sum().backward()
    for table in (net.ids.titles, net.ids.tokens):
        assert table.weight[0].tolist() == [0, 0]
        assert table.weight.grad[0].tolist() == [0, 0]


def test_a_player_plays_every_episode_to_its_end():
    """The buffer holds one whole episode of each row, and only the last ones played."""
    agent = PPO(**{**SMALL, "slate_size": 2})
    task = successor().task
    env = agent.make_env(task)
    (actions,) = env.get_env_attr("action_space", 0)
    policy = DiscreteActorPolicy(actor=MaskedActor(agent.make_net(task)), action_space=actions)
    player = Player(policy, env, 8 * 2 * task.trie.max_length)
    player.play()
    num_steps = player.play()
    steps, _ = player.buffer.sample(0)
    assert len(steps) == num_steps
    assert steps.done.sum() == 8
    assert len(player.buffer.unfinished_index()) == 0


@pytest.mark.parametrize("decisions", [False, True])
@pytest.mark.parametrize("make", AGENTS)
def test_agents_train_within_their_budget_and_rank_titles(make, decisions, watched):
    """No step is illegal, exploration included; the lists hold distinct titles; seeds decide."""
    world = ordered_slates()
    agent = make(**{**SMALL, "decisions": decisions, "slate_size": 3, "beam": 12})
    assert isinstance(agent, Algorithm)
    examples = world.task.split("test").take(slice(0, 20))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    trained = [agent.train(world.task, Budget(steps=200), seed=seed) for seed in (0, 0, 1)]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert not any(info["illegal"] for info in watched)
    assert 3 * 200 <= len(watched) < 3 * (200 + 8 * 3 * world.task.trie.max_length)
    titles = trained[0].recommend(examples, 12)
    assert (np.sort(titles) == np.arange(12)).all()
    weights = [next(each.net.parameters()) for each in trained]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("make", AGENTS)
def test_a_saved_agent_is_the_same(make, tmp_path):
    """Its arguments, its network and so its lists."""
    task = successor().task
    agent = make(**{**SMALL, "beam": 12, "learning_rate": 0.01})
    net = agent.make_net(task)
    trained = agent.trained(task, net)
    trained.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", task)
    assert loaded.agent == agent
    examples = task.split("test")
    titles = loaded.recommend(examples, 12)
    np.testing.assert_array_equal(titles, trained.recommend(examples, 12))
    assert (np.sort(titles) == np.arange(12)).all()


def test_an_agent_is_not_loaded_for_other_titles(tmp_path):
    """The error names the data set."""
    task = successor().task
    agent = DQN(**SMALL)
    agent.trained(task, agent.make_net(task)).save(tmp_path)
    with pytest.raises(ValueError, match=r"other titles than those of 'fifty_items'"):
        load_agent(tmp_path, fifty_items().task)


def test_a_saved_agent_has_the_form_of_all_libraries(tmp_path):
    """One of the old form, or of another library, is refused."""
    task = successor().task
    agent = DQN(**SMALL)
    agent.trained(task, agent.make_net(task)).save(tmp_path)
    form = json.loads((tmp_path / "agent.json").read_text("utf-8"))
    assert (form["library"], form["agent"]) == ("tianshou", "DQN")
    (tmp_path / "agent.json").write_text(json.dumps(form | {"library": "sb3"}))
    with pytest.raises(ValueError, match=r"`library` \(='sb3'\) must be 'tianshou'"):
        load_agent(tmp_path, task)
    (tmp_path / "agent.json").write_text('{"agent": "DQN", "arguments": {}, "trie": ""}')
    with pytest.raises(ValueError, match="train the agent again"):
        load_agent(tmp_path, task)


@pytest.mark.parametrize("name", ["exploration", "temperature"])
def test_what_is_divided_by_must_be_positive(name):
    """The error names it."""
    with pytest.raises(ValueError, match=rf"`{name}` \(=0\) must be positive"):
        DQN(**{name: 0})


WITHOUT_TIANSHOU = """
import sys

class NoTianshou:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "tianshou":
            raise ModuleNotFoundError("No module named 'tianshou'", name="tianshou")

sys.meta_path.insert(0, NoTianshou())
import agents.adapters.MODULE
"""


@pytest.mark.parametrize("module", ["tianshou", "tianshou.env"])
def test_without_tianshou_the_error_names_the_extra(module):
    """Whichever file is imported first."""
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TIANSHOU.replace("MODULE", module)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr.splitlines()[-1] == (
        "ImportError: Tianshou's environments and agents need tianshou; install it with "
        '`pip install "rere-env[tianshou]"`.'
    )


def hit_rate(trained: TrainedAgent, world_name: str = "fifty_items") -> float:
    """Share of the training users whose first title is the target."""
    examples = WORLDS[world_name]().task.split("train")
    return float((trained.recommend(examples, 1)[:, 0] == examples.target_title).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "steps"), [(PPO(beam=1), 148_000), (DQN(beam=1), 100_000)])
def test_fifty_items_are_learnt(agent, steps, watched):
    """Greedy hit rate of at least .6 on average of three seeds, .5 of each; no illegal episode."""
    rates = []
    for seed in range(3):
        watched.clear()
        rates.append(hit_rate(agent.train(fifty_items().task, Budget(steps=steps), seed=seed)))
        assert len(watched) <= 150_000
        assert not any(info["illegal"] for info in watched)
    assert min(rates) >= 0.5, rates
    assert np.mean(rates) >= 0.6, rates
