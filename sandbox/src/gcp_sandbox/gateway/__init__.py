"""The HTTP server in front of all services: the forward proxy, TLS, routing, batches."""
