// Reads the first bytes of a program: ELF headers, or the #! line of a script.
#include "lib/common/program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/fd.h"

namespace ckpt {
namespace {

constexpr int kMostInterpreters = 5;  // as the kernel: BINPRM_MAX_RECURSION
constexpr std::size_t kHeadSize = 4096;

[[noreturn]] void refuse(const std::string& path, std::string_view reason) {
  throw Error("run", path, reason, ExitCode::kNotRunnable);
}

// 0, or the errno that executing it would give.
int error_of_executing(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

[[noreturn]] void throw_not_runnable(const std::string& name, int error) {
  const bool is_missing = error == ENOENT || error == ENOTDIR;
  throw Error::from_errno("run", name, error, is_missing ? ExitCode::kNotFound : ExitCode::kNotRunnable);
}

std::vector<char> read_head(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.is_open() && errno == EACCES) refuse(path, "it can't be read, so it can't be checkpointed");
  if (!fd.is_open()) throw Error::from_errno("read", path, errno);
  std::vector<char> head(kHeadSize);
  const ssize_t got = pread(fd.get(), head.data(), head.size(), 0);
  if (got < 0) throw Error::from_errno("read", path, errno, ExitCode::kNotRunnable);
  head.resize(static_cast<std::size_t>(got));
  return head;
}

// Such a program runs in secure mode, where the dynamic linker ignores LD_PRELOAD.
void check_privileges(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw_not_runnable(path, errno);
  if ((status.st_mode & S_ISUID) != 0) refuse(path, "it is a set-uid program, which can't be checkpointed");
  if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0) {
    refuse(path, "it is a set-gid program, which can't be checkpointed");
  }
  if (getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    refuse(path, "it has file capabilities, which can't be checkpointed");
  }
}

bool has_interpreter(const std::vector<char>& head, const Elf64_Ehdr& header, const std::string& path) {
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::uint64_t at = header.e_phoff + std::uint64_t{i} * sizeof segment;
    if (header.e_phentsize != sizeof segment || at > head.size() - sizeof segment)
      refuse(path, "its program headers are not where they belong");
    std::memcpy(&segment, head.data() + at, sizeof segment);
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

void check_elf(const std::vector<char>& head, const std::string& path) {
  Elf64_Ehdr header;
  if (head.size() < sizeof header) refuse(path, "it is cut short");
  std::memcpy(&header, head.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64) refuse(path, "it is a 32-bit program, which can't be checkpointed");
  if (header.e_machine != EM_X86_64 || header.e_ident[EI_DATA] != ELFDATA2LSB) refuse(path, "it is for another architecture");
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) refuse(path, "it is no executable");
  if (!has_interpreter(head, header, path)) refuse(path, "it is statically linked, which can't be checkpointed");
}

// The interpreter of a #! line, or /bin/sh for text without one, as execvp(3) does.
std::string interpreter_of(const std::vector<char>& head, const std::string& path) {
  if (head.empty()) return "/bin/sh";
  const std::string_view text(head.data(), std::min<std::size_t>(head.size(), 255));
  if (!text.starts_with("#!")) {
    if (text.find('\0') != text.npos) refuse(path, "it is in no known format");
    return "/bin/sh";
  }
  const std::string_view line = text.substr(2, std::min(text.find('\n'), text.size()) - 2);
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == line.npos) refuse(path, "its first line names no interpreter");
  return std::string(line.substr(begin, line.find_first_of(" \t", begin) - begin));
}

bool is_elf(const std::vector<char>& head) { return head.size() >= SELFMAG && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0; }

}  // namespace

std::string find_program(const std::string& name) {
  if (name.empty()) throw_not_runnable(name, ENOENT);
  if (name.find('/') != name.npos) {
    if (const int error = error_of_executing(name); error != 0) throw_not_runnable(name, error);
    return name;
  }
  const char* value = std::getenv("PATH");
  std::string_view folders = value != nullptr ? value : "/bin:/usr/bin";
  int worst = ENOENT;
  for (;;) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    const std::string path = (folder.empty() ? std::string(".") : std::string(folder)) + "/" + name;
    const int error = error_of_executing(path);
    if (error == 0) return path;
    // A folder we may not search hides nothing that we could run.
    struct stat status {};
    if (error == EACCES && stat(path.c_str(), &status) == 0) worst = error;
    if (folder.size() == folders.size()) throw_not_runnable(name, worst);
    folders.remove_prefix(folder.size() + 1);
  }
}

void check_program(const std::string& path) {
  std::string current = path;
  for (int i = 0; i < kMostInterpreters; ++i) {
    const auto head = read_head(current);
    if (is_elf(head)) {
      check_privileges(current);
      return check_elf(head, current);
    }
    current = interpreter_of(head, current);
    if (const int error = error_of_executing(current); error != 0) {
      throw Error("run", path, "its interpreter " + quote(current) + ": " + describe_errno(error),
                  error == ENOENT ? ExitCode::kNotFound : ExitCode::kNotRunnable);
    }
  }
  refuse(path, "too many interpreters");
}

}  // namespace ckpt
