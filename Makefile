# Requires Python 3.11 or newer (with venv) and make; everything else is installed into .venv and .venv-image.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
unexport PYTHONPATH VIRTUAL_ENV

BIN := .venv/bin
URL := https://mlflow.example.com
# Set explicitly, because Ansible ignores an ansible.cfg in a world-writable folder.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export GCP_SANDBOX_STATE := $(CURDIR)/.gcp-sandbox
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Everything that talks to the sandbox runs with the environment variables that it prints, and no others.
IN_SANDBOX = set -e; eval "$$(gcp-sandbox env)"; export ANSIBLE_FORCE_COLOR=$$(test -t 1 && echo 1 || echo 0);

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: setup ## Build and deploy MLflow in the local sandbox of Google Cloud and verify it through the load balancer
	@tools/step "starting the sandbox in .gcp-sandbox" gcp-sandbox up --detach --project mlflow-demo --image-python .venv-image/bin/python
	@rm -f .gcp-sandbox/site.log
	@$(IN_SANDBOX) export ANSIBLE_CALLBACKS_ENABLED=mlops.mlflow_gcp.timeline MLFLOW_GCP_TIMELINE_FILE=.gcp-sandbox/timeline.html; \
		ANSIBLE_LOG_PATH=.gcp-sandbox/site.log ansible-playbook -i inventories/sandbox playbooks/site.yml
	@$(IN_SANDBOX) ansible-playbook -i inventories/sandbox playbooks/verify.yml
	@echo
	@echo "MLflow is deployed and verified:"
	@sed -n '/TASK \[Show what was deployed\]/,/^$$/s/^        /  /p' .gcp-sandbox/site.log
	@echo "To open it in a browser (sign in as one of mlflow_webapp_users):"
	@gcp-sandbox browser $(URL) | sed 's/^/  /'
	@echo "Where the time of the run went: .gcp-sandbox/timeline.html"
	@echo "To take the deployment down: make demo-destroy. To stop everything: make demo-down"

.PHONY: demo-destroy
demo-destroy: setup ## Take down what `make demo` deployed, and list the billable resources of the project before and after
	@$(IN_SANDBOX) python tools/resources.py --billable-only
	@$(IN_SANDBOX) ansible-playbook -i inventories/sandbox playbooks/destroy.yml \
		-e mlflow_confirm_destroy=demo -e mlflow_destroy_data=true -e mlflow_final_backup=false
	@$(IN_SANDBOX) python tools/resources.py --billable-only --fail-if-billable

.PHONY: demo-down
demo-down: ## Stop what `make demo` started (`make demo` resumes from its saved state)
	@if test -x $(BIN)/gcp-sandbox; then gcp-sandbox down; else echo "Nothing is running."; fi

# The tests wait for servers as often as for a processor, so that three workers keep two cores busy.
WORKERS := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )))

.PHONY: test
test: lint clients ## Run the linters and all tests but the long ones: unit tests, the sandbox's tests, end to end
	@pytest --numprocesses $(WORKERS) --no-loadscope-reorder -m "not long"

.PHONY: test-long
test-long: clients ## Run the tests that take minutes each (`make test` runs samples of them)
	@pytest --numprocesses $(WORKERS) --no-loadscope-reorder -m long

.PHONY: matrix
matrix: setup ## Disturb deployments, upgrades and takedowns with a crash after every write and a fault at every call; print the table
	@pytest -m "long or not long" tests/e2e/test_matrix.py

FREE_PORT := python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
.PHONY: molecule
molecule: setup ## Run all scenarios of molecule, side by side in one sandbox
	@export GCP_SANDBOX_PORT=$$($(FREE_PORT)) MOLECULE_EPHEMERAL_DIRECTORY=$$(mktemp -d); \
		molecule test --all --workers $(WORKERS) --continue-on-failure

.PHONY: faults
faults: setup ## Run every write method with every passing fault (429, 503, reset, ...) and print the table
	@pytest -m "long or not long" tests/unit/test_faults.py

.PHONY: permissions
permissions: setup ## Prove that docs/permissions.md lists the smallest roles: deployments with them, and without each
	@pytest -m "long or not long" tests/e2e/test_permissions.py

.PHONY: versions
versions: setup ## Run sanity, unit tests and a deployment with every supported ansible-core, and update the table in README.md
	@python tools/versions.py

.PHONY: galaxy
galaxy: setup ## Check the archive of the collection with galaxy-importer, and build the documentation site
	@python tools/galaxy.py

# Two at a time, the longest first.
LINTERS := sanity ansible-lint mypy ruff format imports yamllint changelog
.PHONY: lint $(LINTERS:%=lint-%)
lint: setup ## Run all linters, the type checker and ansible-test sanity
	@$(MAKE) -s -j2 $(LINTERS:%=lint-%)

lint-sanity:
	@tools/step "ansible-test sanity" python tools/sanity.py --skip-test pylint
lint-ansible-lint:
	@tools/step "ansible-lint" ansible-lint --strict
lint-mypy:
	@tools/step "mypy" sh -c "mypy sandbox/src && mypy --python-version 3.10 -p ansible_collections.mlops.mlflow_gcp.plugins && mypy --python-executable .venv-image/bin/python -p mlflow_gcp_server -p mlflow_iap"
lint-ruff:
	@tools/step "ruff" ruff check .
lint-format:
	@tools/step "ruff's formatter" ruff format --check .
lint-imports:
	@tools/step "import-linter" lint-imports --config sandbox/pyproject.toml --no-cache
lint-yamllint:
	@tools/step "yamllint" yamllint --strict .
lint-changelog:
	@tools/step "antsibull-changelog" antsibull-changelog lint

.PHONY: sanity
sanity: setup ## Run all tests of ansible-test sanity; `make lint` leaves out pylint, which takes as long as all others
	@tools/step "ansible-test sanity" python tools/sanity.py

.PHONY: changelog
changelog: setup ## Regenerate CHANGELOG.rst from changelogs/fragments
	@antsibull-changelog release --refresh --update-existing

COVERAGE := --cov=plugins --cov-report=term:skip-covered --cov-fail-under=95
.PHONY: unit
unit: setup ## Run only the unit tests, and print their coverage, which has a minimum
	@pytest --numprocesses $(WORKERS) --no-loadscope-reorder -m "not long" tests/unit $(COVERAGE)

.PHONY: e2e
e2e: setup ## Run only the end-to-end tests
	@pytest tests/e2e

.PHONY: bench
bench: setup ## Measure everything that has a target: the sandbox, the demo, a second run, artifacts of up to 1 GiB
	@status=0; for one in sandbox bench artifacts; do python bench/$$one.py || status=1; done; exit $$status

# Numbers of concurrent clients, one table row each.
CLIENTS ?= 12 50 500
.PHONY: load
load: setup ## Log with many concurrent clients through the load balancer and print a table (CLIENTS=)
	@python bench/load.py $(CLIENTS)

# The recorded exchanges with Google's APIs (folders attested and other), and the program that replays them.
RECORDINGS ?= ../shared/recorded
REPLAY ?= ../shared/tools/replay.py
.PHONY: fidelity
fidelity: setup ## Replay recorded exchanges against the sandbox and score its answers per API (RECORDINGS=, REPLAY=)
	@python bench/fidelity.py $(RECORDINGS) $(REPLAY)

.PHONY: clean
clean: demo-down ## Stop the demo and remove everything that make created
	rm -rf .gcp-sandbox .venv .venv-image .venv-versions .venv-galaxy .collections .ansible .pytest_cache .ruff_cache

.PHONY: setup
setup: .collections/ansible_collections/mlops/mlflow_gcp
	@$(MAKE) -s -j2 .venv/.stamp .venv-image/.stamp

# Dependencies of the tests with third-party clients only, so that `make demo` does not wait for them.
.PHONY: clients
clients: setup
	@$(MAKE) -s .venv/.stamp-clients

# The checkout, linked under the path where Ansible looks for a collection.
.collections/ansible_collections/mlops/mlflow_gcp:
	@mkdir -p $(@D)
	@ln -sfn ../../.. $@

.venv/.stamp: requirements-dev.txt sandbox/pyproject.toml
	@$(call make_venv,.venv)
	@tools/step "installing Ansible, the sandbox and the test tools into .venv" .venv/bin/pip install --quiet -r requirements-dev.txt -e ./sandbox
	@touch $@

.venv/.stamp-clients: tests/clients/requirements.txt .venv/.stamp
	@tools/step "installing Google's client libraries and the browser driver into .venv" .venv/bin/pip install --quiet -r $<
	@touch $@

.venv-image/.stamp: image/requirements.txt image/build-requirements.txt image/pyproject.toml
	@$(call make_venv,.venv-image)
	@tools/step "installing the MLflow server image into .venv-image" .venv-image/bin/python -m pip install --quiet -r image/requirements.txt -r image/build-requirements.txt
	@.venv-image/bin/python -m pip install --quiet --no-deps --no-build-isolation -e ./image
	@touch $@

# $(PYTHON) is tried first if it is set, then that of the system: distributions build it with profile-guided optimization, which
# saves a tenth of the time of a run compared with one that was compiled without. Each is run, because a name on the PATH may be an empty shim.
define make_venv
test -x $(1)/bin/pip && exit 0; \
for python in $(PYTHON) /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14; do \
    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
        exec $$python -m venv $(1); \
    fi; \
done; \
echo "Python 3.11 or newer with the venv module is required (Debian: apt install python3 python3-venv), or run make PYTHON=/path/to/python" >&2; \
exit 1
endef
