"""Studies: named configurations (*.toml), to be run with ``--config NAME``."""

if __name__ != "domainemo.studies":
    raise ImportError("import `domainemo.studies`, not the bare folder `studies`")
