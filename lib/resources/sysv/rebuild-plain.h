// sysv without an IPC namespace: ids are those of the machine. Hosted.
//
// What the killed program has left there is taken again, if it is nobody else's. Otherwise new objects are made and removed, for
// the kernel gives ids out in turn, until it comes to the one that is wanted: that takes up to some ten seconds.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "lib/common/job-image.h"

namespace ckpt {

enum class SystemVKind { kSegment, kSet, kQueue };

// "System V shared memory 7"
std::string name_of(SystemVKind kind, int id);
// A removed segment has lost its key.
key_t key_of(const format::SystemVObject& object);

// Why the objects of the job can't be had on this machine; "": they can, as far as it shows. Changes nothing.
std::string find_system_v_obstacle(const JobImage& job);

// The object of this id: what was left, or what `create` makes (it returns an id, or −1). True: it was left, with what is in it.
// Throws Error.
bool take_or_make(SystemVKind kind, const format::SystemVObject& object, const std::function<int()>& create);

}  // namespace ckpt
