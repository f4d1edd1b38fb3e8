#!/usr/bin/env bats
# PostgreSQL with pgbench in one job: each client keeps a count of its own, and no transaction is lost or doubled.

# bats file_tags=user
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

# Looks for postgres, which Debian keeps out of PATH. It refuses to run as root.
prepare() {
  local folder
  for folder in /usr/lib/postgresql/*/bin; do PATH=$folder:$PATH; done
  command -v initdb >/dev/null || skip "no postgresql"
  transactions=8000
  export PATH transactions DATA=$BATS_TEST_TMPDIR/data PGHOST=$BATS_TEST_TMPDIR/socket PGUSER=me PGDATABASE=postgres
  cat >"$BATS_TEST_TMPDIR/transaction.sql" <<'SQL'
\set count :count + 1
begin;
insert into log values (:client_id, :count);
update counter set n = n + 1 where client = :client_id returning n \gset
update log set n = :n where client = :client_id and count = :count;
commit;
SQL
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'SH'
postgres -D "$DATA" >"$VICTIM_DIR/log" 2>&1 &
until pg_isready -q; do sleep 0.05; done
pgbench -n -f "$(dirname "$0")/transaction.sql" -D count=0 -c 2 -j 2 -t "$transactions" 2>&1 | grep -E 'actually|failed|rror'
psql -At -c 'select client, n from counter order by client' \
  -c 'select client, count(*), min(count), max(count), count(distinct n), sum(abs(n - count)) from log group by client order by client'
kill -INT $!
wait
SH
}

# An empty cluster with its two tables.
new_cluster() {
  rm -rf "$DATA" "$PGHOST"
  mkdir "$PGHOST"
  initdb -D "$DATA" -U me -A trust --no-locale -E UTF8 --no-sync >"$BATS_TEST_TMPDIR/initdb" 2>&1
  printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$PGHOST'" >>"$DATA/postgresql.conf"
  printf '%s\n' 'create table counter(client int primary key, n int); insert into counter values (0, 0), (1, 0);' \
    'create table log(client int, count int, n int, primary key (client, count));' |
    postgres --single -j -D "$DATA" postgres >/dev/null 2>&1
}

@test "postgres with pgbench, its data folder saved" {
  prepare
  at_start=new_cluster
  launch_options=(--save "$DATA")
  same_output_over_three_restarts "$(system_program bash)" "$BATS_TEST_TMPDIR/job.sh"
  grep "actually processed: $((2 * transactions))/$((2 * transactions))" "$VICTIM_DIR/all"
  grep "^1|$transactions|1|$transactions|$transactions|0" "$VICTIM_DIR/all"
}

@test "postgres with pgbench, ended by the checkpoint" {
  prepare
  new_cluster
  executable=$(readlink -f "$(system_program bash)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.sh"
  await_that "$main_pid" pg_isready -q
  for moment in 1 2 3; do
    sleep 0.3
    checkpoint --kill
    await_end
    restart
  done
  await_end
  cat "$VICTIM_DIR"/out "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
  cat "$VICTIM_DIR"/all "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  grep "actually processed: $((2 * transactions))/$((2 * transactions))" "$VICTIM_DIR/all"
  for moment in 0 1; do
    grep "^$moment|$transactions\$" "$VICTIM_DIR/all"
    grep "^$moment|$transactions|1|$transactions|$transactions|0\$" "$VICTIM_DIR/all"
  done
}
