"""ReRe: a policy writes titles, is paid for the ranked group, and learns from it.

After "Reinforced Preference Optimization for Recommendation" (arXiv 2510.12211) and its released
code. Every departure from the released code:

1. The target travels with the example as an id. Released: looked up by history text, which gives
   2-4 % of the rows another row's target.
2. Probabilities are renormalised over the legal tokens (`support="catalogue"`): forced tokens have
   log-probability 0 and take no gradient. `support="vocabulary"` is the released full softmax.
3. |y_i| counts the kept tokens: those that decide.
4. The KL is exact over the legal tokens of each decision; `kl="k3"` is the released estimator, here
   with its log-ratio clamped at 5.
5. Groups without signal cost no forward or backward pass and get no KL; they count in the mean.
   `kl_groups="all"` is as released.
6. One fixed prompt template. Released: drawn at random per row, at test time too.
7. A title shared by several items is one title; a hit on it is a hit.
8. Means divide by totals of the whole step, over all processes. Released: `dapo` divides by the
   tokens of its own micro-batch.
9. A step without any signal makes no optimiser step, and is counted. The reference is synced, and
   the schedule goes on, by rollouts: with inner steps that is not by optimiser steps.
10. The best policy of RL is chosen on validation, by NDCG@10. Released: the last one; SFT by loss.
11. SFT: half a cosine after the warm-up (released: linear), batches of whole users, which share
    their trees (released: rows).
12. Weights and optimiser are float32 whatever the precision of the forward pass.
13. The test split is ranked by exact search where that is cheap. Released: a beam of 50.
14. The preset for pretrained models trains 2,000 RL steps of 32 prompts. Released: two epochs.
"""

from agents.rere.agent import MorePrompts, ReReAgent
from agents.rere.config import ReReConfig
from agents.rere.groups import Groups

__all__ = ["Groups", "MorePrompts", "ReReAgent", "ReReConfig"]
