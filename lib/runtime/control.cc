// The control page from inside: mapped at start, made here under a bare LD_PRELOAD. Freestanding; constructor or handler.
#include "lib/runtime/control.h"

#include <linux/wait.h>

#include "lib/runtime/aside.h"
#include "lib/runtime/environment.h"
#include "lib/runtime/numbers.h"
#include "lib/sys/proc-file.h"
#include "lib/sys/text.h"

namespace ckpt {

namespace {

using format::ControlPage;

constexpr int kReadWrite = O_RDWR | O_NOFOLLOW;
constexpr int kOfdGetLock = 36, kOfdSetLock = 37;

struct KernelFlock {
  short type;
  short whence;
  std::int64_t start;
  std::int64_t length;
  int pid;
};

bool is_usable(const ControlPage* control) {
  return memcmp(control->magic, format::kControlMagic, sizeof(control->magic)) == 0 &&
         control->oldest_peer <= format::kControlVersion && control->size == format::kControlSize;
}

// Keeps the text for good. nullptr: it is empty, longer than a path, or there is no memory.
const char* keep_text(const char* text) {
  if (*text == '\0') return nullptr;
  char* kept = g_state.texts + g_state.texts_used;
  if (sys::copy_text(kept, sizeof(g_state.texts) - g_state.texts_used, text)) {
    g_state.texts_used += static_cast<std::uint32_t>(strlen(kept)) + 1;
    return kept;
  }
  const auto room = sys::map(0, format::kPathBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return nullptr;
  kept = reinterpret_cast<char*>(room.value());
  return sys::copy_text(kept, format::kPathBytes, text) ? kept : nullptr;
}

// Maps the file; g_state.control stays as it was on failure.
void map_control(const char* path) {
  const sys::Fd fd(sys::open(path, kReadWrite));
  if (!fd.is_open()) return;
  const auto mapped = sys::map(0, format::kControlSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  if (mapped.failed()) return;
  char probe = 0;
  auto* control = reinterpret_cast<ControlPage*>(mapped.value());
  // A file that is too short would end us by SIGBUS at the first look.
  const bool is_whole = sys::pread(fd.get(), &probe, 1, format::kControlSize - 1).value() == 1;
  if (is_whole && is_usable(control)) g_state.launched_path = keep_text(path);
  if (g_state.launched_path == nullptr) {
    sys::unmap(static_cast<std::uint64_t>(mapped.value()), format::kControlSize).ignore();
    return;
  }
  g_state.control_path = g_state.launched_path;
  g_state.control = control;
  g_state.public_signal = static_cast<int>(control->settings.public_signal);
}

using Path = sys::Text<format::kPathBytes>;

// <name>-<pid>-<time>, as ckpt-launch names jobs.
void add_job_name(sys::Text<256>* name) {
  char comm[32] = "program";
  if (!sys::read_file("/proc/self/comm", comm, sizeof(comm)).failed()) {
    for (char* at = comm; *at != '\0'; ++at) {
      if (*at == '\n') *at = '\0';
    }
  }
  for (const char* at = comm; *at != '\0'; ++at) name->add_char(*at == '/' || *at <= ' ' ? '_' : *at);
  const std::int64_t seconds = sys::clock_ns(CLOCK_REALTIME) / 1'000'000'000;
  name->add_char('-').add_signed(g_state.pid).add_char('-');
  // Civil date from days since 1970, after the usual era arithmetic of the proleptic Gregorian calendar.
  const std::int64_t days = seconds / 86400 + 719468;
  const std::int64_t era = days / 146097;
  const std::int64_t day_of_era = days - era * 146097;
  const std::int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month_index = (5 * day_of_year + 2) / 153;
  const std::int64_t day = day_of_year - (153 * month_index + 2) / 5 + 1;
  const std::int64_t month = month_index < 10 ? month_index + 3 : month_index - 9;
  const std::int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  const std::int64_t second_of_day = seconds % 86400;
  name->add_number(static_cast<std::uint64_t>(year), 4).add_number(static_cast<std::uint64_t>(month), 2);
  name->add_number(static_cast<std::uint64_t>(day), 2)
      .add_char('T')
      .add_number(static_cast<std::uint64_t>(second_of_day / 3600), 2);
  name->add_number(static_cast<std::uint64_t>(second_of_day / 60 % 60), 2);
  name->add_number(static_cast<std::uint64_t>(second_of_day % 60), 2).add_char('Z');
}

// A path of the environment, absolute; false: there is none.
bool absolute_path(const char* given, char* to) {
  if (given[0] == '\0') return false;
  Path path;
  if (given[0] != '/') {
    char cwd[format::kPathBytes];
    if (sys::call(__NR_getcwd, cwd, sizeof(cwd)).failed()) return false;
    path.add(cwd).add_char('/');
  }
  path.add(given);
  return !path.is_cut() && sys::copy_text(to, format::kPathBytes, path.c_str());
}

void parse_codec(const char* text, format::Settings* settings) {
  settings->codec = format::Codec::kLz4;
  if (sys::equal(text, "none")) settings->codec = format::Codec::kNone;
  if (!sys::starts_with(text, "zstd")) return;
  settings->codec = format::Codec::kZstd;
  if (text[4] == ':') {
    const char* at = text + 5;
    settings->level = static_cast<std::uint8_t>(sys::parse_decimal(&at));
  }
}

bool fill_settings(const Environment& environment, format::Settings* settings) {
  Path home;
  home.add(environment.home).add("/.ckpt");
  const bool has_home = environment.home[0] == '/';
  if (!absolute_path(environment.directory, settings->directory) &&
      !(has_home && absolute_path(home.c_str(), settings->directory))) {
    return false;
  }
  absolute_path(environment.file, settings->file);
  sys::Text<256> name;
  add_job_name(&name);
  sys::copy_text(settings->job_name, sizeof(settings->job_name), name.c_str());
  const char* at = environment.keep;
  settings->keep = static_cast<std::uint32_t>(sys::parse_decimal(&at));
  if (settings->keep == 0) settings->keep = 2;
  parse_codec(environment.compress, settings);
  at = environment.signal;
  const unsigned long signal = sys::parse_decimal(&at);
  settings->public_signal = signal > 0 && signal <= sys::kSignals ? static_cast<std::uint32_t>(signal) : format::kPublicSignal;
  sys::call(__NR_getrandom, settings->job_id.bytes, sizeof(settings->job_id.bytes), 0).ignore();
  return true;
}

// A name may be taken: by what we were a moment ago, before an exec that told nobody of its job (execve by syscall(2), musl), or
// in another pid namespace. Another job's page is never used: the name gets a number then. Sets the name and the path of its file.
sys::Fd create_file(format::Settings* settings, Path* path) {
  constexpr unsigned kMostNames = 100;
  Path folder;
  folder.add(settings->directory);
  sys::call(__NR_mkdir, folder.c_str(), 0700).ignore();
  folder.add("/run");
  sys::call(__NR_mkdir, folder.c_str(), 0700).ignore();
  sys::Text<sizeof(settings->job_name)> first;
  first.add(settings->job_name);
  for (unsigned number = 1; number <= kMostNames; ++number) {
    sys::Text<sizeof(settings->job_name)> name;
    name.add(first.c_str());
    if (number > 1) name.add_char('-').add_number(number);
    *path = Path();
    path->add(folder.c_str()).add_char('/').add(name.c_str()).add(format::kControlSuffix);
    if (name.is_cut() || path->is_cut()) break;
    sys::copy_text(settings->job_name, sizeof(settings->job_name), name.c_str());
    const auto opened = sys::open(path->c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!opened.failed() || opened.error() != sys::kEexist) return sys::Fd(opened);
  }
  return sys::Fd();
}

// The job's control file under CKPT_DIR/run, where nobody launched us with one.
void create_control(const Environment& environment, format::Settings* settings) {
  if (!fill_settings(environment, settings)) return;
  Path path;
  {
    const auto umask = sys::call(__NR_umask, 077);
    const sys::Fd fd(create_file(settings, &path));
    sys::call(__NR_umask, umask.value()).ignore();
    if (!fd.is_open()) return;
    if (sys::call(__NR_fallocate, fd.get(), 0, 0, format::kControlSize).failed() &&
        sys::call(__NR_ftruncate, fd.get(), format::kControlSize).failed()) {
      sys::call(__NR_unlinkat, AT_FDCWD, path.c_str(), 0).ignore();
      return;
    }
    const auto mapped = sys::map(0, format::kControlSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
    if (mapped.failed()) return;
    auto* control = reinterpret_cast<ControlPage*>(mapped.value());
    memcpy(control->magic, format::kControlMagic, sizeof(control->magic));
    control->version = format::kControlVersion;
    control->oldest_peer = 1;
    control->size = format::kControlSize;
    control->root_pid = g_state.pid;
    control->seccomp_filters = sys::count_seccomp_filters("/proc/thread-self/status");
    for (unsigned i = 0; i < format::kNamespaces; ++i) {
      control->namespaces[i] = sys::read_namespace("/proc/self/ns", format::kNamespaceFiles[i]);
    }
    control->settings = *settings;
    sys::unmap(static_cast<std::uint64_t>(mapped.value()), format::kControlSize).ignore();
  }
  map_control(path.c_str());
}

// The entry of LD_PRELOAD that is us: libckpt.so, or a link to it (ckpt-launch).
void note_runtime_path(const char* preload) {
  constexpr char kName[] = "/libckpt";
  for (const char* at = preload; *at != '\0';) {
    Path entry;
    bool is_ours = false;
    for (; *at != '\0' && *at != ':' && *at != ' '; ++at) {
      is_ours |= sys::starts_with(at, kName);
      entry.add_char(*at);
    }
    if (is_ours && (g_state.runtime_path = keep_text(entry.c_str())) != nullptr) return;
    while (*at == ':' || *at == ' ') ++at;
  }
}

bool has_children() {
  siginfo_t info{};
  return !sys::call(__NR_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr).failed();
}

bool has_had_children() {
  constexpr int kOfChildren = -1;  // RUSAGE_CHILDREN
  std::uint64_t usage[18]{};
  sys::call(__NR_getrusage, kOfChildren, usage).ignore();
  std::uint64_t any = 0;
  for (const std::uint64_t value : usage) any |= value;
  return any != 0;
}

bool maps_our_page(int pid) {
  char buffer[format::kPathBytes + 128];
  sys::LineReader maps(sys::proc_path(pid, "maps").c_str(), buffer);
  while (const char* line = maps.is_open() ? maps.next() : nullptr) {
    if (sys::ends_with(line, g_state.control_path)) return true;
  }
  return false;
}

// Orphans of children that have ended: who began after the launch. A writer and ckpt-trigger need the page, but not its file.
bool is_mapped_by_others() {
  const int own = sys::getpid();
  const auto writer = static_cast<int>(g_state.control->writer_pid);
  char buffer[1024];
  sys::NumberDirectory processes("/proc", buffer);
  for (int pid = processes.is_open() ? processes.next() : -1; pid >= 0; pid = processes.next()) {
    const sys::StatFile stat(sys::proc_path(pid, "stat").c_str());
    const bool is_other = pid != own && pid != writer && stat.number(22) >= g_state.control->launched_ticks;
    if (is_other && !sys::starts_with(stat.name(), "ckpt-") && maps_our_page(pid)) return true;
  }
  return false;
}

// A checkpoint that comes meanwhile is not to find descriptors of ours: other threads may be running still.
bool is_mapped_by_others_aside() {
  bool is_mapped = true;
  const auto room = sys::map(0, kAsideStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return is_mapped;
  run_aside(
      reinterpret_cast<char*>(room.value()) + kAsideStack,
      [](void* result) { *static_cast<bool*>(result) = is_mapped_by_others(); }, &is_mapped);
  sys::unmap(static_cast<std::uint64_t>(room.value()), kAsideStack).ignore();
  return is_mapped;
}

// What a restarted process starts without our wrappers, as system(3) does, has the environment of before: the page that it names
// may be gone, where the restart made another (ckpt-restart --again).
void map_control_of_parent() {
  char buffer[format::kPathBytes + 128];
  const auto parent = static_cast<int>(sys::call(__NR_getppid).value());
  sys::LineReader maps(sys::proc_path(parent, "maps").c_str(), buffer);
  while (const char* line = maps.is_open() ? maps.next() : nullptr) {
    if (!sys::ends_with(line, format::kControlSuffix)) continue;
    while (*line != '/' && *line != '\0') ++line;
    return map_control(line);
  }
}

}  // namespace

void open_control() {
  // Not on the stack: its pages would be in the way of every fork, as those of State are.
  struct Scratch {
    Environment environment;
    format::Settings settings;
  };
  const auto room = sys::map(0, sizeof(Scratch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return;
  auto* scratch = reinterpret_cast<Scratch*>(room.value());
  read_environment(&scratch->environment);
  note_runtime_path(scratch->environment.preload);
  if (scratch->environment.control[0] != '\0') {
    map_control(scratch->environment.control);
    if (g_state.control == nullptr) map_control_of_parent();
  }
  if (g_state.control == nullptr) create_control(scratch->environment, &scratch->settings);
  sys::unmap(static_cast<std::uint64_t>(room.value()), sizeof(Scratch)).ignore();
}

void notice_restart() {
  if (g_state.control == nullptr || g_state.restarts_seen == g_state.restarts) return;
  char buffer[format::kPathBytes + 128];
  sys::LineReader maps("/proc/thread-self/maps", buffer);
  while (const char* line = maps.next()) {
    const char* at = line;
    if (sys::parse_hex(&at) != reinterpret_cast<std::uint64_t>(g_state.control)) continue;
    while (*at != '/' && *at != '\0') ++at;
    Tables* room = tables();
    if (room != nullptr && sys::ends_with(at, format::kControlSuffix) &&
        sys::copy_text(room->control_path, sizeof(room->control_path), at)) {
      g_state.control_path = room->control_path;
    }
    break;
  }
  // A thread keeps its slot under a new number as well.
  for (unsigned i = 0; i < g_state.slot_chunks * kSlotsPerChunk; ++i) slot_at(i)->tid = real_number(slot_at(i)->tid);
  g_state.restarts_seen = g_state.restarts;
}

// The first process of a job may end before the others: a daemon forks, and its parent exits.
void remove_control() {
  if (g_state.control == nullptr || g_state.control->root_pid != sys::getpid() || g_state.pid != sys::getpid()) return;
  // Our own thread takes no signal meanwhile.
  const std::uint64_t all = ~0ULL;
  std::uint64_t before = 0;
  sys::call(__NR_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all)).ignore();
  if (!has_children() && !(has_had_children() && is_mapped_by_others_aside()))
    sys::call(__NR_unlinkat, AT_FDCWD, g_state.control_path, 0).ignore();
  sys::call(__NR_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof(before)).ignore();
}

sys::Fd lock_for_writer() { return lock_for_writer(sys::Fd(sys::open(g_state.control_path, kReadWrite))); }

sys::Fd lock_for_writer(sys::Fd fd) {
  const KernelFlock lock{1 /* F_WRLCK */, 0, 0, 1, 0};
  if (!fd.is_open()) return fd;
  const int error = sys::call(__NR_fcntl, fd.get(), kOfdSetLock, &lock).error();
  // Where the file system knows no locks, the image is written all the same: it is only not noticed if the writer is killed.
  if (error == sys::kEagain || error == sys::kEacces) return sys::Fd();
  return fd;
}

bool is_writer_alive() {
  const sys::Fd fd(sys::open(g_state.control_path, kReadWrite));
  if (!fd.is_open()) return true;  // not known: rather wait than lose an image
  KernelFlock lock{1, 0, 0, 1, 0};
  return sys::call(__NR_fcntl, fd.get(), kOfdGetLock, &lock).failed() || lock.type != 2 /* F_UNLCK */;
}

void complain(const char* message) {
  sys::Text<1200> line;
  line.add("ckpt: cannot save process ").add_signed(g_state.pid).add(": ").add(message).add_char('\n');
  sys::write_all(2, line.c_str(), line.size()).ignore();
}

}  // namespace ckpt
