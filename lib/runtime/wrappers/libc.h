// What the wrappers need of the libc they stand in front of. Nothing here is needed to load: the runtime has no library it needs.
#pragma once

namespace ckpt {

// The function of this name behind ours in the order of symbols, or nullptr. The first call of each wrapper only: may take locks.
void* find_in_libc(const char* name);

// Whether this is glibc's own function of this name: others may stand in front of it (a sanitizer, libjsig of Java).
bool is_of_glibc(const char* name, const void* function);

// Sets errno and returns −1.
int fail_with(int error);

}  // namespace ckpt
