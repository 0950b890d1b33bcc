"""What became of a study's candidates, whether or not processes were killed."""

import json

from optuna.trial import TrialState

from domainemo.studies.storage import INTERRUPTED, KILLED, reason_of


def candidates_of(storage):
    """What became of every candidate, in order, without those that were killed."""
    (study,) = storage.get_all_studies()
    found = {}
    for each in storage.get_all_trials(study._study_id):
        if each.state == TrialState.FAIL and reason_of(each) in (KILLED, INTERRUPTED):
            continue
        first = each.user_attrs.get("retry_of", each.number)
        assert first not in found
        scores = [dict(score) for score in each.user_attrs.get("scores", ())]
        for score in scores:
            score.pop("seconds")
        found[first] = (
            each.state,
            each.values,
            each.params,
            each.intermediate_values,
            reason_of(each),
            json.dumps(scores),
        )
    return [found[number] for number in sorted(found)]
