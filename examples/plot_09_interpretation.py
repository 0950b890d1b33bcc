"""
What a network attends to, where the truth is known
===================================================

A map of the scalp always looks convincing. So first see whether the method finds what
is there: this page **plants** an effect in one brain region, trains R2GFANet, which
weighs regions by attention, and asks where it looks.
"""

# %%
# Plant an effect
# ---------------
# Simulated people in whom emotions do nothing at all; then alpha and beta are raised
# over three electrodes at the back of the head in one class, and lowered in the other.
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt

import domainemo as de

bare = de.load(
    "simulated",
    subjects=4,
    sessions=1,
    trials=12,
    windows=[16, 16],
    classes=2,
    effect=0.0,
    stimulus_effect=0.0,
)
modality = bare.inputs.modalities["eeg"]
where = [modality.channels.index(name) for name in ("O1", "OZ", "O2")]
bands = [list(modality.features).index(name) for name in ("alpha", "beta")]
eeg = bare.inputs.signals["eeg"].copy()
sign = 2 * bare.labels - 1
for channel in where:
    for band in bands:
        eeg[:, channel, band] += 0.3 * sign
signals = {**bare.inputs.signals, "eeg": eeg}
planted = replace(bare, inputs=replace(bare.inputs, signals=signals))

# %%
# Train, and look
# ---------------
# Two folds of source only. ``de.interpret`` reads the trained networks of a run and
# shows them their test windows again. It reads no label: classes are those that were
# predicted.
place = tempfile.TemporaryDirectory()
folder = Path(place.name) / "run"
results = de.run(
    planted,
    backbone="r2gfanet",
    adapter="none",
    epochs=12,
    batch_size=8,
    folds=["subject 1", "subject 2"],
    options={"backbone.width": 16, "training.learning_rate": 0.003},
    output=folder,
)
print(results.summary()[["mean"]].round(2).to_string())
made = de.interpret(folder, planted)
place.cleanup()

# %%
# Two measures
# ------------
# *Attention* is what the layer weighs, as a share; even attention would be one in
# sixteen. *Occlusion* asks the decision itself: by how much does the predicted class
# lose when the region's electrodes show nothing but their mean?
regions = made.regions.groupby("region")[["attention", "occlusion"]].mean()
print(regions.sort_values("attention", ascending=False).head(5).round(3).to_string())

# %%
plt.figure(made.plot())
plt.show()

# %%
# The planted region comes first by both. Behind it the two measures no longer agree: a
# region may be given weight that the decision does not need. And though it is the only
# region that tells anything, most of the attention lies on the other fifteen: *read the
# ranking and not the size.*
#
# **What not to conclude.** That it would find several regions at once, or in a network
# that has learned little. A network at chance gives a map, too, and it looks no worse
# (``epochs=1`` shows one). Look at the accuracy first, then at whether two measures
# agree. :doc:`What a network attends to </interpretation>` has both tested where they
# fail.
