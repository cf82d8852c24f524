"""The PostgreSQL servers of Cloud SQL instances, and the way to them."""
