# `make demo` (or `make demo AUDIO=my_file.wav`), `make test`, and `make test-all` with the slow tests.

PYTHON ?= $(shell for name in python3.12 python3.13 python3.11 python3 python; do \
	if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	then echo $$name; break; fi; done)
VENV := .venv
READY := $(VENV)/ready
READY_TO_TEST := $(VENV)/ready-to-test
# tests/conftest.py has the order of the modules.
PYTEST := $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
AUDIO ?= examples/noisy.flac
OUTPUT ?= restored
export RECORDING := $(value AUDIO)

.PHONY: demo test test-all corpus clean

demo: $(READY)
	@mkdir -p "$(OUTPUT)"
	$(VENV)/bin/python inference.py "$$RECORDING" inference.output_dir="$(OUTPUT)" \
		inference.spectrogram=true inference.overwrite=true

test: $(READY_TO_TEST)
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not slow"

test-all: $(READY_TO_TEST)
	$(VENV)/bin/ruff check .
	$(PYTEST)

corpus: $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-corpus.txt
	$(VENV)/bin/python prepare_data.py

$(READY): requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found." \
		"Install one or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)

$(READY_TO_TEST): requirements-test.txt requirements-app.txt requirements-corpus.txt $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		$(addprefix -r ,$(filter requirements-%,$^))
	@touch $(READY_TO_TEST)

clean:
	rm -rf $(VENV) "$(OUTPUT)"
