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
"""

from agents.rere.agent import MorePrompts, ReReAgent
from agents.rere.config import ReReConfig
from agents.rere.groups import Groups

__all__ = ["Groups", "MorePrompts", "ReReAgent", "ReReConfig"]
