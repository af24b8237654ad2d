# make demo: train on the embedded scene with and without batch norm, compare.   make test: all checks.
.DEFAULT_GOAL := help
.PHONY: help venv lint docs test test-fast demo gpu clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# Commands that may not run (version managers leave shims of absent versions) are skipped.
# 3.11 first: the pins in constraints.txt were tested with it.
PYTHONS := python3.11 python3.12 python3.10 python3
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))

help:
	@echo "make demo       train on the embedded scene with and without batch norm; writes a picture and the PSNRs"
	@echo "make test       lint, types, documentation and all tests"
	@echo "make test-fast  lint, types, and a few cases of each test that is not marked slow: for the daily loop"
	@echo "make gpu        on a CUDA machine: its tests and tables, in eight minutes; WHEELS=FOLDER installs from there"
	@echo "make lint       lint and types only"
	@echo "make docs       the documentation site, in outputs/site"
	@echo "make venv       the virtual environment $(VENV) that the others use"
	@echo "make clean      remove that environment"

venv: $(STAMP)

# Done once, and again when the dependencies change.
$(STAMP): pyproject.toml constraints.txt
	@if ! $(PY) -c '$(SUPPORTED)' 2>/dev/null; then \
	    found=; for python in $(PYTHONS); do \
	        if $$python -c '$(SUPPORTED)' 2>/dev/null; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "error: no Python 3.10, 3.11 or 3.12 with venv found; on Debian 12: apt-get install python3-venv" >&2; \
	        exit 2; \
	    fi; \
	    echo "making $(VENV) with $$found"; \
	    $$found -m venv --clear $(VENV) || exit 1; \
	fi
	@$(PY) tools/system_packages.py
	@echo "installing (several GB the first time)"
	$(PY) -m pip install -e '.[dev]' -c constraints.txt
	@touch $@

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# Files go whole to workers, those with long tests first: what a file prepares, it prepares once.
PYTEST := $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: lint docs
	$(PYTEST)

test-fast: lint
	$(PYTEST) -m 'not slow' --few

demo: $(STAMP)
	$(PY) -u -m benchmarks.demo

# Offline: where there is an index, `pip wheel '.[dev]' 'setuptools>=77' -c constraints.txt -w FOLDER` fills a folder;
# on the machine with the GPU, `make gpu WHEELS=FOLDER`. The report is outputs/gpu/report.md.
gpu: export PIP_NO_INDEX := $(if $(WHEELS),1)
gpu: export PIP_FIND_LINKS := $(if $(WHEELS),$(abspath $(WHEELS)))
gpu:
	@if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then \
	    echo "error: make gpu needs a CUDA device, and this machine has none" >&2; exit 2; \
	fi
	@began=$$(date +%s); $(MAKE) venv && $(PY) -m benchmarks.gpu --began $$began

clean:
	rm -rf $(VENV)
