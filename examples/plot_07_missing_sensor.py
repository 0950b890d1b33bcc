"""
When a sensor is missing
========================

Eye trackers lose the eyes, caps come off. A window that a sensor lost is NaN, a mask
keeps it out of the network, and the prediction is made from what is left. How much does
that cost, and does it help to train for it?
"""

# %%
# Two trainings
# -------------
# One as usual, and one in which a sample is shown without one of its sensors now and
# then, as often as ``modality_dropout`` says. The recordings themselves have no gap.
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

import domainemo as de

data = de.load(
    "simulated", subjects=5, sessions=1, trials=6, windows=[8, 8], missing=0.0
)
place = tempfile.TemporaryDirectory()
folders = {}
for dropout in (0.0, 0.3):
    folders[dropout] = Path(place.name) / f"dropout-{dropout}"
    de.run(
        data,
        backbone="concatenation-mlp",
        adapter="none",
        epochs=6,
        controls="none",
        options={"training.modality_dropout": dropout, "training.learning_rate": 0.003},
        output=folders[dropout],
    )

# %%
# Take a sensor away
# ------------------
# Each fold's network predicts the person it was not trained on, in whose recordings a
# share of the windows, drawn at random, has lost one sensor.
subject = data.inputs.windows["subject"].to_numpy()
labels = np.array(data.classes)[data.labels]


def without(inputs, sensor, share):
    """Return recordings in which a sensor lost a share of the windows."""
    lost = np.random.default_rng(0).random(len(inputs)) < share
    signal = inputs.signals[sensor].copy()
    signal[lost] = np.nan
    return replace(inputs, signals={**inputs.signals, sensor: signal})


rows = []
with warnings.catch_warnings():
    # That a sensor is gone altogether is told each time; here it is no news.
    warnings.simplefilter("ignore", de.DomainemoWarning)
    for dropout, folder in folders.items():
        for who in np.unique(subject):
            model = de.Model.load(folder, fold=f"subject {who}")
            here = np.flatnonzero(subject == who)
            for sensor in data.inputs.modalities:
                for share in (0.0, 0.5, 1.0):
                    gaps = without(data.inputs.take(here), sensor, share)
                    predicted = model.predict(gaps)["predicted"]
                    score = balanced_accuracy_score(labels[here], predicted)
                    rows.append((f"without {sensor}", dropout, share, who, score))
place.cleanup()
names = ["sensor", "modality_dropout", "share lost", "subject", "accuracy"]
table = pd.DataFrame(rows, columns=names)
means = table.pivot_table(
    "accuracy", ["sensor", "modality_dropout"], "share lost", aggfunc="mean"
)
print(means.round(2).to_string())

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True, layout="constrained")
for panel, sensor in zip(axes, table["sensor"].unique(), strict=True):
    for dropout, marker in zip(folders, ("o-", "s--"), strict=True):
        row = means.loc[sensor, dropout]
        panel.plot(row.index, row, marker, label=f"dropout {dropout}")
    panel.axhline(1 / 3, color="0.4", lw=1, ls=":")
    panel.set_title(sensor)
    panel.set_xlabel("share of windows in which it was lost")
axes[0].set_ylabel("balanced accuracy")
axes[1].legend()
plt.show()

# %%
# The network does not fall to chance (dotted) with a sensor gone altogether: the other
# one carries it. Write NaN for what was lost and never 0, which is a measurement.
#
# **What not to conclude.** In the simulator either sensor suffices for much of the
# emotion; real ones may not. And modality dropout is no free gain: :doc:`the long
# version of this figure </missing-modality>` found next to nothing.
