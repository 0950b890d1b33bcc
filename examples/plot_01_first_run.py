"""
A first run, and how to read it
===============================

A network that has learned to tell emotions in some people does worse in the next
person. An *adapter* shows it that person's recordings, without their labels, while it
trains. This page does so for every person in turn and asks the question that matters:
**is the result better than what costs nothing?**
"""

# %%
# Recordings
# ----------
# The simulated recordings look like those of the SEED family: band features of 62
# electrodes, and measures of the eyes, in windows of four seconds. Six people each
# watch six clips here. ``de.load("seed-iv", folder)`` reads real ones in the same way.
import textwrap

import matplotlib.pyplot as plt

import domainemo as de

data = de.load("simulated", subjects=6, sessions=1, trials=6, windows=[6, 8])
data

# %%
# Train on five, test on the sixth
# --------------------------------
# The protocol ``cross-subject`` makes six folds: in each of them one person is the
# *target*, whose windows are seen without labels, and the others are the *source*. The
# backbone is the network, the adapter what is added to its loss. (The learning rate is
# high, so that six epochs suffice; by default there are twenty.)
results = de.run(
    data,
    protocol="cross-subject",
    backbone="concatenation-mlp",
    adapter="uf-ama",
    epochs=6,
    options={"training.learning_rate": 0.003},
)
print(results.per_subject().T.round(2).to_string())

# %%
# Five rows for one method: the others are there to be beaten. ``source only`` is the
# same network without adaptation, ``logistic regression`` has no network at all,
# ``majority class`` has not looked at the signals, and ``clip duration only`` knows
# nothing but how long a clip was.
#
# People differ far more than methods do. So a mean is worth little without its
# interval:
summary = results.summary().drop(columns="subjects")
print(summary.round(2).to_string())

# %%
# The dots are people, the bars 95 % intervals of the mean over people. (A notebook
# shows ``results.plot()`` by itself; a script hands it to pyplot, from matplotlib 3.11
# on.)
plt.figure(results.plot())
plt.show()

# %%
# Is it a gain?
# -------------
# Since every method was tested on the same people, the difference is taken person by
# person, which is sharper than two intervals side by side.
gain = results.comparison()
print(
    f"uf-ama less source only: {gain.difference:+.3f} "
    f"[{gain.low:+.3f}, {gain.high:+.3f}], "
    f"Wilcoxon p = {gain.p:.2f}, {gain.subjects} people"
)
print(f"0.02 would be seen with {gain.needed} people")

# %%
# The interval just leaves zero out, and the test, which looks at ranks, does not find
# the gain. With six people such a pair of numbers means: *perhaps, and too few to say.*
#
# What may be said
# ----------------
# Every result carries the sentence that a reader needs to judge it: whose windows were
# seen, how values were scaled, how the epoch was chosen.
print(textwrap.fill(results.how(), 64, break_on_hyphens=False))

# %%
# **What not to conclude.** Six made-up people say nothing of real ones, and if logistic
# regression does about as well, the network is not yet worth its trouble, whatever it
# gained over itself. On recordings of people, read on in :doc:`what was found on eegmat
# </eegmat>`.
