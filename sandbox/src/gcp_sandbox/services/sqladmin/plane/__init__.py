"""The PostgreSQL servers of Cloud SQL instances, and the connections to them."""
