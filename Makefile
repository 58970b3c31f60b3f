# Two commands set up everything by themselves: `make demo` and `make test`.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
PEERS ?= faiss,usearch,numpy
EXTRAS ?= test
# Ray takes 500 MB: it has an environment of its own.
RAY_VENV ?= .venv-ray

.PHONY: help setup demo quick test test-ray torture lint docs bench

help: ## Show what there is to make.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with binq, its extras and the test tools.

$(READY): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(VENV) && \
		uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[$(EXTRAS)]'; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'; \
	fi
	@$(BIN)/python -m binq.kernels
	@touch $@

demo: $(READY) ## Build an index from sample_data/, query it, print what recall it has.
	@mkdir -p demo
	$(BIN)/binq build sample_data/docs.parquet -o demo/docs.binq --rescore int8
	$(BIN)/binq query demo/docs.binq sample_data/queries.parquet -k 3 --format jsonl | head -n 2
	$(BIN)/binq eval demo/docs.binq sample_data/queries.parquet --truth sample_data/docs.parquet \
		--rescore none
	$(BIN)/binq eval demo/docs.binq sample_data/queries.parquet --truth sample_data/docs.parquet \
		--qrels sample_data/qrels.tsv --oversample 10

quick: $(READY) ## Run the tests that are not marked slow.
	$(BIN)/python -m pytest -n auto -m "not slow and not torture"

test: lint ## Run all checks and tests.
	$(BIN)/python -m pytest -n auto

test-ray: ## Run the tests of --engine ray on a local cluster, in an environment of its own.
	@$(MAKE) --no-print-directory setup VENV=$(RAY_VENV) EXTRAS=test,ray
	$(RAY_VENV)/bin/python -m pytest -m ray

torture: $(READY) ## Try faults and damage in full counts, of which make test tries a tenth.
	$(BIN)/python -m pytest -n auto -m torture --durations=10

lint: $(READY) ## Check style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(READY) ## Fill in the outputs and the reference that documents show.
	$(BIN)/python scripts/docs.py

bench: $(READY) ## Measure speed beside peers.
	$(BIN)/binq bench --peers $(PEERS)
