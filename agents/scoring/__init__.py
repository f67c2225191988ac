"""Log-probabilities under a policy: of given titles, or of all of them."""

from agents.scoring.catalogue import score_catalogue
from agents.scoring.exact import exact_policy_gradient, expected_reward, kl, policy_entropy
from agents.scoring.titles import GroupScores, exact_kl, score_groups, title_logprobs

__all__ = [
    "GroupScores",
    "exact_kl",
    "exact_policy_gradient",
    "expected_reward",
    "kl",
    "policy_entropy",
    "score_catalogue",
    "score_groups",
    "title_logprobs",
]
