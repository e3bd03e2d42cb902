#!/bin/sh
# herdbook: does once, at the first boot, what the image was given for it.
#
# Each directory NNNN-NAME here is one script, done in the order of the numbers:
#   script, start   what is done, and how it is started
#   retries         how many more attempts it may have
#   optional        is there if a failure does not stop the others
# and beside them this writes:
#   result          running, failed, ok, or skipped behind one that failed
#   attempts, started, ended, status, log
#   done            is there when nothing more will come of it
# When all is done, the result of all is in the file result, and this and its
# service are gone.
dir=${HERDBOOK_FIRSTBOOT:-/var/lib/herdbook/firstboot}
pause=${HERDBOOK_FIRSTBOOT_PAUSE:-30}
root=${HERDBOOK_FIRSTBOOT_ROOT:-}

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=${HOME:-/root}
export PATH HOME

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# note FILE TEXT: whole or not at all, and on the disk before anything goes on.
note() {
	printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1" && sync
}

# value FILE: what note wrote, or nothing.
value() {
	if [ -f "$1" ]; then cat "$1"; fi
}

# attempt: does the script in $at once.
attempt() {
	note "$at/result" running # first: what has not begun is no attempt
	attempts=$(value "$at/attempts")
	note "$at/attempts" $((${attempts:-0} + 1))
	note "$at/started" "$(now)"
	echo "herdbook: first boot: $name, attempt $((${attempts:-0} + 1))"
	echo "--- attempt $((${attempts:-0} + 1)), $(now)" >>"$at/log"
	sh "$at/start" "$at/script" >>"$at/log" 2>&1 </dev/null
	ended $?
}

# ended STATUS: notes how an attempt ended.
ended() {
	note "$at/status" "$1"
	note "$at/ended" "$(now)"
	if [ "$1" = 0 ]; then
		note "$at/result" ok
		rm -f "$at/script" # it may say what is nobody's business
	else
		note "$at/result" failed
	fi
	echo "--- ended with $1, $(now)" >>"$at/log"
	echo "herdbook: first boot: $name ended with $1; $at/log has its output:"
	tail -n 100 "$at/log"
}

# finish STATUS: the service has done its work.
finish() {
	for at in "$dir"/[0-9]*-*; do
		[ -d "$at" ] || continue
		if [ ! -f "$at/result" ]; then note "$at/result" skipped; fi
		if [ ! -f "$at/done" ]; then note "$at/done" "$(now)"; fi
	done
	if [ -f "$dir/remove" ]; then
		while IFS= read -r file; do rm -f "$root$file"; done <"$dir/remove"
	fi
	rm -f "$dir/remove" "$dir/run"
	sync
	exit "$1"
}

result=ok
for at in "$dir"/[0-9]*-*; do
	if [ ! -d "$at" ] || [ -f "$at/done" ]; then continue; fi
	name=${at##*/}
	name=${name#*-}
	if [ "$(value "$at/result")" = ok ]; then continue; fi
	# One that was running when the machine went down has failed in that attempt.
	if [ "$(value "$at/result")" = running ]; then ended interrupted; fi
	while :; do
		attempts=$(value "$at/attempts")
		retries=$(value "$at/retries")
		[ "${attempts:-0}" -le "${retries:-0}" ] || break
		if [ "${attempts:-0}" -gt 0 ]; then sleep "$pause"; fi
		attempt
		[ "$(value "$at/result")" = failed ] || break
	done
	if [ "$(value "$at/result")" != ok ]; then
		if [ "$result" = ok ]; then result="failed $name $(value "$at/status")"; fi
		if [ ! -f "$at/optional" ]; then break; fi
	fi
done

note "$dir/result" "$result"
echo "herdbook: first boot: $result"
if [ "$result" = ok ]; then finish 0; fi
finish 1
