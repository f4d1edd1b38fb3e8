# .ci/check-includes.awk FILE…: may each file include what it includes? The folder tree is the architecture: arrows point down only.
# Rows are tried from the top, the first path that matches decides. FREE: what exists without a libc.

BEGIN {
  BARE = "<(cstddef|cstdint|type_traits)>"
  FREE = BARE "|<(span|bit|atomic|array|utility|concepts|limits|new|initializer_list|cstdarg|compare)>" \
    "|<(linux|asm|asm-generic)/.*>|<(zstd|lz4|xxhash)\\.h>"
  RECORD = "\"lib/resources/[a-z-]+/record\\.h\""
  FORMAT = "\"lib/format/.*\""
  SYS = "\"lib/sys/.*\""
  ARCH = "\"lib/sys/arch/.*\""

  row("lib/format/", BARE "|" FORMAT)
  row("lib/resources/[a-z-]+/record\\.h", BARE "|" FORMAT)
  row("lib/sys/arch/", FREE "|<(cpuid|immintrin|x86intrin)\\.h>|" FORMAT "|" SYS)
  row("lib/sys/", FREE "|" FORMAT "|" SYS)
  row("lib/common/", "<.*>|" FORMAT "|" RECORD "|\"lib/common/.*\"")
  row("lib/resources/[a-z-]+/rebuild-engine", FREE "|" FORMAT "|" SYS "|\"lib/resources/.*\"|\"restart/engine/.*\"")
  row("lib/resources/[a-z-]+/rebuild", "<.*>|" FORMAT "|" ARCH "|\"lib/(resources|common)/.*\"|\"restart/.*\"")
  row("lib/resources/", FREE "|" FORMAT "|" SYS "|\"lib/resources/.*\"")
  row("lib/runtime/", FREE "|" FORMAT "|" SYS "|\"lib/(resources|runtime)/.*\"")
  row("restart/engine/", FREE "|" FORMAT "|" SYS "|\"lib/resources/.*\"|\"restart/engine/.*\"")
  row("restart/", "<.*>|" FORMAT "|" ARCH "|\"lib/(resources|common)/.*\"|\"restart/.*\"")
  row("src/ckpt-restart\\.cc", "<.*>|" FORMAT "|" RECORD "|\"lib/common/.*\"|\"restart/.*\"")
  row("src/", "<.*>|" FORMAT "|" RECORD "|\"lib/common/.*\"")
}

function row(path, allowed) {
  paths[++rows] = "^" path
  may_include[rows] = "^(" allowed ")$"
}

FNR == 1 {
  for (i = 1; i <= rows && FILENAME !~ paths[i]; ++i) {
  }
  in_arch = FILENAME ~ /\/arch\//
}

i <= rows && match($0, /^ *# *include +([<"][^>"]*[>"])/, found) && found[1] !~ may_include[i] {
  printf "%s:%d: must not include %s\n", FILENAME, FNR, found[1]
  bad = 1
}

# What differs by CPU has its files in arch/<cpu>/, chosen by the Makefile.
i <= rows && !in_arch && /^ *# *(if|ifdef|elif).*__(x86_64|i386|aarch64|arm|riscv|powerpc)/ {
  printf "%s:%d: a CPU conditional outside arch/\n", FILENAME, FNR
  bad = 1
}

END { exit bad }
