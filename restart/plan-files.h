// The plan of a restart: how files on disk go back with memory.
#pragma once

#include <sys/stat.h>

#include "restart/plan.h"

namespace ckpt {

// One that is open for writing, and exists: cut back, put back, left alone, or refused by its policy. Or it goes on in the standard
// stream of ckpt-restart that is the same file, where a script's lines would be lost otherwise.
DescriptionPlan plan_written_file(RestartPlan& plan, const Description& description, const struct stat& status);

// Notes in the store which logs others write as well: in a pid namespace, later checkpoints of the job can't see them.
void note_shared_logs(const RestartPlan& plan);

// What --save carried, and kept files that are gone: all that has to be made, overwritten or moved aside.
void plan_saved_files(RestartPlan& plan);

// The file is to hold what the image has of it.
void plan_content(RestartPlan& plan, const std::string& path, std::uint32_t content, mode_t mode, std::int64_t modified);

Error refuse_file(const std::string& path, const std::string& reason);
// One that the program has open has no name any more, or another one.
Error refuse_gone(const Description& description);

// Whether the program's working directory is there, or will be.
void check_folder(const RestartPlan& plan, const std::string& folder);

// Whether the restart brings the file at this path back by itself.
bool will_put_back(const RestartPlan& plan, const std::string& path);

std::optional<struct stat> status_of(const std::string& path);

}  // namespace ckpt
