// The program ends as programs do: destructors of statics and thread-locals, atexit handlers in reverse order, buffered output
// flushed, and the exit status 7. Argument "abort", "term" or "segv" ends it by that signal instead; "thread" ends main by
// pthread_exit. What has run is written into $VICTIM_DIR/trace, one word a step. Nothing may end in a segmentation fault.
#include "victim.h"

#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::string* trace_path;

void trace(const char* word) {
  int fd = open(trace_path->c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (fd < 0 || dprintf(fd, "%s\n", word) < 0 || close(fd) != 0) _exit(99);
}

struct Traced {
  explicit Traced(const char* word) : word_(word) {}
  ~Traced() { trace(word_); }
  const char* word_;
};

std::vector<std::string> words{"some", "heap", "of the static kind, too long to stand in place"};
Traced global{"static"};
thread_local Traced local{"thread-local"};

void first_handler() { trace("atexit-1"); }
void second_handler() { trace("atexit-2"); }

void* end_by_exit(void* main_thread) {
  pthread_join(*static_cast<pthread_t*>(main_thread), nullptr);
  exit(7);
}

// Exceptions need the unwinder's tables, which are found through the loader.
int thrown_and_caught() {
  try {
    throw std::runtime_error(words.at(2));
  } catch (const std::exception& error) {
    return error.what() == words[2] ? 1 : 0;
  }
}

void die_by(int number) {
  signal(number, SIG_DFL);
  raise(number);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "exit";
  trace_path = new std::string(victim_path("trace"));
  local.word_ = "thread-local";
  atexit(first_handler);
  atexit(second_handler);
  static char buffer[4096];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  printf("buffered before, ");
  victim_wait(nullptr);
  CHECK(thrown_and_caught());
  if (victim_broken()) victim_fail("sabotage");
  printf("written after\n");
  victim_write("result", "pass\n");
  if (how == "abort") abort();
  if (how == "term") die_by(SIGTERM);
  if (how == "segv") die_by(SIGSEGV);
  if (how == "thread") {
    static pthread_t self = pthread_self();
    start_thread(end_by_exit, &self);
    pthread_exit(nullptr);
  }
  return 7;
}
