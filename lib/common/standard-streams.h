// Standard streams that a command was started without. Their numbers must not go to the next file that is opened: what is printed
// would end up in it.
#pragma once

namespace ckpt {

// Takes the numbers of closed standard streams. Reading and writing there fails as it would on a closed one, and a program that is
// executed finds them closed.
void hold_closed_streams();

// Whether the command was started with this stream (0 to 2) open.
bool had_stream(int stream);

}  // namespace ckpt
