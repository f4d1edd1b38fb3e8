#!/usr/bin/env bats
# A Jupyter kernel under nbconvert: two processes that talk over sockets, checkpointed at three random moments, killed and restarted.

# bats file_tags=user
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "a jupyter kernel under nbconvert" {
  "$(system_program python3)" -c 'import nbconvert, ipykernel' 2>/dev/null || skip "no nbconvert"
  cat >"$BATS_TEST_TMPDIR/write.py" <<'PY'
import nbformat.v4 as v4, nbformat, sys
cells = ["import hashlib, threading\nvalue = b''"]
for n in range(8):
    cells.append("for i in range(150000): value = hashlib.sha256(value + b'%d').digest()\nprint(%d, value.hex())\nthreading.active_count() > 1" % (n, n))
notebook = v4.new_notebook(cells=[v4.new_code_cell(text) for text in cells])
notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(notebook, sys.argv[1])
PY
  export HOME=$BATS_TEST_TMPDIR TMPDIR=$BATS_TEST_TMPDIR PYTHONWARNINGS=ignore
  "$(system_program python3)" "$BATS_TEST_TMPDIR/write.py" "$BATS_TEST_TMPDIR/work.ipynb"
  same_output_over_three_restarts "$(system_program python3)" -m nbconvert --log-level=ERROR --execute --to markdown --stdout \
    "$BATS_TEST_TMPDIR/work.ipynb"
}
