"""
Pre-train without labels
========================

Everyone who watches a clip is at the same moment of it at the same time. PhysioSync
trains a network to find what people show in common at such a moment, for which no label
is needed. Does it help where labels are few?
"""

# %%
# Recordings in which moments matter
# ----------------------------------
# ``synchrony`` makes the simulated emotion wax and wane within a clip, at the same
# moments in everyone who sees it.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import domainemo as de

data = de.load(
    "simulated", subjects=5, sessions=1, trials=12, windows=[10, 10], synchrony=1.0
)
small = {
    "backbone.short_width": 8,
    "backbone.long_width": 16,
    "backbone.blocks": 1,
}
place = tempfile.TemporaryDirectory()
folders = {name: Path(place.name) / name for name in ("synchronous", "random")}

# %%
# Pre-train each fold
# -------------------
# Every fold has a pre-training of its own, on its source people's signals alone: the
# person who will be tested is not in it, not even without labels. Pairs of *random*
# moments are the control: as many steps and as much data, without what is claimed to
# help.
for pairs, folder in folders.items():
    table = de.pretrain(
        data,
        backbone="physiosync",
        pairs=pairs,
        epochs=6,
        options={**small, "training.learning_rate": 0.003},
        output=folder,
    )
    print(f"{pairs} pairs")
    print(table[["fold", "moments", "first_loss", "last_loss"]].round(2).to_string())

# %%
# Train with the labels of a tenth of the trials
# ----------------------------------------------
# Source only, thrice: from random weights, from the control's, and from those of the
# synchronous pairs.
found = {}
for start in ("random start", "random", "synchronous"):
    results = de.run(
        data,
        backbone="physiosync",
        adapter="none",
        init_from=folders.get(start),
        epochs=6,
        controls="none",
        options={
            **small,
            "training.label_share": 0.1,
            "training.batch_size": 16,
            "training.learning_rate": 0.003,
        },
    )
    name = f"{start} pairs" if start in folders else start
    found[name] = results.per_subject()[results.method]
    print(f"{name}: {found[name].mean():.3f}")
place.cleanup()

# %%
scores = pd.DataFrame(found)
figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for _, row in scores.iterrows():
    axes.plot(row.to_numpy(), "o-", color="0.75", ms=3)
axes.plot(scores.mean().to_numpy(), "D", color="C0", ms=8)
axes.axhline(1 / 3, color="0.4", ls="--", lw=1)
axes.set_xticks(range(3), scores.columns)
axes.set_ylabel("balanced accuracy")
axes.set_title("A line per person, diamonds their means; dashed: chance")
plt.show()

# %%
# **What not to conclude.** Five people and one seed: with ``seed=1`` for the recordings
# the gain is gone. The person left out saw the same clips, too, and a clip has one
# label, so that part of any gain may be clips that are recognised, and not emotions.
# And it shrinks as labels are added. :doc:`Pre-training </pretraining>` has the
# measurement with more people and labels, and where the gain comes from.
