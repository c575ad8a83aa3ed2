# Everything below needs Python 3.11 or later with pip, and make; the rest is fetched by hash into .tools and .venv.
PYTHON ?= python3
SERVE ?= 1
TESTS ?= tests
# Tests start servers of their own and wait for disks: two at a time also where there are two processors.
WORKERS ?= 2
BENCH ?=
SAME_EVENTS ?= 200000
SAME_QUESTIONS ?= 2000

BIN := .venv/bin
UV := .tools/bin/uv
READY := .venv/.ready
COMPILE := $(UV) pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url

.PHONY: setup test same hammer split campaign check format pages vendor screenshots bench demo pins clean

setup: $(READY)

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(TESTS)

# A long run of one test: the same events and questions on every kind of ledger, compared to the byte.
same: $(READY)
	TALLYSTICK_TEST_SAME_EVENTS=$(SAME_EVENTS) TALLYSTICK_TEST_SAME_QUESTIONS=$(SAME_QUESTIONS) \
		$(BIN)/python -m pytest --override-ini faulthandler_timeout=0 tests/api/test_same_replies.py

# A long run of one test: holds on the last units, asked for by 256 clients at once, on every kind of ledger.
hammer: $(READY)
	TALLYSTICK_TEST_CLIENTS=256 TALLYSTICK_TEST_HISTORIES=200 TALLYSTICK_TEST_SPLIT_ONE_OF=1 \
		$(BIN)/python -m pytest tests/ledger/test_hammer.py

# All that is tested of commits that are split by account; make test runs one of six.
split: $(READY)
	TALLYSTICK_TEST_SPLIT_ONE_OF=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal tests -k "split or Split"

# Long runs of what make test runs slices of: power cuts, failing calls, flipped bits, kills, models. Hours.
campaign: $(READY)
	TALLYSTICK_TEST_IMAGES=2000 TALLYSTICK_TEST_FAILURES=40 TALLYSTICK_TEST_FLIPS=2000 TALLYSTICK_TEST_KILLS=60 \
		TALLYSTICK_TEST_COPY_KILLS=25 TALLYSTICK_TEST_MISHAPS=12 TALLYSTICK_TEST_SCRIPTS=60 TALLYSTICK_TEST_EXAMPLES=200 \
		$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --override-ini faulthandler_timeout=0 \
		tests/faults tests/kill tests/ledger/test_model.py tests/ledger/test_model_postgres.py \
		tests/ledger/test_copy_model.py tests/ledger/test_admission_model.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_house.py tests/test_docs.py

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Writes the pages of the reference that are made from the code.
pages: $(READY)
	$(BIN)/python -m tests.generated

# Renews what the dashboard carries of others, in the versions that its list names; needs npm.
vendor: $(READY)
	$(BIN)/python -m tests.dashboard.vendoring

# Makes the pictures of the dashboard that the pages show; needs Chromium.
screenshots: $(READY)
	$(BIN)/python -m tests.dashboard.screenshots

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

demo: $(READY)
	SERVE=$(SERVE) $(BIN)/python -m tallystick demo

# Renews every pin. --no-annotate and --no-emit-index-url keep addresses out of the files.
pins: $(UV)
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra postgres requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) requirements/clients.in -c requirements/dev.txt -o requirements/clients.txt

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks dist build

# pip may write to a folder of ours even where it may not touch the system's packages.
$(UV): requirements/uv.txt
	$(PYTHON) -m pip install --quiet --root-user-action=ignore --upgrade --target .tools --require-hashes --no-deps -r requirements/uv.txt
	@touch $@

$(READY): $(UV) requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
