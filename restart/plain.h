// A restart where namespaces are refused: the program runs where ckpt-restart runs, and gets its old numbers by going round, but
// for those that are taken.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "lib/common/image-reader.h"
#include "restart/plan.h"

namespace ckpt {

struct PlainFindings {
  std::vector<std::string> notes;                 // a line for each thing that will be different
  std::set<std::int32_t> taken;                   // numbers of the job that are somebody else's
  std::vector<format::Translation> translations;  // as RestartPlan's
};

// All numbers of processes, threads, groups and sessions that the job has; but not those that it was started in.
std::vector<std::int32_t> numbers_of(const JobImage& job);

// Whether the job can do without. `reason` says why there are no namespaces; it is part of what is thrown.
PlainFindings check_without_namespaces(const Image& image, const std::string& reason);

// Whether a number is somebody else's now that was free when the plan was made.
bool has_lost_numbers(const RestartPlan& plan);

}  // namespace ckpt
