// Wrappers of the exec family and of posix_spawn(3): what a member starts with another environment (env -i, a shell's
// LD_PRELOAD=…) stays in the job. The kernel can't be asked for this: after such an exec nothing leads back to the control page.
//
// Only what is missing is added: CKPT_CONTROL where no job is named, our library where LD_PRELOAD lacks it. A program that names
// another job is left alone. May run in a child of vfork, or of a fork among threads: no locks, no allocation but on the stack.
// Of libc only posix_spawn is called.
#include <cstdarg>

#include "lib/runtime/control.h"
#include "lib/runtime/state.h"
#include "lib/runtime/wrappers/libc.h"
#include "lib/sys/memory.h"
#include "lib/sys/text.h"

namespace {

using namespace ckpt;

using Strings = const char* const*;

extern "C" {
[[gnu::weak]] extern char** environ;
}

constexpr char kControl[] = "CKPT_CONTROL=";
constexpr char kPreload[] = "LD_PRELOAD=";
constexpr std::size_t kLongestName = 255;  // NAME_MAX
constexpr int kEnoexec = 8, kEnodev = 19, kEnotdir = 20, kEstale = 116;

std::size_t length_of(const char* text) {
  std::size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

std::size_t count(Strings strings) {
  std::size_t number = 0;
  while (strings != nullptr && strings[number] != nullptr) ++number;
  return number;
}

Strings own_environment() { return &environ != nullptr ? environ : nullptr; }

// LD_PRELOAD is split at spaces and colons.
bool has_runtime(const char* list) {
  const std::size_t wanted = length_of(g_state.runtime_path);
  for (const char* at = list; *at != '\0';) {
    std::size_t length = 0;
    while (at[length] != '\0' && at[length] != ':' && at[length] != ' ') ++length;
    if (length == wanted && memcmp(at, g_state.runtime_path, wanted) == 0) return true;
    at += length + (at[length] != '\0' ? 1 : 0);
  }
  return false;
}

struct Missing {
  bool control = true, preload = true;
  bool is_of_other_job = false;
  std::size_t control_at = ~std::size_t{0};  // an entry that names the page of before a restart (ckpt-restart --again)
  std::size_t preload_at = ~std::size_t{0};  // an entry that lacks us
};

Missing find_missing(Strings environment) {
  Missing missing;
  for (std::size_t i = 0; environment != nullptr && environment[i] != nullptr; ++i) {
    if (sys::starts_with(environment[i], kControl)) {
      const char* path = environment[i] + sizeof(kControl) - 1;
      missing.control = !sys::equal(path, g_state.control_path);
      missing.is_of_other_job = missing.control && !sys::equal(path, g_state.launched_path);
      missing.control_at = i;
    }
    if (!sys::starts_with(environment[i], kPreload)) continue;
    missing.preload = !has_runtime(environment[i] + sizeof(kPreload) - 1);
    missing.preload_at = i;
  }
  return missing;
}

char* append(char* to, const char* text) {
  while (*text != '\0') *to++ = *text++;
  *to = '\0';
  return to;
}

// Calls `run` with the environment that keeps what it starts in the job. The additions live on the stack meanwhile.
template <typename Run>
int in_job(Strings environment, Run run) {
  if (g_state.control == nullptr || g_state.runtime_path == nullptr) return run(environment);
  notice_restart();
  const Missing missing = find_missing(environment);
  if (missing.is_of_other_job || (!missing.control && !missing.preload)) return run(environment);
  const std::size_t entries = count(environment);
  auto** extended = static_cast<const char**>(__builtin_alloca((entries + 3) * sizeof(char*)));
  std::size_t used = 0;
  for (; used < entries; ++used) extended[used] = environment[used];
  if (missing.control) {
    auto* text = static_cast<char*>(__builtin_alloca(sizeof(kControl) + length_of(g_state.control_path)));
    append(append(text, kControl), g_state.control_path);
    extended[missing.control_at < entries ? missing.control_at : used++] = text;
  }
  if (missing.preload) {
    const bool is_there = missing.preload_at < entries;
    const char* others = is_there ? environment[missing.preload_at] + sizeof(kPreload) - 1 : "";
    auto* text = static_cast<char*>(__builtin_alloca(sizeof(kPreload) + length_of(g_state.runtime_path) + 1 + length_of(others)));
    char* end = append(append(text, kPreload), g_state.runtime_path);
    if (*others != '\0') append(append(end, ":"), others);
    extended[is_there ? missing.preload_at : used++] = text;
  }
  extended[used] = nullptr;
  return run(extended);
}

int execute(const char* path, Strings arguments, Strings environment) {
  return fail_with(sys::call(__NR_execve, path, arguments, environment).error());
}

// As a shell does it: a file that the kernel does not know how to run is a script of /bin/sh.
int execute_or_interpret(const char* path, Strings arguments, Strings environment) {
  const int error = sys::call(__NR_execve, path, arguments, environment).error();
  if (error != kEnoexec) return error;
  const std::size_t given = count(arguments);
  auto** shell = static_cast<const char**>(__builtin_alloca((given + 3) * sizeof(char*)));
  shell[0] = "/bin/sh";
  shell[1] = path;
  for (std::size_t i = 1; i < given; ++i) shell[i + 1] = arguments[i];
  shell[given > 0 ? given + 1 : 2] = nullptr;
  return sys::call(__NR_execve, "/bin/sh", shell, environment).error();
}

bool may_be_elsewhere(int error) {
  return error == sys::kEnoent || error == sys::kEacces || error == kEnotdir || error == kEstale || error == kEnodev ||
         error == sys::kEtimedout;
}

const char* search_path() {
  for (Strings at = own_environment(); at != nullptr && *at != nullptr; ++at) {
    if (sys::starts_with(*at, "PATH=")) return *at + 5;
  }
  return "/bin:/usr/bin";
}

// exec(3): along PATH, as glibc and musl do it.
int search_and_execute(const char* file, Strings arguments, Strings environment) {
  const std::size_t length = length_of(file);
  if (length == 0) return fail_with(sys::kEnoent);
  for (std::size_t i = 0; i < length; ++i) {
    if (file[i] == '/') return fail_with(execute_or_interpret(file, arguments, environment));
  }
  if (length > kLongestName) return fail_with(sys::kEnametoolong);
  bool is_forbidden = false;
  int error = sys::kEnoent;
  for (const char* folder = search_path();; ++folder) {
    sys::Text<format::kPathBytes + kLongestName> path;
    for (; *folder != '\0' && *folder != ':'; ++folder) path.add_char(*folder);
    if (path.size() > 0) path.add_char('/');
    path.add(file);
    if (!path.is_cut()) error = execute_or_interpret(path.c_str(), arguments, environment);
    if (!may_be_elsewhere(error)) return fail_with(error);
    is_forbidden |= error == sys::kEacces;
    if (*folder == '\0') break;
  }
  return fail_with(is_forbidden ? sys::kEacces : error);
}

// The arguments that stand in the call itself, up to nullptr.
template <typename Run>
int with_listed(const char* first, va_list* list, Run run) {
  std::size_t number = 0;
  va_list counted;
  va_copy(counted, *list);
  for (const char* at = first; at != nullptr; at = va_arg(counted, const char*)) ++number;
  va_end(counted);
  auto** arguments = static_cast<const char**>(__builtin_alloca((number + 1) * sizeof(char*)));
  for (std::size_t i = 0; i < number; ++i) arguments[i] = i == 0 ? first : va_arg(*list, const char*);
  if (number > 0) static_cast<void>(va_arg(*list, const char*));
  arguments[number] = nullptr;
  return run(static_cast<Strings>(arguments));
}

using Spawn = int(std::int32_t*, const char*, const void*, const void*, Strings, Strings);

int spawn(Spawn** function, const char* name, std::int32_t* pid, const char* path, const void* actions, const void* attributes,
          Strings arguments, Strings environment) {
  if (*function == nullptr) *function = reinterpret_cast<Spawn*>(find_in_libc(name));
  if (*function == nullptr) return sys::kEnosys;
  return in_job(environment, [&](Strings extended) { return (*function)(pid, path, actions, attributes, arguments, extended); });
}

constinit Spawn* libc_spawn = nullptr;
constinit Spawn* libc_spawnp = nullptr;

}  // namespace

extern "C" {

#define CKPT_EXPORT [[gnu::visibility("default")]]

CKPT_EXPORT int execve(const char* path, Strings arguments, Strings environment) {
  return in_job(environment, [&](Strings extended) { return execute(path, arguments, extended); });
}

CKPT_EXPORT int execv(const char* path, Strings arguments) { return execve(path, arguments, own_environment()); }

CKPT_EXPORT int execvpe(const char* file, Strings arguments, Strings environment) {
  return in_job(environment, [&](Strings extended) { return search_and_execute(file, arguments, extended); });
}

CKPT_EXPORT int execvp(const char* file, Strings arguments) { return execvpe(file, arguments, own_environment()); }

CKPT_EXPORT int fexecve(int fd, Strings arguments, Strings environment) {
  constexpr int kEmptyPath = 0x1000;  // AT_EMPTY_PATH
  return in_job(environment, [&](Strings extended) {
    const int error = sys::call(__NR_execveat, fd, "", arguments, extended, kEmptyPath).error();
    if (error != sys::kEnosys) return fail_with(error);
    sys::Text<64> path;
    path.add("/proc/self/fd/").add_signed(fd);
    return execute(path.c_str(), arguments, extended);
  });
}

CKPT_EXPORT int execveat(int fd, const char* path, Strings arguments, Strings environment, int flags) {
  return in_job(environment, [&](Strings extended) {
    return fail_with(sys::call(__NR_execveat, fd, path, arguments, extended, flags).error());
  });
}

CKPT_EXPORT int execl(const char* path, const char* first, ...) {
  va_list list;
  va_start(list, first);
  const int result = with_listed(first, &list, [&](Strings arguments) { return execv(path, arguments); });
  va_end(list);
  return result;
}

CKPT_EXPORT int execlp(const char* file, const char* first, ...) {
  va_list list;
  va_start(list, first);
  const int result = with_listed(first, &list, [&](Strings arguments) { return execvp(file, arguments); });
  va_end(list);
  return result;
}

CKPT_EXPORT int execle(const char* path, const char* first, ...) {
  va_list list;
  va_start(list, first);
  const int result = with_listed(first, &list, [&](Strings arguments) { return execve(path, arguments, va_arg(list, Strings)); });
  va_end(list);
  return result;
}

CKPT_EXPORT int posix_spawn(std::int32_t* pid, const char* path, const void* actions, const void* attributes, Strings arguments,
                            Strings environment) {
  return spawn(&libc_spawn, "posix_spawn", pid, path, actions, attributes, arguments, environment);
}

CKPT_EXPORT int posix_spawnp(std::int32_t* pid, const char* file, const void* actions, const void* attributes, Strings arguments,
                             Strings environment) {
  return spawn(&libc_spawnp, "posix_spawnp", pid, file, actions, attributes, arguments, environment);
}
}
