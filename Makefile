# make demo [DATA=DIR] [PORT=8080]   train three classifiers and serve them with a page
# make test                          set up and run lint, type checks and tests
# make help                          the rest

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKOV := $(VENV)/checkov
CLIENTS := $(VENV)/clients
EXACTNESS := $(VENV)/exactness
RIVALS := $(VENV)/rivals
PORT ?= 8080
DEMO = $(BIN)/fovea demo --http-port $(PORT) $(if $(DATA),--data "$(DATA)")

.DEFAULT_GOAL := help
.PHONY: help pictures setup demo test test-slow lint format proto lock bench fuzz images smoke clean clients exactness rivals

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## virtual environment from the lock file

$(READY): requirements/dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "fovea: $(PYTHON) is not installed; install Python 3.11 or name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "fovea: $(PYTHON) is not Python 3.11; name one with PYTHON=..." >&2; exit 1; }
	@test $$(df -Pk . | awk 'NR == 2 { print $$4 }') -gt 6000000 || { echo "fovea: less than 6 GB of disk are free here; the virtual environment and the demo need them" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "fovea: $(PYTHON) cannot make a virtual environment; install its venv module (Debian: python3.11-venv)" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# It pins what it depends on, so it lives apart.
$(CHECKOV)/.ready: requirements/checkov.lock | $(READY)
	$(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/checkov.lock
	@touch $@

clients: $(CLIENTS)/.ready ## other projects' clients, which the tests then try too

$(CLIENTS)/.ready: requirements/clients.lock | $(READY)
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/clients.lock
	@touch $@

exactness: $(EXACTNESS)/.ready ## other projects' explanations, which the tests then compare with

# Its packages come before the project's own, which are all there too: one TensorFlow, the same arithmetic under both.
$(EXACTNESS)/.ready: requirements/exactness.lock | $(READY)
	$(PYTHON) -m venv $(EXACTNESS)
	$(EXACTNESS)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/exactness.lock
	@realpath $(VENV)/lib/python3.11/site-packages > $(EXACTNESS)/lib/python3.11/site-packages/project.pth
	@touch $@

rivals: $(RIVALS)/.ready ## other servers, beside which `python -m benchmarks.serving` measures

# As above.
$(RIVALS)/.ready: requirements/rivals.lock | $(READY)
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/rivals.lock
	@realpath $(VENV)/lib/python3.11/site-packages > $(RIVALS)/lib/python3.11/site-packages/project.pth
	@touch $@

demo: $(READY) ## train three classifiers on drawn pictures, or DATA=DIR, and serve them
	@exec $(DEMO)

test: $(READY) $(CHECKOV)/.ready lint ## lint, type checks and the tests
	$(BIN)/pytest -m "not slow"

test-slow: $(READY) ## the tests that take longer
	$(BIN)/pytest -m slow

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## let ruff format and mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(READY) ## generate the Python code of proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto --grpc_python_out=proto $$(ls proto/fovea/*/*.proto)
	@rm -f proto/fovea/v1/model_card_pb2_grpc.py

lock: $(READY) ## resolve requirements/*.lock afresh from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras $(LOCK) -o requirements/dev.lock
	$(BIN)/uv pip compile pyproject.toml --extra train $(LOCK) -c requirements/dev.lock -o requirements/train.lock
	$(BIN)/uv pip compile pyproject.toml requirements/gpu.in --extra train $(LOCK) -c requirements/dev.lock -o requirements/train-gpu.lock
	$(BIN)/uv pip compile pyproject.toml --extra otel --excludes requirements/serve.excludes $(LOCK) -c requirements/dev.lock -o requirements/serve.lock
	$(BIN)/uv pip compile requirements/checkov.in $(LOCK) -o requirements/checkov.lock
	$(BIN)/uv pip compile requirements/clients.in $(LOCK) -o requirements/clients.lock
	$(BIN)/uv pip compile requirements/exactness.in --excludes requirements/exactness.excludes $(LOCK) -c requirements/dev.lock -o requirements/exactness.lock
	$(BIN)/uv pip compile requirements/rivals.in --excludes requirements/rivals.excludes $(LOCK) -o requirements/rivals.lock
LOCK := --quiet --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

pictures: $(READY) ## make the pictures of the docs; `make demo` must run
	$(BIN)/python docs/pictures.py --address http://127.0.0.1:$(PORT)

bench: $(READY) ## measure; prints tables, writes JSON under .artifacts/
	$(BIN)/python -m benchmarks.gateway
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.explanations
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.capacity
	$(BIN)/python -m benchmarks.overload

fuzz: $(READY) ## damage 25,000 requests to a gateway, and let 100,000 grow; docs/security.md
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.fuzz_guided

images: ## build the images fovea-gateway and fovea-training and try them; docs/images.md
	deploy/build-images.sh
	deploy/try-images.sh

smoke: $(READY) ## ask a running gateway for everything once; URL=http://localhost:8080, GRPC=localhost:8081
	$(BIN)/python deploy/smoke.py --url $(or $(URL),http://localhost:$(PORT)) $(if $(GRPC),--grpc $(GRPC)) $(if $(MODEL),--model $(MODEL))

clean: ## remove environment, demo, runs and caches
	rm -rf $(VENV) demo runs .artifacts *.egg-info
