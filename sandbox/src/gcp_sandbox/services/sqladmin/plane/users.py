"""Roles of a PostgreSQL instance as created by Cloud SQL.

https://cloud.google.com/sql/docs/postgres/users
"""

from __future__ import annotations

from gcp_sandbox.services.sqladmin.plane.postgres import identifier, literal

_LIKE_SUPERUSER = "LOGIN CREATEDB CREATEROLE IN ROLE cloudsqlsuperuser"


def setup(verifier: str) -> list[str]:
    """Statements that set up a new server like Cloud SQL's; verifier: of the password of postgres, or ""."""
    return [
        "CREATE ROLE cloudsqlsuperuser LOGIN CREATEDB CREATEROLE",
        "GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO cloudsqlsuperuser",
        f"CREATE ROLE postgres {_LIKE_SUPERUSER}{_password(verifier)}",
        "CREATE ROLE cloudsqlreplica LOGIN REPLICATION",
        "ALTER DATABASE postgres OWNER TO cloudsqlsuperuser",
        "CREATE DATABASE cloudsqladmin",
        "REVOKE CONNECT ON DATABASE cloudsqladmin FROM PUBLIC",
    ]


def create(name: str, verifier: str, *, superuser: bool = True) -> str:
    """The statement that creates a user, or sets the password of an existing one."""
    role, text = identifier(name), literal(name)
    like = _LIKE_SUPERUSER if superuser else "LOGIN"
    # Dollar quotes make it a single statement for psql; names are quoted inside.
    tag = "$do$" if "$do$" not in name else "$do_not_end_here$"
    return (
        f"DO {tag} BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = {text}) THEN "
        f"ALTER ROLE {role} LOGIN{_password(verifier)}; ELSE CREATE ROLE {role} {like}{_password(verifier)}; "
        f"END IF; END {tag}"
    )


def password(name: str, verifier: str) -> str:
    """The statement that sets a password."""
    return f"ALTER ROLE {identifier(name)}{_password(verifier)}"


def drop(name: str) -> str:
    """The statement that removes a user."""
    return f"DROP ROLE {identifier(name)}"


def _password(verifier: str) -> str:
    return f" PASSWORD {literal(verifier)}" if verifier else ""
