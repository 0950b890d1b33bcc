"""What the repository weighs: lines of code are counted as by hand."""

from pathlib import Path

from scripts import script

ROOT = Path(__file__).parents[1]

FILE = '''"""A docstring
of two lines."""

import os  # a comment behind code counts as code


# a comment
class Kept:
    """One line."""

    text = """no docstring,
    of two lines"""

    def method(self):
        """One line."""
        return (
            self.text  # 1

        )
'''


def test_lines_of_code_are_those_without_comments_and_docstrings(tmp_path):
    footprint = script("footprint")
    assert footprint.code_lines("") == 0
    # import, class, two of text, def, return, self.text, the bracket
    assert footprint.code_lines(FILE) == 8
    package = tmp_path / "domainemo"
    (package / "__pycache__").mkdir(parents=True)
    (tmp_path / "adapters").mkdir()
    (package / "adapters").symlink_to("../adapters")
    for name in ("core.py", "__pycache__/core.pyc", "adapters/dann.py"):
        (package / name).write_text("x = 1\n")
    found = {each.relative_to(package) for each in footprint.files_of(tmp_path)}
    assert found == {Path("core.py"), Path("adapters/dann.py")}
    needed = footprint.libraries(ROOT)
    assert {"torch", "numpy", "typing-extensions"} <= {*needed}
    assert not {"pytest", "sphinx"} & {*needed} and min(needed.values()) > 1000
