"""The lease that allows one writer per workspace: heartbeat, take-over after expiry, refusal of a late holder's writes.

``protocol`` has the rules, ``stores`` the record on a disk or in a bucket, ``holding`` the lease as commands use it.
"""

from rewarm.pipeline.lineage.lease.holding import Lease, LeaseLostError, find_holder, hold, last_seen

__all__ = ["Lease", "LeaseLostError", "find_holder", "hold", "last_seen"]
