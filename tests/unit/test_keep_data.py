# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others set on the bucket, the database and its secret, the Cloud Run service and its job stays."""

from __future__ import annotations

import pytest

from .keep import Kept

GOOGLE = "Google writes it"
BUCKET = Kept(
    "storage.v1",
    "Bucket",
    module="storage_bucket",
    url="storage.googleapis.com/storage/v1/b/{project}-kept",
    options={
        "name": "{project}-kept",
        "location": "europe-west2",
        "storage_class": "STANDARD",
        "versioning": True,
        "lifecycle_rules": [{"action": {"type": "Delete"}, "condition": {"days_since_noncurrent": 30}}],
        "soft_delete_retention_seconds": 604800,
    },
    changes=(
        {"versioning": False},
        {"lifecycle_rules": []},
        {"soft_delete_retention_seconds": 0},
        {"public_access_prevention": "inherited"},
    ),
    owned=(
        "location",
        "name",
        "storageClass",
        "versioning",
        "lifecycle",
        "softDeletePolicy.retentionDurationSeconds",
        "softDeletePolicy.effectiveTime",
        "iamConfiguration.publicAccessPrevention",
        "iamConfiguration.uniformBucketLevelAccess",
    ),
    foreign={
        "autoclass": {"enabled": True, "terminalStorageClass": "ARCHIVE"},
        "cors": [{"origin": ["https://other.example.com"], "method": ["GET"], "maxAgeSeconds": 60}],
        "defaultEventBasedHold": True,
        "encryption": {
            "defaultKmsKeyName": "projects/{project}/locations/europe-west2/keyRings/r/cryptoKeys/k",
            "googleManagedEncryptionEnforcementConfig": {"restrictionMode": "FullyRestricted"},
        },
        "ipFilter": {"mode": "Disabled", "publicNetworkSource": {"allowedIpCidrRanges": ["203.0.113.0/24"]}},
        "labels": {"cost-center": "4711"},
        "logging": {"logBucket": "{project}-kept", "logObjectPrefix": "log"},
        "retentionPolicy": {"retentionPeriod": "3600"},
        "softDeletePolicy": {"hardDeletePause": {"enabled": True}},
        "website": {"mainPageSuffix": "index.html", "notFoundPage": "404.html"},
    },
    reasons={
        **dict.fromkeys(("acl", "defaultObjectAcl"), "excluded by uniform access"),
        **dict.fromkeys(
            ("customPlacementConfig", "hierarchicalNamespace", "objectRetention"), "fixed when a bucket is created"
        ),
        **dict.fromkeys(
            (
                "hardDeleteTime",
                "id",
                "kind",
                "locationType",
                "owner",
                "projectNumber",
                "satisfiesPZI",
                "satisfiesPZS",
                "selfLink",
                "softDeleteTime",
                "timeCreated",
                "updated",
            ),
            GOOGLE,
        ),
        "billing": "the sandbox bills nobody, and so refuses to let the caller pay",
        "iamConfiguration.bucketPolicyOnly": "the old name of uniformBucketLevelAccess",
        "rpo": "only for buckets in several regions",
    },
    volatile=("softDeletePolicy.effectiveTime", "updated"),
)
CASES = {"bucket": BUCKET}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_others_set_stays(case, sandbox_module, gcp_sandbox):
    assert case.unaccounted() == []
    case.check(sandbox_module, gcp_sandbox, gcp_sandbox.exports["GCP_PROJECT"])
