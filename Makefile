# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
BUDGET ?= 50s
QUALITY ?= 20s
BENCHES ?= spline_step flow_sampling unet_step drawing vae_epoch gpt_step generation trainer_overhead serving

.PHONY: demo test test-slow test-mutants lint bench bench-tables gpu quality generate docs notebooks clean

.venv/pip: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/pip-test: .venv/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: .venv/pip  ## train all five families on the built-in digits and write demo/report.html
	$(BIN)/quintet compare digits --budget $(BUDGET) --runs demo/runs -o demo/report.html

test: .venv/pip-test  ## the fast suite, one thread a process; a file stays in one of them, and so do its fixtures
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/pip-test  ## minutes of training: quality of the defaults, speed of the trainer
	$(BIN)/pytest -m slow -s -p no:xdist

test-mutants: .venv/pip-test  ## plants bugs one at a time, each caught by a named test; writes docs/mutants.md
	$(BIN)/python tests/mutants.py -o docs/mutants.md

lint: .venv/pip-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/test_advisories.py

.venv-bench/pip: pyproject.toml constraints.txt benchmarks/peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r benchmarks/peers.txt
	.venv-bench/bin/pip uninstall --quiet --yes torchvision  # its builds are not those of every torch, and nobody needs it
	touch $@

bench: .venv-bench/pip  ## speed beside other libraries, in rounds; writes docs/benchmarks.md (about an hour)
	for task in $(BENCHES); do .venv-bench/bin/python benchmarks/$$task.py || exit 1; done
	.venv-bench/bin/python benchmarks/page.py

.venv-bench-tables/pip: pyproject.toml constraints.txt benchmarks/peers-tables.txt
	$(PYTHON) -m venv .venv-bench-tables
	.venv-bench-tables/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e . \
		-r benchmarks/peers-tables.txt
	.venv-bench-tables/bin/pip uninstall --quiet --yes torchvision torchaudio  # as above
	touch $@

bench-tables: .venv-bench-tables/pip  ## tables beside other libraries, before several judges (about two hours)
	.venv-bench-tables/bin/python benchmarks/tables.py
	.venv-bench-tables/bin/python benchmarks/page.py

gpu: .venv/pip  ## every family on one GPU, in at most nine minutes; writes benchmarks/results/gpu.json
	$(BIN)/python benchmarks/gpu.py

quality: .venv/pip-test  ## every family on every named set, QUALITY a run; writes docs/results.md (about an hour)
	$(BIN)/python benchmarks/quality.py --budget $(QUALITY)

generate: .venv/pip  ## what the READMEs and docs/ take from the code
	$(BIN)/python docs/generate.py

.venv-docs/pip: docs/requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/requirements.txt
	touch $@

docs: generate .venv-docs/pip  ## the site of the documentation, in English and Chinese, in build/site
	.venv-docs/bin/python docs/website.py

notebooks: .venv/pip  ## the tutorials as notebooks, run from their first to their last line (about half an hour)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[text]' -r docs/notebooks.txt
	$(BIN)/python docs/notebooks.py --run

clean:
	rm -rf .venv .venv-bench .venv-bench-tables .venv-docs demo build *.egg-info
