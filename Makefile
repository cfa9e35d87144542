# `make demo` (or `make demo AUDIO=my_file.wav`), `make test`, and `make test-all` with the slow tests.

PYTHON ?= $(shell for name in python3.12 python3.13 python3.11 python3 python; do \
	if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	then echo $$name; break; fi; done)
VENV := .venv
ENVIRONMENT := $(VENV)/bin/pip
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
READY_TO_DENOISE := $(VENV)/ready-to-denoise
READY := $(VENV)/ready
READY_TO_TEST := $(VENV)/ready-to-test
# tests/conftest.py has the order of the modules.
PYTEST := $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
AUDIO ?= examples/noisy.flac
OUTPUT ?= restored
export RECORDING := $(value AUDIO)

.PHONY: demo test test-all corpus clean

demo: $(READY_TO_DENOISE)
	@mkdir -p "$(OUTPUT)"
	$(VENV)/bin/denoise "$$RECORDING" inference.output_dir="$(OUTPUT)" \
		inference.spectrogram=true inference.overwrite=true

test: $(READY_TO_TEST)
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not slow"

test-all: $(READY_TO_TEST)
	$(VENV)/bin/ruff check .
	$(PYTEST)

corpus: $(READY)
	$(PIP) -r requirements-corpus.txt
	$(VENV)/bin/python prepare_data.py

$(ENVIRONMENT):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found." \
		"Install one or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The command and its pictures, without TensorFlow; -e: a change of the checkout takes effect at once.
$(READY_TO_DENOISE): requirements-onnx.txt pyproject.toml | $(ENVIRONMENT)
	$(PIP) -e . librosa matplotlib
	@touch $@

$(READY): requirements.txt | $(ENVIRONMENT)
	$(PIP) -r requirements.txt
	@touch $@

$(READY_TO_TEST): requirements-test.txt requirements-app.txt requirements-corpus.txt $(READY)
	$(PIP) $(addprefix -r ,$(filter requirements-%,$^))
	@touch $@

clean:
	rm -rf $(VENV) "$(OUTPUT)"
