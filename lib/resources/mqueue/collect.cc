// mqueue: POSIX message queues. The kernel shows no message but to the one who receives it: so all are received and sent again in
// the same order, while nobody is there who could see it. It shows a notification but in part; the rest a wrapper has noted
// (lib/runtime/wrappers/mq_notify.cc). Messages that are sent again would set one off, so there can't be both.
//
// All is done by a child with descriptors of its own: were one closed here, the program would lose its notification (mq_notify(3)).
#include "lib/resources/mqueue/record.h"

#include "lib/resources/files/collect.h"
#include "lib/sys/kcmp.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::PosixMessage;
using format::PosixQueueState;

constexpr long kMagic = 0x19800202;  // of the file system

struct Attributes {
  long flags, max_messages, message_size, count, reserved[4];
};

struct Errand {
  const Descriptor* descriptor;
  PosixQueueState state;
  std::uint32_t content;
  const char* problem;  // nullptr: all went well
  const format::QueueNotificationRecord* notification;
  bool passes;  // the problem, when the program goes on
};

bool has_open(int pid, const Descriptor& descriptor) {
  char names[1024];
  char target[format::kPathBytes];
  sys::ProcPath path = sys::proc_path(pid, "fd");
  const std::size_t length = path.size();
  sys::NumberDirectory descriptors(path.c_str(), names);
  for (int fd = descriptors.is_open() ? descriptors.next() : -1; fd >= 0; fd = descriptors.next()) {
    path.shorten(length);
    path.add_char('/').add_signed(fd);
    const auto size = sys::call(__NR_readlinkat, AT_FDCWD, path.c_str(), target, sizeof(target) - 1);
    if (size.failed()) continue;
    target[size.value()] = '\0';
    FileFacts facts{};
    if (!sys::equal(target, descriptor.path) || read_facts(AT_FDCWD, path.c_str(), &facts).failed()) continue;
    if (facts.inode == descriptor.facts.inode && facts.device == descriptor.facts.device) return true;
  }
  return false;
}

// One that a member has started for a moment, to look at something apart: it has copies of the member's descriptors, and its
// memory.
bool is_helper(const Collector& collector, int pid) {
  const format::Session* session = collector.session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    if (sys::is_shared(pid, session->members[i].pid, KCMP_VM)) return true;
  }
  return sys::is_shared(pid, collector.pid, KCMP_VM);
}

// A process that is not of the job and has the queue open, as far as we may look; 0: none.
int find_stranger(const Collector& collector, const Descriptor& descriptor) {
  char names[1024];
  sys::NumberDirectory processes("/proc", names);
  const int self = sys::getpid();  // the child that looks
  for (int pid = processes.is_open() ? processes.next() : -1; pid >= 0; pid = processes.next()) {
    if (pid == self || is_member(collector, pid) || !has_open(pid, descriptor)) continue;
    if (!is_helper(collector, pid)) return pid;
  }
  return 0;
}

// "QSIZE:129 NOTIFY:0 SIGNO:10 NOTIFY_PID:8260": what reading a queue's file shows.
std::uint64_t number_behind(const char* text, const char* name) {
  for (; *text != '\0'; ++text) {
    if (!sys::starts_with(text, name)) continue;
    text += strlen(name);
    sys::skip_spaces(&text);
    return sys::parse_decimal(&text);
  }
  return 0;
}

sys::SysResult receive_all(int fd, const PosixQueueState& state, std::uint8_t* to, std::uint32_t* count) {
  const __kernel_timespec at_once{};
  for (*count = 0; *count < state.count; ++*count) {
    auto* message = reinterpret_cast<PosixMessage*>(to);
    const auto size =
        sys::call(__NR_mq_timedreceive, fd, to + sizeof(PosixMessage), state.message_size, &message->priority, &at_once);
    if (size.failed()) return size;
    message->size = static_cast<std::uint64_t>(size.value());
    to += sizeof(PosixMessage) + format::align_up(message->size, 8);
  }
  return sys::SysResult(0);
}

sys::SysResult send_all(int fd, const std::uint8_t* from, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto* message = reinterpret_cast<const PosixMessage*>(from);
    const auto sent = sys::call(__NR_mq_timedsend, fd, from + sizeof(PosixMessage), message->size, message->priority, nullptr);
    if (sent.failed()) return sent;
    from += sizeof(PosixMessage) + format::align_up(message->size, 8);
  }
  return sys::SysResult(0);
}

// `bytes`: of all messages.
bool keep_messages(Collector* collector, Errand* errand, int fd, std::uint64_t bytes) {
  const PosixQueueState& state = errand->state;
  const unsigned first_piece = collector->piece_count;
  // The kernel wants room for the largest message each time.
  const std::uint64_t room = bytes + state.count * (sizeof(PosixMessage) + 8) + format::align_up(state.message_size, 8);
  std::uint8_t* to = add_piece(collector, 0, room);
  errand->content = to == nullptr ? 0 : add_content(collector, errand->descriptor->facts, room, first_piece);
  if (errand->content == 0) {
    errand->problem = "there is no memory to copy its messages";
    return false;
  }
  std::uint32_t received = 0;
  const bool is_read = !receive_all(fd, state, to, &received).failed();
  const bool is_back = !send_all(fd, to, received).failed();
  if (!is_read || !is_back) errand->problem = is_back ? "its messages can't be read" : "messages of it could not be put back";
  return errand->problem == nullptr;
}

// Of this very process, by a signal or not at all. SIGEV_THREAD leads into libc.
const format::QueueNotificationRecord* find_notification(const Collector& collector, std::uint64_t inode) {
  constexpr std::int32_t kSignal = 0, kNone = 1;  // SIGEV_SIGNAL, SIGEV_NONE
  for (const auto& entry : collector.notifications) {
    // By its descriptor, which is open as long as there is a notification: a restart has given the queue another inode.
    FileFacts facts{};
    const bool is_this = entry.inode != 0 && !read_facts(entry.fd, "", &facts).failed() && facts.inode == inode;
    if (is_this && (entry.kind == kSignal || entry.kind == kNone)) return &entry;
  }
  return nullptr;
}

// False: the errand has a problem.
bool examine_notification(const Collector& collector, Errand* errand, int whose) {
  if (whose == collector.pid) errand->notification = find_notification(collector, errand->descriptor->facts.inode);
  errand->passes = errand->notification != nullptr && errand->state.count > 0;
  if (errand->notification == nullptr) {
    errand->problem = "the kernel does not show all of this notification (mq_notify); take it back and try again";
  } else if (errand->passes) {
    errand->problem = "there are messages in it, and a notification of the next one (mq_notify); try again later";
  }
  return errand->problem == nullptr;
}

bool examine(Collector* collector, void* argument) {
  auto* errand = static_cast<Errand*>(argument);
  const Descriptor& descriptor = *errand->descriptor;
  char text[256];
  const sys::ProcPath path = sys::descriptor_path(descriptor.fd);
  if (sys::read_file(path.c_str(), text, sizeof(text)).failed()) {
    errand->problem = "its state can't be read: its mode forbids it";
  } else if (const auto whose = static_cast<int>(number_behind(text, "NOTIFY_PID:"));
             whose != 0 && !examine_notification(*collector, errand, whose)) {
    return false;
  } else if (find_stranger(*collector, descriptor) != 0) {
    errand->problem = "a process that is not of the job has it open too; launch them as one job";
  } else if (errand->state.count > 0 && claim_file(collector, descriptor.facts.device, descriptor.facts.inode)) {
    const sys::Fd again(sys::open(path.c_str(), O_RDWR | O_NONBLOCK));
    if (!again.is_open()) errand->problem = "its messages can't be read: its mode forbids it";
    if (again.is_open()) keep_messages(collector, errand, again.get(), number_behind(text, "QSIZE:"));
  }
  return errand->problem == nullptr;
}

}  // namespace

bool is_message_queue(const Descriptor& descriptor) {
  for (const char* at = descriptor.path + 1; *at != '\0'; ++at) {
    if (*at == '/') return false;
  }
  long status[16]{};  // struct statfs; f_type comes first
  return !sys::call(__NR_fstatfs, descriptor.fd, status).failed() && status[0] == kMagic;
}

bool collect_message_queue(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state) {
  record->kind = format::DescriptionKind::kMessageQueue;
  Attributes attributes{};
  Errand errand{&descriptor, {}, 0, "its attributes can't be read", nullptr, false};
  if (!sys::call(__NR_mq_getsetattr, descriptor.fd, nullptr, &attributes).failed()) {
    errand.state = {static_cast<std::uint64_t>(attributes.max_messages), static_cast<std::uint64_t>(attributes.message_size),
                    static_cast<std::uint32_t>(attributes.count), 0};
    errand.problem = nullptr;
    if (!collector->apart(collector, examine, &errand) && errand.problem == nullptr) errand.problem = "it can't be examined";
  }
  if (errand.problem != nullptr) {
    refuse_descriptor(collector, descriptor).add("POSIX message queue: ").add(errand.problem);
    return errand.passes && collector->postpone();
  }
  if (errand.notification != nullptr) collector->told |= 1U << (errand.notification - collector->notifications.data());
  if (errand.content == 0) errand.state.count = 0;
  record->content = errand.content;
  state->add(&errand.state, sizeof(errand.state));
  return true;
}

void collect_queue_notifications(Collector* collector) {
  for (std::size_t i = 0; i < collector->notifications.size(); ++i) {
    if ((collector->told >> i & 1) == 0) continue;
    auto* record = collector->add_record<format::QueueNotificationRecord>(format::RecordType::kQueueNotification);
    if (record != nullptr) *record = collector->notifications[i];
  }
}

}  // namespace ckpt
