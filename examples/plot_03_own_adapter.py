"""
Write an adapter
================

An adapter is a loss between the source and the target, and nothing else: no optimiser,
no loader, no epoch. A method from a paper is one class, and everything else, the folds,
the controls and the tests, is there.
"""

# %%
# The class
# ---------
# This one asks that both domains have the same mean embedding. It is handed a labelled
# source batch and a target batch that has no field for a label: there is nothing to
# leak. What it returns, scalars under names of its choice, is added to the
# classification loss.
import matplotlib.pyplot as plt

import domainemo as de
from domainemo.testing import checks


@de.register
class MeanPull(de.Adapter):
    """Squared distance between the domains' mean embeddings."""

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, source, target):
        """Return the loss of a batch from each domain."""
        ours = source.outputs.embeddings["fusion"].mean(-2)
        theirs = target.outputs.embeddings["fusion"].mean(-2)
        return {"mean": self.weight * (ours - theirs).square().sum(-1)}


# %%
# Does it keep the contract?
# --------------------------
# The checks that every built-in adapter passes. The last ones train twice, the second
# time with noise for the target's labels, and demand the same bits. (All at once:
# ``domainemo.testing.check(MeanPull)``.)
for each in checks(MeanPull):
    each()
    print("passed:", each.name)

# %%
# Turn it on
# ----------
# ``weight=0`` is source only by another name, so the curve below begins there.
# Everything but the weight is the same in all runs: folds, seed, batches. (A class of
# your own trains each fold in a process of its own, so that nothing it remembers gets
# from one into another.)
data = de.load("simulated", subjects=5, sessions=1, trials=6, windows=[6, 8])
weights = [0.0, 0.1, 1.0]
rows = {}
for weight in weights:
    results = de.run(
        data,
        backbone="concatenation-mlp",
        adapter=MeanPull,
        options={"adapter.weight": weight, "training.learning_rate": 0.003},
        epochs=6,
        baselines=False,
    )
    rows[weight] = results.per_subject()[results.method]
    print(f"weight {weight:>4}: {rows[weight].mean():.3f}")

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for who in rows[0.0].index:
    axes.plot(range(len(weights)), [rows[each][who] for each in weights], color="0.75")
axes.plot(range(len(weights)), [rows[each].mean() for each in weights], "o-", lw=2.5)
axes.axhline(1 / 3, color="0.4", ls="--", lw=1)
axes.set_xticks(range(len(weights)), [f"{each:g}" for each in weights])
axes.set_xlabel("weight of the loss")
axes.set_ylabel("balanced accuracy")
axes.set_title("Grey: people, blue: their mean, dashed: chance")
plt.show()

# %%
# A weight of 1 is too much here: means that have to agree at any price leave the
# classifier little to go by. A loss that lowers a distance need not help.
#
# **What not to conclude.** Do not take the weight with the highest point: the curve was
# made of the target's labels, and whoever chooses by it has used them. How to choose
# without is :doc:`plot_05_tuning_without_labels`.
#
# ``@de.register`` gives the class a name. In a file of its own, named with
# ``--plugin``, the command line has it under this name, too; ``domainemo new adapter
# NAME`` writes a file to begin with: :doc:`a new adapter </new-adapter>`.
