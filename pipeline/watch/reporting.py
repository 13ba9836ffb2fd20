"""The process that ``observer.Observer`` keeps: reports a workspace's metrics until its parent ends.

python -m pipeline.watch.reporting PARENT WORKSPACE
"""

import sys
import time

from pipeline.cluster import joined
from pipeline.lease import look
from pipeline.monitoring.workspace import INTERVAL, WorkspaceReport
from pipeline.watch.tied import tie
from pipeline.workspace import Workspace


def main() -> None:
    """Report, every few seconds."""
    tie(int(sys.argv[1]))
    workspace = Workspace.open(sys.argv[2])
    with joined():
        report = WorkspaceReport(workspace, lambda: look(workspace.folder))
        while True:
            report.surroundings()
            report.lineage()
            time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
