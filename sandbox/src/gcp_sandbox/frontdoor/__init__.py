"""The external Application Load Balancer and Identity-Aware Proxy, as configured through the compute and iap APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.frontdoor import balancer, gate, signin
from gcp_sandbox.frontdoor.balancer import fault_page

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox


__all__ = ["fault_page", "setup"]


def setup(app: Sandbox) -> None:
    """Put the front door in front of every host that no API has."""
    app.hosts.append(balancer.certificate)
    app.front_door = balancer.serve
    app.raw_route("accounts.google.com", "/", signin.chooser)
    app.raw_route("iap.googleapis.com", "/v1/oauth/clientIds/", signin.handle_redirect)
    app.raw_route("www.gstatic.com", "/iap/verify/", gate.public_keys)
