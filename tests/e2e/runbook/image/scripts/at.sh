#!/bin/sh
# COMMAND [ARGUMENT...]: what `--baseUrl=URL` says is in BASE_URL, as Playwright's configuration and k6's script read it
for word do
    shift
    case $word in
        --baseUrl=*) export BASE_URL="${word#*=}" ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec "$@"
