# Two environments: `.venv` for everything of ours, `.venv-triton` for the server and its Python backend (numpy < 2).
PYTHON ?= python3
CAMERAS ?= 8
SECONDS ?= 30
PORT ?=
FIFTY_SECONDS = $(if $(filter file,$(origin SECONDS)),60,$(SECONDS))
SOAK_SECONDS = $(if $(filter file,$(origin SECONDS)),1800,$(SECONDS))

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
RENDER := .venv/bin/python -m demo render --cameras 8 --seconds 36
CODE := clients deploy export loadtest demo tests

.DEFAULT_GOAL := help
.PHONY: help setup demo fifty emulator locust reliability fuzz soak test check format triton stack pins audit bench bench-setup clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.clients .venv-triton/.server ## install what the demo and your own cameras need (no torch)

demo: setup ## render cameras, run them through a real Triton, live wall: CAMERAS=8 SECONDS=30 PORT=8080
	@.venv/bin/python -m demo run --cameras $(CAMERAS) --seconds $(SECONDS) $(if $(PORT),--port $(PORT))

fifty: setup ## fifty H.264 cameras against a real Triton whose engines only wait: SECONDS=60
	@.venv/bin/python -m loadtest fifty --seconds $(FIFTY_SECONDS)

emulator: setup ## a Triton with an emulated T4 and its exporter, on ports 8000 to 8002 and 9401, until Ctrl-C
	@.venv/bin/python -m loadtest emulator

locust: setup .venv/.test ## Locust's web interface, loading an emulated T4 as cameras would; HOST=host:8001 for a server of yours
	@.venv/bin/locust -f loadtest/locustfile.py --web-host 127.0.0.1 $(if $(HOST),--host $(HOST))

reliability: setup ## faults injected into a running fleet, one after the other; no camera may be lost
	@.venv/bin/python -m loadtest reliability

fuzz: setup .venv/.test ## ten thousand hostile requests against a running Triton
	@.venv/bin/python -m loadtest fuzz

soak: setup ## a fleet under load for a long time, memory and open files watched: SECONDS=1800
	@.venv/bin/python -m loadtest soak --seconds $(SOAK_SECONDS)

test: setup .venv/.test ## run all tests against a real Triton (installs torch, CPU build)
	@$(RENDER) >/dev/null
	.venv/bin/python -m pytest --numprocesses 3 --dist loadfile

check: .venv/.test ## format, lint and types, as CI does
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/ruff check $(CODE)
	.venv/bin/mypy
	.venv/bin/python -m export configs --check

format: .venv/.test ## rewrite the code as `make check` wants it
	.venv/bin/ruff format $(CODE)
	.venv/bin/ruff check --fix $(CODE)

triton: setup ## run the demo's Triton alone, on ports 8000 to 8002, until Ctrl-C
	.venv/bin/python -m deploy.triton --config config.demo.yaml

bench: setup .venv/.test ## run all benchmarks that can run here, rewrite docs/benchmarks; goes on later: STEPS="planner decode"
	@.venv/bin/python -m loadtest bench $(foreach step,$(STEPS),--only $(step))

stack: setup .venv/.test ## the profile cpu of docker-compose.yml, its commands and checks, without an engine; seconds until detections
	@$(RENDER) >/dev/null
	@.venv/bin/python tests/compose_pod.py

pins: .venv/.test ## pin anew what the images install, after a change of pyproject.toml's groups
	.venv/bin/python -m deploy.pins

audit: .venv/.test ## known weaknesses of what the images install (asks PyPI), and whether the pins can still be had
	.venv/bin/python -m deploy.pins --check
	.venv/bin/pip-audit --strict --no-deps --disable-pip --requirement deploy/constraints.txt
	.venv/bin/pip-audit --strict --no-deps --disable-pip --requirement deploy/constraints-server.txt

bench-setup: .venv-bench/.done .venv-bench-older/.done ## install the trackers that `python -m demo tracking` compares with

clean: ## remove environments, clips and results
	rm -rf .venv .venv-triton .venv-bench .venv-bench-older out demo/clips demo/mot demo/runs

.venv/.clients: pyproject.toml
	@echo "installing the client's packages into .venv" >&2
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@.venv/bin/python $(PIP_INSTALL) --group clients
	@.venv/bin/python -c 'import cv2' || (echo "OpenCV cannot be loaded; on Debian: apt-get install libgl1 libglib2.0-0" >&2; exit 1)
	@touch $@

.venv/.test: .venv/.clients
	@echo "installing the packages for export, tests and checks into .venv" >&2
	@.venv/bin/python $(PIP_INSTALL) --group clients --group export --group load --group test --group lint
	@touch $@

.venv-triton/.server: pyproject.toml
	@echo "installing Triton into .venv-triton" >&2
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	@.venv-triton/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@.venv-triton/bin/python $(PIP_INSTALL) --group server
	@touch $@

# opponents in environments of their own: what they ask for never meets what we import
.venv-%/.done: pyproject.toml
	@echo "installing the dependency group $* into .venv-$*" >&2
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@.venv-$*/bin/python $(PIP_INSTALL) --group $*
	@touch $@
