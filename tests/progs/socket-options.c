// Every option of sockets that takes a number is set to another value than it has by itself, where this user may; sockets with a
// filter, locked or not; and UDP sockets that are shut in one direction.
#include "victim.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

enum { kKinds = 7, kSockets = kKinds + 1, kOptions = 110, kLevels = 4 };
static const int kFamilies[kKinds] = {AF_INET, AF_INET6, AF_INET, AF_INET6, AF_INET, AF_UNIX, AF_UNIX};
static const int kTypes[kKinds] = {SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM, SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM};
static const int kAtLevel[kLevels] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, 0 /* that of the protocol */};
static int fds[kSockets], values[kSockets][kLevels][kOptions];
static int pair[2], locked, shut[2];

static struct sock_filter longer_than_4[] = {BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 5, 0, 1),
                                             BPF_STMT(BPF_RET | BPF_K, 0xffff), BPF_STMT(BPF_RET | BPF_K, 0)};
static const struct sock_fprog filter = {4, longer_than_4};

// Those that say what the kernel has done, are no numbers, or go with others.
static int is_left_out(int level, int option) {
  static const int kAtSocket[] = {SO_TYPE,
                                  SO_ERROR,
                                  SO_LOCK_FILTER,
                                  SO_ATTACH_FILTER,
                                  SO_DETACH_FILTER,
                                  SO_BINDTODEVICE,
                                  SO_PEERCRED,
                                  SO_PROTOCOL,
                                  SO_DOMAIN,
                                  SO_ACCEPTCONN,
                                  SO_INCOMING_CPU,
                                  SO_COOKIE,
                                  SO_MEMINFO,
                                  SO_PEERGROUPS,
                                  50,
                                  51,
                                  52,
                                  56,
                                  71,
                                  77,
                                  SO_SNDTIMEO,
                                  SO_RCVTIMEO,
                                  SO_PEERNAME};
  static const int kAtTcp[] = {TCP_INFO,
                               TCP_REPAIR,
                               TCP_REPAIR_QUEUE,
                               TCP_QUEUE_SEQ,
                               TCP_QUICKACK,
                               TCP_TIMESTAMP,
                               TCP_ULP,
                               TCP_FASTOPEN_CONNECT,
                               TCP_MD5SIG,
                               28,
                               34,
                               35,
                               38,
                               40,
                               41,
                               42,
                               43};
  if (level == SOL_SOCKET) {
    for (size_t i = 0; i < sizeof kAtSocket / sizeof *kAtSocket; ++i) {
      if (kAtSocket[i] == option) return 1;
    }
  }
  if (level == IPPROTO_TCP) {
    for (size_t i = 0; i < sizeof kAtTcp / sizeof *kAtTcp; ++i) {
      if (kAtTcp[i] == option) return 1;
    }
  }
  if (level == IPPROTO_IP) return option == IP_MTU || option == IP_PKTOPTIONS || (option >= 35 && option <= 48);
  if (level == IPPROTO_IPV6)
    return option == IPV6_MTU || option == IPV6_ADDRFORM || option == 59 || (option >= 20 && option <= 22) ||
           (option >= 27 && option <= 30) || (option >= 42 && option <= 48);
  return level == IPPROTO_UDP && (option == UDP_CORK || option == UDP_ENCAP);
}

static int level_of(int kind, int index) {
  if (kAtLevel[index] != 0 || index == 1) return kAtLevel[index];
  return kFamilies[kind] == AF_UNIX ? SOL_SOCKET : kTypes[kind] == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
}

// -1 where there is none.
static int value_of(int fd, int level, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  if (is_left_out(level, option) || getsockopt(fd, level, option, &value, &size) != 0 || size != sizeof value) return -1;
  return value;
}

static void change(int fd, int level, int option) {
  const int before = value_of(fd, level, option);
  if (before == -1) return;
  const int tries[] = {before == 0 ? 1 : before + 1, before + 3, 0, 1, 2, 65536, 64};
  for (int i = 0; i < 7; ++i) {
    if (setsockopt(fd, level, option, &tries[i], sizeof tries[i]) == 0 && value_of(fd, level, option) != before) return;
  }
}

static void check_filter(int fd) {
  struct sock_filter now[16];
  socklen_t count = 16;
  CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, now, &count) == 0 && count == filter.len);
  CHECK(memcmp(now, longer_than_4, sizeof longer_than_4) == 0);
}

static void verify(void) {
  for (int i = 0; i < kKinds; ++i) {
    for (int k = 0; k < kLevels; ++k) {
      const int level = level_of(i, k);
      for (int option = 1; option < kOptions; ++option) {
        const int now = value_of(fds[i], level, option);
        if (now != values[i][k][option])
          victim_fail("socket %d, level %d, option %d: %d, and was %d", i, level, option, now, values[i][k][option]);
      }
    }
  }
  char text[16];
  check_filter(pair[0]);
  CHECK(send(pair[1], "ab", 2, MSG_DONTWAIT) == 2 || errno == EPERM);
  CHECK(send(pair[1], "passes", 6, MSG_DONTWAIT) == 6);
  CHECK(recv(pair[0], text, sizeof text, MSG_DONTWAIT) == 6 && recv(pair[0], text, sizeof text, MSG_DONTWAIT) == -1);
  check_filter(locked);
  const int none = 0;
  CHECK(setsockopt(locked, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none) == -1 && errno == EPERM);
  CHECK(send(shut[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  CHECK(send(shut[1], "x", 1, MSG_NOSIGNAL) == 1 && recv(shut[0], text, sizeof text, 0) == 1);
  CHECK(recv(shut[1], text, sizeof text, 0) == 0);
}

static void make_shut(void) {
  struct sockaddr_in names[2] = {{.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
  names[1] = names[0];
  for (int i = 0; i < 2; ++i) {
    socklen_t size = sizeof names[i];
    shut[i] = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(shut[i], (struct sockaddr*)&names[i], size) == 0 && getsockname(shut[i], (struct sockaddr*)&names[i], &size) == 0);
  }
  for (int i = 0; i < 2; ++i) CHECK(connect(shut[i], (struct sockaddr*)&names[!i], sizeof names[!i]) == 0);
  CHECK(shutdown(shut[0], SHUT_WR) == 0 && shutdown(shut[1], SHUT_RD) == 0);
}

int main(void) {
  const int on = 1;
  for (int i = 0; i < kKinds; ++i) {
    fds[i] = socket(kFamilies[i], kTypes[i], 0);
    CHECK(fds[i] >= 0);
    if (i == 4) {
      struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
      CHECK(bind(fds[i], (struct sockaddr*)&name, sizeof name) == 0 && listen(fds[i], 3) == 0);
    }
    for (int k = 0; k < kLevels; ++k) {
      for (int option = 1; option < kOptions; ++option) change(fds[i], level_of(i, k), option);
    }
  }
  for (int i = 0; i < kKinds; ++i) {
    for (int k = 0; k < kLevels; ++k) {
      for (int option = 1; option < kOptions; ++option) values[i][k][option] = value_of(fds[i], level_of(i, k), option);
    }
  }
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  locked = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0);
  if (setsockopt(locked, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) {
    CHECK(errno == EPERM && close(locked) == 0);  // later 6.18: TCP is for root only
    locked = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(setsockopt(locked, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0);
  }
  CHECK(setsockopt(locked, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on) == 0);
  make_shut();
  victim_wait(verify);
  if (victim_broken()) CHECK(setsockopt(pair[0], SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on) == 0);
  verify();
  victim_pass();
}
