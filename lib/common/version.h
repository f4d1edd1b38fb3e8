// The version of the suite, as --version prints it.
#pragma once

namespace ckpt {
inline constexpr char kVersion[] = "0.1";
}
