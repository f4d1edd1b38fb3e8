// Command lines from a table: one row an option, with its handler. --help and --version come with every table.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/common/error.h"

namespace ckpt {

struct Option {
  const char* name;                               // long form, without dashes
  char letter;                                    // short form; 0: none
  const char* argument;                           // its name in the help; nullptr: takes none
  const char* help;                               // one line
  std::function<void(const char* value)> handle;  // `value` is nullptr without an argument; throws UsageError
  const char* environment = nullptr;              // variable that stands in when the option is not given
};

struct CommandInfo {
  const char* name;
  const char* synopsis;         // what follows the name, one line
  const char* summary;          // one sentence
  bool runs_program = false;    // the first operand ends the options
  const char* notes = nullptr;  // more lines for the end of the help
};

// Handles all options (command line, then environment twins of options not given) and returns the operands, which point into argv.
// --help and --version print to stdout and throw Finished, which run_main takes for success.
std::vector<char*> parse_options(const CommandInfo& command, std::span<const Option> options, int argc, char** argv);

// What --help prints.
std::string help_text(const CommandInfo& command, std::span<const Option> options);

}  // namespace ckpt
