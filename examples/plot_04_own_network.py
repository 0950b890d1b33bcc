"""
Use your own network
====================

Any ``torch.nn.Module`` becomes a backbone unedited. Say which of its layers to read,
and every adapter, protocol and control works on it.
"""

# %%
# A network as a lab might have it
# --------------------------------
# Two streams, batch normalisation, a classifier of its own. It knows nothing of
# domains, of lost sensors, or of this library.
import textwrap

import matplotlib.pyplot as plt
import torch
from torch import nn

import domainemo as de


class TwoStreams(nn.Module):
    """Brain and gaze, each through a layer of its own, then both."""

    def __init__(self, values, measures, classes=3):
        super().__init__()
        self.brain = nn.Sequential(
            nn.Linear(values, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16)
        )
        self.gaze = nn.Sequential(nn.Linear(measures, 16), nn.ReLU())
        self.mix = nn.Sequential(nn.Linear(32, 16), nn.Tanh())
        self.classifier = nn.Linear(16, classes)

    def forward(self, brain, gaze):
        """Return the logits."""
        both = torch.cat([self.brain(brain.flatten(1)), self.gaze(gaze.flatten(1))], 1)
        return self.classifier(self.mix(both))


# %%
# Which layers to read
# --------------------
# ``branches`` names one for each sensor and one for the fusion, which makes the
# prediction. The layer of a sensor must see that sensor alone. The library puts its own
# classifiers on them, so ``classifier`` above is left out of it.
@de.register
class Streams(de.Wrapped):
    """The lab's two streams."""

    def __init__(self, modalities):
        sizes = {
            name: len(each.channels) * len(each.features)
            for name, each in modalities.items()
        }
        super().__init__(
            modalities,
            TwoStreams(sizes["eeg"], sizes["eye"]),
            branches={"eeg": "brain", "eye": "gaze", "fusion": "input of classifier"},
        )


# %%
# A mistake is found when the network is built, which is shown one batch of noise, and
# not after a night of training:
@de.register
class Misnamed(Streams):
    """The same, with a layer that there is not."""

    def __init__(self, modalities):
        de.Wrapped.__init__(
            self,
            modalities,
            TwoStreams(310, 33),
            branches={"eeg": "brian", "eye": "gaze", "fusion": "mix"},
        )


data = de.load("simulated", subjects=5, sessions=1, trials=6, windows=[6, 8])
try:
    de.run(data, backbone=Misnamed, adapter="none")
except de.ConfigurationError as error:
    print(textwrap.fill(str(error), 64))

# %%
# With and without adaptation
# ---------------------------
# Two adapters, from two families, beside the same network without any.
common = {
    "backbone": Streams,
    "epochs": 6,
    "batch_size": 16,
    "options": {"training.learning_rate": 0.003},
}
first = de.run(data, adapter="mcc", **common)
second = de.run(data, adapter="dann", baselines=False, **common)
names = ["mcc", "source only", "logistic regression"]
table = first.per_subject()[names].join(second.per_subject())
print(table.round(2).to_string())

# %%
figure, axes = plt.subplots(figsize=(7.2, 3), layout="constrained")
colours = ["C0", "0.5", "0.5", "C0"]
axes.bar(range(len(table.columns)), table.mean(), color=colours, alpha=0.5)
for _, row in table.iterrows():
    axes.plot(range(len(row)), row, "o", color="black", ms=3)
axes.axhline(1 / 3, color="0.3", ls="--", lw=1)
axes.set_xticks(range(len(table.columns)), table.columns)
axes.set_ylabel("balanced accuracy")
axes.set_title("Dots are people, dashed is chance")
plt.show()

# %%
# **What not to conclude.** That one of the adapters suits this network better: with
# five people, the dots of one method lie further apart than the methods do.
# :doc:`plot_06_honest_comparison` says how to tell. What the figure does say is that
# this network, trained so briefly on so little, has yet to reach a logistic regression,
# which stands beside every result for this reason.
#
# Recurrent networks, raw signals and ready-made networks are in :doc:`your own network
# </own-network>` and :doc:`networks of braindecode </braindecode>`.
