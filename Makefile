# make demo    tune a support vector machine on handwritten digits, and show what came of it
# make test    the tests
# make test-all    the tests and the slow ones
# make check   what CI runs: formatting, types (of the package, and of what users write), tests
# make notebooks    execute the scripts in notebooks/ into notebooks with their pictures: all, or ARGS="03 05"
#
# The first of them makes a virtual environment in $(VENV) with $(PYTHON), and installs everything into it.
# An interpreter that has everything already (a GPU machine without internet, say) is named by PY instead:
#
#     make test PY=python3
#
# ARGS goes to pytest: make test ARGS="tests/cli -k tell"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

ifdef PY
READY :=
else
PY    := $(VENV)/bin/python
READY := $(VENV)/.installed
endif

# Also from a checkout that nobody installed.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: setup demo test test-all check notebooks

setup: $(READY)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python >= 3.11 is needed, got {sys.version}")'
	@echo "Setting up $(VENV), once: about 2 GB, some minutes."
	@$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[dev,numba]'
	@touch $@

DEMO := demo/svm_digits.db

demo: setup
	@mkdir -p demo
	@rm -f $(DEMO) $(DEMO)-journal $(DEMO)-turns
	@echo "A new run, instead of any earlier one in demo/: the share of digits that a tuned SVM gets wrong, on held-out folds."
	@$(PY) -m bo_suite.cli minimize svm_digits --budget 40 --storage $(DEMO) --plot demo/svm_digits.png
	@$(PY) -c "$$DEFAULTS"

# gamma = 1/61 is scikit-learn's `scale` here: three of the 64 pixels are constant.
define DEFAULTS
from bo_suite.problems import get_problem
defaults = {"C": 1.0, "gamma": 1 / 61, "kernel": "rbf", "degree": 3, "coef0": 0.0}
print(f"defaults: {get_problem('svm_digits')(defaults):.6g} with scikit-learn's default parameters")
endef
export DEFAULTS

test: setup
	$(PY) -m pytest -q $$($(PY) -c 'import xdist' 2> /dev/null && echo '-n 2 --dist loadfile') $(ARGS)

test-all: setup
	$(PY) -m pytest -q $$($(PY) -c 'import xdist' 2> /dev/null && echo '-n 2 --dist loadfile') -m 'slow or not slow' $(ARGS)

check: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) tests/contracts/typed/check_types.py
	$(MAKE) test

notebooks: setup
	$(PY) -m pip install -q -c constraints.txt -e '.[notebooks]'
	$(PY) notebooks/execute.py $(ARGS)
