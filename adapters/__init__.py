"""Adapters: one published method a file, the pure loss beside its thin class."""

if __name__ != "domainemo.adapters":
    raise ImportError("import `domainemo.adapters`, not the bare folder `adapters`")
