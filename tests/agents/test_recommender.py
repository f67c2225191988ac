"""A policy as a recommender."""

import numpy as np
import pytest

from agents.language_model import LanguageModel
from agents.recommender import LMRecommender
from agents.search import beam_search


def test_rows_come_back_in_the_order_of_the_examples(animal_task, lm_of):
    """Rows are searched by length, in batches; each gets its own titles."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    batch = animal_task.split("test")
    found = LMRecommender(animal_task, lm, beam=5, batch_size=4).search(batch, 3)
    trie = LMRecommender(animal_task, lm)._trie
    for row, example in enumerate(batch):
        alone = beam_search(lm, trie, [animal_task.prompt(example.history)], 5)
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
