"""The foundation of all services: state, identities, IAM, operations, discovery documents.  It imports no service."""
