"""The CMA-ES sampler draws as Optuna's, and believes nothing that a storage holds."""

import pickle
import warnings

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from domainemo.errors import ConfigurationError
from domainemo.studies.sampling import Repeatable
from domainemo.studies.settings import StudySettings
from domainemo.training.seeds import derive_seed

SPACE = {
    "weight": FloatDistribution(0.01, 10.0, log=True),
    "rate": FloatDistribution(-1.0, 2.0),
    "step": FloatDistribution(0.0, 1.0, step=0.25),
    "width": IntDistribution(4, 64, log=True),
    "rule": CategoricalDistribution(["pooled", "absolute"]),
}


class Optunas(optuna.samplers.BaseSampler):
    """Optuna's own sampler, seeded anew for every candidate."""

    def before_trial(self, study, trial):
        seed = derive_seed(0, "candidate", trial.number) & 0xFFFFFFFF
        self.inner = optuna.samplers.CmaEsSampler(
            seed=seed, warn_independent_sampling=False
        )

    def infer_relative_search_space(self, study, trial):
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, name, distribution):
        return self.inner.sample_independent(study, trial, name, distribution)


def drawn(sampler, count=40):
    """Return what is drawn; every fourth candidate falls behind, every ninth fails."""
    study = optuna.create_study(sampler=sampler, direction="maximize")
    found = []
    for number in range(count):
        trial = study.ask(SPACE)
        found.append(trial.params)
        if number % 9 == 5 or number % 4 == 2:
            state = TrialState.FAIL if number % 9 == 5 else TrialState.PRUNED
            study.tell(trial, state=state)
            continue
        x = trial.params
        study.tell(trial, -((x["rate"] - 0.7) ** 2) - abs(x["width"] - 20) / 60)
    return found, study


def test_it_draws_what_optunas_own_draws():
    """Over several generations, for numbers, logarithms, steps and words."""
    ours, study = drawn(Repeatable(StudySettings(sampler="cma-es"), 1))
    assert ours == drawn(Optunas())[0]
    # Nothing of its own is kept, and what is drawn comes closer.
    assert not any(each.system_attrs for each in study.get_trials())
    assert all(abs(each["rate"] - 0.7) < 1.2 for each in ours[-8:])


class Program:
    ran = False

    def __reduce__(self):
        return setattr, (Program, "ran", True)


def test_a_program_in_the_storage_is_not_run():
    """Optuna's own unpickles it, which shows that it was put in the right place."""

    def ask(sampler):
        study = optuna.create_study(sampler=sampler, direction="maximize")
        poison = {"cma:optimizer:0": pickle.dumps(Program()).hex(), "cma:generation": 0}
        for value in (0.1, 0.2):
            study.add_trial(
                optuna.trial.create_trial(
                    params={"rate": value},
                    distributions={"rate": SPACE["rate"]},
                    values=[value],
                    system_attrs=poison,
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.ask(SPACE)

    ask(Repeatable(StudySettings(sampler="cma-es"), 1))
    assert not Program.ran
    ask(Optunas())
    assert Program.ran


def test_several_objectives_are_refused_before_anything_is_trained():
    with pytest.raises(ConfigurationError, match="follows one objective"):
        StudySettings(sampler="cma-es", objectives=("validator", "parameters"))
