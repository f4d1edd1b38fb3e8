// How hosted code fails: one exception type that says the action, the object and the reason. Only main catches (run_main), prints
// one line and picks the exit code.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "lib/common/exit-codes.h"

namespace ckpt {

// Data for a message: control bytes and bytes that are not UTF-8 become \xNN, so that a file name can't drive a terminal.
std::string mask(std::string_view text);
// The same in single quotes.
std::string quote(std::string_view text);
// What an errno value means, in English under every locale.
std::string describe_errno(int error);

class Error : public std::runtime_error {
 public:
  // "cannot ACTION 'OBJECT': REASON"
  Error(std::string_view action, std::string_view object, std::string_view reason, ExitCode code = ExitCode::kFailed);
  // The same with an errno; the exit code follows from it unless given.
  static Error from_errno(std::string_view action, std::string_view object, int error);
  static Error from_errno(std::string_view action, std::string_view object, int error, ExitCode code);
  // A line as it stands.
  static Error plain(std::string line, ExitCode code = ExitCode::kFailed);

  ExitCode code() const { return code_; }
  int error() const { return error_; }  // errno, or 0

 private:
  Error(std::string line, ExitCode code, int error);
  ExitCode code_;
  int error_ = 0;
};

// A mistake on the command line; run_main adds where to find help.
class UsageError : public Error {
 public:
  explicit UsageError(std::string line) : Error(Error::plain(std::move(line), ExitCode::kUsage)) {}
};

// Thrown when all is done early (--help): run_main takes it for success.
struct Finished {};

enum class CommandKind {
  kTool,    // exit codes as they are
  kRunner,  // runs a program: every failure of its own is 125, except 126 and 127
};

// The body of every main: keeps files off the numbers of closed standard streams, runs `body`, prints an exception once as
// "NAME: line" on stderr, checks that stdout could be written, and returns the exit code.
int run_main(std::string_view name, int argc, char** argv, const std::function<int(int, char**)>& body,
             CommandKind kind = CommandKind::kTool);

// One line on stderr, "NAME: line", with the name given to run_main.
void say(std::string_view line);

}  // namespace ckpt
