// What the programs about System V objects share: a note of each object for the harness, which removes what a killed program has
// left, and whether this is still the IPC namespace of the beginning.
#pragma once

#include "victim.h"

#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static ino_t first_namespace;

static inline ino_t ipc_namespace(void) {
  struct stat status;
  CHECK(stat("/proc/self/ns/ipc", &status) == 0);
  return status.st_ino;
}

// `option` is that of ipcrm(1).
static inline int note_object(const char* option, int id) {
  CHECK(id >= 0);
  char path[4200];
  snprintf(path, sizeof path, "%s/../ipc-left", getenv("VICTIM_DIR"));
  FILE* list = fopen(path, "a");
  CHECK(list != NULL && fprintf(list, "%s %d\n", option, id) > 0 && fclose(list) == 0);
  if (first_namespace == 0) first_namespace = ipc_namespace();
  return id;
}

// Without namespaces the harness says so.
static inline int is_restarted(void) { return ipc_namespace() != first_namespace || victim_exists("restarted-plainly"); }

// A key of our own.
static inline key_t key_of(int number) { return (key_t)(0x5c000000 + getpid() * 16 + number); }

static inline void end_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }
