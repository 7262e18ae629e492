# `make demo`, `make test`, `make test-all`, `make lint`: each sets up all that it needs.
#
#   make test PYTHON=python3.12     with a Python of your choice (3.11 to 3.13)
#
# Everything goes into .venv, with the versions of constraints/, by uv where there is one
# and by pip elsewhere. A .venv that is there already is used as it is.

# The newest that runs: a name on the PATH can be a shim without a Python behind it.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import venv; print("$(p)")' 2>/dev/null)) python3)
BIN = .venv/bin
WORKERS = 2

SUPPORTED = $(patsubst constraints/%.txt,%,$(wildcard constraints/*.txt))
VERSION = import sys; print("%d.%d" % sys.version_info[:2])
UV := $(shell command -v uv 2>/dev/null)

ifneq ($(filter command%,$(origin PYTHON)),)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell $(PYTHON) -c '$(VERSION)'),$(shell $(BIN)/python -c '$(VERSION)'))
$(error .venv has another Python than $(PYTHON); remove .venv to change it)
endif
endif
endif

.PHONY: demo test test-all lint constraints
.NOTPARALLEL:

demo: .venv/.run
	$(BIN)/python launch.py train --config=experiments/localize.py --workdir=$(RUN)
	$(BIN)/python launch.py evaluate --workdir=$(RUN)
	@printf '%s\n' $(TEXTS) > $(RUN)/texts.txt
	@$(BIN)/python launch.py predict --workdir=$(RUN) < $(RUN)/texts.txt \
	  > $(RUN)/answers.txt
	@echo
	@paste -d '>' $(RUN)/texts.txt $(RUN)/answers.txt | sed 's/>/  ->  /'
	@echo
	@echo "Curves: $(RUN)/curves.png    Scores: $(RUN)/summary.json"
	@echo "Next, from English to Japanese: $(BIN)/python launch.py train" \
	  "--config=experiments/localize.py:to_locale=ja --workdir=runs/japanese"

RUN = runs/localize
TEXTS = 'Tuesday, August 19, 2031' 'Mar 4, 1999' '7:45 PM' '-1,234,567.8' '62.5%' \
	'14,750 Japanese yen' '18 hectares' '5 hours, 40 minutes' '312 days ago' \
	'Kenya, Peru, and Japan'

test: .venv/.dev
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile \
	  --no-loadscope-reorder --quiet

test-all: .venv/.dev
	$(BIN)/python -m pytest --quiet -m ""

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# Renews constraints/ with the newest releases that setup.cfg allows; needs uv.
constraints:
	for version in $(SUPPORTED); do \
	  uv pip compile setup.cfg --upgrade --python-version $$version --extra dev \
	    --extra hub --extra report --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --quiet \
	    --output-file constraints/$$version.txt || exit 1; \
	done

.venv/.run: what = .
.venv/.dev: what = .[dev]
.venv/.run .venv/.dev: .venv/bin/python setup.cfg pyproject.toml $(wildcard constraints/*.txt)
	@echo "Installing steepest into .venv: about 1 GB, a minute or two."
	@version=$$($(BIN)/python -c '$(VERSION)') && \
	$(if $(UV),uv pip install --quiet --python $(BIN)/python,\
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check) \
	  --editable '$(what)' --constraint constraints/$$version.txt
	@touch $@

.venv/bin/python:
	@version=$$($(PYTHON) -c '$(VERSION)') && test -e constraints/$$version.txt || { \
	  echo "$(PYTHON) is Python $$version; Steepest runs on $(SUPPORTED)." \
	    "Choose one by: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(if $(UV),uv venv --quiet --seed --python "$$(command -v $(PYTHON))" .venv,\
	  $(PYTHON) -m venv .venv)
