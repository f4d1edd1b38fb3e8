// The plan of sockets: whether their names are free here and now.
#pragma once

#include "restart/plan.h"

namespace ckpt {

// A socket that does not lead outside belongs to the program, also as a standard stream.
bool is_own_socket(const Description& description);

// Throws Error where the socket's address, port or file can't be had. Waits for a port that only ended connections hold.
DescriptionPlan plan_socket(RestartPlan& plan, const Description& description);
DescriptionPlan plan_plain_socket(RestartPlan& plan, const Description& description);

}  // namespace ckpt
