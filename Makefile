# Everything runs in .venv; only Python 3.11+ and make need to be installed beforehand.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# An active environment must not leak into this one. Nor must a setting that keeps Python from storing what it has compiled:
# each process would compile PyTorch's files again, and importing them would take three times as long.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET MPLBACKEND PYTHONDONTWRITEBYTECODE

# The first suitable interpreter, so that an old `python3` does not hide a `python3.12`.
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -I -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
# The machine's own uv if it works and is not too old (before 0.6.9 it has no --torch-backend), else one in .venv.
UV = $(shell uv pip install --torch-backend cpu --help >/dev/null 2>&1 && echo uv || echo $(BIN)/uv)
GET_UV = test $(UV) = uv || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# A .venv that was moved, or whose Python no longer exists, is rebuilt.
ifneq "$(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null)" "$(CURDIR)"
$(shell rm -f $(STAMP))
endif

# On Linux there are two builds of PyTorch. The lock's includes CUDA, several gigabytes; the one without (cpu) is on PyTorch's
# own index. TORCH=cpu or TORCH=cuda selects one; by default .venv keeps its build, and a new .venv gets the one that suits
# the machine. A .venv with the other build is rebuilt.
ifneq "$(filter-out cpu cuda,$(TORCH))" ""
$(error TORCH is $(TORCH), but must be cpu (PyTorch without CUDA) or cuda)
endif
HAS := $(if $(wildcard $(STAMP)),$(or $(shell cat .venv/.torch 2>/dev/null),cuda))
ifneq "$(filter-out $(or $(TORCH),$(HAS)),$(HAS))" ""
$(shell rm -f $(STAMP))
endif
LINUX := $(filter Linux,$(shell uname -s))
BUILD = $(if $(LINUX),$(or $(TORCH),$(HAS),$(if $(shell nvidia-smi -L 2>/dev/null),cuda,cpu)),cuda)
WHY_cpu = without CUDA, because nvidia-smi shows no GPU (make setup TORCH=cuda installs the other build)
WHY_cuda = with CUDA, because nvidia-smi shows a GPU (make setup TORCH=cpu installs the other build)

INSTALL = $(UV) pip install --quiet --python $(BIN)/python --no-deps
WITHOUT_CUDA = awk '/^[^ ]/ { kept = !/^(torch|torchvision|triton|cuda-[^ ]*|nvidia-[^ ]*)==/ } kept' requirements.lock
# The lock's versions without its hashes, which belong to other files.
INSTALL_CPU_TORCH = $(INSTALL) --torch-backend cpu $(shell awk '/^torch(vision)?==/ { print $$1 }' requirements.lock)

# uv needs a writable folder for its cache, which a read-only home does not have.
WRITABLE = $(shell d="$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/uv}"; \
	while [ ! -e "$$d" ] && [ "$$d" != "$${d%/*}" ]; do d="$${d%/*}"; done; [ -d "$${d:-/}" ] && [ -w "$${d:-/}" ] && echo yes)
ifneq "$(WRITABLE)" "yes"
export UV_CACHE_DIR := $(CURDIR)/.uv
endif

# uv has its own certificates; behind a company's proxy only the machine's own work.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1
endif

BOOK := _build/html
CHECKED := _build/.checked
SOURCES := _config.yml $(wildcard book/* book/*/* book/*/*/* colab/*) $(wildcard alexnet_course/*.py alexnet_course/*/*)

PDF := _build/alexnet-course.pdf

.PHONY: help setup book pdf serve test test-fast execute formulas notebooks readdress results lint lock clean

help:  ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with the exact versions of requirements.lock

# A .venv without its stamp is incomplete and is rebuilt. --no-deps: the lock is complete, and d2l's old pins must be
# ignored (see pyproject.toml).
$(STAMP): requirements.lock pyproject.toml
	@$(or $(PYTHON),false) -I -c '$(USABLE)' 2>/dev/null || { echo "Found no Python 3.11 or newer with its venv module:" \
	  "install one (Debian, Ubuntu: apt install python3-venv) or name one (make PYTHON=/path/to/python3)." >&2; exit 1; }
	@echo "Creating .venv (once; PyTorch is a large download)"
	@$(if $(LINUX),$(if $(TORCH)$(HAS),,echo "PyTorch is installed $(WHY_$(BUILD))."))
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@$(GET_UV)
	@build=$(BUILD); \
	if [ $$build = cpu ] && ! UV_HTTP_RETRIES=0 $(INSTALL_CPU_TORCH) --dry-run 2>/dev/null; then \
	  echo "PyTorch without CUDA cannot be downloaded from PyTorch's own index;" \
	    "$(if $(TORCH),make setup TORCH=cuda installs it with CUDA,it is installed with CUDA, several gigabytes more)." >&2; \
	  $(if $(TORCH),exit 1,build=cuda); \
	fi; \
	if [ $$build = cpu ]; then $(WITHOUT_CUDA) | $(INSTALL) --require-hashes -r - && $(INSTALL_CPU_TORCH); \
	else $(INSTALL) --require-hashes -r requirements.lock; fi && echo $$build > .venv/.torch
	@$(INSTALL) --no-build-isolation --editable .
	@echo "$(CURDIR)" > $@

book: $(CHECKED)  ## render the book into _build/html
	@echo "The book is ready. Open $(CURDIR)/$(BOOK)/index.html"

# Always rebuilt completely: Sphinx does not repeat the warnings of unchanged pages.
$(CHECKED): $(STAMP) $(SOURCES) tests/check_html.py
	@echo "Rendering the book"
	@rm -rf $(BOOK) $@
	@$(BIN)/jupyter-book build book --config _config.yml --path-output . --all --quiet --nitpick --warningiserror --keep-going \
	  > /dev/null
	@$(BIN)/python tests/check_html.py $(BOOK)
	@touch $@

pdf: $(PDF)  ## print the book into _build/alexnet-course.pdf (needs Chromium)
	@echo "The book is printed: $(CURDIR)/$(PDF)"

$(PDF): $(CHECKED)
	@echo "Printing the book"
	@$(BIN)/python book/pdf.py

serve: $(CHECKED)  ## show the book at http://localhost:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(BOOK) 8000

test test-fast execute: export ALEXNET_COURSE_PROFILE := quick

test: $(STAMP)  ## run the unit tests, all chapters here and as on Colab, and the book in a browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --ignore tests/browser --ignore tests/colab
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	  --nbval --nbval-current-env --nbval-cell-timeout=600 book/*.ipynb
	@echo "Running the chapters with other versions, as on Colab (the first time, PyTorch is a large download)"
	@$(BIN)/python -m pytest -rs tests/colab
	@$(MAKE) --no-print-directory book
	@if $(BIN)/python book/pdf.py --can-print; then $(MAKE) --no-print-directory pdf; fi
	@$(BIN)/python -m pytest -rs tests/browser

test-fast: $(STAMP)  ## run only the fast unit tests, in parallel
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -m 'not slow' --ignore tests/browser --ignore tests/colab

execute: $(STAMP)  ## run every chapter and store its outputs (quick profile)
	@$(BIN)/python book/execute.py

formulas: $(STAMP)  ## typeset the formulas of the book and store them (needs Chromium)
	@$(BIN)/python book/formulas.py

notebooks: $(STAMP)  ## write the chapters as plain notebooks, for Colab and others
	@$(BIN)/python book/notebooks.py

readdress: $(STAMP)  ## set the address of a copy of the course: make readdress URL=https://github.com/OWNER/NAME
	@$(BIN)/python book/readdress.py $(URL)

results: $(STAMP)  ## write the results of the records into README.md and the model cards
	@$(BIN)/python -m benchmarks.costs
	@$(BIN)/alexnet-course results --write README.md
	@$(BIN)/python -m benchmarks.weights

lint: $(STAMP)  ## run ruff, mypy, import-linter and codespell
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/codespell

lock: $(STAMP)  ## update requirements.lock after a change to pyproject.toml
	@$(GET_UV)
	@$(UV) pip compile --quiet pyproject.toml --extra book --extra test --group d2l --universal --python-version 3.11 \
	  --generate-hashes --no-header -o requirements.lock

clean:  ## remove all generated files except .venv, data and runs
	@rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find alexnet_course tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
