// What ckpt-check finds out: one line each, for people or as JSON.
#pragma once

#include <string>
#include <vector>

namespace ckpt {

enum class State {
  kOk,
  kDegraded,  // goes, with less; `remedy` says how to have all
  kMissing,   // a save or a restart can't do without
  kRefused,   // the process or program that was asked about
};

struct Finding {
  std::string check;  // a stable word for scripts
  State state = State::kOk;
  std::string detail;
  std::string remedy;  // empty if all is well
};

const char* name_of(State state);

// One line a finding; what is to be done stands below it.
std::string format_findings(const std::vector<Finding>& findings);
// An array of objects, with a newline at the end. Keys only ever come.
std::string format_findings_json(const std::vector<Finding>& findings);

}  // namespace ckpt
