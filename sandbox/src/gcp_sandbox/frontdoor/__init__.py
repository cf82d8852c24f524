"""The external Application Load Balancer and Identity-Aware Proxy, as configured through the compute, run and iap APIs."""

from __future__ import annotations

from functools import partial

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.frontdoor import balancer, gate, signin


def setup(cloud: Cloud) -> None:
    """Install the front door for all hosts that belong to no API."""
    cloud.hosts.append(balancer.certificate)
    cloud.front_door = balancer.serve
    cloud.identity_aware_proxy = partial(gate.of_service, cloud)
    cloud.fault_pages[""] = balancer.fault_page
    cloud.raw_routes += [
        ("accounts.google.com", "/", signin.chooser),
        ("iap.googleapis.com", "/v1/oauth/clientIds/", signin.handle_redirect),
        ("www.gstatic.com", "/iap/verify/", gate.public_keys),
    ]
