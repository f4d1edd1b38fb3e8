// stop-below PID COUNT: stops the last of the processes below ckpt-restart as soon as COUNT of them are there, so that all others
// of a restart wait for that one. Prints its number; nothing if PID has ended before. A shell would be too slow.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMax = 256, kStopped = 3, kEnough = 7 };

static int below[kMax];
static int count;

static void read_line(int pid, const char* file, char* text, int size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
  FILE* stream = fopen(path, "r");
  text[0] = '\0';
  if (stream == NULL) return;
  if (fgets(text, size, stream) == NULL) text[0] = '\0';
  fclose(stream);
}

// Those of that name only; NULL: all.
static void add_children(int pid, const char* wanted) {
  char path[32], text[1024], name[32];
  snprintf(path, sizeof path, "task/%d/children", pid);
  read_line(pid, path, text, sizeof text);
  for (char* number = strtok(text, " \n"); number != NULL && count < kMax; number = strtok(NULL, " \n")) {
    below[count] = atoi(number);
    read_line(below[count], "comm", name, sizeof name);
    if (wanted == NULL || strcmp(name, wanted) == 0) ++count;
  }
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int pid = atoi(argv[1]);
  while (kill(pid, 0) == 0) {
    count = 0;
    add_children(pid, "ckpt-init\n");
    for (int i = 0; i < count; ++i) add_children(below[i], NULL);
    if (count < kEnough) continue;
    kill(below[kStopped], SIGSTOP);
    printf("%d\n", below[kStopped]);
    return 0;
  }
  return 0;
}
