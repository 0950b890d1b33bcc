"""
In scikit-learn's pipelines
===========================

An adapted network is a classifier with ``fit`` and ``predict``: it stands in a
pipeline, in ``cross_val_score`` and in a grid search, beside the estimators that you
have already.
"""

# %%
# Arrays, as scikit-learn has them
# --------------------------------
# One row per window, and who it is of.
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import domainemo as de
from domainemo.sklearn import AdaptedClassifier

data = de.load(
    "simulated", subjects=5, sessions=1, trials=6, windows=[6, 8], missing=0.0
)
X = np.hstack([each.reshape(len(each), -1) for each in data.inputs.signals.values()])
y = np.array(data.classes)[data.labels]
subject = data.inputs.windows["subject"].to_numpy()
print(X.shape, np.unique(y))

# %%
# Beside another estimator
# ------------------------
# Without a target, the network trains on the source alone. ``sample_domain`` tells it
# whose windows are whose, by which each person is scaled. Never split windows at
# random: the neighbours of a test window would be in training.
fast = {"training.learning_rate": 0.003}
plain = AdaptedClassifier(
    adapter="none", modalities=data.inputs.modalities, epochs=6, options=fast
)
by_person = LeaveOneGroupOut()
scores = {
    "logistic regression": cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
        X,
        y,
        groups=subject,
        cv=by_person,
        scoring="balanced_accuracy",
    ),
    "network": cross_val_score(
        plain,
        X,
        y,
        groups=subject,
        cv=by_person,
        scoring="balanced_accuracy",
        params={"sample_domain": subject},
    ),
}

# %%
# With a target
# -------------
# As in skada, a negative domain is the target's, and its labels are masked. A label
# that is left there by mistake is refused:
adapted = AdaptedClassifier(
    adapter="deep-coral", modalities=data.inputs.modalities, epochs=6, options=fast
)
domains = np.where(subject == 1, -1, subject)
try:
    adapted.fit(X, y, sample_domain=domains)
except ValueError as error:
    print(textwrap.fill(str(error), 64))

# %%
found = []
for who in np.unique(subject):
    target = subject == who
    adapted.fit(
        X,
        np.where(target, None, y),
        sample_domain=np.where(target, -subject, subject),
    )
    found.append(balanced_accuracy_score(y[target], adapted.predict(X[target])))
scores["adapted network"] = np.array(found)
table = pd.DataFrame(scores, index=pd.Index(np.unique(subject), name="left out"))
print(table.round(2).to_string())

# %%
figure, axes = plt.subplots(figsize=(7.2, 3), layout="constrained")
table.plot.bar(ax=axes, rot=0, width=0.75)
axes.axhline(1 / 3, color="0.3", ls="--", lw=1)
axes.set_ylabel("balanced accuracy")
axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()

# %%
# Much of the distance to the first bars is due to scaling each person by its own
# windows, which the pipeline did not do. A fair plain model does, as the one that
# ``de.run`` puts beside every result.
#
# **What not to conclude.** These scores say nothing of how they came about. Tune and
# explore in scikit-learn; for the number that goes into a paper take ``de.run``, which
# runs the controls, looks for leaks, and says how it was obtained. :doc:`As a
# scikit-learn classifier </scikit-learn>` goes on to grid searches and skada.
