// The runtime's side of the control page: finding or making it, and who else is there.
#pragma once

#include "lib/runtime/state.h"

namespace ckpt {

// Maps the page that CKPT_CONTROL names, or makes one under CKPT_DIR; g_state.control stays nullptr where neither works.
void open_control();

// A restart may have given the job another page (ckpt-restart --again): finds the path of the one that is mapped. Opens a file.
void notice_restart();

// Removes the page's file when the job's first process ends normally.
void remove_control();

// Opens the control file and takes the writer's lock; not open: no descriptor left, or a writer lives.
sys::Fd lock_for_writer();
// The same for a control file that is open already.
sys::Fd lock_for_writer(sys::Fd fd);

// The writer holds an open-file-description lock on the control file's first byte while it lives.
bool is_writer_alive();

// One line on the program's standard error: only where nobody else can be told.
void complain(const char* message);

}  // namespace ckpt
