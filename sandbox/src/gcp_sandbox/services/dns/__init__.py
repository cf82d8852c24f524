"""Cloud DNS: managed zones, their record sets and changes.

The names in public zones lead where their records say (see resolver.py), for certificates and load balancers.

https://cloud.google.com/dns/docs/reference/rest/v1
"""

from gcp_sandbox.services.dns import records, resolver, zones
from gcp_sandbox.services.dns.common import SERVICE

__all__ = ["SERVICE", "records", "resolver", "zones"]
