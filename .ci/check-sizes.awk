# .ci/check-sizes.awk FILE…: functions beyond 100 lines and files beyond 500 are findings, functions beyond 60 are named only.
# Relies on clang-format: a definition at file or namespace scope starts in the first column, and so does its closing brace.

BEGIN { if (!WARN) { WARN = 60; FAIL = 100; FILE_FAIL = 500 } }

FNR == 1 {
  close_file()
  file = FILENAME
  start = 0
}

{ lines = FNR }

/^[A-Za-z_~\[].*[(]|^(extern|template|static|constexpr|inline)\>/ && !start { head = FNR; title = $0 }
/^(namespace|struct|class|enum|union|extern "C" *{)/ && !start { head = 0 }
head && !start && /\{$/ && FNR - head < 12 { start = head }
/^[};]/ && !start { head = 0 }

start && /^}/ {
  size = FNR - start + 1
  if (size > FAIL) bad = 1
  if (size > WARN) printf "%s:%d: %s: a function of %d lines: %s\n", file, start, (size > FAIL ? "too long" : "note"), size, title
  start = head = 0
}

function close_file() {
  if (file != "" && lines > FILE_FAIL) {
    printf "%s: too long: %d lines\n", file, lines
    bad = 1
  }
}

END {
  close_file()
  exit bad
}
