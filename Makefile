# Two commands to know: make demo, make test. Python 3.11 or newer is all that they need.
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PARTS ?=
ROWS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_SYSTEM_CERTS := 1

.NOTPARALLEL:
.PHONY: demo test lint docs prove bench clean

# A tour with real pictures; leaves ./demo-store to play with.
demo: $(VENV)/.demo
	@$(BIN)/python -m demo.tour demo-store

# Everything that must be right before a commit, in a few minutes. pytest's closing line is the last.
test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Write the parts of the documentation that follow from the code.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

# The long counts, other Pythons and both lines of SQLAlchemy: hours, in parts, kept in .prove/.
prove: $(VENV)/.dev
	@.ci/prove $(PARTS)

# Measure, and write benchmarks/RESULTS.md. One row: make bench ROWS=put
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ROWS)

clean:
	rm -rf $(VENV) .prove .bench demo-store .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# uv takes seconds where pip takes a minute; pip alone knows a mirror set up in pip.conf.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(BIN)/uv
	@echo "Installing what 'make $(MAKECMDGOALS)' needs into $(VENV) ..."
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --compile-bytecode --editable . --group $* 2>$(VENV)/uv.log \
	  || { $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" \
	       && $(BIN)/python -m pip install --quiet --editable . --group $*; }
	@touch $@

$(BIN)/uv:
	@test -x $(BIN)/python || .ci/python -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet uv
