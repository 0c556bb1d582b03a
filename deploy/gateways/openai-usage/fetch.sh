#!/bin/sh
# The usage of the hour that ended two hours ago, by key and model, as one record a page on standard output.
# OPENAI_ADMIN_KEY is an admin key with the right to read usage; it goes to curl by a file descriptor, not its arguments.
set -eu
: "${OPENAI_ADMIN_KEY:?set it to an admin key}"
now=$(date +%s)
end=$((now - now % 3600 - 3600))
start=$((end - 3600))
url="https://api.openai.com/v1/organization/usage/${1:-completions}"
page=
while :; do
    answer=$(
        curl -fsS --retry 3 --max-time 60 -G "$url" -K - \
            -d "start_time=$start" -d "end_time=$end" -d bucket_width=1m -d limit=60 \
            -d "group_by=api_key_id" -d "group_by=model" ${page:+-d "page=$page"} <<EOF
header = "Authorization: Bearer $OPENAI_ADMIN_KEY"
EOF
    )
    printf '%s' "$answer" | tr -d '\n'
    printf '\n'
    page=$(printf '%s' "$answer" | tr -d '\n' | sed -n 's/.*"next_page": *"\([^"]*\)".*/\1/p')
    [ -n "$page" ] || break
done
