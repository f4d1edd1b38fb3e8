// files: opens descriptions again and gives them their numbers. Hosted; in the process that becomes the program.
#pragma once

#include <cstdint>
#include <map>

#include "restart/plan.h"

namespace ckpt {

// Moves what files have grown by into the store and cuts them back. Throws Error; what was done so far is whole, file by file.
// A folder that was removed was empty, so another one that is removed is as good.
Fd open_deleted_folder();

void cut_files_back(const RestartPlan& plan);

// Opens every description, seeks, and installs all descriptors of the program. `streams` holds copies of ckpt-restart's standard
// streams, above every number of the program. Close-on-exec is set later, by the restorer. Throws Error.
void rebuild_files(const RestartPlan& plan, const int (&streams)[3]);

// Where several processes share what is open: descriptors by the number of the description.
using OpenedFiles = std::map<std::uint32_t, int>;

// Before the processes exist: opens all that any of them describes, at or above `lowest`, but what only its own process can open.
OpenedFiles open_shared_files(const RestartPlan& plan, const int (&streams)[3], int lowest);
// In a process of the job, before it has children: opens the rest of its own.
void open_own_files(const RestartPlan& plan, const int (&streams)[3], OpenedFiles& opened);
// Gives each descriptor of the process its number.
void install_files(const RestartPlan& plan, const int (&streams)[3], const OpenedFiles& opened);

// A kind of descriptor that is made again from its state. All are opened first; when each descriptor of the program has its
// number, `finish` is called for those that need others by their numbers, with one of its own. Both throw Error.
struct DescriptorRebuilder {
  format::DescriptionKind kind;
  int (*open)(const RestartPlan& plan, const Description& description);
  void (*finish)(const RestartPlan& plan, const Description& description, int fd);  // nullptr: nothing to do
};

int rebuild_eventfd(const RestartPlan& plan, const Description& description);
int rebuild_timerfd(const RestartPlan& plan, const Description& description);
int rebuild_signalfd(const RestartPlan& plan, const Description& description);
int rebuild_epoll(const RestartPlan& plan, const Description& description);
void finish_epoll(const RestartPlan& plan, const Description& description, int fd);
int rebuild_inotify(const RestartPlan& plan, const Description& description);
int rebuild_pidfd(const RestartPlan& plan, const Description& description);
// A pidfd of another process than that which describes it: made when all are there.
bool is_pidfd_of_other(const RestartPlan& plan, const Description& description);
int rebuild_memfd(const RestartPlan& plan, const Description& description);
int rebuild_message_queue(const RestartPlan& plan, const Description& description);
void finish_message_queue(const RestartPlan& plan, const Description& description, int fd);
int rebuild_plain_socket(const RestartPlan& plan, const Description& description);
int rebuild_fifo(const RestartPlan& plan, const Description& description);

}  // namespace ckpt
