// process: collects identity, limits and what else belongs to the process as a whole.
#include "lib/resources/process/collect.h"

#include <linux/capability.h>
#include <linux/membarrier.h>
#include <linux/prctl.h>
#include <linux/wait.h>

#include <new>

#include "lib/resources/collector.h"
#include "lib/resources/process/record.h"
#include "lib/resources/terminals/record.h"
#include "lib/sys/kcmp.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

static std::uint32_t umask_in(sys::FieldReader* status) {
  const char* octal = status->find("Umask");
  return octal == nullptr ? kNoUmask : static_cast<std::uint32_t>(sys::parse_octal(&octal));
}

std::uint32_t read_umask(const char* status_path) {
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status(status_path, buffer);
  return umask_in(&status);
}

namespace {

constexpr int kPrGetNoNewPrivs = 39;
constexpr unsigned kLimits = 16;
constexpr std::size_t kCommandBytes = 1U << 20;

// The kernel forgets another one at exec(2), and without that no process comes back.
bool tells_end_by_sigchld(Collector* collector, const sys::StatFile& stat) {
  const std::int64_t signal = stat.signed_number(38);
  if (signal < 0 || signal == SIGCHLD) return true;
  collector->refuse().add("its parent is told of its end by signal ").add_signed(signal).add(" instead of SIGCHLD (clone(2))");
  return false;
}

// Another process of the job that shares what each is to have for itself: made by clone(2) without CLONE_THREAD.
bool has_own_tables(Collector* collector) {
  constexpr struct {
    int what;
    const char* name;
  } kShared[] = {{KCMP_VM, "its memory (CLONE_VM)"},
                 {KCMP_FILES, "its descriptors (CLONE_FILES)"},
                 {KCMP_FS, "its working directory (CLONE_FS)"},
                 {KCMP_SIGHAND, "its handlers of signals (CLONE_SIGHAND)"}};
  const int parent = static_cast<int>(sys::call(__NR_getppid).value());
  if (collector->session == nullptr || !is_member(*collector, parent)) return true;
  for (const auto& shared : kShared) {
    if (!sys::is_shared(sys::gettid(), parent, shared.what)) continue;
    collector->refuse().add("it shares ").add(shared.name).add(" with process ").add_signed(parent).add(", its parent");
    return false;
  }
  return true;
}

void describe_family(format::ProcessRecord* record, const sys::StatFile& stat) {
  record->parent_pid = static_cast<std::int32_t>(stat.number(4));
  record->group_id = static_cast<std::int32_t>(stat.number(5));
  record->session_id = static_cast<std::int32_t>(stat.number(6));
  record->terminal = format::pair_of_device(static_cast<std::uint32_t>(stat.number(7)));
  record->foreground_group = static_cast<std::int32_t>(stat.signed_number(8));
}

void read_credentials(format::ProcessRecord* record) {
  sys::call(__NR_getresuid, &record->uid[0], &record->uid[1], &record->uid[2]).ignore();
  sys::call(__NR_getresgid, &record->gid[0], &record->gid[1], &record->gid[2]).ignore();
  record->uid[3] = static_cast<std::uint32_t>(sys::call(__NR_setfsuid, -1).value());
  record->gid[3] = static_cast<std::uint32_t>(sys::call(__NR_setfsgid, -1).value());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  sys::call(__NR_capget, &header, data).ignore();
  const auto join = [](std::uint32_t low, std::uint32_t high) { return static_cast<std::uint64_t>(high) << 32 | low; };
  record->cap_effective = join(data[0].effective, data[1].effective);
  record->cap_permitted = join(data[0].permitted, data[1].permitted);
  record->cap_inheritable = join(data[0].inheritable, data[1].inheritable);
}

void add_limits(Collector* collector) {
  for (unsigned resource = 0; resource < kLimits; ++resource) {
    struct {
      std::uint64_t soft, hard;
    } limit{};
    if (sys::call(__NR_prlimit64, 0, resource, nullptr, &limit).failed()) continue;
    for (unsigned i = 0; i < 2; ++i) {
      if (SoftLimits::kResources[i] == resource && collector->limits->is_raised[i]) limit.soft = collector->limits->soft[i];
    }
    auto* record = collector->add_record<format::LimitRecord>(format::RecordType::kLimit);
    if (record != nullptr) *record = {resource, 0, limit.soft, limit.hard};
  }
}

std::int64_t read_number(const char* path, bool is_hexadecimal) {
  char text[32];
  const auto size = sys::read_file(path, text, sizeof(text));
  if (size.failed() || size.value() == 0) return 0;
  const char* at = text;
  if (is_hexadecimal) return static_cast<std::int64_t>(sys::parse_hex(&at));
  const bool is_negative = *at == '-';
  if (is_negative) ++at;
  const auto value = static_cast<std::int64_t>(sys::parse_decimal(&at));
  return is_negative ? -value : value;
}

// Which kinds of membarrier(2) the process has registered for. Before Linux 6.3 it must be tried: each works only when registered.
std::uint32_t read_membarriers() {
  const auto told = sys::call(__NR_membarrier, 1 << 9 /* MEMBARRIER_CMD_GET_REGISTRATIONS */, 0, 0);
  if (!told.failed()) return static_cast<std::uint32_t>(told.value());
  std::uint32_t registered = 0;
  for (const int command :
       {MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ}) {
    if (!sys::call(__NR_membarrier, command, 0, 0).failed()) registered |= static_cast<std::uint32_t>(command) << 1;
  }
  return registered;
}

std::uint32_t read_option(int option) {
  const auto value = sys::call(__NR_prctl, option, 0, 0, 0, 0);
  return value.failed() ? 0 : static_cast<std::uint32_t>(value.value());
}

void add_state(Collector* collector) {
  constexpr int kGetMdwe = 66;
  constexpr int kGetMemoryMerge = 68;
  constexpr int kArchGetXcompPerm = 0x1022;
  const auto count = sys::call(__NR_getgroups, 0, nullptr);
  const std::size_t groups = count.failed() ? 0 : static_cast<std::size_t>(count.value());
  auto* record =
      collector->add_record<format::ProcessStateRecord>(format::RecordType::kProcessState, groups * sizeof(std::uint32_t));
  if (record == nullptr) return;
  record->group_count = static_cast<std::uint32_t>(groups);
  sys::call(__NR_getgroups, groups, record + 1).ignore();
  record->oom_score_adj = static_cast<std::int32_t>(read_number("/proc/thread-self/oom_score_adj", false));
  // It shows nothing where the main thread has ended: zero bits stand for the kernel's own choice.
  record->coredump_filter = static_cast<std::uint32_t>(read_number("/proc/self/coredump_filter", true));
  sys::call(__NR_prctl, PR_GET_CHILD_SUBREAPER, &record->is_subreaper).ignore();
  record->thp_disabled = read_option(PR_GET_THP_DISABLE);
  record->write_execute = read_option(kGetMdwe);
  record->merges_memory = read_option(kGetMemoryMerge);
  record->membarriers = read_membarriers();
  sys::call(__NR_arch_prctl, kArchGetXcompPerm, &record->xstate_permitted).ignore();
}

// A daemon that root has launched and that is an ordinary user now can reach neither the control page's file nor the store. A
// trigger that root runs helps a process that is alone.
bool may_write_image(Collector* collector) {
  const auto opened = sys::open(collector->control_path, O_RDWR | O_NOFOLLOW);
  const sys::Fd control(opened);
  if (opened.error() == sys::kEnoent) {
    collector->refuse().add("it does not see ").add_quoted(collector->control_path).add(": removed, or outside its root (chroot)");
    return false;
  }
  if (opened.error() != sys::kEacces || (collector->may_be_helped && collector->session == nullptr)) return true;
  const auto user = sys::call(__NR_geteuid).value();
  collector->refuse().add("it has become user ").add_signed(user).add(", who may not open ").add_quoted(collector->control_path);
  collector->message->add(": launch it as that user");
  if (collector->session == nullptr) collector->message->add(", or let root run ckpt-trigger (with -o, if ckpt-launch had it)");
  return false;
}

// What the calling thread's status tells of the process. A shadow stack can't be built again without the kernel's help: threads
// inherit it, so ours stands for all.
bool read_status(Collector* collector, std::uint32_t* umask) {
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status("/proc/thread-self/status", buffer);
  *umask = umask_in(&status);
  if (const char* locked = status.find("VmLck")) collector->has_locked_memory = sys::parse_decimal(&locked) != 0;
  for (const char* at = status.find("x86_Thread_features"); at != nullptr && *at != '\0'; ++at) {
    if (!sys::starts_with(at, "shstk")) continue;
    collector->refuse().add("thread ").add_signed(sys::gettid()).add(" has a shadow stack; start it without: ");
    collector->message->add("GLIBC_TUNABLES=glibc.cpu.x86_shstk=off");
    return false;
  }
  const std::uint32_t of_main = sys::gettid() == collector->pid ? kNoUmask : read_umask("/proc/self/status");
  if (of_main != kNoUmask) *umask = of_main;  // it may have one of its own
  return true;
}

// That of the main thread, which stands for the process; leaves that of the calling thread in the collector. nullptr: no memory.
const sys::StatFile* read_stat(Collector* collector) {
  auto* room = collector->arena->take_array<sys::StatFile>(2);
  if (room == nullptr) {
    collector->refuse(kCodeFailed).add("out of memory");
    return nullptr;
  }
  collector->stat = new (room) sys::StatFile("/proc/thread-self/stat");
  return sys::gettid() == collector->pid ? collector->stat : new (room + 1) sys::StatFile("/proc/self/stat");
}

}  // namespace

bool collect_process(Collector* collector) {
  const sys::StatFile* stat = read_stat(collector);
  std::uint32_t umask = kNoUmask;
  if (stat == nullptr || !check_pid_namespace(collector) || !may_write_image(collector) || !read_status(collector, &umask) ||
      !has_own_tables(collector) || !tells_end_by_sigchld(collector, *stat))
    return false;
  Arena* arena = collector->arena;
  auto* strings = arena->take_array<char>(3 * format::kPathBytes);
  auto* command = arena->take_array<char>(kCommandBytes);
  if (strings == nullptr || command == nullptr) {
    collector->refuse(kCodeFailed).add("out of memory");
    return false;
  }
  char* cwd = strings;
  char* root = strings + format::kPathBytes;
  char* executable = root + format::kPathBytes;
  // A main thread that has ended is nowhere.
  if ((!sys::read_link("/proc/self/cwd", cwd, format::kPathBytes) &&
       !sys::read_link("/proc/thread-self/cwd", cwd, format::kPathBytes)) ||
      !sys::read_link("/proc/thread-self/root", root, format::kPathBytes) ||
      !sys::read_link("/proc/thread-self/exe", executable, format::kPathBytes)) {
    collector->refuse(kCodeFailed).add("/proc/self can't be read");
    return false;
  }
  const auto command_size = sys::read_file("/proc/thread-self/cmdline", command, kCommandBytes);
  const std::size_t sizes[4] = {strlen(cwd) + 1, strlen(root) + 1, strlen(executable) + 1,
                                command_size.failed() ? 0 : static_cast<std::size_t>(command_size.value())};
  auto* record =
      collector->add_record<format::ProcessRecord>(format::RecordType::kProcess, sizes[0] + sizes[1] + sizes[2] + sizes[3]);
  if (record == nullptr) return true;
  collector->process = record;
  record->pid = collector->pid;
  describe_family(record, *stat);
  read_credentials(record);
  record->umask = umask;
  record->personality = static_cast<std::uint32_t>(sys::call(__NR_personality, 0xffffffffU).value());
  record->dumpable = collector->dumpable;
  record->is_stopped = collector->is_stopped ? 1 : 0;
  record->no_new_privs = static_cast<std::uint32_t>(sys::call(__NR_prctl, kPrGetNoNewPrivs, 0, 0, 0, 0).value());
  record->nice = 20 - static_cast<std::int32_t>(sys::call(__NR_getpriority, 0, 0).value());
  sys::copy_text(record->name, sizeof(record->name), stat->name());
  auto* tail = reinterpret_cast<char*>(record + 1);
  const char* const parts[4] = {cwd, root, executable, command};
  for (unsigned i = 0; i < 4; ++i) {
    memcpy(tail, parts[i], sizes[i]);
    tail += sizes[i];
    record->string_sizes[i] = static_cast<std::uint32_t>(sizes[i]);
  }
  add_limits(collector);
  add_state(collector);
  return true;
}

}  // namespace ckpt
