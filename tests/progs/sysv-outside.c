// System V objects that a program shares with one outside of its job. `hold` makes them and stays; with the name of a kind the
// program uses that one, until it is told to go.
#include "sysv.h"

#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

struct Message {
  long type;
  char text[8];
};

static int ids[3];  // segment, queue, set

static void hold(void) {
  ids[0] = note_object("-m", shmget(IPC_PRIVATE, PAGE, 0600));
  ids[1] = note_object("-q", msgget(IPC_PRIVATE, 0600));
  ids[2] = note_object("-s", semget(IPC_PRIVATE, 2, 0600));
  struct Message message = {1, "outside"};
  CHECK(strcpy(shmat(ids[0], NULL, 0), "outside") != NULL);
  for (int i = 0; i < 2; ++i) CHECK(msgsnd(ids[1], &message, sizeof message.text, 0) == 0);
  CHECK(semctl(ids[2], 0, SETVAL, 3) == 0);
  char text[64];
  snprintf(text, sizeof text, "%d %d %d\n", ids[0], ids[1], ids[2]);
  victim_write("ids", text);
  for (;;) pause();
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "hold") == 0) hold();
  char text[64];
  CHECK(read_file(victim_path("ids"), text, sizeof text) > 0 && sscanf(text, "%d %d %d", &ids[0], &ids[1], &ids[2]) == 3);
  const char* memory = strcmp(what, "segment") == 0 ? shmat(ids[0], NULL, 0) : NULL;
  struct Message message = {0};
  struct sembuf up = {1, 5, 0};
  if (strcmp(what, "queue") == 0) CHECK(msgrcv(ids[1], &message, sizeof message.text, 0, 0) == sizeof message.text);
  if (strcmp(what, "set") == 0) CHECK(semop(ids[2], &up, 1) == 0);
  victim_wait(NULL);
  if (victim_broken()) victim_fail("sabotage");
  if (memory != NULL) CHECK(strcmp(memory, "outside") == 0);
  if (strcmp(what, "queue") == 0) CHECK(msgrcv(ids[1], &message, sizeof message.text, 0, IPC_NOWAIT) == sizeof message.text);
  if (strcmp(what, "set") == 0) CHECK(semctl(ids[2], 0, GETVAL) == 3 && semctl(ids[2], 1, GETVAL) == 5);
  victim_pass();
}
