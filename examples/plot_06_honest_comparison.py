"""
Compare two methods honestly
============================

Method A has a mean of 0.62 and method B of 0.60. Is A better? The answer needs the same
people in both, controls that know next to nothing, an interval of the *difference*, and
a test that knows how many comparisons were made.
"""

# %%
# Two methods on the same folds
# -----------------------------
# A fold is a person; both methods get the same folds, the same seed, the same number of
# epochs. More controls than the usual three stand beside the first.
import matplotlib.pyplot as plt

import domainemo as de

data = de.load("simulated", subjects=8, sessions=1, trials=6, windows=[5, 7])
common = {
    "backbone": "concatenation-mlp",
    "epochs": 6,
    "options": {"training.learning_rate": 0.003},
}
first = de.run(
    data,
    adapter="deep-coral",
    controls=["logistic-regression", "shrinkage-lda", "stratified-chance"],
    **common,
)
second = de.run(data, adapter="mcc", baselines=False, **common)

# %%
# One against the other
# ---------------------
# ``difference`` is to the reference, the first run's method. The interval is a
# bootstrap over people, since people are what a result should hold for; windows of one
# person are nearly copies of each other and would make any difference significant.
pair = de.compare(first, second)
shown = ["method", "mean", "difference", "difference_low", "difference_high"]
print(pair.table()[shown].round(3).to_string(index=False))

# %%
# One against everything beside it
# --------------------------------
# With one run, all its methods are compared. ``holm_p`` is the p of the signed-rank
# test, corrected for how many comparisons there are.
compared = de.compare(first)
shown = ["method", "difference", "wilcoxon_p", "holm_p", "subjects_needed"]
print(compared.table()[shown].round(3).to_string(index=False))

# %%
# Eight people are so few that the test cannot even tell the method from drawing classes
# at random, after correction. It is people that are missing, and no better test.
#
# Each grey line is a person. Even what draws classes at random does well in somebody: a
# score of one person is mostly luck. Where lines cross, the methods are better for
# different people, and the difference of the means says little.
plt.figure(compared.plot())
plt.show()

# %%
# No difference, or not enough people?
# ------------------------------------
# A large p does not say that two methods are alike. The Bayesian signed-rank test does:
# how probable it is that one is worse, practically equal (within two points), or
# better.
shown = ["method", "p_worse", "p_equal", "p_better"]
print(compared.table()[shown].dropna().round(2).to_string(index=False))

# %%
# **What not to conclude.** "Not significant" is no proof of equality, and "better than
# chance" is no achievement: the question is whether the method beats the plain model
# beside it. ``subjects_needed`` says how many people it would take to see two points;
# it is seldom as few as there are. :doc:`Comparing runs </comparing>` explains each
# column, and what is refused, such as runs on other folds.
