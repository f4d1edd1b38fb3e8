// Messages, masking, and the frame around every main.
#include "lib/common/error.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "lib/common/stack.h"
#include "lib/common/standard-streams.h"

namespace ckpt {
namespace {

std::string_view command_name = "ckpt";

// Length of the valid UTF-8 sequence at the start of `text`; 0 if there is none. C1 control characters don't count as valid.
std::size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                             : (lead & 0xf0) == 0xe0       ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  const bool is_c1 = lead == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
  return is_c1 ? 0 : length;
}

ExitCode code_of_errno(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
      return ExitCode::kNoInput;
    case EACCES:
    case EPERM:
    case EROFS:
      return ExitCode::kNotPermitted;
    case EIO:
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
      return ExitCode::kInputOutput;
    case EAGAIN:
      return ExitCode::kBusy;
    default:
      return ExitCode::kFailed;
  }
}

std::string compose(std::string_view action, std::string_view object, std::string_view reason) {
  return "cannot " + std::string(action) + " " + quote(object) + ": " + std::string(reason);
}

int exit_code_for(ExitCode code, CommandKind kind) {
  if (kind == CommandKind::kRunner && code != ExitCode::kNotFound && code != ExitCode::kNotRunnable) code = ExitCode::kRunner;
  return static_cast<int>(code);
}

int run_body(const std::function<int(int, char**)>& body, int argc, char** argv) {
  try {
    return body(argc, argv);
  } catch (const Finished&) {
    return 0;
  }
}

int run_guarded(int argc, char** argv, const std::function<int(int, char**)>& body, CommandKind kind) {
  try {
    const int code = run_body(body, argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw Error::from_errno("write", "standard output", errno);
    return code;
  } catch (const UsageError& error) {
    say(error.what());
    say("try '" + std::string(command_name) + " --help'");
    return exit_code_for(error.code(), kind);
  } catch (const Error& error) {
    say(error.what());
    return exit_code_for(error.code(), kind);
  } catch (const std::bad_alloc&) {
    say("out of memory");
  } catch (const std::exception& error) {
    say(mask(error.what()));
  }
  return exit_code_for(ExitCode::kFailed, kind);
}

}  // namespace

std::string mask(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text[0]);
    std::size_t length = utf8_length(text);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", byte);
      result += escape;
      length = 1;
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return result;
}

std::string quote(std::string_view text) { return "'" + mask(text) + "'"; }

std::string describe_errno(int error) {
  const char* text = strerrordesc_np(error);
  return text != nullptr ? text : "error " + std::to_string(error);
}

Error::Error(std::string line, ExitCode code, int error) : std::runtime_error(line), code_(code), error_(error) {}

Error::Error(std::string_view action, std::string_view object, std::string_view reason, ExitCode code)
    : Error(compose(action, object, reason), code, 0) {}

Error Error::from_errno(std::string_view action, std::string_view object, int error) {
  return from_errno(action, object, error, code_of_errno(error));
}

Error Error::from_errno(std::string_view action, std::string_view object, int error, ExitCode code) {
  return Error(compose(action, object, describe_errno(error)), code, error);
}

Error Error::plain(std::string line, ExitCode code) { return Error(std::move(line), code, 0); }

void say(std::string_view line) {
  // One write, so that lines of several processes don't mix.
  const std::string text = std::string(command_name) + ": " + std::string(line) + "\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

int run_main(std::string_view name, int argc, char** argv, const std::function<int(int, char**)>& body, CommandKind kind) {
  command_name = name;
  hold_closed_streams();
  return call_with_stack([&] { return run_guarded(argc, argv, body, kind); });
}

}  // namespace ckpt
