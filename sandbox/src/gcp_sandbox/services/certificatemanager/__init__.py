"""Certificate Manager: DNS authorizations, issuance by a CA pool, certificates, and the maps by which load balancers serve them.

https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest
"""

from gcp_sandbox.services.certificatemanager import authorizations, certificates, issuance, maps
from gcp_sandbox.services.certificatemanager.common import SERVICE

__all__ = ["SERVICE", "authorizations", "certificates", "issuance", "maps"]
