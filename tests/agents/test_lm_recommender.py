"""A policy as a recommender."""

import numpy as np
import pytest

from agents.language_model import LanguageModel
from agents.lm_recommender import ExactRecommender, LMRecommender
from agents.policy import Policy
from agents.search import beam_search


def test_rows_come_back_in_the_order_of_the_examples(animal_task, lm_of):
    """Rows are searched by length, in batches; each gets its own titles."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    batch = animal_task.split("test")
    found = LMRecommender(animal_task, lm, beam=5, batch_size=4).search(batch, 3)
    policy, prompts = Policy.of(lm, animal_task), animal_task.prompts(batch)
    for row in range(len(batch)):
        alone = beam_search(policy, prompts.take([row]), 5)
        assert found.titles[row].tolist() == alone.titles[0, :3].tolist()
        np.testing.assert_allclose(found.logprobs[row], alone.logprobs[0, :3], atol=1e-5)


def test_more_than_the_beam_cannot_be_had(animal_task, lm_of):
    """The message names both numbers."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    with pytest.raises(ValueError, match=r"`k` \(=6\) must not exceed `beam` \(=5\)"):
        LMRecommender(animal_task, lm, beam=5).recommend(animal_task.split("test"), 6)


def test_recommending_ignores_dropout_and_leaves_the_mode_alone(animal_task, model_of):
    """A policy in training mode is searched in eval mode and goes on training."""
    lm = LanguageModel(model_of("gpt2", animal_task.tokenizer.vocab_size).train())
    recommender = LMRecommender(animal_task, lm, beam=5)
    batch = animal_task.split("test")
    first, second = recommender.search(batch, 5), recommender.search(batch, 5)
    assert (first.logprobs == second.logprobs).all()
    assert lm.training
    assert lm.model.training


def test_a_short_catalogue_is_padded(animal_task, lm_of):
    """Eight titles for ten places."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    titles = LMRecommender(animal_task, lm, beam=10).recommend(animal_task.split("test"), 10)
    assert (np.sort(titles[:, :8], axis=1) == np.arange(8)).all()
    assert (titles[:, 8:] == -1).all()


def test_any_search_can_be_chosen(animal_task, lm_of):
    """A beam as wide as the catalogue: all three rank it alike, and alike with all the scores."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    batch = animal_task.split("test")
    exact = ExactRecommender(animal_task, lm)
    expected = exact.recommend(batch, 8)
    for search in ("beam", "radix", "exact"):
        recommender = LMRecommender(animal_task, lm, beam=8, search=search)
        assert recommender.recommend(batch, 8).tolist() == expected.tolist()
        assert recommender.exact().recommend(batch, 5).tolist() == expected[:, :5].tolist()
    with pytest.raises(ValueError, match=r"`search` \(='best'\)"):
        LMRecommender(animal_task, lm, search="best")


def test_an_exact_search_is_as_wide_as_asked(animal_task, lm_of):
    """The best two of a beam of eight are the best two."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    batch = animal_task.split("test")
    found = LMRecommender(animal_task, lm, beam=8, search="exact").search(batch, 2)
    assert found.titles.tolist() == ExactRecommender(animal_task, lm).recommend(batch, 2).tolist()
    assert found.certified.all()


@pytest.mark.parametrize("search", ["beam", "radix", "exact"])
def test_hidden_titles_are_not_recommended(search, animal_task, lm_of):
    """Nothing of the history, whatever the batch; the list is padded where too few are left."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    batch = animal_task.split("test")
    task = animal_task.with_exclude("history")
    recommender = LMRecommender(task, lm, beam=8, search=search, batch_size=4)
    lists = recommender.recommend(batch, 8)
    for row, example in enumerate(batch):
        seen = set(example.history)
        assert set(lists[row].tolist()) == set(range(8)) - seen | ({-1} if seen else set())
    exact = recommender.exact()
    assert exact.recommend(batch, 8).tolist() == lists.tolist()
    probabilities = exact.probabilities(batch)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert all((probabilities[row][list(e.history)] == 0).all() for row, e in enumerate(batch))


def test_scores_of_all_titles_need_probabilities_that_sum_to_one(animal_task, lm_of):
    """Under the vocabulary's support most of the probability lies outside the catalogue."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    with pytest.raises(ValueError, match=r"`support` \(='vocabulary'\) must be 'catalogue'"):
        LMRecommender(animal_task, lm, support="vocabulary").exact()


def test_an_exact_list_longer_than_the_catalogue_is_padded(animal_task, model_of):
    """Eight titles for ten places; the policy's mode is left alone."""
    lm = LanguageModel(model_of("gpt2", animal_task.tokenizer.vocab_size).train())
    titles = ExactRecommender(animal_task, lm).recommend(animal_task.split("test"), 10)
    assert (np.sort(titles[:, :8], axis=1) == np.arange(8)).all()
    assert (titles[:, 8:] == -1).all()
    assert lm.training
