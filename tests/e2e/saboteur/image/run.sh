#!/bin/sh
# Sleeps until it is told to end. Versions ending in "broken" crash at once, those ending in "half" only in the role "store",
# those ending in "late" after a while, again and again.
version=$(cat /version)
case "$version:$ROLE" in
*broken:* | *half:store)
    echo "version $version does not start"
    exit 1
    ;;
*late:*) lives=3 ;;
*) lives=infinity ;;
esac
trap 'exit 0' TERM INT
sleep "$lives" &
wait $!
exit 1
