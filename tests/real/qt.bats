#!/usr/bin/env bats
# A program with windows: it works, on a screen that is not there.

# bats file_tags=user
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "Qt with a window, timers and a thread" {
  "$(system_program python3)" -c 'import PyQt5.QtWidgets' 2>/dev/null || skip "no PyQt5"
  cat >"$BATS_TEST_TMPDIR/work.py" <<'PY'
import hashlib, sys
from PyQt5 import QtCore, QtGui, QtWidgets
class Worker(QtCore.QThread):
    done = QtCore.pyqtSignal(int, str)
    def run(self):
        value = b"x"
        for n in range(60):
            for _ in range(80000):
                value = hashlib.sha256(value).digest()
            self.done.emit(n, value.hex())
app = QtWidgets.QApplication(sys.argv)
window = QtWidgets.QLabel("nothing yet")
window.resize(400, 60)
window.show()
ticks = 0
def tick():
    global ticks
    ticks += 1
timer = QtCore.QTimer()
timer.timeout.connect(tick)
timer.start(10)
def show(n, text):
    window.setText(text)
    window.repaint()
    image = window.grab().toImage().convertToFormat(QtGui.QImage.Format_RGB32)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    print(n, text, hashlib.sha256(bytes(bits)).hexdigest(), flush=True)
worker = Worker()
worker.done.connect(show)
worker.finished.connect(app.quit)
worker.start()
app.exec()
worker.wait()
print(ticks > 10)
PY
  mkdir -m 700 "$BATS_TEST_TMPDIR/runtime"
  export HOME=$BATS_TEST_TMPDIR XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/runtime QT_QPA_PLATFORM=offscreen
  same_output_over_three_restarts "$(system_program python3)" "$BATS_TEST_TMPDIR/work.py"
}
