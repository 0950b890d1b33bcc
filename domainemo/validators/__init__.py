"""Validators: scores that choose the epoch and the options without target labels.

None of them is an oracle: a validator is handed :class:`~domainemo.core.Target`, which
has no field a label could be read from. Every score looks at the fusion's logits, in
whose place stands what the adapter predicts where it shapes the prediction, and a model
whose output is not finite scores minus infinity.
"""
