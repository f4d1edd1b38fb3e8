// Test helper: a shared library in the place of libckpt.so, which answers a trigger as $STUB_ANSWER says, without saving anything.
// So the protocol of ckpt-trigger is tested apart from the runtime, failures included.
//
//   commit   writes a few bytes to the requested file and reports it committed
//   fail     reports a failure with exit code 73
//   deaf     never answers
//   freeze   stays in the stage kFreezing for ever
//   die      reports that an image is being written, by a writer that has died
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lib/format/control.h"

namespace {

using namespace ckpt::format;

ControlPage* page;
int control_fd;
const char* answer;

void set_stage(Stage stage) { std::atomic_ref(page->stage).store(static_cast<std::uint32_t>(stage)); }

void commit() {
  const char* file = page->request.file[0] != '\0' ? page->request.file : "/nowhere/000001.ckpt";
  const int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd >= 0) {
    [[maybe_unused]] const auto written = write(fd, "image bytes\n", 12);
    close(fd);
  }
  std::snprintf(page->result.image, sizeof page->result.image, "%s", file);
  page->result.thread_count = 1;
  page->result.image_bytes = 12;
  set_stage(Stage::kCommitted);
  if ((page->request.flags & kHoldUntilCommitted) != 0) raise(SIGKILL);
}

void fail() {
  page->result.code = 73;
  std::snprintf(page->result.message, sizeof page->result.message, "cannot create 'x': No space left on device");
  set_stage(Stage::kFailed);
}

// A lock that ends while the stage stays: what a killed writer leaves.
void die() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  fcntl(control_fd, F_OFD_SETLK, &lock);
  set_stage(Stage::kWriting);
  usleep(300'000);
  lock.l_type = F_UNLCK;
  fcntl(control_fd, F_OFD_SETLK, &lock);
}

void handle(int, siginfo_t* info, void*) {
  if (info->si_code != kDoorCode || page->stage != static_cast<std::uint32_t>(Stage::kRequested)) return;
  if (info->si_value.sival_int != static_cast<int>(page->request.id) || std::strcmp(answer, "deaf") == 0) return;
  set_stage(Stage::kFreezing);
  if (std::strcmp(answer, "commit") == 0) commit();
  if (std::strcmp(answer, "fail") == 0) fail();
  if (std::strcmp(answer, "die") == 0) die();
}

[[gnu::constructor]] void start() {
  const char* path = std::getenv("CKPT_CONTROL");
  answer = std::getenv("STUB_ANSWER");
  if (path == nullptr || answer == nullptr) return;
  control_fd = open(path, O_RDWR | O_CLOEXEC);
  if (control_fd < 0) return;
  void* address = mmap(nullptr, kControlSize, PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
  if (address == MAP_FAILED) return;
  page = static_cast<ControlPage*>(address);
  struct sigaction action {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  const char* door = std::getenv("STUB_DOOR");
  sigaction(door != nullptr ? std::atoi(door) : kQuietSignal, &action, nullptr);
}

}  // namespace
