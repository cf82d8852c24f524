#!/bin/sh
exec mlflow server --workers 1 --host "${HOST:-0.0.0.0}" --port "$PORT" --default-artifact-root "$GCP_BUCKET" \
    --backend-store-uri "postgresql+psycopg2://$DB_USERNAME:$DB_PASSWORD@$DB_PRIVATE_IP:5432/$DB_NAME"
