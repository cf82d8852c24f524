"""The world that services share: state, identities, IAM, operations, discovery documents.  It knows no service."""
