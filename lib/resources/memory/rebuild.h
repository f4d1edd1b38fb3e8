// memory: shared memory objects made again with their bytes. Hosted; in the process that becomes the program, before its
// descriptors.
#pragma once

#include "restart/plan.h"

namespace ckpt {

// Makes all objects but the anonymous ones, which the restorer makes; their descriptors are at or above `lowest`. Throws Error.
void make_memory_objects(const RestartPlan& plan, int lowest);

// Of a job of several processes, before they exist: the objects that more than one of them may have. make_memory_objects() takes
// them from there.
void make_shared_objects(const RestartPlan& plan, int lowest);
void close_shared_objects();
// … after their seals have been set: when every process has mapped and filled what it has of them.
void seal_shared_objects(const RestartPlan& plan);
// Whether that is done with this object.
bool is_shared_object(const MemoryObject& object);
// Closes what make_memory_objects() made.
void forget_memory_objects();

// Descriptor of the object, open for reading and writing; −1: an anonymous one, or System V shared memory.
int fd_of_object(std::uint32_t object);

// … of the one that is this deleted file: its bytes are the same kFileContent of the process, or, in a job, some process has mapped
// it; −1: there is none.
int fd_of_deleted(const RestartPlan& plan, const format::DescriptionRecord& file);

// Modes are set when everything that leads to the objects has been opened.
void finish_memory_objects(const RestartPlan& plan);

// Writes what the image holds of a file; holes stay as they are.
void write_content(const RestartPlan& plan, std::uint32_t content, int fd, const std::string& path);

}  // namespace ckpt
