// The control page: a small file that every member of a job maps shared, made at launch and found by the commands through
// /proc/PID/maps of the *target* (its file name ends in kControlSuffix).
//
// A versioned interface: a job runs for months, commands are upgraded meanwhile. Fields are only ever added, into `reserved`;
// the size never changes. A command that finds a newer `oldest_peer` than its own version must say so and stop.
//
// Who writes what: `Settings` is written once, before the first member maps the page. A trigger takes an exclusive flock on the
// file, fills in `Request` and moves `state` from kIdle to kRequested; from there only the runtime moves it, up to kCommitted or
// kFailed. The trigger reads the outcome and moves it back to kIdle. The flock goes with the trigger, so a dead one blocks nobody.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

inline constexpr char kControlMagic[8] = {'C', 'K', 'P', 'T', 'C', 'T', 'L', '\n'};
inline constexpr std::uint32_t kControlVersion = 1;
inline constexpr char kControlSuffix[] = ".ckpt-control";
// What the process that writes an image calls itself (comm).
inline constexpr char kWriterName[] = "ckpt-writer";
inline constexpr std::uint32_t kPathBytes = 4096;  // PATH_MAX, with its NUL

// The stages of one checkpoint, in their order. The runtime moves on; each line says what holds from then on.
enum class Stage : std::uint32_t {
  kIdle = 0,        // nobody asks; a trigger may claim the page
  kRequested = 1,   // request filled in, signal sent (trigger, or the runtime itself after a bare kill -USR2)
  kFreezing = 2,    // the leader stops threads
  kCollecting = 3,  // all stopped; nothing changed yet, any failure is undone
  kWriting = 4,     // snapshot taken, the program goes on (or waits: kHoldUntilCommitted)
  kCommitted = 5,   // the image is durable under its name
  kFailed = 6,      // nothing left behind; result.message says why
};

enum RequestFlags : std::uint32_t {
  kHoldUntilCommitted = 1U << 0,  // ckpt-trigger --kill: stay frozen until the image is durable, then end by SIGKILL
  kCheckOnly = 1U << 1,           // freeze and collect, write nothing: what would be refused?
  kSelfContained = 1U << 2,       // keep the bytes of executables and libraries inside the image
  kIsStopped = 1U << 3,           // it was stopped (SIGSTOP, ^Z) and goes on for this request only: then it stops again
  kMayHelp = 1U << 4,             // the trigger opens and commits the image where the program may not (HelpGrant)
};

inline constexpr std::uint32_t kSavedBytes = 8192;

// Values of Result::code, which become exit codes of ckpt-trigger (lib/common/exit-codes.h).
struct Settings {
  Id128 job_id;
  char directory[kPathBytes];  // $CKPT_DIR, absolute
  char job_name[256];          // folder of the job below it
  char file[kPathBytes];       // -o FILE, absolute; empty: generations in the job's folder
  std::uint32_t keep;          // generations to keep, at least 1
  Codec codec;
  std::uint8_t level;           // of zstd; 0: its default
  std::uint16_t flags;          // RequestFlags that hold for every checkpoint
  std::uint32_t public_signal;  // SIGUSR2 unless -s
  std::uint32_t portable;
  char saved_paths[kSavedBytes];  // --save: absolute paths, each NUL-terminated; an empty one at the end
};

// Where a thread was, from /proc/PID/task/TID/syscall, read just before the signal that stopped it: tells which call an EINTR
// belongs to.
struct SyscallFacts {
  std::int32_t tid;      // 0: not known
  std::uint32_t is_set;  // 1: the thread was blocked in `number`
  std::int64_t number;
  std::uint64_t arguments[6];
  std::uint64_t stack;
  std::uint64_t pc;
  std::uint64_t slept_since_ns;  // se.exec_start of /proc/PID/task/TID/sched; 0: not known
  std::uint32_t cpu;             // on which it fell asleep: each CPU's scheduler has a clock of its own
  std::uint32_t reserved;
};

struct Request {
  std::uint32_t id;          // counts up; also in the token of the door signal
  std::uint32_t flags;       // RequestFlags
  std::uint32_t timeout_ms;  // to stop all threads; 0: the default (10 s)
  std::uint32_t reserved;
  SyscallFacts door;      // of the thread that the door signal is sent to
  char file[kPathBytes];  // instead of Settings::file, absolute; empty: as the settings say
};

struct Result {
  std::int32_t code;   // 0, or the exit code the trigger ends with
  std::int32_t error;  // errno, if one is behind it
  std::uint32_t thread_count;
  std::uint32_t generation;
  std::uint64_t image_bytes;
  std::uint64_t stall_ns;   // from the first signal to the moment all threads may run again
  std::uint64_t freeze_ns;  // of that: until all stood
  std::uint64_t total_ns;   // to the commit
  char message[1024];       // one line, without the command's name, for a person
  char image[kPathBytes];   // absolute path of what was committed
};

inline constexpr unsigned kDispatchers = 32;
inline constexpr unsigned kStrangers = 32;

// A program that has given up root's rights can open neither the control file nor the store. Frozen, its leader makes a pair of
// SOCK_SEQPACKET and publishes one end; the trigger, still root, takes that (pidfd_getfd(2)) and answers with a HelpGrant and two
// descriptors: the control file, for the lock, and the new image. Its writer says so with one byte when all is written, and the
// trigger commits, and answers with an errno (int32), or 0. The program chooses no name, and gets no other descriptor.
struct HelpGrant {
  std::uint32_t generation;
};
inline constexpr std::int32_t kNoHelp = -1;

// Of /proc/PID/ns (namespaces(7)): all that a process can move to, and those that its children come into.
inline constexpr unsigned kNamespaces = 8;
inline constexpr const char* kNamespaceFiles[kNamespaces] = {"cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children",
                                                             "user",   "uts"};
inline constexpr unsigned kPidNamespace = 4;

struct ControlPage {
  char magic[8];
  std::uint32_t version;
  std::uint32_t oldest_peer;     // the oldest kControlVersion a command must know
  std::uint32_t size;            // bytes of the file
  std::uint32_t stage;           // Stage; a futex (shared)
  std::uint64_t progress_done;   // bytes of memory written so far
  std::uint64_t progress_total;  // 0: not known yet
  std::int32_t root_pid;         // of the job's first process, in its own pid namespace
  std::uint32_t writer_pid;      // of the last writer, in the job's pid namespace
  Request request;
  Result result;
  std::uint32_t must_stand_for_flags;      // 1: the program has memory that a fork does not hand on as it is
  std::uint32_t seccomp_filters;           // that were there at the launch, or at the restart: the environment's, not the program's
  std::int32_t dispatchers[kDispatchers];  // threads with syscall user dispatch, as the job numbers them (prctl(2)); 0: none
  std::uint64_t ipc_namespace;             // inode of the IPC namespace that a restart has made for this job; 0: none
  std::uint64_t launched_ticks;            // when, as field 22 of proc_pid_stat(5) has it; 0: not known
  std::int32_t strangers[kStrangers];      // children that the process had before the launch, which are not the job's; 0: none
  std::int32_t help;  // descriptor + 1 of the end of a socket that the trigger is to take; kNoHelp; 0: not asked
  std::uint8_t unused[4];
  std::uint64_t namespaces[kNamespaces];  // inodes, at the launch, or as a restart has made them; 0: not known
  std::uint8_t reserved[1688];
  Settings settings;
};
inline constexpr std::uint64_t kControlSize = 32768;
static_assert(sizeof(ControlPage) <= kControlSize);

// Tokens: what tells our signals from everybody else's. The kernel lets a sender choose si_code < 0 (not SI_TKILL) and si_value
// (rt_sigqueueinfo(2)); no libc sends these codes.
inline constexpr int kDoorCode = -0x434b;    // ckpt-trigger asks for a checkpoint; si_value: Request::id
inline constexpr int kFreezeCode = -0x4346;  // the leader stops a thread; si_value: generation << 32 | slot
inline constexpr int kMemberCode = -0x434d;  // a leader asks another process of its job to take part (session.h)
constexpr bool is_token(int code) { return code == kDoorCode || code == kFreezeCode || code == kMemberCode; }

// Signals that open the door, in the order a trigger tries them: one is free unless the program has taken every one of them.
inline constexpr int kPublicSignal = 12;    // SIGUSR2, by default
inline constexpr int kQuietSignal = 23;     // SIGURG: ignored by default, so harmless to a process caught around its exec
inline constexpr int kReservedSignal = 33;  // outside what sigfillset and sigprocmask of glibc can block
inline constexpr int kReservedSignal2 = 32;

}  // namespace ckpt::format
