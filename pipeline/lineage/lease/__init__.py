"""One writer per workspace: a lease with a heartbeat, take-over after expiry, and writes that a late holder is refused.

``protocol`` has the rules, ``local`` and ``bucket`` keep the record, ``holding`` is the lease as the commands use it.
"""

from rewarm.pipeline.lineage.lease.holding import Lease, LeaseLostError, hold, look

__all__ = ["Lease", "LeaseLostError", "hold", "look"]
