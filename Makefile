# Every target sets up what it needs; the work is in scripts/. PYTHON=python3.12 chooses another interpreter.
IN_ROS := . .venv/ros2.sh &&

.PHONY: help setup demo test test-slow lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## virtual environment, ROS 2 from PyPI unless one is sourced, messages and nodes; then: source .venv/ros2.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh

demo: setup ## the node labels scans sent over DDS; SCAN=file, folder or bag, WEIGHTS=file for your own
	@$(IN_ROS) python -m twodpass_ros.demo $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(SCAN),"$(SCAN)")

# The core's tests run side by side, the nodes' one after another: those watch the clock. 5: none of these were chosen.
test: lint ## lint, type check and all quick tests
	@$(IN_ROS) OMP_NUM_THREADS=1 python -m pytest -q -rs -n logical --maxprocesses 4 --dist loadfile --ignore test/ros $(PYTEST) || [ $$? = 5 ]
	@$(IN_ROS) python -m pytest -q -rs test/ros $(PYTEST) || [ $$? = 5 ]

test-slow: setup ## the long tests: overload, endurance, kill -9
	@$(IN_ROS) python -m pytest -q -rs -m slow $(PYTEST)

# Older numpys' type stubs are less complete: the last for Python 3.10, and those of a ROS 2 from apt.
lint: setup ## ruff, and mypy where numpy is 2.4 or newer
	@$(IN_ROS) ruff check && ruff format --check
	@$(IN_ROS) old=$$(python -c 'import numpy; print(numpy.lib.NumpyVersion(numpy.__version__) < "2.4.0")') && \
	  if [ $$old = True ]; then echo "Types are not checked: that needs numpy 2.4 or newer"; \
	  else mypy twodpass_core twodpass_ros test/*.py test/support && mypy test/ros; fi

bench: setup ## time by stage of one scan, then what the node adds to it; SCAN=, WEIGHTS= as above
	@$(IN_ROS) twodpass benchmark $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(SCAN),"$(SCAN)")
	@$(IN_ROS) python -m twodpass_ros.benchmark $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(SCAN),"$(SCAN)")

clean: ## remove everything that set-up, demo and tests made
	rm -rf .venv demo_output build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find launch scripts test twodpass_core twodpass_ros -name __pycache__ -prune -exec rm -rf {} +
