// Can this kernel, and what is allowed on it, carry out the restart? Asked by trying, in a child, before anything is touched.
#pragma once

#include <string>
#include <vector>

#include "lib/common/image-reader.h"

namespace ckpt {

struct KernelFindings {
  std::vector<std::string> notes;  // things that the program will do without
  std::string refused_namespace;   // which of those a restart needs can't be had, and why; empty: all can
};

// Throws Error with what is missing and what helps.
KernelFindings check_kernel(const JobImage& job);

}  // namespace ckpt
