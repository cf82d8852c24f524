# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules iap_brand and iap_client."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.modules import iap_client

API = "https://iap.googleapis.com/v1"
BRANDS = f"{API}/projects/demo/brands"
BRAND = "projects/123456789012/brands/123456789012"
CLIENTS = f"{API}/{BRAND}/identityAwareProxyClients"
LIVE = {"name": BRAND, "applicationTitle": "MLflow", "supportEmail": "mlops@example.com", "orgInternalOnly": True}
OPTIONS = {"application_title": "MLflow", "support_email": "mlops@example.com"}
CLIENT = {
    "name": f"{BRAND}/identityAwareProxyClients/1-a.apps.googleusercontent.com",
    "displayName": "mlflow",
    "secret": "not-to-be-seen",
}
GONE = (
    r"Google has shut down the IAP OAuth API \({}: .*\); "
    r"use .* \(compute_backend_service with iap\.enabled alone\) or .* "
    r"\(iap\.oauth2_client_id and iap\.oauth2_client_secret\)$"
)


def test_creates_the_brand(google, run_module):
    google.expect("GET", BRANDS, {})
    google.expect("POST", BRANDS, LIVE, body={"applicationTitle": "MLflow", "supportEmail": "mlops@example.com"})
    result = run_module("iap_brand", **OPTIONS)
    assert result["changed"] and result["name"] == BRAND


def test_keeps_an_existing_brand(google, run_module):
    google.expect("GET", BRANDS, {"brands": [{**LIVE, "applicationTitle": "straw_hats"}]})
    result = run_module("iap_brand", **OPTIONS)
    assert not result["changed"] and result["name"] == BRAND
    assert "keeps applicationTitle 'straw_hats'" in str(result["warnings"])


def test_brand_in_check_mode(google, run_module):
    google.expect("GET", BRANDS, {})
    assert run_module("iap_brand", check=True, **OPTIONS)["name"] == "projects/demo/brands/demo"


@pytest.mark.parametrize("status", [404, 501, 410])
def test_brand_after_the_shutdown_of_the_api(google, run_module, status):
    google.expect("GET", BRANDS, google.answer(status, b"<html><title>Error</title>Not here.</html>"))
    with pytest.raises(Exception, match=f"^Cannot read OAuth brand of project demo: {GONE.format(status)}"):
        run_module("iap_brand", **OPTIONS)


def test_brand_when_creation_is_no_longer_supported(google, run_module):
    google.expect("GET", BRANDS, {})
    google.expect("POST", BRANDS, google.error(400, "FAILED_PRECONDITION", "The OAuth Admin API has been shut down."))
    with pytest.raises(Exception, match=f"^Cannot create OAuth brand of project demo: {GONE.format(400)}"):
        run_module("iap_brand", **OPTIONS)


def test_other_errors_are_not_replaced(google, run_module):
    google.expect("GET", BRANDS, google.error(403, "PERMISSION_DENIED", "The caller does not have permission"))
    with pytest.raises(
        Exception, match="^Cannot read OAuth brand of project demo: The caller does not have permission"
    ):
        run_module("iap_brand", **OPTIONS)


def test_support_email(google, run_module):
    with pytest.raises(
        Exception, match="^option support_email: 'user:jane@example.com' is not allowed; give an e-mail address"
    ):
        run_module("iap_brand", application_title="MLflow", support_email="user:jane@example.com")


def test_creates_the_client_and_hides_its_secret(google, run_module):
    google.expect("GET", CLIENTS, {"identityAwareProxyClients": [{**CLIENT, "displayName": "other"}]})
    google.expect("POST", CLIENTS, CLIENT, body={"displayName": "mlflow"})
    google.expect("GET", CLIENTS, {"identityAwareProxyClients": [{**CLIENT, "displayName": "other"}, CLIENT]})
    result = run_module("iap_client", brand=BRAND, display_name="mlflow")
    assert (
        result["changed"]
        and result["name"] == CLIENT["name"]
        and result["client_id"] == "1-a.apps.googleusercontent.com"
    )


SECOND = {**CLIENT, "name": CLIENT["name"].replace("1-a", "1-b")}
BOTH = {"identityAwareProxyClients": [SECOND, CLIENT]}


@pytest.mark.parametrize("stays", [True, False], ids=["the other one stays", "the other one goes"])
@pytest.mark.parametrize("made", [CLIENT, SECOND], ids=["first", "second"])
def test_of_two_runs_that_create_a_client_at_the_same_time_one_keeps_its_own(
    google, run_module, monkeypatch, made, stays
):
    """Also where one of them has looked before the other one created its own."""
    monkeypatch.setattr(iap_client, "AGREEMENT", 0 if stays else 60)
    google.expect("GET", CLIENTS, {}).expect("POST", CLIENTS, made).expect("GET", CLIENTS, BOTH)
    kept = SECOND if made is CLIENT and stays else CLIENT
    if made is CLIENT:
        google.expect("GET", CLIENTS, BOTH if stays else {"identityAwareProxyClients": [CLIENT]})
    if kept is not made:
        google.expect("DELETE", f"{API}/{made['name']}")
    assert run_module("iap_client", brand=BRAND, display_name="mlflow")["name"] == kept["name"]


def test_a_client_too_many_that_may_not_be_deleted_is_left(google, run_module):
    google.expect("GET", CLIENTS, {}).expect("POST", CLIENTS, SECOND).expect("GET", CLIENTS, BOTH)
    google.expect("DELETE", f"{API}/{SECOND['name']}", google.error(403, "PERMISSION_DENIED", "Not allowed."))
    result = run_module("iap_client", brand=BRAND, display_name="mlflow")
    assert result["name"] == CLIENT["name"] and SECOND["name"] in str(result["warnings"])


def test_client_exists(google, run_module):
    google.expect("GET", CLIENTS, {"identityAwareProxyClients": [CLIENT]})
    result = run_module("iap_client", brand=BRAND, display_name="mlflow")
    assert not result["changed"] and result["client_id"] == "1-a.apps.googleusercontent.com"


def test_deletes_the_client(google, run_module):
    google.expect("GET", CLIENTS, {"identityAwareProxyClients": [CLIENT]}).expect("DELETE", f"{API}/{CLIENT['name']}")
    assert run_module("iap_client", brand=BRAND, display_name="mlflow", state="absent")["changed"]


def test_client_without_a_brand(google, run_module):
    answer = google.error(404, "NOT_FOUND", "Requested entity was not found.")
    google.expect("GET", CLIENTS, answer)
    with pytest.raises(
        Exception, match=f"^Cannot read OAuth client mlflow: brand {BRAND} does not exist, or {GONE.format(404)}"
    ):
        run_module("iap_client", brand=BRAND, display_name="mlflow")
    google.expect("GET", CLIENTS, answer)
    assert run_module("iap_client", brand=BRAND, display_name="mlflow", check=True)["name"] == ""


def test_brand_name(google, run_module):
    with pytest.raises(Exception, match="^option brand: 'straw_hats' is not allowed"):
        run_module("iap_client", brand="straw_hats", display_name="mlflow")
