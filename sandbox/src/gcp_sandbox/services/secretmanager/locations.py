"""Where Secret Manager keeps secrets: https://cloud.google.com/secret-manager/docs/locations."""

from __future__ import annotations

# Region -> the place that the API shows it as, in the API's order.
LOCATIONS = {
    "europe-west8": "Milan", "europe-west9": "Paris", "europe-southwest1": "Madrid", "us-east7": "Day0 (Alabama)",
    "us-east5": "Columbus", "us-south1": "Dallas", "asia-east1": "Taiwan", "asia-east2": "Hong Kong",
    "asia-northeast1": "Tokyo", "asia-northeast2": "Osaka", "asia-northeast3": "Seoul", "asia-south1": "Mumbai",
    "asia-south2": "Delhi", "asia-southeast1": "Singapore", "asia-southeast2": "Jakarta", "australia-southeast1": "Sydney",
    "australia-southeast2": "Melbourne", "europe-central2": "Warsaw", "europe-north1": "Finland", "europe-west1": "Belgium",
    "europe-west2": "London", "europe-west3": "Frankfurt", "europe-west4": "Netherlands", "europe-west6": "Zurich",
    "northamerica-northeast1": "Montréal", "northamerica-northeast2": "Toronto", "southamerica-east1": "São Paulo",
    "southamerica-west1": "Santiago", "us-central1": "Iowa", "us-central2": "Oklahoma", "us-east1": "South Carolina",
    "us-east4": "Northern Virginia", "us-west1": "Oregon", "us-west2": "Los Angeles", "us-west3": "Salt Lake City",
    "us-west4": "Las Vegas", "me-west1": "Tel Aviv", "europe-west12": "Turin", "me-central1": "Doha",
    "europe-west10": "Berlin", "me-central2": "Dammam", "africa-south1": "Johannesburg", "us-west8": "Phoenix",
    "northamerica-south1": "Mexico", "europe-north2": "Stockholm",
}  # fmt: skip
