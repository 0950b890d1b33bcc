"""
From one data set to another
============================

Train on one study and test on the people of another, with other class names, fewer
electrodes and no eye tracker. What does not fit is matched by name, or left out and
counted; what cannot be matched is refused.
"""

# %%
# Two studies
# -----------
# ``here`` has eyes and 62 electrodes. ``there`` has other people, other clips, 55
# electrodes, no eye tracker, and other words for the classes.
import textwrap
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd

import domainemo as de

here = de.load("simulated", subjects=5, sessions=1, trials=6, windows=[6, 8])
there = de.load("simulated", subjects=5, sessions=1, trials=6, windows=[6, 8], seed=3)
modality = there.inputs.modalities["eeg"]
kept = [number for number in range(62) if number % 10]  # every tenth was not recorded
smaller = replace(modality, channels=tuple(modality.channels[each] for each in kept))
inputs = replace(
    there.inputs,
    signals={"eeg": there.inputs.signals["eeg"][:, kept]},
    modalities={"eeg": smaller},
    name="the other study",
)
there = replace(there, inputs=inputs, classes=("sad", "neutral", "happy"))
there

# %%
# Across
# ------
# Everybody in ``here`` trains; each person in ``there`` is adapted to and tested.
# Classes of one name are the same, the others are named.
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    across = de.adapt(
        here,
        there,
        protocol="cross-dataset",
        target_classes={"negative": "sad", "positive": "happy"},
        backbone="concatenation-mlp",
        adapter="deep-coral",
        epochs=6,
        options={"training.learning_rate": 0.003},
    )
for each in told:
    print(textwrap.fill(f"- {each.message}", 64))

# %%
# What had to be done to make them fit is told, and which classes met is part of every
# result:
print(textwrap.fill(across.how(), 64, break_on_hyphens=False))

# %%
# What to hold it against
# -----------------------
# A number across data sets says little alone. Beside it belong the plain model, and the
# same people tested among themselves: what training on *their own* study would give.
within = de.run(
    there,
    backbone="concatenation-mlp",
    adapter="none",
    epochs=6,
    options={"training.learning_rate": 0.003},
)
scores = pd.DataFrame(
    {
        "across: deep-coral": across.per_subject()["deep-coral"],
        "across: source only": across.per_subject()["source only"],
        "across: logistic": across.per_subject()["logistic regression"],
        "within: source only": within.per_subject()["source only"],
    }
)
print(scores.T.round(2).to_string())

# %%
figure, axes = plt.subplots(figsize=(7.2, 2.8), layout="constrained")
for place, name in enumerate(scores):
    axes.plot(scores[name], [place] * len(scores), "o", color="0.6", ms=5)
    axes.plot(scores[name].mean(), place, "D", color="C0", ms=9)
axes.axvline(1 / 3, color="0.4", ls="--", lw=1)
axes.set_yticks(range(len(scores.columns)), scores.columns)
axes.invert_yaxis()
axes.set_xlabel(
    "balanced accuracy; dots are people of the other study, dashed is chance"
)
plt.show()

# %%
# One person is predicted worse than by chance, whoever predicts: people differ more
# than methods. And here the other study is as good a teacher as their own, since both
# come from one simulator.
#
# **What not to conclude.** Anything of that kind of real studies. They differ in
# people, clips, language, amplifier and in how labels came about, all at once, and a
# drop from one to the other does not say which of these it is due to. :doc:`On other
# data </other-protocols>` has the rules of matching.
