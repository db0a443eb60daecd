"""Workers that Slurm starts and ends as they are wanted, through dask-jobqueue.

python -m pip install dask-jobqueue, then in a program on a login node:

    cluster = make_cluster("/shared/me", cores=16, memory="64GB")
    cluster.adapt(minimum=0, maximum=8)
    client = distributed.Client(cluster)  # chunkarr uses the current client by itself
"""

from __future__ import annotations

import os
from typing import Any

import dask_jobqueue
import distributed

from chunkarr import clusters


def make_cluster(shared: str, *, cores: int, memory: str, walltime: str = "04:00:00") -> Any:
    """Give a cluster whose jobs have a node's cores and memory each, and hold the same key.

    `shared` is a directory that all nodes see. One process per core: chunkarr runs one task in each
    at a time, and pure-Python functions of users do not wait for each other.
    """
    folder = os.path.join(shared, "chunkarr-credentials")
    clusters.make_credentials(folder)
    certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    security = distributed.Security(
        tls_ca_file=certificate,
        tls_client_cert=certificate,
        tls_client_key=key,
        tls_scheduler_cert=certificate,
        tls_scheduler_key=key,
        tls_worker_cert=certificate,
        tls_worker_key=key,
        require_encryption=True,
    )
    return dask_jobqueue.SLURMCluster(
        cores=cores,
        processes=cores,
        memory=memory,
        walltime=walltime,
        local_directory=shared,
        security=security,
        protocol="tls://",
        shared_temp_directory=folder,
        # The scheduler's pages know no credentials.
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
        job_script_prologue=[f"export CHUNKARR_SPILL_DIR={shared}"],
    )
