"""``python -m gcp_sandbox.cli``."""

from gcp_sandbox.cli.command import main

main()
