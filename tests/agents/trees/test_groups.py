"""Groups laid out from the trie against plain sets of prefixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.trees.groups import group_sizes, longest_kept, num_kept, plan_groups
from rere_env import NO_TITLE
from rere_env.filters import Hidden
from rere_env.prompts import Prompts

SUPPORTS = ("catalogue", "vocabulary")
# Two prompts, a group of three titles each (or none) of the seven, and what each may not be shown.
GROUPS = st.lists(st.lists(st.integers(-1, 6), min_size=3, max_size=3), min_size=2, max_size=2)
HIDDEN = st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=2, max_size=2)


def kept_tokens(world, shown, title, support):
    """For each kept token of a title: what was read before it, what is legal there, the token."""
    ids = world.model_ids(title)
    every = [world.model_ids(other) for other in shown]
    for place, token in enumerate(ids):
        legal = sorted({other[place] for other in every if other[:place] == ids[:place]})
        if support == "vocabulary" or len(legal) > 1:
            yield tuple(ids[:place]), legal, token


def sees(trees, row):
    """Which tokens each node of a tree sees, itself last."""
    for i in range(trees.sizes[row]):
        ancestors = [j for j in range(i + 1) if i < trees.ends[row, j]]
        yield tuple(trees.tokens[row, ancestors].tolist())


@pytest.mark.parametrize("support", SUPPORTS)
@settings(max_examples=60)
@given(groups=GROUPS, hidden=HIDDEN)
def test_the_plan_is_that_of_the_titles_one_by_one(few_titles, support, groups, hidden):
    """Nodes, positions, slots, legal tokens and choices, with titles hidden from each prompt."""
    titles = np.array(groups)
    hidden = [[t for t in hidden[row] if t not in groups[row]] for row in range(2)]
    prompts = [[9, 8, 7], [9]]
    plan = plan_groups(
        few_titles.trie,
        few_titles.tokens,
        Prompts(prompts, hidden=Hidden.from_lists(hidden)),
        titles,
        support,
    )
    width = plan.trees.tokens.shape[1]
    scored = list(zip(plan.owner.tolist(), plan.token.tolist(), strict=True))
    for row, prompt in enumerate(prompts):
        shown = [t for t in range(7) if t not in hidden[row]]
        nodes = list(sees(plan.trees, row))
        read = {tuple(prompt[: n + 1]) for n in range(len(prompt))}
        for column, title in enumerate(groups[row]):
            kept = []
            if title != NO_TITLE:
                kept = list(kept_tokens(few_titles, shown, title, support))
            assert plan.mask[row, column].sum() == len(kept)
            for place, (before, legal, token) in enumerate(kept):
                read |= {(*prompt, *before[:n]) for n in range(len(before) + 1)}
                m = plan.place[row, column, place]
                tree, slot = divmod(plan.slots[m], width)
                assert tree == row
                assert nodes[slot] == (*prompt, *before)
                assert scored[plan.chosen[row, column, place]] == (m, token)
                if support == "catalogue":
                    assert sorted(t for owner, t in scored if owner == m) == legal
        assert sorted(nodes) == sorted(read)
        assert [len(node) - 1 for node in nodes] == plan.trees.positions[row, : len(nodes)].tolist()
    assert plan.owner.tolist() == sorted(plan.owner.tolist())
    assert len(set(plan.slots.tolist())) == len(plan.slots) == len(plan.nodes)
    sizes = group_sizes(
        few_titles.trie, Prompts(prompts, hidden=Hidden.from_lists(hidden)), titles, support
    )
    assert sizes.tolist() == plan.trees.sizes.tolist()


def test_catalogue_support_keeps_what_decides_and_reads_no_further(few_titles):
    """Here "blue sky at night" is decided by its first word; "red fox runs" by all but its EOS."""
    plan = plan_groups(few_titles.trie, few_titles.tokens, Prompts([[9, 9]]), np.array([[4, 2]]))
    assert plan.mask.sum(axis=-1).tolist() == [[1, 3]]
    # The prompt, "red" and "fox": the last deciding word is predicted and never read.
    assert plan.trees.sizes.tolist() == [4]
    assert sorted(plan.nodes.tolist())[0] == 0
    assert len(plan.slots) == 3


@pytest.mark.parametrize("support", SUPPORTS)
def test_an_empty_slot_keeps_no_token(support, many_titles):
    """Its mask is False throughout; the others keep what the support keeps."""
    titles = np.random.default_rng(1).integers(0, 200, (3, 5))
    titles[0, 1] = NO_TITLE
    plan = plan_groups(
        many_titles.trie, many_titles.tokens, Prompts(many_titles.prompts(2, 9, 5)), titles, support
    )
    assert not plan.mask[0, 1].any()
    if support == "vocabulary":
        lengths = [len(many_titles.tokens[title]) for title in titles[2]]
        assert plan.mask[2].sum(axis=1).tolist() == lengths


def test_a_title_shown_alone_decides_nothing(few_titles):
    """Where all others are hidden there is no choice left, not even at the root."""
    others = np.array([0, 1, 2, 3, 5, 6])
    plan = plan_groups(
        few_titles.trie,
        few_titles.tokens,
        Prompts([[9, 9]], hidden=Hidden.from_lists([others])),
        np.array([[4]]),
    )
    assert not plan.mask.any()
    assert plan.trees.sizes.tolist() == [2]


def test_a_hidden_candidate_is_refused(few_titles):
    """It has no probability."""
    with pytest.raises(ValueError, match="title 2 is a candidate of prompt 0 and hidden from it"):
        plan_groups(
            few_titles.trie,
            few_titles.tokens,
            Prompts([[9]], hidden=Hidden.from_lists([np.array([2, 2, 5])])),
            np.array([[4, 2]]),
        )


def test_every_prompt_has_its_own_hidden_titles(few_titles):
    """One array for two prompts is a mistake."""
    with pytest.raises(ValueError, match=r"`hidden` \(of 1\) needs the title ids of each of the 2"):
        plan_groups(
            few_titles.trie,
            few_titles.tokens,
            Prompts([[9], [8]], hidden=Hidden.from_lists([[1]])),
            np.array([[4], [4]]),
        )


def test_num_kept_counts_what_a_plan_keeps(animal_task):
    """The counts are those of the plan's mask, whatever the support."""
    titles = np.array([[0, 3, NO_TITLE], [2, 1, 0]])
    for support in ("catalogue", "vocabulary"):
        plan = plan_groups(
            animal_task.trie, animal_task.title_tokens, Prompts([[1], [1, 2]]), titles, support
        )
        np.testing.assert_array_equal(
            num_kept(animal_task.trie, titles, support), plan.mask.sum(axis=2)
        )
        every = num_kept(animal_task.trie, np.arange(animal_task.trie.num_titles)[None], support)
        assert longest_kept(animal_task.trie, support) == every.max()
