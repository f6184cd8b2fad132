.DEFAULT_GOAL := help
.PHONY: help setup forest test test-long test-servers test-hosts check bench lock
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
READY := $(VENV)/.ready
FOREST ?= demo

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Prepare .venv: everything pinned, nothing outside this folder

$(READY): pyproject.toml requirements.lock requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Morpheus needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) (about a minute the first time) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(PY) -m compileall -q morpheus blocks tasks flows deployments
	@touch $@

forest: $(READY)  ## Plant a three-node forest on this machine and show it (FOREST=name, default demo)
	@$(VENV)/bin/morpheus plant local medium --name $(FOREST)

test: $(READY)  ## Run the tests that need pip packages alone (under five minutes)
	@$(PY) -m pytest -n 2 --dist loadfile -m "not root and not long and not servers"

test-long: $(READY)  ## Run the tests of whole programs (command line, Prefect server and worker), and what takes long
	@$(PY) -m pytest -n 2 --dist loadfile -m "long and not servers"

test-servers: $(READY)  ## Run the tests that need Apache and ssh-agent (Debian: apache2, apache2-utils, openssh-client, openssh-server)
	@test -x /usr/sbin/apache2 && test -x /usr/sbin/sshd && command -v htpasswd >/dev/null && command -v ssh-agent >/dev/null || { echo "make test-servers needs Apache 2.4, ssh-agent and sshd; on Debian: apt install apache2 apache2-utils openssh-client openssh-server"; exit 1; }
	@$(PY) -m pytest -n 2 --dist loadfile -m servers

test-hosts: $(READY)  ## Run the tests that need root on Linux: whole Debian systems in namespaces
	@test "$$(id -u)" = 0 || { echo "make test-hosts needs root: it boots machines and mounts file systems"; exit 1; }
	@for each in systemd-nspawn debootstrap ip nft ssh curl /usr/sbin/apache2; do command -v $$each >/dev/null || { echo "make test-hosts needs $$each; on Debian: apt install systemd-container debootstrap debian-archive-keyring iproute2 nftables openssh-client curl apache2 apache2-utils"; exit 1; }; done
	@$(PY) -m tests.lab build
	@$(PY) -m pytest -m root

check: $(READY)  ## Lint, format, types, architecture
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

bench: $(READY)  ## Run every benchmark
	@$(PY) -m benchmarks

lock: $(READY)  ## Pin the newest allowed versions again (needs the network)
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock
