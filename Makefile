# make demo: set up and segment the bundled clip.   make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slow clean

demo: $(VENV)/.installed
	$(RUN) demo/demo.py

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -q -n auto --dist loadfile -m "not slow" tests

test-slow: $(VENV)/.installed-dev
	$(RUN) -m pytest -q -m slow tests

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf runs output ckpt .pytest_cache
