"""The processes of Cloud Run instances, with what a container finds around it."""
