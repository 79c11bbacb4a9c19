# Everything the book needs beyond make is a Python of 3.11 or later; `make help` lists the targets.
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PORT ?= 8000
# Reference runs: which chapters (numbers), at which scale (empty: gpu where CUDA is there, else full).
CHAPTERS ?= $(patsubst chapters/%,%,$(foreach c,$(wildcard chapters/[0-9][0-9]_*.ipynb),$(firstword $(subst _, ,$(c)))))
SCALE ?=

# Stamps are named by the content they stand for, so that a fresh checkout with the same pins installs nothing.
BOOK := $(VENV)/.book-$(shell cat requirements.txt constraints.txt | cksum | tr ' ' '-')
PACKAGE := $(VENV)/.package-$(shell cat requirements.txt constraints.txt pyproject.toml | cksum | tr ' ' '-')
TESTS := $(VENV)/.tests-$(shell cat requirements-test.txt requirements.txt constraints.txt | cksum | tr ' ' '-')
# `make reference PY=python3` uses an interpreter that has torch already, on a GPU machine say, and installs nothing.
ifeq ($(origin PY),command line)
BOOK :=
PACKAGE :=
TESTS :=
endif

PIP := $(PY) -m pip --disable-pip-version-check install --quiet --quiet --no-warn-script-location
PYTEST := $(PY) -m pytest -n auto
# Chapters side by side, one core each; what they find is read by tests/test_chapters.py.
LIVE := LCBOOK_SCALE=live LCBOOK_CACHE=$(CURDIR)/_build/lcbook LCBOOK_CORES=1 OMP_NUM_THREADS=1

.PHONY: help book html lab test quick check format execute reference confirm calibrate serve clean constraints chromium

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

book: $(PACKAGE) ## execute the chapters that changed and render _build/html
	@$(PY) tools/book.py build

html: $(PACKAGE) ## render _build/html from the stored outputs, executing nothing
	@$(PY) tools/book.py html

lab: $(PACKAGE) ## open the chapters in JupyterLab
	@$(PY) -m jupyterlab $$(test "$$(id -u)" != 0 || echo --allow-root) chapters

test: $(TESTS) chromium ## everything CI runs: each chapter from a cold cache, the site, unit and browser tests
	@rm -rf _build/lcbook; status=0; \
	$(LIVE) $(PYTEST) --dist loadfile --nbval-lax --nbval-current-env chapters || status=1; \
	$(PY) tools/book.py html || status=1; \
	$(PYTEST) --dist loadgroup tests || status=1; exit $$status

quick: $(TESTS) ## unit tests and every chapter at smoke scale
	@$(PYTEST) -p no:nbval --dist worksteal -m "not slow and not browser" tests

check: $(TESTS) ## ruff, types, import contracts
	@status=0; \
	$(PY) -m ruff check --quiet --output-format concise || status=1; \
	$(PY) -m ruff format --quiet --check >/dev/null || { echo "make format lays out the code"; status=1; }; \
	$(PY) -m mypy --no-error-summary || status=1; \
	$(VENV)/bin/lint-imports --no-cache >$(VENV)/imports.log 2>&1 || { tail -n +12 $(VENV)/imports.log; status=1; }; \
	test $$status != 0 || echo "ruff, types and import contracts hold"; exit $$status

format: $(TESTS) ## let ruff lay out the code
	@$(PY) -m ruff check --fix --quiet
	@$(PY) -m ruff format

execute: $(PACKAGE) ## re-run the chapters in place at live scale and store their outputs
	@$(PY) tools/book.py execute $(NOTEBOOKS)

reference: $(PACKAGE) ## experiments at full scale (gpu on a CUDA machine) into results/; resumable
	@scale="$(SCALE)"; \
	test -n "$$scale" || scale=$$($(PY) -c 'import torch; print("gpu" if torch.cuda.is_available() else "full")'); \
	for chapter in $(CHAPTERS); do $(PY) -m lcbook run $$chapter --scale $$scale || exit 1; done

confirm: $(PACKAGE) ## judge the claims on seeds of their own into results/; resumable
	@for chapter in $(CHAPTERS); do $(PY) -m lcbook confirm $$chapter || exit 1; done

calibrate: $(PACKAGE) ## simulate how often the intervals hold the truth, into results/calibration.json (5 minutes)
	@OMP_NUM_THREADS=1 $(PY) tools/calibrate.py

serve: ## open the built book at http://127.0.0.1:8000 (PORT=...)
	@test -f _build/html/index.html || { echo "There is no book in _build/html yet: run make book first."; exit 1; }
	@$(PYTHON) tools/book.py serve $(PORT)

clean: ## remove _build and the tools' caches; keeps .venv
	@rm -rf _build dist .mypy_cache .pytest_cache .ruff_cache
	@find lcbook tests tools _ext -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The environment ---------------------------------------------------------------------------------------------

$(BOOK):
	@test -n "$(PYTHON)" || { echo "The book needs Python 3.11 or later: install one, or name it with make PYTHON=..."; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing the pinned requirements into .venv (about 90 s, 1.6 GB; more where torch brings CUDA)"
	@$(PIP) -r requirements.txt
	@rm -f $(VENV)/.book-* && touch $@

$(PACKAGE): $(BOOK)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.package-* && touch $@

$(TESTS): $(PACKAGE)
	@echo "Installing what the tests need into .venv (about 30 s, 0.5 GB)"
	@$(PIP) -r requirements-test.txt
	@rm -f $(VENV)/.tests-* && touch $@

BROWSER = { command -v chromium || command -v chromium-browser || command -v google-chrome; }

chromium:
	@$(BROWSER) >/dev/null || test ! -x "$$(command -v apt-get)" || test "$$(id -u)" != 0 || { \
		echo "Installing Debian's chromium for the browser tests"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; } \
			>$(VENV)/apt.log 2>&1 || tail -n 5 $(VENV)/apt.log; }
	@$(BROWSER) >/dev/null || { echo "The browser tests need Chromium at the command chromium;" \
		"on Debian, as root: apt-get update && apt-get install chromium"; exit 1; }

constraints: $(TESTS) # pin what the requirements bring along, from this environment
	@{ echo "# Every package that requirements.txt and requirements-test.txt bring along, pinned. Made by: make constraints"; \
		$(PY) -m pip freeze --exclude-editable | grep -viE '^(torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z]*)=='; } > constraints.txt
