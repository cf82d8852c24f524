"""One folder a Google API; each has a module-level SERVICE and, where it needs the sandbox itself, setup(app)."""
