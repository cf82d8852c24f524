"""The command ``gcp-sandbox`` and its reports."""
