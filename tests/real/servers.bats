#!/usr/bin/env bats
# Servers with a client in one job: what was asked is answered once, over three restarts.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

# A port that is free now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

@test "redis with a client" {
  command -v redis-server >/dev/null || skip "no redis-server"
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
redis-server --port "$PORT" --save "" --appendonly no --daemonize no --dir "$VICTIM_DIR" >"$VICTIM_DIR/log" 2>&1 &
until redis-cli -p "$PORT" ping >/dev/null 2>&1; do sleep 0.05; done
seq 1 60000 | sed 's/.*/INCRBY counter &/' | redis-cli -p "$PORT"
redis-cli -p "$PORT" shutdown nosave
wait
EOF
  PORT=$(free_port)
  export PORT
  same_output_over_three_restarts "$(system_program bash)" "$BATS_TEST_TMPDIR/job.sh"
}

# As root its workers become another user, and are refused by name.
@test "nginx with a client that keeps its connection" {
  PATH=$PATH:/usr/sbin
  command -v nginx >/dev/null || skip "no nginx"
  local root=$BATS_TEST_TMPDIR/www user=
  if is_root; then user="user root;"; fi
  PORT=$(free_port)
  mkdir "$root"
  for page in 0 1 2 3 4 5 6 7 8 9; do echo "page $page" >"$root/$page"; done
  cat >"$BATS_TEST_TMPDIR/nginx.conf" <<EOF
daemon off; worker_processes 2; pid $BATS_TEST_TMPDIR/pid; error_log $BATS_TEST_TMPDIR/error; $user
events { worker_connections 64; }
http {
  access_log off; keepalive_requests 1000000; client_body_temp_path $BATS_TEST_TMPDIR/1; proxy_temp_path $BATS_TEST_TMPDIR/2;
  fastcgi_temp_path $BATS_TEST_TMPDIR/3; uwsgi_temp_path $BATS_TEST_TMPDIR/4; scgi_temp_path $BATS_TEST_TMPDIR/5;
  server { listen 127.0.0.1:$PORT; root $root; }
}
EOF
  cat >"$BATS_TEST_TMPDIR/client.py" <<'EOF'
import http.client, subprocess, sys, time
server = subprocess.Popen(["nginx", "-c", sys.argv[1]])
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]))
for attempt in range(200):
    try:
        connection.connect()
        break
    except OSError:
        time.sleep(0.05)
for i in range(10000):
    connection.request("GET", "/%d" % (i % 10))
    answer = connection.getresponse()
    print(i, answer.status, answer.read().decode().strip(), flush=True)
server.terminate()
print(server.wait())
EOF
  same_output_over_three_restarts "$(system_program python3)" "$BATS_TEST_TMPDIR/client.py" \
    "$BATS_TEST_TMPDIR/nginx.conf" "$PORT"
}
