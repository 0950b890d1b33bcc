"""The contract as checks that anyone can run on a part of their own.

:func:`check` runs them all; :func:`checks` lists them, for a test runner:

>>> import pytest
>>> from domainemo.testing import checks
>>> @pytest.mark.parametrize("check", checks(MyAdapter))
... def test_contract(check):
...     check()

A data set that reads files is given some: ``checks(MyDataset, files=write)``.

A part that fails raises AssertionError with one sentence: which part, which check, what
was found and what was expected. Nothing here needs pytest.
"""

from .firewall import FirstFold, with_random_target_labels
from .requirements import Check
from .suites import check, checks

__all__ = ["Check", "FirstFold", "check", "checks", "with_random_target_labels"]
