"""Validators: scores that choose the epoch and the options without target labels.

None of them is an oracle: a validator is handed :class:`~domainemo.core.Target`, which
has no field a label could be read from. Every score looks at the fusion's logits, in
whose place stands what the adapter predicts where it shapes the prediction, and a model
whose output is not finite scores minus infinity.

The same validators choose the epoch, the candidate of a study and the method among
finished runs. Most score a model by itself; some compare all that are chosen from
(:mod:`.comparing`). Those that look at distances between samples look at so many of
each side as their option ``samples`` says, drawn with a fixed seed.
"""
