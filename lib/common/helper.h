// The trigger's side of the help for a program that has given up root's rights: HelpGrant in lib/format/control.h has the protocol.
//
// The program, and so the control page, is of lower rights than we are: nothing of them names a file. Folder and name follow from
// where the control file is, and from our own command line; everything is opened below folders that are ours alone, and no link is
// followed.
#pragma once

#include <sys/types.h>

#include <string>

#include "lib/common/control.h"

namespace ckpt {

class Helper {
 public:
  // `file`: of ckpt-trigger -o, absolute; empty: the next generation of the job.
  Helper(Control& control, pid_t pid, std::string file);
  // Removes what was not committed.
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // Whether we have rights that the process lacks, and the store is ours.
  bool may_help() const { return may_help_; }
  // Answers if the process has asked. Never throws: it is told that there is no help.
  void serve();
  bool has_granted() const { return image_.is_open(); }
  // The absolute path of the committed image; empty: there is none.
  const std::string& committed() const { return committed_; }

 private:
  bool open_store();
  bool open_place();
  bool grant(int their_fd);
  bool send_grant() const;
  int commit();
  void move_link(const Fd& folder, const std::string& target) const;
  void remove_old() const;

  Control& control_;
  pid_t pid_;
  std::string file_, job_, folder_path_, name_, temporary_, committed_;
  unsigned generation_ = 1;
  uid_t author_ = 0;  // whose rights decide what is in the image
  bool may_help_ = false;
  Fd store_, folder_, image_, socket_;
};

}  // namespace ckpt
