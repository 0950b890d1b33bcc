"""Studies: the search in these files; ``named/`` has those that ``--config`` names."""

if __name__ != "domainemo.studies":
    raise ImportError("import `domainemo.studies`, not the bare folder `studies`")
