#!/usr/bin/env bash
# The story of one Service, told by real commands:
#
#   demo.sh path/to/usher path/to/its/programs
#
# It runs in a network and a mount namespace of its own, where ClusterIPs are
# real and nothing of this machine is touched; where namespaces are forbidden
# it uses the loopback View instead. It fails if anything is not as it says.
set -euo pipefail

bold= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

title() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
command_line() { [ -n "${quiet:-}" ] || printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }
show() { command_line "$*"; "$@"; }
fail() {
  printf '\nthe demo failed: %s\n' "$*" >&2
  exit 1
}

# await SECONDS COMMAND... waits until the command succeeds.
await() {
  local limit=$((SECONDS + $1))
  shift
  until "$@" >"$DEMO_DIR/await.log" 2>&1; do
    [ "$SECONDS" -lt "$limit" ] || fail "waited in vain for: $*"
    sleep 0.05
  done
}

# count PATTERN FILE prints how many lines match.
count() { grep -c -- "$1" "$2" || true; }

# --- Outside: start again in the namespaces.
outside() {
  [ $# = 2 ] || { echo 'usage: demo.sh USHER PROGRAMS; make demo builds both' >&2; exit 2; }
  DEMO_DIR=$(mktemp -d /tmp/usher-demo.XXXXXX)
  trap 'rm -rf "$DEMO_DIR"' EXIT
  trap 'exit 130' INT TERM
  mkdir "$DEMO_DIR/bin"
  ln -s "$(realpath "$1")" "$DEMO_DIR/bin/usher"
  ln -s "$(realpath "$2")"/* "$DEMO_DIR/bin"
  cd "$(dirname "$0")/../.."

  local namespaces=(unshare -nm)
  [ "$(id -u)" = 0 ] || namespaces=(unshare -Urnm)
  export DEMO_DIR DEMO_VIEW=anyip
  if "${namespaces[@]}" true 2>"$DEMO_DIR/unshare.log"; then
    printf 'In namespaces of its own (%s): real VIPs, and nothing of this machine is touched.\n' "${namespaces[*]}"
    "${namespaces[@]}" "$BASH" testdata/demo/demo.sh
  else
    printf 'No namespaces here (%s): using the loopback View, where VIPs are 127.96.x.y.\n' "$(head -n 1 "$DEMO_DIR/unshare.log")"
    DEMO_VIEW=loopback "$BASH" testdata/demo/demo.sh
  fi
}

# --- Inside: the story.
cleanup() {
  local status=$? pid log
  trap - EXIT INT TERM
  if [ "$status" != 0 ] && [ "$status" != 130 ]; then
    for log in "$DEMO_DIR"/*.log; do
      printf -- '--- %s\n' "${log##*/}" >&2
      tail -n 40 "$log" >&2
    done
  fi
  # The processes first: usher run takes their Pods out of the registry.
  for pid in "${pods[@]}" "${daemon[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  exit "$status"
}

inside() {
  pods=() daemon=()
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  unset "${!USHER_@}"
  export PATH="$DEMO_DIR/bin:$PATH" USHER_SERVER="unix:$DEMO_DIR/usher.sock"
  start_daemon
  apply
  run_pods
  resolve
  balance
  lose_one
  project
  title "Done in $SECONDS s."
}

start_daemon() {
  title "A daemon, on a state directory of its own"
  command_line "usher serve &"
  # A configuration of its own, so that the user's does not count.
  printf 'views: [%s]\napi: { listen: "127.0.0.1:0" }\n' "$DEMO_VIEW" >"$DEMO_DIR/usher.yaml"
  usher serve --config "$DEMO_DIR/usher.yaml" --socket "$DEMO_DIR/usher.sock" --data-dir "$DEMO_DIR/state" \
    >"$DEMO_DIR/serve.log" 2>&1 &
  daemon=($!)
  await 10 serving
  show usher status
}

# serving reports whether the daemon has nothing left to begin with.
serving() {
  usher status >"$DEMO_DIR/answer" && ! grep ' yet$' "$DEMO_DIR/answer"
}

apply() {
  title "A plain Kubernetes Service: port 80, to whatever is labelled app=payment"
  show usher apply -f testdata/manifests/payment-service.yaml
  vip=$(usher get service payment-service -n finance -o yaml | awk '$1 == "clusterIP:" { print $2 }')
  [ -n "$vip" ] || fail "the Service has no ClusterIP"
  address=$vip port=80 url=() nameserver=()
  if [ "$DEMO_VIEW" = loopback ]; then
    # Privileged ports are moved up by 8000 where they are not permitted.
    nameserver=(-server "$(usher status | sed -n 's/.*loopback: .* nameserver //p')")
    case ${nameserver[1]} in *:53) ;; *) port=8080 ;; esac
    address=127.96.${vip#*.*.}
    url=("http://$address:$port/process")
  fi
}

# run NAME REPLICAS starts payment servers as Pods and waits until they are
# ready.
run() {
  local command=(usher run "$1" -n finance -l app=payment -p 8080 --replicas "$2" -- payment)
  command_line "${command[*]} &"
  "${command[@]}" >"$DEMO_DIR/$1.log" 2>&1 &
  pods+=($!)
  await 10 ready "$1" "$2"
  cat "$DEMO_DIR/$1.log"
}
ready() { [ "$(count "^pod/.* ready (" "$DEMO_DIR/$1.log")" = "$2" ]; }

run_pods() {
  title "Three processes as its Pods, each with an address of its own"
  run payment 3
  show usher get services,endpointslices,pods -n finance
}

# client runs a program of the user's own, which knows the Service by name: in
# a View on the loopback it has to be told the address instead.
client() {
  if [ "$DEMO_VIEW" = loopback ]; then show "$@" "${url[@]}"; else show usher exec -n finance -- "$@"; fi
}

resolve() {
  local name=payment-service.finance.svc.cluster.local. url=()
  title "Its name"
  client lookup "${nameserver[@]}" "$name" | tee "$DEMO_DIR/answer"
  grep -qF " A $address" "$DEMO_DIR/answer" || fail "the A record is not $address"
  client lookup "${nameserver[@]}" http tcp "$name" | tee "$DEMO_DIR/answer"
  grep -qE " SRV [0-9]+ [0-9]+ $port " "$DEMO_DIR/answer" || fail "there is no SRV record of port $port"
}

# split prints how often each Pod answered, and checks it: three each.
split() {
  sort "$DEMO_DIR/answer" | uniq -c | grep 'processed by' || fail "no answers"
  [ "$(grep -o 'payment-[0-9]*$' "$DEMO_DIR/answer" | sort | uniq -c | awk '{ print $1 }' | xargs)" = "3 3 3" ] ||
    fail "the split is not 3/3/3"
}

balance() {
  title "Nine requests, from a Go program that knows nothing of usher"
  client paymentclient 9 | tee "$DEMO_DIR/answer"
  split
  if command -v java >/dev/null && command -v javac >/dev/null; then
    title "Nine more, from Java's HttpClient"
    client java testdata/clients/PaymentClient.java 9 | tee "$DEMO_DIR/answer"
    split
  fi
}

# ask makes a few requests more and stops the demo at one that fails.
ask() {
  local quiet=1
  client paymentclient 5 >>"$DEMO_DIR/answer" 2>"$DEMO_DIR/client.log" || fail "a request failed"
}

lose_one() {
  local pid turn
  title "Requests without end; one process is killed, another one comes"
  : >"$DEMO_DIR/answer"
  # What a process has begun to answer dies with it, so the blow falls between
  # two requests. The next ones come before anybody can know of it.
  pid=$(sed -n 's/.*payment-1 listens .* pid //p' "$DEMO_DIR/payment.log")
  for turn in {1..10}; do ask; done
  show kill -9 "$pid"
  for turn in {1..10}; do ask; done
  await 5 grep -q '^pod/payment-1 ended by signal 9' "$DEMO_DIR/payment.log"
  run payment-new 1
  for turn in {1..10}; do ask; done
  show usher get pods -n finance
  sort "$DEMO_DIR/answer" | uniq -c
  [ "$(count 'processed by' "$DEMO_DIR/answer")" = 150 ] || fail "not every one of 150 requests was answered"
  grep -q 'processed by payment-new-0' "$DEMO_DIR/answer" || fail "the new process got no request"
  echo "150 requests, none failed."
}

# buy does a purchase in the shop. Its connections go straight to processes.
buy() { usher exec -n shop --mode direct -- paymentclient 1 'http://front/buy?item=tea' 2>>"$DEMO_DIR/client.log"; }

project() {
  local up child
  title "A project: five services in three languages, from a Procfile and manifests"
  if ! command -v python3 >/dev/null || ! command -v node >/dev/null; then
    echo "Left out: it takes Python 3 and Node.js."
    return
  fi
  if ! usher status | grep -q '^Exec: *direct'; then
    echo "Left out: connections cannot be translated here (usher doctor says why)."
    return
  fi
  show cat examples/shop/Procfile
  command_line "usher up examples/shop &"
  usher up examples/shop >"$DEMO_DIR/up.log" 2>&1 &
  up=$!
  pods+=("$up")
  await 20 usher wait -n shop --for=condition=Ready pods ledger-0 catalogue-0 stock-0 payment-0 payment-1 front-0
  grep ' ready (' "$DEMO_DIR/up.log"
  command_line "usher exec -n shop --mode direct -- paymentclient 1 'http://front/buy?item=tea'"
  buy || fail "nothing was sold"
  for child in $(cat "/proc/$up/task"/*/children); do
    if grep -q stock.js "/proc/$child/cmdline"; then show kill -9 "$child"; fi
  done
  await 10 grep -q '^pod/stock-0 restarts' "$DEMO_DIR/up.log"
  await 10 buy
  show usher get pods -n shop
  usher get pods -n shop | grep -qE '^stock-0 +1/1 +Running +1 ' || fail "the stock was not started again"
}

if [ -z "${DEMO_DIR:-}" ]; then outside "$@"; else inside; fi
