"""
Tune a weight without the target's labels
=========================================

How strong should an adaptation be? Whoever tries five weights and reports the best on
the test people has used their labels. Here a **validator** chooses, which sees none of
them, on people who are not tested afterwards; and only then do we look how good its
choice was.
"""

# %%
# The study
# ---------
# Four of eight people choose, the other four are tested with a fresh seed. Four
# candidates are few; a real study has forty. An adapter declares what is worth
# searching; ``space`` narrows that to one weight.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import domainemo as de

data = de.load("simulated", subjects=8, sessions=1, trials=6, windows=[5, 6])
place = tempfile.TemporaryDirectory()
found = de.tune(
    data,
    backbone="concatenation-mlp",
    adapter="marginal",
    space={
        "adapter.weight": {"low": 0.03, "high": 30.0, "log": True},
        "adapter.distance": False,
    },
    candidates=4,
    sampler="random",
    pruner="none",
    epochs=5,
    options={"training.learning_rate": 0.003},
    final_seeds=[1],
    output=Path(place.name) / "study",
)
columns = ["candidate", "state", "value", "standing", "adapter.weight"]
print(found.candidates[columns].round(3).to_string(index=False))

# %%
# The validator asks three things: whether source people who were held out of training
# are recognised, whether the target's predictions would teach these the right classes,
# and whether they agree with clusters of the target. ``value`` is the mean of the three
# scores, which guides a sampler; ``standing`` is what chooses: the mean rank by each of
# them, person by person. Source only takes part as candidate -1: *do not adapt* is an
# answer, too.
chosen = found.best.candidate
standing = pd.Series(found.best.standing, name="standing").sort_index()
print(standing.rename_axis("candidate").round(3).to_string())
print("chosen:", "source only" if chosen < 0 else f"candidate {chosen}")

# %%
# Afterwards, and only then
# -------------------------
# What every candidate would have been worth on the people who chose is computed last,
# as a diagnosis of the validator. Nothing was chosen by it.
after = found.scores.groupby("candidate")[["true_accuracy"]].mean().join(standing)
print(after.round(3).to_string())

# %%
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.plot(after["standing"], after["true_accuracy"], "o", color="0.5", ms=7)
best = after.loc[chosen]
axes.plot(best["standing"], best["true_accuracy"], "o", color="C1", ms=11)
for number, row in after.iterrows():
    axes.annotate(
        "source only" if number < 0 else f"candidate {number}",
        (row["standing"], row["true_accuracy"]),
        xytext=(6, 6),
        textcoords="offset points",
        fontsize="small",
    )
axes.margins(0.3)
axes.set_xlabel("how it stands by the validator (no target label)")
axes.set_ylabel("balanced accuracy, known afterwards")
axes.set_title("Orange: chosen, as it stands furthest to the right")
plt.show()

# %%
# The people who had no part in it
# --------------------------------
# The number to report: the choice, beside the defaults and the network without
# adaptation, on the other people, with a seed that the study has not used.
print(found.final.summary()[["mean", "trial"]].round(3).to_string())
place.cleanup()

# %%
# **What not to conclude.** That the choice is the best one. The validator has kept us
# from the strong weights, which spoil the network, without a single label; but between
# those that do about as well, source only among them, it may be wrong, and four people
# are far too few to say. If the dots did not rise from left to right, more candidates
# would not help. :doc:`Studies </tuning>` has the search spaces and samplers, and
# :doc:`choosing without labels </validators>` what the validators are worth.
