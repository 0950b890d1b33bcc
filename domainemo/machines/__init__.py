"""Worker processes on a Dask cluster: on this machine, at an address, or by SLURM.

The engine is Dask's: it hands calls to its workers, and starts others where some are
lost. Every call runs in a process beside the Dask worker, started as local ones are,
so that nothing that trains can tell the difference.
"""

from .opening import LOCAL, check_cluster, cluster

__all__ = ["LOCAL", "check_cluster", "cluster"]
