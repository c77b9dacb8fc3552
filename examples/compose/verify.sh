#!/usr/bin/env bash
# Walks the story of docker-compose.yaml with curl, which stands for the services' own code: says each step and its answer, and
# ends with exit code 1 at the first one that is not as it should be.
#
#   docker compose -f examples/compose/docker-compose.yaml up -d && examples/compose/verify.sh
#
# Where things are comes from the environment; the defaults are what docker-compose.yaml publishes. PROMETHEUS or GRAFANA set to
# nothing leaves their steps out.
set -euo pipefail

keycloak=${KEYCLOAK:-http://127.0.0.1:8080}
order_egress=${ORDER_EGRESS:-http://127.0.0.1:10000}
order_ingress=${ORDER_INGRESS:-http://127.0.0.1:10004}
inventory_ingress=${INVENTORY_INGRESS:-http://127.0.0.1:10001}
inventory_egress=${INVENTORY_EGRESS:-http://127.0.0.1:10002}
payment_ingress=${PAYMENT_INGRESS:-http://127.0.0.1:10003}
order_metrics=${ORDER_METRICS:-http://127.0.0.1:9902}
inventory_metrics=${INVENTORY_METRICS:-http://127.0.0.1:9903}
payment_metrics=${PAYMENT_METRICS:-http://127.0.0.1:9904}
prometheus=${PROMETHEUS-http://127.0.0.1:9090}
grafana=${GRAFANA-http://127.0.0.1:3000}
realm=${REALM:-my-realm}
ready_timeout=${READY_TIMEOUT:-180} # seconds; Keycloak takes most of a minute

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=0

# --- asking and expecting ------------------------------------------------------------------------------------------

# wrong WHAT: the end of the walk.
wrong() {
  printf '    ^^^ wrong: %s\n' "$*"
  [[ ! -s $work/body ]] || sed 's/^/    /' "$work/body"
  exit 1
}

# step WHO-AND-WHAT STATUS URL [CURL-OPTION...]: one request, and the status that it must get.
step() {
  local what=$1 expected=$2 url=$3 status
  shift 3
  steps=$((steps + 1))
  printf '%2d. %s\n' "$steps" "$what"
  status=$(curl -sS --max-time 20 -D "$work/headers" -o "$work/body" -w '%{http_code}' "$@" "$url") || wrong "no answer from $url"
  printf '    %s %s\n' "$status" "$(head -c 200 "$work/body" | tr -d '\r\n')"
  [[ $status == "$expected" ]] || wrong "expected $expected"
}

# header NAME: what the last answer has there.
header() { (grep -i "^$1:" "$work/headers" || true) | sed 's/^[^:]*: *//' | tr -d '\r'; }

expect_header() {
  local value
  value=$(header "$1")
  [[ $value == "$2" ]] || wrong "$1 is '$value', expected '$2'"
  printf '    %s: %s\n' "$1" "$value"
}

expect_body() { grep -qF -- "$1" "$work/body" || wrong "expected $1"; }

# within SECONDS COMMAND...: until it succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

answers() { curl -sf --max-time 5 -o /dev/null "$1"; }

# token CLIENT SECRET: what the articles do with curl, before there is a filter.
token() {
  { curl -sf --max-time 20 "$keycloak/realms/$realm/protocol/openid-connect/token" \
    -d grant_type=client_credentials -d "client_id=$1" --data-urlencode "client_secret=$2" || true; } |
    sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'
}

# count URL METRIC LABEL...: the sum of that metric's samples with all of these labels.
count() {
  local url=$1 lines label
  lines=$(curl -sf --max-time 5 "$url/stats/prometheus" | grep "^$2{" || true)
  shift 2
  for label in "$@"; do lines=$(grep -F -- "$label" <<<"$lines" || true); done
  awk '{ sum += $NF } END { print sum + 0 }' <<<"$lines"
}

# watch NAME BY URL METRIC LABEL...: what is counted there is to grow by that much.
names=() expected=() before=() places=()
watch() {
  names+=("$1")
  expected+=("$2")
  shift 2
  places+=("$*")
  before+=("$(count "$@")")
}

# grown INDEX: whether it has, exactly.
grown() {
  local place
  read -ra place <<<"${places[$1]}"
  now=$(($(count "${place[@]}") - before[$1]))
  ((now == expected[$1]))
}

# --- the story -----------------------------------------------------------------------------------------------------

for url in "$keycloak/realms/$realm" "$inventory_ingress/health" "$payment_ingress/health" "$order_metrics/stats/prometheus"; do
  within "$ready_timeout" answers "$url" || { echo "nobody answers at $url" >&2; exit 1; }
done
watch 'inventory: let in' 2 "$inventory_metrics" m2m_auth_inbound 'rule="inventory"' 'decision="allowed"'
watch 'inventory: without a token' 1 "$inventory_metrics" m2m_auth_inbound 'rule="inventory"' 'decision="no_token"'
watch 'inventory: without the role' 1 "$inventory_metrics" m2m_auth_inbound 'rule="inventory"' 'decision="client_role"'
watch 'inventory: tokens exchanged' 1 "$inventory_metrics" m2m_auth_outbound 'rule="payment"' 'decision="attached"'
watch 'payment: of the wrong audience' 1 "$payment_metrics" m2m_auth_inbound 'rule="payments"' 'decision="audience"'
watch 'payment: let in' 1 "$payment_metrics" m2m_auth_inbound 'rule="payments"' 'decision="allowed"'
watch 'order: tokens attached' 1 "$order_metrics" m2m_auth_outbound 'rule="inventory"' 'decision="attached"'

step 'a customer: GET /orders at order-service, which is open to all' 200 "$order_ingress/orders"
expect_header x-service order-service

step 'order-service: GET /inventory/items, no token, no authentication code' 200 \
  "$order_egress/inventory/items" -H 'host: inventory-service'
expect_header x-service inventory-service
expect_header x-saw-caller order-service
caller_token=$(header x-saw-authorization)
subject=$(header x-saw-subject)
[[ $caller_token == 'Bearer ey'* && -n $subject ]] || wrong 'the service has not seen a token and a subject'

step 'a stranger: GET /inventory/items, no token' 401 "$inventory_ingress/inventory/items"
expect_body '"error":"Missing token"'
expect_header www-authenticate 'Bearer realm="m2m"'

step 'a stranger: GET /inventory/items, something that is no token' 401 \
  "$inventory_ingress/inventory/items" -H 'authorization: Bearer ey.not.one'
expect_body '"error":"Invalid token"'

order_token=$(token order-service "${ORDER_SERVICE_SECRET:-order-secret}")
[[ -n $order_token ]] || wrong 'Keycloak gives order-service no token'
step 'order-service: a token that it got by curl' 200 \
  "$inventory_ingress/inventory/items" -H "authorization: Bearer $order_token"
expect_header x-saw-caller order-service

step 'order-service: the same token at payment-service, for which it is not meant' 401 \
  "$payment_ingress/payments" -H "authorization: Bearer $order_token"
expect_body '"reason":"audience"'

billing_token=$(token billing-service "${BILLING_SERVICE_SECRET:-billing-secret}")
[[ -n $billing_token ]] || wrong 'Keycloak gives billing-service no token'
step 'billing-service: a good token, but without the role' 403 \
  "$inventory_ingress/inventory/items" -H "authorization: Bearer $billing_token"
expect_body 'required role of client inventory-service: inventory:read'

step 'order-service: GET /admin, for which there is no rule' 403 \
  "$inventory_ingress/admin" -H "authorization: Bearer $order_token"
expect_body '"error":"Forbidden"'

step 'inventory-service: POST /payments on behalf of its caller, with the token that it was called with' 200 \
  "$inventory_egress/payments" -H 'host: payment-service' -H "authorization: $caller_token" -d amount=5
expect_header x-service payment-service
expect_header x-saw-caller inventory-service
expect_header x-saw-subject "$subject"
[[ $(header x-saw-authorization) != "$caller_token" ]] || wrong 'the token was passed on, not exchanged'

step 'inventory-service: POST /payments on behalf of nobody' 401 \
  "$inventory_egress/payments" -H 'host: payment-service' -H 'authorization: Bearer ey.not.one' -d amount=5
expect_body '"reason":"subject_token"'

steps=$((steps + 1))
printf '%2d. all of that has been counted\n' "$steps"
rm -f "$work/body"
for index in "${!names[@]}"; do
  # Envoy hears of it now and then, not at once.
  within 15 grown "$index" || wrong "${names[$index]}: ${now:-nothing}, expected ${expected[$index]}"
  printf '    %s: %s\n' "${names[$index]}" "$now"
done

if [[ -n $prometheus ]]; then
  query() {
    { curl -sf --max-time 5 "$prometheus/api/v1/query" --data-urlencode "query=$1" || true; } |
      sed -n 's/.*"value":\[[^,]*,"\([^"]*\)".*/\1/p'
  }
  is() { [[ $(query "$1") == "$2" ]]; }
  steps=$((steps + 1))
  printf '%2d. Prometheus has it, and watches\n' "$steps"
  within 30 is 'sum(up{job="envoy"})' 3 || wrong 'it does not reach all three Envoys'
  within 30 is 'sum(m2m_auth_inbound{service="payment-service",decision="audience"} >= 1) > bool 0' 1 ||
    wrong 'it has not heard of the wrong audience'
  curl -sf --max-time 5 "$prometheus/api/v1/rules" >"$work/body" || wrong 'no rules'
  expect_body M2mAuthProviderUnavailable
  printf '    3 Envoys, %s alerts\n' "$(grep -o '"type":"alerting"' "$work/body" | wc -l | tr -d ' ')"
fi

if [[ -n $grafana ]]; then
  steps=$((steps + 1))
  printf '%2d. Grafana has the dashboard\n' "$steps"
  within 60 answers "$grafana/api/dashboards/uid/m2m-auth" || wrong "no dashboard m2m-auth at $grafana"
  printf '    %s/d/m2m-auth\n' "$grafana"
fi

printf '\n%d steps, each as it should be.\n' "$steps"
