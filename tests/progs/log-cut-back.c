// Writes numbered lines into $VICTIM_DIR/log every few milliseconds (argument: plain or append), before and after the checkpoint.
// At the end each number must be there once and in order: what was written after the checkpoint and before the kill must be gone.
#include "victim.h"

#include <semaphore.h>

static int fd;
static volatile int end;
static long line_number;

static void* write_lines(void* argument) {
  char line[64];
  while (!end) {
    int size = snprintf(line, sizeof line, "line %ld\n", ++line_number);
    CHECK(write(fd, line, (size_t)size) == size);
    victim_sleep_ms(3);
  }
  return argument;
}

static void verify(void) {
  FILE* file = fopen(victim_path("log"), "r");
  char line[64], wanted[64];
  long number = 0;
  CHECK(file != NULL);
  while (fgets(line, sizeof line, file) != NULL) {
    snprintf(wanted, sizeof wanted, "line %ld\n", ++number);
    if (strcmp(line, wanted) != 0) victim_fail("'%s' stands where '%s' should", strtok(line, "\n"), strtok(wanted, "\n"));
  }
  fclose(file);
  if (number != line_number) victim_fail("the log has %ld lines, not %ld", number, line_number);
}

int main(int argc, char** argv) {
  int append = argc > 1 && strcmp(argv[1], "append") == 0 ? O_APPEND : 0;
  fd = open(victim_path("log"), O_WRONLY | O_CREAT | append, 0644);
  CHECK(fd >= 0);
  pthread_t thread = start_thread(write_lines, NULL);
  victim_sleep_ms(50);
  victim_wait(NULL);
  end = 1;
  join_thread(thread);
  if (victim_broken()) dprintf(fd, "line 1\n");
  verify();
  victim_pass();
}
