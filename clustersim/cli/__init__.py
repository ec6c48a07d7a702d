"""The command line: thin words over the Python functions of the same names.

Heavy modules are imported inside the commands, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import os
import sys

from clustersim.cli import catalogue, experiments, network, plan, policies, proof, results
from clustersim.cli.base import app, complain
from clustersim.errors import ClusterSimError

__all__ = ["app", "catalogue", "experiments", "main", "network", "plan", "policies", "proof", "results"]


def main() -> None:
    """Run the command line; a mistake of the user ends with a line each and status 2, never a traceback."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # threads of linear algebra would change last digits
    try:
        app()
    except ClusterSimError as error:
        complain(str(error))
        sys.exit(2)
