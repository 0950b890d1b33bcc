"""
Your own recordings
===================

From arrays, or from MNE's epochs, to a folder that every command reads. The arrays are
the easy part. What decides whether a result means anything is what is said *about* each
window: **who, when, which clip, and in which uninterrupted recording.**
"""

# %%
# From NumPy arrays
# -----------------
# One array per sensor of shape (windows, channels, features), or (windows, measures);
# one label, one person and one trial per window. Here four people watch six clips of
# five windows.
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np

import domainemo as de

rng = np.random.default_rng(0)
people, clips, windows = ["ann", "bob", "eve", "kim"], 6, 5
subject = np.repeat(people, clips * windows)
clip = np.tile(np.repeat(np.arange(1, clips + 1), windows), len(people))
labels = np.where(clip % 2 == 0, "happy", "sad")
eeg = rng.normal(size=(len(subject), 4, 5))
eye = rng.normal(size=(len(subject), 3))
names = {"eeg": ["Fp1", "Fp2", "T7", "T8"], "eye": ["pupil", "blinks", "saccades"]}

data = de.from_arrays(
    {"eeg": eeg, "eye": eye},
    labels,
    subject=subject,
    trial=clip,
    window=4.0,
    modalities=names,
    name="my film study",
)
data

# %%
# What is refused
# ---------------
# A person under two spellings would be trained on *and* tested, and the result would be
# splendid. So it is no warning:
misspelt = subject.astype(object)
misspelt[:5] = "Ann"
try:
    de.from_arrays(
        {"eye": eye},
        labels,
        subject=misspelt,
        trial=clip,
        modalities={"eye": names["eye"]},
    )
except de.DataError as error:
    print(textwrap.fill(str(error), 64))

# %%
# From MNE's epochs
# -----------------
# One epoch per clip; the band features are computed. These epochs are made of noise and
# of an alpha rhythm, which is stronger over the right side when the clip was happy, and
# whose strength is each person's own.
rate, seconds = 128, 20
times = np.arange(rate * seconds) / rate
electrodes = ["F3", "F4", "T7", "T8"]
felt = ["sad", "happy"] * 4


def record(strength):
    """Return one epoch per clip, in volts."""
    noise = rng.normal(size=(len(felt), len(electrodes), len(times)))
    for epoch, emotion in zip(noise, felt, strict=True):
        alpha = strength * np.sin(2 * np.pi * 10 * times + rng.uniform(0, 6))
        for row, name in zip(epoch, electrodes, strict=True):
            right = name[-1] in "48"
            row += alpha * (1.0 if right == (emotion == "happy") else 0.85)
    info = mne.create_info(electrodes, rate, "eeg")
    return mne.EpochsArray(1e-5 * noise, info, verbose="error")


study = de.join(
    *(
        de.from_epochs(
            record(strength),
            felt,
            subject=name,
            stimulus=range(1, len(felt) + 1),
            classes=["sad", "happy"],
            name="my raw study",
        )
        for name, strength in zip(people, (0.6, 1.0, 1.4, 1.8), strict=True)
    )
)
study

# %%
# Look before you train: the alpha feature of each window, person by person. The emotion
# moves it a little, and *who it is* moves it a lot. That is the domain shift.
modality = study.inputs.modalities["eeg"]
alpha = study.inputs.signals["eeg"][..., list(modality.features).index("alpha")]
who = study.inputs.windows["subject"].to_numpy()
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True, layout="constrained")
for panel, channel in zip(axes, ("F3", "F4"), strict=True):
    values = alpha[:, modality.channels.index(channel)]
    for number, emotion in enumerate(study.classes):
        here = study.labels == number
        places = [people.index(name) + 0.3 * number - 0.15 for name in who[here]]
        panel.plot(places, values[here], "o", ms=3, alpha=0.6, label=emotion)
    panel.set_title(channel)
    panel.set_xticks(range(len(people)), people)
axes[0].set_ylabel("alpha, differential entropy")
axes[1].legend()
plt.show()

# %%
# A folder, and a run
# -------------------
# The folder is plain: a description, a table of windows, and an array per sensor.
# ``domainemo adapt --dataset FOLDER`` reads it, as does ``de.Table``.
with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "my-study"
    de.write_table(study, folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.name:<14}{path.stat().st_size / 1000:>7.1f} kB")
    recordings = de.Table(folder).load()

results = de.run(
    recordings,
    backbone="concatenation-mlp",
    adapter="none",
    epochs=10,
    options={"training.learning_rate": 0.003},
)
print(results.per_subject().T.round(2).to_string())

# %%
# Values are scaled person by person, each by its own windows, which no label is needed
# for; that alone removes the shift of the figure.
#
# **What not to conclude.** Everybody saw the same eight clips here, each with one
# label. A network that recognises the *clip* scores as well as one that recognises the
# emotion: :doc:`plot_13_hollow_number` shows how far that can go. More forms of
# recordings, and all that is refused, are in :doc:`bring your own recordings
# </own-recordings>`.
