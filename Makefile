# make demo   set up and segment the bundled clip
# make app    set up and open a page on this machine: make masks, track and correct them
# make test   set up, check format, style and types, and run all tests but the slow ones
# make lint   check format, style and types only
# make gpu    on a machine with a GPU: run the tests that need one, and print the tables of benchmarks
# make published   with network access: download DAVIS 2017 and the released weights, test them, and print
#                  their scores beside the published ones; ROOT=DIR is where the data sets lie
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
ROOT ?= data
# A module is compiled when it is first imported; compiling all 15,000 at once takes half a minute more.
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo app test test-slow lint gpu published clean

demo: $(VENV)/.installed
	$(RUN) demo/demo.py

app: $(VENV)/.installed-web
	$(RUN) demo/app.py --browser

# lint comes first, so that the last line printed is pytest's
test: lint
	$(RUN) -m pytest -q -n auto --dist loadfile -m "not slow" tests

test-slow: $(VENV)/.installed-dev
	$(RUN) -m pytest -q -m slow tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gpu: $(VENV)/.installed-dev
	$(RUN) -m pytest -q -rs -m gpu tests
	$(RUN) -m benchmarks.gpu
	$(RUN) -m benchmarks.training --device cuda --amp off bf16 fp16
	$(RUN) -m benchmarks.loaders --device cuda

published: $(VENV)/.installed
	$(RUN) -m benchmarks.published --root $(ROOT)

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and the other packages into $(VENV): some minutes, 5 GB with CUDA"
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.installed-web: $(VENV)/.installed requirements-web.txt
	$(INSTALL) -r requirements-web.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-web.txt
	$(INSTALL) -r requirements-dev.txt
	touch $@

clean:
	rm -rf runs output ckpt .pytest_cache .ruff_cache .mypy_cache
