"""Cloud DNS: managed zones, their record sets and changes.  Nothing resolves by them.

https://cloud.google.com/dns/docs/reference/rest/v1
"""

from gcp_sandbox.services.dns import records, zones
from gcp_sandbox.services.dns.common import SERVICE

__all__ = ["SERVICE", "records", "zones"]
