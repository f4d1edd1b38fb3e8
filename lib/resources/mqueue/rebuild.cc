// mqueue: made again in the job's IPC namespace by the first description that leads there, and filled; the others open it by name.
#include <fcntl.h>
#include <mqueue.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "lib/resources/files/rebuild.h"
#include "lib/resources/mqueue/record.h"

namespace ckpt {

namespace {

using format::PosixMessage;
using format::PosixQueueState;

constexpr std::string_view kDeletedMark = " (deleted)";

bool is_removed(const Description& description) { return description.path.ends_with(kDeletedMark); }

// One that has lost its name gets another for now, for there may be a new queue of that name.
std::string name_of(const Description& description) {
  if (!is_removed(description)) return description.path;
  return "/ckpt-removed-" + std::to_string(description.record.inode);
}

const Description* find_keeper(const RestartPlan& plan, const format::DescriptionRecord& queue) {
  for (const DescriptionPlan& item : plan.descriptions) {
    const auto& record = item.description->record;
    const bool is_same = record.kind == queue.kind && record.inode == queue.inode && record.device == queue.device;
    if (is_same && record.content != 0) return item.description;
  }
  return nullptr;
}

void fill(const RestartPlan& plan, const Description& keeper, mqd_t queue) {
  const FileContent& content = plan.content_of(keeper);
  std::vector<std::byte> bytes(content.size);
  for (const auto& extent : content.extents) {
    const auto frame = plan.image->read_frame(extent.frame);
    std::memcpy(bytes.data() + extent.offset, frame.data() + extent.frame_offset, extent.size);
  }
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < state_of<PosixQueueState>(keeper).count; ++i) {
    PosixMessage message{};
    const bool is_there = bytes.size() - at >= sizeof(message);
    if (is_there) std::memcpy(&message, bytes.data() + at, sizeof(message));
    at += sizeof(message);
    if (!is_there || message.size > bytes.size() - at)
      throw Error::plain("message queue " + quote(keeper.path) + " is damaged in the image", ExitCode::kRunner);
    if (mq_send(queue, reinterpret_cast<const char*>(bytes.data() + at), message.size, message.priority) != 0)
      throw Error::from_errno("fill the message queue", keeper.path, errno, ExitCode::kRunner);
    at = std::min(bytes.size(), at + format::align_up(message.size, 8));
  }
}

// What the killed program has left on this machine, where there is no namespace for a new one: it goes back to what it was.
mqd_t take_left_over(const RestartPlan& plan, const Description& description, const mq_attr& wanted) {
  const mqd_t queue = mq_open(name_of(description).c_str(), O_RDWR | O_NONBLOCK);
  mq_attr found{};
  struct stat status {};
  const bool is_ours = queue >= 0 && plan.is_plain && mq_getattr(queue, &found) == 0 && fstat(queue, &status) == 0 &&
                       status.st_uid == geteuid() && found.mq_maxmsg == wanted.mq_maxmsg && found.mq_msgsize == wanted.mq_msgsize;
  if (!is_ours) throw Error::plain("message queue " + quote(description.path) + " is somebody else's now", ExitCode::kRunner);
  std::vector<char> message(static_cast<std::size_t>(found.mq_msgsize));
  while (mq_receive(queue, message.data(), message.size(), nullptr) >= 0) {
  }
  return queue;
}

// Unless that was done for another description of it.
void make_queue(const RestartPlan& plan, const Description& description) {
  static std::set<std::string> made;
  if (!made.insert(name_of(description)).second) return;
  const auto state = state_of<PosixQueueState>(description);
  rlimit limit{};
  if (getrlimit(RLIMIT_MSGQUEUE, &limit) == 0) limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_MSGQUEUE, &limit);
  mq_attr attributes{};
  attributes.mq_maxmsg = static_cast<long>(state.max_messages);
  attributes.mq_msgsize = static_cast<long>(state.message_size);
  mqd_t queue = mq_open(name_of(description).c_str(), O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attributes);
  if (queue < 0 && errno == EEXIST) queue = take_left_over(plan, description, attributes);
  if (queue < 0)
    throw Error::from_errno("create (see RLIMIT_MSGQUEUE and mq_overview(7)) the message queue", description.path, errno,
                            ExitCode::kRunner);
  const Description* keeper = find_keeper(plan, description.record);
  if (keeper != nullptr) fill(plan, *keeper, queue);
  mq_close(queue);
}

}  // namespace

int rebuild_message_queue(const RestartPlan& plan, const Description& description) {
  make_queue(plan, description);
  const int access = static_cast<int>(description.record.status_flags) & O_ACCMODE;
  const mqd_t queue = mq_open(name_of(description).c_str(), access);
  if (queue < 0) throw Error::from_errno("open the message queue", description.path, errno, ExitCode::kRunner);
  return queue;
}

void finish_message_queue(const RestartPlan&, const Description& description, int fd) {
  if (fchmod(fd, description.record.mode & 07777) != 0)
    throw Error::from_errno("set the mode of", description.path, errno, ExitCode::kRunner);
  if (is_removed(description)) mq_unlink(name_of(description).c_str());
}

}  // namespace ckpt
