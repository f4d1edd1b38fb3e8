// Can a program be run so that it can be checkpointed? Found out before exec, so that the reason can be said.
#pragma once

#include <string>

namespace ckpt {

// Where `name` is, as execvp(3) looks for it. Throws Error with exit code 127 (not found) or 126 (found, not executable).
std::string find_program(const std::string& name);

// Throws Error with exit code 126, and the reason by name, for a program that would not load the runtime: static, 32-bit, of
// another architecture, set-uid, set-gid, with file capabilities. A script is judged by its interpreter.
void check_program(const std::string& path);

}  // namespace ckpt
