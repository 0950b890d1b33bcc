"""
A new person, without a label
=============================

Somebody new has been recorded, and nobody knows what they felt. Adapt to them, look at
the predictions, and at **what can and cannot be known** of these.
"""

# %%
# Those with labels, and the two new ones
# ---------------------------------------
import matplotlib.pyplot as plt
import numpy as np

import domainemo as de

data = de.load("simulated", subjects=7, sessions=1, trials=6, windows=[7, 8])
new = data.inputs.windows["subject"].to_numpy() > 5
labelled = data.take(np.flatnonzero(~new))
people = data.take(np.flatnonzero(new)).inputs  # inputs have no labels
people

# %%
# Adapt to each of them
# ---------------------
# All others train. There is no accuracy in what comes back, as nobody could compute
# one.
found = de.adapt(
    labelled,
    people,
    backbone="concatenation-mlp",
    adapter="uf-ama",
    epochs=8,
    options={"training.learning_rate": 0.003},
)
shares = found.people().drop(columns="changed")
shares.columns = shares.columns.str.removeprefix("share_")
print(shares.round(2).to_string())

# %%
# What can be said without labels: the share of each class, how sure the network is, how
# far each person lies from the others, and what validators think of each method.
far = found.distances.groupby(["newcomer", "subject"])["recorded"].mean()
print(far.round(2).to_string())
print(found.validators().round(2).to_string())

# %%
# Window by window
# ----------------
# The probabilities of the first of the new people. White lines part the clips.
# Plausible predictions change with the clip, and not from one window to the next.
first = found.predictions.query("subject == 6 and method == 'uf-ama'")
first = first.sort_values(["trial", "start"])
figure, axes = plt.subplots(figsize=(7.2, 2.8), layout="constrained")
below = np.zeros(len(first))
for name in data.classes:
    share = first[f"p_{name}"].to_numpy()
    axes.bar(range(len(first)), share, 1.0, below, label=name, alpha=0.85)
    below += share
for place in np.flatnonzero(np.diff(first["trial"])):
    axes.axvline(place + 0.5, color="white", lw=2)
axes.set_xlim(-0.5, len(first) - 0.5)
axes.set_ylim(0, 1)
axes.set_xlabel("window, in order of time")
axes.set_ylabel("probability")
axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()

# %%
# A look that nobody has in earnest
# ---------------------------------
# These people are made up, so the truth exists. See whether those of whom the network
# is surer are those in whom it is right:
truth = data.take(np.flatnonzero(new))
windows = truth.inputs.windows[["subject", "trial", "start"]].assign(
    felt=np.array(data.classes)[truth.labels]
)
table = found.predictions.merge(windows, on=["subject", "trial", "start"])
table["right"] = table["predicted"] == table["felt"]
table["confidence"] = table[[f"p_{name}" for name in data.classes]].max(axis=1)
means = table.groupby(["method", "subject"])[["confidence", "right"]].mean()
print(means.round(2).to_string())

# %%
# **What not to conclude.** Confidence is not correctness: the two controls that are
# always sure are mostly wrong, and adaptation makes networks surer in any case. What
# the method is worth on people like these, its test on the labelled ones says
# (``de.run(labelled, ...)``), and a few labelled trials of the new person would say
# more than any validator. :doc:`A new person arrives </new-person>` has the files, the
# report and the model for whoever comes.
