"""Protocols: who trains and who is tested, one split a file."""

if __name__ != "domainemo.protocols":
    raise ImportError("import `domainemo.protocols`, not the bare folder `protocols`")
