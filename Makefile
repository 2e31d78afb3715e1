# The commands of the project. They need Python >= 3.11 with pip, and make; everything else lands in .venv.
# `make lab PYTHON=python3.12` picks an interpreter, `QUIET=` shows what pip does, `JOBS=4` tests in four processes.

PYTHON ?= python3
QUIET ?= -qq
OWN ?= my_notebooks
PRESENT ?= 00 10
PRESENT_HIDE ?=
SLIDES ?= 00 01
JOBS ?= 2
SITE_RUN ?= all
BESIDE = -n $(JOBS) --dist loadgroup
PIP = .venv/bin/python -m pip install $(QUIET) --disable-pip-version-check -c constraints.txt

.PHONY: help lab own pages site slides present test fast check demo notebooks pictures students solutions assignment bench clean

help:
	@echo "make lab        set up everything, open JupyterLab on your copies of the notebooks, in $(OWN)/"
	@echo "make pages      your notebooks, as they were saved, as HTML without solutions, in pages/"
	@echo "make site       course, docs and API as pages, in build/site/html   (some notebooks: SITE_RUN='00 01')"
	@echo "make present    notebooks 00 and 10 as pages without code, for a lecture   (PRESENT_HIDE=seed,spare)"
	@echo "make slides     notebooks 00 and 01 as slides that need no network, in slides/   (SLIDES='00 08')"
	@echo "make test       set up everything, run all tests          (some: ARGS='tests/runs/test_history.py')"
	@echo "make fast       the tests that take less than ten seconds each, without a browser"
	@echo "make check      what needs no run: lint, format, types, layering, notebooks in step"
	@echo "make demo       the whole story without a browser: table, recorded run, replay page in demo/"
	@echo "make notebooks  write the .ipynb files anew from the .py files, without outputs"
	@echo "make pictures   the picture at the top of each notebook, from a run  (then: make notebooks)"
	@echo "make students   copies of the notebooks without their solutions, in students/"
	@echo "make solutions  copies with the solutions put in, the key for a teacher, in solutions/"
	@echo "make assignment the course for nbgrader: source/ and release/, in assignment/"
	@echo "make bench      do training steps run here, and how fast?   (longer: dmtg-lite bench)"
	@echo "make clean      remove .venv, caches and demo/ (never prepared/, runs/ or $(OWN)/)"

# Lab saves outputs by itself, so it works on copies. A copy is somebody's work: it is never overwritten.
own:
	@mkdir -p "$(OWN)/img" && cp notebooks/img/* "$(OWN)/img"
	@for one in notebooks/[0-9]*.ipynb; do \
	    copy="$(OWN)/$${one##*/}"; \
	    if [ ! -e "$$copy" ]; then cp "$$one" "$$copy"; \
	    elif [ "$$one" -nt "$$copy" ]; then \
	        echo "$$copy is yours and stays, but $$one is newer: rename yours to get it."; \
	    fi; \
	done

pages: .venv/installed own
	@.venv/bin/jupyter nbconvert --log-level=WARN --to html --output-dir=pages --embed-images \
	    --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_input_tags=solution \
	    "$(OWN)"/[0-9]*.ipynb
	@echo "pages/*.html written from $(OWN)/*.ipynb."

# Notebooks are executed once, and again when their code or the library changes. SITE_RUN=none: none is.
site: .venv/installed
	@.venv/bin/python docs/site/build.py --run $(SITE_RUN)

lab: .venv/installed own
	@printf "%b\n" "Starting JupyterLab on 127.0.0.1; the address below carries your token. Ctrl-C stops it.\nOn a small screen Ctrl+B hides the list of files, so that a live view fits."
	@flags=; \
	if [ "$$(id -u)" = 0 ]; then flags="--allow-root"; fi; \
	if [ "$$(uname)" != Darwin ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
	    flags="$$flags --no-browser"; \
	fi; \
	exec .venv/bin/jupyter lab --ip=127.0.0.1 --log-level=ERROR $$flags \
	    --ServerApp.root_dir="$(OWN)" --LabApp.default_url=/doc/tree/00_start_here.ipynb

present: .venv/installed
	@exec .venv/bin/python -m dmtg_lite present --hide "$(PRESENT_HIDE)" \
	    $(foreach one,$(PRESENT),$(wildcard notebooks/$(one)_*.ipynb))

slides: .venv/installed
	@.venv/bin/python notebooks/tools/slides.py --out slides $(SLIDES)

# Two processes, then two with a browser each, then what watches the clock, alone. 5: nothing there of what was asked for.
test: .venv/installed
	@none=5; part() { \
	    .venv/bin/python -m pytest "$$@"; code=$$?; [ $$code = 5 ] && return; none=$$code; [ $$code = 0 ] || exit $$code; \
	}; \
	part $(BESIDE) -m "not ui" $(ARGS); \
	part -n $(JOBS) --dist loadfile -m "ui and not clock" $(or $(ARGS),tests/ui); \
	part -m clock $(or $(ARGS),tests/ui); exit $$none

fast: .venv/installed
	@.venv/bin/python -m pytest $(BESIDE) -m "not slow and not ui" $(ARGS)

check: .venv/installed
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet dmtg_lite tests benchmarks data_scripts docs
	@.venv/bin/pyright
	@.venv/bin/python docs/draw_house.py --check
	@.venv/bin/python -m pytest -q tests/project/test_layering.py tests/project/test_hygiene.py

demo: .venv/installed
	@.venv/bin/python -m dmtg_lite demo --out demo

notebooks: .venv/installed
	@.venv/bin/jupytext --quiet --update --set-kernel python3 --to ipynb notebooks/*.py
	@.venv/bin/jupyter nbconvert --log-level=ERROR --clear-output --inplace notebooks/*.ipynb \
	    --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.clear_cell_metadata=False \
	    --ClearMetadataPreprocessor.preserve_nb_metadata_mask=kernelspec
	@echo "notebooks/*.ipynb written from notebooks/*.py."

pictures: .venv/installed
	@.venv/bin/python notebooks/tools/pictures.py

students solutions assignment: .venv/installed
	@.venv/bin/python notebooks/tools/solutions.py --as $@ --out $@

bench: .venv/installed
	@.venv/bin/python -m dmtg_lite bench --quick $(ARGS)

clean:
	@rm -rf .venv build dist demo dmtg_lite.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Removed .venv, caches and demo/."

# Made once, and again when the requirements change. PyTorch first: its pin decides what the rest may ask for.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is missing or older than Python 3.11. Name a newer one: make PYTHON=python3.12 ..."; \
	    exit 2; }
	@if $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	elif $(PYTHON) -m virtualenv --version >/dev/null 2>&1; then $(PYTHON) -m virtualenv -q .venv; \
	else \
	    echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt install python3-venv;"; \
	    echo "anywhere: $(PYTHON) -m pip install virtualenv. Then run make again."; \
	    exit 2; \
	fi
	@echo "Installing into .venv, once. 1/2: PyTorch (a minute or two; its CUDA build is several GB)."
	@$(PIP) torch
	@echo "2/2: JupyterLab, the widgets and the test tools (about a minute)."
	@$(PIP) -e '.[all]'
	@.venv/bin/jupyter labextension disable @jupyter/nbgrader \
	    @jupyterlab/apputils-extension:announcements >/dev/null 2>&1  # grading is by command; no question about news
	@touch $@
