"""Leave subjects out: train on some, test on others never labelled."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Rows
from domainemo.errors import ConfigurationError, DataError, did_you_mean
from domainemo.registry import register
from domainemo.values import SEEDS, Bounds
from domainemo.words import count, divided, in_order, quoted

from .groups import drawn_groups
from .held_out import HeldOut, HoldsOut, Unfit, Unit
from .sessions import by_session

__all__ = ["CrossSubject"]

_SHOWN = 8
"""Names that stand in a fold's name, at most."""

Subjects = Sequence[str | int] | str | int | None


@register
class CrossSubject(HoldsOut):
    """Leave one subject out, or groups, sessions pooled or one at a time.

    All subjects usually watch the same clips: a new subject is not a new stimulus.

    Parameters
    ----------
    session : str or int
        ``"pooled"`` (all sessions together), ``"each"`` (within one session, a fold
        per subject and session), or the name of the one session to use.
    leave_out : int, optional
        Test groups of at most so many subjects, as even as can be, drawn by `seed`;
        everybody is tested once. By default one subject after another.
    repeats : int, optional
        Draw the groups so many times anew: everybody is tested that often.
    test, validation, train : list of subjects, optional
        Given groups, in place of leaving out: whom to test, in a single fold; whom to
        keep for a validator that holds subjects out (`source`), which then draws none
        itself; and whom to train on, by default everybody else.
    held_out : float
        Share of the target that training never sees and that alone is tested
        (inductive); 0 tests the target that was seen unlabelled (transductive).
    unit : {"trial", "time"}
        Hold out whole trials, or the last part of every trial.
    seed : int
        For the draw of groups, and of held-out trials.
    unfit : {"refuse", "skip"}
        Folds whose source or test part holds a single class, or whose test part a class
        that the source lacks, stop the run, or are left out; the results name them.
    """

    domain: ClassVar[str] = "subject"

    def __init__(
        self,
        *,
        session: str | int = "pooled",
        leave_out: Annotated[int, Bounds(least=1)] | None = None,
        repeats: Annotated[int, Bounds(least=1)] | None = None,
        test: Subjects = None,
        validation: Subjects = None,
        train: Subjects = None,
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.session, self.leave_out, self.repeats = session, leave_out, repeats
        self.test, self.validation, self.train = test, validation, train
        super().__init__(held_out=held_out, unit=unit, seed=seed, unfit=unfit)
        self._check_options()

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per group of subjects, and per session where these are apart."""
        subjects = windows["subject"].to_numpy()
        for suffix, rows in by_session(windows, self.session, "cross-subject"):
            names = in_order(subjects[rows])
            if len(names) < 2:
                raise DataError(
                    f"cross-subject{suffix}: found {len(names)} subject "
                    f"({', '.join(map(str, names))}); leaving one out needs at least "
                    f"2. Use the protocol cross-session, or bring more subjects."
                )

            def of(group: Sequence[Any], rows: Rows = rows) -> Rows:
                return rows[np.isin(subjects[rows], group)]

            for name, groups in self._arranged(names, suffix):
                parts = {role: of(group) for role, group in groups.items()}
                yield self.fold(
                    f"{name}{suffix}",
                    windows,
                    parts["train"],
                    parts["test"],
                    parts.get("validation"),
                )

    def _arranged(
        self, names: list[Any], suffix: str
    ) -> Iterator[tuple[str, dict[str, list[Any]]]]:
        """Yield the name of each fold, and who trains, validates and is tested."""
        if self.test is not None:
            groups = self._given(names, suffix)
            yield _called(groups["test"]), groups
            return
        size = self.leave_out or 1
        if size >= len(names):
            raise DataError(
                f"cross-subject{suffix}: leave_out is {size}, and there are "
                f"{count(len(names), 'subject')}; expected fewer, as somebody must be "
                f"left to train on."
            )
        number = -(-len(names) // size)
        for repeat in range(self.repeats or 1):
            again = f"repeat {repeat + 1}, " if self.repeats else ""
            drawn = drawn_groups(names, number, self.seed, repeat)
            for place, group in enumerate(drawn, start=1):
                others = [name for name in names if name not in group]
                called = _called(group, f", group {place} of {number}")
                yield again + called, {"train": others, "test": group}

    def _given(self, names: list[Any], suffix: str) -> dict[str, list[Any]]:
        """Return the given groups, each name as the recordings have it.

        Whoever is in none of them trains, unless it is said who does.
        """
        known = {str(name): name for name in names}
        wanted = {
            role: _listed(getattr(self, role), known)
            for role in ("train", "validation", "test")
            if getattr(self, role) is not None
        }
        for name in (name for group in wanted.values() for name in group):
            if name not in known:
                raise DataError(
                    f"cross-subject{suffix}: found no subject {name!r}."
                    f"{did_you_mean(name, known)} Expected some of {quoted(known)}."
                )
        groups = {role: [known[name] for name in wanted[role]] for role in wanted}
        taken = [name for group in groups.values() for name in group]
        groups.setdefault("train", [name for name in names if name not in taken])
        if not groups["train"]:
            raise DataError(
                f"cross-subject{suffix}: everybody is in test or validation, and "
                f"nobody is left to train on; expected somebody. Name fewer."
            )
        return groups

    def _check_options(self) -> None:
        """Refuse options that contradict each other, and names given twice."""
        given = {r: getattr(self, r) for r in ("test", "validation", "train")}
        given = {r: _listed(group) for r, group in given.items() if group is not None}
        if given and "test" not in given:
            raise ConfigurationError(
                f"cross-subject: {' and '.join(given)} named, but not whom to test; "
                f"expected test=SUBJECTS beside it, or none of them."
            )
        if given and (self.leave_out or self.repeats):
            raise ConfigurationError(
                "cross-subject: leave_out or repeats given beside test, and a given "
                "group is tested once; expected one or the other. Take one away."
            )
        if self.repeats and (self.leave_out or 1) == 1:
            raise ConfigurationError(
                f"cross-subject: repeats is {self.repeats} where one subject is left "
                f"out at a time, which gives the same folds every time; expected "
                f"leave_out of 2 or more beside it."
            )
        for role, group in given.items():
            if not group:
                raise ConfigurationError(
                    f"cross-subject: {role} names nobody; expected some subjects, such "
                    f"as {role}=[1, 2]."
                )
        names = [name for group in given.values() for name in group]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            roles = [role for role, group in given.items() if twice in group]
            raise ConfigurationError(
                f"cross-subject: subject {twice!r} is named twice, in "
                f"{' and '.join(roles)}; expected each subject in one group, once."
            )


def _listed(given: Subjects, known: Container[str] = ()) -> list[str]:
    """Return names as text; a word may hold several with commas between them.

    One that is the name of somebody known is that, whatever is in it.
    """
    several = isinstance(given, str) and given.strip() not in known
    each = divided(str(given)) if several else given
    each = [each] if isinstance(each, str) else each
    names = each if isinstance(each, Sequence) else [each]
    return [str(name).strip() for name in names]


def _called(group: Sequence[Any], which: str = "") -> str:
    """Return the names of a group; of a large one, how many they are and `which`."""
    if len(group) > _SHOWN:
        return f"{len(group)} subjects{which}"
    names = ", ".join(map(str, group))
    return f"subject {names}" if len(group) == 1 else f"subjects {names}"
