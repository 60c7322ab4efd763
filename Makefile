# The two commands a newcomer needs are `make run` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_VENV := .venv-demo
MLFLOW_VENV := .venv-mlflow
FUZZ_CASES ?= 100000

.PHONY: help install test run demo geti-demo bench bench-check clean package deploy lock lint audit types fuzz
help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Create .venv with every pinned dependency

$(VENV)/.installed: requirements-dev.txt client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Model Registry needs Python 3.11 or newer, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (a minute or two, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable client
	@touch $@

run: install  ## Serve the registry here: make run [PORT=4566] [DATA_DIR=.local] [ACCESS=token] [any setting]
	@exec $(BIN)/python -m infra.local

demo: install $(DEMO_VENV)/.installed  ## Register a real trained model and run it: make demo [URL=http://...] [KEEP=1]
	@URL="$(URL)" REGISTRY_PYTHON="$(abspath $(BIN))/python" KEEP="$(KEEP)" exec $(DEMO_VENV)/bin/python -m demo

geti-demo: install $(DEMO_VENV)/.installed  ## Watch models of a simulated Geti arrive: make geti-demo [URL=http://...] [KEEP=1]
	@URL="$(URL)" REGISTRY_PYTHON="$(abspath $(BIN))/python" KEEP="$(KEEP)" exec $(DEMO_VENV)/bin/python -m demo.geti

# --no-deps: the list is complete, and leaves out what the demo does not need (pyproject.toml says what).
$(DEMO_VENV)/.installed: requirements-demo.txt
	@echo "Installing what the demo needs into $(DEMO_VENV) (about 80 MB, once) ..."
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements-demo.txt
	@touch $@

$(MLFLOW_VENV)/.installed: requirements-mlflow.txt requirements-mlflow-release.txt
	@echo "Installing MLflow, whose client is tried unmodified, into $(MLFLOW_VENV) (about 1 GB, a minute or two, once) ..."
	@$(PYTHON) -m venv $(MLFLOW_VENV)
	@$(MLFLOW_VENV)/bin/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-mlflow.txt
	@$(MLFLOW_VENV)/bin/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-mlflow-release.txt
	@touch $@

bench: install $(MLFLOW_VENV)/.installed  ## Count AWS calls, and compare with a bare function, boto3 and MLflow (docs/performance.md)
	@$(BIN)/python -m tests.bench

bench-check: install  ## Count AWS calls, capacity, modules and functions, and compare with tests/bench/baseline.json
	@$(BIN)/python -m tests.bench check

clean:  ## Remove what can be made again: the environment, packages and caches (data in DATA_DIR stays)
	rm -rf $(VENV) $(DEMO_VENV) $(MLFLOW_VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

package: install  ## Write the template and the archives for AWS to build/aws, and check the template
	$(BIN)/python -m infra.package build/aws
	$(BIN)/cfn-lint build/aws/template.json

deploy: package  ## Deploy to AWS: make deploy STACK=name BUCKET=name [PARAMETERS="Key=value ..."] (docs/deploy.md)
	@test -n "$(STACK)" && test -n "$(BUCKET)" || { echo "Say which stack, and which bucket takes the archives: make deploy STACK=model-registry BUCKET=my-archives" >&2; exit 1; }
	$(BIN)/aws cloudformation package --template-file build/aws/template.json --use-json \
		--s3-bucket "$(BUCKET)" --s3-prefix "$(STACK)" --output-template-file build/aws/deployed.json
	$(BIN)/aws cloudformation deploy --template-file build/aws/deployed.json --stack-name "$(STACK)" \
		--s3-bucket "$(BUCKET)" --s3-prefix "$(STACK)" --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND \
		--no-fail-on-empty-changeset $(if $(PARAMETERS),--parameter-overrides $(PARAMETERS))
	@$(BIN)/aws cloudformation describe-stacks --stack-name "$(STACK)" --output table \
		--query 'Stacks[0].Outputs[].[OutputKey,OutputValue]'

lock: install  ## Resolve the dependencies of pyproject.toml into the pinned requirements*.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --group dev pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" -c requirements-dev.txt pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" -c requirements-dev.txt --group demo -o requirements-demo.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" -c requirements-dev.txt --group mlflow -o requirements-mlflow.txt
	$(BIN)/uv pip compile -q --no-deps --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --group mlflow-release -o requirements-mlflow-release.txt

lint: install  ## Format and lint; look for code that is often a hole
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/bandit -q -c pyproject.toml -r app.py chalicelib client infra

audit: install  ## Ask PyPI for known vulnerabilities of every pinned package (needs the network)
	for pins in requirements.txt requirements-dev.txt requirements-demo.txt requirements-mlflow.txt; do \
		$(BIN)/uv tool run pip-audit==2.10.1 --strict --require-hashes --disable-pip -r $$pins || exit 1; \
	done

fuzz: install  ## Send made-up requests, files and headers, and count what became of them: make fuzz [FUZZ_CASES=100000]
	FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest -q -p no:randomly tests/fuzz

types: install  ## mypy --strict on what is shipped
	$(BIN)/mypy

# Two at a time, each file in one process; a process that needs the emulator starts one of its own.
test: lint types bench-check $(MLFLOW_VENV)/.installed  ## Every check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests
