// System V objects of which nobody that lives is noted as a user: made by a child that has ended, or made and never used.
#include "sysv.h"

#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static int ids[6];

static int by_child(const char* option, int (*make)(void)) {
  int ends[2], id = -1, status;
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    id = make();
    _exit(write(ends[1], &id, sizeof id) == sizeof id ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0 && read(ends[0], &id, sizeof id) == sizeof id);
  close(ends[0]);
  close(ends[1]);
  return note_object(option, id);
}

static int make_segment(void) {
  int id = shmget(IPC_PRIVATE, 100, 0600);
  char* memory = shmat(id, NULL, 0);
  return strcpy(memory, "left") != NULL && shmdt(memory) == 0 ? id : -1;
}

static int make_queue(void) {
  struct {
    long type;
    char text[8];
  } message = {4, "left"};
  int id = msgget(IPC_PRIVATE, 0600);
  return msgsnd(id, &message, sizeof message.text, 0) == 0 ? id : -1;
}

static int make_set(void) {
  struct sembuf up = {2, 6, 0};
  int id = semget(IPC_PRIVATE, 3, 0600);
  return semop(id, &up, 1) == 0 ? id : -1;
}

int main(void) {
  ids[0] = by_child("-m", make_segment);
  ids[1] = by_child("-q", make_queue);
  ids[2] = by_child("-s", make_set);
  ids[3] = note_object("-m", shmget(IPC_PRIVATE, 3 * PAGE, 0600));
  ids[4] = note_object("-q", msgget(IPC_PRIVATE, 0600));
  ids[5] = note_object("-s", semget(IPC_PRIVATE, 250, 0600));
  victim_wait(NULL);
  struct {
    long type;
    char text[8];
  } message;
  if (victim_broken()) CHECK(semctl(ids[2], 2, SETVAL, 0) == 0);
  char* memory = shmat(ids[0], NULL, 0);
  CHECK(memory != (void*)-1 && strcmp(memory, "left") == 0 && shmdt(memory) == 0);
  CHECK(msgrcv(ids[1], &message, sizeof message.text, 4, IPC_NOWAIT) == 8 && strcmp(message.text, "left") == 0);
  CHECK(semctl(ids[2], 2, GETVAL) == 6);
  memory = shmat(ids[3], NULL, 0);
  CHECK(memory != (void*)-1 && is_zero(memory, 3 * PAGE) && shmdt(memory) == 0);
  CHECK(msgrcv(ids[4], &message, sizeof message.text, 0, IPC_NOWAIT) == -1 && errno == ENOMSG);
  CHECK(semctl(ids[5], 249, GETVAL) == 0);
  for (int i = 0; i < 6; i += 3) {
    CHECK(shmctl(ids[i], IPC_RMID, NULL) == 0 && msgctl(ids[i + 1], IPC_RMID, NULL) == 0 && semctl(ids[i + 2], 0, IPC_RMID) == 0);
  }
  victim_pass();
}
