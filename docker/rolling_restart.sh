#!/bin/sh
# Replaces the replicas behind the front one after another, with the image that is there now; no request fails.
#   docker compose -f docker-compose.scale.yml build && docker/rolling_restart.sh
# COMPOSE names another command, with a project or more files: COMPOSE="docker compose -p mine -f docker-compose.scale.yml".
set -eu
cd "$(dirname "$0")/.."
compose=${COMPOSE:-docker compose -f docker-compose.scale.yml}
is_ready='import urllib.request as u; u.urlopen("http://127.0.0.1:8000/health/ready", timeout=5)'

replicas=$($compose ps -q upsnet)
count=$(echo "$replicas" | wc -l)
if [ "$count" -lt 2 ]; then
    echo "There are not two replicas, so requests would fail. Start more: --scale upsnet=2." >&2
    exit 1
fi
until_all_are_ready() {
    for each in $($compose ps -q upsnet); do
        tries=0
        until docker exec "$each" python -c "$is_ready" 2>/dev/null; do
            tries=$((tries + 1))
            if [ "$tries" -gt 150 ]; then
                echo "$each is not ready; the others were left as they are." >&2
                exit 1
            fi
            sleep 2
        done
    done
    sleep 4  # nginx asks for names every two seconds
}

until_all_are_ready
for replica in $replicas; do
    docker stop -t 30 "$replica"  # it finishes what it has; what it refuses, nginx sends to another
    docker rm "$replica"
    $compose up -d --no-deps --no-recreate --scale "upsnet=$count" upsnet
    until_all_are_ready
done
