"""Cloud DNS: managed zones, their record sets, changes and keys, server and response policies.  Nothing resolves by them.

https://cloud.google.com/dns/docs/reference/rest/v1
"""

from gcp_sandbox.services.dns import keys, policies, records, responses, zones
from gcp_sandbox.services.dns.common import SERVICE

__all__ = ["SERVICE", "keys", "policies", "records", "responses", "zones"]
