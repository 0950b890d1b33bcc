"""
A number that means nothing
===========================

Recordings in which emotions do **nothing at all**, and an accuracy far above chance. No
label leaks, no person is in training and test. What was recognised is the clip; and
another protocol shows it.
"""

# %%
# People without emotions
# -----------------------
# ``effect=0`` turns off what emotions do. Clips still do something to whoever sees
# them, by their brightness and sound, say; and each clip has a label.
import matplotlib.pyplot as plt
import pandas as pd

import domainemo as de

data = de.load(
    "simulated",
    subjects=6,
    sessions=1,
    trials=9,
    windows=[5, 6],
    effect=0.0,
    stimulus_effect=1.5,
)
common = {
    "backbone": "concatenation-mlp",
    "adapter": "none",
    "epochs": 5,
    "options": {"training.learning_rate": 0.003},
}

# %%
# Leave a person out
# ------------------
# The usual protocol of the field. The person is new, the clips are not.
people = de.run(data, protocol="cross-subject", **common)
print(people.summary()[["mean", "low", "high"]].round(2).to_string())

# %%
# Leave the clips out
# -------------------
# The same network and people, tested on clips that were not in training.
clips = de.run(data, protocol="leave-stimuli-out", **common)
print(clips.summary()[["mean", "low", "high"]].round(2).to_string())

# %%
# What looked like emotion is gone. (Nor is it a mistake that the majority class now has
# nothing right: a class whose clips are left out is the rarest one in training.)
scores = pd.DataFrame(
    {
        name: results.per_subject()[results.method]
        for name, results in (("new person", people), ("new clips", clips))
    }
)
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
for _, row in scores.iterrows():
    axes.plot(row.to_numpy(), "o-", color="0.7", ms=4)
axes.plot(scores.mean().to_numpy(), "D", color="C3", ms=9, ls="none")
axes.axhline(1 / 3, color="0.3", ls="--", lw=1)
axes.text(1.2, 1 / 3, "chance", va="center", ha="left", fontsize="small")
axes.set_xlim(-0.3, 1.45)
axes.set_xticks([0, 1], scores.columns)
axes.set_ylabel("balanced accuracy")
axes.set_title("Recordings in which no emotion does anything")
plt.show()

# %%
# **What to conclude.** Where everybody watches the same clips, the label is a function
# of the clip, and ``cross-subject`` answers "which clip was it?" as well as "what was
# felt?". The two can only be told apart where clips are left out. Say which question a
# number answers: :doc:`protocols </protocols>`, :doc:`controls </controls>` and
# :doc:`what they caught </hollow-numbers>`.
