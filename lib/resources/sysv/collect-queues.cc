// sysv: message queues. MSG_COPY (msgrcv(2)) reads a message and leaves it where it is; a kernel built without it can't be asked.
#include <linux/msg.h>

#include "lib/resources/sysv/collect.h"

namespace ckpt {

namespace {

using format::SystemVMessage;

constexpr int kRemoved = 43;                          // EIDRM
constexpr int kStatus = 2;                            // IPC_STAT
constexpr int kCopy = 040000 | 04000;                 // MSG_COPY | IPC_NOWAIT
constexpr int kNoMessage = 42, kNotImplemented = 38;  // ENOMSG, ENOSYS

// Bytes of all messages with their headers, at the most.
std::uint64_t room_for(const msqid64_ds& status) { return status.msg_cbytes + status.msg_qnum * (sizeof(SystemVMessage) + 8) + 8; }

// Reads all messages; their number, or the failure.
sys::SysResult copy_messages(int id, std::uint8_t* to, std::uint64_t room, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (room < sizeof(SystemVMessage)) return sys::SysResult(static_cast<long>(i));
    auto* header = reinterpret_cast<SystemVMessage*>(to);
    const auto size = sys::call(__NR_msgrcv, id, &header->type, room - sizeof(SystemVMessage), i, kCopy);
    if (size.error() == kNoMessage) return sys::SysResult(static_cast<long>(i));
    if (size.failed()) return size;
    header->size = static_cast<std::uint64_t>(size.value());
    std::uint64_t used = format::align_up(sizeof(SystemVMessage) + header->size, 8);
    if (used > room) used = room;
    to += used;
    room -= used;
  }
  return sys::SysResult(static_cast<long>(count));
}

bool refuse_queue(Collector* collector, const SystemVEntry& entry, int error) {
  Message& message = refuse_object(collector, entry);
  if (error == kNotImplemented) {
    message.add("this kernel does not show messages without taking them out (CONFIG_CHECKPOINT_RESTORE); receive them first");
  } else {
    message.add("its messages can't be read: ").add(sys::error_text(error));
  }
  return false;
}

bool add_queue(Collector* collector, const SystemVEntry& entry, bool is_certain) {
  msqid64_ds status{};
  const auto asked = sys::call(__NR_msgctl, entry.object.id, kStatus, &status);
  if (asked.failed()) return !is_certain || refuse_queue(collector, entry, asked.error());
  format::MessageQueueRecord queue{entry.object, status.msg_qbytes, 0, 0};
  if (status.msg_qnum > 0) {
    const unsigned first_piece = collector->piece_count;
    const std::uint64_t room = room_for(status);
    std::uint8_t* bytes = add_piece(collector, 0, room);
    const auto count =
        bytes == nullptr ? sys::SysResult(-sys::kEnomem) : copy_messages(entry.object.id, bytes, room, status.msg_qnum);
    // One that nobody alive is known to use may be another job's, and go while we look.
    const bool is_gone = count.error() == sys::kEinval || count.error() == kRemoved;
    if (count.failed()) return (is_gone && !is_certain) || refuse_queue(collector, entry, count.error());
    FileFacts facts{};
    facts.device = format::kQueueDevice;
    facts.inode = static_cast<std::uint64_t>(entry.object.id);
    queue.count = static_cast<std::uint32_t>(count.value());
    queue.content = add_content(collector, facts, room, first_piece);
    if (queue.content == 0) return refuse_queue(collector, entry, sys::kEnomem);
  }
  auto* record = collector->add_record<format::MessageQueueRecord>(format::RecordType::kMessageQueue);
  if (record != nullptr) *record = queue;
  return true;
}

}  // namespace

bool collect_queues(Collector* collector) {
  SystemVTable table(SystemVKind::kQueue);
  for (SystemVEntry entry; table.next(&entry);) {
    int stranger = 0;
    const Owner owner = owner_of(*collector, entry, {}, &stranger);
    if (owner == Owner::kOthers) continue;
    if (owner == Owner::kShared) return refuse_shared(collector, entry, stranger);
    if (!add_queue(collector, entry, owner == Owner::kJob)) return false;
  }
  return true;
}

}  // namespace ckpt
